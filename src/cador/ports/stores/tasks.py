"""Tasks with their stages, job tasks, approvals, votes and events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cador.domain.events import Event
from cador.domain.task import WorkflowTask
from cador.ports.deliveries import Receiver


@dataclass(frozen=True, slots=True)
class NewApproval:
    """``job``: index in the task's list of new jobs, None for a stage approval."""

    stage: int
    job: int | None
    needed: int
    approvers: tuple[tuple[str, str], ...]
    """Pairs of user id and display name."""
    timeout_s: float
    description: str = ""
    type: str = "native"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job task to be stored. ``plan``: JSON object of its job type, references of later knowledge unrendered."""

    stage: int
    name: str
    job: str
    key: str
    display_name: str
    type: str
    kind: str
    timeout_s: float
    plan: Mapping[str, Any]
    policy: str = "stop"
    maximum_retry: int = 0
    repeatable: bool = True
    approval_users: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    conditional: bool = False
    """Of an approval: its plan has an execute policy."""


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be stored, with all it consists of. ``snapshot``: JSON object kept compressed, never read by lists."""

    workflow_key: str
    project: str
    number: int
    display_name: str
    type: str
    creator: str
    creator_id: str
    creator_account: str
    trigger: str
    create_at: float
    parallel_limit: int
    stages: tuple[tuple[str, bool], ...]
    """Pairs of name and parallel."""
    jobs: tuple[NewJob, ...]
    approvals: tuple[NewApproval, ...]
    snapshot: Mapping[str, Any]
    remark: str = ""
    idempotency_key: str = ""
    """With ``creator_id`` unique; empty: none."""
    auto_cancel: str = ""
    """A newer task of the workflow with the same word cancels this one; empty: none does."""
    timeout_s: float = 0.0
    """Of the whole task; 0: none."""
    manual: Mapping[int, str] = field(default_factory=dict)
    """JSON text of the manual execution of stages, by index."""
    commits: tuple[str, ...] = ()
    """Ids of the commits its jobs work on, as far as they are known."""
    receivers: tuple[Receiver, ...] = ()
    """Who outside hears of it."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """What lists show of a task; ``status`` is the engine's own word."""

    id: int
    workflow_key: str
    project: str
    number: int
    display_name: str
    type: str
    status: str
    slot: str
    error: str
    creator: str
    creator_id: str
    creator_account: str
    trigger: str
    revoker: str
    create_at: float
    start_at: float | None
    end_at: float | None
    retry_num: int
    remark: str = ""
    edits: int = 0
    """How often its snapshot was changed: what is remembered of a snapshot is good for one number."""
    stamp: int = 0
    """Another one with every transaction that changes the task, its stages, jobs, attempts or approvals: what is
    remembered of all these is good for one stamp."""
    waiting_for: str = ""
    """``approval``: an approval is open and nothing else runs; ``slot``: wants a slot again; else ``""``."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """Everything stored of a job task. ``plan``, ``outputs`` and ``result`` are JSON objects; ``result`` holds what the
    execution found (commits checked out, reports, images, steps, warnings)."""

    id: int
    task_id: int
    position: int
    stage: int
    name: str
    job: str
    key: str
    display_name: str
    type: str
    kind: str
    status: str
    error: str
    attempt: int
    recovery: int
    retry_count: int
    stopping: str
    start_at: float | None
    end_at: float | None
    deadline_at: float | None
    timeout_s: float
    policy: str
    maximum_retry: int
    repeatable: bool
    plan: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    approval_users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptRow:
    job_id: int
    attempt: int
    status: str
    error: str
    start_at: float | None
    end_at: float | None
    steps: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class EventRow:
    id: int
    task_id: int
    at: float
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """``before``: keyset, only tasks with a smaller ``(create_at, id)``; ``offset`` only for page numbers."""

    workflow_key: str = ""
    project: str = ""
    projects: tuple[str, ...] | None = None
    """Only of these projects; None: all."""
    statuses: tuple[str, ...] = ()
    creator: str = ""
    before: tuple[float, int] | None = None
    offset: int = 0
    limit: int = 50


class TaskStore(Protocol):
    """Tasks with their stages, job tasks, approvals, votes and events.

    What is written of jobs beside an event (``set_plan``, ``set_outputs``, ``merge_result``, ``set_steps``) goes with a
    :meth:`save` in the same transaction, also where nothing else moved: its new stamp tells that there is news.
    """

    def add(self, task: NewTask) -> int:
        """Store a new waiting task; returns its id. Also writes the event ``Created``.

        Raises: AlreadyExists("idempotency key", ...): this creator has used that key (see :meth:`by_idempotency_key`).
        """

    def by_idempotency_key(self, creator_id: str, key: str) -> TaskRow | None: ...

    def find_id(self, workflow_key: str, number: int) -> int | None:
        """Deleted tasks are not found."""

    def find_row(self, workflow_key: str, number: int) -> TaskRow | None:
        """The same with what lists show."""

    def lock(self, task_id: int) -> WorkflowTask:
        """Load the light parts and hold the task until the end of the transaction. Raises: NotFound."""

    def load(self, task_id: int) -> WorkflowTask:
        """The same without holding. Raises: NotFound."""

    def save(self, before: WorkflowTask, after: WorkflowTask) -> None:
        """Write the rows that differ: task, stages, jobs (and their present attempt), approvals, votes; in any case a
        new stamp."""

    def append_event(self, task_id: int, event: Event) -> None: ...

    def row(self, task_id: int) -> TaskRow: ...

    def list_tasks(self, where: TaskFilter) -> list[TaskRow]: ...

    def count(self, workflow_key: str) -> int:
        """All tasks of a workflow that are not deleted, from a counter."""

    def jobs(self, task_id: int, *, plans: bool = True) -> list[JobRow]:
        """In order of fan-out. *plans* False: ``plan`` stays empty (results and outputs are there)."""

    def find_job(self, task_id: int, name: str) -> JobRow | None:
        """By name, else key, else display name."""

    def job_by_id(self, job_id: int) -> JobRow | None: ...

    def attempts(self, task_id: int) -> list[AttemptRow]: ...

    def events(self, task_id: int, after: int = 0, limit: int = 1000) -> list[EventRow]: ...

    def snapshot(self, task_id: int) -> Mapping[str, Any]: ...

    def set_snapshot(self, task_id: int, snapshot: Mapping[str, Any]) -> None:
        """Also counts up ``edits`` of the task."""

    def approval_texts(self, task_id: int) -> Mapping[int, tuple[str, str]]:
        """Description and type by approval id."""

    def set_plan(self, job_id: int, plan: Mapping[str, Any]) -> None: ...

    def set_outputs(self, job_id: int, outputs: Mapping[str, str]) -> None: ...

    def merge_result(self, job_id: int, result: Mapping[str, Any]) -> None:
        """Set the given top-level keys of ``result``."""

    def set_steps(self, job_id: int, attempt: int, steps: Sequence[Mapping[str, Any]]) -> None: ...

    def worded(self, workflow_key: str, word: str) -> list[int]:
        """Ids of unfinished tasks of the workflow with that ``auto_cancel`` word, oldest first."""

    def set_remark(self, task_id: int, remark: str) -> None:
        """Change this field alone, whatever happens to the task meanwhile. Raises: NotFound."""

    def queue_figures(self, now: float) -> Mapping[str, float]:
        """For metrics: waiting, running, waiting_for_approval, oldest_waiting_s."""
