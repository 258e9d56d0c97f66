"""The routes of the oldest editions and those of product workflows, on one server."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from api.site import Site, site
from cador.ports.code_hosts import Resolved
from cador.ports.stores import Tx
from support.world import PROJECT

pytestmark = pytest.mark.anyio

READER, RUNNER, SEES, STRANGER = (
    "reader-token-000000", "runner-token-000000", "sees-token-00000000", "stranger-token-0000",
)  # fmt: skip
COMMIT = "a13120997b95d8b63f2b5b29c700f89d38a5de54"
OTHER = "b2" + "0" * 38
TASKS = "/api/directory/workflowTask"
PRODUCT = "/openapi/workflows/product"
MODULES = (("svc", "api"), ("svc", "web"), ("db", "db"))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


async def _answered(repos: Sequence[Any], within_s: float) -> list[Resolved]:
    """Every branch has its own commit; of the branch ``gone`` nothing is known."""
    commits = {"main": COMMIT, "other": OTHER}
    return [Resolved({"commit_id": commits[repo["branch"]]} if repo["branch"] in commits else {}) for repo, _ in repos]


def build_entry(service: str, module: str) -> dict[str, Any]:
    return {"service_name": service, "service_module": module, "build_name": "b", "key_vals": [], "repos": []}


def workflow(key: str, **changes: Any) -> dict[str, Any]:
    """Build, deploy, test, distribute what was built, and distribute given images."""

    def stage(name: str, *jobs: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
        return {
            "name": name,
            "parallel": True,
            "jobs": [{"name": job, "type": kind, "spec": spec} for job, kind, spec in jobs],
        }

    build = {"docker_registry_id": "", "service_and_builds": [build_entry(*pair) for pair in MODULES]}
    deploy = {"env": "dev", "source": "fromjob", "job_name": "build", "service_and_images": []}
    test = {"test_type": "", "test_modules": [{"name": "smoke", "project_name": PROJECT}]}
    release = {
        "source": "runtime",
        "targets": [{"service_name": "svc", "service_module": "api", "image_name": "api", "target_tag": "stable"}],
    }
    stages = [
        stage("build", ("build", "zadig-build", build)),
        stage("deploy", ("deploy", "zadig-deploy", deploy)),
        stage("testing", ("test", "zadig-test", test)),
        stage("distribute", ("release", "zadig-distribute-image", release)),
    ]
    return {
        "name": key, "display_name": f"The {key}", "project": PROJECT, "concurrency_limit": -1,
        "workflow_type": "product", "stages": stages,
    } | changes  # fmt: skip


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with site(tmp_path_factory.mktemp("legacy")) as made:
        world = made.world
        world.resolve = _answered
        await world.add(
            "codehost", "hub", {"name": "hub", "type": "other", "address": "http://127.0.0.1:9"}, system=True
        )
        registry = {"address": "https://registry.example.com", "namespace": "ns", "is_default": True}
        await world.add("registry", "main", registry, system=True)
        for name in ("dev", "qa", "east", "west"):
            await world.add("environment", name, {"env_key": name})
        repo = {"codehost_name": "hub", "repo_namespace": "team", "repo_name": "app", "branch": "main"}
        other = {**repo, "repo_namespace": "fork"}
        parameters = [{"key": "MODE", "value": "", "type": "string"}]
        build = {
            "name": "b", "project_key": PROJECT, "build_os": "focal", "build_script": "echo $MODE",
            "repo_info": [repo, other], "parameters": parameters,
            "services": [{"service_name": s, "service_module": m} for s, m in MODULES],
        }  # fmt: skip
        await world.add("build", "b", build)
        await world.add("test", "smoke", {"name": "smoke", "project_key": PROJECT, "script": "exit 0", "repo_info": []})
        for key in ("p", "q"):
            reply = await made.post("/api/aslan/workflow/v4", json=workflow(key))
            assert reply.status_code == 200, reply.text
        await made.create("plain")
        yield made


async def jobs_of(server: Site, key: str, number: int) -> dict[str, Mapping[str, Any]]:
    """Plans by name of the job task."""
    detail = await server.world.detail(key, number)
    return {job.row.name: job.row.plan["spec"] for stage in detail.stages for job in stage.jobs}


async def created(server: Site, **body: Any) -> dict[str, Any]:
    reply = await server.post(f"{TASKS}/create", json={"workflow_name": "p", "env_name": "dev", **body})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def ran(server: Site, build: Any = None, deploy: Any = None, **more: Any) -> dict[str, Any]:
    given = {"build": build or {"enabled": False}, "deploy": deploy or {"enabled": False}, **more}
    reply = await server.post(f"{PRODUCT}/task", json={"workflow_key": "p", "project_key": PROJECT, "input": given})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def told(reply: Any) -> tuple[int, int, str]:
    found = reply.json()
    return reply.status_code, found["code"], found["description"]


TARGET = {"name": "svc", "build": {"repos": [{"repo_name": "app", "branch": "other", "pr": 0}]}}
IMAGE = {"image": "r/ns/api:1", "service_name": "svc", "service_module": "api"}


# -- create


async def test_targets_are_built_and_deployed(server: Site) -> None:
    target = {**TARGET, "build": {"repos": [{"repo_name": "app", "branch": "other", "pr": 5}]}}
    found = await created(server, env_name="qa", targets=[target])
    assert found.pop("warnings") == ["job release: there is no image to distribute, left out"] or found
    number = found.pop("task_id")
    assert found == {"project_name": PROJECT, "workflow_name": "p", "project_key": PROJECT, "workflow_key": "p"}
    plans = await jobs_of(server, "p", number)
    assert list(plans) == ["svc-api-build", "svc-web-build", "svc-deploy", "smoke-test"]
    repos = plans["svc-web-build"]["steps"][0]["spec"]["repos"]
    # The first repository of that name is meant; the other one keeps its branch.
    assert [(repo["repo_namespace"], repo["branch"], repo.get("prs")) for repo in repos] == [
        ("team", "other", [5]), ("fork", "main", None),
    ]  # fmt: skip
    assert plans["svc-deploy"]["env"] == "qa"
    images = {one["service_module"]: one["image"] for one in plans["svc-deploy"]["service_and_images"]}
    assert images == {module: f"{{{{.job.build.svc.{module}.output.IMAGE}}}}" for module in ("api", "web")}


async def test_a_pull_request_of_number_0_is_none(server: Site) -> None:
    number = (await created(server, targets=[TARGET]))["task_id"]
    repos = (await jobs_of(server, "p", number))["svc-api-build"]["steps"][0]["spec"]["repos"]
    assert "prs" not in repos[0]
    assert repos[0]["branch"] == "other"


async def test_release_images_alone_are_only_distributed(server: Site) -> None:
    body = {"workflow_name": "p", "release_images": [IMAGE]}
    reply = await server.post(f"{TASKS}/create", json=body)
    plans = await jobs_of(server, "p", reply.json()["task_id"])
    assert list(plans) == ["release"]
    (target,) = plans["release"]["targets"]
    assert (target["service_name"], target["service_module"]) == ("svc", "api")
    assert (target["source_image"], target["target_tag"]) == ("r/ns/api:1", "stable")


async def test_targets_and_release_images_are_both_used(server: Site) -> None:
    number = (await created(server, targets=[{**TARGET, "name": "db"}], release_images=[IMAGE]))["task_id"]
    plans = await jobs_of(server, "p", number)
    assert list(plans) == ["db-db-build", "db-db-deploy", "smoke-test", "release"]
    assert plans["release"]["targets"][0]["source_image"] == "r/ns/api:1"


async def test_a_callback_is_kept_with_the_task(server: Site) -> None:
    address = "https://example.com/a?x=1&y=%20z"
    callback = {"callback_url": quote(address, safe=""), "callback_vars": {"k1": 1, "k2": [None, "ü"]}}
    number = (await created(server, targets=[TARGET], callback=callback))["task_id"]

    def read(tx: Tx) -> Any:
        task_id = tx.tasks.find_id("p", number)
        assert task_id is not None
        return tx.deliveries.receivers(task_id)

    (receiver,) = await server.world.db.read(read)
    document = server.world.sealer.open(receiver.document)
    assert document == '{"url":"https://example.com/a?x=1&y=%20z","vars":{"k1":1,"k2":[null,"ü"]}}'


async def test_the_environment_with_the_fewest_tasks_is_taken(server: Site) -> None:
    stages = workflow("w")["stages"][:2]
    stages[0]["approval"] = {
        "enabled": True, "type": "native",
        "native_approval": {"approve_users": [{"user_id": "ann", "user_name": "Ann"}], "needed_approvers": 1},
    }  # fmt: skip
    reply = await server.post("/api/aslan/workflow/v4", json=workflow("waits", stages=stages))
    assert reply.status_code == 200, reply.text
    envs = []
    for _ in range(3):
        number = (await created(server, workflow_name="waits", env_name=" east, west", targets=[TARGET]))["task_id"]
        envs.append((await jobs_of(server, "waits", number))["svc-deploy"]["env"])
    assert envs == ["east", "west", "east"]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"workflow_name": ""}, (400, 400, "workflow_name is required")),
        ({"workflow_name": None}, (400, 400, "workflow_name is required")),
        ({"workflow_name": 7}, (400, 400, "workflow_name: must be a string")),
        ({"workflow_key": "q"}, (400, 400, "conflicting values for workflow_key")),
        ({"workflow_name": "nope"}, (400, 6542, "mongo: no documents in result")),
        ({"targets": []}, (400, 400, "target and release_images cannot be empty at the same time")),
        ({"targets": None}, (400, 400, "target and release_images cannot be empty at the same time")),
        ({"targets": [{**TARGET, "service_type": "vm"}]}, (400, 400, "Unsupported service type")),
        ({"env_name": ""}, (400, 400, "env_name is required")),
        ({"env_name": "moon"}, (400, 6160, f"environment moon of project {PROJECT} not found")),
        ({"env_name": "dev,moon"}, (400, 6160, f"environment moon of project {PROJECT} not found")),
        ({"env_name": 1}, (400, 400, "env_name: must be a string")),
        ({"targets": [{"name": "svc"}]}, (400, 400, "targets[0].build: is required")),
        ({"targets": {"name": "svc"}}, (400, 400, "targets: must be a list")),
        (
            {"targets": [{"name": "svc", "build": {"repos": [{"repo_name": "app", "branch": "m", "pr": "5"}]}}]},
            (400, 400, "targets[0].build.repos[0].pr: must be an integer"),
        ),
        ({"targets": [{**TARGET, "name": "ghost"}]}, (400, 6160, "service ghost is not built by workflow p")),
        (
            {"release_images": [{**IMAGE, "service_module": "ghost"}]},
            (400, 6160, "Invalid service module"),
        ),
        ({"release_images": [{"image": "i"}]}, (400, 400, None)),
        ({"targets": [TARGET] * 1001}, (400, 400, None)),
        ({"callback": {}}, (400, 400, "callback.callback_url: is required")),
        (
            {"callback": {"callback_url": "file:///etc/passwd"}},
            (400, 400, "callback_url: not an http or https address"),
        ),
        (
            {"callback": {"callback_url": "https://example.com", "callback_vars": [1]}},
            (400, 400, "callback.callback_vars: must be an object"),
        ),
        (
            {"callback": {"callback_url": "https://example.com", "callback_vars": {"x": "y" * (1 << 16)}}},
            (400, 400, "callback_vars: larger than 65536 bytes"),
        ),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
async def test_what_cannot_be_created(server: Site, change: dict[str, Any], wanted: tuple[int, int, str]) -> None:
    body = {"workflow_name": "p", "env_name": "dev", "targets": [TARGET], **change}
    reply = await server.post(f"{TASKS}/create", json=body)
    status, code, description = told(reply)
    assert (status, code, wanted[2] or description) == (*wanted[:2], wanted[2] or description)
    if wanted[2]:
        assert description == wanted[2]
    assert (reply.json()["resultCode"], reply.json()["errorMsg"]) == (400, "param is illegal!")


async def test_an_unknown_environment_in_chinese(server: Site) -> None:
    body = {"workflow_name": "p", "env_name": "moon", "targets": [TARGET]}
    reply = await server.post(f"{TASKS}/create", json=body, language="zh")
    assert reply.json() == {
        "code": 6160, "description": f"找不到 {PROJECT} 的 moon 环境 ", "extra": {}, "message": "创建工作流任务失败",
        "type": "error", "resultCode": 400, "errorMsg": "param is illegal!",
    }  # fmt: skip


async def test_an_unknown_repository_is_told_of_and_strict_servers_refuse(server: Site) -> None:
    target = {"name": "db", "build": {"repos": [{"repo_name": "ghost", "branch": "x"}]}}
    found = await created(server, targets=[target])
    assert "repository ghost is not configured for db/db" in found["warnings"]
    body = {"workflow_name": "p", "env_name": "dev", "targets": [target]}
    reply = await server.post(f"{TASKS}/create", json=body, params={"strict": "1"})
    assert told(reply) == (400, 6160, "repository ghost is not configured for db/db")


async def test_strict_refuses_names_and_nothing_else(server: Site) -> None:
    """That a job has nothing to do is no mistake of who asks."""
    left_out = "job release: there is no image to distribute, left out"
    services = {"enabled": True, "service_list": [DB]}
    for path, body in (
        (f"{TASKS}/create", {"workflow_name": "p", "env_name": "dev", "targets": [TARGET]}),
        (f"{PRODUCT}/task", {"workflow_key": "p", "project_key": PROJECT, "input": {"build": services}}),
    ):
        reply = await server.post(path, json=body, params={"strict": "true"})
        assert reply.status_code == 200, reply.text
        assert left_out in reply.json()["warnings"]


# -- product task


async def test_modules_are_built_and_deployed(server: Site) -> None:
    build = {
        "enabled": True,
        "service_list": [
            {
                "service_name": "svc",
                "service_module": "web",
                "repo_info": [
                    {"codehost_name": "hub", "repo_namespace": "fork", "repo_name": "app", "branch": "other", "pr": 7}
                ],
                "inputs": [{"key": "MODE", "value": "fast"}],
            }
        ],
    }
    deploy = {
        "enabled": True,
        "source": "zadig",
        "service_list": [
            {"service_name": "svc", "service_module": "web", "image": "ignored:1"},
            {"service_name": "li", "service_module": "li", "image": "xxxxx:aaaaaa"},
        ],
    }
    found = await ran(server, build, deploy, target_env="qa")
    assert {key: found[key] for key in ("project_name", "workflow_name")} == {
        "project_name": PROJECT, "workflow_name": "p",
    }  # fmt: skip
    plans = await jobs_of(server, "p", found["task_id"])
    assert list(plans) == ["svc-web-build", "svc-web-deploy", "li-li-deploy", "smoke-test"]
    repos = plans["svc-web-build"]["steps"][0]["spec"]["repos"]
    assert [(repo["branch"], repo.get("prs")) for repo in repos] == [("main", None), ("other", [7])]
    assert plans["svc-web-build"]["envs"][0]["value"] == "fast"
    assert plans["svc-web-deploy"]["env"] == "qa"
    assert plans["svc-web-deploy"]["service_and_images"][0]["image"] == "{{.job.build.svc.web.output.IMAGE}}"
    assert plans["li-li-deploy"]["service_and_images"][0]["image"] == "xxxxx:aaaaaa"


async def test_build_alone_deploy_alone_and_neither(server: Site) -> None:
    listed = [{"service_name": "db", "service_module": "db"}]
    number = (await ran(server, {"enabled": True, "service_list": listed}))["task_id"]
    assert list(await jobs_of(server, "p", number)) == ["db-db-build", "smoke-test"]
    images = [{**listed[0], "image_name": "r/db:2"}]
    number = (await ran(server, deploy={"enabled": True, "service_list": images}))["task_id"]
    plans = await jobs_of(server, "p", number)
    assert list(plans) == ["db-db-deploy", "smoke-test"]
    assert plans["db-db-deploy"]["env"] == "dev"
    assert plans["db-db-deploy"]["service_and_images"][0]["image"] == "r/db:2"
    number = (await ran(server))["task_id"]
    assert list(await jobs_of(server, "p", number)) == ["smoke-test"]
    number = (await ran(server, {"enabled": True}))["task_id"]
    assert list(await jobs_of(server, "p", number))[:3] == ["svc-api-build", "svc-web-build", "db-db-build"]


@pytest.mark.parametrize("spelling", ["workflow_key", "workflow_name", "workflowKey", "workflowName"])
async def test_every_spelling_of_the_keys(server: Site, spelling: str) -> None:
    project = spelling.replace("workflow", "project")
    reply = await server.post(f"{PRODUCT}/task", json={spelling: "p", project: PROJECT, "input": {}})
    assert reply.status_code == 200, reply.text


DB = {"service_name": "db", "service_module": "db"}


@pytest.mark.parametrize(
    ("change", "given", "wanted"),
    [
        ({"workflow_key": ""}, {}, (400, "workflowKey cannot be empty")),
        ({"project_key": ""}, {}, (400, "projectKey cannot be empty")),
        ({"input": None}, {}, (400, "input cannot be empty")),
        ({"input": []}, {}, (400, "input: must be an object")),
        ({"workflow_name": "q"}, {}, (400, "conflicting values for workflow_key")),
        ({"workflow_key": "nope"}, {}, (6542, "mongo: no documents in result")),
        ({"project_key": "elsewhere"}, {}, (6542, "mongo: no documents in result")),
        (
            {},
            {"build": {"enabled": True, "service_list": [DB]}, "deploy": {"enabled": True}},
            (400, "deploy source must be zadig when there is a build stage"),
        ),
        (
            {},
            {"build": {"enabled": True, "service_list": [{**DB, "repo_info": [{"codehost_name": "moon"}]}]}},
            (400, "failed to find code host with name:moon"),
        ),
        (
            {},
            {"deploy": {"enabled": True, "service_list": [DB]}},
            (400, "db/db is not built in this run: image is required"),
        ),
        (
            {},
            {"build": {"enabled": True, "service_list": [{**DB, "service_module": "ghost"}]}},
            (6160, "db/ghost is not built by workflow p"),
        ),
        ({}, {"build": {"enabled": "true"}}, (400, "input.build.enabled: must be true or false")),
        ({}, {"deploy": {"enabled": True, "service_list": [{**DB, "image": "a", "image_name": "b"}]}},
         (400, "conflicting values for image")),
    ],
    ids=str,
)  # fmt: skip
async def test_what_cannot_be_run(
    server: Site, change: dict[str, Any], given: dict[str, Any], wanted: tuple[int, str]
) -> None:
    body = {"workflow_key": "p", "project_key": PROJECT, "input": given, **change}
    status, code, description = told(await server.post(f"{PRODUCT}/task", json=body))
    assert (status, (code, description)) == (400, wanted)


async def test_nothing_to_do_is_no_task(server: Site) -> None:
    reply = await server.post("/api/aslan/workflow/v4", json=workflow("only-build", stages=workflow("x")["stages"][:1]))
    assert reply.status_code == 200, reply.text
    body = {"workflow_key": "only-build", "project_key": PROJECT, "input": {}}
    wanted = (400, 6160, "no stage found in workflow task: only-build,taskID: 1")
    assert told(await server.post(f"{PRODUCT}/task", json=body)) == wanted


async def test_unknown_modules_warn_and_strict_refuses(server: Site) -> None:
    listed = [DB, {"service_name": "db", "service_module": "ghost"}]
    given = {"build": {"enabled": True, "service_list": listed}}
    body = {"workflow_key": "p", "project_key": PROJECT, "input": given}
    reply = await server.post(f"{PRODUCT}/task", json=body)
    assert "db/ghost is not built by workflow p" in reply.json()["warnings"]
    reply = await server.post(f"{PRODUCT}/task", json=body, params={"strict": "true"})
    assert told(reply) == (400, 6160, "db/ghost is not built by workflow p")


async def test_a_repeated_request_is_one_task(server: Site) -> None:
    headers = {"Idempotency-Key": "once"}
    body = {"workflow_key": "p", "project_key": PROJECT, "input": {}}
    found = [(await server.post(f"{PRODUCT}/task", json=body, headers=headers)).json()["task_id"] for _ in range(2)]
    body = {"workflow_name": "p", "env_name": "dev", "targets": [TARGET]}
    found.append((await server.post(f"{TASKS}/create", json=body, headers=headers)).json()["task_id"])
    assert len(set(found)) == 1


# -- lookup by commit


async def numbers_of(server: Site, commit: str, token: str = RUNNER, **more: Any) -> list[tuple[str, int]]:
    reply = await server.get(TASKS, token, params={"commitId": commit, **more})
    assert reply.status_code == 200, reply.text
    found = [(line["url"].rsplit("/", 2)[1], line["task_id"]) for line in reply.json()]
    times = [line["create_time"] for line in reply.json()]
    assert times == sorted(times, reverse=True)
    return found


async def test_tasks_of_a_commit(server: Site) -> None:
    number = (await created(server, workflow_name="q", targets=[{**TARGET, "name": "db"}]))["task_id"]
    await server.world.done("q", number)
    (newest, *_) = (await server.get(TASKS, params={"commit_id": OTHER[:8]})).json()
    assert newest["url"] == f"http://ci.example.com/v1/projects/detail/{PROJECT}/pipelines/multi/q/{number}"
    assert newest["status"] == "failed"  # nothing can be deployed here
    assert list(newest) == ["task_id", "create_time", "start_time", "end_time", "status", "url"]
    assert newest["create_time"] <= newest["start_time"] <= newest["end_time"]
    for commit in (OTHER, OTHER.upper(), OTHER[:3], COMMIT):
        assert (await numbers_of(server, commit)).count(("q", number)) == 1
    assert await numbers_of(server, OTHER, STRANGER) == []
    assert await numbers_of(server, OTHER, SEES) == []
    assert ("q", number) in await numbers_of(server, OTHER, READER)
    assert await numbers_of(server, "f" * 40) == await numbers_of(server, "no%20commit%") == []
    assert len((await server.get(TASKS, params={"commitId": "a1"})).json()) <= 100


async def test_what_a_job_checks_out_and_what_a_retry_asks_for_counts(server: Site) -> None:
    number = (await created(server, workflow_name="q", targets=[TARGET]))["task_id"]
    await server.world.done("q", number)
    found, later = "c1" + "1" * 38, "d1" + "1" * 38

    def check_out(tx: Tx) -> None:
        task_id = tx.tasks.find_id("q", number)
        assert task_id is not None
        tx.commits.add(task_id, PROJECT, (found,))

    assert await numbers_of(server, found) == []
    await server.world.db.write(check_out)
    assert await numbers_of(server, found[:8]) == [("q", number)]

    async def again(repos: Sequence[Any], within_s: float) -> list[Resolved]:
        return [Resolved({"commit_id": later}) for _ in repos]

    server.world.resolve = again
    try:
        repo = {"codehost_name": "hub", "repo_namespace": "team", "repo_name": "app", "branch": "third"}
        service = {"service_name": "svc", "service_module": "api", "repo_info": [repo]}
        inputs = [{"job_name": "build", "parameters": {"service_list": [service]}}]
        reply = await server.post(f"/api/v1/tasks/q/{number}/retry", json={"from": "svc-api-build", "inputs": inputs})
        assert reply.status_code == 200, reply.text
    finally:
        server.world.resolve = _answered
    assert await numbers_of(server, later) == [("q", number)]
    await server.world.done("q", number)


async def test_a_custom_workflow_has_an_address_of_its_own(server: Site) -> None:
    git = {"name": "git", "type": "git", "spec": {"repos": [
        {"codehost_name": "hub", "repo_namespace": "team", "repo_name": "app", "branch": "other"}]}}  # fmt: skip
    job = {"name": "j", "type": "freestyle", "spec": {"properties": {"timeout": 5}, "steps": [git]}}
    await server.create("custom", stages=[{"name": "s", "parallel": False, "jobs": [job]}])
    number = await server.run("custom", "j")
    (newest, *_) = (await server.get(TASKS, params={"commitId": OTHER})).json()
    assert newest["url"].endswith(f"/pipelines/custom/custom/{number}")


async def test_a_commit_must_be_named(server: Site) -> None:
    for query in ({}, {"commitId": ""}):
        reply = await server.get(TASKS, params=query)
        assert reply.json() == {
            "code": 400, "description": "commitId is required", "extra": {}, "message": "Bad Request",
            "type": "error", "resultCode": 400, "errorMsg": "param is illegal!",
        }  # fmt: skip
    reply = await server.get(TASKS, params={"commitId": "a", "commit_id": "b"})
    assert told(reply) == (400, 400, "conflicting values for commitId")
    reply = await server.get(TASKS, None, params={"commitId": "a"})
    assert (reply.status_code, reply.json()["resultCode"], reply.json()["errorMsg"]) == (401, 401, "auth failed!")


# -- one task


@pytest.fixture(scope="module")
async def failed(server: Site) -> int:
    await server.create("fails", "exit 1")
    number = await server.run("fails")
    await server.world.done("fails", number)
    return number


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Authorization": "X-API-KEY cador_admin_token_of_the_tests"}, {"resultCode": 0, "errorMsg": "success"}),
        ({"Authorization": "x-api-key cador_admin_token_of_the_tests"}, {"resultCode": 0, "errorMsg": "success"}),
        ({}, {"message": "success"}),
    ],
)
async def test_success_is_said_as_the_token_came(
    server: Site, failed: int, headers: dict[str, str], body: dict[str, Any]
) -> None:
    for verb in ("restart", "cancel"):
        reply = await server.post(f"{TASKS}/id/{failed}/pipelines/fails/{verb}", headers=headers)
        assert (reply.status_code, reply.json()) == (200, body)
        await server.world.done("fails", failed)


@pytest.mark.parametrize(
    ("verb", "path", "wanted"),
    [
        ("restart", "id/999999/pipelines/plain", (6164, "获取工作流任务失败", "重试工作流任务失败")),
        ("restart", "id/1/pipelines/nope", (6164, "获取工作流任务失败", "重试工作流任务失败")),
        ("cancel", "id/999999/pipelines/plain", (6163, "mongo: no documents in result", "取消工作流任务失败")),
        ("cancel", "id/-1/pipelines/plain", (6163, "mongo: no documents in result", "取消工作流任务失败")),
        ("restart", "id/abc/pipelines/plain", (400, "invalid task id", "Bad Request")),
        ("cancel", "id/1.5/pipelines/plain", (400, "invalid task id", "Bad Request")),
        ("cancel", f"id/{1 << 63}/pipelines/plain", (400, "invalid task id", "Bad Request")),
        (
            "cancel",
            f"id/{(1 << 63) - 1}/pipelines/plain",
            (6163, "mongo: no documents in result", "取消工作流任务失败"),
        ),
    ],
)  # fmt: skip
async def test_no_such_task_to_restart_or_cancel(
    server: Site, verb: str, path: str, wanted: tuple[int, str, str]
) -> None:
    reply = await server.post(f"{TASKS}/{path}/{verb}", language="zh")
    code, description, message = wanted
    assert (reply.status_code, reply.json()) == (
        400,
        {
            "code": code, "description": description, "extra": {}, "message": message, "type": "error",
            "resultCode": 400, "errorMsg": "param is illegal!",
        },
    )  # fmt: skip


async def test_a_passed_task_is_neither_restarted_nor_cancelled(server: Site) -> None:
    number = await server.run("plain")
    await server.world.done("plain", number)
    path = f"{TASKS}/id/{number}/pipelines/plain"
    assert told(await server.post(f"{path}/restart")) == (400, 6164, "a passed task cannot be retried")
    assert told(await server.post(f"{path}/restart", language="zh")) == (400, 6164, "不能重试已经通过任务")
    assert told(await server.post(f"{path}/cancel")) == (400, 6163, f"task: plain:{number} is passed, cannot cancel")


async def test_a_task_as_targets_and_images(server: Site) -> None:
    number = (await created(server, targets=[TARGET]))["task_id"]
    await server.world.done("p", number)
    found = (await server.get(f"{TASKS}/id/{number}/pipelines/p")).json()
    repos = [{"repo_name": "app", "branch": "other", "pr": 0}, {"repo_name": "app", "branch": "main", "pr": 0}]
    images = found.pop("images")
    assert found == {
        "workflow_name": "p",
        "env_name": "dev",
        "status": "failed",
        "targets": [{"name": "svc", "service_type": "k8s", "build": {"repos": repos}}] * 2,
        "test_reports": [],
    }
    detail = await server.world.detail("p", number)
    passed = [job.row for stage in detail.stages for job in stage.jobs if job.row.status == "passed"]
    assert [image["image"] for image in images] == [row.outputs["IMAGE"] for row in passed if row.type == "zadig-build"]
    for image in images:
        assert image["image"].startswith("registry.example.com/ns/")
        assert (image["service_name"], image["registry_repo"]) == ("svc", "https://registry.example.com/ns")


async def test_reports_of_a_task(server: Site) -> None:
    number = (await ran(server))["task_id"]
    detail = await server.world.done("p", number)
    (test,) = (job.row for stage in detail.stages for job in stage.jobs)
    facts = {"tests": 24, "successes": 20, "failures": 1, "skips": 2, "errors": 1, "time": 1.5, "cases": []}
    await server.world.db.write(lambda tx: tx.tasks.merge_result(test.id, {"junit": facts}))
    found = (await server.get(f"{TASKS}/id/{number}/pipelines/p")).json()
    assert (found["targets"], found["images"], found["env_name"]) == ([], [], "")
    assert found["test_reports"] == [
        {
            "test_name": "smoke",
            "function_test_report": {
                "tests": 24, "successes": 20, "failures": 1, "skips": 2, "errors": 1,
                "detail_url": f"/v1/projects/detail/{PROJECT}/pipelines/multi/testcase/p/{number}/test/p-{number}-test"
                "?is_workflow=1&service_name=smoke&test_type=function",
            },
        }
    ]  # fmt: skip


@pytest.mark.parametrize(("language", "word"), [("zh", "获取工作流任务失败"), ("en", "Get workflow task failed")])
async def test_no_such_task_to_look_at(server: Site, language: str, word: str) -> None:
    for path in ("id/999999/pipelines/p", "id/1/pipelines/nope"):
        reply = await server.get(f"{TASKS}/{path}", language=language)
        nested = f'{{"code":6161,"description":"","extra":{{}},"message":"{word}","type":"error"}}'
        assert (reply.status_code, reply.json()) == (
            500,
            {
                "code": 500, "description": f"[400 BadRequest] {nested}", "message": "Internal Error: ",
                "resultCode": 500, "errorMsg": "fail",
            },
        )  # fmt: skip
    assert told(await server.get(f"{TASKS}/id/x/pipelines/p")) == (400, 400, "invalid task id")


# -- product lists


async def test_one_task_and_the_list(server: Site) -> None:
    numbers = [(await ran(server))["task_id"] for _ in range(3)]
    query = {"projectKey": PROJECT}
    one = (await server.get(f"{PRODUCT}/p/task/{numbers[1]}", params=query)).json()
    assert list(one) == [
        "workflow_key", "workflow_name", "project_key", "task_id", "create_time", "task_creator", "start_time",
        "end_time", "status",
    ]  # fmt: skip
    assert (one["workflow_key"], one["workflow_name"], one["task_id"]) == ("p", "The p", numbers[1])
    listed = (await server.get(f"{PRODUCT}/p/tasks", params={"project_name": PROJECT, "pageSize": 3})).json()
    assert [line["task_id"] for line in listed] == numbers[::-1]
    assert "workflow_name" not in listed[0]
    page = await server.get(f"{PRODUCT}/p/tasks", params={**query, "pageNum": 2, "page_size": 2})
    assert page.json()[0]["task_id"] == numbers[0]
    assert (await server.get(f"{PRODUCT}/nope/tasks", params=query)).json() == []


@pytest.mark.parametrize(
    ("method", "path", "query", "wanted"),
    [
        ("GET", "p/task/999999", {"projectKey": PROJECT}, (400, 6161, "")),
        ("GET", "nope/task/1", {"projectKey": PROJECT}, (400, 6161, "")),
        ("GET", "p/task/1", {"projectKey": "elsewhere"}, (400, 6161, "")),
        ("GET", "p/task/1", {}, (400, 400, "projectKey is required")),
        ("GET", "p/task/x", {"projectKey": PROJECT}, (400, 400, "taskID is required")),
        ("GET", "p/tasks", {}, (400, 400, "projectKey is required")),
        ("GET", "p/tasks", {"projectKey": "a", "project_key": "b"}, (400, 400, "conflicting values for projectKey")),
        ("GET", "p/tasks", {"projectKey": PROJECT, "pageNum": "x"}, (400, 400, "pageNum must be an integer")),
        ("DELETE", "", {"projectKey": PROJECT}, (400, 400, "workflowKey is required")),
        ("DELETE", "", {"workflowKey": "p"}, (400, 400, "projectKey is required")),
        ("DELETE", "", {"workflowKey": "nope", "projectKey": PROJECT}, (500, 500, "mongo: no documents in result")),
        ("DELETE", "", {"workflowKey": "p", "projectKey": "elsewhere"}, (500, 500, "mongo: no documents in result")),
    ],
    ids=str,
)  # fmt: skip
async def test_errors_of_product_routes(
    server: Site, method: str, path: str, query: dict[str, str], wanted: tuple[int, int, str]
) -> None:
    reply = await server.call(method, f"{PRODUCT}/{path}".rstrip("/"), params=query)
    assert told(reply) == wanted
    if wanted[0] == 500:
        assert reply.json() == {"code": 500, "description": wanted[2], "message": "Internal Error: "}


async def test_deleting(server: Site) -> None:
    await server.create("goes")
    query = {"workflow_name": "goes", "project_name": PROJECT}
    assert (await server.call("DELETE", PRODUCT, params=query)).json() == {"message": "success"}
    assert (await server.call("DELETE", PRODUCT, params=query)).status_code == 500


async def test_the_type_is_shown(server: Site) -> None:
    found = (await server.get("/openapi/workflows", params={"projectKey": PROJECT})).json()["workflows"]
    assert {line["workflow_key"]: line["type"] for line in found}.items() >= {"p": "product", "plain": "custom"}.items()
    assert found[-1]["type"] == "product"


# -- who may


@pytest.mark.parametrize(
    ("method", "path", "body", "readable"),
    [
        ("POST", f"{TASKS}/id/1/pipelines/plain/restart", None, False),
        ("POST", f"{TASKS}/id/1/pipelines/plain/cancel", None, False),
        ("POST", f"{TASKS}/create", {"workflow_name": "p", "env_name": "dev", "targets": [TARGET]}, False),
        ("GET", f"{TASKS}/id/1/pipelines/p", None, True),
        ("POST", f"{PRODUCT}/task", {"workflow_key": "p", "project_key": PROJECT, "input": {}}, False),
        ("GET", f"{PRODUCT}/p/task/1?projectKey={PROJECT}", None, True),
        ("GET", f"{PRODUCT}/p/tasks?projectKey={PROJECT}", None, True),
        ("DELETE", f"{PRODUCT}?projectKey={PROJECT}&workflowKey=p", None, False),
    ],
)
async def test_who_may(server: Site, method: str, path: str, body: Any, readable: bool) -> None:
    for token, allowed in ((READER, readable), (SEES, False), (STRANGER, False)):
        reply = await server.call(method, path, token, json=body)
        if allowed:
            assert reply.status_code == 200, (token, reply.text)
            continue
        wanted = {"code": 403, "description": "permission denied", "extra": {}, "message": "Forbidden", "type": "error"}
        if path.startswith("/api/directory/"):
            wanted |= {"resultCode": 403, "errorMsg": "forbidden"}
        assert (reply.status_code, reply.json()) == (403, wanted), token


async def test_strangers_learn_nothing_of_what_there_is(server: Site) -> None:
    bodies = [{"workflow_name": key, "env_name": "dev", "targets": [TARGET]} for key in ("p", "nope")]
    replies = [(await server.post(f"{TASKS}/create", STRANGER, json=body)).json() for body in bodies]
    assert replies[0] == replies[1]
    assert replies[0]["code"] == 403


async def test_commits_of_shared_workflows_and_of_public_projects(server: Site) -> None:
    """Comes last: afterwards the stranger is none any more."""
    for key in ("p", "q"):
        await created(server, workflow_name=key, targets=[TARGET])
    both = {key for key, _ in await numbers_of(server, OTHER, READER)}
    assert {"p", "q"} <= both
    share = {
        "name": "one",
        "user_ids": ["eve"],
        "workflows": [{"name": "q", "collaboration_type": "share", "verbs": ["get_workflow", "run_workflow"]}],
    }
    reply = await server.post("/openapi/collaborations", params={"projectKey": PROJECT}, json=share)
    assert reply.status_code == 200, reply.text
    assert {key for key, _ in await numbers_of(server, OTHER, STRANGER)} == {"q"}
    for key, status in (("q", 200), ("p", 403)):
        body = {"workflow_name": key, "env_name": "dev", "targets": [TARGET]}
        assert (await server.post(f"{TASKS}/create", STRANGER, json=body)).status_code == status
        body = {"workflow_key": key, "project_key": PROJECT, "input": {}}
        assert (await server.post(f"{PRODUCT}/task", STRANGER, json=body)).status_code == status
        reply = await server.get(f"{PRODUCT}/{key}/tasks", STRANGER, params={"projectKey": PROJECT})
        assert reply.status_code == status
    assert await numbers_of(server, OTHER, SEES) == []

    def open_up(tx: Tx) -> None:
        project = tx.resources.find("project", "", PROJECT)
        assert project is not None
        tx.resources.replace(replace(project, document={**project.document, "is_public": True}))

    await server.world.db.write(open_up)
    assert both <= {key for key, _ in await numbers_of(server, OTHER, SEES)}


# -- with an approval ticket


async def test_a_ticket_is_asked_for_here_too(server: Site) -> None:
    reply = await server.post("/api/aslan/workflow/v4", json=workflow("ticketed", enable_approval_ticket=True))
    assert reply.status_code == 200, reply.text
    services = {"enabled": True, "service_list": [{"service_name": "db", "service_module": "db"}]}
    ways = {
        "L": (f"{TASKS}/create", {"workflow_name": "ticketed", "env_name": "qa", "targets": [TARGET]}),
        "P": (
            f"{PRODUCT}/task",
            {"workflow_key": "ticketed", "project_key": PROJECT, "input": {"target_env": "dev", "build": services}},
        ),
    }
    denied = "workflow task creation denied: "
    for way, (path, body) in ways.items():
        needed = "workflow need approval ticket to run, which is not supported by openAPI right now."
        assert told(await server.post(path, json=body)) == (400, 6160, needed)
        for number, limits in (
            (f"{way}-env", {"envs": ["east"]}), (f"{way}-service", {"services": [_pair("other", "x")]}), (way, {}),
        ):  # fmt: skip
            ticket = {"project_key": PROJECT, "approval_id": number, "status": 1, **limits}
            assert (await server.post("/openapi/ticket/approval", json=ticket)).status_code == 200
        found = told(await server.post(path, json=body | {"approval_id": f"{way}-service"}))
        assert found[2].startswith(f"{denied}service ")
        if way == "L":
            found = told(await server.post(path, json=body | {"approval_id": "L-env"}))
            assert found == (400, 6160, f"{denied}environment qa is not allowed by the approval ticket.")
        started = await server.post(path, json=body | {"approval_id": way})
        assert started.status_code == 200, started.text
        used = f"{denied}the approval ticket was used by task ticketed:{started.json()['task_id']} already."
        assert told(await server.post(path, json=body | {"approval_id": way})) == (400, 6160, used)


def _pair(service: str, module: str) -> dict[str, str]:
    return {"service_name": service, "service_module": module}
