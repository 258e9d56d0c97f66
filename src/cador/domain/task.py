"""Workflow task > stage task > job task: one execution of a workflow, as the engine sees it.

These are the light parts only. What a job does (its spec), what it printed and produced stays in storage and is
read by who needs it, so that deciding costs the same whatever the workflow contains.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class TaskStatus(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    EXPIRING = "expiring"
    PAUSE = "pause"
    PASSED = "passed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    REJECT = "reject"


class StageStatus(StrEnum):
    IDLE = ""
    WAIT_FOR_APPROVAL = "wait_for_approval"
    RUNNING = "running"
    PAUSE = "pause"
    PASSED = "passed"
    UNSTABLE = "unstable"
    SKIPPED = "skipped"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    REJECT = "reject"


class JobStatus(StrEnum):
    IDLE = ""
    PREPARE = "prepare"
    RUNNING = "running"
    RETRY_PAUSE = "retry_pause"
    WAIT_FOR_APPROVAL = "wait_for_approval"
    WAIT_FOR_DECISION = "wait_for_manual_error_handling"
    PASSED = "passed"
    UNSTABLE = "unstable"
    SKIPPED = "skipped"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    REJECT = "reject"


class Slot(StrEnum):
    """The task's share of the global limit. Waiting for people gives it back; going on needs a new one."""

    NONE = "none"
    HELD = "held"
    WANTED = "wanted"


class JobKind(StrEnum):
    """Who carries a job task out: an executor's sandbox, the server itself, or people."""

    SANDBOX = "sandbox"
    SERVER = "server"
    APPROVAL = "approval"


class Policy(StrEnum):
    """What a failed or timed out job means for its task."""

    STOP = "stop"
    IGNORE = "ignore_error"
    RETRY = "retry"
    MANUAL = "manual_check"


TASK_FINAL: Final = frozenset(
    {TaskStatus.PASSED, TaskStatus.FAILED, TaskStatus.TIMEOUT, TaskStatus.CANCELLED, TaskStatus.REJECT}
)
JOB_KEPT: Final = frozenset({JobStatus.PASSED, JobStatus.SKIPPED, JobStatus.UNSTABLE})
JOB_STOPPING: Final = frozenset({JobStatus.FAILED, JobStatus.TIMEOUT, JobStatus.CANCELLED, JobStatus.REJECT})
JOB_FINAL: Final = JOB_KEPT | JOB_STOPPING
JOB_BUSY: Final = frozenset({JobStatus.PREPARE, JobStatus.RUNNING, JobStatus.RETRY_PAUSE})
"""Consumes a slot of its task. A pause before a retry is part of the work."""
STAGE_KEPT: Final = frozenset({StageStatus.PASSED, StageStatus.SKIPPED, StageStatus.UNSTABLE})
STAGE_STOPPING: Final = frozenset({StageStatus.FAILED, StageStatus.TIMEOUT, StageStatus.CANCELLED, StageStatus.REJECT})
STAGE_FINAL: Final = STAGE_KEPT | STAGE_STOPPING


@dataclass(frozen=True, slots=True)
class JobTask:
    """One unit of execution. ``id`` is unique over the server, ``name`` within the task.

    ``attempt`` counts executions since the task was created, over all retries: each has its own log.
    ``recovery`` counts repetitions of this attempt after a lost executor. ``stopping``: ``cancel`` or ``timeout``
    while the end of a stopped execution is awaited. Times are Unix seconds, None when not reached.
    """

    id: int
    name: str
    kind: JobKind
    stage: int
    status: JobStatus = JobStatus.IDLE
    error: str = ""
    attempt: int = 0
    recovery: int = 0
    retry_count: int = 0
    stopping: str = ""
    start_at: float | None = None
    end_at: float | None = None
    deadline_at: float | None = None
    timeout_s: float = 36_000.0
    policy: Policy = Policy.STOP
    maximum_retry: int = 0
    repeatable: bool = True
    failed_as: str = ""
    """While people decide about a failure, or before a repetition: the status it had (``failed`` or ``timeout``)."""
    conditional: bool = False
    """Of an approval: its execute policy is asked before people are. Other jobs ask theirs when they start."""


class ApprovalStatus(StrEnum):
    IDLE = ""
    WAITING = "waiting"
    APPROVED = "approve"
    REJECTED = "reject"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Vote:
    user_id: str
    user_name: str
    approve: bool
    comment: str
    at: float


@dataclass(frozen=True, slots=True)
class Approver:
    user_id: str
    user_name: str


@dataclass(frozen=True, slots=True)
class Approval:
    """An open question to people: before a stage (``job_id`` None) or as a job of its own.

    ``round`` grows when a retry asks again; ``approvers`` are users, groups flattened at creation.
    """

    id: int
    stage: int
    job_id: int | None
    needed: int
    approvers: tuple[Approver, ...]
    timeout_s: float
    status: ApprovalStatus = ApprovalStatus.IDLE
    round: int = 0
    votes: tuple[Vote, ...] = ()
    start_at: float | None = None
    end_at: float | None = None


@dataclass(frozen=True, slots=True)
class StageTask:
    """``manual``: who may execute it, opaque here; empty: it starts by itself. ``executed_by``: name of who did."""

    name: str
    parallel: bool
    status: StageStatus = StageStatus.IDLE
    error: str = ""
    start_at: float | None = None
    end_at: float | None = None
    manual: str = ""
    executed_by: str = ""


@dataclass(frozen=True, slots=True)
class WorkflowTask:
    """One execution of a workflow. ``id`` is unique over the server, ``number`` counts within the workflow.

    ``stages`` in order, ``jobs`` in order of fan-out (``job.stage`` is the index of its stage), ``approvals`` as many
    as the task has. ``timeout_s``: of the whole task, 0 for none. ``archived``: its logs and artifacts are gone.
    ``retry_wanted``: a retry was asked for while a cancelled task was still going down.
    """

    id: int
    number: int
    label: str
    """``<workflow key>:<number>``, as messages name it."""
    status: TaskStatus
    stages: tuple[StageTask, ...]
    jobs: tuple[JobTask, ...]
    approvals: tuple[Approval, ...] = ()
    slot: Slot = Slot.NONE
    parallel_limit: int = 5
    error: str = ""
    revoker: str = ""
    revoker_id: str = ""
    create_at: float = 0.0
    start_at: float | None = None
    end_at: float | None = None
    retry_num: int = 0
    retry_wanted: str = ""
    timeout_s: float = 0.0
    archived: bool = False

    def job(self, job_id: int) -> JobTask | None:
        return next((job for job in self.jobs if job.id == job_id), None)

    def jobs_of(self, stage: int) -> tuple[JobTask, ...]:
        return tuple(job for job in self.jobs if job.stage == stage)

    def stage_approval(self, stage: int) -> Approval | None:
        return next((a for a in self.approvals if a.stage == stage and a.job_id is None), None)

    @property
    def final(self) -> bool:
        return self.status in TASK_FINAL
