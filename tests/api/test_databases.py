"""The life of a workflow over HTTP on both databases."""

import re
from pathlib import Path

import pytest

from api.site import definition, site
from cador.api.app import ROUTES
from cador.api.permissions import Where
from support.world import PROJECT

pytestmark = pytest.mark.anyio


async def test_a_workflow_from_creation_to_deletion(tmp_path: Path, database_url: str) -> None:
    async with site(tmp_path, url=database_url) as server:
        key = {"projectKey": PROJECT}
        await server.create("w")
        again = await server.post("/api/aslan/workflow/v4", json=definition("w"))
        assert again.json()["code"] == 6540
        taken = await server.post("/api/aslan/workflow/v4", json={**definition("v"), "display_name": "The w"})
        assert taken.json()["code"] == 6540
        put = await server.call("PUT", "/api/aslan/workflow/v4/w", params=key, json=definition("w", "echo second"))
        assert put.status_code == 200
        assert await server.run("w") == 1
        assert (await server.done("w", 1))["status"] == "passed"
        assert "second" in (await server.get("/openapi/logs/log/v4/workflow/w/1/say")).text
        listed = await server.get("/openapi/workflows/custom/w/tasks", params=key)
        assert (listed.json()["total"], len(listed.json()["workflow_tasks"])) == (1, 1)
        assert (await server.get("/api/v1/tasks/w/1/events")).json()["events"]
        assert (await server.get("/api/v1/tasks/w/1/state", params={"at": server.world.clock()})).json()["agrees"]
        assert (await server.get("/api/v1/tasks/w/1/why")).json()["reasons"][0]["reason"] == "finished"
        assert (await server.get("/api/v1/tasks/w/1/report")).status_code == 200
        assert "cador_queue_running 0.0" in (await server.get("/metrics", None)).text
        assert (await server.get("/readyz", None)).status_code == 200
        gone = await server.call("DELETE", "/openapi/workflows/custom", params={**key, "workflowKey": "w"})
        assert gone.status_code == 200
        assert (await server.get("/openapi/workflows", params=key)).json() == {"workflows": []}


NAMES = {**dict.fromkeys(("workflow", "workflowKey", "workflow_id", "pipelineName"), "w"), "job": "say"}
FAR = (1 << 31, -(1 << 40))


@pytest.mark.postgres
async def test_numbers_beyond_every_row_are_nobodys_failure(tmp_path: Path, postgres_url: str) -> None:
    """Columns of PostgreSQL have a size, and refuse to be compared with what does not fit."""
    wrong = []
    async with site(tmp_path, url=postgres_url) as server:
        await server.create("w")
        for route in (route for group in ROUTES for route in group.routes):
            if route.permission.where is Where.NOBODY or not ("{" in route.paths[0] or ":int" in str(route.query)):
                continue
            typed = [entry.partition(":")[0] for entry in route.query if entry.rstrip("!").endswith(":int")]
            for number in FAR:
                path = re.sub(r"\{(\w+)[^}]*\}", lambda one: NAMES.get(one[1], str(number)), route.paths[0])  # noqa: B023
                query = {"projectKey": PROJECT, "workflowKey": "w", **dict.fromkeys(typed, str(number))}
                options = {} if route.method == "GET" else {"json": {}}
                reply = await server.call(route.method, path, params=query, **options)
                if b"unexpected failure" in reply.content or reply.status_code >= 502:
                    wrong.append((route.method, path, query, reply.status_code))
    assert wrong == []
