"""Settling: after every event all that can start now is started and all that is over is closed, so that no wake-up is
ever owed."""

from dataclasses import replace

from cador.domain.change import ACTIVE, Change, span
from cador.domain.commands import Admit, AskPolicy, Tell
from cador.domain.errors import WrongStatus
from cador.domain.job_machine import Cause, move, stage_status
from cador.domain.manual import pause
from cador.domain.retrying import reset, wish_of
from cador.domain.task import (
    JOB_BUSY,
    JOB_FINAL,
    JOB_KEPT,
    JOB_STOPPING,
    STAGE_KEPT,
    STAGE_STOPPING,
    ApprovalStatus,
    JobKind,
    JobStatus,
    JobTask,
    Slot,
    StageStatus,
    StageTask,
    TaskStatus,
)


def settle(change: Change, at: float) -> None:
    # Ends are heard with the times they had, and not always in their order: what follows never begins before them.
    at = max([at, *(job.end_at for job in change.jobs.values() if job.end_at is not None)])
    if change.status is TaskStatus.CANCELLING:
        _cancelling(change, at)
    elif change.status is TaskStatus.EXPIRING:
        _expiring(change, at)
    elif change.status is TaskStatus.RUNNING:
        _running(change, at)


def _cancelling(change: Change, at: float) -> None:
    if any(job.status in ACTIVE for job in change.jobs.values()):
        return
    for index, stage in enumerate(change.stages):
        if stage.status in (StageStatus.RUNNING, StageStatus.WAIT_FOR_APPROVAL):
            change.close_stage(index, StageStatus.CANCELLED, at)
    change.finish(at)
    # Whatever the stages say: a cancel that was acknowledged wins over a result computed later.
    if change.status is not TaskStatus.CANCELLED:
        change.commands = [c for c in change.commands if not isinstance(c, Tell)]
        change.commands.append(Tell(TaskStatus.CANCELLED.value, change.task.retry_num))
        change.status = TaskStatus.CANCELLED
    _begin_wanted(change)


def _expiring(change: Change, at: float) -> None:
    if any(job.status in ACTIVE for job in change.jobs.values()):
        return
    for index, stage in enumerate(change.stages):
        if stage.status in (StageStatus.RUNNING, StageStatus.WAIT_FOR_APPROVAL, StageStatus.PAUSE):
            change.close_stage(index, StageStatus.TIMEOUT, at)
    change.finish(at)
    # Its time was up before this: whatever the last jobs still came to.
    if change.status is not TaskStatus.TIMEOUT:
        change.commands = [c for c in change.commands if not isinstance(c, Tell)]
        change.commands.append(Tell(TaskStatus.TIMEOUT.value, change.task.retry_num))
        change.status = TaskStatus.TIMEOUT
    change.set(error=f"task timed out after {span(change.task.timeout_s)}")


def _begin_wanted(change: Change) -> None:
    """All is down: begin the round that somebody asked for meanwhile."""
    if change.task.retry_wanted:
        reset(change, wish_of(change.task.retry_wanted))


def _running(change: Change, at: float) -> None:
    for index, stage in enumerate(change.stages):
        if stage.status in STAGE_KEPT:
            continue
        if stage.status is StageStatus.IDLE:
            stage = _enter(change, index, stage, at)
        if stage.status is StageStatus.RUNNING:
            _run_stage(change, index, stage, at)
        status = change.stages[index].status
        if status is StageStatus.PAUSE:
            pause(change, index)
            return
        if status in STAGE_KEPT:
            continue
        if status in STAGE_STOPPING:
            break
        _release_slot(change)
        return
    change.finish(at)


def _enter(change: Change, index: int, stage: StageTask, at: float) -> StageTask:
    approval = change.stage_approval(index)
    if approval is not None and approval.status is not ApprovalStatus.APPROVED:
        change.ask(approval, at)
        stage = replace(stage, status=StageStatus.WAIT_FOR_APPROVAL)
    elif stage.manual and not stage.executed_by:
        stage = replace(stage, status=StageStatus.PAUSE)
    else:
        stage = replace(stage, status=StageStatus.RUNNING, start_at=at)
    change.stages[index] = stage
    return stage


def _run_stage(change: Change, index: int, stage: StageTask, at: float) -> None:
    jobs = change.stage_jobs(index)
    if stage.parallel:
        room = change.task.parallel_limit - sum(job.status in JOB_BUSY for job in jobs)
        for job in jobs:
            if job.status is JobStatus.IDLE and (room > 0 or job.kind is JobKind.APPROVAL):
                if not _begin(change, job, at):
                    break
                room -= job.kind is not JobKind.APPROVAL
        over = all(job.status in JOB_FINAL for job in change.stage_jobs(index))
    else:
        over = True
        for job in jobs:
            if job.status in JOB_KEPT:
                continue
            if job.status in JOB_STOPPING:
                break
            if job.status is JobStatus.IDLE:
                _begin(change, job, at)
            over = False
            break
    if over:
        ended = [job.status for job in change.stage_jobs(index) if job.status in JOB_FINAL]
        change.close_stage(index, stage_status(ended), at)


def _begin(change: Change, job: JobTask, at: float) -> bool:
    """Start *job* if it needs no slot or the task has one; else want one."""
    if job.kind is JobKind.APPROVAL:
        begin_approval(change, job, Cause.REACH, at)
        return True
    if change.slot is not Slot.HELD:
        if change.slot is Slot.NONE:
            change.slot = Slot.WANTED
            change.commands.append(Admit())
        return False
    change.start(job, Cause.REACH, at)
    return True


def begin_approval(change: Change, job: JobTask, cause: Cause, at: float) -> None:
    approval = change.job_approval(job.id)
    if approval is None:
        raise WrongStatus(f"job {job.name}", "without an approval", "start")
    change.put(move(job, cause, JobStatus.WAIT_FOR_APPROVAL, start_at=at, end_at=None, error=""))
    if job.conditional and cause is Cause.REACH:
        change.commands.append(AskPolicy(job.id, approval.round))
    else:
        change.ask(approval, at)


def _release_slot(change: Change) -> None:
    """A task that only waits for people uses nothing: its slot is for others."""
    if change.slot is Slot.HELD and not any(job.status in JOB_BUSY for job in change.jobs.values()):
        change.slot = Slot.NONE
        change.commands.append(Admit())
