"""What every request meets: limits, unexpected failures, health, figures, the documentation, sessions, own routes."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog

from api.site import ADMIN, DEADLINE_S, Site, definition, site
from cador.api.app import ROUTES, create_app
from cador.api.health import Check
from cador.api.permissions import LOGGED_IN, NOBODY
from cador.api.routing import Call, Limits, Routes
from cador.domain.errors import Conflict, Invalid, Unavailable
from cador.operations.sessions import TRIES_HERE, Sessions
from cador.storage.uploads import Figures
from support.world import PROJECT

pytestmark = pytest.mark.anyio

TASK = "/openapi/workflows/custom/task"


def breaking() -> Routes:
    routes = Routes("breaking")

    @routes.get("/openapi/breaks", LOGGED_IN)
    async def breaks(call: Call) -> None:
        raise ZeroDivisionError("the secret reason")

    @routes.get("/api/v1/breaks", LOGGED_IN)
    async def breaks_too(call: Call) -> None:
        raise ZeroDivisionError("the secret reason")

    @routes.get("/openapi/away", LOGGED_IN)
    async def away(call: Call) -> None:
        raise Unavailable("the database is away")

    @routes.get("/api/v1/conflict", LOGGED_IN)
    async def conflict(call: Call) -> None:
        raise Conflict("it changed meanwhile")

    @routes.get("/api/v1/invalid", LOGGED_IN)
    async def invalid(call: Call) -> None:
        raise Invalid("must be positive", place="size")

    @routes.get("/forgets", NOBODY)
    async def forgets(call: Call) -> Any:
        return call.actor.name

    @routes.post("/openapi/echo", LOGGED_IN)
    async def echo(call: Call) -> Any:
        return {"bytes": len(await call.body()), "query": call.query}

    return routes


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Site]:
    limits = Limits(body_bytes=1000, body_s=0.3)
    async with site(tmp_path, limits=limits, routes=(*ROUTES, breaking())) as made:
        yield made


async def test_unexpected_failures_tell_nothing(small: Site) -> None:
    with structlog.testing.capture_logs() as logged:
        reply = await small.get("/openapi/breaks", headers={"X-Request-Id": "req-1"})
    assert reply.status_code == 500
    assert reply.json() == {"code": 500, "description": "unexpected failure", "message": "Internal Error: "}
    assert reply.headers["x-request-id"] == "req-1"
    assert [(entry["event"], entry["request_id"]) for entry in logged] == [("request_failed", "req-1")]
    own = await small.get("/api/v1/breaks")
    assert own.headers["content-type"] == "application/problem+json"
    assert own.json() == {
        "type": "about:blank", "title": "Internal Server Error", "status": 500, "detail": "unexpected failure",
    }  # fmt: skip
    assert "secret" not in reply.text + own.text
    assert (await small.get("/forgets", None)).status_code == 500


async def test_what_is_away_says_when_to_come_back(small: Site) -> None:
    reply = await small.get("/openapi/away")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    assert reply.json()["description"] == "the database is away"


async def test_own_routes_have_real_statuses(small: Site) -> None:
    conflict = await small.get("/api/v1/conflict")
    assert (conflict.status_code, conflict.json()["detail"]) == (409, "it changed meanwhile")
    invalid = await small.get("/api/v1/invalid")
    assert (invalid.status_code, invalid.json()["detail"]) == (400, "size: must be positive")


async def test_bodies_beyond_the_limit(small: Site) -> None:
    assert (await small.post("/openapi/echo", content=b"x" * 1000)).json()["bytes"] == 1000
    reply = await small.post("/openapi/echo", content=b"x" * 1001)
    assert reply.status_code == 413
    assert reply.json()["code"] == 413

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    reply = await small.post("/openapi/echo", content=pieces())
    assert reply.status_code == 413
    assert (await small.post("/openapi/echo", None, content=b"x" * 1001)).status_code == 401


async def test_slow_bodies_are_given_up(small: Site) -> None:
    async with small.served() as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /openapi/echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\nContent-Length: 9\r\n"
        writer.write(f"{head}\r\nabc".encode())
        async with asyncio.timeout(DEADLINE_S):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"took too long" in answer


@pytest.mark.parametrize("path", ["/openapi/echo?a=%00", "/openapi/workflows/custom/a%00b/detail?projectKey=p"])
async def test_nul_characters_are_refused(small: Site, path: str) -> None:
    assert (await small.call("POST" if "echo" in path else "GET", path)).status_code == 400


async def test_too_many_parameters(small: Site) -> None:
    assert (await small.post("/openapi/echo?" + "&".join(["a=1"] * 300))).status_code == 400


async def test_paths_nobody_serves(server: Site) -> None:
    for path in ("/nothing", "/healthz/", "/api"):
        reply = await server.get(path, None)
        assert (reply.status_code, reply.text) == (404, f"Invalid path: {path}")
    reply = await server.post("/healthz", None)
    assert (reply.status_code, reply.text) == (405, "Method not allowed: POST /healthz")


async def test_the_access_log_gives_a_terminal_no_orders(server: Site) -> None:
    app = create_app(server.world.ctx)
    with structlog.testing.capture_logs() as logged:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test") as client:
            for path in ("/a%1b%5B2J%0d%0ab", "/p%C3%A4th"):
                assert (await client.get(path)).status_code == 404
    assert [entry["path"] for entry in logged] == ["/a\\x1b[2J\\r\\nb", "/päth"]


async def test_health(tmp_path: Path) -> None:
    state: dict[str, str | None] = {"reason": None}

    async def ask() -> str | None:
        return state["reason"]

    async with site(tmp_path, checks=(Check("engine", ask),)) as made:
        assert (await made.get("/healthz", None)).text == "ok\n"
        reply = await made.get("/readyz", None)
        assert (reply.status_code, reply.json()) == (
            200, {"ready": True, "checks": {"database": "ok", "engine": "ok"}},
        )  # fmt: skip
        state["reason"] = "the loop does not turn"
        reply = await made.get("/readyz", None)
        assert reply.status_code == 503
        assert reply.json()["checks"]["engine"] == "the loop does not turn"


async def test_what_can_be_done_without_for_a_while_is_named(tmp_path: Path) -> None:
    async def ask() -> str | None:
        return "the bucket does not exist"

    async with site(tmp_path, checks=(Check("store", ask, needed=False),)) as made:
        reply = await made.get("/readyz", None)
        assert (reply.status_code, reply.json()["checks"]["store"]) == (200, "the bucket does not exist")


async def test_figures_of_the_shared_store(server: Site) -> None:
    assert "cador_store" not in (await server.get("/metrics", None)).text
    found = [Figures(3, 7.5, 2, 10, 1, "away"), Figures(0, 0.0, 2, 13, 1, "")]
    server.metrics.watch_store(lambda: found[0])
    for away, pending, done in ((1, 3, 10), (0, 0, 13)):
        text = (await server.get("/metrics", None)).text
        for line in (
            f"cador_store_away {away}.0",
            f"cador_store_pending {pending}.0",
            f"cador_store_copies_total {done}.0",
            "cador_store_failures_total 2.0",
            "cador_store_refused_total 1.0",
        ):
            assert line in text
        del found[:-1]


async def test_figures(server: Site) -> None:
    await server.create("w")
    await server.run("w")
    await server.done("w", 1)
    await server.get("/openapi/workflows/custom/w/tasks", params={"projectKey": PROJECT})
    await server.get("/nowhere/at/all", None)
    server.metrics.job_ended("freestyle", "passed", 1.0)
    text = (await server.get("/metrics", None)).text
    for line in (
        'cador_http_requests_total{method="GET",route="/openapi/workflows/custom/{workflowKey}/tasks",status="200"}',
        'cador_http_requests_total{method="GET",route="(none)",status="404"} 1.0',
        "cador_queue_waiting 0.0",
        "cador_queue_running 0.0",
        'cador_jobs_ended_total{status="passed",type="freestyle"} 1.0',
    ):
        assert line in text, line
    assert "/nowhere" not in text
    await server.call("BREW", "/nowhere", None)
    assert "BREW" not in (await server.get("/metrics", None)).text


async def test_the_documentation_describes_every_route(server: Site) -> None:
    found = (await server.get("/openapi.json", None)).json()
    assert found["openapi"] == "3.1.0"
    described = {(method.upper(), path) for path, methods in found["paths"].items() for method in methods}
    registered = {(route.method, route.paths[0].replace(":path}", "}")) for group in ROUTES for route in group.routes}
    assert registered <= described
    ids = [operation["operationId"] for methods in found["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))
    text = json.dumps(found)
    schemas = found["components"]["schemas"]
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in schemas
    run = found["paths"][TASK]["post"]
    assert run["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/RunBody")
    page = await server.get("/docs", None)
    assert page.headers["content-type"].startswith("text/html")
    assert "/openapi/workflows/custom/task" in page.text
    assert "<script" not in page.text


# -- sessions


async def test_logging_in(server: Site) -> None:
    sessions = Sessions(server.world.ctx)
    hashed = await sessions.hash_password("Correct1horse")

    def give(tx: Any) -> None:
        user = tx.people.by_account("ann")
        tx.people.replace_user(type(user)(**{**{n: getattr(user, n) for n in user.__slots__}, "password_hash": hashed}))

    await server.world.db.write(give)
    reply = await server.post("/api/v1/login", None, json={"account": "ann", "password": "Correct1horse"})
    assert reply.status_code == 200
    token = reply.json()["token"]
    assert token.startswith("cador_")
    me = (await server.get("/api/v1/me", token)).json()
    assert (me["account"], me["roles"], me["admin"]) == ("ann", {PROJECT: ["read-only"]}, False)
    for body in ({"account": "ann", "password": "wrong"}, {"account": "nobody", "password": "wrong"}):
        reply = await server.post("/api/v1/login", None, json=body)
        assert (reply.status_code, reply.json()["detail"]) == (401, "account or password is wrong")
    for body in ({}, {"account": 5, "password": "x"}):
        assert (await server.post("/api/v1/login", None, json=body)).status_code == 400


async def test_guessing_is_slowed_down(server: Site) -> None:
    body = {"account": "ann", "password": "wrong"}
    for _ in range(TRIES_HERE):
        assert (await server.post("/api/v1/login", None, json=body)).status_code == 401
    reply = await server.post("/api/v1/login", None, json=body)
    assert reply.status_code == 429
    assert int(reply.headers["retry-after"]) > 0


# -- the server's own routes


async def test_own_view_of_a_task(server: Site) -> None:
    await server.create("w", "echo hello")
    await server.run("w")
    await server.done("w", 1)
    found = (await server.get("/api/v1/tasks/w/1")).json()
    assert (found["workflow"], found["number"], found["status"], found["queue"]) == ("w", 1, "passed", None)
    assert found["created_at"].endswith("Z")
    job = found["stages"][0]["jobs"][0]
    assert (job["name"], job["attempt"], len(job["attempts"])) == ("say", 1, 1)
    steps = job["attempts"][0]["steps"]
    assert all(step["started_at"] <= step["ended_at"] for step in steps)
    assert any(step["name"] == "shell" for step in steps)
    events = (await server.get("/api/v1/tasks/w/1/events")).json()
    assert [event["id"] for event in events["events"]] == sorted(event["id"] for event in events["events"])
    later = (await server.get(f"/api/v1/tasks/w/1/events?after={events['next']}")).json()
    assert later == {"events": [], "next": None, "over": True}
    for path in ("/api/v1/tasks/w/9", "/api/v1/tasks/none/1", "/api/v1/tasks/w/9/events"):
        reply = await server.get(path)
        assert (reply.status_code, reply.headers["content-type"]) == (404, "application/problem+json")
    assert (await server.get("/api/v1/tasks/w/x")).status_code == 400
    assert (await server.get("/api/v1/version", None)).json()["name"] == "cador"


async def test_artifacts_are_taken_away_safely(server: Site) -> None:
    await server.create("w")
    await server.run("w")
    await server.done("w", 1)
    page = b"<script>alert(1)</script>"
    server.world.blobs.put_bytes("tasks/w/1/say/archive/ä page.html", page)
    server.world.blobs.put_bytes("tasks/w/2/say/archive/other", b"x")
    listed = (await server.get("/api/v1/tasks/w/1/artifacts")).json()["artifacts"]
    assert {"path": "say/archive/ä page.html", "size": len(page)} in listed
    path = "/api/v1/tasks/w/1/artifacts/say/archive/ä page.html"
    reply = await server.get(path)
    assert reply.content == page
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%A4%20page.html"
    assert "sandbox" in reply.headers["content-security-policy"]
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert (await server.get(path, headers={"Range": "bytes=1-6"})).content == b"script"
    head = await server.call("HEAD", path)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(page)))
    for other in (
        "say/archive",
        "say/archive/none",
        "../2/say/archive/other",
        "say//archive",
        "%2e%2e/2/say/archive/other",
    ):
        reply = await server.get(f"/api/v1/tasks/w/1/artifacts/{other}")
        assert reply.status_code == 404, other
    assert (await server.get(path, "stranger-token-0000")).status_code == 403


async def test_a_store_that_hangs_holds_up_nobody_else(server: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await server.create("w")
    await server.run("w")
    await server.done("w", 1)
    answers = threading.Event()

    def hangs(*_: Any) -> Any:
        assert answers.wait(DEADLINE_S)
        raise Unavailable("the store does not answer")

    monkeypatch.setattr(server.world.blobs, "list", hangs)
    monkeypatch.setattr(server.world.blobs, "size", hangs)
    path = "/api/v1/tasks/w/1/artifacts"
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(server.get(path + tail)) for tail in ("", "/say/archive/x") for _ in range(20)]
        try:
            async with asyncio.timeout(DEADLINE_S / 2):
                assert await asyncio.to_thread(lambda: "a thread for a job") == "a thread for a job"
        finally:
            answers.set()
    assert {one.result().status_code for one in asked} == {503}


async def test_deciding_about_a_failed_job(server: Site) -> None:
    sent = definition("w", "exit 1")
    sent["stages"][0]["jobs"][0]["error_policy"] = {
        "policy": "manual_check",
        "approval_users": [{"type": "user", "user_id": "ann", "user_name": "Ann"}],
    }
    assert (await server.post("/api/aslan/workflow/v4", json=sent)).status_code == 200
    await server.run("w")
    waiting = "wait_for_manual_error_handling"
    await server.world.until("w", 1, lambda d: d.stages[0].jobs[0].row.status == waiting)
    found = await server.task("w", 1)
    assert (found["status"], found["stages"][0]["jobs"][0]["status"]) == ("running", waiting)
    path = "/api/v1/tasks/w/1/jobs/say/decision"
    assert (await server.post(path, json={"ignore": "yes"})).status_code == 400
    assert (await server.post(path, "manager-token-00000", json={"ignore": True})).status_code == 403
    reply = await server.post(path, "reader-token-000000", json={"ignore": True})
    assert reply.json() == {"message": "success"}
    found = await server.done("w", 1)
    assert (found["status"], found["stages"][0]["jobs"][0]["status"]) == ("passed", "unstable")
    assert (await server.post(path, "reader-token-000000", json={"ignore": True})).status_code == 409


async def test_the_application_answers_from_a_socket(server: Site) -> None:
    async with server.served() as url, httpx2.AsyncClient(base_url=url) as client:
        reply = await client.get("/api/v1/version")
        assert reply.status_code == 200
    assert create_app(server.world.ctx) is not None
