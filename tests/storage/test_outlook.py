"""What stands before a waiting task, on both databases."""

from typing import Any

import pytest
from sqlalchemy import event

from cador.domain.commands import Start
from cador.domain.task import Slot, TaskStatus
from cador.ports.outlook import RunningTask
from cador.ports.stores import Database, Tx
from storage.test_task_lists import put
from support.rows import start, workflow_row

pytestmark = pytest.mark.anyio


def fill(tx: Tx) -> dict[str, int]:
    """Three of ``a``: one holds a slot, one is asked about, one waits; one of ``b`` that waited longer."""
    ids = {}
    for key, limit in (("a", 2), ("b", -1), ("c", 0)):
        tx.workflows.add(workflow_row(key, limit=limit))
    for name, key, at in (("old", "b", 1.0), ("runs", "a", 2.0), ("asked", "a", 3.0), ("waits", "a", 4.0)):
        ids[name] = start(tx, key, create_at=at, jobs=())
    put(tx, ids["runs"], status=TaskStatus.RUNNING, slot=Slot.HELD, start_at=10.0)
    put(tx, ids["asked"], status=TaskStatus.RUNNING, slot=Slot.NONE, start_at=11.0)
    return ids


async def test_what_runs_and_who_goes_first(database: Database) -> None:
    ids = await database.write(fill)

    def read(tx: Tx) -> None:
        runs = RunningTask(ids["runs"], "a", 1, 10.0, True)
        asked = RunningTask(ids["asked"], "a", 2, 11.0, False)
        assert tx.outlook.running(("a",), 9) == [runs, asked]
        assert tx.outlook.running(("b",), 9) == [runs]
        assert tx.outlook.running((), 9) == [runs]
        assert tx.outlook.ahead(ids["waits"], 9) == ["b"]
        assert tx.outlook.ahead(ids["old"], 9) == []
        assert tx.outlook.only("p")
        assert not tx.outlook.only("o")
        assert not tx.outlook.only("q")
        assert tx.outlook.limits(("a", "c", "gone")) == {"a": 2, "c": 0}

    await database.read(read)


async def test_times_are_of_the_last_that_passed(database: Database) -> None:
    def write(tx: Tx) -> None:
        for number in range(1, 6):
            task_id = start(tx, "a", create_at=float(number), jobs=())
            put(tx, task_id, status=TaskStatus.PASSED, start_at=10.0, end_at=10.0 + number)
        for status in (TaskStatus.FAILED, TaskStatus.RUNNING):
            put(tx, start(tx, "a", create_at=99.0, jobs=()), status=status, start_at=1.0, end_at=99.0)

    await database.write(write)
    assert await database.read(lambda tx: tx.outlook.times("a", 3)) == [5.0, 4.0, 3.0]
    assert await database.read(lambda tx: tx.outlook.times("b", 3)) == []


async def test_a_start_that_nobody_has_taken(database: Database) -> None:
    def write(tx: Tx) -> int:
        task_id = start(tx, "a")
        tx.commands.add(task_id, [Start(7, 1, 0), Start(8, 1, 0)], 5.0, me="here", claim=1)
        return task_id

    task_id = await database.write(write)
    asked = [(7, 1, 0), (8, 1, 0), (9, 1, 0)]
    assert await database.read(lambda tx: tx.outlook.untaken(task_id, asked)) == {8: 5.0}
    assert await database.read(lambda tx: tx.outlook.untaken(task_id, [])) == {}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("running", (("a", "b"), 10)),
        ("ahead", (1, 10)),
        ("times", ("a", 20)),
        ("only", ("p",)),
        ("untaken", (1, [(1, 1, 0)])),
    ],
)
async def test_nothing_is_read_that_grows(sqlite_database: Database, name: str, arguments: tuple[Any, ...]) -> None:
    def explain(tx: Any) -> list[str]:
        said: list[tuple[str, Any]] = []

        def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
            said.append((statement, parameters))

        event.listen(tx.connection.engine, "before_cursor_execute", note)
        try:
            getattr(tx.outlook, name)(*arguments)
        finally:
            event.remove(tx.connection.engine, "before_cursor_execute", note)
        rows = [tx.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values) for text, values in said]
        return [row.detail for found in rows for row in found]

    steps = await sqlite_database.write(explain)
    looks = [step for step in steps if step.startswith(("SCAN", "SEARCH")) and step != "SCAN CONSTANT ROW"]
    assert looks
    for step in looks:
        assert "USING" in step, steps
    assert not any("TEMP B-TREE" in step for step in steps), steps
