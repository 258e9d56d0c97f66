"""What must now be done outside, as values. The engine stores them in the event's own transaction and carries them out
after the commit, at least once, each idempotently under its key."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Start:
    """Start the execution of a job task."""

    job_id: int
    attempt: int
    recovery: int

    @property
    def key(self) -> str:
        return f"start:{self.job_id}:{self.attempt}:{self.recovery}"


@dataclass(frozen=True, slots=True)
class Stop:
    """End an execution; ``reason`` is ``cancel`` or ``timeout``."""

    job_id: int
    attempt: int
    recovery: int
    reason: str

    @property
    def key(self) -> str:
        return f"stop:{self.job_id}:{self.attempt}:{self.recovery}:{self.reason}"


@dataclass(frozen=True, slots=True)
class WatchDeadline:
    """Hear ``DeadlinePassed`` at ``due_at``."""

    job_id: int
    attempt: int
    due_at: float

    @property
    def key(self) -> str:
        return f"deadline:{self.job_id}:{self.attempt}"


@dataclass(frozen=True, slots=True)
class WaitRetry:
    """Hear ``RetryPauseOver`` at ``due_at``."""

    job_id: int
    attempt: int
    due_at: float

    @property
    def key(self) -> str:
        return f"retry-pause:{self.job_id}:{self.attempt}"


@dataclass(frozen=True, slots=True)
class WatchApproval:
    """Hear ``ApprovalExpired`` at ``due_at``."""

    approval_id: int
    round: int
    due_at: float

    @property
    def key(self) -> str:
        return f"approval:{self.approval_id}:{self.round}"


@dataclass(frozen=True, slots=True)
class WatchTask:
    """Hear ``TaskExpired`` at ``due_at``. ``round``: the task's retry number; each round has its time."""

    round: int
    due_at: float

    @property
    def key(self) -> str:
        return f"task-timeout:{self.round}"


@dataclass(frozen=True, slots=True)
class AskPolicy:
    """Look whether the execute policy of an approval lets it run, and hear ``JobAllowed`` or ``JobSkipped``. ``round``:
    of the approval, before people are asked."""

    job_id: int
    round: int

    @property
    def key(self) -> str:
        return f"policy:{self.job_id}:{self.round}"


@dataclass(frozen=True, slots=True)
class Housekeep:
    """Archive and remove what is old. Of no task; there is one at most."""

    due_at: float

    @property
    def key(self) -> str:
        return "housekeep"


@dataclass(frozen=True, slots=True)
class Bury:
    """Take the tasks of a deleted workflow away, up to number ``last``. Of no task."""

    workflow: str
    last: int
    due_at: float

    @property
    def key(self) -> str:
        return f"bury:{self.workflow}:{self.last}"


@dataclass(frozen=True, slots=True)
class Forget:
    """Take back a command that is not due any more; nothing happens when it is being carried out already."""

    key: str


@dataclass(frozen=True, slots=True)
class Admit:
    """Look who may start: a slot became free or a task wants one."""


@dataclass(frozen=True, slots=True)
class Tell:
    """News for the outside (callbacks, notifications, commit statuses), of which becomes a ``Deliver`` for each who
    wants to hear it: ``what`` is ``created``, ``wait_for_approval:...``,
    ``pause:<stage>`` or the final status of the task. ``round`` is the task's retry number, so that each round is told
    once."""

    what: str
    round: int

    @property
    def key(self) -> str:
        return f"tell:{self.what}:{self.round}"


@dataclass(frozen=True, slots=True)
class Deliver:
    """Carry a piece of news (see ``Tell``) to one of those who want to hear it."""

    receiver: str
    what: str
    round: int

    @property
    def key(self) -> str:
        return f"deliver:{self.receiver}:{self.what}:{self.round}"


Timer = WatchDeadline | WaitRetry | WatchApproval | WatchTask | Housekeep | Bury
"""Due at a time of their own."""
Command = (
    Start
    | Stop
    | WatchDeadline
    | WaitRetry
    | WatchApproval
    | WatchTask
    | AskPolicy
    | Forget
    | Admit
    | Tell
    | Deliver
    | Housekeep
    | Bury
)
