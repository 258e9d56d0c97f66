"""Job types that the server itself carries out: input, plan, action, what the end means, view."""

import json
from typing import Any

import pytest

from cador.domain.errors import Invalid, NotStartable
from cador.jobs.base import JobTaskPlan
from cador.jobs.server import FACTS
from cador.jobs.sql import SQL
from cador.jobs.tapd import TAPD
from jobs.running import World, one_job, resource

DATABASE = {"type": "mariadb", "host": "db.example.com", "port": "3306", "username": "ci", "password": "sealed:pw-pw"}
SPEC = {"tapd_address": "https://tapd.example.com", "tapd_client_id": "me", "tapd_client_secret": "sealed:s-s-s"}
ITERATIONS = [{"iteration_id": "1", "iteration_name": "one", "start_date": "2025-08-04", "end_date": "2025-09-03"}]


@pytest.fixture
def world() -> World:
    return World(
        [
            resource("database", "mysql", projects=["shop"], **DATABASE),
            resource("database", "everybody", projects=["<all_projects>"], **{**DATABASE, "type": "postgresql"}),
            resource("database", "theirs", projects=["other"], **DATABASE),
            resource("projectmanagement", "tapd", type="tapd", spec=SPEC),
            resource("projectmanagement", "jira", type="jira", spec={}),
        ]
    )


def only(world: World, kind: str, spec: dict[str, Any], given: dict[str, Any] | None = None) -> JobTaskPlan:
    [plan] = world.expand(one_job(kind, spec), {"job": given or {}})["job"]
    return plan


def sql(world: World, given: dict[str, Any], **spec: Any) -> JobTaskPlan:
    stored = {"id": "database-mysql", "type": "mysql", "sql": "select 1;", "source": "runtime"}
    return only(world, "sql", {**stored, **spec}, given)


def tapd(world: World, given: dict[str, Any], **spec: Any) -> JobTaskPlan:
    stored = {"tapd_id": "projectmanagement-tapd", "source": "runtime", "project_id": "7", "status": "open"}
    return only(world, "tapd", {**stored, "iterations": [], **spec}, given)


def test_sql_takes_database_and_statements_at_run_time(world: World) -> None:
    plan = sql(world, {"database_name": "everybody", "sql": "select 2;"})
    assert plan.plan == {"id": "database-everybody", "name": "everybody", "type": "postgresql", "sql": "select 2;"}
    assert (plan.name, plan.key, plan.timeout_s) == ("job", "job", 3600)
    assert sql(world, {}).plan == {"id": "database-mysql", "name": "mysql", "type": "mariadb", "sql": "select 1;"}
    assert sql(world, {"database_name": "", "sql": ""}).plan == sql(world, {}).plan
    assert sql(world, {}, id="mysql", timeout=5).timeout_s == 300
    assert world.warnings == []


def test_a_fixed_database_stays(world: World) -> None:
    plan = sql(world, {"database_name": "everybody", "sql": "select 2;"}, source="fixed")
    assert (plan.plan["name"], plan.plan["sql"]) == ("mysql", "select 2;")
    assert world.warnings == ["job job: the database is fixed and everybody cannot be given, ignored"]
    sql(world, {"database_name": "mysql"}, source="fixed")
    assert len(world.warnings) == 1


@pytest.mark.parametrize("name", ["nowhere", "theirs"])
def test_a_database_that_the_project_does_not_see(world: World, name: str) -> None:
    with pytest.raises(
        Invalid, match=f"^failed to update jobspec for job: job, err: failed to find database instance {name}$"
    ):
        sql(world, {"database_name": name})
    with pytest.raises(NotStartable, match=f"^failed to find database instance {name}$"):
        sql(world, {}, id=name)
    plan = sql(world, {})
    world.resources = [resource("database", "mysql", projects=["other"], **DATABASE)]
    with pytest.raises(Invalid, match=r"^failed to find database instance mysql$"):
        world.compile("sql", plan)


@pytest.mark.parametrize("text", ["", " \n"])
def test_no_sql(world: World, text: str) -> None:
    with pytest.raises(NotStartable, match=r"^SQL is empty$"):
        sql(world, {}, sql=text)


def test_sql_compiles_to_an_action(world: World) -> None:
    folder = world.compile("sql", sql(world, {}))
    assert folder.action is not None
    assert (folder.action.name, folder.action.repeatable, folder.steps) == ("sql", False, ())
    assert folder.action.arguments == {
        "name": "mysql",
        "type": "mariadb",
        "host": "db.example.com",
        "port": 3306,
        "username": "ci",
        "password": "pw-pw",
        "database": "",
        "sql": "select 1;",
    }
    assert folder.secrets == ("pw-pw",)
    assert "pw-pw" not in repr(folder.action)


def test_sql_shows_results(world: World) -> None:
    plan = sql(world, {}).plan
    shown = {"id": "database-mysql", "type": "mariadb", "sql": "select 1;"}
    assert SQL.view(plan, {}, {}, False) == {**shown, "results": []}
    results = [{"sql": "select 1;", "elapsed_time": 3, "rows_affected": 1, "status": "success"}]
    left = {FACTS: json.dumps({"results": results})}
    concluded = SQL.conclude(plan, left, False, None)  # type: ignore[arg-type]  # nothing is collected
    assert SQL.view(plan, {}, concluded.result, True) == {**shown, "results": results}
    assert SQL.conclude(plan, {}, True, None).result == {}  # type: ignore[arg-type]


def test_tapd_takes_both_shapes_and_their_union(world: World) -> None:
    def ids(given: dict[str, Any], **spec: Any) -> list[tuple[str, str]]:
        plan = tapd(world, given, **spec)
        return [(entry["iteration_id"], entry["iteration_name"]) for entry in plan.plan["iterations"]]

    assert ids({"iteration_ids": ["2", "1", "2"]}) == [("2", ""), ("1", "")]
    assert ids({"iterations": ITERATIONS}) == [("1", "one")]
    assert ids({"iteration_ids": ["2", "1"], "iterations": ITERATIONS}) == [("2", ""), ("1", "one")]
    assert ids({}, iterations=[*ITERATIONS, *ITERATIONS]) == [("1", "one")], "what is stored, each once"
    assert ids({"iteration_ids": ["9"]}, iterations=ITERATIONS) == [("9", "")], "the input replaces what is stored"


def test_tapd_takes_project_and_status(world: World) -> None:
    given = {"project_id": "8", "project_name": "Eight", "status": "done", "iteration_ids": ["1"]}
    plan = tapd(world, given).plan
    assert (plan["project_id"], plan["project_name"], plan["status"]) == ("8", "Eight", "done")
    plan = tapd(world, given, source="fixed").plan
    assert (plan["project_id"], plan["project_name"], plan["status"]) == ("7", "", "done")
    assert world.warnings[-1] == "job job: the project is fixed and project_name cannot be given, ignored"


@pytest.mark.parametrize(
    ("given", "spec", "reason"),
    [
        ({}, {}, "no iteration specified"),
        ({"iteration_ids": ["1"]}, {"tapd_id": "none"}, "failed to find TAPD integration none"),
        ({"iteration_ids": ["1"]}, {"tapd_id": "jira"}, "failed to find TAPD integration jira"),
        ({"iteration_ids": ["1"]}, {"status": ""}, "status of the TAPD job cannot be empty"),
        ({"iteration_ids": ["1,2"]}, {}, "'1,2' is not the id of an iteration"),
        ({"iteration_ids": [f"{n}" for n in range(1001)]}, {}, "1001 iterations are more than 1000"),
    ],
)
def test_tapd_that_cannot_start(world: World, given: dict[str, Any], spec: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotStartable, match=f"^{reason}$"):
        tapd(world, given, **spec)


def test_tapd_compiles_to_an_action_and_shows_no_secret(world: World) -> None:
    plan = tapd(world, {"iteration_ids": ["2"], "iterations": ITERATIONS, "project_name": "Seven"})
    folder = world.compile("tapd", plan)
    assert folder.action is not None
    assert folder.action.arguments["client_secret"] == "s-s-s"
    assert (folder.secrets, folder.action.repeatable) == (("s-s-s",), False)
    told = {"project_name": "Seven", "iterations": [{**ITERATIONS[0], "iteration_id": "2", "error": "no"}]}
    concluded = TAPD.conclude(plan.plan, {FACTS: json.dumps(told)}, False, None)  # type: ignore[arg-type]
    view = TAPD.view(plan.plan, {}, concluded.result, True)
    assert view == {
        "tapd_id": "projectmanagement-tapd",
        "tapd_address": "https://tapd.example.com",
        "project_id": "7",
        "project_name": "Seven",
        "status": "open",
        "iterations": [told["iterations"][0], {**ITERATIONS[0], "error": ""}],
    }
    assert [entry["error"] for entry in TAPD.view(plan.plan, {}, {}, False)["iterations"]] == ["", ""]
