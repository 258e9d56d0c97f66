"""A task while it moves: what all events do to it."""

from dataclasses import replace
from typing import Any, Final

from cador.domain.commands import Admit, Command, Forget, Start, Stop, Tell, WaitRetry, WatchApproval, WatchTask
from cador.domain.job_machine import Cause, move, task_status
from cador.domain.task import (
    JOB_STOPPING,
    STAGE_FINAL,
    Approval,
    ApprovalStatus,
    JobStatus,
    JobTask,
    Policy,
    Slot,
    StageStatus,
    TaskStatus,
    WorkflowTask,
)

RETRY_PAUSE_S: Final = 10.0
"""Pause before an automatic repetition of a failed job."""
ACTIVE: Final = frozenset({JobStatus.PREPARE, JobStatus.RUNNING})


def span(seconds: float) -> str:
    """*seconds* in words, for errors."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} seconds"
    return f"{minutes} minutes" + (f" {rest} seconds" if rest else "")


class Change:
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
        self.forget_time()
        self.commands += [Tell(self.status.value, self._task.retry_num), Admit()]

    def forget_time(self) -> None:
        """The task is over: its time is not watched any more."""
        if self._task.timeout_s:
            self.commands.append(Forget(WatchTask(self._task.retry_num, 0).key))

    def _first_error(self) -> str:
        for job in self.jobs.values():
            if job.status in JOB_STOPPING and job.error:
                return f"job {job.name}: {job.error}"
        return next((stage.error for stage in self.stages if stage.error), "")
