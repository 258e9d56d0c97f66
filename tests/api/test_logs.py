"""Log streams and whole logs, over a real socket: framing, waiting, following, resuming, leaving."""

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.site import ADMIN, DEADLINE_S, Site, definition, site
from cador.api.routing import Limits
from cador.ports.logs import LogName, LogState
from support.world import PROJECT

pytestmark = pytest.mark.anyio

SSE = "/openapi/logs/sse/v4/workflow/{}/{}/{}/{}"
WHOLE = "/openapi/logs/log/v4/workflow/{}/{}/{}"
OWN = "/api/v1/tasks/{}/{}/jobs/{}/log"
AUTH = {"Authorization": f"Bearer {ADMIN}", "Accept-Language": "en"}
QUICK = Limits(keep_alive_s=0.2, start_wait_s=1.0)


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[Site]:
    """A server that keeps connections alive often and waits briefly."""
    async with site(tmp_path, limits=QUICK) as made:
        yield made


@contextlib.asynccontextmanager
async def opened(server: Site, path: str, **headers: str) -> AsyncIterator[httpx2.Response]:
    async with (
        server.served() as url,
        httpx2.AsyncClient(base_url=url, headers={**AUTH, **headers}, timeout=DEADLINE_S) as client,
        client.stream("GET", path) as reply,
    ):
        yield reply


async def text_until(chunks: AsyncIterator[bytes], wanted: bytes) -> bytes:
    seen = b""
    async with asyncio.timeout(DEADLINE_S):
        while wanted not in seen:
            seen += await anext(chunks)
    return seen


def data_of(stream: bytes) -> list[str]:
    """Lines of a documented stream, without their time stamps."""
    events = [part for part in stream.split(b"\n\n") if part and not part.startswith(b":")]
    lines = []
    for event in events:
        name, data = event.split(b"\n", 1)
        assert name == b"event:message"
        assert data.startswith(b"data:")
        lines.append(data[5:].decode())
    return lines


def said(lines: list[str], *words: str) -> list[str]:
    return [line.split("]   ", 1)[-1] for line in lines if any(line.endswith(word) for word in words)]


async def test_a_finished_log_is_sent_byte_for_byte(server: Site) -> None:
    await server.create("w", "echo one; echo two; echo '   three'")
    await server.run("w")
    await server.done("w", 1)
    whole = (await server.get(WHOLE.format("w", 1, "say"))).text
    lines = whole.splitlines()
    assert said(lines, "one", "two", "   three") == ["one", "two", "   three"]
    reply = await server.get(SSE.format("w", 1, "say", 0))
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-cache"
    assert "content-encoding" not in reply.headers
    assert reply.content == b"".join(b"event:message\ndata:" + line.rstrip().encode() + b"\n\n" for line in lines)
    for tail, expected in (("2", lines[-2:]), ("x", lines[-10:]), ("-1", lines), ("999", lines)):
        stream = (await server.get(SSE.format("w", 1, "say", tail))).content
        assert data_of(stream) == [line.rstrip() for line in expected]


async def test_a_running_log_is_followed_to_its_end(quick: Site, tmp_path: Path) -> None:
    go = tmp_path / "go"
    await quick.create("w", f"echo begun; until test -e {go}; do sleep 0.02; done; echo over")
    await quick.run("w")
    async with opened(quick, SSE.format("w", 1, "say", 10)) as reply:
        chunks = reply.aiter_raw()
        seen = await text_until(chunks, b"begun\n\n")
        seen += await text_until(chunks, b":\n\n")  # nothing is said, the connection stays alive
        assert b"over" not in seen
        go.touch()
        async for chunk in chunks:
            seen += chunk
    assert said(data_of(seen), "begun", "over") == ["begun", "over"]


async def test_a_stream_waits_for_the_job_and_gives_up(quick: Site) -> None:
    await quick.create("w", "sleep 60", concurrency_limit=1)
    await quick.run("w")
    await quick.run("w")
    async with opened(quick, SSE.format("w", 2, "say", 10)) as reply:
        stream = b"".join([chunk async for chunk in reply.aiter_raw()])
    assert stream.replace(b":\n\n", b"") == b""
    assert stream


async def test_a_stream_waits_for_the_job_and_follows_it(server: Site, tmp_path: Path) -> None:
    go = tmp_path / "go"
    await server.create("w", f"until test -e {go}; do sleep 0.02; done; echo said", concurrency_limit=1)
    await server.run("w")
    await server.run("w")
    async with opened(server, SSE.format("w", 2, "say", 10)) as reply:
        go.touch()
        stream = b"".join([chunk async for chunk in reply.aiter_raw()])
    assert said(data_of(stream), "said") == ["said"]


async def test_jobs_without_a_log_end_at_once(server: Site) -> None:
    sent = definition("w", "exit 1")
    never = {**sent["stages"][0]["jobs"][0], "name": "never"}
    ask = {
        "name": "ask",
        "type": "approval",
        "spec": {
            "timeout": 5,
            "type": "native",
            "native_approval": {"needed_approvers": 1, "approve_users": [{"user_id": "ann", "user_name": "Ann"}]},
        },
    }
    sent["stages"] += [{"name": "later", "jobs": [never]}, {"name": "last", "jobs": [ask]}]
    assert (await server.post("/api/aslan/workflow/v4", json=sent)).status_code == 200
    await server.run("w", "say", "never", "ask")
    await server.done("w", 1)
    for job in ("never", "ask"):
        assert (await server.get(SSE.format("w", 1, job, 10))).content == b""
        reply = await server.get(WHOLE.format("w", 1, job))
        assert (reply.status_code, reply.content) == (200, b"")
        events = (await server.get(OWN.format("w", 1, job))).text
        assert events == 'event: end\ndata: {"status":"","attempt":0}\n\n'


async def test_a_viewer_that_leaves_frees_everything(quick: Site) -> None:
    await quick.create("w", "echo begun; sleep 60")
    await quick.run("w")
    async with opened(quick, SSE.format("w", 1, "say", 10)) as reply:
        chunks = reply.aiter_raw()
        await text_until(chunks, b"begun")
        assert _followers()
        await reply.aclose()
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.wait(_followers())


def _followers() -> set[asyncio.Task[Any]]:
    """Tasks of the server that follow a log for somebody."""
    return {task for task in asyncio.all_tasks() if "LiveLog" in getattr(task.get_coro(), "__qualname__", "")}


async def test_logs_that_are_not_there(server: Site) -> None:
    await server.create("w")
    await server.run("w")
    for form, tail in ((SSE, ["10"]), (WHOLE, [])):
        for key, number, job, code, text in (
            ("none", 1, "say", 6161, "mongo: no documents in result"),
            ("w", 9, "say", 6161, "mongo: no documents in result"),
            ("w", 1, "sing", 6161, "job sing not found"),
            ("w", "x", "say", 400, "invalid task id"),
        ):
            reply = await server.get(form.format(key, number, job, *tail))
            assert (reply.status_code, reply.json()["code"], reply.json()["description"]) == (400, code, text)
    reply = await server.get(OWN.format("w", 1, "sing"))
    assert (reply.status_code, reply.json()["detail"]) == (404, "job sing not found")
    assert reply.headers["content-type"] == "application/problem+json"


async def test_other_names_of_a_job(server: Site) -> None:
    sent = definition("w")
    sent["stages"][0]["jobs"][0]["name"] = "say-it"
    assert (await server.post("/api/aslan/workflow/v4", json=sent)).status_code == 200
    await server.run("w", "say-it")
    await server.done("w", 1)
    row = (await server.task("w", 1))["stages"][0]["jobs"][0]
    texts = {
        (await server.get(WHOLE.format("w", 1, name))).text
        for name in ("say-it", "say_it", row["key"], row["display_name"])
    }
    assert len(texts) == 1
    assert "hello" in texts.pop()


# -- whole logs


async def big_log(server: Site) -> bytes:
    """A finished task with a log of ten million bytes."""
    await server.create("big", "seq -f 'line %06.0f of the log, quite a long one to fill the page' 1 120000")
    await server.run("big")
    await server.done("big", 1)
    name = LogName("big", 1, "say", 1)
    data = b""
    while not (chunk := server.world.logs.read(name, len(data), 1 << 20)).last:
        data += chunk.data
    return data + chunk.data


async def test_whole_logs_in_every_form(server: Site) -> None:
    text = await big_log(server)
    assert len(text) > 9_000_000
    path = WHOLE.format("big", 1, "say")
    async with server.served() as url, httpx2.AsyncClient(base_url=url, headers=AUTH, timeout=DEADLINE_S) as client:
        plain = {"Accept-Encoding": "identity"}
        reply = await client.get(path, headers=plain)
        assert reply.content == text
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        assert int(reply.headers["content-length"]) == len(text)
        head = await client.head(path, headers=plain)
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) == len(text)
        async with client.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as packed:
            assert packed.headers["content-encoding"] == "gzip"
            raw = b"".join([chunk async for chunk in packed.aiter_raw()])
        assert gzip.decompress(raw) == text
        assert len(raw) < len(text) / 4
        for asked, start, end in (
            ("bytes=0-99", 0, 100),
            ("bytes=1234567-2345678", 1234567, 2345679),
            ("bytes=-10", len(text) - 10, len(text)),
            (f"bytes={len(text) - 5}-", len(text) - 5, len(text)),
        ):
            part = await client.get(path, headers={**plain, "Range": asked})
            assert part.status_code == 206
            assert part.content == text[start:end]
            assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(text)}"
        past = await client.get(path, headers={**plain, "Range": f"bytes={len(text)}-"})
        assert (past.status_code, past.headers["content-range"]) == (416, f"bytes */{len(text)}")


# -- the server's own stream


def own_events(stream: str) -> list[dict[str, str]]:
    events = []
    for part in stream.split("\n\n"):
        event: dict[str, str] = {}
        for line in part.split("\n"):
            name, _, value = line.partition(":")
            if name:
                event[name] = f"{event[name]}\n{value.removeprefix(' ')}" if name in event else value.removeprefix(" ")
        if event:
            events.append(event)
    return events


async def test_a_part_of_a_log_says_where_the_rest_is(server: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await server.create("w", "echo one")
    await server.run("w")
    await server.done("w", 1)
    whole = (await server.get(WHOLE.format("w", 1, "say"))).text
    logs = server.world.logs
    state = logs.state

    def part(name: LogName) -> LogState | None:
        found = state(name)
        return replace(found, size=len(whole), complete=False, away="ci-2") if found is not None else None

    monkeypatch.setattr(logs, "state", part)
    reply = await server.get(WHOLE.format("w", 1, "say"))
    assert reply.text.startswith(whole)
    assert said(reply.text[len(whole) :].splitlines(), "away") == [
        "the rest of the log of attempt 1 is on ci-2, which is away"
    ]
    assert "the rest of the log of attempt 1 is on ci-2" in (await server.get("/api/v1/tasks/w/1/report")).text


async def test_the_own_stream_has_ids_to_resume_from(server: Site) -> None:
    await server.create("w", "for n in $(seq 1 2000); do echo line $n; done")
    await server.run("w")
    await server.done("w", 1)
    path = OWN.format("w", 1, "say")
    whole = (await server.get(path, headers={"Accept": "text/plain"})).text
    events = own_events((await server.get(f"{path}?tail=0")).text)
    assert json.loads(events[0]["data"]) == {"attempt": 1, "offset": 0}
    assert (events[0]["event"], events[-1]["event"]) == ("start", "end")
    assert json.loads(events[-1]["data"]) == {"status": "passed", "attempt": 1}
    lines = [event for event in events if "id" in event]
    assert "\n".join(event["data"] for event in lines) + "\n" == whole
    assert int(lines[-1]["id"]) == len(whole.encode())
    middle = whole.index("\n", len(whole) // 2) + 1
    for resumed in (
        await server.get(path, headers={"Last-Event-ID": str(middle)}),
        await server.get(f"{path}?from={middle}"),
    ):
        rest = [event["data"] for event in own_events(resumed.text) if "id" in event]
        assert "\n".join(rest) + "\n" == whole[middle:]
    last = [event["data"] for event in own_events((await server.get(path)).text) if "id" in event]
    assert "\n".join(last).split("\n") == whole.splitlines()[-1000:]
    assert (await server.get(f"{path}?from=x")).status_code == 400
    assert (await server.get(f"{path}?attempt=7")).status_code == 404
    beyond = own_events((await server.get(f"{path}?from={len(whole) + 5}")).text)
    assert json.loads(beyond[0]["data"])["offset"] == 0


async def test_streams_end_with_their_jobs(server: Site) -> None:
    """The end of the log and the end of the job come at the same instant, and each wakes the stream."""
    await server.create("w", "echo said")
    async with server.served() as url, httpx2.AsyncClient(base_url=url, headers=AUTH, timeout=DEADLINE_S) as client:
        for _ in range(15):
            number = await server.run("w")
            async with asyncio.timeout(DEADLINE_S):
                documented, own = await asyncio.gather(
                    client.get(SSE.format("w", number, "say", 0)), client.get(OWN.format("w", number, "say"))
                )
            assert said(data_of(documented.content), "said") == ["said"]
            assert json.loads(own_events(own.text)[-1]["data"]) == {"status": "passed", "attempt": 1}


@pytest.mark.real
@pytest.mark.slow
async def test_the_own_stream_goes_on_with_the_next_attempt(server: Site, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    sent = definition("w", f"echo try; test -e {flag} || {{ touch {flag}; exit 3; }}")
    sent["stages"][0]["jobs"][0]["error_policy"] = {"policy": "retry", "maximum_retry": 1}
    assert (await server.post("/api/aslan/workflow/v4", json=sent)).status_code == 200
    await server.run("w")
    async with opened(server, OWN.format("w", 1, "say")) as reply:
        stream = b"".join([chunk async for chunk in reply.aiter_raw()]).decode()
    events = [event for event in own_events(stream) if "event" in event]
    assert [(event["event"], json.loads(event["data"])) for event in events] == [
        ("start", {"attempt": 1, "offset": 0}),
        ("start", {"attempt": 2, "offset": 0}),
        ("end", {"status": "passed", "attempt": 2}),
    ]
    first = (await server.get(f"{OWN.format('w', 1, 'say')}?attempt=1", headers={"Accept": "text/plain"})).text
    assert "try" in first
    assert PROJECT  # the project of all workflows here


async def test_many_viewers_see_the_same(server: Site, tmp_path: Path) -> None:
    go = tmp_path / "go"
    await server.create("w", f"until test -e {go}; do sleep 0.02; done; for n in $(seq 1 500); do echo $n; done")
    await server.run("w")
    async with server.served() as url, httpx2.AsyncClient(base_url=url, headers=AUTH, timeout=DEADLINE_S) as client:

        async def watch() -> Any:
            return (await client.get(SSE.format("w", 1, "say", 0))).content

        async with asyncio.TaskGroup() as group:
            viewers = [group.create_task(watch()) for _ in range(20)]
            go.touch()
        streams = {viewer.result().replace(b":\n\n", b"") for viewer in viewers}
    assert len(streams) == 1
    assert len(said(data_of(streams.pop()), "]   500")) == 1
