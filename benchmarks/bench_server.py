"""Measure cador beside bare processes, in one run. See README.md."""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2

CADOR = [str(Path(sys.executable).with_name("cador"))]
TOKEN = "benchmark-token-0123456789"
PROJECT = "bench"


class Server:
    """A server process of its own on a temporary folder."""

    def __init__(self, folder: Path, database: str = "", **settings: str) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.scratch.chmod(0o777)
        folder.chmod(0o711)
        env = {
            **os.environ,
            "CADOR_ADMIN_TOKEN": TOKEN,
            "CADOR_EXECUTORS__PROCESS__ROOT": str(folder / "jobs"),
            "CADOR_LOG__LEVEL": "warning",
            **({"CADOR_DATABASE": database} if database else {}),
            **settings,
        }
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            [*CADOR, "serve", "--data", str(folder / "data"), "--listen", "127.0.0.1:0"], env=env
        )
        note = folder / "data" / "server.json"
        while not note.exists():
            if self.process.poll() is not None:
                raise SystemExit("the server did not start")
            time.sleep(0.002)
        self.ready_s = time.perf_counter() - begun
        self.url = json.loads(note.read_text())["url"]
        self.client = httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60, trust_env=False
        )
        self.post(
            "/openapi/projects/project", {"project_key": PROJECT, "project_name": PROJECT, "project_type": "yaml"}
        )

    def post(self, path: str, body: object, **query: str) -> dict:
        reply = self.client.post(path, json=body, params=query)
        if reply.status_code != 200:
            raise SystemExit(f"{path}: {reply.status_code} {reply.text}")
        return reply.json()

    def define(self, key: str, jobs: list[dict], *, parallel: bool = False) -> None:
        self.post(
            "/api/aslan/workflow/v4",
            {
                "name": key,
                "display_name": key,
                "project": PROJECT,
                "concurrency_limit": -1,
                "stages": [{"name": "s", "parallel": parallel, "jobs": jobs}],
            },
        )

    def start(self, key: str, jobs: list[str]) -> int:
        return start(self.client, key, jobs)

    def wait(self, key: str, number: int) -> dict:
        while True:
            detail = self.client.get(f"/openapi/workflows/custom/task?workflowKey={key}&taskId={number}").json()
            if detail["status"] not in ("created", "running"):
                return detail
            time.sleep(0.01)

    def rss_mb(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise SystemExit("no RSS")

    def close(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(10)


def start(client: httpx2.Client, key: str, jobs: list[str]) -> int:
    body = {
        "workflow_key": key,
        "project_key": PROJECT,
        "inputs": [{"job_name": name, "job_type": "freestyle", "parameters": {}} for name in jobs],
    }
    reply = client.post("/openapi/workflows/custom/task", json=body)
    if reply.status_code != 200:
        raise SystemExit(f"start: {reply.status_code} {reply.text}")
    return reply.json()["task_id"]


def shell(name: str, script: str) -> dict:
    steps = [{"name": "run", "type": "shell", "spec": {"script": script}}]
    return {"name": name, "type": "freestyle", "spec": {"properties": {"timeout": 10}, "steps": steps}}


def show(what: str, ours: str, bare: str, ratio: float | None, bar: str) -> None:
    print(f"{what:44} {ours:>26} {bare:>22} {'' if ratio is None else f'{ratio:.2f}x':>8}  {bar}", flush=True)


def quantiles(values: list[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


# -- figures


def latency(server: Server) -> None:
    """Request sent -> the first instruction of the job's own process."""
    rounds = 100
    place = server.scratch / "at"
    server.define("latency", [shell("a", f"echo $EPOCHREALTIME > {place}.part; mv {place}.part {place}")])
    ours: list[float] = []
    for _ in range(rounds + 5):
        place.unlink(missing_ok=True)
        begun = time.time()
        number = server.start("latency", ["a"])
        while not place.exists():
            time.sleep(0.0005)
        ours.append((float(place.read_text()) - begun) * 1000)
        server.wait("latency", number)
    bare: list[float] = []
    for _ in range(rounds + 5):
        begun = time.time()
        out = subprocess.run(["bash", "-c", "echo $EPOCHREALTIME"], capture_output=True, text=True, check=True).stdout
        bare.append((float(out) - begun) * 1000)
    (p50, p99), (bare50, bare99) = quantiles(ours[5:]), quantiles(bare[5:])
    show("request -> process runs, idle", f"p50 {p50:.1f} p99 {p99:.1f} ms", f"p50 {bare50:.1f} p99 {bare99:.1f} ms",
         p50 / bare50, "p50 <= 15 ms, <= 4x; p99 <= 40 ms")  # fmt: skip


def chain(server: Server) -> None:
    """40 jobs of 10 ms, one after the other."""
    names = [f"j{n}" for n in range(40)]
    server.define("chain", [shell(name, "sleep 0.01") for name in names])
    results = []
    for _ in range(3):
        begun = time.perf_counter()
        detail = server.wait("chain", server.start("chain", names))
        results.append(time.perf_counter() - begun)
        assert detail["status"] == "passed", detail
    bare = []
    for _ in range(3):
        begun = time.perf_counter()
        for _ in names:
            subprocess.run(["sh", "-c", "sleep 0.01"], check=True)
        bare.append(time.perf_counter() - begun)
    took, base = min(results), min(bare)
    show("chain of 40 serial 10 ms jobs", f"{took:.2f} s", f"{base:.2f} s", took / base, "<= 1.1 s, <= 1.8x")


async def _pool(count: int, slots: int, command: list[str]) -> float:
    gate = asyncio.Semaphore(slots)

    async def one() -> None:
        async with gate:
            process = await asyncio.create_subprocess_exec(*command)
            await process.wait()

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    return time.perf_counter() - begun


def light(server: Server) -> None:
    """400 light jobs, 10 at a time: 10 tasks of 40 parallel jobs each would measure the stage limit, so 400 tasks."""
    server.define("light", [shell("a", "true")])
    count = 400
    begun = time.perf_counter()
    last = 0
    with contextlib.ExitStack() as stack:
        from concurrent.futures import ThreadPoolExecutor

        clients = [
            stack.enter_context(httpx2.Client(base_url=server.url, headers=server.client.headers, trust_env=False))
            for _ in range(4)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(4))
        for number in pool.map(lambda n: start(clients[n % 4], "light", ["a"]), range(count)):
            last = max(last, number)
        drained(server, "light", count)
    took = time.perf_counter() - begun
    bare = asyncio.run(_pool(count, 10, ["sh", "-c", "true"]))
    show("400 light jobs, 10 slots", f"{took:.2f} s", f"{bare:.2f} s", took / bare, "<= 2.5 s, <= 5x")
    show("job starts sustained, one process", f"{count / took:.0f}/s", f"{count / bare:.0f}/s", None, ">= 150/s SQLite")


def drained(server: Server, key: str, count: int) -> None:
    """Wait until the newest *count* tasks of a workflow have ended."""
    while True:
        reply = server.client.get(f"/openapi/workflows/custom/{key}/tasks?projectKey={PROJECT}&pageSize=1000").json()
        if all(task["end_time"] for task in reply["workflow_tasks"][:count]):
            return
        time.sleep(0.05)


def queue(server: Server) -> None:
    """5,000 queued one-job tasks are drained."""
    server.define("queue", [shell("a", "true")])
    count = int(os.environ.get("CADOR_BENCH_QUEUE", "5000"))
    begun = time.perf_counter()
    for _ in range(count):
        last = server.start("queue", ["a"])
    accepted = time.perf_counter() - begun
    while True:
        page = server.client.get(f"/openapi/workflows/custom/queue/tasks?projectKey={PROJECT}&pageSize=20").json()[
            "workflow_tasks"
        ]
        if page[0]["task_id"] == last and all(task["end_time"] for task in page):
            break
        time.sleep(0.1)
    took = time.perf_counter() - begun
    show(f"{count} queued one-job tasks", f"{took:.1f} s", f"accepted in {accepted:.1f} s", None, "<= 60 s")


def lists(server: Server) -> None:
    """50 newest tasks of a workflow."""
    times = []
    for _ in range(200):
        begun = time.perf_counter()
        server.client.get(f"/openapi/workflows/custom/light/tasks?projectKey={PROJECT}").raise_for_status()
        times.append((time.perf_counter() - begun) * 1000)
    p50, p99 = quantiles(times)
    show("50 newest tasks", f"p50 {p50:.1f} p99 {p99:.1f} ms", "", None, "p99 <= 10 ms of 1,000")


def lines(server: Server) -> None:
    """A line written -> seen by a reader of the live log."""
    server.define("lines", [shell("a", "for n in $(seq 200); do echo at $EPOCHREALTIME; sleep 0.01; done")])
    number = server.start("lines", ["a"])
    lags = []
    with server.client.stream("GET", f"/openapi/logs/sse/v4/workflow/lines/{number}/a/0") as reply:
        for line in reply.iter_lines():
            if " at " in line:
                lags.append((time.time() - float(line.rsplit(" ", 1)[1])) * 1000)
    p50, p99 = quantiles(lags)
    show("line written -> seen in SSE", f"p50 {p50:.1f} p99 {p99:.1f} ms", f"{len(lags)} lines", None, "p99 <= 100 ms")


def flood(server: Server) -> None:
    """Throughput of one job's log."""
    megabytes = 100
    server.define(
        "flood",
        [shell("a", f"yes 0123456789012345678901234567890123456789012345678901234567890 | head -c {megabytes}000000")],
    )
    begun = time.perf_counter()
    detail = server.wait("flood", server.start("flood", ["a"]))
    took = time.perf_counter() - begun
    assert detail["status"] == "passed", detail
    show("log of one job", f"{megabytes / took:.0f} MB/s, RSS {server.rss_mb():.0f} MB", "", None, ">= 10 MB/s")


def help_time(server: Server) -> None:
    """``cador --help``."""
    command = [*CADOR, "--help"]
    times = []
    for _ in range(10):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append((time.perf_counter() - begun) * 1000)
    bare = []
    for _ in range(10):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare.append((time.perf_counter() - begun) * 1000)
    ours, base = statistics.median(times), statistics.median(bare)
    show("cador --help", f"{ours:.0f} ms", f"python {base:.0f} ms", ours / base, "<= 150 ms")


def idle(server: Server) -> None:
    """First start to ready, and memory of a server that did nothing yet."""
    time.sleep(1)
    show("first start to ready", f"{server.ready_s:.2f} s", "", None, "<= 1 s")
    show("RSS idle", f"{server.rss_mb():.0f} MB", "", None, "<= 90 MB")


FIGURES: dict[str, Callable[[Server], None]] = {
    "idle": idle,
    "latency": latency,
    "chain": chain,
    "light": light,
    "lists": lists,
    "lines": lines,
    "flood": flood,
    "help": help_time,
    "queue": queue,
}


@contextlib.contextmanager
def running(database: str) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="cador-bench-"))
    server = Server(folder, database, CADOR_ENGINE__MAX_RUNNING_TASKS="10", CADOR_ENGINE__MAX_JOBS="10")
    try:
        yield server
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", nargs="*", choices=[[], *FIGURES], default=[])
    parser.add_argument("--database", default="", help="PostgreSQL URL of an empty database; default SQLite")
    chosen = parser.parse_args()
    with running(chosen.database) as server:
        show("figure", "cador", "bare, same run", None, "bar")
        for name in chosen.figures or FIGURES:
            FIGURES[name](server)


if __name__ == "__main__":
    main()
