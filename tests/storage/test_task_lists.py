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
from support.rows import start

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
    await database.write(lambda tx: tx.housekeeping.mark("a", 0, 99, 99))
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


@pytest.mark.parametrize("name", ["worded", "queue_figures"])
async def test_no_pass_goes_through_history(sqlite_database: Database, name: str) -> None:
    arguments: dict[str, Any] = {"worded": ("w", "pr:1"), "queue_figures": (1.0,)}
    steps = await plans(sqlite_database, lambda tx: getattr(tx.tasks, name)(*arguments.get(name, ())))
    tables = [step for step in steps if "workflow_task" in step and step.startswith(("SCAN", "SEARCH"))]
    assert tables
    for step in tables:
        assert "ix_workflow_task_waits" in step or "ix_workflow_task_lives" in step or "_words" in step or (
            "ix_workflow_task_holds" in step or "PRIMARY KEY" in step or "USING INTEGER" in step
        ), steps  # fmt: skip
