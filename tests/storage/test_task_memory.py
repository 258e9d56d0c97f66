"""Parts of tasks kept in memory are those of the tables, whoever wrote last and whatever was taken back."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cador.domain import events as ev
from cador.domain.errors import CadorError
from cador.domain.task import JobStatus, StageTask, WorkflowTask
from cador.domain.task_machine import advance
from cador.ports.stores import Database, Tx
from cador.storage.lane import Lane
from cador.storage.task_memory import TaskMemory, new_stamp
from cador.storage.tasks import Tasks
from support.rows import start

pytestmark = pytest.mark.anyio


class GivenUp(Exception):
    """The transaction is taken back."""


class Counted(Lane):
    """Counts what is asked."""

    asked = 0

    def rows(self, *arguments: Any) -> Any:
        Counted.asked += 1
        return super().rows(*arguments)

    def rows_of_all(self, statements: Any, values: Any) -> Any:
        return [self.rows(statement, values) for statement in statements]


def next_event(task: WorkflowTask, choice: int) -> ev.Event:
    """Something that may well be heard now."""
    at = float(choice)
    active = [job for job in task.jobs if job.status in (JobStatus.PREPARE, JobStatus.RUNNING)]
    if not active or choice % 7 == 0:
        return (ev.Admitted(at), ev.CancelRequested(at, "u", "U"), ev.RetryRequested(at, "u", "U"))[choice % 3]
    job = active[choice % len(active)]
    if job.status is JobStatus.PREPARE and choice % 2:
        return ev.JobStarted(at, job.id, job.attempt, job.recovery)
    result = list(ev.Result)[choice % len(ev.Result)]
    return ev.JobEnded(at, job.id, job.attempt, job.recovery, result, "why")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 1), st.booleans()), min_size=5, max_size=30))
async def test_memory_says_what_the_tables_say(sqlite_database: Database, moves: list[tuple[int, int, bool]]) -> None:
    memories = (TaskMemory(), TaskMemory())
    task_id = await sqlite_database.write(lambda tx: start(tx, f"w{new_stamp()}"))

    def hear(tx: Any, choice: int, server: int, *, commit: bool) -> None:
        tasks = Tasks(tx.connection, memories[server])
        fresh = Tasks(tx.connection, TaskMemory()).lock(task_id)
        assert tasks.lock(task_id) == fresh
        try:
            moved, _ = advance(fresh, next_event(fresh, choice))
        except CadorError:
            return
        tasks.save(fresh, moved)
        assert tasks.lock(task_id) == Tasks(tx.connection, TaskMemory()).lock(task_id) == moved
        if not commit:
            raise GivenUp

    for choice, server, commit in moves:
        with suppress(GivenUp):
            await sqlite_database.write(hear, choice, server, commit=commit)


async def test_a_known_task_is_not_read_again(database: Database) -> None:
    def first(tx: Tx) -> int:
        task_id = start(tx, "w")
        task = tx.tasks.lock(task_id)
        moved, _ = advance(task, ev.Admitted(1.0))
        tx.tasks.save(task, moved)
        return task_id

    def asks(tx: Any, task_id: int, memory: TaskMemory) -> int:
        tasks = Tasks(tx.connection, memory)
        tasks._lane = Counted(tx.connection)
        before = Counted.asked
        tasks.lock(task_id)
        return Counted.asked - before

    task_id = await database.write(first)
    known = TaskMemory()

    def change(tx: Any) -> None:
        tasks = Tasks(tx.connection, known)
        task = tasks.lock(task_id)
        tasks.save(task, replace(task, error="x"))

    await database.write(change)
    assert await database.write(asks, task_id, known) == 1
    assert await database.write(asks, task_id, TaskMemory()) == 3


def test_it_holds_so_many_jobs_and_forgets_the_oldest() -> None:
    memory = TaskMemory(10)
    stages = (StageTask("s", parallel=False),)
    for task_id in range(8):
        memory.keep(task_id, task_id + 1, (stages, ("job",) * 3))  # type: ignore[arg-type]
    assert [task_id for task_id in range(8) if memory.find(task_id, task_id + 1)] == [5, 6, 7]
    assert memory.find(7, 7) is None
    memory.forget(6)
    memory.keep(8, 9, (stages, ("job",) * 11))  # type: ignore[arg-type]
    assert not any(memory.find(task_id, task_id + 1) for task_id in range(9)), "one that is too big is not kept"
