"""Requests about tasks and what is answered, as values. Wire names and shapes are the business of ``api/``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from cador.domain.workflow import Workflow
from cador.jobs.base import Catalogue
from cador.operations.stage_executors import StageExecutors
from cador.operations.why import Why
from cador.ports.stores import AttemptRow, EventRow, JobRow, TaskRow

LONGEST_REMARK: Final = 4096


@dataclass(frozen=True, slots=True)
class JobInput:
    """One element of ``inputs``: which job runs, and with what."""

    job_name: str
    job_type: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    breakpoints: tuple[str, ...] = ()
    """``before``, ``after``: kept with the task, never stopped at."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Inputs that were found out. ``unknown``: names of the request that mean nothing in this workflow; ``notes``: what
    is worth knowing and wrong nowhere."""

    inputs: tuple[JobInput, ...]
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


Choose: TypeAlias = Callable[[Workflow, Catalogue], Chosen]
"""Raises: Invalid, NotStartable."""


@dataclass(frozen=True, slots=True)
class Callback:
    """An address that hears how a task ends. ``url``: percent-decoded; ``vars``: any JSON, goes there as it came. Made
    by ``operations.callbacks.parse_callback``."""

    url: str
    vars: Any = None


@dataclass(frozen=True, slots=True)
class StartRequest:
    """``parameters``: objects ``{name, type, value, repo}`` as sent. ``notify_inputs`` as sent. ``strict``: unknown
    names are errors; None: as the server's setting says. ``idempotency_key``: a repeated request with the same key by
    the same user for the same workflow returns the task of the first. ``auto_cancel``: a word; unfinished older tasks
    of the workflow that were started with it are cancelled. ``debug``: kept with the task, changes nothing.
    ``trigger``: ``openapi``, or what else started it."""

    workflow_key: str
    project_key: str
    inputs: tuple[JobInput, ...] = ()
    parameters: tuple[Mapping[str, Any], ...] = ()
    notify_inputs: tuple[Mapping[str, Any], ...] = ()
    remark: str | None = ""
    """None: the caller's dialect knows no remarks; a workflow that requires one is started all the same."""
    strict: bool | None = None
    idempotency_key: str = ""
    auto_cancel: str = ""
    debug: bool = False
    trigger: str = "openapi"
    callback: Callback | None = None
    approval_ticket_id: str = ""
    approval_id: str = ""
    """Of the approval ticket that lets the task in: id of its record, or number of the form."""
    choose: Choose | None = None
    """Finds out which jobs run from the definition as it is when the task is made; ``inputs`` are not looked at."""


@dataclass(frozen=True, slots=True)
class Edits:
    """Other values for a task that exists. ``parameters``: objects ``{name, type, value, repo}`` as at a start.
    ``inputs``: of jobs of the task; what they do not name stays as it was given."""

    parameters: tuple[Mapping[str, Any], ...] = ()
    inputs: tuple[JobInput, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.parameters or self.inputs)


@dataclass(frozen=True, slots=True)
class RetryRequest:
    """What of a task runs again: nothing chosen is everything that did not pass. ``jobs``: of what failed only these;
    ``from_job``: this one and all that follows. Job tasks are named by name, else key, else display name."""

    jobs: tuple[str, ...] = ()
    from_job: str = ""
    edits: Edits = Edits()


@dataclass(frozen=True, slots=True)
class ExecuteRequest:
    """Let a manual stage begin. ``jobs``: names of its jobs that run, the others are skipped; None: all run."""

    stage: str
    jobs: tuple[str, ...] | None = None
    inputs: tuple[JobInput, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    workflow_key: str
    project_key: str
    number: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote. ``stage``: a stage name, job name or job task name."""

    workflow_key: str
    number: int
    stage: str
    approve: bool = False
    comment: str = ""


@dataclass(frozen=True, slots=True)
class VoterView:
    user_id: str
    user_name: str
    vote: str = ""
    """``""``, ``approve`` or ``reject``."""
    comment: str = ""
    at: float | None = None


@dataclass(frozen=True, slots=True)
class ApprovalView:
    """``status``: ``""``, ``waiting``, ``approve``, ``reject``, ``timeout``, ``cancelled``."""

    type: str
    description: str
    status: str
    needed: int
    timeout_min: int
    voters: tuple[VoterView, ...]
    start_at: float | None
    end_at: float | None


@dataclass(frozen=True, slots=True)
class JobView:
    """``spec``: what clients see, from the job type's ``view``, credentials masked; an approval job has its own."""

    row: JobRow
    spec: Mapping[str, Any]
    approval: ApprovalView | None = None


@dataclass(frozen=True, slots=True)
class StageView:
    """``executors``: who may execute a manual stage; None: it starts by itself. ``executed_by``: name of who has."""

    name: str
    parallel: bool
    status: str
    error: str
    start_at: float | None
    end_at: float | None
    jobs: tuple[JobView, ...]
    approval: ApprovalView | None = None
    executors: StageExecutors | None = None
    executed_by: str = ""


@dataclass(frozen=True, slots=True)
class TaskDetail:
    """``params``: workflow variables with the values of this task, credentials masked. ``timeout_min``: of the whole
    task, 0 for none. ``archived``: out of the lists, its logs and artifacts are gone."""

    row: TaskRow
    stages: tuple[StageView, ...]
    params: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]
    attempts: tuple[AttemptRow, ...] = ()
    queue: Why | None = None
    """Of a task that waits for its turn: why, and when it may start."""
    notify_ctls: tuple[Mapping[str, Any], ...] = ()
    """The notifications of this task, addresses and all: shown are only types and recipients."""
    debug: bool = False
    auto_cancel: str = ""
    timeout_min: int = 0
    archived: bool = False
    approval_ticket: tuple[str, str] = ("", "")
    """The approval ticket that let it in: id of its record, number of the form."""


@dataclass(frozen=True, slots=True)
class TaskPage:
    rows: tuple[TaskRow, ...]
    total: int


__all__ = [
    "ApprovalView",
    "AttemptRow",
    "Ballot",
    "Edits",
    "EventRow",
    "ExecuteRequest",
    "JobInput",
    "JobView",
    "RetryRequest",
    "StageView",
    "StartRequest",
    "Started",
    "TaskDetail",
    "TaskPage",
    "VoterView",
]
