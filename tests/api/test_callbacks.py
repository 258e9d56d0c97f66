"""A callback over HTTP, from the create call of the oldest editions to a receiver that is a real server."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import quote

import pytest

from api.site import Site, definition, site
from cador.operations.callbacks import CallbackCourier
from cador.storage.tables import job_task
from support.http_peer import Asked, Peer, peer, reply
from support.world import PROJECT

pytestmark = pytest.mark.anyio
VARS = {"k1": 1, "k2": "value2", "deep": {"list": [None, True, 1.5, "ü"]}}


class Hook:
    """Answers with *statuses*, one after the other, then 200."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.heard = threading.Semaphore(0)

    def __call__(self, asked: Asked, handler: BaseHTTPRequestHandler) -> None:
        reply(handler, self.statuses.pop(0) if self.statuses else 200, {})
        self.heard.release()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with site(tmp_path_factory.mktemp("callbacks")) as made:
        await made.world.add("environment", "dev", {"env_key": "dev"})
        repo = {"codehost_name": "hub", "repo_namespace": "team", "repo_name": "app", "branch": "main"}
        build = {
            "name": "b", "project_key": PROJECT, "build_os": "focal", "build_script": "exit 3", "repo_info": [repo],
            "services": [{"service_name": "svc", "service_module": "api"}],
        }  # fmt: skip
        await made.world.add("build", "b", build)
        entry = {"service_name": "svc", "service_module": "api", "build_name": "b", "key_vals": [], "repos": []}
        spec = {"docker_registry_id": "", "service_and_builds": [entry]}
        stages = [{"name": "build", "jobs": [{"name": "build", "type": "zadig-build", "spec": spec}]}]
        shop = definition("shop-dev", stages=stages, workflow_type="product")
        await made.world.add("codehost", "hub", {"name": "hub", "type": "other", "address": "http://127.0.0.1:9"},
                             system=True)  # fmt: skip
        created = await made.post("/api/aslan/workflow/v4", json=shop)
        assert created.status_code == 200, created.text
        yield made


async def start(server: Site, hook: Peer, **callback: Any) -> int:
    target = {"name": "svc", "build": {"repos": []}}
    callback = {"callback_url": quote(f"{hook.url}/end?x=1&y=%2F", safe=""), **callback}
    body = {"workflow_name": "shop-dev", "env_name": "dev", "targets": [target], "callback": callback}
    found = await server.post("/api/directory/workflowTask/create", json=body)
    assert found.status_code == 200, found.text
    number: int = found.json()["task_id"]
    return number


async def heard(server: Site, number: int, hook: Hook, times: int = 1) -> list[dict[str, Any]]:
    """The events of the deliveries, once the hook has been called so often and the task tells of it."""
    for _ in range(times):
        assert await asyncio.to_thread(hook.heard.acquire, timeout=30)
    async with asyncio.timeout(30):
        while True:
            reply = await server.get(f"/api/v1/tasks/shop-dev/{number}/events")
            found = [event for event in reply.json()["events"] if event["kind"] == "delivery_tried"]
            if len(found) >= times:
                return found
            task_id = (await server.world.detail("shop-dev", number)).row.id
            await server.world.engine.changed(task_id, 0.25)


async def test_the_end_of_a_task_comes_as_the_documents_say(server: Site) -> None:
    hook = Hook()
    with peer(hook) as receiver:
        number = await start(server, receiver, callback_vars=VARS)
        (event,) = await heard(server, number, hook)
    (asked,) = receiver.asked
    assert (asked.method, asked.path) == ("POST", "/end?x=1&y=%2F")
    assert asked.headers["content-type"].startswith("application/json")
    assert asked.headers["x-delivery-id"]
    assert "authorization" not in asked.headers
    body = json.loads(asked.body)
    detail = await server.task("shop-dev", number)
    assert body == {
        "status": "failed", "task_id": number, "workflow_name": "shop-dev", "error": detail["error"], "images": [],
        "vars": VARS,
    }  # fmt: skip
    assert body["error"]
    assert "was told: failed" in event["text"]


async def test_without_variables_there_is_null_and_a_retry_is_told_again(server: Site) -> None:
    hook = Hook(201, 204)
    with peer(hook) as receiver:
        number = await start(server, receiver)
        await heard(server, number, hook)
        again = await server.post(f"/api/directory/workflowTask/id/{number}/pipelines/shop-dev/restart")
        assert again.status_code == 200, again.text
        await heard(server, number, hook)
    first, second = receiver.asked
    assert json.loads(first.body)["vars"] is None
    assert first.headers["x-delivery-id"] != second.headers["x-delivery-id"]


async def test_an_address_that_is_not_called_is_told_in_the_events(server: Site) -> None:
    with peer(lambda asked, handler: None) as nobody:
        number = await start(server, nobody, callback_url="http://169.254.169.254/latest/meta-data/")
        await server.done("shop-dev", number)
        hook = Hook()
        hook.heard.release()
        (event,) = await heard(server, number, hook)
    assert event["data"]["ok"] is False
    assert event["data"]["again_at"] is None
    assert "outgoing.allow" in event["text"]
    assert "meta-data" not in json.dumps(event)


async def test_the_images_of_builds_that_passed_go_along(server: Site) -> None:
    hook = Hook()
    with peer(hook) as receiver:
        number = await start(server, receiver)
        await heard(server, number, hook)
    courier = CallbackCourier(server.world.outgoing, server.world.sealer)

    def compose(tx: Any) -> str:
        task_id = tx.tasks.find_id("shop-dev", number)
        (job,) = tx.tasks.jobs(task_id)
        naming = {"host": "reg.corp", "namespace": "team"}
        tx.tasks.set_plan(job.id, {"spec": {"service_name": "svc", "naming": naming}})
        tx.tasks.set_outputs(job.id, {"IMAGE": "reg.corp/team/api:1"})
        tx.connection.execute(job_task.update().where(job_task.c.id == job.id).values(status="passed"))
        return courier.compose(tx, task_id, "passed")

    body = json.loads(await server.world.db.write(compose))
    assert body["images"] == [
        {"image": "reg.corp/team/api:1", "service_name": "svc", "registry_repo": "https://reg.corp/team"}
    ]
    assert body["status"] == "passed"
