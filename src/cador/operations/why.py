"""Why something does not run now: for a task and each of its jobs the reasons, and when a waiting task may start.

Pure: what the tables and this server know comes as :class:`Facts`. Who gathers them is in ``why_facts``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cador.domain.change import RETRY_PAUSE_S
from cador.domain.task import (
    JOB_BUSY,
    JOB_FINAL,
    JOB_KEPT,
    STAGE_KEPT,
    Approval,
    ApprovalStatus,
    JobKind,
    JobStatus,
    JobTask,
    Slot,
    StageStatus,
    TaskStatus,
    WorkflowTask,
)
from cador.operations.forecasts import Forecast
from cador.operations.stage_executors import NOBODY, StageExecutors
from cador.ports.admission import Blocker, QueueFacts


class Reason(StrEnum):
    """Words for programs. ``ticket_window`` is reserved for approval tickets and not given yet."""

    NOT_EXECUTABLE = "not_executable"
    WORKFLOW_LIMIT = "workflow_limit"
    PROJECT_CAP = "project_cap"
    USER_CAP = "user_cap"
    GLOBAL_LIMIT = "global_limit"
    FAIR_SHARE = "fair_share"
    STARTING = "starting"
    WAITING_FOR_SLOT = "waiting_for_slot"
    STAGE_ORDER = "stage_order"
    STAGE_LIMIT = "stage_limit"
    APPROVAL = "approval"
    MANUAL_STAGE = "manual_stage"
    DECISION = "decision"
    RETRY_PAUSE = "retry_pause"
    NO_ROOM = "no_room"
    NO_EXECUTOR = "no_executor"
    CANCELLING = "cancelling"
    EXPIRING = "expiring"
    FINISHED = "finished"
    TELLING = "telling"
    NOT_REACHED = "not_reached"


MEANING: Final[Mapping[Reason, str]] = {
    Reason.NOT_EXECUTABLE: "the workflow's `concurrency_limit` is 0; its tasks start when it is raised",
    Reason.WORKFLOW_LIMIT: "as many tasks of the workflow run as its `concurrency_limit` allows; `blocking` names them",
    Reason.PROJECT_CAP: "as many tasks of the project run as the server allows one project",
    Reason.USER_CAP: "as many tasks of the user run as the server allows one user",
    Reason.GLOBAL_LIMIT: "as many tasks run as the server allows; `blocking` names those that the caller may see",
    Reason.FAIR_SHARE: "all slots are taken, and younger tasks of projects that had less lately go first",
    Reason.STARTING: "nothing is in its way: it is about to start, or to be tried again (`until`)",
    Reason.WAITING_FOR_SLOT: "people have answered; the task goes on when one that runs ends or pauses",
    Reason.STAGE_ORDER: "an earlier stage, or an earlier job of a serial stage, is not over (`waits_for`)",
    Reason.STAGE_LIMIT: "as many jobs of the stage run as may at once (`limit`); `waits_for` names them",
    Reason.APPROVAL: "people must approve: `people`, how many votes are `missing`, and `until` when",
    Reason.MANUAL_STAGE: "somebody must start the stage by hand (`people`)",
    Reason.DECISION: "the job failed, and somebody must decide what that means (`people`)",
    Reason.RETRY_PAUSE: "the job failed and is repeated at `until`",
    Reason.NO_ROOM: "the servers run as many jobs as they may (`limit`, of this one)",
    Reason.NO_EXECUTOR: "this server cannot carry out jobs of that type: it will fail when it is reached",
    Reason.CANCELLING: "the task is being cancelled",
    Reason.EXPIRING: "the time of the task is up, it is being stopped",
    Reason.FINISHED: "it is over",
    Reason.TELLING: "it is over, and who wanted to hear that (`waits_for`) has not: it is tried again at `until`",
    Reason.NOT_REACHED: "the task ended before it",
}
"""What each word means, for the documentation."""


@dataclass(frozen=True, slots=True)
class Person:
    user_id: str
    user_name: str


@dataclass(frozen=True, slots=True)
class Wait:
    """One reason. ``text``: a sentence for people. ``blocking``: tasks in the way; ``hidden``: how many more there are
    that are not named. ``waits_for``: stages or jobs. ``until``: Unix seconds. What a reason does not use is empty."""

    reason: Reason
    text: str
    blocking: tuple[Blocker, ...] = ()
    hidden: int = 0
    waits_for: tuple[str, ...] = ()
    people: tuple[Person, ...] = ()
    missing: int = 0
    until: float | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class JobWhy:
    """``waits``: empty for a job that runs; the first is what holds it now, others come on top."""

    name: str
    stage: str
    status: str
    waits: tuple[Wait, ...] = ()


@dataclass(frozen=True, slots=True)
class Why:
    """``waits`` of the task: empty when at least one of its jobs runs. ``position``: in the queue from 1, 0 when it is
    not in it. ``start``: when it may start; None when that cannot be told."""

    waits: tuple[Wait, ...]
    jobs: tuple[JobWhy, ...]
    position: int = 0
    start: Forecast | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """``queue``: what who admits says of the task, None when it waits for nothing there; its ``blocking`` only those
    that the caller may see, ``hidden`` others. ``limits``: the number behind each of its reasons. ``untaken``: jobs
    whose start no server has taken on yet, and when it is due; ``max_jobs``: of this one.
    ``unknown``: why this server cannot carry out a job. ``deciders`` of jobs, ``openers`` of stages: who may decide
    about a failure, who may start a stage by hand."""

    now: float
    queue: QueueFacts | None = None
    hidden: int = 0
    limits: Mapping[Reason, int] = field(default_factory=dict)
    start: Forecast | None = None
    max_jobs: int = 0
    untaken: Mapping[int, float] = field(default_factory=dict)
    unknown: Mapping[int, str] = field(default_factory=dict)
    untold: Mapping[str, float] = field(default_factory=dict)
    """Receivers outside that have not heard of the end, and when they are told next."""
    deciders: Mapping[int, tuple[Person, ...]] = field(default_factory=dict)
    openers: Mapping[int, StageExecutors] = field(default_factory=dict)


def explain(task: WorkflowTask, facts: Facts) -> Why:
    """The reasons of *task* and of each of its jobs that does not run."""
    queued = _queue_waits(task, facts)
    jobs = tuple(
        JobWhy(job.name, task.stages[job.stage].name, job.status.value, _job_waits(task, job, facts, queued))
        for job in task.jobs
    )
    position = facts.queue.position if facts.queue is not None else 0
    return Why(_task_waits(task, facts, queued, jobs), jobs, position, facts.start)


# -- the queue


def _queue_waits(task: WorkflowTask, facts: Facts) -> tuple[Wait, ...]:
    """What keeps a task in the queue. Empty: it is not in it."""
    going_on = task.status is TaskStatus.RUNNING and task.slot is Slot.WANTED
    if facts.queue is None or not (going_on or task.status is TaskStatus.WAITING):
        return ()
    reason = Reason(facts.queue.reason or Reason.STARTING)
    limit = facts.limits.get(reason)
    text = _QUEUED[reason].format(tasks=_count(limit or 0, "task"))
    if reason is Reason.NOT_EXECUTABLE and limit is None:
        text = "its workflow is gone"
    if going_on:
        reason, text = Reason.WAITING_FOR_SLOT, f"it was answered and goes on when its turn comes: {text}"
    return (Wait(reason, text, blocking=facts.queue.blocking, hidden=facts.hidden, limit=limit),)


_QUEUED: Final[Mapping[Reason, str]] = {
    Reason.NOT_EXECUTABLE: "its workflow's concurrency_limit is 0: it starts when that is raised",
    Reason.WORKFLOW_LIMIT: "its workflow runs {tasks} at once (concurrency_limit)",
    Reason.PROJECT_CAP: "its project may run {tasks} at once (engine.max_running_per_project)",
    Reason.USER_CAP: "who started it may run {tasks} at once (engine.max_running_per_user)",
    Reason.GLOBAL_LIMIT: "the server runs {tasks} at once (engine.max_running_tasks)",
    Reason.FAIR_SHARE: "the server runs {tasks} at once, and projects that had less of it go first",
    Reason.STARTING: "nothing is in its way, it is let in any moment",
}


def _starting(text: str) -> Wait:
    return Wait(Reason.STARTING, text)


# -- the task


def _task_waits(
    task: WorkflowTask, facts: Facts, queued: tuple[Wait, ...], jobs: tuple[JobWhy, ...]
) -> tuple[Wait, ...]:
    if task.final:
        over = Wait(Reason.FINISHED, f"it is over: {task.status}")
        return (over, *(_telling(name, due_at) for name, due_at in facts.untold.items()))
    if task.status in _GOING_DOWN:
        return (_GOING_DOWN[task.status],)
    if queued:
        return queued
    if any(job.status is JobStatus.RUNNING for job in task.jobs):
        return ()
    # What its open jobs and stages wait for is what it waits for; each reason once.
    found = [wait for job in jobs for wait in job.waits if wait.reason in _OF_THE_TASK]
    return tuple({(wait.reason, wait.text): wait for wait in found}.values())


def _telling(name: str, due_at: float) -> Wait:
    return Wait(Reason.TELLING, f"its {name} has not heard of that yet", waits_for=(name,), until=due_at)


_OF_THE_TASK: Final = frozenset(
    {Reason.APPROVAL, Reason.MANUAL_STAGE, Reason.DECISION, Reason.RETRY_PAUSE, Reason.NO_ROOM, Reason.STARTING}
)


_GOING_DOWN: Final[Mapping[TaskStatus, Wait]] = {
    TaskStatus.CANCELLING: Wait(Reason.CANCELLING, "it is being cancelled"),
    TaskStatus.EXPIRING: Wait(Reason.EXPIRING, "the time of the task is up, it is being stopped"),
}


# -- its jobs


def _job_waits(task: WorkflowTask, job: JobTask, facts: Facts, queued: tuple[Wait, ...]) -> tuple[Wait, ...]:
    if job.status in JOB_FINAL:
        return (Wait(Reason.FINISHED, f"it is over: {job.status}"),)
    if job.status is JobStatus.RUNNING:
        return ()
    if task.status in _GOING_DOWN:
        return (_GOING_DOWN[task.status],)
    if job.stopping == "cancel":
        return (_GOING_DOWN[TaskStatus.CANCELLING],)
    if task.final:
        return (Wait(Reason.NOT_REACHED, f"the task ended before it: {task.status}"),)
    waits = _open_waits(task, job, facts, queued)
    if job.id in facts.unknown:
        return (*waits, Wait(Reason.NO_EXECUTOR, facts.unknown[job.id]))
    return waits


def _open_waits(task: WorkflowTask, job: JobTask, facts: Facts, queued: tuple[Wait, ...]) -> tuple[Wait, ...]:
    match job.status:
        case JobStatus.PREPARE if facts.untaken.get(job.id, 0.0) > facts.now:
            text = "it could not be started for a reason of the machine, and is tried again"
            return (Wait(Reason.STARTING, text, until=facts.untaken[job.id]),)
        case JobStatus.PREPARE if job.id in facts.untaken:
            text = f"no server has room for one more job; this one runs {facts.max_jobs} at once (engine.max_jobs)"
            return (Wait(Reason.NO_ROOM, text, limit=facts.max_jobs),)
        case JobStatus.PREPARE:
            return (_starting("it is being started"),)
        case JobStatus.RETRY_PAUSE:
            until = (job.end_at or facts.now) + RETRY_PAUSE_S
            text = f"it failed and is repeated, {job.retry_count} of {job.maximum_retry}"
            return (Wait(Reason.RETRY_PAUSE, text, until=until),)
        case JobStatus.WAIT_FOR_DECISION:
            people = facts.deciders.get(job.id, ())
            text = f"it failed, and {_any_of(people, 'a system administrator')} must decide what that means"
            return (Wait(Reason.DECISION, text, people=people),)
        case JobStatus.WAIT_FOR_APPROVAL:
            approval = next((a for a in task.approvals if a.job_id == job.id), None)
            return (_approval(approval),) if approval is not None else ()
    return _idle_waits(task, job, facts, queued)


def _idle_waits(task: WorkflowTask, job: JobTask, facts: Facts, queued: tuple[Wait, ...]) -> tuple[Wait, ...]:
    """Of a job that has not begun, in a task that is not over."""
    current = next((index for index, stage in enumerate(task.stages) if stage.status not in STAGE_KEPT), 0)
    stage = task.stages[current]
    if job.stage > current:
        return (_order(f"stage {stage.name}", (stage.name,)),)
    if stage.status is StageStatus.WAIT_FOR_APPROVAL:
        approval = task.stage_approval(current)
        return (_approval(approval),) if approval is not None else ()
    if stage.status is StageStatus.PAUSE:
        openers = facts.openers.get(current, NOBODY)
        people = tuple(Person(uid, name) for uid, name in openers.users)
        others = "somebody who may run the workflow" if openers.everybody else "a system administrator"
        text = f"{_any_of(people, others)} must start stage {stage.name} by hand"
        return (Wait(Reason.MANUAL_STAGE, text, people=people),)
    jobs = task.jobs_of(current)
    if not stage.parallel:
        before = next((one for one in jobs if one.status not in JOB_KEPT), job)
        if before.id != job.id:
            return (_order(f"job {before.name}", (before.name,)),)
    elif job.kind is not JobKind.APPROVAL and not queued:
        busy = tuple(one.name for one in jobs if one.status in JOB_BUSY)
        if len(busy) >= task.parallel_limit:
            text = f"its stage runs {_count(task.parallel_limit, 'job')} at once (engine.max_jobs_per_stage)"
            return (Wait(Reason.STAGE_LIMIT, text, waits_for=busy, limit=task.parallel_limit),)
    return queued or (_starting("it is about to start"),)


def _order(what: str, waits_for: tuple[str, ...]) -> Wait:
    return Wait(Reason.STAGE_ORDER, f"{what} is not over", waits_for=waits_for)


def _approval(approval: Approval) -> Wait:
    voted = {vote.user_id for vote in approval.votes}
    people = tuple(Person(a.user_id, a.user_name) for a in approval.approvers if a.user_id not in voted)
    given = sum(vote.approve for vote in approval.votes)
    missing = max(0, approval.needed - given)
    until = None
    if approval.status is ApprovalStatus.WAITING and approval.start_at is not None:
        until = approval.start_at + approval.timeout_s
    return Wait(
        Reason.APPROVAL,
        f"{missing} more of {_names(people)} must approve",
        people=people,
        missing=missing,
        until=until,
    )


# -- words


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _names(people: tuple[Person, ...]) -> str:
    return ", ".join(person.user_name or person.user_id for person in people)


def _any_of(people: tuple[Person, ...], others: str) -> str:
    if not people:
        return others
    names = [person.user_name or person.user_id for person in people]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
