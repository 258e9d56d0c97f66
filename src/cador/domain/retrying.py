"""Retry: run again, under the same number, what did not pass."""

from dataclasses import replace

from cador.domain import events as ev
from cador.domain.change import Change
from cador.domain.commands import Admit, Tell
from cador.domain.errors import WrongStatus
from cador.domain.job_machine import Cause, move
from cador.domain.task import JOB_STOPPING, STAGE_KEPT, ApprovalStatus, JobStatus, Slot, StageStatus, TaskStatus


def retry_requested(change: Change, event: ev.RetryRequested) -> None:
    if change.status is TaskStatus.CANCELLING:
        if change.task.retry_wanted:
            raise WrongStatus(change.task.label, "being retried", "retry")
        change.set(retry_wanted=event.user_name or "system")
        return
    if change.status not in (TaskStatus.FAILED, TaskStatus.TIMEOUT, TaskStatus.CANCELLED, TaskStatus.REJECT):
        raise WrongStatus(change.task.label, change.status.value, "retry")
    reset(change)


def reset(change: Change) -> None:
    """Put everything that did not pass back to its beginning; passed parts keep times, outputs and logs."""
    for index, stage in enumerate(change.stages):
        if stage.status in STAGE_KEPT:
            continue
        change.stages[index] = replace(stage, status=StageStatus.IDLE, error="", start_at=None, end_at=None)
        for job in change.stage_jobs(index):
            if job.status in JOB_STOPPING:
                change.put(move(job, Cause.RESET, JobStatus.IDLE, error="", start_at=None, end_at=None,
                                deadline_at=None, retry_count=0, recovery=0, stopping="", failed_as=""))  # fmt: skip
    for approval in change.approvals.values():
        if approval.status not in (ApprovalStatus.IDLE, ApprovalStatus.APPROVED):
            change.approvals[approval.id] = replace(
                approval, status=ApprovalStatus.IDLE, votes=(), start_at=None, end_at=None
            )
    change.status, change.slot = TaskStatus.WAITING, Slot.NONE
    retry_num = change.task.retry_num + 1
    change.set(retry_num=retry_num, start_at=None, end_at=None, error="", revoker="", revoker_id="", retry_wanted="")
    change.commands += [Tell("created", retry_num), Admit()]
