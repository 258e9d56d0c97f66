"""Figure of pollers: clients of old editions, each with a connection of its own, that ask for a task until it ends."""

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator

from figures import Bench, Row, quantiles
from serving import RUN, Gate, Server, request

EVERY_S = 3.0
"""How often one client asks. Most scripts wait longer."""
BAR_MS = 250


def pollers(bench: Bench) -> Iterator[Row]:
    """2,000 clients with a connection each ask for the detail of a running task for a minute."""
    clients, seconds = bench.some(2_000, 200), bench.some(60, 6)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with bench.server() as server:
        gate = Gate.make(server.folder / "scratch", "gate")
        server.define("polled", {"a": gate.wait, "b": "true"}, parallel=True)
        number = server.run("polled", ["a", "b"])
        path = f"{RUN}?workflowKey=polled&taskId={number}"
        alone = _alone(server, path, bench.some(300, 50))
        before = server.processor_s()
        took, wrong = asyncio.run(_polled(server.port, path, clients, seconds))
        busy = (server.processor_s() - before) / seconds
        gate.open()
        server.wait("polled", number)
    p50, p99 = quantiles(took)
    spread = f"p50 {p50:.1f} p99 {p99:.1f} ms, {len(took) / seconds:.0f}/s"
    one, _ = quantiles(alone)
    yield Row(f"task detail, {clients:,} clients", spread, f"one: p50 {one:.1f} ms", p50 / one, f"p99 <= {BAR_MS} ms",
              p99 <= BAR_MS)  # fmt: skip
    yield Row("the same: answers other than 200", str(dict(wrong) or 0), bar="0", met=not wrong)
    yield Row("the same: processor of the server", f"{busy:.0%} of one")


def _alone(server: Server, path: str, rounds: int) -> list[float]:
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        server.client.call("GET", path)
        took.append((time.perf_counter() - begun) * 1000)
    return took


async def _polled(port: int, path: str, clients: int, seconds: float) -> tuple[list[float], Counter[str]]:
    """Milliseconds of every answer; what went wrong. Clients begin spread over one round, as they would."""
    message = request("GET", path)
    took: list[float] = []
    wrong: Counter[str] = Counter()
    connected: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    for _ in range(clients):
        connected.append(await asyncio.open_connection("127.0.0.1", port))
    begin = time.perf_counter()

    async def one(index: int) -> None:
        reader, writer = connected[index]
        due = begin + EVERY_S * index / clients
        while due < begin + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sent = time.perf_counter()
            try:
                writer.write(message)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
            except (OSError, asyncio.IncompleteReadError) as error:
                wrong[type(error).__name__] += 1
                return
            took.append((time.perf_counter() - sent) * 1000)
            status = head.split(b" ", 2)[1].decode()
            if status != "200":
                wrong[status] += 1
            due = max(due + EVERY_S, time.perf_counter())
        writer.close()

    async with asyncio.TaskGroup() as group:
        for index in range(clients):
            group.create_task(one(index))
    return took, wrong


POLLERS: dict[str, Callable[[Bench], Iterator[Row]]] = {"pollers": pollers}
