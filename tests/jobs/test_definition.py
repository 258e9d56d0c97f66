"""Definitions: what is stored of what was sent, and the documented refusals in their order."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.domain.errors import Invalid, InvalidDefinition
from cador.domain.workflow import ErrorPolicy, ExecutePolicy, ManualStage
from cador.jobs.definition import normalise, parse_workflow
from cador.jobs.rules import check_workflow, job_ranks
from jobs.running import TYPES, job_of

DOCUMENTED = json.loads((Path(__file__).parent / "documents" / "create_workflow.json").read_text())


def job(name: str, kind: str = "freestyle", **spec: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "spec": spec}


def body(*stages: Any, **more: Any) -> dict[str, Any]:
    return {"name": "w", "project": "p", "stages": list(stages), **more}


def stage(name: str, *jobs: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "jobs": list(jobs), **more}


def refusal(sent: dict[str, Any]) -> str:
    with pytest.raises(InvalidDefinition) as refused:
        check_workflow(parse_workflow(normalise(sent)), TYPES)
    return str(refused.value)


def accepted(sent: dict[str, Any]) -> None:
    check_workflow(parse_workflow(normalise(sent)), TYPES)


def test_the_documented_example_is_accepted_and_kept() -> None:
    doc = normalise(DOCUMENTED)
    workflow = parse_workflow(doc)
    check_workflow(workflow, TYPES)
    assert [s.name for s in workflow.stages] == ["Build", "Deploy", "Test", "Distribute", "Image Distribution"]
    for sent, kept in zip(DOCUMENTED["stages"], doc["stages"], strict=True):
        assert [j["spec"] for j in kept["jobs"]] == [j["spec"] for j in sent["jobs"]]
    assert "isCreate" not in doc["stages"][4]["jobs"][0]
    assert doc["stages"][1]["approval"]["native_approval"] == DOCUMENTED["stages"][1]["approval"]["native_approval"]
    approval = workflow.stages[1].approval
    assert approval is not None
    assert (approval.type, approval.needed, approval.timeout_min, len(approval.users)) == ("native", 1, 5, 2)


def test_stored_form_is_stable() -> None:
    doc = normalise(DOCUMENTED)
    assert normalise(doc) == doc
    assert normalise(json.loads(json.dumps(doc))) == doc


def test_defaults_and_other_spellings() -> None:
    doc = normalise({"workflow_key": "w", "workflow_name": "", "project_key": "p", "surplus": 1, "params": None})
    assert doc == {
        "name": "w",
        "display_name": "w",
        "project": "p",
        "description": "",
        "concurrency_limit": 0,
        "params": [],
        "stages": [],
        "notify_ctls": [],
        "share_storages": [],
        "workflow_type": "custom",
    }
    assert normalise({"name": "w", "workflow_key": "w", "project": "p"})["name"] == "w"
    with pytest.raises(Invalid, match="conflicting values for name"):
        normalise({"name": "w", "workflow_key": "x", "project": "p"})


@pytest.mark.parametrize(("sent", "limit"), [({}, 0), ({"multi_run": False}, 1), ({"multi_run": True}, -1)])
def test_old_word_for_the_limit(sent: dict[str, Any], limit: int) -> None:
    assert normalise(body(**sent))["concurrency_limit"] == limit
    assert normalise(body(**sent, concurrency_limit=3))["concurrency_limit"] == 3


def test_approval_in_all_its_spellings() -> None:
    user = {"user_id": "u", "user_name": "n"}
    flat = {"enabled": True, "approve_users": [user], "timeout": 7, "needed_approvers": 1}
    capital = {"enabled": True, "type": "native"}
    capital["native_approval"] = {"Timeout": 7, "approve_users": [user], "NeededApprovers": 1}  # type: ignore[assignment]
    for sent in (flat, capital):
        doc = normalise(body(stage("s", approval=sent)))
        assert doc["stages"][0]["approval"] == {
            "enabled": True,
            "type": "native",
            "description": "",
            "native_approval": {"timeout": 7, "approve_users": [user], "needed_approvers": 1},
        }
    off = {"enabled": False, "type": "native", "dingtalk_approval": {"Timeout": 5}}
    kept = normalise(body(stage("s", approval=off)))["stages"][0]["approval"]
    assert kept == {"enabled": False, "type": "native", "description": "", "dingtalk_approval": {"timeout": 5}}
    assert parse_workflow(normalise(body(stage("s", approval=off)))).stages[0].approval is None


def test_misprinted_options() -> None:
    doc = normalise(
        body(
            stage("s", job("j", "plugin", plugin={"inputs": [{"name": "a", "choice_否": ["x"]}]})),
            params=[{"name": "a", "type": "choice", "value": "x", "choice_否": ["x", "y"]}],
        )
    )
    assert doc["params"][0]["choice_option"] == ["x", "y"]
    assert doc["stages"][0]["jobs"][0]["spec"]["plugin"]["inputs"] == [{"name": "a", "choice_option": ["x"]}]
    assert "choice_否" not in json.dumps(doc, ensure_ascii=False)


def test_every_fault_is_named_with_its_place() -> None:
    sent = body(
        stage(3, {"name": "a", "type": 1, "spec": []}),
        "x",
        concurrency_limit="5",
        params=[{"value": "v"}, {"name": "b", "is_credential": "yes"}],
    )
    with pytest.raises(Invalid) as refused:
        normalise(sent)
    assert sorted(str(refused.value).split("; ")) == [
        "concurrency_limit: must be an integer",
        "params[0].name: is required",
        "params[1].is_credential: must be true or false",
        "stages[0].jobs[0].spec: must be an object",
        "stages[0].jobs[0].type: must be a string",
        "stages[0].name: must be a string",
        "stages[1]: must be an object",
    ]
    assert refused.value.place == "concurrency_limit"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "project", "stages", "jobs", "spec", "type", "params", "approval", "value"]),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_whatever_is_sent_is_parsed_or_refused_with_a_place(sent: Any) -> None:
    try:
        doc = normalise(sent)
    except Invalid:
        return
    workflow = parse_workflow(doc)
    assert normalise(doc) == doc
    with suppress(InvalidDefinition):
        check_workflow(workflow, TYPES)


def test_refusals_in_the_order_of_the_documents() -> None:
    broken = body(
        stage("s", job("BAD"), job("a", "nope")),
        stage("s", job("a"), approval={"enabled": True, "type": "odd"}),
        name="no key",
        project="",
    )
    assert refusal(broken) == "project should not be empty"
    broken["project"] = "p"
    assert refusal(broken) == "a workflow key consists of letters, digits and hyphens"
    broken["name"] = "key\n"
    assert "letters, digits and hyphens" in refusal(broken)
    broken["name"] = "key"
    assert refusal(broken) == "duplicated stage name: s"
    broken["stages"][1]["name"] = "t"
    assert refusal(broken) == "job name [BAD] did not match ^[a-z\\u4e00-\\u9fa5][a-z0-9\\u4e00-\\u9fa5-]{0,31}$"
    broken["stages"][0]["jobs"][0]["name"] = "构建-1"
    assert refusal(broken) == "duplicated job name: a"
    broken["stages"][1]["jobs"][0] = job("b", "zadig-test", source="fromjob", job_name="later")
    assert refusal(broken) == "job type not supported"
    broken["stages"][0]["jobs"][1]["type"] = "notification"
    assert refusal(broken) == "can not quote job later in job b"
    broken["stages"][1]["jobs"][0] = job("b")
    assert refusal(broken) == "stage: t approval info error: invalid approval type odd"
    broken["stages"][1]["approval"] = {"enabled": True, "type": "native"}
    assert refusal(broken) == "stage: t approval info error: approval not found"
    native: dict[str, Any] = {"approve_users": [], "timeout": 1, "needed_approvers": 1}
    broken["stages"][1]["approval"]["native_approval"] = native
    assert refusal(broken) == "stage: t approval info error: num of approve-users is 0"
    native |= {"approve_users": [{"user_id": "a"}, {"user_id": "a"}], "needed_approvers": 2}
    assert refusal(broken).endswith("all approve users should not less than needed approvers")
    native["approve_users"][1] = {"type": "group", "group_id": "g"}
    accepted(broken)


@pytest.mark.parametrize("name", ["", "-a", "a b", "Ab", "a" * 33, "a\n", "1a"])
def test_job_names(name: str) -> None:
    assert refusal(body(stage("s", job(name)))).startswith(f"job name [{name}] did not match")
    accepted(body(stage("s", job("a" * 32), job("a1-b"), job("部署"))))


def test_a_job_may_refer_to_earlier_ones_only() -> None:
    build, deploy = job("b", "zadig-build"), job("d", "zadig-deploy", source="fromjob", job_name="b")
    accepted(body(stage("s", build, deploy)))
    accepted(body(stage("s", build, parallel=True), stage("t", deploy, parallel=True)))
    for wrong in (
        [stage("s", build, deploy, parallel=True)],
        [stage("s", deploy, build)],
        [stage("s", deploy), stage("t", build)],
        [stage("s", job("b", "sql"), deploy)],
        [stage("s", deploy)],
    ):
        assert refusal(body(*wrong)) == "can not quote job b in job d"
    origin = job("d", "zadig-deploy", source="fromjob", job_name="x", origin_job_name="b")
    accepted(body(stage("s", build, origin)))
    accepted(body(stage("s", job("d", "zadig-deploy", source="runtime", job_name="x"))))


def test_ranks() -> None:
    sent = body(stage("s", job("a"), job("b")), stage("t", job("c"), job("d"), parallel=True), stage("u", job("e")))
    ranks = {name: rank for name, (rank, _) in job_ranks(parse_workflow(normalise(sent))).items()}
    assert ranks["a"] < ranks["b"] < ranks["c"] == ranks["d"] < ranks["e"]


def test_output_names_and_specs_of_types() -> None:
    text = "output name must match ^[a-zA-Z0-9_]{1,64}$"
    assert refusal(body(stage("s", job("a", outputs=[{"name": "a-b"}])))) == text
    assert refusal(body(stage("s", job("a", "plugin", plugin={"outputs": [{"name": ""}]})))) == text
    twice = [{"service_name": "a", "service_module": "b"}] * 2
    assert "a/b is more than once" in refusal(body(stage("s", job("a", "zadig-build", service_and_builds=twice))))
    targets = [{"target": "Deployment/a"}]
    assert refusal(body(stage("s", job("a", "custom-deploy", targets=targets)))) == (
        "target string: Deployment/a wrong format"
    )
    assert refusal(body(stage("s", job("a", "approval")))) == "native approval not found"


def test_manual_stages_become_values() -> None:
    people = [{"type": "user", "user_id": "u", "user_name": "U", "more": 1}, {"type": "task_creator"}]
    manual = {"enabled": True, "modify_params": True, "manual_exec_users": people, "excuted": True}
    off = {"enabled": False, "manual_exec_users": people}
    sent = body(stage("s", job("a"), manual_exec=manual), stage("t", job("b"), manual_exec=off), stage("u", job("c")))
    stored = normalise(sent)
    users = [{"type": "user", "user_id": "u", "user_name": "U"}, {"type": "task_creator"}]
    assert stored["stages"][0]["manual_exec"] == {"enabled": True, "modify_params": True, "manual_exec_users": users}
    assert [one.manual for one in parse_workflow(stored).stages] == [ManualStage(tuple(users), True), None, None]
    bad = body(stage("s", job("a"), manual_exec={"enabled": "yes", "manual_exec_users": [{"user_id": 1}]}))
    with pytest.raises(Invalid) as caught:
        normalise(bad)
    assert str(caught.value) == (
        "stages[0].manual_exec.enabled: must be true or false; "
        "stages[0].manual_exec.manual_exec_users[0].user_id: must be a string"
    )


def test_policies_become_values() -> None:
    sent = body(
        stage(
            "s",
            {
                **job("a"),
                "error_policy": {"policy": "retry", "maximum_retry": 2},
                "execute_policy": {"type": "skip", "rules": [{"field": "{{.project}}", "verb": "=", "value": "p"}]},
            },
            job("b", properties={"retry": 3}),
            {**job("c", properties={"retry": 3}), "error_policy": {"policy": "ignore_error"}},
        )
    )
    workflow = parse_workflow(normalise(sent))
    assert job_of(workflow, "a").error_policy == ErrorPolicy("retry", 2)
    assert job_of(workflow, "a").execute_policy == ExecutePolicy("skip", "all", (("{{.project}}", "=", "p"),))
    assert job_of(workflow, "b").error_policy == ErrorPolicy("retry", 3)
    assert job_of(workflow, "c").error_policy == ErrorPolicy("ignore_error", 0)


YEAR_MIN = 527040


@pytest.mark.parametrize(
    ("kind", "spec", "where"),
    [
        ("freestyle", {"properties": {"timeout": YEAR_MIN + 1}}, "properties.timeout"),
        ("freestyle", {"script": "x", "advanced_setting": {"timeout": 2**64}}, "advanced_setting.timeout"),
        ("plugin", {"plugin": {}, "properties": {"timeout": 10**300}}, "properties.timeout"),
        ("sql", {"id": "x", "sql": "y", "timeout": YEAR_MIN + 1}, "timeout"),
        ("custom-deploy", {"timeout": YEAR_MIN + 1}, "timeout"),
        ("approval", {"native_approval": {"approve_users": [{"user_id": "u"}], "Timeout": YEAR_MIN + 1}},
         "native_approval.Timeout"),
    ],
)  # fmt: skip
def test_no_job_may_take_more_than_a_year(kind: str, spec: dict[str, Any], where: str) -> None:
    with pytest.raises(
        InvalidDefinition, match=r"^job j: timeout \d+ is too long: at most 527040 minutes, a year$"
    ) as no:
        check_workflow(parse_workflow(normalise(body(stage("s", job("j", kind, **spec))))), TYPES)
    assert no.value.place == f"stages[0].jobs[0].spec.{where}"


def test_numbers_of_jobs() -> None:
    for timeout in ("5", 5.5, True, [5]):
        said = refusal(body(stage("s", job("j", properties={"timeout": timeout}))))
        assert said == "timeout of job j must be an integer"
    for timeout in (YEAR_MIN, 0, -(10**300)):
        accepted(body(stage("s", job("j", properties={"timeout": timeout}))))
    accepted(body(stage("s", job("j", properties={"timeout": None, "retry": 2**31 - 1}))))
    said = refusal(body(stage("s", job("j", properties={"retry": 2**31}))))
    assert said == "retry of job j is more than 2147483647"


def test_numbers_that_older_definitions_hold_become_ones_that_can_be() -> None:
    approval = {"enabled": True, "type": "native", "description": "", "native_approval": {"timeout": 10**400}}
    jobs = [job("a", properties={"retry": 10**30}), {**job("b"), "error_policy": {"policy": "retry"}}]
    doc = normalise(body(stage("s", *jobs)))
    doc["stages"][0]["approval"] = approval
    doc["stages"][0]["jobs"][1]["error_policy"]["maximum_retry"] = -(10**30)
    read = parse_workflow(doc)
    assert [one.error_policy.maximum_retry for one in read.stages[0].jobs] == [2**31 - 1, 0]
    assert read.stages[0].approval is not None
    assert read.stages[0].approval.timeout_min == YEAR_MIN
    approval["native_approval"] = {"timeout": -5}
    assert parse_workflow(doc).stages[0].approval.timeout_min == 60  # type: ignore[union-attr]


def test_more_jobs_than_a_workflow_may_have() -> None:
    accepted(body(stage("s", *(job(f"j{n}") for n in range(2_000)))))
    said = refusal(
        body(stage("s", *(job(f"j{n}") for n in range(1_000))), stage("t", *(job(f"k{n}") for n in range(1_001))))
    )
    assert said == "2001 jobs are more than the 2000 that a workflow may have"
