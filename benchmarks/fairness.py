"""Turns in the queue: thousands of tasks of one project beside another's one; gaps between an end and a start."""

import asyncio
import itertools
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from figures import Bench, Row
from serving import RUN, Server, run_body, start_many

OTHER = "other"
JOB_S = 0.2
LOOKED_AT = 300


def turns(bench: Bench) -> Iterator[Row]:
    """One task at a time over the whole server; a queue of one project's tasks; then, one after the other, tasks of
    another project."""
    count = bench.some(5000, 200)
    with bench.server(slots=1) as server:
        server.define("crowd", {"a": f"sleep {JOB_S}"})
        other_project(server)
        asyncio.run(start_many(server.port, "crowd", ["a"], count, clients=8))
        alone = [ended(server, "one", other_task(server)) for _ in range(bench.some(10, 4))]
        crowd = crowd_so_far(server, count)
        waiting = count - len(crowd)
    crowd = crowd[-LOOKED_AT:]
    length = statistics.median(at(task["ended_at"]) - at(task["started_at"]) for task in crowd)
    waits = [(at(task["started_at"]) - at(task["created_at"])) / length for task in alone]
    yield Row("wait of the one task beside the crowd", f"p50 {statistics.median(waits):.2f} max {max(waits):.2f} tasks",
              f"{waiting} stand before it", None, "<= 1.2 tasks", max(waits) <= 1.2)  # fmt: skip
    first = at(crowd[0]["started_at"])
    order = sorted(
        (task for task in [*crowd, *alone] if at(task["started_at"]) >= first), key=lambda t: t["started_at"]
    )
    pairs = list(itertools.pairwise(order))
    gaps = [(at(after["started_at"]) - at(before["ended_at"])) * 1000 for before, after in pairs]
    if min(gaps) < -1:  # milliseconds: times are told to one
        raise SystemExit("two tasks ran at once where one may")
    yield Row("an end -> the next is let in, limit 1", f"p50 {statistics.median(gaps):.0f} max {max(gaps):.0f} ms",
              f"max {heard_ms(len(gaps)):.0f} ms", None, "max <= 200 ms", max(gaps) <= 200)  # fmt: skip
    begun = [(job_began(after) - at(before["ended_at"])) * 1000 for before, after in pairs]
    yield Row("an end -> the next job's first step", f"p50 {statistics.median(begun):.0f} max {max(begun):.0f} ms",
              f"{len(begun)} ends")  # fmt: skip


def heard_ms(rounds: int) -> float:
    """Bare: the longest that an end of a process took to be noticed by who waits for it."""
    took = []
    for _ in range(rounds):
        said = subprocess.run(["bash", "-c", "echo $EPOCHREALTIME"], capture_output=True, text=True, check=True).stdout
        took.append((time.time() - float(said)) * 1000)
    return max(took)


def other_project(server: Server) -> None:
    project = {"project_key": OTHER, "project_name": OTHER, "project_type": "yaml"}
    server.client.call("POST", "/openapi/projects/project", project)
    steps = [{"name": "run", "type": "shell", "spec": {"script": f"sleep {JOB_S}"}}]
    job = {"name": "a", "type": "freestyle", "spec": {"properties": {"timeout": 60}, "steps": steps}}
    definition = {
        "name": "one",
        "display_name": "one",
        "project": OTHER,
        "concurrency_limit": -1,
        "stages": [{"name": "s", "jobs": [job]}],
    }
    server.client.call("POST", "/api/aslan/workflow/v4", definition)


def other_task(server: Server) -> int:
    return int(server.client.call("POST", RUN, {**run_body("one", ["a"]), "project_key": OTHER})["task_id"])


def found(server: Server, key: str, number: int) -> dict[str, Any]:
    return server.client.call("GET", f"/api/v1/tasks/{key}/{number}")


def ended(server: Server, key: str, number: int) -> dict[str, Any]:
    while (task := found(server, key, number))["ended_at"] is None:
        time.sleep(0.02)
    return task


def crowd_so_far(server: Server, count: int) -> list[dict[str, Any]]:
    """Those that have ended: they are let in one after the other."""
    tasks = (found(server, "crowd", number) for number in range(1, count + 1))
    return list(itertools.takewhile(lambda task: task["ended_at"] is not None, tasks))


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def job_began(task: dict[str, Any]) -> float:
    return at(task["stages"][0]["jobs"][0]["attempts"][0]["steps"][0]["started_at"])


FAIRNESS: dict[str, Callable[[Bench], Iterator[Row]]] = {"turns": turns}
