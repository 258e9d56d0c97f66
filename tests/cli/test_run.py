"""What a start asks for."""

from typing import Any

import pytest

from cador.cli.output import Failure
from cador.cli.run import Choice, request_body


def job(name: str, kind: str, spec: dict[str, Any] | None = None, policy: str = "") -> dict[str, Any]:
    return {"name": name, "type": kind, "spec": spec or {}, "run_policy": policy, "skipped": False}


MODULES = [{"service_name": "api", "service_module": "a"}, {"service_name": "web", "service_module": "w"}]
DETAIL: dict[str, Any] = {
    "workflow_key": "release",
    "project_key": "shop",
    "params": [
        {"name": "VERSION", "type": "string"},
        {
            "name": "CODE",
            "type": "repo",
            "repo": {"codehost_name": "h", "repo_namespace": "n", "repo_name": "r", "branch": "main", "address": "x"},
        },
    ],
    "stages": [
        {"jobs": [job("build", "zadig-build", {"service_and_builds": MODULES})]},
        {"jobs": [job("test", "zadig-test", {"test_modules": [{"name": "unit"}]}), job("ask", "approval")]},
        {"jobs": [job("publish", "freestyle"), job("rare", "freestyle", policy="default_not_run"), job("db", "sql")]},
    ],
}


def body(**given: Any) -> dict[str, Any]:
    return request_body(DETAIL, Choice.of(given.get("param"), given.get("input"), given.get("only")))


def parameters(made: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one["parameters"] for one in made["inputs"] if one["job_name"] == name)


def test_all_jobs_run_that_run_by_default() -> None:
    made = body()
    assert [one["job_name"] for one in made["inputs"]] == ["build", "test", "ask", "publish", "db"]
    assert all(one["parameters"] == {} for one in made["inputs"])
    assert (made["workflow_key"], made["project_key"], made["parameters"]) == ("release", "shop", [])


def test_only_takes_the_named_jobs_in_the_order_of_the_workflow() -> None:
    assert [one["job_name"] for one in body(only=["rare,build"])["inputs"]] == ["build", "rare"]


def test_parameters_have_the_type_of_the_definition() -> None:
    assert body(param=["VERSION=1=2", "CODE=dev"])["parameters"] == [
        {"name": "VERSION", "type": "string", "value": "1=2"},
        {
            "name": "CODE",
            "type": "repo",
            "repo": {"codehost_name": "h", "repo_namespace": "n", "repo_name": "r", "branch": "dev"},
        },
    ]


def test_variables_go_where_each_type_of_job_takes_them() -> None:
    made = body(input=["build.A=1", "build.B=2", "test.A=1", "publish.A=1", "db.sql=select 1"])
    variables = [{"key": "A", "value": "1"}, {"key": "B", "value": "2"}]
    assert parameters(made, "build") == {"service_list": [{**module, "inputs": variables} for module in MODULES]}
    assert parameters(made, "test") == {"testing_list": [{"testing_name": "unit", "inputs": variables[:1]}]}
    assert parameters(made, "publish") == {"kv": variables[:1]}
    assert parameters(made, "db") == {"sql": "select 1"}


def test_json_sets_what_the_documents_call_parameters() -> None:
    made = body(input=['build.service_list:=[{"service_name":"api","service_module":"a"}]'])
    assert parameters(made, "build") == {"service_list": [MODULES[0]]}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"only": ["biuld"]}, "did you mean build?"),
        ({"input": ["biuld.A=1"]}, "did you mean build?"),
        ({"param": ["VERSOIN=1"]}, "did you mean VERSION?"),
        ({"param": ["zzz=1"]}, "it has: VERSION, CODE"),
        ({"input": ["rare.A=1"]}, "does not run"),
        ({"input": ["build.x:={"]}, "is not JSON"),
        ({"param": ["=1"]}, "NAME=VALUE"),
        ({"input": ["build=1"]}, "JOB.KEY=VALUE"),
    ],
)
def test_mistakes_are_told_before_anything_starts(given: dict[str, Any], told: str) -> None:
    with pytest.raises(Failure) as caught:
        body(**given)
    assert told in caught.value.message
    assert caught.value.code == 2
