"""Figures of size: what a million finished tasks, a thousand running jobs and the death of a server cost."""

import asyncio
import contextlib
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from figures import Bench, Row, latencies, lists, quantiles
from lists import SMALL, commits, filtered, shape
from serving import Gate, Server, folder, start_many

# -- a million finished tasks


def history(bench: Bench) -> Iterator[Row]:
    """The list of the newest 50 and the latency, with 1,000 tasks in the tables and with a million, in turns; then the
    newest 50 under every filter."""
    many, rounds = bench.some(1_000_000, 20_000), bench.some(200, 30)
    with folder() as place, contextlib.ExitStack() as stack:
        servers = []
        for name in ("few", "many"):
            (place / name / "scratch").mkdir(parents=True)
            (place / name / "scratch").chmod(0o777)
            database = bench.database()
            server = Server(place / name, database)
            stack.callback(server.close)
            server.project()
            server.define("old", {"a": "true"})
            server.drained("old", asyncio.run(start_many(server.port, "old", ["a"], 1000)))
            servers.append(server)
        server.project(SMALL)
        server.define(SMALL, {"a": "true"}, project=SMALL)
        server.close()
        fill(bench.kind, database or str(server.data / "cador.db"), many)
        server.start()
        servers[0].reconnect()
        (few50, few99), (many50, many99) = (lists(server, "old") for server in servers)
        (few, full), _ = latencies(servers, rounds)
        (old, _), (new, new99) = quantiles(few), quantiles(full)
        short, long = f"p50 {few50:.1f} p99 {few99:.1f} ms", f"p50 {many50:.1f} p99 {many99:.1f} ms"
        yield Row("50 newest of 1,000 tasks", short, bar="p99 <= 10 ms", met=few99 <= 10)
        told = f"of 1,000: p50 {few50:.1f} ms"
        yield Row(f"50 newest of {many:,} tasks", long, told, many50 / few50, "p99 <= 20 ms", many99 <= 20)
        spread, told = f"p50 {new:.1f} p99 {new99:.1f} ms", f"of 1,000: p50 {old:.1f} ms"
        yield Row(f"request -> process, {many:,} tasks", spread, told, new / old, "<= 1.2x", new <= 1.2 * old)
        yield from filtered(bench, server, database, many)


def fill(kind: str, database: str, count: int) -> None:
    """Copy one finished task *count* times, with all its rows, as if so many had run before. They differ in what lists
    can be limited to."""
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            _fill(kind, connection.execute, count)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        import psycopg

        with psycopg.connect(database, autocommit=True) as connection:
            _fill(kind, lambda text: connection.execute(text.encode()), count)


CHUNK = 50_000


def _fill(kind: str, execute: Callable[[str], Any], count: int) -> None:
    task, number = execute("SELECT max(id), max(number) FROM workflow_task").fetchone()
    ((job,),) = execute(f"SELECT id FROM job_task WHERE task_id = {task}").fetchall()
    (jobs,) = execute("SELECT max(id) FROM job_task").fetchone()
    tables = ("workflow_task", "task_snapshot", "stage_task", "job_task", "job_body", "job_attempt", "event")
    for begin in range(0, count, CHUNK):
        end = min(begin + CHUNK, count)
        counting = f"s(n) AS (SELECT {begin + 1} UNION ALL SELECT n + 1 FROM s WHERE n < {end})"
        series = f"(WITH RECURSIVE {counting} SELECT n FROM s)"
        execute("BEGIN")
        for table in tables:
            names = _columns(kind, execute, table)
            values = {
                "task_id": f"{task} + s.n",
                "job_id": f"{jobs} + s.n",
                "number": f"{number} + s.n",
                "create_at": f"t.create_at + s.n * 0.001 - {count * 0.001}",
                **shape(table),
            }
            if table == "workflow_task":
                values["id"] = f"{task} + s.n"
            elif table == "job_task":
                values["id"] = f"{jobs} + s.n"
            else:
                names = [name for name in names if name != "id"]
            chosen = ", ".join(values.get(name, f"t.{name}") for name in names)
            key = {
                "workflow_task": f"t.id = {task}",
                "job_body": f"t.job_id = {job}",
                "job_attempt": f"t.job_id = {job}",
            }
            where = key.get(table, f"t.task_id = {task}")
            execute(
                f"INSERT INTO {table} ({', '.join(names)}) SELECT {chosen} FROM {table} t, {series} s WHERE {where}"
            )
        execute(commits(kind, begin, end, task))
        execute("COMMIT")
    execute(f"UPDATE workflow_counter SET last = last + {count}, tasks = tasks + {count} WHERE key = 'old'")
    if kind != "sqlite":
        for table in ("workflow_task", "job_task"):
            execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")
    execute("ANALYZE")


def _columns(kind: str, execute: Callable[[str], Any], table: str) -> list[str]:
    if kind == "sqlite":
        return [row[1] for row in execute(f"PRAGMA table_info({table})")]
    text = f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}' ORDER BY ordinal_position"
    return [name for (name,) in execute(text).fetchall()]


# -- a thousand running jobs


def until(condition: Callable[[], object], seconds: float = 300.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            raise SystemExit("it never happened")
        time.sleep(0.05)


def begun(server: Server, count: int) -> bool:
    """Whether so many jobs run."""
    found = sum(1 for entry in (server.folder / "jobs").iterdir() if (entry / "marks" / "started").exists())
    return found >= count


def told(runs: Path, count: int) -> bool:
    """Whether so many jobs have written their line."""
    return runs.exists() and runs.stat().st_size >= len("run\n") * count


def release(gate: Gate, done: Callable[[], bool]) -> None:
    def turn() -> bool:
        gate.open()
        return done()

    until(turn)


def memory(bench: Bench) -> Iterator[Row]:
    """RSS with jobs running, and with tasks waiting behind them."""
    counts, waiting = (20, 100) if bench.quick else (200, 1000), bench.some(10_000, 500)
    bars = {200: 130, 1000: 300}
    with bench.server(slots=counts[-1]) as server:
        gate = Gate.make(server.folder / "scratch", "gate")
        server.define("stay", {"a": gate.wait})
        idle, there = server.rss_mb(), 0
        for count in counts:
            asyncio.run(start_many(server.port, "stay", ["a"], count - there))
            there = count
            until(partial(begun, server, count))
            time.sleep(2)
            rss = server.rss_mb()
            bar = bars.get(count)
            yield Row(f"RSS, {count} jobs running", f"{rss:.0f} MB", f"idle {idle:.0f} MB", None,
                      f"<= {bar} MB" if bar else "", rss <= bar if bar else None)  # fmt: skip
        before = server.rss_mb()
        asyncio.run(start_many(server.port, "stay", ["a"], waiting))
        after = server.rss_mb()
        grown = after - before
        yield Row(f"RSS, and {waiting:,} tasks waiting", f"+ {grown:.0f} MB", f"{before:.0f} MB without", None, "+ 0",
                  grown <= 10)  # fmt: skip


def restart(bench: Bench) -> Iterator[Row]:
    """A server is killed with live jobs and started again."""
    count = bench.some(1000, 50)
    with bench.server(slots=count) as server:
        gate = Gate.make(server.folder / "scratch", "gate")
        runs = server.folder / "scratch" / "runs"
        server.define("live", {"a": f"echo run >>{runs}; {gate.wait}"})
        last = asyncio.run(start_many(server.port, "live", ["a"], count))
        until(partial(told, runs, count))
        server.kill()
        server.start()
        ready = server.ready_s
        release(gate, lambda: all(task["end_time"] for task in server.newest("live", 1000)))
        until(lambda: all(task["end_time"] for task in server.newest("live", 1000)))
        again = runs.read_text().count("run") - count
        lost = sum(task["status"] != "passed" for task in server.newest("live", 1000)) + (count - last)
        yield Row(f"restart with {count} live jobs", f"ready {ready:.2f} s, {again} re-run, {lost} lost", "", None,
                  "<= 2 s, 0, 0", ready <= 2 and again == lost == 0)  # fmt: skip


def takeover(bench: Bench) -> Iterator[Row]:
    """A replica is killed: until its runs have gone on on another one."""
    if bench.kind == "sqlite":
        return
    times = []
    for _ in range(bench.some(5, 1)):
        with folder() as place, contextlib.ExitStack() as stack:
            database = bench.database()
            one = Server(place, database, name="one")
            stack.callback(one.close)
            (place / "two").mkdir(mode=0o700)
            key = (place / "one" / "key").read_bytes()
            (place / "two" / "key").write_bytes(key)
            (place / "two" / "key").chmod(0o600)
            two = Server(place, database, name="two")
            stack.callback(two.close)
            one.project()
            gate = Gate.make(place / "scratch", "gate")
            runs = place / "scratch" / "runs"
            one.define("go", {"a": f"echo run >>{runs}; {gate.wait}", "b": f"echo run >>{runs}"})
            numbers = [one.run("go", ["a", "b"]) for _ in range(5)]
            until(partial(told, runs, 5))
            killed = time.perf_counter()
            one.kill()
            gate.open()
            for number in numbers:
                detail = two.wait("go", number)
                assert detail["status"] == "passed", detail
            times.append(time.perf_counter() - killed)
            assert runs.read_text().count("run") == 10
    took = statistics.median(times)
    yield Row("replica killed -> 5 tasks end elsewhere", f"median {took:.2f}, worst {max(times):.2f} s", "", None,
              "<= 2 s", max(times) <= 2)  # fmt: skip


SCALE: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "memory": memory,
    "restart": restart,
    "takeover": takeover,
    "history": history,
}
