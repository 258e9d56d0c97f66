"""What a task has beside its jobs - a time, a word, a remark, breakpoints - through the whole application."""

from typing import Any

import pytest

from api.site import PROJECT, Site
from api.test_resources import ok, refused

pytestmark = pytest.mark.anyio
TASK = "/openapi/workflows/custom/task"
CREATE = "/api/aslan/workflow/v4"


def definition(name: str = "w", script: str = "exit 0", job: Any = None, **more: Any) -> dict[str, Any]:
    step = {"name": "shell", "type": "shell", "spec": {"script": script}}
    one = {"name": "say", "type": "freestyle", "spec": {"properties": {"timeout": 60}, "steps": [step]}, **(job or {})}
    stages = [{"name": "s", "parallel": False, "jobs": [one]}]
    return {"name": name, "project": PROJECT, "concurrency_limit": -1, "stages": stages, **more}


def start(**more: Any) -> dict[str, Any]:
    return {"workflow_key": "w", "project_key": PROJECT, "inputs": [{"job_name": "say"}], **more}


async def detail(server: Site, number: int) -> Any:
    return await ok(await server.get(TASK, params={"taskId": str(number), "workflowKey": "w"}))


async def test_a_client_that_knows_no_remarks_starts_what_requires_one(server: Site) -> None:
    await ok(await server.post(CREATE, json=definition(remark_required=True)))
    await ok(await server.post(TASK, json=start()))


async def test_a_remark_is_written_shown_and_changed(server: Site) -> None:
    await ok(await server.post(CREATE, json=definition(remark_required=True)))
    refused(await server.post(TASK, json=start(remark=" ")), 6160, "workflow remark is required.")
    await ok(await server.post(TASK, json=start(remark="first")))
    await server.done("w", 1)
    assert (await detail(server, 1))["remark"] == "first"
    own, documented = "/api/v1/tasks/w/1/remark", "/openapi/workflows/custom/w/task/1"
    for path, text in ((own, "second"), (documented, "third")):
        await ok(await server.call("PUT", path, json={"remark": text}))
        listed = await ok(await server.get("/openapi/workflows/custom/w/tasks", params={"projectKey": PROJECT}))
        assert listed["workflow_tasks"][0]["remark"] == text
    await ok(await server.call("PUT", own, json={"remark": ""}))
    assert (
        "remark"
        not in (await ok(await server.get("/openapi/workflows/custom/w/tasks", params={"projectKey": PROJECT})))[
            "workflow_tasks"
        ][0]
    )
    for path in (own, documented):
        assert (await server.call("PUT", path, json={"remark": "x" * 4097})).status_code == 400
        assert (await server.call("PUT", path, json={"remark": 7})).status_code == 400
        assert (await server.call("PUT", path, json={})).status_code == 400
    assert (await server.call("PUT", "/api/v1/tasks/w/2/remark", json={"remark": "x"})).status_code == 404
    assert (await server.call("PUT", "/api/v1/tasks/w/one/remark", json={"remark": "x"})).status_code == 400


async def test_a_word_cancels_the_older_task(server: Site) -> None:
    await ok(await server.post(CREATE, json=definition(script="sleep 30")))
    await ok(await server.post(TASK, json=start(auto_cancel="pr:1")))
    await ok(await server.post(TASK, json=start(auto_cancel="pr:1")))
    await server.done("w", 1)
    first = await detail(server, 1)
    assert (first["status"], first["task_revoker"]) == ("cancelled", "Admin")
    assert (await ok(await server.get("/api/v1/tasks/w/2")))["auto_cancel"] == "pr:1"
    assert (await server.post(TASK, json=start(auto_cancel="x" * 256))).status_code == 400
    assert (await server.post(TASK, json=start(auto_cancel=["x"]))).status_code == 400
    await server.call("DELETE", TASK, params={"taskId": "2", "workflowKey": "w"})
    await server.done("w", 2)


async def test_times_and_breakpoints_of_a_definition_are_kept(server: Site) -> None:
    sent = definition(job={"breakpoint_before": True}, task_timeout=240, debug=True)
    await ok(await server.post(CREATE, json=sent))
    path, mine = "/openapi/workflows/custom/w/detail", {"projectKey": PROJECT}
    shown = await ok(await server.get(path, params=mine))
    assert (shown["task_timeout"], shown["debug"]) == (240, True)
    job = shown["stages"][0]["jobs"][0]
    assert (job["breakpoint_before"], "breakpoint_after" in job) == (True, False)
    await ok(await server.call("PUT", f"{CREATE}/w", params=mine, json=shown))
    again = await ok(await server.get(path, params=mine))
    assert {key: again[key] for key in ("task_timeout", "debug", "stages")} == {
        key: shown[key] for key in ("task_timeout", "debug", "stages")
    }
    for wrong in (-1, "1", 366 * 24 * 60 + 1):
        reply = await server.call("PUT", f"{CREATE}/w", params=mine, json={**sent, "task_timeout": wrong})
        assert reply.status_code == 400
        assert "task_timeout" in reply.json()["description"]
    reply = await ok(await server.post(TASK, json=start(inputs=[{"job_name": "say", "breakpoint_after": True}])))
    assert reply["warnings"] == [
        "job say: breakpoints are kept, but nothing stops at them", "debug is kept, but nothing stops at breakpoints",
    ]  # fmt: skip
    await server.done("w", 1)
    told = await detail(server, 1)
    job = told["stages"][0]["jobs"][0]
    assert (told["status"], told["debug"], job["breakpoint_before"], job["breakpoint_after"]) == (
        "passed",
        True,
        True,
        True,
    )
    own = await ok(await server.get("/api/v1/tasks/w/1"))
    assert (own["timeout_min"], own["debug"], own["archived"]) == (240, True, False)
