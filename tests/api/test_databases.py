"""The life of a workflow over HTTP on both databases."""

from pathlib import Path

import pytest

from api.site import definition, site
from support.databases import database_url, postgres_server, postgres_url, sqlite_url  # noqa: F401 - fixtures
from support.world import PROJECT

pytestmark = pytest.mark.anyio


async def test_a_workflow_from_creation_to_deletion(tmp_path: Path, database_url: str) -> None:  # noqa: F811
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
