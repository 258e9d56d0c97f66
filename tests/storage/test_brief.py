"""Brief transactions of the embedded database: on the caller's thread, with the promises of all others."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import pytest

from cador.domain.errors import Conflict
from cador.ports.stores import Tx, brief
from cador.storage import sqlite
from cador.storage.sqlite import SqliteDatabase, driver, path_of

pytestmark = pytest.mark.anyio


@brief
def put(tx: Tx, name: str, value: str = "x") -> str:
    tx.meta.set(name, value)
    return value


@brief
def fail(tx: Tx, name: str) -> None:
    tx.meta.set(name, "never seen")
    raise Conflict(name)


@brief
def get(tx: Tx, *names: str) -> list[str | None]:
    return [tx.meta.get(name) for name in names]


def slow(fn: Callable[..., Any]) -> Callable[..., Any]:
    """*fn* as it would run on a thread."""
    return lambda *args: fn(*args)


@brief
def where(tx: Tx) -> str:
    tx.meta.set("where", "x")
    return threading.current_thread().name


async def test_they_run_where_their_caller_is_and_others_on_a_thread(sqlite_database: SqliteDatabase) -> None:
    await sqlite_database.write(slow(put), "first")
    here = threading.current_thread().name
    assert await sqlite_database.write(where) == here
    assert await sqlite_database.write(slow(where)) == "database-writer"
    assert await sqlite_database.read(brief(lambda tx: threading.current_thread().name)) == here


async def test_what_returned_is_seen_by_every_later_reader(sqlite_database: SqliteDatabase) -> None:
    for n in range(20):
        await sqlite_database.write(put if n % 2 else slow(put), "a", str(n))
        assert await sqlite_database.read(get, "a") == await sqlite_database.read(slow(get), "a") == [str(n)]


async def test_they_share_commits_and_keep_their_order(sqlite_database: SqliteDatabase) -> None:
    await sqlite_database.write(slow(put), "first")
    assert sqlite_database.writer is not None
    before = sqlite_database.writer.commits

    @brief
    def append(tx: Tx, name: str, n: int) -> None:
        tx.meta.set(name, f"{tx.meta.get(name) or ''}{n},")

    async def caller(name: str) -> None:
        for n in range(20):
            await sqlite_database.write(append if n % 5 else slow(append), name, n)

    await asyncio.gather(*(caller(f"c{number}") for number in range(16)))
    assert sqlite_database.writer.commits - before <= 320 / 4
    expected = "".join(f"{n}," for n in range(20))
    assert await sqlite_database.read(get, *(f"c{number}" for number in range(16))) == [expected] * 16


async def test_one_that_fails_leaves_the_others_alone(sqlite_database: SqliteDatabase) -> None:
    await sqlite_database.write(slow(put), "first")
    calls = [sqlite_database.write(fail if n % 3 == 1 else put, f"n{n}") for n in range(12)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(result, Conflict) for result in results] == [n % 3 == 1 for n in range(12)]
    found = await sqlite_database.read(get, *(f"n{n}" for n in range(12)))
    assert found == [None if n % 3 == 1 else "x" for n in range(12)]
    with pytest.raises(Conflict):
        await sqlite_database.write(fail, "alone")
    assert await sqlite_database.read(get, "alone") == [None]


async def test_what_writes_nothing_waits_for_no_disk(sqlite_database: SqliteDatabase) -> None:
    await sqlite_database.write(slow(put), "first")
    assert sqlite_database.writer is not None
    before = sqlite_database.writer.commits
    assert await sqlite_database.write(get, "first") == ["x"]
    assert sqlite_database.writer.commits == before


async def test_long_ones_let_the_loop_go_on(sqlite_database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    await sqlite_database.write(slow(put), "first")
    monkeypatch.setattr(sqlite, "TURN_S", -1.0)
    assert sqlite_database.writer is not None
    before = sqlite_database.writer.commits
    assert await asyncio.gather(*(sqlite_database.write(put, f"n{n}") for n in range(5))) == ["x"] * 5
    assert sqlite_database.writer.commits - before == 5


async def test_a_file_that_another_process_holds_is_waited_for_elsewhere(
    sqlite_database: SqliteDatabase, sqlite_url: str
) -> None:
    await sqlite_database.write(slow(put), "first")
    holder = sqlite3.connect(path_of(sqlite_url), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(sqlite_database.write(put, "a"))
    while not sqlite_database._away:  # noqa: ASYNC110 - two rounds of the loop
        await asyncio.sleep(0)
    assert await sqlite_database.read(get, "a") == [None], "the loop goes on, and reads are served"
    holder.execute("ROLLBACK")
    holder.close()
    assert await writing == "x"


async def test_a_commit_that_fails_is_only_its_own_callers_business(sqlite_database: SqliteDatabase) -> None:
    await sqlite_database.write(slow(put), "first")

    @brief
    def offend(tx: Any) -> None:
        connection = tx.connection
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        connection.exec_driver_sql("INSERT INTO role_binding (uid, project, role) VALUES ('nobody', 'p', 'r')")

    @brief
    def ruin(tx: Any) -> None:
        driver(tx.connection).execute("ROLLBACK")

    for wrong, error in ((offend, sqlite3.IntegrityError), (ruin, sqlite3.OperationalError)):
        results = await asyncio.gather(
            sqlite_database.write(put, "a"), sqlite_database.write(wrong), sqlite_database.write(put, "b"),
            return_exceptions=True,
        )  # fmt: skip
        assert results[0] == results[2] == "x"
        assert isinstance(results[1], error)
        with pytest.raises(error):
            await sqlite_database.write(wrong)
    assert await sqlite_database.read(get, "a", "b") == ["x", "x"]


async def test_why_a_read_failed_is_told_though_its_transaction_is_over(sqlite_database: SqliteDatabase) -> None:
    """As after an error of the disk, with which SQLite ends the transaction itself."""

    def ruin(tx: Any) -> None:
        driver(tx.connection).execute("ROLLBACK")
        raise Conflict("the reason")

    for reading in (ruin, brief(slow(ruin))):
        with pytest.raises(Conflict, match="the reason"):
            await sqlite_database.read(reading)
        assert await sqlite_database.read(get, "nothing") == [None]


async def test_all_that_was_given_is_done_before_the_end(sqlite_database: SqliteDatabase) -> None:
    writes = [asyncio.ensure_future(sqlite_database.write(put if n % 2 else slow(put), f"n{n}")) for n in range(20)]
    await asyncio.sleep(0)
    await sqlite_database.close()
    assert await asyncio.gather(*writes) == ["x"] * 20
