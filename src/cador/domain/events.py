"""What happened, as values. Every change of a status is caused by one of these; each is kept in the ``event`` table."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
"""What no table takes, and no client could read."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The task got a slot: it starts, or goes on after people have answered."""

    at: float


@dataclass(frozen=True, slots=True)
class JobStarted:
    """The execution of this attempt exists."""

    at: float
    job_id: int
    attempt: int
    recovery: int


@dataclass(frozen=True, slots=True)
class JobSkipped:
    """The execute policy says that the job does not run. ``error`` is empty."""

    at: float
    job_id: int
    attempt: int


class Result(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    LOST = "lost"
    """Nobody knows what became of it: the executor or its host died. With an error it is not run again, for the reason
    given."""
    BROKEN = "broken"
    """Nobody knows whether it ran, or an internal error ended it: no error policy applies."""


@dataclass(frozen=True, slots=True)
class JobEnded:
    """An execution is over. ``at``: when it really ended, also when it is heard later. ``error`` may repeat what
    another system or a file name says: what cannot be stored of that is replaced, for the end must be heard."""

    at: float
    job_id: int
    attempt: int
    recovery: int
    result: Result
    error: str = ""

    def __post_init__(self) -> None:
        if _UNSTORABLE.search(self.error):
            object.__setattr__(self, "error", _UNSTORABLE.sub("\ufffd", self.error))


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The time of one attempt is up."""

    at: float
    job_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class RetryPauseOver:
    at: float
    job_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Decided:
    """A person decided about a failed job: *ignore* it or let it stand."""

    at: float
    job_id: int
    ignore: bool
    user_id: str
    user_name: str


@dataclass(frozen=True, slots=True)
class Voted:
    at: float
    approval_id: int
    user_id: str
    user_name: str
    approve: bool
    comment: str


@dataclass(frozen=True, slots=True)
class ApprovalExpired:
    at: float
    approval_id: int
    round: int


@dataclass(frozen=True, slots=True)
class TaskExpired:
    """The time of the whole task is up. ``round``: the task's retry number when its time began."""

    at: float
    round: int


@dataclass(frozen=True, slots=True)
class CancelRequested:
    at: float
    user_id: str
    user_name: str


@dataclass(frozen=True, slots=True)
class Edit:
    """A value that a person changed: of a workflow variable (``VERSION``) or of a job's input (``build.kv.DEBUG``), as
    it may be shown. ``before`` is empty where it was as configured."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class RetryRequested:
    """``jobs``: of what failed only these run again; empty: all. ``from_job``: this one and all that follows. By id.
    ``changes``: with what other values."""

    at: float
    user_id: str
    user_name: str
    jobs: tuple[int, ...] = ()
    from_job: int | None = None
    changes: tuple[Edit, ...] = ()


@dataclass(frozen=True, slots=True)
class StageExecuted:
    """A person let a manual stage begin; its jobs ``skipped`` (ids) do not run."""

    at: float
    stage: int
    user_id: str
    user_name: str
    skipped: tuple[int, ...] = ()
    changes: tuple[Edit, ...] = ()


@dataclass(frozen=True, slots=True)
class JobAllowed:
    """The execute policy of an approval says that people are to be asked."""

    at: float
    job_id: int


@dataclass(frozen=True, slots=True)
class DeliveryTried:
    """Somebody outside was told of the task, or should have been. Changes nothing of the task.

    ``receiver``, ``what``, ``round``: as in the command ``Deliver``; ``number``: of the try, from 1. ``place``: whom it
    was for, as everybody may see it. ``status``: of HTTP, 0 where there was none; ``reason``: why it failed.
    ``again_at``: when it is tried again; None: never, because it was said or is given up.
    """

    at: float
    receiver: str
    what: str
    round: int
    number: int
    place: str
    ok: bool
    status: int = 0
    reason: str = ""
    again_at: float | None = None


Event = (
    Admitted
    | JobStarted
    | JobSkipped
    | JobEnded
    | DeadlinePassed
    | RetryPauseOver
    | Decided
    | Voted
    | ApprovalExpired
    | TaskExpired
    | CancelRequested
    | RetryRequested
    | StageExecuted
    | JobAllowed
    | DeliveryTried
)
