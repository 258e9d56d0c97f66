"""``advance``: what becomes of a workflow task when something is heard, and what must now be done outside.

Pure: time comes with the event. An event that fits nowhere is late or repeated news and changes nothing; a request of a
person that does not fit raises. After every event the task is *settled*: all that can start now is started, all that is
over is closed, so that no wake-up is ever owed.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from cador.domain import events as ev
from cador.domain.change import ACTIVE, Change, span
from cador.domain.commands import Command, Forget, Start, Tell, WaitRetry, WatchDeadline, WatchTask
from cador.domain.errors import NotAnApprover, VotedAlready, WrongStatus
from cador.domain.job_machine import Cause, move
from cador.domain.manual import stage_executed
from cador.domain.retrying import retry_requested
from cador.domain.settling import begin_approval, settle
from cador.domain.task import (
    TASK_FINAL,
    Approval,
    ApprovalStatus,
    JobKind,
    JobStatus,
    JobTask,
    Slot,
    StageStatus,
    TaskStatus,
    Vote,
    WorkflowTask,
)

RECOVERIES: Final = 1
"""How often a job is run again because its execution was lost."""
INTERRUPTED: Final = "interrupted by server restart"
CANCELED: Final = "workflow was canceled"
EXPIRED: Final = "workflow timeout"
TASK_EXPIRED: Final = "the time of the task was up"


def advance(task: WorkflowTask, event: ev.Event) -> tuple[WorkflowTask, tuple[Command, ...]]:
    """Return the task after *event*, and the commands it causes.

    Raises: WrongStatus, NotAnApprover, VotedAlready: a request of a person does not fit; nothing is changed.
    """
    change = Change(task)
    _HEAR[type(event)](change, event)
    return change.done()


def _admitted(change: Change, event: ev.Admitted) -> None:
    if change.status is TaskStatus.WAITING:
        change.status = TaskStatus.RUNNING
        if change.task.start_at is None:  # it may go on after a pause
            change.set(start_at=event.at)
        if change.task.timeout_s:
            # Of a task that goes on after a pause this is there already, and stays.
            change.commands.append(WatchTask(change.task.retry_num, event.at + change.task.timeout_s))
    elif change.status is not TaskStatus.RUNNING or change.slot is not Slot.WANTED:
        return
    change.slot = Slot.HELD
    settle(change, event.at)


def _job_started(change: Change, event: ev.JobStarted) -> None:
    job = change.attempt(event.job_id, event.attempt)
    if job is None or job.recovery != event.recovery or job.status is not JobStatus.PREPARE:
        return
    job = change.put(move(job, Cause.STARTED, JobStatus.RUNNING, deadline_at=event.at + job.timeout_s))
    change.commands.append(WatchDeadline(job.id, job.attempt, event.at + job.timeout_s))


def _job_skipped(change: Change, event: ev.JobSkipped) -> None:
    job = change.attempt(event.job_id, event.attempt)
    if job is None or not (job.status is JobStatus.PREPARE or _not_asked_yet(change, job)):
        return
    if job.stopping:
        status = JobStatus.TIMEOUT if job.stopping == "timeout" else JobStatus.CANCELLED
        change.put(move(job, Cause.END, status, end_at=event.at, stopping=""))
    else:
        change.put(move(job, Cause.SKIP, JobStatus.SKIPPED, start_at=event.at, end_at=event.at))
    settle(change, event.at)


def _not_asked_yet(change: Change, job: JobTask) -> Approval | None:
    """The approval of a job that was reached and whose policy has not been heard of."""
    approval = change.job_approval(job.id) if job.status is JobStatus.WAIT_FOR_APPROVAL else None
    return approval if approval is not None and approval.status is ApprovalStatus.IDLE else None


def _job_allowed(change: Change, event: ev.JobAllowed) -> None:
    job = change.jobs.get(event.job_id)
    approval = _not_asked_yet(change, job) if job is not None else None
    if approval is not None:
        change.ask(approval, event.at)


def _job_ended(change: Change, event: ev.JobEnded) -> None:
    job = change.attempt(event.job_id, event.attempt)
    if job is None or job.recovery != event.recovery or job.status not in ACTIVE:
        return
    change.commands.append(Forget(WatchDeadline(job.id, job.attempt, 0).key))
    lost = event.result is ev.Result.LOST and not event.error and not job.stopping
    if lost and job.repeatable and job.recovery < RECOVERIES:
        again = change.put(move(job, Cause.LOSE, JobStatus.PREPARE, recovery=job.recovery + 1, deadline_at=None))
        change.commands.append(Start(again.id, again.attempt, again.recovery))
        return
    status, error = _verdict(job, event, expired=change.status is TaskStatus.EXPIRING)
    change.judge(job, Cause.END, status, error, event.at, policy=event.result is not ev.Result.BROKEN)
    settle(change, event.at)


def _verdict(job: JobTask, event: ev.JobEnded, *, expired: bool) -> tuple[JobStatus, str]:
    """What an ended attempt counts as. A result of its own counts, however late it is heard, unless its deadline had
    passed when it came about."""
    natural = event.result in (ev.Result.PASSED, ev.Result.FAILED)
    if job.stopping == "cancel" and not natural:
        return JobStatus.CANCELLED, ""
    if natural and job.deadline_at is not None and event.at > job.deadline_at and job.stopping != "cancel":
        return JobStatus.TIMEOUT, _timed_out(job)
    match event.result:
        case ev.Result.PASSED:
            return JobStatus.PASSED, ""
        case ev.Result.FAILED | ev.Result.BROKEN:
            return JobStatus.FAILED, event.error
        case ev.Result.TIMEOUT:
            return JobStatus.TIMEOUT, TASK_EXPIRED if expired else event.error or _timed_out(job)
        case ev.Result.CANCELLED if job.stopping == "timeout":  # stopped before it began
            return JobStatus.TIMEOUT, _timed_out(job, expired)
        case ev.Result.CANCELLED:
            return JobStatus.FAILED, event.error or "stopped from outside"
        case ev.Result.LOST if job.stopping == "timeout":
            return JobStatus.TIMEOUT, _timed_out(job, expired)
        case ev.Result.LOST:
            return JobStatus.FAILED, event.error or INTERRUPTED


def _timed_out(job: JobTask, expired: bool = False) -> str:
    return TASK_EXPIRED if expired else f"job timed out after {span(job.timeout_s)}"


def _deadline_passed(change: Change, event: ev.DeadlinePassed) -> None:
    job = change.attempt(event.job_id, event.attempt)
    if job is not None and job.status in ACTIVE and not job.stopping:
        change.stop(job, "timeout")


def _retry_pause_over(change: Change, event: ev.RetryPauseOver) -> None:
    job = change.attempt(event.job_id, event.attempt)
    if job is None or job.status is not JobStatus.RETRY_PAUSE or change.status is not TaskStatus.RUNNING:
        return
    if job.kind is JobKind.APPROVAL:
        begin_approval(change, job, Cause.RESUME, event.at)
        settle(change, event.at)
    else:
        change.start(job, Cause.RESUME, event.at)


def _decided(change: Change, event: ev.Decided) -> None:
    job = change.jobs.get(event.job_id)
    if job is None or job.status is not JobStatus.WAIT_FOR_DECISION or change.status is not TaskStatus.RUNNING:
        name, status = (job.name, job.status) if job is not None else (str(event.job_id), "unknown")
        raise WrongStatus(f"job {name}", status or "not started", "decide about its failure")
    status = JobStatus.UNSTABLE if event.ignore else JobStatus(job.failed_as)
    change.put(move(job, Cause.DECIDE, status, end_at=event.at))
    settle(change, event.at)


def _voted(change: Change, event: ev.Voted) -> None:
    approval = change.approvals.get(event.approval_id)
    if approval is None or approval.status is not ApprovalStatus.WAITING or change.status is not TaskStatus.RUNNING:
        raise WrongStatus(f"approval {event.approval_id}", "not open", "vote")
    if all(approver.user_id != event.user_id for approver in approval.approvers):
        raise NotAnApprover(event.user_name)
    if approval.start_at is not None and event.at >= approval.start_at + approval.timeout_s:
        raise WrongStatus(f"approval {approval.id}", "out of time", "vote")  # its timer only has not been heard yet
    earlier = next((vote for vote in approval.votes if vote.user_id == event.user_id), None)
    if earlier is not None:
        raise VotedAlready(event.user_name, "approve" if earlier.approve else "reject")
    vote = Vote(event.user_id, event.user_name, event.approve, event.comment, event.at)
    approval = replace(approval, votes=(*approval.votes, vote))
    change.approvals[approval.id] = approval
    if not event.approve:
        error = f"{event.user_name} reject this task"
        change.answer(approval, ApprovalStatus.REJECTED, event.at)
        _close_asked(change, approval, JobStatus.REJECT, StageStatus.REJECT, error, event.at)
    elif sum(vote.approve for vote in approval.votes) >= approval.needed:
        change.answer(approval, ApprovalStatus.APPROVED, event.at)
        _close_asked(change, approval, JobStatus.PASSED, StageStatus.IDLE, "", event.at)


def _close_asked(
    change: Change, approval: Approval, job_status: JobStatus, stage: StageStatus, error: str, at: float
) -> None:
    """Let the job or stage that waited for *approval* go on, or end it."""
    if approval.job_id is not None:
        job = change.jobs[approval.job_id]
        if job_status is JobStatus.TIMEOUT:
            change.judge(job, Cause.EXPIRE, job_status, error, at, policy=True)
        else:
            change.put(move(job, Cause.VOTE, job_status, error=error, end_at=at))
    elif stage is StageStatus.IDLE:
        change.stages[approval.stage] = replace(change.stages[approval.stage], status=stage)
    else:
        change.close_stage(approval.stage, stage, at, error)
    settle(change, at)


def _approval_expired(change: Change, event: ev.ApprovalExpired) -> None:
    approval = change.approvals.get(event.approval_id)
    if approval is None or approval.status is not ApprovalStatus.WAITING or approval.round != event.round:
        return
    change.answer(approval, ApprovalStatus.TIMEOUT, event.at)
    _close_asked(change, approval, JobStatus.TIMEOUT, StageStatus.TIMEOUT, EXPIRED, event.at)


def _task_expired(change: Change, event: ev.TaskExpired) -> None:
    """Stop everything. Waiting - for people, for a slot, in a pause - was part of the task's time."""
    if event.round != change.task.retry_num or change.status in TASK_FINAL or change.status is TaskStatus.CANCELLING:
        return
    change.status = TaskStatus.EXPIRING
    for job in list(change.jobs.values()):
        if job.status in ACTIVE:
            change.stop(job, "timeout")
        elif job.status is JobStatus.RETRY_PAUSE:
            change.put(move(job, Cause.EXPIRE, JobStatus.TIMEOUT, end_at=event.at, error=TASK_EXPIRED))
            change.commands.append(Forget(WaitRetry(job.id, job.attempt, 0).key))
        elif job.status in (JobStatus.WAIT_FOR_APPROVAL, JobStatus.WAIT_FOR_DECISION):
            change.put(move(job, Cause.EXPIRE, JobStatus.TIMEOUT, end_at=event.at, error=TASK_EXPIRED))
    _close_approvals(change, ApprovalStatus.TIMEOUT, TASK_EXPIRED, event.at)
    settle(change, event.at)


def _close_approvals(change: Change, status: ApprovalStatus, error: str, at: float) -> None:
    """Nobody is asked any more."""
    for approval in list(change.approvals.values()):
        if approval.status is ApprovalStatus.WAITING:
            change.answer(approval, status, at)
            if approval.job_id is None:
                change.stages[approval.stage] = replace(change.stages[approval.stage], error=error)


def _cancel_requested(change: Change, event: ev.CancelRequested) -> None:
    if change.status is TaskStatus.PASSED:
        raise WrongStatus(change.task.label, "passed", "cancel")
    if change.status in (TaskStatus.WAITING, TaskStatus.PAUSE):
        for index, stage in enumerate(change.stages):
            if stage.status is StageStatus.PAUSE:
                change.close_stage(index, StageStatus.CANCELLED, event.at, CANCELED)
        change.status = TaskStatus.CANCELLED
        change.set(end_at=event.at, revoker=event.user_name, revoker_id=event.user_id)
        change.forget_time()
        change.commands.append(Tell(TaskStatus.CANCELLED.value, change.task.retry_num))
        return
    if change.status is TaskStatus.CANCELLING:
        change.set(retry_wanted="")  # the last word counts
    if change.status not in (TaskStatus.RUNNING, TaskStatus.EXPIRING):
        return
    change.status = TaskStatus.CANCELLING
    change.set(revoker=event.user_name, revoker_id=event.user_id)
    for job in list(change.jobs.values()):
        if job.status in ACTIVE:
            change.stop(job, "cancel")
        elif job.status is JobStatus.RETRY_PAUSE:
            change.put(move(job, Cause.CANCEL, JobStatus.CANCELLED, end_at=event.at))
            change.commands.append(Forget(WaitRetry(job.id, job.attempt, 0).key))
        elif job.status in (JobStatus.WAIT_FOR_APPROVAL, JobStatus.WAIT_FOR_DECISION):
            change.put(move(job, Cause.CANCEL, JobStatus.CANCELLED, end_at=event.at, error=CANCELED))
    _close_approvals(change, ApprovalStatus.CANCELLED, CANCELED, event.at)
    settle(change, event.at)


def _retry_requested(change: Change, event: ev.RetryRequested) -> None:
    retry_requested(change, event)
    settle(change, event.at)  # of a running task: what begins anew begins now


_HEAR: Final[Mapping[type[Any], Callable[[Change, Any], None]]] = {
    ev.Admitted: _admitted,
    ev.JobStarted: _job_started,
    ev.JobSkipped: _job_skipped,
    ev.JobEnded: _job_ended,
    ev.DeadlinePassed: _deadline_passed,
    ev.RetryPauseOver: _retry_pause_over,
    ev.Decided: _decided,
    ev.Voted: _voted,
    ev.ApprovalExpired: _approval_expired,
    ev.TaskExpired: _task_expired,
    ev.CancelRequested: _cancel_requested,
    ev.RetryRequested: _retry_requested,
    ev.StageExecuted: stage_executed,
    ev.JobAllowed: _job_allowed,
    ev.DeliveryTried: lambda change, event: None,
}
