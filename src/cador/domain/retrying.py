"""Retry: run again, under the same number, what did not pass, or what a person chose of it.

Three wishes. Without a choice everything that did not pass runs again (the documented retry). *jobs*: of what failed
only these run again; others that failed stay so. *from_job*: this job and all that follows it run again, passed or
not, and with them whatever else did not pass, for nothing could follow it. What was never reached runs when its turn
comes, whatever was chosen.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from cador.domain import events as ev
from cador.domain.change import ACTIVE, Change
from cador.domain.commands import Admit, Tell
from cador.domain.errors import WrongStatus
from cador.domain.job_machine import Cause, move
from cador.domain.task import (
    JOB_KEPT,
    JOB_STOPPING,
    STAGE_KEPT,
    Approval,
    ApprovalStatus,
    JobKind,
    JobStatus,
    JobTask,
    Slot,
    StageStatus,
    TaskStatus,
)

RETRIABLE: Final = frozenset({TaskStatus.FAILED, TaskStatus.TIMEOUT, TaskStatus.CANCELLED, TaskStatus.REJECT})


@dataclass(frozen=True, slots=True)
class Wish:
    """A retry that begins when the task is down. ``jobs`` and ``from_job``: see the module, by id."""

    by: str
    jobs: tuple[int, ...] = ()
    from_job: int | None = None


def wish_of(text: str) -> Wish:
    """What ``WorkflowTask.retry_wanted`` says. Earlier versions knew one kind of retry and kept the name alone."""
    try:
        return msgspec.json.decode(text, type=Wish)
    except msgspec.DecodeError:
        return Wish(text)


def retry_requested(change: Change, event: ev.RetryRequested) -> None:
    """Begin a round, or keep the wish while the task goes down, or begin single jobs anew while others run.

    Raises: WrongStatus.
    """
    task = change.task
    if task.archived:
        raise WrongStatus(task.label, "archived", "retry")
    if change.status is TaskStatus.CANCELLING:
        if task.retry_wanted:
            raise WrongStatus(task.label, "being retried", "retry")
        if event.changes:
            raise WrongStatus(task.label, "being stopped", "change what it runs with")
        _check(change, event)
        wish = Wish(event.user_name or "system", event.jobs, event.from_job)
        change.set(retry_wanted=msgspec.json.encode(wish).decode())
    elif change.status is TaskStatus.RUNNING and event.jobs:
        _check(change, event)
        _reset_jobs(change, [change.jobs[job_id] for job_id in event.jobs])
    elif change.status in RETRIABLE:
        _check(change, event)
        reset(change, Wish(event.user_name, event.jobs, event.from_job))
    else:
        raise WrongStatus(task.label, change.status.value, "retry")


def _check(change: Change, event: ev.RetryRequested) -> None:
    """What is chosen must have failed, or be going down; what is begun from must have been reached."""
    for job_id in event.jobs:
        job = change.jobs.get(job_id)
        going_down = change.status is TaskStatus.CANCELLING and job is not None and job.status in ACTIVE
        if job is None or not (job.status in JOB_STOPPING or going_down):
            raise _not_chosen(job, job_id)
    if event.from_job is not None:
        job = change.jobs.get(event.from_job)
        if job is None or job.status is JobStatus.IDLE:
            raise _not_chosen(job, event.from_job)


def _not_chosen(job: JobTask | None, job_id: int) -> WrongStatus:
    if job is None:
        return WrongStatus(f"job {job_id}", "unknown", "retry")
    return WrongStatus(f"job {job.name}", job.status.value or "not started", "retry")


def reset(change: Change, wish: Wish) -> None:
    """Begin a new round: put what runs again back to its beginning; all else keeps times, outputs and logs."""
    first = change.jobs.get(wish.from_job) if wish.from_job is not None else None
    chosen = frozenset(wish.jobs)
    again = [job for job in change.jobs.values() if job.status in JOB_STOPPING and (not chosen or job.id in chosen)]
    if first is not None:
        again += [
            job
            for job in _from(change, first)
            if job.status in JOB_KEPT and (job.id == first.id or not _left_out(job, first.stage))
        ]
    _reset_jobs(change, again)
    begun = {job.stage for job in again}
    for index, stage in enumerate(change.stages):
        behind = first is not None and index > first.stage
        if stage.status in STAGE_KEPT and index not in begun and not behind:
            continue
        if behind:
            # What people agreed to there was what came before as it was.
            stage = replace(stage, executed_by="")
        change.stages[index] = replace(stage, status=StageStatus.IDLE, error="", start_at=None, end_at=None)
        approval = change.stage_approval(index)
        if approval is not None and (behind or approval.status is not ApprovalStatus.APPROVED):
            _forget(change, approval)
    change.status, change.slot = TaskStatus.WAITING, Slot.NONE
    retry_num = change.task.retry_num + 1
    change.set(retry_num=retry_num, start_at=None, end_at=None, error="", revoker="", revoker_id="", retry_wanted="")
    change.commands += [Tell("created", retry_num), Admit()]


def _from(change: Change, first: JobTask) -> list[JobTask]:
    """*first* and what runs after it: later in the same stage, if that is a serial one, and in later stages."""
    jobs = list(change.jobs.values())
    beside = [] if change.stages[first.stage].parallel else jobs[jobs.index(first) + 1 :]
    return [first, *(j for j in beside if j.stage == first.stage), *(j for j in jobs if j.stage > first.stage)]


def _left_out(job: JobTask, stage: int) -> bool:
    """An approval of *stage* that was skipped without a policy: who executed the stage left it out, and is not asked
    again. What other jobs say to that is in their plans."""
    skipped = job.kind is JobKind.APPROVAL and job.status is JobStatus.SKIPPED
    return skipped and not job.conditional and job.stage == stage


def _reset_jobs(change: Change, jobs: Iterable[JobTask]) -> None:
    for job in jobs:
        cause = Cause.RESET if job.status in JOB_STOPPING else Cause.AGAIN
        change.put(move(job, cause, JobStatus.IDLE, error="", start_at=None, end_at=None, deadline_at=None,
                        retry_count=0, recovery=0, stopping="", failed_as=""))  # fmt: skip
        approval = change.job_approval(job.id)
        if approval is not None:
            _forget(change, approval)


def _forget(change: Change, approval: Approval) -> None:
    """Nobody has been asked: a new round of votes begins when it is reached."""
    if approval.status is not ApprovalStatus.IDLE:
        change.approvals[approval.id] = replace(
            approval, status=ApprovalStatus.IDLE, votes=(), start_at=None, end_at=None
        )
