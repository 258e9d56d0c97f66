"""Limits under real concurrency: several servers' connections to one PostgreSQL, real waits for the admission row.

What SQLite and the simulation cannot show, as they have one writer: counts taken outside the lock, or of the time
before it was got, and locks taken in another order.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import text

from cador.domain import events as ev
from cador.domain.commands import Admit
from cador.domain.sharing import QueueLimits
from cador.engine.handlers import _admit
from cador.engine.hearing import Claim, Ear, Outcome
from cador.ports.admission import Gate
from cador.ports.stores import CommandRow, Database, Tx
from cador.storage.admission import AdmissionQueue
from cador.storage.database import open_database
from support.rows import new_job, start, workflow_row

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

SERVERS = 3
DEADLINE_S = 20.0


@pytest.fixture
async def servers(postgres_url: str) -> AsyncIterator[list[Database]]:
    """Pools of their own on one database, as servers have them."""
    opened = [await open_database(postgres_url, pool=4) for _ in range(SERVERS)]
    yield list(opened)
    for database in opened:
        await database.close()


# -- what happened, and whether it was allowed


@dataclass(frozen=True)
class Happened:
    """``change``: +1 got a slot, -1 gave it back."""

    workflow: str
    change: int


def history(tx: Any) -> list[Happened]:
    """From the events, in the order of their ids: who is let in has a higher one than every end it counted on."""
    rows = tx.connection.execute(
        text(
            "SELECT t.workflow_key, e.kind FROM event e JOIN workflow_task t ON t.id = e.task_id "
            "WHERE e.kind IN ('admitted', 'job_ended') ORDER BY e.id"
        )
    )
    return [Happened(row.workflow_key, 1 if row.kind == "admitted" else -1) for row in rows]


def violations(events: list[Happened], most: int, of_workflow: dict[str, int]) -> list[str]:
    found = []
    held: Counter[str] = Counter()
    for number, happened in enumerate(events):
        held[happened.workflow] += happened.change
        limit = of_workflow.get(happened.workflow, -1)
        if held.total() > most:
            found.append(f"event {number}: {held.total()} hold slots, {most} may")
        if 0 <= limit < held[happened.workflow]:
            found.append(f"event {number}: {held[happened.workflow]} of {happened.workflow} run, {limit} may")
    return found


def test_the_checker_sees_what_is_too_much() -> None:
    one, two = Happened("w", 1), Happened("v", 1)
    assert violations([one, two, replace(one, change=-1), one], 2, {"w": 1}) == []
    assert len(violations([one, two], 1, {})) == 1
    assert len(violations([one, one], 9, {"w": 1})) == 1


# -- four hundred racing starts


def submit(tx: Tx, claim: Claim, key: str, number: int) -> Outcome[None]:
    ear = Ear(tx, claim)
    task_id = start(tx, key, create_at=float(number), jobs=(new_job("a"),))
    ear.command(task_id, (Admit(),))
    return ear.outcome(None)


def finish(tx: Tx, claim: Claim, row: CommandRow) -> Outcome[None]:
    ear = Ear(tx, claim)
    ear.settle(row)
    job = row.payload
    ear.hear(row.task_id, ev.JobStarted(tx.now, job["job_id"], job["attempt"], job["recovery"]))
    ear.hear(row.task_id, ev.JobEnded(tx.now, job["job_id"], job["attempt"], job["recovery"], ev.Result.PASSED))
    return ear.outcome(None)


def redefine(tx: Tx, claim: Claim, limit: int) -> Outcome[None]:
    """As an edited definition does it: admission, then workflow, then tasks."""
    ear = Ear(tx, claim)
    tx.admission.lock()
    row = tx.workflows.find("edited", lock=True)
    assert row is not None
    tx.workflows.replace(replace(row, concurrency_limit=limit))
    ear.admit()
    return ear.outcome(None)


class Server:
    """Carries out what its transactions cause, as an engine does."""

    def __init__(self, database: Database, name: str, limits: QueueLimits) -> None:
        self.database = database
        self.claim = Claim(name, limits, starts=1000)

    async def transact(self, fn: Any, *args: Any) -> None:
        outcome = await self.database.write(fn, self.claim, *args)
        async with asyncio.TaskGroup() as group:
            for row in outcome.rows:
                if row.kind == "start":
                    group.create_task(self.transact(finish, row))
                elif row.kind == "admit":
                    group.create_task(self.transact(_admit))


async def race(servers: list[Database], count: int, *, most: int, limit: int) -> list[Happened]:
    """Start *count* tasks of three workflows on all servers at once, and end each as soon as it runs."""

    def arrange(tx: Tx) -> None:
        tx.workflows.add(workflow_row("limited", limit=limit))
        tx.workflows.add(workflow_row("free", limit=-1))
        tx.workflows.add(workflow_row("edited", limit=1))

    await servers[0].write(arrange)
    run = [Server(database, f"server-{n}", QueueLimits(most)) for n, database in enumerate(servers)]
    async with asyncio.timeout(30 * DEADLINE_S), asyncio.TaskGroup() as group:
        for number in range(count):
            key = ("limited", "limited", "free", "edited")[number % 4]
            group.create_task(run[number % len(run)].transact(submit, key, number))
            if number % 20 == 10:
                group.create_task(run[number % len(run)].transact(redefine, number % 3))
        # Whatever was left waiting behind a limit of 0 must come with its being raised.
    await run[0].transact(redefine, -1)
    return await servers[0].read(history)


def deadlocks(tx: Any) -> int:
    tx.connection.execute(text("SELECT pg_stat_clear_snapshot()"))
    count: int = tx.connection.execute(
        text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    ).scalar_one()
    return count


@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.real)])
async def test_racing_starts_never_exceed_a_limit_and_none_is_lost(servers: list[Database], count: int) -> None:
    events = await race(servers, count, most=5, limit=3)
    assert violations(events, 5, {"limited": 3}) == []
    assert Counter(happened.change for happened in events) == {1: count, -1: count}
    left = await servers[0].read(lambda tx: (tx.admission.held(), tx.admission.lines(9)[1], tx.commands.next_due()))
    assert left == (0, [], None)
    assert await servers[0].read(deadlocks) == 0


# -- two who count at the same moment


class Meeting:
    """Two passes that meet after both have counted and before either has let anybody in; one who will not come ends
    the waiting."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.barrier = threading.Barrier(2)
        self.met = 0
        count = AdmissionQueue.lines

        def lines(queue: AdmissionQueue, slots: int) -> Any:
            found = count(queue, slots)
            with suppress(threading.BrokenBarrierError):
                self.barrier.wait(DEADLINE_S)
                self.met += 1
            return found

        monkeypatch.setattr(AdmissionQueue, "lines", lines)

    def submit(self, tx: Tx, claim: Claim, key: str, number: int) -> Outcome[None]:
        try:
            return submit(tx, claim, key, number)
        finally:
            self.barrier.abort()


@pytest.fixture
def meeting(monkeypatch: pytest.MonkeyPatch) -> Meeting:
    return Meeting(monkeypatch)


async def both_at_once(servers: list[Database], meeting: Meeting) -> list[Happened]:
    """Two starts of two workflows, where one may run. Of one workflow they would wait for each other's number."""
    keys = ("v", "w")
    await servers[0].write(lambda tx: [tx.workflows.add(workflow_row(key, limit=-1)) for key in keys])
    claims = [Claim(key, QueueLimits(1)) for key in keys]
    await asyncio.gather(*(servers[n].write(meeting.submit, claims[n], key, n) for n, key in enumerate(keys)))
    return await servers[0].read(history)


async def test_two_passes_never_count_at_the_same_moment(servers: list[Database], meeting: Meeting) -> None:
    events = await both_at_once(servers, meeting)
    assert violations(events, 1, {}) == []
    assert (len(events), meeting.met) == (1, 0)


async def test_counting_outside_the_lock_would_be_noticed(
    servers: list[Database], meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with the lock taken away: the checker finds what it must find."""

    def no_lock(queue: AdmissionQueue, *, wait: bool = True) -> Gate | None:
        return queue.gate()

    monkeypatch.setattr(AdmissionQueue, "lock", no_lock)
    monkeypatch.setattr(AdmissionQueue, "charge", lambda queue, clock, times: None)  # a row that both would change
    events = await both_at_once(servers, meeting)
    assert meeting.met == 2
    assert violations(events, 1, {}) == ["event 1: 2 hold slots, 1 may"]


# -- who waited for the row counts anew


async def test_who_waited_for_the_row_sees_what_was_done_meanwhile(servers: list[Database]) -> None:
    """Slots and limits are those of the moment at which the row was got, not of the moment it was asked for."""
    holding, waiting, asked = threading.Event(), threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        tx.workflows.add(workflow_row("w", limit=-1))
        assert tx.admission.lock() is not None
        holding.set()
        assert waiting.wait(DEADLINE_S)
        tx.admission.set_limits(7, None, None)
        tx.admission.charge(4.0, {"p": 5.0})
        start(tx, "w", jobs=(new_job("a"),))
        Ear(tx, Claim("first", QueueLimits(1))).admit()

    def count(tx: Any) -> tuple[Gate | None, int, bool]:
        assert holding.wait(DEADLINE_S)
        tx.connection.execute(text("SET LOCAL application_name = 'waits'"))
        asked.set()
        gate = tx.admission.lock()
        let_in = tx.connection.execute(text("SELECT max(at) FROM event WHERE kind = 'admitted'")).scalar_one()
        return gate, tx.admission.held(), tx.now < let_in < tx.later

    async def until_it_waits() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.to_thread(asked.wait, DEADLINE_S)
            while not await servers[2].read(_anybody_waits):  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)
        waiting.set()

    _, counted, _ = await asyncio.gather(servers[0].write(hold), servers[1].write(count), until_it_waits())
    assert counted == (Gate(7, None, None, 5.0), 1, True)


def _anybody_waits(tx: Any) -> bool:
    statement = text(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waits' AND wait_event_type = 'Lock'"
    )
    return bool(tx.connection.execute(statement).scalar_one())
