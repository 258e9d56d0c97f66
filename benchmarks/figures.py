"""Figures of speed: each is measured on a server of its own and gives rows of the table."""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bare import chain_s, latency_ms, pool_s
from serving import CADOR, PROJECT, Server, folder, start_many


@dataclass
class Row:
    """One line of the table. ``met``: None when the bar says nothing about what was measured."""

    figure: str
    measured: str
    bare: str = ""
    ratio: float | None = None
    bar: str = ""
    met: bool | None = None


@dataclass
class Bench:
    """What a figure is measured on. ``quick``: fewer of everything, to see that it works."""

    kind: str
    database: Callable[[], str]
    quick: bool

    @contextmanager
    def server(self, slots: int = 10) -> Iterator[Server]:
        with folder() as place:
            server = Server(place, self.database(), slots=slots)
            try:
                server.project()
                yield server
            finally:
                server.close()

    def some(self, many: int, few: int) -> int:
        return few if self.quick else many


def quantiles(values: list[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def first_start(bench: Bench) -> Iterator[Row]:
    """First start to ready: an empty folder, all tables made; memory after a second of doing nothing."""
    ready, memory = [], []
    for _ in range(bench.some(5, 2)):
        with bench.server() as server:
            ready.append(server.ready_s)
            time.sleep(1)
            memory.append(server.rss_mb())
    bare = min(_took([sys.executable, "-c", "import pydantic, sqlalchemy, starlette, uvicorn"]) for _ in range(3))
    took, rss = statistics.median(ready), statistics.median(memory)
    yield Row("first start to ready", f"{took:.2f} s", f"imports alone {bare:.2f} s", None, "<= 1 s", took <= 1)
    yield Row("RSS idle", f"{rss:.0f} MB", "", None, "<= 90 MB", rss <= 90)
    if bench.kind == "sqlite":
        times = [_took([CADOR, "--help"]) for _ in range(5)]
        python = min(_took([sys.executable, "-c", "pass"]) for _ in range(5))
        helped = statistics.median(times)
        yield Row("cador --help", f"{helped * 1000:.0f} ms", f"python {python * 1000:.0f} ms", helped / python,
                  "<= 150 ms", helped <= 0.150)  # fmt: skip


def _took(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun


def latencies(servers: Sequence[Server], rounds: int) -> tuple[list[list[float]], list[float]]:
    """Request sent -> the job's own process says the time, in milliseconds: of each server, and bare, all in turns, so
    that whatever else the machine does disturbs all alike."""
    key = f"latency-{time.monotonic_ns()}"
    places = [server.folder / "scratch" / key for server in servers]
    for server, place in zip(servers, places, strict=True):
        server.define(key, {"a": f"echo $EPOCHREALTIME >{place}.part; mv {place}.part {place}"})
    ours: list[list[float]] = [[] for _ in servers]
    bare: list[float] = []
    for _ in range(rounds + 5):
        for server, place, found in zip(servers, places, ours, strict=True):
            place.unlink(missing_ok=True)
            begun = time.time()
            number = server.run(key, ["a"])
            while not place.exists():
                time.sleep(0.0005)
            found.append((float(place.read_text()) - begun) * 1000)
            server.wait(key, number)
        bare.append(latency_ms())
    return [found[5:] for found in ours], bare[5:]


def latency(bench: Bench) -> Iterator[Row]:
    with bench.server() as server:
        (ours,), bare = latencies([server], bench.some(200, 30))
    (p50, p99), (bare50, bare99) = quantiles(ours), quantiles(bare)
    ratio = p50 / bare50
    yield Row(
        "request -> job's process runs, idle",
        f"p50 {p50:.1f} p99 {p99:.1f} ms",
        f"p50 {bare50:.1f} p99 {bare99:.1f} ms",
        ratio,
        "p50 <= 15 ms, <= 4x; p99 <= 40 ms",
        p50 <= 15 and ratio <= 4 and p99 <= 40,
    )


def chain(bench: Bench) -> Iterator[Row]:
    """40 jobs of 10 ms, one after the other."""
    names = [f"j{n}" for n in range(40)]
    ours, bare = [], []
    with bench.server() as server:
        server.define("chain", dict.fromkeys(names, "sleep 0.01"))
        for _ in range(bench.some(5, 2)):
            begun = time.perf_counter()
            detail = server.wait("chain", server.run("chain", names))
            ours.append(time.perf_counter() - begun)
            assert detail["status"] == "passed", detail
            bare.append(chain_s(40, "sleep 0.01"))
    took, base = statistics.median(ours), statistics.median(bare)
    yield Row("chain of 40 serial 10 ms jobs", f"{took:.2f} s", f"{base:.2f} s", took / base, "<= 1.1 s, <= 1.8x",
              took <= 1.1 and took <= 1.8 * base)  # fmt: skip


def light(bench: Bench) -> Iterator[Row]:
    """400 light jobs, 10 at a time: as tasks of one job, and as one task of 400 parallel jobs."""
    count = bench.some(400, 100)
    with bench.server() as server:
        server.define("light", {"a": "true"})
        server.drained("light", asyncio.run(start_many(server.port, "light", ["a"], 20)))
        used, begun = server.processor_s(), time.perf_counter()
        server.drained("light", asyncio.run(start_many(server.port, "light", ["a"], count)))
        took = time.perf_counter() - begun
        each_ms = (server.processor_s() - used) / count * 1000
        names = [f"j{n}" for n in range(count)]
        server.define("wide", dict.fromkeys(names, "true"), parallel=True)
        begun = time.perf_counter()
        assert server.wait("wide", server.run("wide", names))["status"] == "passed"
        wide = time.perf_counter() - begun
    bare = pool_s(count, 10)
    bar = 2.5 * count / 400
    yield Row(f"{count} light jobs, 10 slots, a task each", f"{took:.2f} s", f"{bare:.2f} s", took / bare,
              f"<= {bar:.1f} s, <= 5x", took <= bar and took <= 5 * bare)  # fmt: skip
    yield Row(f"{count} light jobs in one task, its 5 slots", f"{wide:.2f} s", f"{bare:.2f} s", wide / bare)
    yield Row("server's processor time for each", f"{each_ms:.1f} ms")


def sustained(bench: Bench) -> Iterator[Row]:
    """Job starts per second as long as there is work, with requests coming all the while."""
    count = bench.some(2000, 200)
    with bench.server() as server:
        server.define("many", {"a": "true"})
        server.drained("many", asyncio.run(start_many(server.port, "many", ["a"], 50)))
        begun = time.perf_counter()
        server.drained("many", asyncio.run(start_many(server.port, "many", ["a"], count)))
        took = time.perf_counter() - begun
        with_memory = server.rss_mb()
    bare = pool_s(400, 10)
    rate, least = count / took, 150 if bench.kind == "sqlite" else 120
    yield Row("job starts sustained, one process", f"{rate:.0f}/s", f"{400 / bare:.0f}/s", None, f">= {least}/s",
              rate >= least)  # fmt: skip
    yield Row(f"RSS after {count} tasks", f"{with_memory:.0f} MB")


def queue(bench: Bench) -> Iterator[Row]:
    """Queued one-job tasks are drained."""
    count = bench.some(5000, 300)
    with bench.server() as server:
        server.define("queue", {"a": "true"})
        begun = time.perf_counter()
        last = asyncio.run(start_many(server.port, "queue", ["a"], count, clients=8))
        accepted = time.perf_counter() - begun
        server.drained("queue", last, 0.1)
        took = time.perf_counter() - begun
    bar = 60 * count / 5000
    yield Row(f"{count} queued one-job tasks drained", f"{took:.1f} s", f"accepted in {accepted:.1f} s", None,
              f"<= {bar:.1f} s", took <= bar)  # fmt: skip


def lists(server: Server, key: str, rounds: int = 200) -> tuple[float, float]:
    times = []
    path = f"/openapi/workflows/custom/{key}/tasks?projectKey={PROJECT}&pageSize=50"
    for _ in range(rounds):
        begun = time.perf_counter()
        server.client.call("GET", path)
        times.append((time.perf_counter() - begun) * 1000)
    return quantiles(times)


def lines(bench: Bench) -> Iterator[Row]:
    """A line written -> seen by a reader of the live log; how much one log takes; how many readers."""
    count, megabytes, crowd = 200, bench.some(100, 20), bench.some(2000, 200)
    with bench.server() as server:
        server.define("lines", {"a": f"for n in $(seq {count}); do echo at $EPOCHREALTIME; sleep 0.01; done"})
        p50, p99 = quantiles(asyncio.run(_watch(server, "lines", 1)))
        yield Row("line written -> seen in SSE", f"p50 {p50:.1f} p99 {p99:.1f} ms", f"{count} lines", None,
                  "p99 <= 100 ms", p99 <= 100)  # fmt: skip

        text = "0123456789012345678901234567890123456789012345678901234567890"
        server.define("flood", {"a": f"yes {text} | head -c {megabytes}000000"})
        begun = time.perf_counter()
        detail = server.wait("flood", server.run("flood", ["a"]))
        rate = megabytes / (time.perf_counter() - begun)
        assert detail["status"] == "passed", detail
        yield Row(
            "log of one job", f"{rate:.0f} MB/s, RSS {server.rss_mb():.0f} MB", "", None, ">= 10 MB/s", rate >= 10
        )

        server.define("crowd", {"a": "sleep 3; for n in $(seq 20); do echo at $EPOCHREALTIME; sleep 0.5; done"})
        lags = asyncio.run(_watch(server, "crowd", crowd))
        p50, p99 = quantiles(lags)
        rss = server.rss_mb()
        yield Row(f"the same, {crowd} watchers, 2 lines/s", f"p50 {p50:.1f} p99 {p99:.1f} ms",
                  f"{len(lags)} lines seen, RSS {rss:.0f} MB", None, "2,000 watchers", p99 <= 100)  # fmt: skip


async def _watch(server: Server, key: str, readers: int) -> list[float]:
    """Lags in milliseconds of every line for every reader. Readers are there before the first line."""
    number = server.run(key, ["a"])
    path = f"/openapi/logs/sse/v4/workflow/{key}/{number}/a/0"
    head = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer benchmark-token-0123456789\r\n\r\n".encode()
    lags: list[float] = []
    ended = asyncio.Event()
    left = readers

    class Reader(asyncio.Protocol):
        def __init__(self) -> None:
            self.held = b""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            assert isinstance(transport, asyncio.Transport)
            transport.write(head)

        def data_received(self, data: bytes) -> None:
            now = time.time()
            *whole, self.held = (self.held + data).split(b"\n")
            for line in whole:
                if b" at 1" in line:
                    lags.append((now - float(line.rsplit(b" ", 1)[1])) * 1000)
            if self.held.startswith(b"0\r") or b"0\r" in whole[-2:]:
                self.transport.close()

        def connection_lost(self, error: Exception | None) -> None:
            nonlocal left
            left -= 1
            if not left:
                ended.set()

    loop = asyncio.get_running_loop()
    for _ in range(readers):
        await loop.create_connection(Reader, "127.0.0.1", server.port)
    async with asyncio.timeout(120):
        await ended.wait()
    return lags


def size(path: Path) -> int:
    return sum(os.stat(entry).st_size for entry in path.rglob("*") if entry.is_file())


FIGURES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "start": first_start,
    "latency": latency,
    "chain": chain,
    "light": light,
    "sustained": sustained,
    "lines": lines,
    "queue": queue,
}
