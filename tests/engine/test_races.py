"""Races that one connection cannot have, each played on PostgreSQL and each with its mistake: the check must see it.

Locks in another order, replies of COMMIT that are lost, reads that are torn, two servers that claim at one moment, a
vote that meets the end of its time and a cancel. Counts outside the lock are in ``test_admission_races.py``, everything
that takes one connection is in ``tests/simulation``.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import bindparam, select, text

from cador.domain import events as ev
from cador.domain.commands import Admit, Start, WatchDeadline
from cador.domain.errors import CadorError
from cador.domain.replaying import Told, UnknownHistory, replay
from cador.domain.sharing import QueueLimits
from cador.domain.task import ApprovalStatus, WorkflowTask
from cador.engine.handlers import _admit, _timer
from cador.engine.hearing import Claim, Ear, Fenced, Outcome
from cador.operations.actor import Actor
from cador.operations.tasks import _cancel
from cador.operations.workflows import _delete
from cador.ports.stores import CommandRow, Database, NewApproval, Tx
from cador.storage import commands, wire
from cador.storage.admission import AdmissionQueue
from cador.storage.database import open_database
from cador.storage.postgres import Worker
from cador.storage.tables import COMMAND_FREE_START
from cador.storage.tables import command as c
from cador.storage.tasks import Tasks
from support.postgres_proxy import PostgresProxy
from support.rows import new_job, start, workflow_row

pytestmark = [pytest.mark.anyio, pytest.mark.postgres, pytest.mark.real]

DEADLINE_S = 30.0
LIMITS = QueueLimits(100)
ADMIN = Actor("admin", "Admin", "admin", admin=True)

USER = Actor(uid="u", name="U", account="u")


@pytest.fixture
async def servers(postgres_url: str) -> AsyncIterator[list[Database]]:
    """Two servers, and one who only looks."""
    opened = [await open_database(postgres_url, pool=4) for _ in range(3)]
    yield list(opened)
    for database in opened:
        await database.close()


def waiting(tx: Any) -> int:
    """How many connections wait for a lock of another."""
    statement = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    count: int = tx.connection.execute(statement).scalar_one()
    return count


def deadlocks(tx: Any) -> int:
    tx.connection.execute(text("SELECT pg_stat_clear_snapshot()"))
    count: int = tx.connection.execute(
        text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    ).scalar_one()
    return count


class Meeting:
    """Transactions that come to one point at one moment. They go on when all are there, or when one of those that are
    missing is seen to wait for a lock, so that it cannot come."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.there: set[str] = set()
        self.go = threading.Event()

    def come(self, name: str) -> None:
        """A transaction that is run again does not wait again."""
        if name not in self.there:
            self.there.add(name)
            assert self.go.wait(DEADLINE_S)

    async def hold(self, looker: Database) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.there) < self.count and not (self.there and await looker.read(waiting)):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        self.go.set()


async def together(looker: Database, meeting: Meeting, *works: Any) -> list[Any]:
    results = await asyncio.gather(meeting.hold(looker), *works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, CadorError):
            raise result
    return results[1:]


def submit(tx: Tx, claim: Claim, key: str, **fields: Any) -> Outcome[int]:
    ear = Ear(tx, claim)
    task_id = start(tx, key, **{"jobs": (new_job("a"),), **fields})
    ear.command(task_id, (Admit(),))
    return ear.outcome(task_id)


# -- the order of locks


async def cross(servers: list[Database]) -> int:
    """A delete has the admission row and wants the task; a cancel has the task and wants somebody to be admitted."""
    one, two, looker = servers
    await one.write(lambda tx: tx.workflows.add(workflow_row("w")))
    claim = Claim("one", LIMITS)
    task_id = (await one.write(submit, claim, "w")).value
    meeting = Meeting(2)

    def delete(tx: Tx) -> None:
        assert tx.admission.lock() is not None
        meeting.come("delete")
        _delete(tx, claim, ADMIN, "w", "p")

    def cancel(tx: Tx) -> None:
        tx.tasks.lock(task_id)
        meeting.come("cancel")
        ear = Ear(tx, Claim("two", LIMITS))
        ear.command(task_id, (Admit(),))
        ear.outcome(None)

    await together(looker, meeting, one.write(delete), two.write(cancel))
    return await looker.read(deadlocks)


async def test_who_has_a_task_never_waits_for_the_admission_row(servers: list[Database]) -> None:
    assert await cross(servers) == 0


async def test_waiting_for_it_would_be_a_deadlock(servers: list[Database], monkeypatch: pytest.MonkeyPatch) -> None:
    lock = AdmissionQueue.lock
    monkeypatch.setattr(AdmissionQueue, "lock", lambda queue, *, wait=True: lock(queue))
    found = await cross(servers)
    async with asyncio.timeout(DEADLINE_S):
        while not found:  # the server counts them a moment later
            await asyncio.sleep(0.05)
            found = await servers[2].read(deadlocks)
    assert found == 1


async def test_starts_cancels_passes_and_deletes_get_by_each_other(servers: list[Database]) -> None:
    """Many of each at once on few workflows: all come to their end, and the server had to break up none of them."""
    keys = ("u", "v", "w")

    def arrange(tx: Tx) -> None:
        for key in keys:
            tx.workflows.add(workflow_row(key, limit=2))

    await servers[0].write(arrange)

    async def life(number: int) -> None:
        database, claim = servers[number % 2], Claim(f"server-{number % 2}", LIMITS)
        key = keys[number % 3]
        if number % 15 == 14:
            await attempt(database.write(_delete, claim, ADMIN, key, "p"))
            await attempt(servers[0].write(lambda tx: tx.workflows.add(workflow_row(key, limit=2))))
            return
        outcome = await attempt(database.write(submit, claim, key))
        await attempt(database.write(_admit, claim))
        if outcome is not None:
            other = servers[(number + 1) % 2]
            await attempt(other.write(_cancel, Claim("other", LIMITS), outcome.value, USER))

    async def attempt(work: Any) -> Any:
        try:
            return await work
        except CadorError:
            return None  # the workflow is gone, or the task is over

    async with asyncio.timeout(4 * DEADLINE_S), asyncio.TaskGroup() as group:
        for number in range(120):
            group.create_task(life(number))
    await servers[0].write(_admit, Claim("server-0", LIMITS))
    assert await servers[2].read(deadlocks) == 0


async def fire_while_it_ends(servers: list[Database], fire: Callable[[Tx, Claim, CommandRow], Any]) -> int:
    """The time of a job is up as it ends: one has the timer and wants the task, the other takes the timer back."""
    one, two, looker = servers
    await one.write(lambda tx: tx.workflows.add(workflow_row("w")))
    task_id = (await one.write(submit, Claim("one", LIMITS, starts=1), "w")).value
    job = (await one.read(lambda tx: tx.tasks.load(task_id))).jobs[0]

    def begin(tx: Tx) -> CommandRow | None:
        Ear(tx, Claim("one", LIMITS)).hear(task_id, ev.JobStarted(tx.now, job.id, job.attempt, job.recovery))
        return tx.commands.claim_one(f"{task_id}/{WatchDeadline(job.id, job.attempt, 0).key}", "one")

    row = await one.write(begin)
    assert row is not None
    meeting = Meeting(2)

    def expire(tx: Tx) -> None:
        delete = tx.commands.delete

        def deleted(command_id: int, me: str) -> bool:
            gone = delete(command_id, me)
            meeting.come("timer")
            return gone

        tx.commands.delete = deleted  # type: ignore[method-assign]
        try:
            with suppress(Fenced):  # the other was first
                fire(tx, Claim("one", LIMITS), row)
        finally:
            del tx.commands.delete  # type: ignore[attr-defined]

    def end(tx: Tx) -> None:
        task = tx.tasks.lock(task_id)
        meeting.come("end")
        ended = ev.JobEnded(tx.now, job.id, job.attempt, job.recovery, ev.Result.PASSED)
        Ear(tx, Claim("two", LIMITS)).hear(task_id, ended, locked=task)

    await together(looker, meeting, one.write(expire), two.write(end))
    task = await looker.read(lambda tx: tx.tasks.load(task_id))
    assert task.final
    return await looker.read(deadlocks)


async def test_a_timer_waits_for_its_task_before_it_is_taken(servers: list[Database]) -> None:
    assert await fire_while_it_ends(servers, _timer) == 0


async def test_taking_the_timer_first_would_be_a_deadlock(servers: list[Database]) -> None:
    def settled_first(tx: Tx, claim: Claim, row: CommandRow) -> None:
        ear = Ear(tx, claim)
        ear.settle(row)
        ear.hear(row.task_id, ev.DeadlinePassed(tx.now, int(row.payload["job_id"]), int(row.payload["attempt"])))

    found = await fire_while_it_ends(servers, settled_first)
    async with asyncio.timeout(DEADLINE_S):
        while not found:  # the server counts them a moment later
            await asyncio.sleep(0.05)
            found = await servers[2].read(deadlocks)
    assert found == 1


# -- the reply of a COMMIT


async def lose_a_reply(postgres_url: str) -> int:
    """A task is started, and the connection breaks between the COMMIT and its reply; how many tasks there are then."""
    proxy = PostgresProxy(postgres_url)
    database = await open_database(proxy.url, pool=2)
    try:
        await database.write(lambda tx: tx.workflows.add(workflow_row("w")))
        proxy.lose_next_reply = True
        await database.write(submit, Claim("one", LIMITS), "w")
        assert not proxy.lose_next_reply
        return await database.read(lambda tx: tx.tasks.count("w"))
    finally:
        await database.close()
        proxy.close()


async def test_a_start_whose_reply_is_lost_is_one_task(postgres_url: str) -> None:
    assert await lose_a_reply(postgres_url) == 1


async def test_repeating_it_without_asking_would_be_two(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "_find_out", lambda worker, xid, work: False)
    assert await lose_a_reply(postgres_url) == 2


# -- what one read sees


async def look_while_it_ends(servers: list[Database]) -> tuple[str, str]:
    """Status of a task and of its job as one read sees them, while both change in between."""
    one, _, looker = servers
    await one.write(lambda tx: tx.workflows.add(workflow_row("w")))
    task_id = (await one.write(submit, Claim("one", LIMITS, starts=1), "w")).value
    seen, changed = threading.Event(), threading.Event()

    def read(tx: Tx) -> tuple[str, str]:
        status = tx.tasks.row(task_id).status
        seen.set()
        assert changed.wait(DEADLINE_S)
        return status, tx.tasks.jobs(task_id)[0].status

    def end(tx: Tx) -> None:
        assert seen.wait(DEADLINE_S)
        job = tx.tasks.lock(task_id).jobs[0]
        ear = Ear(tx, Claim("one", LIMITS))
        ear.hear(task_id, ev.JobEnded(tx.now, job.id, job.attempt, job.recovery, ev.Result.PASSED))

    async def write() -> None:
        await one.write(end)
        changed.set()

    status, _ = await asyncio.gather(looker.read(read), write())
    return status


async def test_a_read_is_of_one_moment(servers: list[Database]) -> None:
    assert await look_while_it_ends(servers) == ("running", "prepare")


async def test_reading_what_is_committed_meanwhile_would_be_torn(
    servers: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    (begin, values), *rest = wire._BEGIN_READ
    torn = begin.replace("REPEATABLE READ", "READ COMMITTED")
    assert torn != begin
    monkeypatch.setattr(wire, "_BEGIN_READ", ((torn, values), *rest))
    assert await look_while_it_ends(servers) == ("running", "passed")


# -- who carries a command out


async def claim_at_once(servers: list[Database]) -> list[set[int]]:
    """What each of two servers claims of twenty starts, at one moment."""
    one, two, looker = servers
    await one.write(lambda tx: tx.commands.add(1, [Start(n, 1, 0) for n in range(20)], 1.0))
    meeting = Meeting(2)

    def claim(tx: Tx, me: str) -> set[int]:
        rows = tx.commands.claim(me, tx.now, 12, starts=12)
        meeting.come(me)
        return {row.id for row in rows}

    return await together(looker, meeting, one.write(claim, "one"), two.write(claim, "two"))


async def test_servers_that_claim_at_one_moment_pass_each_other_by(servers: list[Database]) -> None:
    first, second = await claim_at_once(servers)
    assert not first & second
    assert sorted(map(len, (first, second))) == [8, 12]


async def test_looking_without_a_lock_would_claim_twice(
    servers: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = (
        select(c.c.id, c.c.due_at)
        .where(COMMAND_FREE_START, c.c.due_at <= bindparam("now"))
        .order_by(c.c.due_at, c.c.id)
        .limit(bindparam("limit"))
    )
    monkeypatch.setattr(commands, "FREE_STARTS", free)
    first, second = await claim_at_once(servers)
    assert first & second


# -- a vote, the end of its time, and a cancel


async def decide_at_once(servers: list[Database]) -> tuple[WorkflowTask, bool, int]:
    """The task after all three, whether its events tell the same, and how many of the three closed the approval."""
    one, two, looker = servers
    await one.write(lambda tx: tx.workflows.add(workflow_row("w")))
    asked = (NewApproval(0, None, 1, (("u1", "Ann"),), 60.0),)
    task_id = (await one.write(submit, Claim("one", LIMITS), "w", approvals=asked)).value
    approval = (await one.read(lambda tx: tx.tasks.load(task_id))).approvals[0]
    assert approval.status is ApprovalStatus.WAITING
    meeting = Meeting(3)
    closed = []

    def hear(tx: Tx, name: str, event: Callable[[float], ev.Event]) -> None:
        lock = tx.tasks.lock

        def locked(of: int) -> WorkflowTask:
            task = lock(of)
            meeting.come(name)
            return task

        def also(tx: Tx, before: WorkflowTask, after: WorkflowTask) -> None:
            if before.approvals[0].status is not after.approvals[0].status:
                closed.append(name)

        tx.tasks.lock = locked  # type: ignore[method-assign]
        try:
            Ear(tx, Claim(name, LIMITS)).hear(task_id, event(tx.now), also)
        finally:
            del tx.tasks.lock  # type: ignore[attr-defined]

    await together(
        looker,
        meeting,
        one.write(hear, "vote", lambda at: ev.Voted(at, approval.id, "u1", "Ann", True, "")),
        two.write(hear, "expiry", lambda at: ev.ApprovalExpired(at, approval.id, approval.round)),
        two.write(hear, "cancel", lambda at: ev.CancelRequested(at, "u2", "Ben")),
    )

    def read(tx: Tx) -> tuple[WorkflowTask, list[Told]]:
        return tx.tasks.load(task_id), [Told(r.id, r.at, r.kind, r.data) for r in tx.tasks.events(task_id)]

    task, history = await looker.read(read)
    try:
        agrees = replay(task, history, float("inf")).agrees
    except UnknownHistory:  # one of them does not even fit
        agrees = False
    return task, agrees, len(closed)


async def test_a_vote_meets_the_end_of_its_time_and_a_cancel(servers: list[Database]) -> None:
    task, agrees, closed = await decide_at_once(servers)
    assert agrees
    assert task.approvals[0].status is not ApprovalStatus.WAITING
    assert closed == 1, "the first to come closed it, the others found it so"


async def test_without_the_lock_on_the_task_its_events_would_not_be_its_rows(
    servers: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tasks, "lock", Tasks.load)
    _, agrees, closed = await decide_at_once(servers)
    assert closed > 1
    assert not agrees
