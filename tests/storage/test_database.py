"""Transactions: what is promised to their callers, on both databases; the group commit of SQLite in depth."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from cador.domain.errors import Conflict, Invalid, Unavailable
from cador.ports.stores import Database, Token, Tx
from cador.storage.database import OpenDatabase, Work, migrate, open_database
from cador.storage.sqlite import SqliteDatabase, Writer, engine_for, path_of
from support.inline_database import InlineDatabase
from support.rows import workflow_row

pytestmark = pytest.mark.anyio


def put(tx: Tx, name: str, value: str = "x") -> str:
    tx.meta.set(name, value)
    return value


def fail(tx: Tx, name: str) -> None:
    tx.meta.set(name, "never seen")
    raise Conflict(name)


async def facts(database: Database, *names: str) -> list[str | None]:
    return await database.read(lambda tx: [tx.meta.get(name) for name in names])


async def test_a_write_is_there_when_it_returns(database: Database) -> None:
    assert await database.write(put, "a", value="1") == "1"
    assert await facts(database, "a", "b") == ["1", None]


async def test_a_failing_function_leaves_nothing_and_raises_here(database: Database) -> None:
    with pytest.raises(Conflict, match="a"):
        await database.write(fail, "a")
    assert await facts(database, "a") == [None]
    await database.write(put, "a")


async def test_one_that_fails_leaves_the_others_of_its_batch_alone(database: Database) -> None:
    calls = [database.write(fail if n % 7 == 3 else put, f"n{n}") for n in range(50)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    for n, result in enumerate(results):
        if n % 7 == 3:
            assert isinstance(result, Conflict)
            assert str(result) == f"n{n}"
        else:
            assert result == "x"
    stored = await facts(database, *(f"n{n}" for n in range(50)))
    assert stored == [None if n % 7 == 3 else "x" for n in range(50)]


async def test_a_constraint_that_fails_concerns_its_caller_alone(database: Database) -> None:
    def twice(tx: Tx) -> None:
        tx.meta.set("twice", "never seen")
        tx.people.add_token(token)  # of a user who is not there

    token = Token(0, "nobody", "", "digest", "", 1.0)
    results = await asyncio.gather(
        *(database.write(twice if n == 5 else put, *(() if n == 5 else (f"n{n}",))) for n in range(10)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [str] * 5 + [IntegrityError] + [str] * 4
    assert await facts(database, "twice", "n4", "n6") == [None, "x", "x"]


async def test_calls_after_the_commit(database: Database) -> None:
    loop_thread, heard = threading.get_ident(), []

    def note(name: str) -> Callable[[], None]:
        return lambda: heard.append((name, threading.get_ident() == loop_thread))

    def work(tx: Tx, name: str, fails: bool) -> None:
        tx.meta.set("there", "yes")
        tx.after_commit(note(f"{name}1"))
        tx.after_commit(note(f"{name}2"))
        if fails:
            raise Conflict(name)

    await asyncio.gather(
        *(database.write(work, name, name == "b") for name in "abc"), return_exceptions=True
    )  # fmt: skip
    assert sorted(heard) == [("a1", True), ("a2", True), ("c1", True), ("c2", True)]
    assert heard.index(("a1", True)) < heard.index(("a2", True))


async def test_a_call_after_the_commit_that_raises_harms_nobody(database: Database) -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
    heard: list[int] = []

    def bad() -> None:
        raise ValueError

    def work(tx: Tx) -> int:
        tx.after_commit(bad)
        tx.after_commit(lambda: heard.append(1))
        return 5

    assert await database.write(work) == 5
    assert (heard, [type(error) for error in told]) == ([1], [ValueError])


async def test_now_is_one_value_per_transaction_from_the_clock_given(database_url: str) -> None:
    ticks = iter(range(1000))
    opened = await open_database(database_url, clock=lambda: float(next(ticks)))
    try:
        first = await opened.write(lambda tx: (tx.now, tx.now))
        second = await opened.read(lambda tx: (tx.now, tx.now))
    finally:
        await opened.close()
    assert first[0] == first[1] < second[0] == second[1]


async def test_now_is_about_now(database: Database) -> None:
    now = time.time()
    assert abs(await database.read(lambda tx: tx.now) - now) < 60
    assert abs(await database.write(lambda tx: tx.now) - now) < 60


async def test_a_read_sees_one_snapshot(database: Database) -> None:
    await database.write(put, "a", "1")
    began, changed = threading.Event(), threading.Event()

    def look(tx: Tx) -> list[str | None]:
        first = tx.meta.get("a")
        began.set()
        assert changed.wait(20)
        return [first, tx.meta.get("a")]

    looking = asyncio.ensure_future(database.read(look))
    await asyncio.to_thread(began.wait, 20)
    await database.write(put, "a", "2")
    changed.set()
    assert await looking == ["1", "1"]
    assert await facts(database, "a") == ["2"]


async def test_a_read_cannot_write(database: Database) -> None:
    with pytest.raises(Exception, match=r"(?i)read-?only"):
        await database.read(put, "a")
    assert await facts(database, "a") == [None]


async def test_a_caller_that_was_cancelled_does_not_disturb_the_others(database: Database) -> None:
    go = threading.Event()

    def wait(tx: Tx) -> None:
        assert go.wait(20)

    slow = asyncio.ensure_future(database.write(wait))
    await asyncio.sleep(0)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    go.set()
    assert await database.write(put, "a") == "x"


async def test_closing_finishes_what_was_given(database_url: str) -> None:
    opened = await open_database(database_url)
    writes = [asyncio.ensure_future(opened.write(put, f"n{n}")) for n in range(20)]
    await asyncio.sleep(0)
    await opened.close()
    await opened.close()
    assert await asyncio.gather(*writes) == ["x"] * 20
    with pytest.raises(Unavailable):
        await opened.write(put, "a")
    with pytest.raises(Unavailable):
        await opened.read(lambda tx: 1)


@pytest.mark.parametrize("url", ["mysql://localhost/x", "nonsense", "sqlite://", "", "postgresql://h:port/x"])
async def test_urls_that_lead_nowhere(url: str) -> None:
    with pytest.raises(Invalid):
        await open_database(url)


# -- the embedded database


async def test_many_callers_share_a_commit(sqlite_database: SqliteDatabase) -> None:
    await sqlite_database.write(put, "first")
    assert sqlite_database.writer is not None
    before = sqlite_database.writer.commits

    async def caller(name: str) -> None:
        for n in range(20):
            await sqlite_database.write(put, f"{name}-{n}")

    await asyncio.gather(*(caller(str(n)) for n in range(32)))
    assert sqlite_database.writer.commits - before <= 640 / 4


async def test_the_settings_that_durability_rests_on(sqlite_database: SqliteDatabase) -> None:
    def pragmas(tx: Any) -> dict[str, Any]:
        names = ("journal_mode", "synchronous", "foreign_keys", "query_only", "mmap_size", "busy_timeout")
        return {name: tx.connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}

    common = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "mmap_size": 0, "busy_timeout": 10_000}
    assert await sqlite_database.write(pragmas) == common | {"query_only": 0}
    assert await sqlite_database.read(pragmas) == common | {"query_only": 1}


def modes_in(folder: Path) -> dict[str, int]:
    return {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in folder.iterdir()}


async def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "cador.db"
    opened = await open_database(f"sqlite:///{path}")
    await opened.write(put, "a")
    modes = modes_in(tmp_path)
    await opened.close()
    assert modes == dict.fromkeys(("cador.db", "cador.db-wal", "cador.db-shm"), 0o600)
    assert modes_in(tmp_path) == {"cador.db": 0o600}, "the writer folded its log into the file"


async def test_a_full_disk_refuses_what_needs_room_and_goes_on_when_there_is(sqlite_database: Database) -> None:
    def limit(tx: Any, pages: int) -> None:
        tx.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    await sqlite_database.write(put, "a")
    await sqlite_database.write(limit, 1)  # no less than there are
    results = await asyncio.gather(
        *(sqlite_database.write(put, f"n{n}", "x" * (500_000 if n % 2 else 1)) for n in range(8)),
        return_exceptions=True,
    )
    for n, result in enumerate(results):
        assert isinstance(result, Unavailable) if n % 2 else result == "x", (n, result)
    assert "disk is full" in str(results[1])
    assert await facts(sqlite_database, "a", "n0", "n1") == ["x", "x", None]

    await sqlite_database.write(limit, 1_000_000)
    await sqlite_database.write(put, "n1", "x" * 500_000)


async def test_an_error_that_ends_the_whole_batch_is_seen_only_where_it_belongs(sqlite_database: Database) -> None:
    """Some errors make SQLite take the whole transaction back; a function that says ROLLBACK does the same."""
    runs: list[str] = []

    def ruin(tx: Any) -> None:
        runs.append("ruin")
        tx.connection.connection.dbapi_connection.execute("ROLLBACK")

    results = await asyncio.gather(
        *(sqlite_database.write(put, f"n{n}") for n in range(5)),
        sqlite_database.write(ruin),
        *(sqlite_database.write(put, f"n{n}") for n in range(5, 10)),
        return_exceptions=True,
    )
    assert isinstance(results[5], sqlite3.OperationalError)
    assert [result for n, result in enumerate(results) if n != 5] == ["x"] * 10
    assert await facts(sqlite_database, *(f"n{n}" for n in range(10))) == ["x"] * 10


async def test_a_commit_that_fails_is_repeated_one_by_one(sqlite_database: Database) -> None:
    """A constraint that is checked at the end breaks the COMMIT of all; only the one who broke it hears of it."""

    def offend(tx: Any) -> None:
        connection = tx.connection
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        connection.exec_driver_sql("INSERT INTO role_binding (uid, project, role) VALUES ('nobody', 'p', 'r')")

    results = await asyncio.gather(
        *(sqlite_database.write(put, f"n{n}") for n in range(5)),
        sqlite_database.write(offend),
        *(sqlite_database.write(put, f"n{n}") for n in range(5, 10)),
        return_exceptions=True,
    )
    assert isinstance(results[5], sqlite3.IntegrityError)
    assert [result for n, result in enumerate(results) if n != 5] == ["x"] * 10
    assert await facts(sqlite_database, *(f"n{n}" for n in range(10))) == ["x"] * 10


async def test_an_answer_given_on_what_never_came_to_be_is_taken_back(sqlite_database: Database) -> None:
    """One is refused because of another's row, which then is not committed: it must run again."""

    def add(tx: Tx) -> int:
        return tx.workflows.add(workflow_row("w"))

    def add_and_offend(tx: Any) -> None:
        add(tx)
        tx.connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        tx.connection.exec_driver_sql("INSERT INTO role_binding (uid, project, role) VALUES ('nobody', 'p', 'r')")

    first, second = await asyncio.gather(
        sqlite_database.write(add_and_offend), sqlite_database.write(add), return_exceptions=True
    )
    assert isinstance(first, sqlite3.IntegrityError)
    assert isinstance(second, int)


def test_nobody_waits_twice_for_a_file_that_another_process_holds(sqlite_url: str) -> None:
    migrate(sqlite_url)
    path = path_of(sqlite_url)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    loop = asyncio.new_event_loop()
    writer = Writer(engine_for(path, busy_s=0.05).connect(), lambda: 1.0)
    batch = [Work(lambda tx, n=n: put(tx, f"n{n}"), loop.create_future(), read_only=False) for n in range(4)]
    waits: list[str] = []
    raw = writer._raw
    raw.set_trace_callback(waits.append)
    writer.commit(batch)
    assert [type(work.error) for work in batch] == [Unavailable] * 4
    assert waits == ["BEGIN IMMEDIATE"]

    holder.execute("ROLLBACK")
    holder.close()
    writer.commit(batch)
    assert [(work.result, work.error) for work in batch] == [("x", None)] * 4
    writer.close()
    loop.close()


async def test_what_is_no_database_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "cador.db").write_bytes(b"not a database " * 100)
    with pytest.raises(Unavailable, match="no database"):
        await open_database(f"sqlite:///{tmp_path / 'cador.db'}")
    with pytest.raises(Unavailable, match="No such file or directory"):
        await open_database(f"sqlite:///{tmp_path / 'missing' / 'cador.db'}")


WRITER = """
import asyncio, sys
from cador.storage.database import open_database

async def main():
    database = await open_database(sys.argv[1])
    async def caller(name):
        for n in range(1_000_000):
            await database.write(lambda tx: tx.meta.set(f"{name}-{n}", "x"))
            sys.stdout.write(f"{name}-{n}\\n")
            sys.stdout.flush()
    await asyncio.gather(*(caller(c) for c in "abcdefgh"))

asyncio.run(main())
"""


@pytest.mark.real
async def test_what_was_acknowledged_survives_a_kill(sqlite_url: str) -> None:
    for round_number in range(3):
        acknowledged = await asyncio.to_thread(_write_until_killed, sqlite_url, 300 + 150 * round_number)
        opened = await open_database(sqlite_url)
        try:
            stored = await facts(opened, *acknowledged)
        finally:
            await opened.close()
        assert len(acknowledged) >= 300
        assert stored == ["x"] * len(acknowledged)


def _write_until_killed(url: str, lines: int) -> list[str]:
    """Names of what a child said was committed, until it was killed in the middle of more."""
    with subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        read = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        read += child.stdout.readlines()
    assert child.returncode == -9
    return [line.strip() for line in read if line.endswith("\n")]


# -- the inline one that other tests use


async def test_the_inline_database_keeps_the_same_promises() -> None:
    points: list[str] = []
    inline = InlineDatabase(lambda: 5.0, point=points.append)
    heard: list[int] = []

    def work(tx: Tx) -> float:
        tx.after_commit(lambda: heard.append(1))
        tx.meta.set("a", "x")
        return tx.now

    assert await inline.write(work) == 5.0
    assert heard == []
    await asyncio.sleep(0)
    assert (heard, points) == ([1], ["begin", "commit", "committed"])
    with pytest.raises(Conflict):
        await inline.write(fail, "b")

    for point, there in (("commit", None), ("committed", "x")):

        def crash(name: str, point: str = point) -> None:
            if name == point:
                raise Conflict(point)

        inline.point = crash
        with pytest.raises(Conflict, match=point):
            await inline.write(put, point)
        assert await facts(inline, "b", point) == [None, there]
    await inline.close()


async def test_the_inline_database_on_postgres(postgres_url: str) -> None:
    inline = InlineDatabase(lambda: 5.0, url=postgres_url)
    await inline.write(put, "a")
    with pytest.raises(Conflict):
        await inline.write(fail, "b")
    assert await facts(inline, "a", "b") == ["x", None]
    await inline.close()


def test_opening_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    async def once(name: str) -> None:
        opened: OpenDatabase = await open_database(f"sqlite:///{tmp_path / name}")
        await opened.write(put, "a")
        await facts(opened, "a")
        await opened.close()

    asyncio.run(once("first"))
    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(once("second"))
    assert len(os.listdir("/proc/self/fd")) <= before  # fewer when something of an earlier test goes meanwhile
