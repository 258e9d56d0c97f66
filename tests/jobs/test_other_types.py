"""Approvals, types this server cannot carry out, and the table of all types."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from cador.domain.errors import Invalid, InvalidDefinition, NotStartable
from cador.jobs.approval import APPROVAL
from cador.jobs.base import JobTaskPlan
from cador.jobs.definition import normalise, parse_workflow
from cador.jobs.rules import check_workflow
from cador.jobs.types import BUILT_IN, by_name, load_types
from jobs.running import TYPES, World, job_of, one_job, resource, workflow

DOCUMENTED = json.loads((Path(__file__).parent / "documents" / "create_workflow.json").read_text())
SERVICE = {"service_name": "a", "service_module": "b"}
USERS = [{"user_id": "u1", "user_name": "ann"}, {"type": "task_creator"}, {"type": "group", "group_id": "g"}]


@pytest.fixture
def world() -> World:
    host = resource("codehost", "github", ident=23, type="github", address="https://github.com")
    environments = [resource("environment", name, "shop") for name in ("dev", "qa")]
    return World(
        [host, *environments, resource("build", "build-demo", "demo"), resource("build", "build-demo", "shop")]
    )


def only(world: World, kind: str, spec: dict[str, Any], given: dict[str, Any] | None = None) -> JobTaskPlan:
    [plan] = world.expand(one_job(kind, spec), {"job": given or {}})["job"]
    return plan


def test_the_table() -> None:
    assert {job_type.name for job_type in BUILT_IN} <= load_types().keys()
    with pytest.raises(ValueError, match="two job types are called freestyle"):
        by_name([*BUILT_IN, TYPES["freestyle"]])
    documented = "zadig-build zadig-deploy custom-deploy freestyle zadig-test zadig-scanning plugin"
    assert {*documented.split(), "zadig-distribute-image", "sql", "tapd", "approval"} <= TYPES.keys()


def test_approval(world: World) -> None:
    body = {"approve_users": USERS, "needed_approvers": 2}
    plan = only(world, "approval", {"timeout": 0, "description": "ok?", "native_approval": {**body, "timeout": 7}})
    assert plan.timeout_s == 420
    assert plan.plan == {
        "type": "native",
        "description": "ok?",
        "timeout": 7,
        "needed_approvers": 2,
        "approve_users": [
            {"user_id": "u1", "user_name": "ann", "type": "user"},
            {"type": "user", "user_id": "u-1", "user_name": "Ann"},
            {"type": "group", "group_id": "g"},
        ],
    }
    assert only(world, "approval", {"native_approval": {"approve_users": USERS[:1]}}).timeout_s == 3600
    capital = {"approve_users": USERS[:1], "NeededApprovers": 1, "Timeout": 3}
    assert only(world, "approval", {"native_approval": capital}).timeout_s == 180
    view = APPROVAL.view(plan.plan, {}, {}, False)
    assert [user["user_name"] for user in view["native_approval"]["approve_users"]] == ["ann", "Ann", ""]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"type": "lark", "lark_approval": {"approve_users": [{"id": "x"}]}}, "lark approval is not configured"),
        ({"type": "dingtalk"}, "dingtalk approval is not configured"),
        ({}, "native approval not found"),
        ({"native_approval": {"approve_users": []}}, "num of approve-users is 0"),
        (
            {"native_approval": {"approve_users": USERS[:1], "needed_approvers": 2}},
            "all approve users should not less than needed approvers",
        ),
    ],
)
def test_approvals_that_cannot_start(world: World, spec: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotStartable) as refused:
        only(world, "approval", spec)
    assert str(refused.value) == reason


def test_approvers_of_an_earlier_job(world: World) -> None:
    first = {"native_approval": {"approve_users": USERS[:1]}}
    second = {"source": "fromjob", "job_name": "a", "timeout": 9}
    jobs = [{"name": n, "type": "approval", "spec": s} for n, s in (("a", first), ("b", second))]
    definition = workflow({"name": "s", "jobs": jobs})
    check_workflow(definition, TYPES)
    [plan] = world.expand(definition, {"b": {}})["b"]
    assert (plan.plan["timeout"], plan.plan["approve_users"][0]["user_id"]) == (9, "u1")
    jobs[1]["spec"] = {**second, "type": "lark"}
    with pytest.raises(InvalidDefinition, match="can not quote job a in job b"):
        check_workflow(workflow({"name": "s", "jobs": jobs}), TYPES)


def test_the_documented_workflow_starts_and_says_what_is_missing(world: World) -> None:
    world.resources.append(resource("test", "smoke-test", "voting-app"))
    document = {**deepcopy(DOCUMENTED), "project": "shop"}
    document["stages"][0]["jobs"][0]["spec"]["docker_registry_id"] = ""
    release = document["stages"][4]["jobs"][0]["spec"]
    with pytest.raises(NotStartable, match="failed to find docker registry: 630xxxxxxxxxxxx"):
        world.expand(parse_workflow(normalise(document)), {"image-release": {}})
    release.update(source_registry_id="", target_registry_id="")
    inputs: dict[str, dict[str, Any]] = {name: {} for name in ("build", "deploy", "test", "common", "image-release")}
    definition = parse_workflow(normalise(document))
    release["targets"] = []
    plans = world.expand(parse_workflow(normalise(document)), inputs)
    assert [plan.name for job in plans.values() for plan in job] == [
        "service1-service1-build",
        "service1-service1-deploy",
        "service1-service1-test",
        "common",
        "image-release",
    ]
    assert "job deploy: a job of type zadig-deploy needs a Kubernetes cluster, which this server does not have" in (
        world.notes
    )
    assert "job common: failed to find base image: 630xxxxxxxxxxxx" in world.warnings
    [deploy] = plans["deploy"]
    image = "{{.job.build.service1.service1.output.IMAGE}}"
    assert deploy.plan["service_and_images"] == [
        {"service_name": "service1", "service_module": "service1", "image": image}
    ]
    assert TYPES["zadig-deploy"].view(deploy.plan, {}, {}, False)["service_and_images"][0]["image"] == ""
    with pytest.raises(Invalid, match="needs a Kubernetes cluster"):
        world.compile("zadig-deploy", deploy)
    with pytest.raises(NotStartable, match="there is no image to distribute"):
        world.expand(definition, inputs)
    assert "job image-release: n-1/nginx-latest is not made by job build, left out" in world.warnings


def test_deploy(world: World) -> None:
    given = {
        "env_name": "qa",
        "service_list": [
            {"service_name": "a", "service_module": "x", "image_name": "r/x:1"},
            {"service_name": "b", "service_module": "z", "image_name": "r/z:1"},
            {"service_name": "a", "service_module": "y", "image_name": "r/y:1", "value_merge_strategy": "override"},
        ],
    }
    plans = world.expand(one_job("zadig-deploy", {"env": "dev"}), {"job": given})["job"]
    assert [(plan.name, plan.key, plan.display_name) for plan in plans] == [
        ("a-job", "job.a", "job-a"),
        ("b-z-job", "job.b", "job-b"),
    ]
    view = TYPES["zadig-deploy"].view(plans[0].plan, {}, {}, False)
    assert (view["env"], view["skip_check_run_status"]) == ("qa", False)
    assert view["service_and_images"] == [
        {"service_name": "a", "service_module": "x", "image": "r/x:1"},
        {"service_name": "a", "service_module": "y", "image": "r/y:1"},
    ]
    fixed = world.expand(one_job("zadig-deploy", {"env": "dev", "env_source": "fixed"}), {"job": given})["job"]
    assert fixed[0].plan["env"] == "dev"
    with pytest.raises(NotStartable, match="deploy service is empty for env dev"):
        only(world, "zadig-deploy", {"env": "dev"}, {"service_list": []})


def test_custom_deploy(world: World) -> None:
    target = {"workload_type": "Deployment", "workload_name": "web", "container_name": "c", "image_name": "r/x:1"}
    plan = only(world, "custom-deploy", {"namespace": "n", "targets": []}, {"target_list": [target]})
    assert (plan.name, plan.key) == ("job-deployment-web-c", "job.Deployment.web.c")
    assert TYPES["custom-deploy"].view(plan.plan, {}, {}, False) == {
        "target": "Deployment/web/c",
        "image": "r/x:1",
        "cluster_name": "",
        "cluster_id": "",
        "namespace": "n",
        "skip_check_run_status": False,
    }


@pytest.mark.parametrize(
    ("kind", "spec", "name", "key"),
    [
        ("k8s-canary-deploy", {"targets": [{"k8s_service_name": "web"}]}, "job-web", "job.web"),
        ("k8s-gray-release", {"targets": [{"workload_name": "web"}]}, "job-web", "job.web"),
        ("zadig-vm-deploy", {"service_and_vm_deploys": [SERVICE]}, "a-b-job", "job.a.b"),
        ("k8s-resource-patch", {"namespace": "x"}, "job", "job"),
        ("k8s-blue-green-release", {}, "job", "job"),
    ],
)  # fmt: skip
def test_names_of_other_types(world: World, kind: str, spec: dict[str, Any], name: str, key: str) -> None:
    plan = only(world, kind, spec)
    assert (plan.name, plan.key) == (name, key)
    with pytest.raises(Invalid, match=f"a job of type {kind} "):
        world.compile(kind, plan)


def test_types_no_request_can_name(world: World) -> None:
    definition = one_job("notification", {"content": "x"})
    check_workflow(definition, TYPES)
    with pytest.raises(Invalid, match=r"^undefined job type of type:notification$"):
        TYPES["notification"].update(job_of(definition, "job"), {}, world.scope(definition))
