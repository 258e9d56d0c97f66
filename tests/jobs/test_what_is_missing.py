"""Every job whose cluster, container engine, database or other system is not there: the start takes it, and it fails
with that reason when it is reached. What is missing may also have gone since the start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from cador.ports.stores import Tx
from support import virtual_loop
from support.world import World

CLUSTER: Final = "needs a Kubernetes cluster, which this server does not have"
CONTAINER: Final = "needs a container executor, which this server does not have"
DOCKER: Final = "building images needs a Docker executor, which this server does not have"
UNSUPPORTED: Final = "is not supported by this server"
SERVICE: Final = {"service_name": "a", "service_module": "x"}
IMAGE: Final = {**SERVICE, "image": "r/x:1"}
CODE: Final = {"codehost_name": "code", "repo_namespace": "o", "repo_name": "r", "branch": "main"}
KEPT: Final = {**CODE, "codehost_name": "kept"}
ROUTE: Final = {"service_and_builds": [{**SERVICE, "build_name": "docker"}]}
UPLOAD: Final = {"steps": [{"name": "k", "type": "archive", "spec": {"upload_detail": [{"file_path": "../x"}]}}]}
STEPS: Final = {"steps": [{"name": "one", "type": "docker_build", "spec": {}}]}


@dataclass(frozen=True)
class Case:
    """*gone*: what is deleted while the job waits to be reached; *error*: of the job, its type is put in."""

    type: str
    spec: Mapping[str, Any]
    error: str
    gone: tuple[str, str] | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    alone: str = ""
    """What tells the job task apart, before or behind the job's name."""


CASES: Final = {
    "deploy": Case("zadig-deploy", {"env": "dev", "service_and_images": [IMAGE]}, CLUSTER, alone="a-x-{}"),
    "deploy-helm": Case(
        "zadig-deploy", {"env": "dev", "deploy_contents": ["vars"], "services": [{"service_name": "a"}]}, CLUSTER,
        alone="a-{}",
    ),
    "custom": Case(
        "custom-deploy", {"namespace": "n", "targets": [{"target": "Deployment/w/c", "image": "r/x:1"}]}, CLUSTER,
        alone="{}-deployment-w-c",
    ),
    "custom-cluster": Case(
        "custom-deploy",
        {"namespace": "n", "cluster_id": "0123", "targets": [{"target": "CronJob/w/c", "image": "r/x:1"}]},
        CLUSTER,
        alone="{}-cronjob-w-c",
    ),
    "distribute": Case("zadig-distribute-image", {"targets": [{**SERVICE, "source_image": "r/x:1"}]}, CONTAINER),
    "docker-step": Case("freestyle", STEPS, DOCKER),
    "docker-build": Case("zadig-build", ROUTE, DOCKER, alone="a-x-{}"),
    "entrypoint": Case(
        "plugin", {"plugin": {"name": "p", "image": "p:1"}},
        "the plugin names no command (cmds), so the entrypoint of its image would run",
    ),
    "blue-green": Case("k8s-blue-green-deploy", {"services": [{"k8s_service_name": "w"}]}, CLUSTER, alone="{}-w"),
    "blue-green-out": Case("k8s-blue-green-release", {"from_job": "x"}, CLUSTER),
    "canary": Case("k8s-canary-deploy", {"targets": [{"k8s_service_name": "w"}]}, CLUSTER, alone="{}-w"),
    "canary-out": Case("k8s-canary-release", {"from_job": "x"}, CLUSTER),
    "gray": Case("k8s-gray-release", {"targets": [{"workload_name": "w"}]}, CLUSTER, alone="{}-w"),
    "gray-back": Case("k8s-gray-rollback", {"targets": [{"workload_name": "w"}]}, CLUSTER, alone="{}-w"),
    "patch": Case("k8s-resource-patch", {"patch_items": [{"resource_name": "r"}]}, CLUSTER),
    "hosts": Case("zadig-vm-deploy", {"service_and_vm_deploys": [SERVICE]}, UNSUPPORTED, alone="a-x-{}"),
    "ai": Case("ai-task", {}, UNSUPPORTED),
    "sql-gone": Case(
        "sql", {"id": "db", "sql": "select 1"}, "failed to find database instance db", gone=("database", "db")
    ),
    "tapd-gone": Case(
        "tapd",
        {"tapd_id": "team", "project_id": "7", "status": "done", "iterations": [{"iteration_id": "1"}]},
        "failed to find TAPD integration ",
        gone=("projectmanagement", "team"),
    ),
    "code-gone": Case(
        "freestyle", {"script": "exit 0", "repos": [CODE]}, "repository o/r: code host ", gone=("codehost", "code")
    ),
    "code-of-test": Case(
        "zadig-test", {"test_modules": [{"name": "unit"}]}, "repository o/r: code host ", gone=("codehost", "code"),
        alone="unit-{}",
    ),
    "code-of-scan": Case(
        "zadig-scanning", {"scannings": [{"name": "lint"}]}, "repository o/r: code host ", gone=("codehost", "code"),
        alone="lint-{}",
    ),
    "bad-path": Case("freestyle", UPLOAD, "file_path must not leave the workspace: ../x"),
    "bad-branch": Case(
        "freestyle", {"script": "exit 0", "repos": [{**KEPT, "branch": "--upload-pack=x"}]},
        "branch '--upload-pack=x' is not a valid name",
    ),
}  # fmt: skip
RESOURCES: Final[tuple[tuple[str, str, bool, dict[str, Any]], ...]] = (
    ("codehost", "code", True, {"name": "code", "type": "other", "address": "https://git.example.com"}),
    ("codehost", "kept", True, {"name": "kept", "type": "other", "address": "https://git.example.com"}),
    ("environment", "dev", False, {"env_key": "dev"}),
    ("build", "docker", False, {"name": "docker", "docker_build_step": {"dockerfile_source": "local"}}),
    ("test", "unit", False, {"name": "unit", "script": "exit 0", "repo_info": [CODE]}),
    ("scan", "lint", False, {"name": "lint", "script": "exit 0", "repo_info": [CODE], "image_name": "x"}),
    ("database", "db", True, {"type": "mysql", "host": "db.example.com", "port": "3306", "username": "ci"}),
    ("projectmanagement", "team", True, {"type": "tapd", "spec": {"tapd_address": "https://tapd.example.com"}}),
)


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Status and error of every job task of one run with all of the cases."""
    found: dict[str, tuple[str, str]] = {}

    async def main() -> None:
        world = await World.virtual(tmp_path_factory.mktemp("world"))
        try:
            for kind, name, system, document in RESOURCES:
                await world.add(kind, name, document, system=system)
            first = {"name": "first", "type": "freestyle", "spec": {"script": "sleep 60"}}
            jobs = [{"name": name, "type": case.type, "spec": dict(case.spec)} for name, case in CASES.items()]
            stages = [{"name": "before", "jobs": [first]}, {"name": "all", "parallel": True, "jobs": jobs}]
            await world.define({"name": "missing", "stages": stages})
            await world.boot()
            number = await world.start("missing")
            await world.until("missing", number, lambda d: d.stages[0].jobs[0].row.status == "running")

            def remove(tx: Tx) -> None:
                for kind, name in {case.gone for case in CASES.values() if case.gone}:
                    tx.resources.delete(kind, "", name)

            await world.db.write(remove)
            detail = await world.done("missing", number, within_s=600.0)
            found.update({job.row.name: (job.row.status, job.row.error) for job in detail.stages[1].jobs})
        finally:
            await world.close()

    virtual_loop.run(main())
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_job_fails_with_the_reason_when_it_is_reached(name: str, ends: dict[str, tuple[str, str]]) -> None:
    case = CASES[name]
    status, error = ends[case.alone.format(name) if case.alone else name]
    told = f"a job of type {case.type} {case.error}" if case.error in (CLUSTER, CONTAINER, UNSUPPORTED) else case.error
    assert (status, error[: len(told)]) == ("failed", told)


def test_every_documented_type_that_may_lack_something_is_among_them() -> None:
    documented = {
        "zadig-build", "zadig-deploy", "custom-deploy", "freestyle", "zadig-test", "zadig-scanning", "plugin",
        "zadig-distribute-image", "sql", "tapd",
    }  # fmt: skip
    assert documented <= {case.type for case in CASES.values()}
