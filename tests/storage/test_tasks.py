"""The task store on both databases: what was stored comes back, and what changed is written."""

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from sqlalchemy import Connection

from cador.domain import events as ev
from cador.domain.errors import AlreadyExists, NotFound
from cador.domain.events import Result
from cador.domain.task import (
    Approval,
    ApprovalStatus,
    Approver,
    JobKind,
    JobStatus,
    Policy,
    Slot,
    StageStatus,
    StageTask,
    TaskStatus,
    Vote,
    WorkflowTask,
)
from cador.domain.task_machine import advance
from cador.ports.stores import Database, NewApproval, Tx
from cador.storage import task_statements as sql
from cador.storage.lane import Lane
from cador.storage.tasks import Tasks
from support.rows import new_job, new_task, start

pytestmark = pytest.mark.anyio

USERS = (("u1", "Ann"), ("u2", "Bob"))
ASKED = NewApproval(1, None, 2, USERS, 3600.0, "deploy?", "native")


def hear(tx: Tx, task_id: int, *events: ev.Event) -> WorkflowTask:
    for event in events:
        task = tx.tasks.lock(task_id)
        moved, _ = advance(task, event)
        tx.tasks.save(task, moved)
        tx.tasks.append_event(task_id, event)
    return tx.tasks.load(task_id)


def ended(task: WorkflowTask, index: int, result: Result, at: float, error: str = "") -> ev.JobEnded:
    job = task.jobs[index]
    return ev.JobEnded(at, job.id, job.attempt, job.recovery, result, error)


async def test_a_new_task_comes_back_as_it_was_stored(database: Database) -> None:
    jobs = (
        new_job("a", kind="server", policy="retry", maximum_retry=3, repeatable=False, warnings=("no image",)),
        new_job("b", stage=1, approval_users=("u2",)),
        new_job("c", stage=1, kind="approval"),
    )
    approvals = (ASKED, NewApproval(1, 2, 1, USERS[:1], 60.0))
    stages = (("build", True), ("deploy", False))

    task_id = await database.write(start, jobs=jobs, stages=stages, approvals=approvals, parallel_limit=7)
    task = await database.read(lambda tx: tx.tasks.load(task_id))
    rows = await database.read(lambda tx: tx.tasks.jobs(task_id))

    assert (task.id, task.number, task.label, task.status) == (task_id, 1, "w:1", TaskStatus.WAITING)
    assert (task.slot, task.parallel_limit, task.create_at, task.start_at) == (Slot.NONE, 7, 100.0, None)
    assert task.stages == (StageTask("build", True), StageTask("deploy", False))
    assert [job.name for job in task.jobs] == ["a", "b", "c"]
    assert task.jobs[0].kind is JobKind.SERVER
    assert (task.jobs[0].policy, task.jobs[0].maximum_retry, task.jobs[0].repeatable) == (Policy.RETRY, 3, False)
    approvers = (Approver("u1", "Ann"), Approver("u2", "Bob"))
    assert task.approvals[0] == Approval(task.approvals[0].id, 1, None, 2, approvers, 3600.0)
    assert task.approvals[1].job_id == task.jobs[2].id
    assert [row.plan for row in rows] == [job.plan for job in jobs]
    assert [row.position for row in rows] == [0, 1, 2]
    assert rows[0].result == {"warnings": ["no image"]}
    assert (rows[1].approval_users, rows[1].result, rows[1].outputs) == (("u2",), {}, {})
    assert (rows[1].job, rows[1].key, rows[1].display_name, rows[1].stage) == ("b", "key.b", "shown b", 1)
    assert await database.read(lambda tx: tx.tasks.snapshot(task_id)) == {"definition": {"stages": [1, 2]}}
    texts = await database.read(lambda tx: tx.tasks.approval_texts(task_id))
    assert texts == {task.approvals[0].id: ("deploy?", "native"), task.approvals[1].id: ("", "native")}


async def test_light_jobs_leave_the_plan_where_it_is(database: Database) -> None:
    task_id = await database.write(start)
    rows = await database.read(lambda tx: tx.tasks.jobs(task_id, plans=False))
    assert [(row.name, row.plan) for row in rows] == [("a", {}), ("b", {})]


async def test_a_new_task_has_its_first_event(database: Database) -> None:
    task_id = await database.write(start, creator="ann", trigger="timer")
    (event,) = await database.read(lambda tx: tx.tasks.events(task_id))
    assert (event.kind, event.at, event.data) == ("created", 100.0, {"creator": "ann", "trigger": "timer"})


async def test_what_is_unknown_is_not_found(database: Database) -> None:
    def ask(tx: Tx, what: str, *args: Any) -> Any:
        return getattr(tx.tasks, what)(*args)

    for call in (("lock", 9), ("load", 9), ("row", 9), ("snapshot", 9), ("set_plan", 9, {}), ("set_outputs", 9, {}),
                 ("merge_result", 9, {}), ("set_steps", 9, 1, [])):  # fmt: skip
        with pytest.raises(NotFound):
            await database.write(ask, *call)
    assert await database.read(ask, "find_job", 9, "x") is None
    assert await database.read(ask, "job_by_id", 9) is None
    assert await database.read(ask, "find_id", "w", 9) is None
    assert await database.read(ask, "by_idempotency_key", "u1", "k") is None
    assert await database.read(ask, "count", "w") == 0


async def test_an_idempotency_key_is_used_once_by_each_creator(database: Database) -> None:
    first = await database.write(start, idempotency_key="k")
    with pytest.raises(AlreadyExists):
        await database.write(start, idempotency_key="k")
    other = await database.write(start, idempotency_key="k", creator_id="u2")
    await database.write(start)
    await database.write(start)

    found = await database.read(lambda tx: tx.tasks.by_idempotency_key("u1", "k"))
    assert found is not None
    assert (found.id, other > first) == (first, True)
    # The one that was refused gave its number back.
    assert await database.read(lambda tx: tx.tasks.find_id("w", 2)) == other
    assert await database.read(lambda tx: tx.tasks.count("w")) == 4


async def test_saving_writes_what_the_machine_moved(database: Database) -> None:
    jobs = (new_job("a"), new_job("b"), new_job("c", stage=1))
    task_id = await database.write(start, jobs=jobs, stages=(("one", True), ("two", False)))

    task = await database.write(hear, task_id, ev.Admitted(10.0))
    assert (task.status, task.slot, task.start_at) == (TaskStatus.RUNNING, Slot.HELD, 10.0)
    assert [job.status for job in task.jobs] == [JobStatus.PREPARE, JobStatus.PREPARE, JobStatus.IDLE]
    assert task.stages[0].status is StageStatus.RUNNING

    a, b, _ = task.jobs
    task = await database.write(
        hear, task_id, ev.JobStarted(11.0, a.id, 1, 0), ev.JobStarted(11.5, b.id, 1, 0),
        ended(task, 0, Result.PASSED, 12.0), ended(task, 1, Result.FAILED, 13.0, "exit code 1"),
    )  # fmt: skip
    assert [job.status for job in task.jobs] == [JobStatus.PASSED, JobStatus.FAILED, JobStatus.IDLE]
    assert (task.jobs[1].error, task.jobs[1].deadline_at, task.jobs[1].end_at) == ("exit code 1", 71.5, 13.0)
    assert (task.status, task.slot, task.end_at) == (TaskStatus.FAILED, Slot.NONE, 13.0)
    assert task.stages[0] == StageTask("one", True, StageStatus.FAILED, "", 10.0, 13.0)
    kinds = await database.read(lambda tx: [event.kind for event in tx.tasks.events(task_id)])
    assert kinds == ["created", "admitted", "job_started", "job_started", "job_ended", "job_ended"]


async def test_loading_after_saving_gives_the_saved_task(database: Database) -> None:
    """Every field that ``save`` may move, through every table."""
    approvals = (NewApproval(0, None, 1, USERS, 60.0),)
    task_id = await database.write(start, approvals=approvals)

    def change(tx: Tx) -> WorkflowTask:
        task = tx.tasks.lock(task_id)
        job = replace(
            task.jobs[0], status=JobStatus.WAIT_FOR_DECISION, error="e", attempt=1, recovery=2, retry_count=3,
            stopping="cancel", start_at=1.5, end_at=2.5, deadline_at=3.5, failed_as="failed",
        )  # fmt: skip
        stage = replace(task.stages[0], status=StageStatus.UNSTABLE, error="s", start_at=4.5, end_at=5.5)
        vote = Vote("u2", "Bob", True, "fine", 6.5)
        approval = replace(
            task.approvals[0], status=ApprovalStatus.WAITING, round=1, votes=(vote,), start_at=7.5, end_at=8.5
        )
        moved = replace(
            task, jobs=(job, task.jobs[1]), stages=(stage,), approvals=(approval,), status=TaskStatus.CANCELLING,
            slot=Slot.WANTED, error="t", revoker="Ann", revoker_id="u1", start_at=9.5, end_at=10.5, retry_num=4,
            retry_wanted="Bob",
        )  # fmt: skip
        tx.tasks.save(task, moved)
        return moved

    moved = await database.write(change)
    assert await database.read(lambda tx: tx.tasks.load(task_id)) == moved


class Told(Lane):
    """Notes what is changed, and how often."""

    def __init__(self, connection: Connection, changed: list[tuple[Any, int]]) -> None:
        super().__init__(connection)
        self.changes = changed

    def change(self, statement: Any, values: Any = MappingProxyType({})) -> None:
        self.changes.append((statement, 1))
        super().change(statement, values)

    def change_each(self, statement: Any, values: Any) -> None:
        if values:
            self.changes.append((statement, len(values)))
        super().change_each(statement, values)

    __slots__ = ("changes",)


async def test_saving_writes_the_rows_that_moved_and_a_stamp(database: Database) -> None:
    task_id = await database.write(start)

    def changes(tx: Tx, **moved: Any) -> list[tuple[Any, int]]:
        tasks, told = Tasks(tx.connection), []  # type: ignore[attr-defined, var-annotated]
        tasks._lane = Told(tx.connection, told)  # type: ignore[attr-defined]
        task, before = tasks.lock(task_id), tx.tasks.row(task_id)
        if "job" in moved:
            moved["jobs"] = (replace(task.jobs[0], error=moved.pop("job")), *task.jobs[1:])
        tasks.save(task, replace(task, **moved))
        assert tx.tasks.row(task_id).stamp not in (0, before.stamp)
        return told

    assert await database.write(changes) == [(sql.SAVE_STAMP, 1)]
    job = [(sql.SAVE_STAMP, 1), (sql.SAVE_JOB, 1)]
    assert (await database.write(lambda tx: changes(tx, job="x")))[:2] == job
    assert await database.write(lambda tx: changes(tx, error="x")) == [(sql.SAVE_TASK, 1)]


async def test_attempts_follow_the_job_while_it_is_under_way(database: Database) -> None:
    jobs = (new_job("a", policy="retry", maximum_retry=1), new_job("b", policy="manual_check"))
    task_id = await database.write(start, jobs=jobs)
    task = await database.write(hear, task_id, ev.Admitted(10.0))
    a, b = task.jobs
    task = await database.write(
        hear, task_id, ev.JobStarted(11.0, a.id, 1, 0), ended(task, 0, Result.TIMEOUT, 12.0, "too slow")
    )
    assert task.jobs[0].status is JobStatus.RETRY_PAUSE
    task = await database.write(hear, task_id, ended(task, 1, Result.FAILED, 13.0, "exit code 2"))
    assert task.jobs[1].status is JobStatus.WAIT_FOR_DECISION
    task = await database.write(hear, task_id, ev.RetryPauseOver(22.0, a.id, 1))
    task = await database.write(
        hear, task_id, ended(task, 0, Result.PASSED, 23.0), ev.Decided(30.0, b.id, True, "u1", "Ann")
    )
    assert task.status is TaskStatus.PASSED
    await database.write(lambda tx: tx.tasks.set_steps(a.id, 2, [{"name": "compile", "exit_code": 0}]))

    attempts = await database.read(lambda tx: tx.tasks.attempts(task_id))
    assert [(one.job_id, one.attempt, one.status, one.error, one.start_at, one.end_at) for one in attempts] == [
        (a.id, 1, "timeout", "too slow", 10.0, 12.0),
        (a.id, 2, "passed", "", 22.0, 23.0),
        (b.id, 1, "failed", "exit code 2", 10.0, 13.0),
    ]
    assert [one.steps for one in attempts] == [[], [{"name": "compile", "exit_code": 0}], []]


async def test_a_retry_leaves_the_attempts_before_it_alone(database: Database) -> None:
    task_id = await database.write(start, jobs=(new_job("a"),))
    task = await database.write(hear, task_id, ev.Admitted(10.0))
    task = await database.write(hear, task_id, ended(task, 0, Result.FAILED, 12.0, "exit code 1"))
    task = await database.write(hear, task_id, ev.RetryRequested(20.0, "u1", "Ann"))
    assert (task.status, task.jobs[0].status, task.retry_num) == (TaskStatus.WAITING, JobStatus.IDLE, 1)
    await database.write(hear, task_id, ev.Admitted(21.0))

    attempts = await database.read(lambda tx: tx.tasks.attempts(task_id))
    assert [(one.attempt, one.status, one.end_at) for one in attempts] == [(1, "failed", 12.0), (2, "prepare", None)]


async def test_a_lost_execution_repeats_the_same_attempt(database: Database) -> None:
    task_id = await database.write(start, jobs=(new_job("a"),))
    task = await database.write(hear, task_id, ev.Admitted(10.0))
    task = await database.write(
        hear, task_id, ev.JobStarted(11.0, task.jobs[0].id, 1, 0), ended(task, 0, Result.LOST, 12.0)
    )
    assert (task.jobs[0].status, task.jobs[0].recovery) == (JobStatus.PREPARE, 1)
    attempts = await database.read(lambda tx: tx.tasks.attempts(task_id))
    assert [(one.attempt, one.status) for one in attempts] == [(1, "prepare")]


async def test_votes_are_kept_by_round(database: Database) -> None:
    task_id = await database.write(start, approvals=(NewApproval(0, None, 2, USERS, 60.0),))
    task = await database.write(hear, task_id, ev.Admitted(10.0))
    asked = task.approvals[0].id
    task = await database.write(hear, task_id, ev.Voted(11.0, asked, "u1", "Ann", True, "fine"))
    assert task.approvals[0].votes == (Vote("u1", "Ann", True, "fine", 11.0),)
    task = await database.write(hear, task_id, ev.Voted(12.0, asked, "u2", "Bob", False, "no"))
    assert (task.status, len(task.approvals[0].votes)) == (TaskStatus.REJECT, 2)

    task = await database.write(hear, task_id, ev.RetryRequested(20.0, "u1", "Ann"))
    assert task.approvals[0].votes == ()
    task = await database.write(hear, task_id, ev.Admitted(21.0))
    assert (task.approvals[0].round, task.approvals[0].votes) == (2, ())
    task = await database.write(hear, task_id, ev.Voted(22.0, asked, "u1", "Ann", True, ""))
    assert [vote.user_id for vote in task.approvals[0].votes] == ["u1"]


async def test_a_job_is_found_by_name_then_key_then_display_name(database: Database) -> None:
    jobs = (
        new_job("z", key="y", display_name="x"),
        new_job("y", key="x", display_name="z"),
        new_job("w", key="v", display_name="only"),
    )
    task_id = await database.write(start, jobs=jobs)

    async def found(name: str) -> str | None:
        job = await database.read(lambda tx: tx.tasks.find_job(task_id, name))
        return job.name if job is not None else None

    assert [await found(name) for name in ("z", "y", "x", "only", "v", "nobody")] == ["z", "y", "y", "w", "w", None]


async def test_what_an_execution_found_is_kept(database: Database) -> None:
    task_id = await database.write(start, jobs=(new_job("a", warnings=("w",)),))
    job_id = (await database.read(lambda tx: tx.tasks.load(task_id))).jobs[0].id

    def find(tx: Tx) -> None:
        tx.tasks.set_plan(job_id, {"script": "true", "名": "值"})
        tx.tasks.set_outputs(job_id, {"IMAGE": "a:1"})
        tx.tasks.merge_result(job_id, {"commits": [1], "report": {"passed": 1}})
        tx.tasks.merge_result(job_id, {"report": {"passed": 2}})

    await database.write(find)
    job = await database.read(lambda tx: tx.tasks.job_by_id(job_id))
    assert job is not None
    assert job.plan == {"script": "true", "名": "值"}
    assert job.outputs == {"IMAGE": "a:1"}
    assert job.result == {"warnings": ["w"], "commits": [1], "report": {"passed": 2}}


async def test_events_are_paged(database: Database) -> None:
    task_id = await database.write(start)
    for at in (1.0, 2.0, 3.0):
        event = ev.JobEnded(at, 1, 1, 0, Result.LOST, "gone")
        await database.write(lambda tx, event=event: tx.tasks.append_event(task_id, event))
    first = await database.read(lambda tx: tx.tasks.events(task_id, limit=2))
    rest = await database.read(lambda tx: tx.tasks.events(task_id, after=first[-1].id))
    assert [event.at for event in first + rest] == [100.0, 1.0, 2.0, 3.0]
    assert rest[-1].data == {"job_id": 1, "attempt": 1, "recovery": 0, "result": "lost", "error": "gone"}


async def test_deleting_hides_tasks_and_frees_no_number(database: Database) -> None:
    first = await database.write(start)
    await database.write(start, "other")
    await database.write(lambda tx: (tx.housekeeping.bury("w"), tx.housekeeping.mark("w", 0, 1, 9)))
    assert await database.read(lambda tx: (tx.tasks.find_id("w", 1), tx.tasks.count("w"))) == (None, 0)
    assert await database.read(lambda tx: (tx.tasks.count("other"), tx.tasks.load(first).number)) == (1, 1)
    second = await database.write(start)
    assert await database.read(lambda tx: (tx.tasks.find_id("w", 2), tx.tasks.count("w"))) == (second, 1)


async def test_tasks_with_a_word_are_found_while_they_are_not_over(database: Database) -> None:
    waiting = await database.write(start, auto_cancel="pr:1")
    running = await database.write(start, auto_cancel="pr:1")
    over = await database.write(start, auto_cancel="pr:1", jobs=())
    await database.write(start, auto_cancel="pr:2")
    await database.write(start, "other", auto_cancel="pr:1")
    await database.write(start)
    await database.write(hear, running, ev.Admitted(10.0))
    assert (await database.write(hear, over, ev.Admitted(10.0))).final
    assert await database.read(lambda tx: tx.tasks.worded("w", "pr:1")) == [waiting, running]


async def test_a_remark_is_a_field_of_its_own(database: Database) -> None:
    task_id = await database.write(start, remark="first")
    moved = await database.write(hear, task_id, ev.Admitted(10.0))
    await database.write(lambda tx: tx.tasks.set_remark(task_id, "second"))
    assert await database.read(lambda tx: tx.tasks.row(task_id).remark) == "second"
    assert await database.read(lambda tx: tx.tasks.load(task_id)) == moved
    with pytest.raises(NotFound):
        await database.write(lambda tx: tx.tasks.set_remark(task_id + 1, "x"))


async def test_the_same_number_twice_is_an_error_of_the_program(database: Database) -> None:
    await database.write(lambda tx: tx.tasks.add(new_task(number=5)))
    with pytest.raises(Exception, match=r"(?i)unique"):
        await database.write(lambda tx: tx.tasks.add(new_task(number=5)))
    assert await database.read(lambda tx: tx.tasks.count("w")) == 1
