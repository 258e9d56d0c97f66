"""Servers that read each other's disks: real HTTP between them, a signature on everything."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from cador.api.internal import Internal
from cador.domain.errors import NotFound, Unavailable
from cador.ports.homes import Holding
from cador.ports.logs import LogAway, LogChunk, LogName
from cador.ports.wire import HOME, NONCE, PROOF, SIGNATURE, SKEW_S, TIME, Key, Kind, PeerAway, frame, log_query
from cador.storage.log_files import decode_name, encode_name
from cador.storage.logs import FileLogs
from cador.storage.objects import open_objects
from cador.storage.peer_files import PeerFiles
from cador.storage.replica_files import Homes
from cador.storage.server_files import ServerFiles, server_files
from support.object_store import until

pytestmark = pytest.mark.anyio

NOON = 1_700_000_000.0
KEY = Key(b"k" * 32)
NAME = LogName("shop & co/1", 7, "api-构建?x=1", 2)
STAMP = 24


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """An ASGI application on a free port; its address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, http="httptools", lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    )
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    work = asyncio.create_task(server.serve(sockets=[listener]))
    await until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await work
        listener.close()


@dataclass
class Held:
    """What the database would say."""

    of: dict[LogName, Holding] = field(default_factory=dict)
    servers: dict[str, str] = field(default_factory=dict)

    async def read(self, fn: Callable[..., Any], *args: Any) -> Any:
        return fn(self, *args)

    @property
    def homes(self) -> "Held":
        return self

    def find(self, workflow: str, number: int, job: str, attempt: int) -> Holding | None:
        found = self.of.get(LogName(workflow, number, job, attempt))
        return replace(found, address=self.servers.get(found.home, "")) if found is not None else None

    def of_task(self, workflow: str, number: int) -> list[Holding]:
        return [
            replace(one, address=self.servers.get(one.home, ""))
            for name, one in sorted(self.of.items(), key=lambda item: -item[0].attempt)
            if (name.workflow, name.task) == (workflow, number)
        ]

    def addresses(self) -> dict[str, str]:
        return self.servers

    def holds(self, home: str, *, ended: bool, name: LogName = NAME) -> None:
        self.of[name] = Holding(name.job, name.attempt, home, "", ended)


class Cluster:
    def __init__(self, folder: Path, stack: contextlib.AsyncExitStack, *, shared: bool = False) -> None:
        self._folder, self._stack, self._shared = folder, stack, shared
        self.held = Held()

    async def add(self, home: str) -> ServerFiles:
        objects = None
        if self._shared:
            (self._folder / "store").mkdir(exist_ok=True)
            objects = open_objects((self._folder / "store").as_uri())
        data = self._folder / home
        data.mkdir(exist_ok=True)
        files = server_files(
            data,
            clock=lambda: NOON,
            max_log_bytes=1 << 20,
            db=self.held,
            home=home,
            key=KEY,
            objects=objects,
            pause_s=0.01,  # type: ignore[arg-type]
        )
        shown = Internal(
            key=KEY, home=home, clock=lambda: NOON, logs=files.disk_logs, blobs=files.disk_blobs, beat_s=0.05
        )
        self.held.servers[home] = await self._stack.enter_async_context(served(shown))
        return files


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with contextlib.AsyncExitStack() as stack:
        yield Cluster(tmp_path, stack)


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with contextlib.AsyncExitStack() as stack:
        yield Cluster(tmp_path, stack, shared=True)


def texts(chunk: LogChunk) -> list[bytes]:
    return [line[STAMP:] for line in chunk.data.splitlines()]


async def collect(files: ServerFiles, into: list[bytes], start: int = 0) -> None:
    async for chunk in files.logs.follow(NAME, start):
        into += texts(chunk)


# -- reading elsewhere -------------------------------------------------------------------------------------------------


async def test_a_log_is_read_from_the_server_that_writes_it(cluster: Cluster) -> None:
    one, two = await cluster.add("one"), await cluster.add("two")
    cluster.held.holds("one", ended=False)
    writer = one.own_logs.open(NAME)
    writer.feed(b"a\nb\nc\n", 6)
    assert await asyncio.to_thread(two.logs.size, NAME) == 3 * (STAMP + 2)
    assert await asyncio.to_thread(two.logs.tail_offset, NAME, 1) == 2 * (STAMP + 2)
    assert texts(await asyncio.to_thread(two.logs.read, NAME, STAMP + 2, 10)) == [b"b"]
    assert not await asyncio.to_thread(two.logs.complete, NAME)
    got: list[bytes] = []
    reader = asyncio.create_task(collect(two, got, STAMP + 2))
    await until(lambda: got == [b"b", b"c"])
    writer.feed(b"d\n", 8)
    await until(lambda: got[-1] == b"d")
    await asyncio.to_thread(writer.close)
    await reader
    assert got == [b"b", b"c", b"d"]
    assert await asyncio.to_thread(two.logs.complete, NAME)
    other = LogName(NAME.workflow, NAME.task, NAME.job, 9)
    cluster.held.holds("one", ended=False, name=other)
    assert not await asyncio.to_thread(two.logs.exists, other)


async def test_a_stream_goes_on_with_the_server_that_takes_over(cluster: Cluster) -> None:
    one, two, three = [await cluster.add(home) for home in ("one", "two", "three")]
    cluster.held.holds("one", ended=False)
    first = one.own_logs.open(NAME)
    raw = b"".join(b"line %d\n" % number for number in range(200))
    first.feed(raw[:1000], 1000)
    got: list[list[bytes]] = [[], [], []]
    readers = [asyncio.create_task(collect(files, into)) for files, into in zip((one, two, three), got, strict=True)]
    await until(lambda: all(len(into) > 100 for into in got))
    first.leave()  # it lost its membership
    second = two.own_logs.open(NAME)
    assert second.raw_offset == 0
    second.feed(raw[:500], 500)  # it has less than was shown already
    cluster.held.holds("two", ended=False)
    await asyncio.sleep(0)
    second.feed(raw[500:], len(raw))
    await asyncio.to_thread(second.close)
    await asyncio.gather(*readers)
    for into in got:
        assert into == raw.splitlines()


async def test_who_is_away_is_named(cluster: Cluster) -> None:
    one, two = await cluster.add("one"), await cluster.add("two")
    cluster.held.holds("one", ended=True)
    await asyncio.to_thread(one.own_logs.open(NAME).close)
    del cluster.held.servers["one"]
    with pytest.raises(LogAway, match="the log of attempt 2 is on one, which is away"):
        await asyncio.to_thread(two.logs.size, NAME)
    with pytest.raises(LogAway):
        await collect(two, [])
    cluster.held.servers["one"] = "http://127.0.0.1:1"  # nobody there
    with pytest.raises(LogAway):
        await asyncio.to_thread(two.logs.read, NAME, 0, 10)
    cluster.held.servers["one"] = cluster.held.servers["two"]  # somebody else there
    with pytest.raises(LogAway):
        await asyncio.to_thread(two.logs.read, NAME, 0, 10)


async def test_a_part_is_not_taken_for_the_whole(cluster: Cluster) -> None:
    one, two = await cluster.add("one"), await cluster.add("two")
    first = one.own_logs.open(NAME)
    first.feed(b"a\n", 2)
    await asyncio.to_thread(first.leave)
    second = two.own_logs.open(NAME)
    second.feed(b"a\nb\n", 4)
    await asyncio.to_thread(second.close)
    cluster.held.holds("two", ended=True)
    whole = await asyncio.to_thread(two.logs.state, NAME)
    assert whole is not None
    assert (whole.complete, whole.away) == (True, "")
    del cluster.held.servers["two"]
    part = await asyncio.to_thread(one.logs.state, NAME)
    assert part is not None
    assert (part.complete, part.away, part.size < whole.size) == (False, "two", True)
    assert texts(await asyncio.to_thread(one.logs.read, NAME, 0, 100)) == [b"a"]


async def test_the_store_serves_what_is_away(shared: Cluster) -> None:
    one, two = await shared.add("one"), await shared.add("two")
    shared.held.holds("one", ended=False)
    writer = one.own_logs.open(NAME)
    writer.feed(b"a\nb\n", 4)
    assert one.shared is not None
    await one.shared.flush()
    del shared.held.servers["one"]
    assert texts(await asyncio.to_thread(two.logs.read, NAME, 0, 100)) == [b"a", b"b"]
    got: list[bytes] = []
    reader = asyncio.create_task(collect(two, got))
    await until(lambda: got == [b"a", b"b"])
    writer.feed(b"c\n", 6)
    await asyncio.to_thread(writer.close)
    copying = asyncio.create_task(one.keep())
    shared.held.holds("one", ended=True)
    await reader
    assert got == [b"a", b"b", b"c"]
    copying.cancel()


async def test_a_log_that_nobody_completed_comes_to_an_end(cluster: Cluster) -> None:
    one, two = await cluster.add("one"), await cluster.add("two")
    writer = one.own_logs.open(NAME)
    writer.feed(b"a\n", 2)
    await asyncio.to_thread(writer.leave)
    cluster.held.holds("one", ended=True)
    for files in (one, two):
        got: list[bytes] = []
        await collect(files, got)
        assert got == [b"a"]


async def test_an_unknown_home_is_looked_for(cluster: Cluster) -> None:
    one, two = await cluster.add("one"), await cluster.add("two")
    await asyncio.to_thread(one.own_logs.open(NAME).close)
    cluster.held.holds("", ended=True)
    assert await asyncio.to_thread(two.logs.complete, NAME)
    assert not await asyncio.to_thread(two.logs.exists, LogName("never", 1, "a", 1))


async def test_artifacts_are_read_from_the_server_of_the_newest_attempt_that_left_some(cluster: Cluster) -> None:
    one, two, three = [await cluster.add(home) for home in ("one", "two", "three")]
    workflow, job = "shop", "api-构建"
    prefix = f"tasks/{workflow}/7/{job}"
    for attempt, home, ended in ((1, "one", True), (2, "two", True), (3, "three", False)):
        cluster.held.holds(home, ended=ended, name=LogName(workflow, 7, job, attempt))
    one.own_blobs.put_bytes(f"{prefix}/archive/a #1", b"of the first")
    three.own_blobs.put_bytes(f"{prefix}/archive/a #1", b"not finished")

    def keys(files: ServerFiles, prefix: str) -> list[tuple[str, int]]:
        return [(blob.key, blob.size) for blob in files.blobs.list(prefix)]

    for files in (one, two, three):
        assert await asyncio.to_thread(keys, files, f"tasks/{workflow}/7") == [(f"{prefix}/archive/a #1", 12)]
        assert await asyncio.to_thread(files.blobs.read, f"{prefix}/archive/a #1", 3, 3) == b"the"
    two.own_blobs.put_bytes(f"{prefix}/archive/b", b"x" * 3_000_000)
    for files in (one, two, three):
        assert await asyncio.to_thread(keys, files, f"tasks/{workflow}/7") == [(f"{prefix}/archive/b", 3_000_000)]
        assert await asyncio.to_thread(files.blobs.read, f"{prefix}/archive/b") == b"x" * 3_000_000
        with pytest.raises(NotFound):
            await asyncio.to_thread(files.blobs.size, f"{prefix}/archive/c")
    del cluster.held.servers["two"]
    with pytest.raises(Unavailable, match="what api-构建 left is on two, which is away"):
        await asyncio.to_thread(three.blobs.size, f"{prefix}/archive/c")


async def test_artifacts_come_from_the_store_when_their_server_is_away(shared: Cluster) -> None:
    one, two = await shared.add("one"), await shared.add("two")
    shared.held.holds("one", ended=True, name=LogName("shop", 7, "api", 1))
    one.own_blobs.put_bytes("tasks/shop/7/api/archive/a", b"0123456789")
    copying = asyncio.create_task(one.keep())
    assert one.uploads is not None
    uploads = one.uploads
    await until(lambda: uploads.figures().pending == 0)
    copying.cancel()
    del shared.held.servers["one"]
    assert await asyncio.to_thread(two.blobs.read, "tasks/shop/7/api/archive/a", 5, 100) == b"56789"
    assert [blob.key for blob in await asyncio.to_thread(two.blobs.list, "tasks/shop/7")] == [
        "tasks/shop/7/api/archive/a"
    ]
    with pytest.raises(Unavailable):
        await asyncio.to_thread(two.blobs.size, "tasks/shop/7/api/archive/b")


async def test_what_another_server_replaced_is_not_copied_later(shared: Cluster) -> None:
    one = await shared.add("one")
    one.own_blobs.put_bytes("tasks/shop/7/api/archive/a", b"old")
    await asyncio.to_thread(one.own_logs.open(NAME).close)
    shared.held.holds("one", ended=True)
    shared.held.holds("one", ended=True, name=LogName("shop", 7, "api", 1))
    shared.held.holds("two", ended=True, name=LogName("shop", 7, "api", 2))
    again = await shared.add("one")  # started again
    assert again.uploads is not None
    uploads = again.uploads
    copying = asyncio.create_task(again.keep())
    await until(lambda: uploads.figures().pending == 0)
    copying.cancel()
    assert again.shared is not None
    assert again.shared.stored.state(NAME) is not None
    assert not (one.disk_blobs.path("x").parents[1] / "store" / "blobs").exists()


# -- who may ask -------------------------------------------------------------------------------------------------------


class Raw:
    """Sends what it is told to."""

    def __init__(self, address: str) -> None:
        self._port = int(address.rpartition(":")[2])

    async def get(self, target: str, headers: dict[str, str], method: str = "GET") -> tuple[int, dict[str, str]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode("latin-1").split("\r\n")
        writer.close()
        named = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        return int(head[0].split()[1]), named


def signed(target: str, home: str = "one", now: float = NOON, key: Key = KEY) -> dict[str, str]:
    made = key.sign(target, home, "n" * 32, now)
    return {TIME: made.time, NONCE: made.nonce, HOME: made.home, SIGNATURE: made.signature}


async def test_only_signed_questions_are_answered(cluster: Cluster) -> None:
    one = await cluster.add("one")
    await asyncio.to_thread(one.own_logs.open(NAME).close)
    raw = Raw(cluster.held.servers["one"])
    target = f"/log/state?{log_query(NAME)}"
    status, headers = await raw.get(target, signed(target))
    assert status == 200
    assert KEY.proves(headers[PROOF], "n" * 32, "one")
    other = f"/log/state?{log_query(LogName('x', 1, 'y', 1))}"
    refused = {
        "nothing sent": {},
        "another key": signed(target, key=Key(b"other" * 8)),
        "another target": signed(other),
        "another home": signed(target, "two"),
        "too old": signed(target, now=NOON - SKEW_S - 1),
        "too new": signed(target, now=NOON + SKEW_S + 1),
        "no number": {**signed(target), TIME: "nan"},
        "no ASCII": {**signed(target), SIGNATURE: "\xe9" * 64},
        "a user's token": {"Authorization": "Bearer " + "x" * 40},
    }
    for what, sent in refused.items():
        status, headers = await raw.get(target, sent)
        assert (status, PROOF in headers) == (404, False), what
    assert (await raw.get(target, signed(target), method="POST"))[0] == 404
    assert (await raw.get("/api/v1/version", {}))[0] == 404


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/log/state?", 400),
        ("/log/state?workflow=a&task=x&job=b&attempt=1", 400),
        ("/log/read?" + log_query(NAME, start=-5, limit=10**12), 404),
        ("/log/read?" + log_query(NAME, start=0), 404),
        ("/log/follow?" + log_query(NAME), 400),
        ("/blob/size?key=" + quote("../../etc/passwd"), 400),
        ("/blob/read?key=" + quote("tasks/../x") + "&start=0&length=10", 400),
        ("/blob/list?prefix=" + quote("a//b"), 400),
        ("/blob/size?key=none", 404),
        ("/nothing?a=b", 404),
    ],
)
async def test_hostile_questions_are_refused(cluster: Cluster, target: str, status: int) -> None:
    await cluster.add("one")
    found, headers = await Raw(cluster.held.servers["one"]).get(target, signed(target))
    assert (found, PROOF in headers) == (status, True)


async def test_only_proven_answers_are_believed(tmp_path: Path) -> None:
    body = b'{"size": 1, "complete": true, "written": false}'
    answers: dict[str, Any] = {"proof": "", "body": body, "status": 200}

    async def impostor(scope: Any, receive: Any, send: Any) -> None:
        sent = {name.decode(): value.decode() for name, value in scope["headers"]}
        proof = KEY.prove(sent[NONCE], sent[HOME]) if answers["proof"] == "right" else answers["proof"]
        headers = [(PROOF.encode(), proof.encode())]
        await send({"type": "http.response.start", "status": answers["status"], "headers": headers})
        await send({"type": "http.response.body", "body": answers["body"], "more_body": False})

    peers = PeerFiles(KEY, clock=lambda: NOON)
    async with served(impostor) as address:

        async def state() -> Any:
            return await asyncio.to_thread(peers.log_state, address, "one", NAME)

        async def follow() -> list[LogChunk]:
            return [chunk async for chunk in peers.follow(address, "one", NAME, 0, chunk=10)]

        for proof in ("", "x" * 64):
            answers["proof"] = proof
            with pytest.raises(PeerAway):
                await state()
            with pytest.raises(PeerAway):
                await follow()
        answers["proof"] = "right"
        assert (await state()).size == 1
        for bad in (b"", b"not frames", frame(Kind.DATA, 0, b"a\n"), frame(Kind.DATA, 0, b"abc")[:-1], b"\x09" * 13):
            answers["body"] = bad
            with pytest.raises(PeerAway):
                await follow()
        answers["body"] = frame(Kind.DATA, 0, b"a\n") + frame(Kind.BEAT, 2) + frame(Kind.LAST, 2, b"b\n")
        assert await follow() == [LogChunk(0, 2, b"a\n", last=False), LogChunk(2, 4, b"b\n", last=True)]
        with pytest.raises(PeerAway):
            await asyncio.to_thread(peers.log_read, address, "one", NAME, 0, 10)
    for address in ("", "http://host", "https://127.0.0.1:1", "file:///etc/passwd", "http://[::1", "http://h:99999"):
        with pytest.raises(PeerAway):
            await asyncio.to_thread(peers.log_state, address, "one", NAME)


def test_the_key_is_never_shown() -> None:
    assert "k" * 8 not in repr(KEY)


async def test_beginnings_that_another_server_went_on_with_are_removed(cluster: Cluster) -> None:
    one = await cluster.add("one")
    mine, taken, gone, running = (LogName("shop/流", 7, job, 1) for job in ("mine", "taken %41.", "gone", "running"))
    for name, home in ((mine, "one"), (taken, "two"), (running, "two")):
        cluster.held.holds(home, ended=False, name=name)
    writers = {name: one.own_logs.open(name) for name in (mine, taken, gone, running)}
    for name, writer in writers.items():
        writer.feed(b"text\n", 5)
        writer.sync()
        if name is not running:
            writer.leave()
    assert one.homes is not None
    await one.tidy(one.homes, 0.0)  # too young
    assert all(one.disk_logs.exists(name) for name in writers)
    await one.tidy(one.homes, 1e12)
    assert [name.job for name in writers if one.disk_logs.exists(name)] == ["mine", "running"]


@given(st.text())
def test_names_are_told_from_their_files(name: str) -> None:
    assert decode_name(encode_name(name)) in (name, None)
    assert len(name) > 16 or decode_name(encode_name(name)) == name


# -- what is kept for others -------------------------------------------------------------------------------------------


def test_output_is_kept_where_another_server_may_need_it(tmp_path: Path) -> None:
    kept = FileLogs(tmp_path / "kept", clock=lambda: NOON, max_bytes=1_000, keep_output=True).open(NAME)
    given = FileLogs(tmp_path / "given", clock=lambda: NOON, max_bytes=1_000).open(NAME)
    for writer in (kept, given):
        writer.feed(b"x" * 99 + b"\n", 100)
    assert (kept.sync(), given.sync()) == (0, 100)
    kept.feed(b"y\n" * 1_000, 2_100)
    assert kept.sync() == 2_100


def test_a_new_run_goes_on_with_the_log(tmp_path: Path) -> None:
    logs = FileLogs(tmp_path, clock=lambda: NOON)
    writer = logs.open(NAME)
    writer.feed(b"first, and longer\n", 18)
    writer.leave()
    again = logs.open(NAME, (), 1)
    assert again.raw_offset == 0
    again.feed(b"second\n", 7)
    again.leave()
    third = logs.open(NAME, (), 1)
    assert third.raw_offset == 7
    third.feed(b"second\nend\n", 11)
    third.close()
    assert texts(logs.read(NAME, 0, 1_000)) == [b"first, and longer", b"second", b"end"]


async def test_readers_of_one_log_ask_the_database_once() -> None:
    held, asked = Held(), 0
    held.holds("one", ended=True)

    class Counting(Held):
        async def read(self, fn: Callable[..., Any], *args: Any) -> Any:
            nonlocal asked
            asked += 1
            await asyncio.sleep(0)
            return fn(held, *args)

    homes = Homes(Counting(), "one")  # type: ignore[arg-type]
    await asyncio.gather(*(homes.find(NAME) for _ in range(100)))
    assert asked == 1
