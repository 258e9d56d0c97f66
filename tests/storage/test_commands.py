"""Commands and executions on both databases."""

import asyncio
from dataclasses import replace

import pytest

from cador.domain.commands import Admit, Forget, Start, Stop, Tell, WaitRetry, WatchApproval, WatchDeadline
from cador.ports.peers import Replica
from cador.ports.stores import HERE, CommandRow, Database, ExecutionRow, Tx
from cador.storage.database import OpenDatabase, open_database

pytestmark = pytest.mark.anyio


async def everything(database: Database) -> dict[str, CommandRow]:
    """All commands by key, left as they are."""

    def look(tx: Tx) -> dict[str, CommandRow]:
        tx.commands.release_others("")
        rows = tx.commands.claim("looker", 1e12, 1000, starts=1000)
        raise Seen({row.key: row for row in rows})

    try:
        await database.write(look)
    except Seen as seen:
        return seen.rows
    raise AssertionError


class Seen(Exception):
    def __init__(self, rows: dict[str, CommandRow]) -> None:
        self.rows = rows


async def test_what_a_process_adds_it_may_carry_out_at_once(database: Database) -> None:
    commands = [
        Start(1, 1, 0), Start(2, 1, 0), Start(3, 1, 0), Stop(4, 1, 0, "cancel"), WatchDeadline(1, 1, 99.0),
        WaitRetry(5, 2, 5.0), WatchApproval(6, 1, 77.0), Tell("created", 0), Admit(), Admit(),
    ]  # fmt: skip
    mine = await database.write(lambda tx: tx.commands.add(7, commands, 10.0, me="me", claim=2))

    assert [row.kind for row in mine] == ["start", "start", "stop", "tell", "admit", "admit"]
    assert mine[0] == CommandRow(
        mine[0].id, "7/start:1:1:0", "start", 7, {"job_id": 1, "attempt": 1, "recovery": 0}, 10.0, "me", 0
    )
    assert len({row.key for row in mine}) == 6
    assert mine[2].payload == {"job_id": 4, "attempt": 1, "recovery": 0, "reason": "cancel"}
    rest = await database.write(lambda tx: tx.commands.claim("you", 50.0, 10, starts=10))
    assert [(row.key, row.owner, row.due_at) for row in rest] == [
        ("7/retry-pause:5:2", "you", 5.0), ("7/start:3:1:0", "you", 10.0),
    ]  # fmt: skip


async def test_without_a_name_nothing_is_claimed(database: Database) -> None:
    assert await database.write(lambda tx: tx.commands.add(1, [Start(1, 1, 0), Admit()], 10.0, claim=5)) == []
    rows = await database.write(lambda tx: tx.commands.claim("me", 10.0, 10, starts=10))
    assert [row.kind for row in rows] == ["start", "admit"]


async def test_a_key_is_added_once(database: Database) -> None:
    first = await database.write(lambda tx: tx.commands.add(1, [Start(1, 1, 0)], 10.0, me="me", claim=1))
    again = await database.write(lambda tx: tx.commands.add(1, [Start(1, 1, 0)], 20.0, me="you", claim=1))
    other = await database.write(lambda tx: tx.commands.add(2, [Start(1, 1, 0)], 20.0, me="you", claim=1))
    assert (len(first), again, len(other)) == (1, [], 1)
    assert (await everything(database)).keys() == {"1/start:1:1:0", "2/start:1:1:0"}


async def test_a_clock_that_was_set_back_hurries_what_is_due_at_once(database: Database) -> None:
    await database.write(lambda tx: tx.commands.add(1, [Start(1, 1, 0), WatchDeadline(1, 1, 9000.0)], 5000.0))
    (held,) = await database.write(lambda tx: tx.commands.add(2, [Start(1, 1, 0)], 5000.0, me="me", claim=1))
    await database.write(lambda tx: tx.commands.postpone(held.id, "me", 1060.0))
    await database.write(lambda tx: tx.commands.hurry(1000.0))
    due = {key: row.due_at for key, row in (await everything(database)).items()}
    assert due == {"1/start:1:1:0": 1000.0, "1/deadline:1:1": 9000.0, "2/start:1:1:0": 1060.0}
    await database.write(lambda tx: tx.commands.hurry(900.0))
    assert (await everything(database))["2/start:1:1:0"].due_at == 900.0, "nobody puts off for so long"


async def test_forgetting_takes_back_by_key_and_order(database: Database) -> None:
    watch = WatchDeadline(1, 1, 99.0)
    await database.write(lambda tx: tx.commands.add(1, [watch, WaitRetry(2, 1, 5.0)], 10.0))
    await database.write(lambda tx: tx.commands.add(2, [watch], 10.0))
    await database.write(lambda tx: tx.commands.add(1, [Forget(watch.key), Forget("unknown")], 10.0))
    assert (await everything(database)).keys() == {"1/retry-pause:2:1", "2/deadline:1:1"}

    later = replace(watch, due_at=200.0)
    await database.write(lambda tx: tx.commands.add(2, [Forget(watch.key), later], 10.0))
    assert (await everything(database))["2/deadline:1:1"].due_at == 200.0
    await database.write(lambda tx: tx.commands.add(3, [watch, Forget(watch.key)], 10.0))
    assert "3/deadline:1:1" not in await everything(database)


async def test_claims_are_the_oldest_due_and_bounded(database: Database) -> None:
    def add(tx: Tx) -> None:
        for number, due in enumerate((5.0, 3.0, 9.0, 1.0)):
            tx.commands.add(number, [WaitRetry(number, 1, due)], 0.0)
        for number in (10, 11, 12):
            tx.commands.add(number, [Start(number, 1, 0)], 2.0)

    await database.write(add)

    async def claim(now: float, limit: int, starts: int) -> list[int]:
        rows = await database.write(lambda tx: tx.commands.claim("me", now, limit, starts=starts))
        return [row.task_id for row in rows]

    assert await claim(0.5, 10, 10) == []
    assert await claim(8.0, 3, 1) == [3, 10, 1]
    assert await claim(8.0, 2, 0) == [0]
    assert await claim(8.0, 1, 5) == [11]
    assert await claim(8.0, 10, 5) == [12]
    assert await claim(9.0, 10, 5) == [2]
    assert await claim(9.0, 0, 5) == []


async def test_next_due(database: Database) -> None:
    async def due(*, starts: bool = True) -> float | None:
        return await database.read(lambda tx: tx.commands.next_due(starts=starts))

    assert await due() is None
    await database.write(lambda tx: tx.commands.add(1, [WaitRetry(1, 1, 30.0), Start(1, 1, 0)], 20.0))
    assert (await due(), await due(starts=False)) == (20.0, 30.0)
    await database.write(lambda tx: tx.commands.claim("me", 100.0, 10, starts=10))
    assert await due() is None


async def test_only_the_owner_deletes_and_postpones(database: Database) -> None:
    (row,) = await database.write(lambda tx: tx.commands.add(1, [Start(1, 1, 0)], 10.0, me="me", claim=1))
    assert not await database.write(lambda tx: tx.commands.delete(row.id, "you"))
    assert not await database.write(lambda tx: tx.commands.postpone(row.id, "you", 50.0))
    assert await database.write(lambda tx: tx.commands.postpone(row.id, "me", 50.0))
    assert not await database.write(lambda tx: tx.commands.delete(row.id, "me")), "given back: not mine any more"
    (again,) = await database.write(lambda tx: tx.commands.claim("you", 50.0, 1, starts=1))
    assert (again.id, again.tries, again.due_at) == (row.id, 1, 50.0)
    assert await database.write(lambda tx: tx.commands.delete(row.id, "you"))
    assert not await database.write(lambda tx: tx.commands.delete(row.id, "you"))


async def test_a_deleted_id_is_never_given_again(database: Database) -> None:
    """Whoever still holds the old id must not delete another command with it."""
    (old,) = await database.write(lambda tx: tx.commands.add(1, [Tell("created", 0)], 1.0, me="me"))
    await database.write(lambda tx: tx.commands.delete(old.id, "me"))
    (new,) = await database.write(lambda tx: tx.commands.add(1, [Tell("passed", 0)], 1.0, me="me"))
    assert new.id != old.id


async def test_owners_are_released(database: Database) -> None:
    def add(tx: Tx, owner: str, number: int) -> None:
        tx.commands.add(number, [Start(number, 1, 0), WaitRetry(number, 1, 99.0)], 1.0, me=owner, claim=1)

    for number, owner in enumerate("abc", start=1):
        await database.write(add, owner, number)
    assert await database.write(lambda tx: tx.commands.release("")) == 0
    assert await database.write(lambda tx: tx.commands.release("a")) == 1
    assert await database.write(lambda tx: tx.commands.release_others("c")) == 1
    rows = await database.write(lambda tx: tx.commands.claim("me", 1.0, 10, starts=10))
    assert [row.task_id for row in rows] == [1, 2]


async def test_admits_are_deleted_whoever_owns_them(database: Database) -> None:
    await database.write(lambda tx: tx.commands.add(1, [Admit(), Tell("created", 0)], 1.0, me="me"))
    await database.write(lambda tx: tx.commands.add(2, [Admit()], 1.0))
    assert await database.write(lambda tx: tx.commands.delete_admits()) == 2
    assert (await everything(database)).keys() == {"1/tell:created:0"}


async def test_rows_nobody_carries_out_can_be_taken(database: Database) -> None:
    await database.write(lambda tx: tx.commands.add(1, [Start(1, 1, 0), Start(2, 1, 3)], 1.0, me="me", claim=1))
    assert await database.read(lambda tx: sorted(tx.commands.pending_starts())) == [(1, 1, 0), (2, 1, 3)]
    assert not await database.write(lambda tx: tx.commands.take_unowned("1/start:1:1:0"))
    assert await database.write(lambda tx: tx.commands.take_unowned("1/start:2:1:3"))
    assert not await database.write(lambda tx: tx.commands.take_unowned("1/start:2:1:3"))
    assert await database.read(lambda tx: tx.commands.pending_starts()) == [(1, 1, 0)]


async def test_two_processes_never_claim_the_same_row(database: Database, database_url: str) -> None:
    await database.write(
        lambda tx: [tx.commands.add(n, [WaitRetry(n, 1, 1.0), Start(n, 1, 0)], 1.0) for n in range(60)]
    )
    claimed: list[int] = []

    async def worker(opened: OpenDatabase, me: str) -> None:
        while rows := await opened.write(lambda tx: tx.commands.claim(me, 5.0, 3, starts=2)):
            assert {row.owner for row in rows} == {me}
            claimed.extend(row.id for row in rows)

    other = await open_database(database_url, pool=4)
    try:
        await asyncio.gather(*(worker(opened, f"{n}") for n, opened in enumerate([database, other] * 3)))
        # A worker may see nothing because others hold what is left for a moment; nobody holds it now.
        await worker(database, "last")
    finally:
        await other.close()
    assert len(claimed) == len(set(claimed)) == 120


def execution(key: str, **fields: object) -> ExecutionRow:
    row = ExecutionRow(key, 1, 2, 1, 0, "process", "host", "", "me", 10.0)
    return replace(row, **fields)


async def test_executions(database: Database) -> None:
    def add(tx: Tx) -> None:
        tx.executions.add(execution("a"))
        tx.executions.add(execution("b", owner="", place="other", job_id=3, created_at=5.0))
        tx.executions.add(execution("a", ref="pid 7", owner="you", place="ignored"))

    await database.write(add)
    a = execution("a", ref="pid 7", owner="you")
    b = execution("b", owner="", place="other", job_id=3, created_at=5.0)
    found = await database.read(
        lambda tx: (
            tx.executions.get("a"), tx.executions.get("x"), tx.executions.of_job(2), tx.executions.list_executions(),
            tx.executions.list_executions(owner=""), tx.executions.list_executions(owner="you", place="host"),
            tx.executions.list_executions(place="host"),
        )
    )  # fmt: skip
    assert found == (a, None, [a], [b, a], [b], [a], [a])

    assert not await database.write(lambda tx: tx.executions.adopt("a", "third"))
    assert await database.write(lambda tx: tx.executions.adopt("b", "third"))
    assert await database.write(lambda tx: tx.executions.release("third")) == 1
    assert await database.write(lambda tx: tx.executions.release("")) == 0
    assert await database.write(lambda tx: tx.executions.release_others("third")) == 1
    assert len(await database.read(lambda tx: tx.executions.list_executions(owner=""))) == 2
    await database.write(lambda tx: tx.executions.delete("a"))
    await database.write(lambda tx: tx.executions.delete("a"))
    assert await database.read(lambda tx: tx.executions.get("a")) is None


async def test_a_start_that_came_back_may_have_begun_where_its_server_was(database: Database) -> None:
    def fill(tx: Tx) -> None:
        tx.replicas.add(Replica("a", "one:boot", "", 1.0, 1.0))
        tx.commands.add(1, [Start(1, 1, 0), Stop(2, 1, 0, "cancel")], 10.0, me="a", claim=1)
        tx.commands.add(1, [Start(3, 1, 0)], 10.0, me="a", claim=1)
        tx.commands.add(1, [Start(4, 1, 0)], 10.0, me="a", claim=0)

    await database.write(fill)
    third = await database.read(lambda tx: tx.commands.find("1/start:3:1:0"))
    assert third is not None
    assert await database.write(lambda tx: tx.commands.postpone(third.id, "a", 20.0, "two:boot"))
    assert await database.write(lambda tx: tx.commands.release("a")) == 2
    await database.write(lambda tx: tx.replicas.add(Replica("b", "three:boot", "", 1.0, 1.0)))
    assert await database.write(lambda tx: tx.commands.claim_one("1/start:1:1:0", "b"))
    assert await database.write(lambda tx: tx.commands.release("b")) == 1, "and keeps the place of the first"
    places = {key: row.place for key, row in (await everything(database)).items()}
    assert places == {
        "1/start:1:1:0": "one:boot", "1/stop:2:1:0:cancel": "", "1/start:3:1:0": "two:boot", "1/start:4:1:0": "",
    }  # fmt: skip
    for job, untouched in ((1, False), (3, False), (4, True)):
        assert await database.write(lambda tx, job=job: tx.commands.take_unowned(f"1/start:{job}:1:0")) is untouched


async def test_the_one_server_there_is_may_have_begun_a_start_here(database: Database) -> None:
    await database.write(lambda tx: tx.commands.add(1, [Start(1, 1, 0)], 10.0, me="a", claim=1))
    await database.write(lambda tx: tx.commands.release_others(""))
    row = await database.read(lambda tx: tx.commands.find("1/start:1:1:0"))
    assert row is not None
    assert row.place == HERE


async def test_one_row_is_claimed_by_its_key_though_it_is_not_due(database: Database) -> None:
    await database.write(lambda tx: tx.commands.add(1, [Start(1, 1, 0)], 1e9))
    row = await database.write(lambda tx: tx.commands.claim_one("1/start:1:1:0", "me"))
    assert row is not None
    assert (row.owner, row.kind, row.payload["job_id"]) == ("me", "start", 1)
    assert await database.write(lambda tx: tx.commands.claim_one("1/start:1:1:0", "you")) is None
    assert await database.write(lambda tx: tx.commands.claim_one("1/start:2:1:0", "you")) is None
