"""What the server's own routes answer is what ``/openapi.json`` says of them: of tasks in every state."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.site import PROJECT, Site, definition, site
from cador.api.app import ROUTES
from cador.api.openapi import JSON
from openapi.conformity import described, reply_faults, resolved

pytestmark = pytest.mark.anyio

TAILS = ("", "/why", "/events", "/artifacts", "/jobs/say/attempts", "/state?at=")
DOCUMENTED = "/openapi/workflows/custom/task"
SCHEMA = "GET /api/v1/schema/cador.yaml.json"
"""Answers a JSON schema."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Workflows by what became of their task 1: ``passed``, ``failed`` and repeated, ``asked``, ``paused``, ``full``
    (task 2 waits)."""
    async with site(tmp_path_factory.mktemp("replies")) as made:
        await made.create("passed", params=[{"name": "KEY", "type": "string", "value": "1", "is_credential": True}])
        await made.create("failed", "exit 1")
        users = [{"user_id": "ann", "user_name": "Ann"}]
        for key, more in (
            ("asked", {"approval": {"enabled": True, "native_approval": {"approve_users": users}}}),
            ("paused", {"manual_exec": {"enabled": True, "manual_exec_users": [{"type": "user", **users[0]}]}}),
        ):
            await made.create(key, stages=[{**definition(key)["stages"][0], **more}])
        await made.create("full", "sleep 60", concurrency_limit=1)
        for key in ("passed", "failed", "asked", "paused", "full", "full"):
            await made.run(key)
        for key in ("passed", "failed"):
            await made.done(key, 1)
        edited = {"inputs": [{"job_name": "say", "parameters": {"kv": [{"key": "WHO", "value": "you"}]}}]}
        assert (await made.post("/api/v1/tasks/failed/1/retry", json=edited)).status_code == 200
        await made.done("failed", 1)
        await made.world.until("asked", 1, lambda detail: detail.row.waiting_for == "approval")
        await made.world.until("paused", 1, lambda detail: detail.row.status == "pause")
        yield made


async def faults(server: Site, path: str) -> list[str]:
    reply = await server.get(path)
    kind = reply.headers["content-type"]
    body: Any = reply.json() if kind.partition(";")[0].endswith("json") else None
    return [f"{path}: {fault}" for fault in reply_faults("GET", path.partition("?")[0], reply.status_code, kind, body)]


@pytest.mark.parametrize("task", ["passed/1", "failed/1", "asked/1", "paused/1", "full/1", "full/2"])
async def test_tasks(server: Site, task: str) -> None:
    own = f"/api/v1/tasks/{task}"
    key, number = task.split("/")
    ended = (await server.get(own)).json()["ended_at"]
    now = server.world.clock()
    for tail in TAILS:
        path = f"{own}{tail}{now if tail.endswith('=') else ''}"
        assert (await server.get(path)).status_code == 200, path
        assert await faults(server, path) == []
    assert await faults(server, f"{DOCUMENTED}?workflowKey={key}&taskId={number}") == []
    assert await faults(server, f"/openapi/workflows/custom/{key}/detail?projectKey={PROJECT}") == []
    assert (ended is None) == (task not in ("passed/1", "failed/1"))


@pytest.mark.parametrize("path", ["/api/v1/version", "/api/v1/me", "/api/v1/me/permissions"])
async def test_the_server(server: Site, path: str) -> None:
    assert (await server.get(path)).status_code == 200
    assert await faults(server, path) == []


async def test_a_definition_that_is_looked_at_before_it_is_kept(server: Site) -> None:
    path, body = "/api/aslan/workflow/v4/lint", definition("new")
    for cluster in ("", "none"):
        body["stages"][0]["jobs"][0]["spec"]["properties"]["cluster_id"] = cluster
        reply = await server.post(path, json=body)
        assert reply.status_code == 200, reply.text
        assert reply_faults("POST", path, 200, reply.headers["content-type"], reply.json()) == []
        assert ("warnings" in reply.json()) == bool(cluster)


def test_every_route_that_answers_something_says_what() -> None:
    """Without a word of it a route is described as one that answers "success" alone."""
    silent = [
        f"{route.method} {route.paths[0]}"
        for group in ROUTES
        for route in group.routes
        if route.reply is None and route.reply_type == JSON and route.handler.__annotations__["return"] is not None
    ]
    assert silent == []


def test_every_reply_says_what_is_in_it() -> None:
    bare = []
    for path, methods in described()["paths"].items():
        for method, operation in methods.items():
            for kind, content in operation["responses"]["200"].get("content", {}).items():
                schema = resolved(content["schema"])
                if kind.endswith("json") and not schema.keys() - {"type", "description", "title"}:
                    bare.append(f"{method.upper()} {path}")
    assert bare == [SCHEMA]


def test_every_model_has_a_name_of_its_own() -> None:
    assert [name for name in described()["components"]["schemas"] if "__" in name] == []
