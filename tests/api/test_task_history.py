"""What happened to a task, and how it stood: over HTTP."""

from typing import Any

import pytest

from api.site import Site, definition
from api.test_tasks import APPROVE, CREATE, waits, with_approval

pytestmark = pytest.mark.anyio

TASK = "/api/v1/tasks/w/1"


async def events_of(server: Site, path: str = TASK) -> list[dict[str, Any]]:
    reply = await server.get(f"{path}/events")
    assert reply.status_code == 200, reply.text
    found: list[dict[str, Any]] = reply.json()["events"]
    return found


async def test_events_name_what_they_are_about(server: Site) -> None:
    await server.post(CREATE, json=with_approval("w"))
    await server.run("w")
    await waits(server, "w", 1)
    assert not (await server.get(f"{TASK}/events")).json()["over"]
    vote = {"task_id": 1, "workflow_key": "w", "stage_name": "talk", "approve": True, "comment": "go"}
    await server.post(APPROVE, json=vote)
    await server.done("w", 1)
    found = await events_of(server)
    assert [(event["kind"], event["about"], event["who"]) for event in found] == [
        ("created", "", "Admin"),
        ("admitted", "", ""),
        ("voted", "talk", "Admin"),
        ("admitted", "", ""),
        ("job_started", "say", ""),
        ("job_ended", "say", ""),
    ]
    assert [event["text"] for event in found][2:] == [
        "Admin approved talk: go", "let in", "say started (attempt 1)", "say passed",
    ]  # fmt: skip
    assert (await server.get(f"{TASK}/events")).json()["over"]


async def test_the_state_at_each_event_is_as_it_was(server: Site) -> None:
    await server.post(CREATE, json=with_approval("w"))
    await server.run("w")
    await waits(server, "w", 1)
    before = (await server.get(TASK)).json()
    asked = (await events_of(server))[-1]["at"]
    await server.post(APPROVE, json={"task_id": 1, "workflow_key": "w", "stage_name": "talk", "approve": True})
    await server.done("w", 1)
    past = (await server.get(f"{TASK}/state", params={"at": asked.replace("Z", "999+00:00")})).json()
    now = (await server.get(TASK)).json()
    assert past["agrees"]
    assert past["last_event"]["kind"] == "admitted"
    for key in ("status", "status_detail", "error", "created_at", "started_at", "ended_at", "retries"):
        assert past[key] == before[key], key
    assert past["stages"][0]["approval"] == before["stages"][0]["approval"]
    assert past["stages"][0]["jobs"][0].items() <= before["stages"][0]["jobs"][0].items()
    last = (await server.get(f"{TASK}/state", params={"at": server.world.clock()})).json()
    assert (last["status"], last["last_event"]["kind"]) == ("passed", "job_ended")
    assert last["stages"][0]["jobs"][0].items() <= now["stages"][0]["jobs"][0].items()


WRONG = (
    ("", "at is a moment"),
    ("yesterday", "at is a moment"),
    ("2026-11-21T10:00:00", "at is a moment"),  # of which zone?
    ("2026-13-21T10:00:00Z", "at is a moment"),
    ("nan", "at is a moment"),
    ("inf", "at is a moment"),
    ("-5", "at is a moment"),
    ("1e300", "at is a moment"),
    ("100", "at: w/1 was created at "),
    ("99999999999", "has not come yet"),
)


async def test_moments_that_are_none(server: Site) -> None:
    await server.create("w")
    await server.run("w")
    await server.done("w", 1)
    for at, says in WRONG:
        reply = await server.get(f"{TASK}/state", params={"at": at})
        assert reply.status_code == 400, reply.text
        assert says in reply.json()["detail"], at


async def test_a_history_that_nobody_can_read_is_said(server: Site) -> None:
    await server.post(CREATE, json=definition("w"))
    await server.run("w")
    await server.done("w", 1)

    def spoil(tx: Any) -> None:
        tx.connection.exec_driver_sql("UPDATE event SET kind = 'job_exploded' WHERE kind = 'job_ended'")

    await server.world.db.write(spoil)
    assert (await events_of(server))[-1]["text"] == "job exploded say"
    reply = await server.get(f"{TASK}/state", params={"at": server.world.clock()})
    assert reply.status_code == 409
    assert "this version knows no kind 'job_exploded'" in reply.json()["detail"]
    early = (await events_of(server))[1]["at"]
    past = (await server.get(f"{TASK}/state", params={"at": early.replace("Z", "999Z")})).json()
    assert not past["agrees"]


async def test_the_report_is_a_page_that_may_do_nothing(server: Site) -> None:
    await server.create("w")
    await server.run("w")
    await server.done("w", 1)
    reply = await server.get(f"{TASK}/report")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert reply.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert reply.headers["content-disposition"] == "inline; filename*=UTF-8''w-1.html"
    assert reply.text.startswith("<!doctype html>")
    assert "hello" in reply.text
    assert (await server.get("/api/v1/tasks/w/9/report")).status_code == 404
