"""Lists of tasks, and who may start: both databases, against what a plain reading of the rules gives."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from cador.domain import events as ev
from cador.domain.task import Slot, TaskStatus
from cador.domain.task_machine import advance
from cador.ports.stores import Database, NewApproval, TaskFilter, TaskRow, Tx
from cador.storage.lane import Lane
from cador.storage.tasks import Tasks
from support.rows import start, workflow_row

pytestmark = pytest.mark.anyio


def put(tx: Tx, task_id: int, **fields: Any) -> None:
    """Bring a task into a state, without the machine."""
    task = tx.tasks.lock(task_id)
    tx.tasks.save(task, replace(task, **fields))


def fill(tx: Tx) -> list[TaskRow]:
    """24 tasks of all kinds, some of them created in the same instant; newest first."""
    ids = []
    for number, (key, status) in enumerate(product(("a", "b", "c", "d"), list(TaskStatus)[:6])):
        project = {"a": "p", "b": "p", "c": "q", "d": "r"}[key]
        creator = ("ann", "bob")[number % 2]
        task_id = start(tx, key, project=project, creator=creator, create_at=float(number * 7 % 12), jobs=())
        put(tx, task_id, status=status)
        ids.append(task_id)
    rows = [tx.tasks.row(task_id) for task_id in ids]
    return sorted(rows, key=lambda row: (row.create_at, row.id), reverse=True)


def matches(row: TaskRow, where: TaskFilter) -> bool:
    return (
        (not where.workflow_key or row.workflow_key == where.workflow_key)
        and (not where.project or row.project == where.project)
        and (not where.creator or row.creator == where.creator)
        and (where.projects is None or row.project in where.projects)
        and (not where.statuses or row.status in where.statuses)
        and (where.before is None or (row.create_at, row.id) < where.before)
    )


async def test_every_filter_gives_what_it_says_in_order(database: Database) -> None:
    rows = await database.write(fill)
    keys, projects, creators = ("", "b"), ("", "p"), ("", "ann")
    some: list[tuple[str, ...] | None] = [None, (), ("q", "p", "q"), ("p",)]
    statuses = ((), ("passed",), ("failed", "waiting", "running"))
    befores = (None, (rows[5].create_at, rows[5].id))
    for key, project, creator, several, status, before in product(
        keys, projects, creators, some, statuses, befores
    ):  # fmt: skip
        for offset, limit in ((0, 50), (2, 3)):
            where = TaskFilter(key, project, several, status, creator, before, offset, limit)
            expected = [row for row in rows if matches(row, where)][offset : offset + limit]
            assert await database.read(lambda tx, where=where: tx.tasks.list_tasks(where)) == expected, where


async def test_deleted_tasks_are_in_no_list(database: Database) -> None:
    rows = await database.write(fill)
    await database.write(lambda tx: tx.tasks.mark_deleted("a"))
    assert await database.read(lambda tx: tx.tasks.list_tasks(TaskFilter())) == [
        row for row in rows if row.workflow_key != "a"
    ]


async def test_a_row_says_what_its_task_waits_for(database: Database) -> None:
    approvals = (NewApproval(0, None, 1, (("u1", "Ann"),), 60.0),)
    task_id = await database.write(start, approvals=approvals)
    seen: list[str] = []

    def hear(tx: Tx, event: ev.Event) -> None:
        task = tx.tasks.lock(task_id)
        moved, _ = advance(task, event)
        tx.tasks.save(task, moved)
        seen.append(tx.tasks.row(task_id).waiting_for)

    await database.write(hear, ev.Admitted(1.0))
    asked = (await database.read(lambda tx: tx.tasks.load(task_id))).approvals[0].id
    await database.write(hear, ev.Voted(2.0, asked, "u1", "Ann", True, ""))
    await database.write(hear, ev.Admitted(3.0))
    assert seen == ["approval", "slot", ""]


async def test_the_queue_takes_the_oldest_whose_workflow_has_room(database: Database) -> None:
    def arrange(tx: Tx) -> dict[str, int]:
        for key, limit in (("none", 0), ("one", 1), ("two", 2), ("any", -1)):
            tx.workflows.add(workflow_row(key, limit=limit))
        ids = {}
        order = ("none1", "one1", "one2", "two1", "two2", "two3", "any1", "gone1", "any2", "two4")
        for at, name in enumerate(order):
            ids[name] = start(tx, name[:-1], create_at=float(at))
        put(tx, ids["two1"], status=TaskStatus.CANCELLING)
        return ids

    ids = await database.write(arrange)
    names = {task_id: name for name, task_id in ids.items()}

    async def waiting(limit: int = 50) -> list[str]:
        return [names[task_id] for task_id in await database.read(lambda tx: tx.tasks.waiting(limit))]

    assert await waiting() == ["one1", "two2", "any1", "any2"]
    assert [await waiting(limit) for limit in (1, 2, 3)] == [
        ["one1"], ["one1", "two2"], ["one1", "two2", "any1"],
    ]  # fmt: skip
    room = await database.read(lambda tx: tx.tasks.room_of(list(ids.values())))
    assert {names[task_id]: entry for task_id, entry in room.items()} == {
        "none1": ("none", 0), "one1": ("one", 1), "one2": ("one", 1), "two1": ("two", 1), "two2": ("two", 1),
        "two3": ("two", 1), "two4": ("two", 1), "any1": ("any", -1), "any2": ("any", -1),
    }  # fmt: skip

    await database.write(put, ids["one1"], status=TaskStatus.RUNNING, slot=Slot.HELD)
    assert await waiting() == ["two2", "any1", "any2"]
    await database.write(put, ids["one1"], status=TaskStatus.RUNNING, slot=Slot.WANTED)
    assert await waiting() == ["one1", "two2", "any1", "any2"], "its workflow counts it already"
    await database.write(put, ids["one1"], status=TaskStatus.PASSED, slot=Slot.NONE)
    assert await waiting() == ["one2", "two2", "any1", "any2"]
    await database.write(lambda tx: tx.workflows.replace(workflow_row("two", limit=4)))
    assert await waiting() == ["one2", "two2", "two3", "any1", "any2", "two4"]
    await database.write(lambda tx: (tx.tasks.mark_deleted("any"), tx.workflows.delete("any")))
    assert await waiting() == ["one2", "two2", "two3", "two4"]


async def test_a_queue_full_of_one_workflow_hides_nobody(database: Database) -> None:
    def arrange(tx: Tx) -> list[int]:
        tx.workflows.add(workflow_row("busy", limit=1))
        tx.workflows.add(workflow_row("quiet", limit=1))
        crowd = [start(tx, "busy", create_at=float(at)) for at in range(20)]
        return [crowd[0], start(tx, "quiet", create_at=50.0)]

    fitting = await database.write(arrange)
    assert await database.read(lambda tx: tx.tasks.waiting(3)) == fitting


async def test_positions_blockers_and_slots(database: Database) -> None:
    def arrange(tx: Tx) -> list[int]:
        tx.workflows.add(workflow_row("w", limit=1))
        ids = [start(tx, create_at=at) for at in (3.0, 1.0, 2.0, 2.0)] + [start(tx, "other", create_at=0.0)]
        put(tx, ids[0], status=TaskStatus.RUNNING, slot=Slot.HELD)
        put(tx, ids[4], status=TaskStatus.RUNNING, slot=Slot.WANTED)
        return ids

    ids = await database.write(arrange)

    def ask(tx: Tx) -> Any:
        tasks = tx.tasks
        return [tasks.position(i) for i in ids], tasks.blockers(ids[1]), tasks.blockers(ids[4]), tasks.held_slots()

    positions, blockers, others, held = await database.read(ask)
    assert positions[1:4] == [2, 3, 4]
    assert (blockers, others, held) == ([1], [1], 1)


async def test_figures_of_the_queue(database: Database) -> None:
    assert await database.read(lambda tx: tx.tasks.queue_figures(50.0)) == {
        "waiting": 0, "running": 0, "waiting_for_approval": 0, "oldest_waiting_s": 0.0,
    }  # fmt: skip

    def arrange(tx: Tx) -> None:
        for at in (10.0, 20.0):
            start(tx, create_at=at)
        asked = start(tx, approvals=(NewApproval(0, None, 1, (("u1", "Ann"),), 60.0),), create_at=1.0)
        moved, _ = advance(tx.tasks.lock(asked), ev.Admitted(2.0))
        tx.tasks.save(tx.tasks.load(asked), moved)
        put(tx, start(tx, create_at=1.0), status=TaskStatus.RUNNING, slot=Slot.HELD)

    await database.write(arrange)
    assert await database.read(lambda tx: tx.tasks.queue_figures(50.0)) == {
        "waiting": 2, "running": 2, "waiting_for_approval": 1, "oldest_waiting_s": 40.0,
    }  # fmt: skip


LISTS = (
    TaskFilter(),
    TaskFilter(project="p"),
    TaskFilter(workflow_key="w"),
    TaskFilter(creator="ann"),
    TaskFilter(statuses=("failed", "passed")),
    TaskFilter(project="p", statuses=("failed",)),
    TaskFilter(workflow_key="w", statuses=("failed",)),
    TaskFilter(projects=("p", "q")),
    TaskFilter(before=(50.0, 7)),
    TaskFilter(workflow_key="w", before=(50.0, 7)),
)


async def plans(database: Database, call: Any) -> list[str]:
    """How SQLite carries out each statement of *call*."""

    def explain(tx: Any) -> list[str]:
        said: list[tuple[Any, ...]] = []
        execute = tx.connection.execute

        class Told(Lane):
            def _plan(self, statement: Any) -> Any:
                said.append((statement,))
                return super()._plan(statement)

        tasks = Tasks(tx.connection)
        tasks._lane = Told(tx.connection)
        tx.connection.execute = lambda *args: (said.append(args), execute(*args))[1]
        try:
            call(SimpleNamespace(tasks=tasks))
        finally:
            del tx.connection.execute
        found = []
        for statement, *values in said:
            compiled = statement.compile(tx.connection.engine, compile_kwargs={"render_postcompile": True})
            given = dict(compiled.params, **dict(*values))
            arguments = tuple(given.get(name) for name in compiled.positiontup)
            for row in tx.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", arguments):
                found.append(row.detail)
        return found

    return await database.write(explain)


@pytest.mark.parametrize("where", LISTS, ids=str)
async def test_no_list_scans_or_sorts(sqlite_database: Database, where: TaskFilter) -> None:
    steps = await plans(sqlite_database, lambda tx: tx.tasks.list_tasks(where))
    assert steps
    for step in steps:
        assert "TEMP B-TREE" not in step, steps
        assert not step.startswith("SCAN") or "USING INDEX ix_workflow_task_create_at_id" in step, steps


@pytest.mark.parametrize("name", ["waiting", "held_slots", "position", "blockers", "unfinished", "queue_figures"])
async def test_no_pass_goes_through_history(sqlite_database: Database, name: str) -> None:
    arguments: dict[str, Any] = {
        "waiting": (5,), "position": (1,), "blockers": (1,), "unfinished": ("w",), "queue_figures": (1.0,),
    }  # fmt: skip
    steps = await plans(sqlite_database, lambda tx: getattr(tx.tasks, name)(*arguments.get(name, ())))
    tables = [step for step in steps if "workflow_task" in step and step.startswith(("SCAN", "SEARCH"))]
    assert tables
    for step in tables:
        assert "ix_workflow_task_waits" in step or "ix_workflow_task_lives" in step or (
            "ix_workflow_task_holds" in step or "PRIMARY KEY" in step or "USING INTEGER" in step
        ), steps  # fmt: skip
