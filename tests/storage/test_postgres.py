"""PostgreSQL when things go wrong: transactions in each other's way, lost connections, lost replies."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from cador.domain.errors import AlreadyExists, Conflict, Unavailable
from cador.domain.task import TaskStatus
from cador.ports.deliveries import Delivery
from cador.ports.stores import Database, Tx, User
from cador.storage.database import OpenDatabase, OutcomeUnknown, Work, open_database
from cador.storage.postgres import Worker, engine_for
from support.databases import PostgresServer
from support.postgres_proxy import PostgresProxy
from support.rows import start, workflow_row

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[PostgresProxy]:
    running = PostgresProxy(postgres_url)
    yield running
    running.close()


@pytest.fixture
async def behind_proxy(proxy: PostgresProxy) -> AsyncIterator[OpenDatabase]:
    opened = await open_database(proxy.url, pool=2)
    yield opened
    await opened.close()


class Counting:
    """Stores a number that grows with each run that is committed, and counts the runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.heard: list[int] = []

    def __call__(self, tx: Tx) -> int:
        self.runs += 1
        number = int(tx.meta.get("n") or 0) + 1
        tx.meta.set("n", str(number))
        tx.after_commit(lambda: self.heard.append(number))
        return number


async def stored(database: Database) -> str | None:
    return await database.read(lambda tx: tx.meta.get("n"))


async def test_a_commit_whose_reply_is_lost_is_not_repeated(proxy: PostgresProxy, behind_proxy: Database) -> None:
    work = Counting()
    await behind_proxy.write(work)
    proxy.lose_next_reply = True
    assert await behind_proxy.write(work) == 2
    assert (work.runs, await stored(behind_proxy), work.heard) == (2, "2", [1, 2])
    assert not proxy.lose_next_reply


async def test_a_commit_that_never_arrived_is_repeated(proxy: PostgresProxy, behind_proxy: Database) -> None:
    work = Counting()
    await behind_proxy.write(work)  # the first connection of all says COMMIT for reasons of its own
    proxy.lose_next_commit = True
    assert await behind_proxy.write(work) == 2
    assert (work.runs, await stored(behind_proxy), work.heard) == (3, "2", [1, 2])


@pytest.mark.parametrize(("lost", "there"), [("lose_next_commit", None), ("lose_next_reply", "1")])
def test_nothing_is_guessed_while_nobody_can_be_asked(
    proxy: PostgresProxy, lost: str, there: str | None, postgres_url: str
) -> None:
    loop = asyncio.new_event_loop()
    worker, counting = Worker(engine_for(proxy.url), None, ask_s=0.3), Counting()
    work = Work(counting, loop.create_future(), read_only=False)
    worker.carry_out(Work(lambda tx: None, work.future, read_only=False))
    setattr(proxy, lost, True)
    proxy.down_after_loss = True
    worker.carry_out(work)
    worker.close()
    loop.close()
    assert isinstance(work.error, OutcomeUnknown)
    assert isinstance(work.error, Unavailable)
    assert (counting.runs, work.calls) == (1, [])
    direct = Worker(engine_for(postgres_url), None)
    look = Work(lambda tx: tx.meta.get("n"), work.future, read_only=True)
    direct.carry_out(look)
    direct.close()
    assert look.result == there


def test_a_server_that_became_read_only_is_left(postgres_url: str) -> None:
    """Also when only the COMMIT hears of it: after a failover the name leads to another server."""
    loop = asyncio.new_event_loop()
    worker = Worker(engine_for(postgres_url), None)

    def carried_out(fn: Callable[[Tx], Any], *, read_only: bool = False) -> BaseException | None:
        work = Work(fn, loop.create_future(), read_only=read_only)
        worker.carry_out(work)
        return work.error

    turn = text("SET default_transaction_read_only = on")
    assert carried_out(lambda tx: tx.connection.execute(turn), read_only=True) is None  # type: ignore[attr-defined]
    told = carried_out(lambda tx: tx.deliveries.remove(Delivery(1, "callback", "passed", 0, "")))
    assert isinstance(told, Unavailable)
    assert carried_out(lambda tx: tx.meta.set("n", "1")) is None
    worker.close()
    loop.close()


async def test_a_connection_that_breaks_before_the_commit(behind_proxy: Database, proxy: PostgresProxy) -> None:
    runs = []

    def work(tx: Tx) -> int:
        runs.append(1)
        tx.meta.set("n", "1")
        if len(runs) == 1:
            proxy.cut()
        tx.meta.get("n")
        return len(runs)

    assert await behind_proxy.write(work) == 2
    assert await stored(behind_proxy) == "1"


async def test_a_server_process_that_is_ended_before_the_commit(postgres_database: Database) -> None:
    runs = []

    def work(tx: Any) -> int:
        runs.append(1)
        tx.meta.set("n", "1")
        if len(runs) == 1:
            tx.connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return len(runs)

    assert await postgres_database.write(work) == 2
    assert await stored(postgres_database) == "1"


async def test_away_and_back(behind_proxy: Database, proxy: PostgresProxy) -> None:
    work = Counting()
    await behind_proxy.write(work)
    proxy.down = True
    proxy.cut()
    with pytest.raises(Unavailable, match="PostgreSQL"):
        await behind_proxy.write(work)
    with pytest.raises(Unavailable, match="PostgreSQL"):
        await stored(behind_proxy)
    assert work.runs == 1
    proxy.down = False
    assert await behind_proxy.write(work) == 2
    assert (await stored(behind_proxy), work.heard) == ("2", [1, 2])


@pytest.mark.real
async def test_a_stopped_server_and_the_same_one_started_again() -> None:
    server = await asyncio.to_thread(PostgresServer)
    try:
        opened = await open_database(server.create(), pool=2)
        work = Counting()
        await opened.write(work)
        await asyncio.to_thread(server.stop)
        with pytest.raises(Unavailable):
            await opened.write(work)
        await asyncio.to_thread(server.start)
        assert await opened.write(work) == 2
        assert await stored(opened) == "2"
        await opened.close()
    finally:
        await asyncio.to_thread(server.close)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://postgres@/nothing?host=/nonexistent", "No such file or directory"),
        ("postgresql://postgres@/nothing?hots=/nonexistent", "hots"),
        ("postgresql://postgres:s3cret@/nothing?sslmode=s3cret", 'invalid sslmode value: "***"'),
    ],
)
async def test_a_server_that_is_not_there_is_unavailable_and_the_start_says_why(url: str, why: str) -> None:
    with pytest.raises(Unavailable, match="cannot be reached") as told:
        await open_database(url)
    assert why in str(told.value)
    assert "s3cret" not in str(told.value)


async def test_a_database_that_does_not_exist_is_named(postgres_url: str) -> None:
    with pytest.raises(Unavailable, match=r'"missing_.*" does not exist'):
        await open_database(postgres_url.replace("/test_", "/missing_"))


async def test_a_deadlock_is_nobodys_error(postgres_database: Database) -> None:
    def add(tx: Tx) -> None:
        for key in "ab":
            tx.workflows.add(workflow_row(key))

    await postgres_database.write(add)
    both = threading.Barrier(2)

    def lock(tx: Tx, keys: str, runs: list[int]) -> str:
        tx.workflows.find(keys[0], lock=True)
        runs.append(1)
        if len(runs) == 1:
            both.wait(20)
        tx.workflows.find(keys[1], lock=True)
        return keys

    runs: tuple[list[int], list[int]] = ([], [])
    results = await asyncio.gather(*(
        postgres_database.write(lock, keys, of) for keys, of in zip(("ab", "ba"), runs, strict=True)
    ))  # fmt: skip
    assert results == ["ab", "ba"]
    assert sorted(map(len, runs)) == [1, 2]


async def test_a_race_for_a_unique_value_is_told_as_taken(postgres_database: Database) -> None:
    def add(tx: Tx) -> None:
        for name in ("ann", "bob"):
            tx.people.add_user(User(name, name, name))

    await postgres_database.write(add)
    both = threading.Barrier(2)

    def rename(tx: Tx, uid: str, runs: list[int]) -> None:
        user = tx.people.user(uid)
        assert user is not None
        assert tx.people.by_account("new") is None or runs
        runs.append(1)
        if len(runs) == 1:
            both.wait(20)
        tx.people.replace_user(replace(user, account="new"))

    calls = (postgres_database.write(rename, uid, []) for uid in ("ann", "bob"))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["AlreadyExists", "NoneType"]
    assert AlreadyExists in {type(result) for result in results}


async def test_a_locked_task_makes_others_wait_and_then_see(postgres_database: Database) -> None:
    task_id = await postgres_database.write(start)
    locked, looking = threading.Event(), threading.Event()

    def first(tx: Tx) -> None:
        task = tx.tasks.lock(task_id)
        locked.set()
        assert looking.wait(20)
        jobs = (replace(task.jobs[0], error="seen"), *task.jobs[1:])
        tx.tasks.save(task, replace(task, status=TaskStatus.RUNNING, jobs=jobs))

    def second(tx: Tx) -> tuple[str, str]:
        assert locked.wait(20)
        looking.set()
        task = tx.tasks.lock(task_id)
        return task.status.value, task.jobs[0].error

    _, seen = await asyncio.gather(postgres_database.write(first), postgres_database.write(second))
    assert seen == ("running", "seen")


async def test_an_error_of_the_function_is_not_repeated(postgres_database: Database) -> None:
    runs = []

    def work(tx: Tx) -> None:
        runs.append(1)
        raise Conflict("no")

    with pytest.raises(Conflict):
        await postgres_database.write(work)
    assert runs == [1]


async def test_a_statement_that_takes_too_long_is_unavailable(postgres_database: Database) -> None:
    def work(tx: Any) -> None:
        tx.connection.exec_driver_sql("SET LOCAL statement_timeout = '50ms'")
        tx.connection.exec_driver_sql("SELECT pg_sleep(20)")

    with pytest.raises(Unavailable, match="too slow"):
        await postgres_database.write(work)
    await postgres_database.write(Counting())
