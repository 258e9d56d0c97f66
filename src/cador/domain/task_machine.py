"""``advance``: what becomes of a workflow task when something is heard, and what must now be done outside.

Pure: time comes with the event. An event that fits nowhere is late or repeated news and changes nothing; a request of a
person that does not fit raises. After every event the task is *settled*: all that can start now is started, all that is
over is closed, so that no wake-up is ever owed.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from cador.domain import events as ev
from cador.domain.commands import Admit, Command, Forget, Start, Stop, Tell, WaitRetry, WatchApproval, WatchDeadline
from cador.domain.errors import NotAnApprover, VotedAlready, WrongStatus
from cador.domain.job_machine import Cause, move, stage_status, task_status
from cador.domain.task import (
    JOB_BUSY,
    JOB_FINAL,
    JOB_KEPT,
    JOB_STOPPING,
    STAGE_FINAL,
    STAGE_KEPT,
    STAGE_STOPPING,
    Approval,
    ApprovalStatus,
    JobKind,
    JobStatus,
    JobTask,
    Policy,
    Slot,
    StageStatus,
    StageTask,
    TaskStatus,
    Vote,
    WorkflowTask,
)

RETRY_PAUSE_S: Final = 10.0
"""Pause before an automatic repetition of a failed job."""
RECOVERIES: Final = 1
"""How often a job is run again because its execution was lost."""
INTERRUPTED: Final = "interrupted by server restart"
CANCELED: Final = "workflow was canceled"
EXPIRED: Final = "workflow timeout"

_ACTIVE: Final = frozenset({JobStatus.PREPARE, JobStatus.RUNNING})


def advance(task: WorkflowTask, event: ev.Event) -> tuple[WorkflowTask, tuple[Command, ...]]:
    """Return the task after *event*, and the commands it causes.

    Raises: WrongStatus, NotAnApprover, VotedAlready: a request of a person does not fit; nothing is changed.
    """
    change = _Change(task)
    _HEAR[type(event)](change, event)
    return change.done()


class _Change:
    """A task while it moves: parts are replaced in place, the frozen task is built once at the end."""

    def __init__(self, task: WorkflowTask) -> None:
        self._task = task
        self._fields: dict[str, Any] = {}
        self.status = task.status
        self.slot = task.slot
        self.jobs = {job.id: job for job in task.jobs}
        self.stages = list(task.stages)
        self.approvals = {approval.id: approval for approval in task.approvals}
        self.commands: list[Command] = []

    @property
    def task(self) -> WorkflowTask:
        return self._task

    def set(self, **fields: Any) -> None:
        self._fields.update(fields)

    def done(self) -> tuple[WorkflowTask, tuple[Command, ...]]:
        moved = replace(
            self._task,
            status=self.status,
            slot=self.slot,
            stages=tuple(self.stages),
            jobs=tuple(self.jobs.values()),
            approvals=tuple(self.approvals.values()),
            **self._fields,
        )
        return moved, tuple(dict.fromkeys(self.commands))

    def attempt(self, job_id: int, attempt: int) -> JobTask | None:
        """The job if *attempt* is its present one."""
        job = self.jobs.get(job_id)
        return job if job is not None and job.attempt == attempt else None

    def put(self, job: JobTask) -> JobTask:
        self.jobs[job.id] = job
        return job

    def stage_jobs(self, stage: int) -> list[JobTask]:
        return [job for job in self.jobs.values() if job.stage == stage]

    def stage_approval(self, stage: int) -> Approval | None:
        return next((a for a in self.approvals.values() if a.stage == stage and a.job_id is None), None)

    def job_approval(self, job_id: int) -> Approval | None:
        return next((a for a in self.approvals.values() if a.job_id == job_id), None)

    # -- executions

    def start(self, job: JobTask, cause: Cause, at: float) -> None:
        """Begin an attempt of a job that is not an approval."""
        job = self.put(
            move(job, cause, JobStatus.PREPARE, attempt=job.attempt + 1, recovery=0, error="", stopping="",
                 start_at=at, end_at=None, deadline_at=None, failed_as="")
        )  # fmt: skip
        self.commands.append(Start(job.id, job.attempt, job.recovery))

    def stop(self, job: JobTask, reason: str) -> None:
        self.put(replace(job, stopping=reason))
        self.commands.append(Stop(job.id, job.attempt, job.recovery, reason))

    def judge(self, job: JobTask, cause: Cause, status: JobStatus, error: str, at: float, *, policy: bool) -> None:
        """Close an attempt that ended as *status*: the error policy has the last word about failures."""
        if policy and status in (JobStatus.FAILED, JobStatus.TIMEOUT) and self.status is TaskStatus.RUNNING:
            if job.policy is Policy.IGNORE:
                status = JobStatus.UNSTABLE
            elif job.policy is Policy.RETRY and job.retry_count < job.maximum_retry:
                pause = WaitRetry(job.id, job.attempt, at + RETRY_PAUSE_S)
                self.put(move(job, cause, JobStatus.RETRY_PAUSE, error=error, end_at=at, stopping="",
                              retry_count=job.retry_count + 1, failed_as=status.value))  # fmt: skip
                self.commands.append(pause)
                return
            elif job.policy is Policy.MANUAL:
                self.put(move(job, cause, JobStatus.WAIT_FOR_DECISION, error=error, end_at=at, stopping="",
                              failed_as=status.value))  # fmt: skip
                return
        self.put(move(job, cause, status, error=error, end_at=at, stopping=""))

    # -- approvals

    def ask(self, approval: Approval, at: float) -> None:
        """Open an approval: a new round, nobody has voted."""
        asked = replace(
            approval, status=ApprovalStatus.WAITING, round=approval.round + 1, votes=(), start_at=at, end_at=None
        )
        self.approvals[asked.id] = asked
        self.commands += [
            WatchApproval(asked.id, asked.round, at + asked.timeout_s),
            Tell(f"wait_for_approval:{asked.id}:{asked.round}", self._task.retry_num),
        ]

    def answer(self, approval: Approval, status: ApprovalStatus, at: float) -> None:
        self.approvals[approval.id] = replace(approval, status=status, end_at=at)
        self.commands.append(Forget(WatchApproval(approval.id, approval.round, 0).key))

    # -- closing

    def close_stage(self, index: int, status: StageStatus, at: float, error: str = "") -> None:
        stage = self.stages[index]
        self.stages[index] = replace(stage, status=status, end_at=at, error=error or stage.error)

    def finish(self, at: float) -> None:
        """Close the task: its status from its stages, its slot free, the outside told."""
        self.status = task_status(stage.status for stage in self.stages if stage.status in STAGE_FINAL)
        self.slot = Slot.NONE
        self.set(end_at=at, error=self._first_error() if self.status is not TaskStatus.PASSED else "")
        self.commands += [Tell(self.status.value, self._task.retry_num), Admit()]

    def _first_error(self) -> str:
        for job in self.jobs.values():
            if job.status in JOB_STOPPING and job.error:
                return f"job {job.name}: {job.error}"
        return next((stage.error for stage in self.stages if stage.error), "")


# -- settling: start what can start, close what is over


def _settle(change: _Change, at: float) -> None:
    if change.status is TaskStatus.CANCELLING:
        _settle_cancelling(change, at)
    elif change.status is TaskStatus.RUNNING:
        _settle_running(change, at)


def _settle_cancelling(change: _Change, at: float) -> None:
    if any(job.status in _ACTIVE for job in change.jobs.values()):
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
    if change.task.retry_wanted:
        change.set(retry_wanted="")
        _reset(change)


def _settle_running(change: _Change, at: float) -> None:
    for index, stage in enumerate(change.stages):
        if stage.status in STAGE_KEPT:
            continue
        if stage.status is StageStatus.IDLE:
            stage = _enter(change, index, stage, at)
        if stage.status is StageStatus.RUNNING:
            _run_stage(change, index, stage, at)
        status = change.stages[index].status
        if status in STAGE_KEPT:
            continue
        if status in STAGE_STOPPING:
            break
        _release_slot(change)
        return
    change.finish(at)


def _enter(change: _Change, index: int, stage: StageTask, at: float) -> StageTask:
    approval = change.stage_approval(index)
    if approval is not None and approval.status is not ApprovalStatus.APPROVED:
        change.ask(approval, at)
        stage = replace(stage, status=StageStatus.WAIT_FOR_APPROVAL)
    else:
        stage = replace(stage, status=StageStatus.RUNNING, start_at=at)
    change.stages[index] = stage
    return stage


def _run_stage(change: _Change, index: int, stage: StageTask, at: float) -> None:
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


def _begin(change: _Change, job: JobTask, at: float) -> bool:
    """Start *job* if it needs no slot or the task has one; else want one."""
    if job.kind is JobKind.APPROVAL:
        _begin_approval(change, job, Cause.REACH, at)
        return True
    if change.slot is not Slot.HELD:
        if change.slot is Slot.NONE:
            change.slot = Slot.WANTED
            change.commands.append(Admit())
        return False
    change.start(job, Cause.REACH, at)
    return True


def _begin_approval(change: _Change, job: JobTask, cause: Cause, at: float) -> None:
    approval = change.job_approval(job.id)
    if approval is None:
        raise WrongStatus(f"job {job.name}", "without an approval", "start")
    change.put(move(job, cause, JobStatus.WAIT_FOR_APPROVAL, start_at=at, end_at=None, error=""))
    change.ask(approval, at)


def _release_slot(change: _Change) -> None:
    """A task that only waits for people uses nothing: its slot is for others."""
    if change.slot is Slot.HELD and not any(job.status in JOB_BUSY for job in change.jobs.values()):
        change.slot = Slot.NONE
        change.commands.append(Admit())


# -- events


def _admitted(change: _Change, event: ev.Admitted) -> None:
    if change.status is TaskStatus.WAITING:
        change.status = TaskStatus.RUNNING
        change.set(start_at=event.at)
    elif change.status is not TaskStatus.RUNNING or change.slot is not Slot.WANTED:
        return
    change.slot = Slot.HELD
    _settle(change, event.at)


def _job_started(change: _Change, event: ev.JobStarted) -> None:
    job = change.attempt(event.job_id, event.attempt)
    if job is None or job.recovery != event.recovery or job.status is not JobStatus.PREPARE:
        return
    job = change.put(move(job, Cause.STARTED, JobStatus.RUNNING, deadline_at=event.at + job.timeout_s))
    change.commands.append(WatchDeadline(job.id, job.attempt, event.at + job.timeout_s))


def _job_skipped(change: _Change, event: ev.JobSkipped) -> None:
    job = change.attempt(event.job_id, event.attempt)
    if job is None or job.status is not JobStatus.PREPARE:
        return
    if job.stopping:
        change.put(move(job, Cause.END, JobStatus.CANCELLED, end_at=event.at, stopping=""))
    else:
        change.put(move(job, Cause.SKIP, JobStatus.SKIPPED, start_at=event.at, end_at=event.at))
    _settle(change, event.at)


def _job_ended(change: _Change, event: ev.JobEnded) -> None:
    job = change.attempt(event.job_id, event.attempt)
    if job is None or job.recovery != event.recovery or job.status not in _ACTIVE:
        return
    change.commands.append(Forget(WatchDeadline(job.id, job.attempt, 0).key))
    if event.result is ev.Result.LOST and not job.stopping and job.repeatable and job.recovery < RECOVERIES:
        again = change.put(move(job, Cause.LOSE, JobStatus.PREPARE, recovery=job.recovery + 1, deadline_at=None))
        change.commands.append(Start(again.id, again.attempt, again.recovery))
        return
    status, error = _verdict(job, event)
    change.judge(job, Cause.END, status, error, event.at, policy=event.result is not ev.Result.BROKEN)
    _settle(change, event.at)


def _verdict(job: JobTask, event: ev.JobEnded) -> tuple[JobStatus, str]:
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
            return JobStatus.TIMEOUT, event.error or _timed_out(job)
        case ev.Result.CANCELLED:
            return JobStatus.FAILED, event.error or "stopped from outside"
        case ev.Result.LOST if job.stopping == "timeout":
            return JobStatus.TIMEOUT, _timed_out(job)
        case ev.Result.LOST:
            return JobStatus.FAILED, event.error or INTERRUPTED


def _timed_out(job: JobTask) -> str:
    minutes, seconds = divmod(round(job.timeout_s), 60)
    limit = f"{seconds} seconds" if not minutes else f"{minutes} minutes" + (f" {seconds} seconds" if seconds else "")
    return f"job timed out after {limit}"


def _deadline_passed(change: _Change, event: ev.DeadlinePassed) -> None:
    job = change.attempt(event.job_id, event.attempt)
    if job is not None and job.status in _ACTIVE and not job.stopping:
        change.stop(job, "timeout")


def _retry_pause_over(change: _Change, event: ev.RetryPauseOver) -> None:
    job = change.attempt(event.job_id, event.attempt)
    if job is None or job.status is not JobStatus.RETRY_PAUSE or change.status is not TaskStatus.RUNNING:
        return
    if job.kind is JobKind.APPROVAL:
        _begin_approval(change, job, Cause.RESUME, event.at)
        _settle(change, event.at)
    else:
        change.start(job, Cause.RESUME, event.at)


def _decided(change: _Change, event: ev.Decided) -> None:
    job = change.jobs.get(event.job_id)
    if job is None or job.status is not JobStatus.WAIT_FOR_DECISION or change.status is not TaskStatus.RUNNING:
        name, status = (job.name, job.status) if job is not None else (str(event.job_id), "unknown")
        raise WrongStatus(f"job {name}", status or "not started", "decide about its failure")
    status = JobStatus.UNSTABLE if event.ignore else JobStatus(job.failed_as)
    change.put(move(job, Cause.DECIDE, status, end_at=event.at))
    _settle(change, event.at)


def _voted(change: _Change, event: ev.Voted) -> None:
    approval = change.approvals.get(event.approval_id)
    if approval is None or approval.status is not ApprovalStatus.WAITING or change.status is not TaskStatus.RUNNING:
        raise WrongStatus(f"approval {event.approval_id}", "not open", "vote")
    if all(approver.user_id != event.user_id for approver in approval.approvers):
        raise NotAnApprover(event.user_name)
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
        _close_asked(change, approval, JobStatus.PASSED, StageStatus.RUNNING, "", event.at)


def _close_asked(
    change: _Change, approval: Approval, job_status: JobStatus, stage: StageStatus, error: str, at: float
) -> None:
    """Let the job or stage that waited for *approval* go on, or end it."""
    if approval.job_id is not None:
        job = change.jobs[approval.job_id]
        if job_status is JobStatus.TIMEOUT:
            change.judge(job, Cause.EXPIRE, job_status, error, at, policy=True)
        else:
            change.put(move(job, Cause.VOTE, job_status, error=error, end_at=at))
    elif stage is StageStatus.RUNNING:
        change.stages[approval.stage] = replace(change.stages[approval.stage], status=stage, start_at=at)
    else:
        change.close_stage(approval.stage, stage, at, error)
    _settle(change, at)


def _approval_expired(change: _Change, event: ev.ApprovalExpired) -> None:
    approval = change.approvals.get(event.approval_id)
    if approval is None or approval.status is not ApprovalStatus.WAITING or approval.round != event.round:
        return
    change.answer(approval, ApprovalStatus.TIMEOUT, event.at)
    _close_asked(change, approval, JobStatus.TIMEOUT, StageStatus.TIMEOUT, EXPIRED, event.at)


def _cancel_requested(change: _Change, event: ev.CancelRequested) -> None:
    if change.status is TaskStatus.PASSED:
        raise WrongStatus(change.task.label, "passed", "cancel")
    if change.status is TaskStatus.WAITING:
        change.status = TaskStatus.CANCELLED
        change.set(end_at=event.at, revoker=event.user_name, revoker_id=event.user_id)
        change.commands.append(Tell(TaskStatus.CANCELLED.value, change.task.retry_num))
        return
    if change.status is TaskStatus.CANCELLING:
        change.set(retry_wanted="")  # the last word counts
    if change.status is not TaskStatus.RUNNING:
        return
    change.status = TaskStatus.CANCELLING
    change.set(revoker=event.user_name, revoker_id=event.user_id)
    for job in list(change.jobs.values()):
        if job.status in _ACTIVE:
            change.stop(job, "cancel")
        elif job.status is JobStatus.RETRY_PAUSE:
            change.put(move(job, Cause.CANCEL, JobStatus.CANCELLED, end_at=event.at))
            change.commands.append(Forget(WaitRetry(job.id, job.attempt, 0).key))
        elif job.status in (JobStatus.WAIT_FOR_APPROVAL, JobStatus.WAIT_FOR_DECISION):
            change.put(move(job, Cause.CANCEL, JobStatus.CANCELLED, end_at=event.at, error=CANCELED))
    for approval in list(change.approvals.values()):
        if approval.status is ApprovalStatus.WAITING:
            change.answer(approval, ApprovalStatus.CANCELLED, event.at)
            if approval.job_id is None:
                stage = change.stages[approval.stage]
                change.stages[approval.stage] = replace(stage, error=CANCELED)
    _settle(change, event.at)


def _retry_requested(change: _Change, event: ev.RetryRequested) -> None:
    if change.status is TaskStatus.CANCELLING:
        if change.task.retry_wanted:
            raise WrongStatus(change.task.label, "being retried", "retry")
        change.set(retry_wanted=event.user_name or "system")
        return
    if change.status not in (TaskStatus.FAILED, TaskStatus.TIMEOUT, TaskStatus.CANCELLED, TaskStatus.REJECT):
        raise WrongStatus(change.task.label, change.status.value, "retry")
    _reset(change)


def _reset(change: _Change) -> None:
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


_HEAR: Final[Mapping[type[Any], Callable[[_Change, Any], None]]] = {
    ev.Admitted: _admitted,
    ev.JobStarted: _job_started,
    ev.JobSkipped: _job_skipped,
    ev.JobEnded: _job_ended,
    ev.DeadlinePassed: _deadline_passed,
    ev.RetryPauseOver: _retry_pause_over,
    ev.Decided: _decided,
    ev.Voted: _voted,
    ev.ApprovalExpired: _approval_expired,
    ev.CancelRequested: _cancel_requested,
    ev.RetryRequested: _retry_requested,
}
