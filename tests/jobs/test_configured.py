"""What builds, tests and scans have in common: entries of a workflow over the configurations they name."""

from typing import Any

import pytest

from cador.domain.errors import InvalidDefinition, NotStartable
from cador.jobs.base import CodeHostAccess, JobTaskPlan
from cador.jobs.rules import check_workflow
from cador.jobs.values import repos_of_plan
from jobs.running import TYPES, World, resource, workflow

HOST = resource("codehost", "code", ident=4, type="gitlab", address="https://git.example.com")
REPO = {"codehost_name": "code", "repo_namespace": "o", "repo_name": "app", "branch": "main"}
BASE: dict[str, Any] = {
    "repo_info": [REPO, {**REPO, "repo_name": "docs", "is_primary": True, "branch": "stable"}],
    "parameters": [{"key": "TOKEN", "is_credential": True}, {"key": "LEVEL", "default_value": "low"}],
    "script": "true",
    "build_script": "true",
}
ENTRY = {"service_name": "a", "service_module": "x", "name": "it", "build_name": "it"}
SPECS: dict[str, tuple[str, dict[str, Any]]] = {
    "zadig-build": ("service_and_builds", {}),
    "zadig-test": ("service_and_tests", {"test_type": "service_test"}),
    "zadig-scanning": ("service_and_scannings", {"scanning_type": "service_scanning"}),
}


@pytest.fixture
def world() -> World:
    access = CodeHostAccess(4, "gitlab", "https://git.example.com")
    return World([HOST, *(resource(kind, "it", "shop", **BASE) for kind in ("build", "test", "scan"))], {4: access})


def planned(world: World, kind: str, given: dict[str, Any] | None = None, **entry: Any) -> JobTaskPlan:
    listed, more = SPECS[kind]
    spec = {**more, listed: [{**ENTRY, **entry}]}
    repo = {"codehost_id": 4, "repo_namespace": "o", "repo_name": "app", "branch": "of-variable"}
    definition = workflow(
        {"name": "s", "jobs": [{"name": "job", "type": kind, "spec": spec}]},
        params=[{"name": "code", "type": "repo", "repo": repo}],
    )
    services = {"service_list": [{"service_name": "a", "service_module": "x", **given}]} if given is not None else {}
    [plan] = world.expand(definition, {"job": services})["job"]
    return plan


@pytest.mark.parametrize("kind", SPECS)
def test_a_credential_that_the_workflow_does_not_call_one_is_sealed(world: World, kind: str) -> None:
    """What the configuration calls a credential is one: neither the plan nor other jobs have it in clear."""
    values = [{"key": "TOKEN", "value": "s3cr3t-word"}, {"key": "LEVEL", "value": "high"}]
    plan = planned(world, kind, key_vals=values)
    assert "s3cr3t-word" not in repr((plan.plan, plan.variables)).replace("sealed:s3cr3t-word", "")
    assert plan.variables["job.job.a.x.TOKEN"] == "sealed:s3cr3t-word"
    assert "s3cr3t-word" in world.compile(kind, plan).secrets
    reference = planned(world, kind, key_vals=[{"key": "TOKEN", "value": "{{.workflow.params.T}}"}])
    assert reference.plan["envs"][0]["value"] == "{{.workflow.params.T}}"


@pytest.mark.parametrize("kind", SPECS)
def test_a_repository_of_a_variable_stays_one_whatever_a_start_says(world: World, kind: str) -> None:
    sourced = {**REPO, "source_from": "param", "param_name": "code"}
    for given in (None, {}, {"inputs": [{"key": "LEVEL", "value": "high"}]}):
        app, docs = repos_of_plan(planned(world, kind, given, repos=[sourced]).plan)
        assert (app["branch"], docs["branch"]) == ("of-variable", "stable")
    given = {"repo_info": [{**REPO, "repo_name": "docs", "branch": "next"}]}
    app, docs = repos_of_plan(planned(world, kind, given, repos=[sourced]).plan)
    assert (app["branch"], docs["branch"]) == ("of-variable", "next")


@pytest.mark.parametrize("kind", SPECS)
def test_a_value_the_workflow_requires(world: World, kind: str) -> None:
    with pytest.raises(NotStartable, match=r"variable TOKEN is required$"):
        planned(world, kind, key_vals=[{"key": "TOKEN", "value": "", "required": True}])


def test_the_branch_of_a_scan_is_that_of_the_repository_it_runs_in(world: World) -> None:
    assert planned(world, "zadig-scanning").plan["predefined"]["BRANCH"] == "stable"


def test_a_module_of_two_builds_is_named() -> None:
    entries = [{"service_name": "a", "service_module": f"m{n}", "build_name": "b"} for n in range(20_000)]
    spec = {"service_and_builds": [*entries, entries[7]]}
    definition = workflow({"name": "s", "jobs": [{"name": "job", "type": "zadig-build", "spec": spec}]})
    with pytest.raises(InvalidDefinition, match=r"^a/m7 is more than once in the service build list of job$"):
        check_workflow(definition, TYPES)
