"""What old and deleted tasks leave: both databases, and how SQLite reads for it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy.event

from cador.domain.commands import Tell
from cador.domain.errors import NotFound
from cador.domain.task import JobStatus, TaskStatus
from cador.ports.housekeeping import Place
from cador.ports.stores import Database, NewApproval, TaskFilter, Tx
from cador.storage.housekeeping import Housekeeping
from support.rows import new_job, start, workflow_row

pytestmark = pytest.mark.anyio

START = Place(0.0, 0)


def put(tx: Tx, task_id: int, **fields: Any) -> int:
    """Bring a task into a state, without the machine."""
    task = tx.tasks.lock(task_id)
    tx.tasks.save(task, replace(task, **fields))
    return task_id


def ended(tx: Tx, key: str = "w", *, at: float, status: TaskStatus = TaskStatus.PASSED, **fields: Any) -> int:
    return put(tx, start(tx, key, create_at=at, jobs=(), **fields), status=status, end_at=at + 1.0)


def listed(tx: Tx, key: str = "w") -> list[int]:
    return [row.number for row in tx.tasks.list_tasks(TaskFilter(workflow_key=key))]


async def test_what_is_old_and_over_is_archived_in_order(database: Database) -> None:
    def fill(tx: Tx) -> list[int]:
        ids = [ended(tx, at=float(at)) for at in (10, 20, 20, 30)]
        ids.append(start(tx, create_at=5.0))
        ids += [put(tx, start(tx, create_at=6.0), status=status) for status in (TaskStatus.PAUSE, TaskStatus.EXPIRING)]
        ids.append(put(tx, start(tx, create_at=7.0), status=TaskStatus.FAILED, end_at=500.0))
        return ids

    ids = await database.write(fill)

    def older(tx: Tx) -> list[Place]:
        found: list[Place] = []
        while page := tx.housekeeping.older(25.0, found[-1] if found else START, 2):
            found += page
        return found

    found = await database.write(older)
    assert [place.id for place in found] == ids[:3], "unfinished ones, and one that ended lately, stay"
    await database.write(lambda tx: tx.housekeeping.archive([place.id for place in found], 100.0))
    assert await database.write(lambda tx: tx.housekeeping.older(25.0, START, 9)) == []
    assert await database.read(listed) == [4, 8, 6, 7, 5] or await database.read(listed) == [4, 8, 7, 6, 5]
    assert await database.read(lambda tx: tx.tasks.count("w")) == 5
    assert await database.read(lambda tx: tx.tasks.find_id("w", 1)) == ids[0], "by its number it is found"


async def test_what_is_not_among_the_newest_is_archived(database: Database) -> None:
    def fill(tx: Tx) -> None:
        for key, count in (("few", 2), ("many", 5)):
            for at in range(count):
                ended(tx, key, at=float(at))
        start(tx, "many", create_at=0.5)

    await database.write(fill)
    assert await database.read(lambda tx: tx.housekeeping.overfull(2)) == ["many"]
    edge = await database.read(lambda tx: tx.housekeeping.edge("many", 2))
    assert edge is not None
    assert edge.create_at == 2.0
    assert await database.read(lambda tx: tx.housekeeping.edge("few", 2)) is None
    found = await database.write(lambda tx: tx.housekeeping.surplus("many", edge, START, 9))
    assert [place.create_at for place in found] == [0.0, 1.0, 2.0], "the one that waits stays"
    await database.write(lambda tx: tx.housekeeping.archive([place.id for place in found], 9.0))
    await database.write(lambda tx: tx.housekeeping.archive([found[0].id], 9.0))
    assert await database.read(lambda tx: tx.tasks.count("many")) == 3, "counted once"


async def test_a_burial_takes_everything_out_of_sight_a_little_at_a_time(database: Database) -> None:
    def fill(tx: Tx) -> list[int]:
        tx.workflows.add(workflow_row("w"))
        return [ended(tx, at=1.0), start(tx), start(tx), ended(tx, at=2.0)]

    ids = await database.write(fill)
    last = await database.write(lambda tx: tx.housekeeping.bury("w"))
    assert last == 4
    assert await database.read(lambda tx: tx.admission.lines(9)[1]) == []
    assert await database.read(lambda tx: tx.tasks.count("w")) == 0
    newer = await database.write(start)
    assert await database.read(lambda tx: tx.housekeeping.uncancelled("w", last, 1)) in (ids[1:2], ids[2:3])
    assert await database.read(lambda tx: tx.housekeeping.uncancelled("w", last, 9)) == ids[1:3]
    assert await database.write(lambda tx: tx.housekeeping.mark("w", 0, last, 3)) == 3
    assert await database.write(lambda tx: tx.housekeeping.mark("w", 3, last, 3)) is None
    assert await database.read(listed) == [5]
    assert [await database.read(lambda tx, n=n: tx.tasks.find_id("w", n)) for n in (1, 5)] == [None, newer]
    assert await database.write(lambda tx: tx.housekeeping.deleted(9, "w")) == [ids[0], ids[3]]
    await database.write(lambda tx: tx.housekeeping.remove([ids[0], ids[3]]))
    assert await database.read(lambda tx: tx.housekeeping.pending("w")), "two are not over"
    await database.write(lambda tx: [put(tx, task_id, status=TaskStatus.CANCELLED) for task_id in ids[1:3]])
    await database.write(lambda tx: tx.housekeeping.remove(tx.housekeeping.deleted(9)))
    assert not await database.read(lambda tx: tx.housekeeping.pending("w"))


async def test_a_task_for_which_something_is_to_be_done_stays(database: Database) -> None:
    def fill(tx: Tx) -> list[int]:
        ids = [ended(tx, at=float(at)) for at in range(4)]
        for task_id in ids[:2]:
            tx.commands.add(task_id, (Tell("passed", 0),), 1.0, me="me")
        tx.housekeeping.mark("w", 0, 9, 9)
        return ids

    ids = await database.write(fill)
    assert await database.write(lambda tx: tx.housekeeping.deleted(2)) == ids[2:], "it looks behind those"
    await database.write(lambda tx: tx.housekeeping.archive(ids, 5.0))
    assert await database.write(lambda tx: tx.housekeeping.archived_before(6.0, 9)) == ids[2:]
    assert await database.write(lambda tx: tx.housekeeping.archived_before(5.0, 9)) == []


async def test_what_is_left_of_a_task_is_known_by_its_folder(database: Database) -> None:
    def fill(tx: Tx) -> int:
        approvals = (NewApproval(0, None, 1, (("u1", "Ann"),), 60.0),)
        task_id = start(tx, jobs=(new_job("a"), new_job("b"), new_job("c")), approvals=approvals)
        task = tx.tasks.lock(task_id)
        begun = tuple(replace(job, status=JobStatus.PREPARE, attempt=1, start_at=1.0) for job in task.jobs[:2])
        tx.tasks.save(task, replace(task, jobs=(*begun, task.jobs[2])))
        tx.homes.hold(begun[1].id, 1, "there")
        return task_id

    task_id = await database.write(fill)
    idle = await database.write(start)
    await database.write(lambda tx: (tx.housekeeping.leave([task_id, idle], 50.0), tx.housekeeping.remove([task_id])))
    with pytest.raises(NotFound):
        await database.read(lambda tx: tx.tasks.load(task_id))
    assert await database.read(lambda tx: tx.tasks.events(task_id)) == []

    def left(tx: Tx, home: str, abandoned: float) -> list[tuple[str, int]]:
        return [(one.workflow, one.number) for one in tx.housekeeping.remains(home, abandoned, 0, 9)]

    assert await database.read(left, "here", 0.0) == [("w", 1)]
    assert await database.read(left, "there", 0.0) == [("w", 1)] * 2
    assert await database.read(left, "here", 51.0) == [("w", 1)] * 2, "its server did not come back"
    ids = [one.id for one in await database.read(lambda tx: tx.housekeeping.remains("there", 0.0, 0, 9))]
    await database.write(lambda tx: tx.housekeeping.cleared(ids))
    assert await database.read(left, "there", 99.0) == []


READS: dict[str, Callable[[Housekeeping], Any]] = {
    "older": lambda keeping: keeping.older(25.0, START, 2),
    "edge": lambda keeping: keeping.edge("w", 2),
    "surplus": lambda keeping: keeping.surplus("w", Place(9.0, 9), START, 2),
    "archived": lambda keeping: keeping.archived_before(25.0, 2),
    "deleted": lambda keeping: keeping.deleted(2),
    "deleted of one": lambda keeping: keeping.deleted(2, "w"),
    "pending": lambda keeping: keeping.pending("w"),
    "uncancelled": lambda keeping: keeping.uncancelled("w", 9, 2),
    "bury": lambda keeping: keeping.bury("w"),
    "mark": lambda keeping: keeping.mark("w", 0, 9, 2),
    "leave": lambda keeping: keeping.leave([1], 1.0),
    "remove": lambda keeping: keeping.remove([1]),
}


@pytest.mark.parametrize("name", READS)
async def test_nothing_goes_through_history(sqlite_database: Database, name: str) -> None:
    def explain(tx: Any) -> list[str]:
        said: list[tuple[str, Any]] = []

        def hear(connection: Any, cursor: Any, statement: str, values: Any, *_: Any) -> None:
            said.append((statement, values))

        sqlalchemy.event.listen(tx.connection, "before_cursor_execute", hear)
        try:
            READS[name](Housekeeping(tx.connection))
        finally:
            sqlalchemy.event.remove(tx.connection, "before_cursor_execute", hear)
        explained = [tx.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values) for text, values in said]
        return [row.detail for rows in explained for row in rows]

    steps = await sqlite_database.write(explain)
    assert steps
    for step in steps:
        assert "FOR ORDER BY" not in step, steps
        assert name != "bury" or "workflow_task" not in step or "ix_workflow_task_lives" in step, steps
        assert not step.startswith("SCAN"), steps
