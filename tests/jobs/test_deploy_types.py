"""What start requests may say to deployments, distributions and releases, and what the detail shows of them."""

from typing import Any

import pytest

from cador.domain.errors import Invalid, NotStartable
from cador.jobs.base import JobTaskPlan
from jobs.running import TYPES, World, one_job, resource, workflow

PAIR = {"service_name": "a", "service_module": "x"}
REGISTRIES = [
    resource("registry", "old", address="https://old.example.com", namespace="team"),
    resource("registry", "new", address="https://new.example.com:5000", namespace=""),
]
ENVIRONMENTS = [
    *(resource("environment", name, "shop") for name in ("dev", "qa")),
    resource("production_environment", "qa", "shop"),
]


@pytest.fixture
def world() -> World:
    return World([*REGISTRIES, *ENVIRONMENTS, resource("service", "chart", "shop", type="helm", containers=[])])


def only(world: World, kind: str, spec: dict[str, Any], given: dict[str, Any] | None = None) -> JobTaskPlan:
    [plan] = world.expand(one_job(kind, spec), {"job": given or {}})["job"]
    return plan


def view(kind: str, plan: JobTaskPlan) -> dict[str, Any]:
    return TYPES[kind].view(plan.plan, {}, {}, False)


# -- zadig-deploy


def test_the_detail_of_a_deployment(world: World) -> None:
    variables = [{"key": "replicas", "value": "2"}]
    given = {
        "service_name": "chart",
        "service_module": "x",
        "image_name": "r/x:1",
        "value_merge_strategy": "override",
        "variable_kvs": variables,
        "variable_yaml": "replicas: 2",
    }
    spec = {"env": "dev", "production": True, "deploy_contents": ["image", "vars"]}
    plan = only(world, "zadig-deploy", spec, {"env_name": "qa", "service_list": [given]})
    assert view("zadig-deploy", plan) == {
        "env": "qa",
        "env_alias": "",
        "production": True,
        "service_type": "helm",
        "skip_check_run_status": False,
        "deploy_contents": ["image", "vars"],
        "variable_kvs": variables,
        "update_config": False,
        "yaml_content": "",
        "user_supplied_value": "replicas: 2",
        "value_merge_strategy": "override",
        "service_and_images": [{"service_name": "chart", "service_module": "x", "image": "r/x:1"}],
    }
    assert plan.variables == {
        "job.job.chart.x.IMAGE": "r/x:1",
        "job.job.envName": "qa",
        "job.job.SERVICES": "x/chart",
        "job.job.IMAGES": "r/x:1",
    }


def test_what_is_not_given_stays_as_it_is_stored(world: World) -> None:
    stored = {"env": "dev", "services": [{"service_name": "a", "modules": [{**PAIR, "image": "r/x:0"}]}]}
    plan = only(world, "zadig-deploy", stored, {"env_name": "", "service_list": []})
    assert (plan.plan["env"], plan.plan["service_and_images"][0]["image"]) == ("dev", "r/x:0")
    assert plan.plan["value_merge_strategy"] == "reuse-values"
    fixed = {**stored, "source": "fixed"}
    given = {"service_list": [{**PAIR, "image_name": "r/x:9"}]}
    assert only(world, "zadig-deploy", fixed, given).plan["service_and_images"][0]["image"] == "r/x:0"


@pytest.mark.parametrize(
    ("spec", "given", "said"),
    [
        ({"env": "moon"}, [PAIR], "environment moon not found"),
        ({"production": True}, [PAIR], "environment dev not found"),
        ({}, [PAIR], "image of a/x is empty"),
        ({}, [{"service_name": "a"}], "deploy service is empty for env dev"),
        ({"service_and_images": [PAIR]}, [], "image of a/x is empty"),
    ],
)
def test_deployments_without_an_image(
    world: World, spec: dict[str, Any], given: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(NotStartable) as refused:
        only(world, "zadig-deploy", {"env": "dev", **spec}, {"service_list": given})
    assert str(refused.value) == said


def test_variables_alone_need_no_module(world: World) -> None:
    spec = {"env": "dev", "deploy_contents": ["vars"], "services": [{"service_name": "a"}]}
    plan = only(world, "zadig-deploy", spec)
    assert (plan.name, plan.plan["service_and_images"]) == ("a-job", [])


def test_a_strategy_nobody_knows(world: World) -> None:
    given = {"service_list": [{**PAIR, "image_name": "r", "value_merge_strategy": "merge"}]}
    with pytest.raises(Invalid, match=r"service_list\[0\]\.value_merge_strategy"):
        only(world, "zadig-deploy", {"env": "dev"}, given)


def test_services_of_an_earlier_job(world: World) -> None:
    """A service without modules means all that the job made of it; one that it did not make is left out."""
    first = {"env": "dev", "services": [{"service_name": "a", "modules": [{**PAIR, "image": "r/x:1"}]}]}
    jobs = [
        {"name": "one", "type": "zadig-deploy", "spec": first},
        {"name": "two", "type": "zadig-deploy", "spec": {"env": "qa", "source": "fromjob", "job_name": "one"}},
    ]
    definition = workflow({"name": "s", "jobs": jobs})
    given = {"service_list": [{"service_name": "a"}, {"service_name": "b", "service_module": "z"}]}
    [plan] = world.expand(definition, {"one": {}, "two": given})["two"]
    assert plan.plan["service_and_images"] == [{**PAIR, "image": "{{.job.one.a.x.output.IMAGE}}"}]
    assert world.warnings == ["job two: b/z is not made by job one, left out"]
    with pytest.raises(NotStartable, match="deploy service is empty for env qa"):
        world.expand(definition, {"one": {}, "two": {"service_list": [{"service_name": "b"}]}})


# -- custom-deploy


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("Pod", "web", "workload type: Pod not supported"),
        ("Deployment", "", "target string: Deployment//c wrong format"),
        ("deployment", "a/b", "target string: Deployment/a/b/c wrong format"),
    ],
)
def test_targets_that_cannot_be(world: World, kind: str, name: str, said: str) -> None:
    target = {"workload_type": kind, "workload_name": name, "container_name": "c", "image_name": "r"}
    with pytest.raises(Invalid) as refused:
        only(world, "custom-deploy", {"namespace": "n"}, {"target_list": [target]})
    assert str(refused.value) == f"failed to update jobspec for job: job, err: {said}"


def test_a_cluster_nobody_knows_is_told(world: World) -> None:
    target = {"workload_type": "cronjob", "workload_name": "web", "container_name": "c", "image_name": "r"}
    plan = only(world, "custom-deploy", {"namespace": "n", "cluster_id": "62xx"}, {"target_list": [target]})
    assert (plan.plan["target"], plan.plan["cluster_name"]) == ("CronJob/web/c", "")
    assert "job job: cluster 62xx is not known" in world.notes


# -- zadig-distribute-image


@pytest.mark.parametrize(
    ("spec", "target", "source", "becomes"),
    [
        ({}, {"source_image": "old.example.com/team/x:1"}, "old.example.com/team/x:1", "new.example.com:5000/x:1"),
        ({}, {"image_name": "x", "source_tag": "2"}, "old.example.com/team/x:2", "new.example.com:5000/x:2"),
        ({}, {"source_tag": "2", "target_tag": "9"}, "old.example.com/team/x:2", "new.example.com:5000/x:2"),
        ({}, {"source_tag": "2", "target_tag": "9", "update_tag": True}, "old.example.com/team/x:2",
         "new.example.com:5000/x:9"),
        ({"enable_target_image_tag_rule": True, "target_image_tag_rule": "v{{.workflow.input.imageTag}}-x"},
         {"source_tag": "2"}, "old.example.com/team/x:2", "new.example.com:5000/x:v2-x"),
        ({}, {"source_image": "r:5000/x@sha256:00"}, "r:5000/x@sha256:00", "new.example.com:5000/x:"),
        ({}, {"source_image": "r/x:1", "target_image": "other/y:3"}, "r/x:1", "other/y:3"),
    ],
)  # fmt: skip
def test_where_images_go(world: World, spec: dict[str, Any], target: dict[str, Any], source: str, becomes: str) -> None:
    old, new = (registry.uid for registry in REGISTRIES)
    stored = {"source_registry_id": old, "target_registry_id": new, "targets": [{**PAIR, **target}], **spec}
    [shown] = view("zadig-distribute-image", only(world, "zadig-distribute-image", stored))["distribute_target"]
    assert (shown["source_image"], shown["target_image"]) == (source, becomes)
    assert shown.keys() == {
        "source_image", "target_image", "target_tag", "service_name", "service_module", "update_tag",
    }  # fmt: skip


def test_images_of_an_earlier_job_are_not_known_yet(world: World) -> None:
    first = {"env": "dev", "services": [{"service_name": "a", "modules": [{**PAIR, "image": "r/x:1"}]}]}
    second = {"source": "fromjob", "job_name": "one", "target_registry_id": REGISTRIES[1].uid}
    jobs = [
        {"name": "one", "type": "zadig-deploy", "spec": first},
        {"name": "two", "type": "zadig-distribute-image", "spec": second},
    ]
    [plan] = world.expand(workflow({"name": "s", "jobs": jobs}), {"one": {}, "two": {}})["two"]
    [shown] = view("zadig-distribute-image", plan)["distribute_target"]
    assert (shown["source_image"], shown["target_image"], shown["service_module"]) == ("", "", "x")


def test_registries_nobody_knows(world: World) -> None:
    for name in ("source_registry_id", "target_registry_id"):
        with pytest.raises(NotStartable, match="failed to find docker registry: 62xx"):
            only(world, "zadig-distribute-image", {name: "62xx", "targets": [PAIR]})


# -- releases


@pytest.mark.parametrize(("kind", "entries"), [("k8s-blue-green-deploy", "services"), ("k8s-canary-deploy", "targets")])
def test_images_by_service(world: World, kind: str, entries: str) -> None:
    spec = {entries: [{"k8s_service_name": name, "image": "old"} for name in ("web", "api")]}
    given = {"service_list": [{"service_name": name, "image_name": "new"} for name in ("api", "none")]}
    plans = world.expand(one_job(kind, spec), {"job": given})["job"]
    assert [plan.plan[entries][0]["image"] for plan in plans] == ["old", "new"]
    assert world.warnings == ["job job: none is not configured, ignored"]


@pytest.mark.parametrize("kind", ["k8s-gray-release", "k8s-gray-rollback"])
def test_only_listed_workloads(world: World, kind: str) -> None:
    spec = {"targets": [{"workload_name": name, "image": "old"} for name in ("web", "api")]}
    given = {"target_list": [{"workload_name": "api", "image_name": "new"}, {"workload_name": "none"}]}
    plan = only(world, kind, spec, given)
    assert plan.plan["targets"] == [{"workload_name": "api", "image": "new"}]
    assert world.warnings == ["job job: none is not configured, ignored"]
    assert len(world.expand(one_job(kind, spec), {"job": {}})["job"]) == 2


def test_patches_of_resources(world: World) -> None:
    names = {"resource_name": "web", "resource_kind": "Deployment", "resource_group": "apps", "resource_version": "v1"}
    params = [{"name": "N", "value": "1"}, {"name": "KEY", "value": "", "is_credential": True}]
    spec = {"patch_items": [{**names, "params": params}, {**names, "resource_name": "api"}]}
    inputs = [{"key": "N", "value": "2"}, {"key": "KEY", "value": "s"}, {"key": "none", "value": ""}]
    given = {"target_list": [{**names, "inputs": inputs}, {**names, "resource_kind": "Pod"}]}
    [item] = only(world, "k8s-resource-patch", spec, given).plan["patch_items"]
    assert [param["value"] for param in item["params"]] == ["2", "sealed:s"]
    assert world.warnings == ["job job: web has no variable none", "job job: web is not configured, ignored"]
    assert len(only(world, "k8s-resource-patch", spec).plan["patch_items"]) == 2


def test_packages_for_hosts(world: World) -> None:
    spec = {"env": "dev", "service_and_vm_deploys": [PAIR, {**PAIR, "service_name": "b"}]}
    item = {"service_name": "a", "file_name": "a.tar.gz"}
    plan = only(world, "zadig-vm-deploy", spec, {"env_name": "qa", "service_list": [item]})
    assert (plan.plan["env"], plan.plan["service_and_vm_deploys"]) == ("qa", [{**PAIR, "file_name": "a.tar.gz"}])
    with pytest.raises(Invalid, match="cannot deploy 2 same service"):
        only(world, "zadig-vm-deploy", spec, {"service_list": [item, item]})
