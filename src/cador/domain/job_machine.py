"""The statuses of a job task: one table of arrows, and how statuses roll up to stages and tasks.

No status of a job changes but along an arrow of :data:`ARROWS`; the diagram in ``docs/architecture.md`` is drawn from
it. What becomes of a status when something is heard is decided in ``task_machine``; this table says what is legal.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final

from cador.domain.errors import WrongStatus
from cador.domain.task import JobStatus, JobTask, StageStatus, TaskStatus

S = JobStatus


class Cause(StrEnum):
    """Why a job task moves."""

    REACH = "reached"
    STARTED = "started"
    SKIP = "policy says no"
    END = "ended"
    LOSE = "lost, repeated"
    RESUME = "pause over"
    VOTE = "vote"
    EXPIRE = "expired"
    DECIDE = "decided"
    CANCEL = "cancelled"
    RESET = "retried"
    AGAIN = "run again"
    DESELECT = "deselected"


_ENDS: Final = frozenset({S.PASSED, S.FAILED, S.TIMEOUT, S.CANCELLED, S.UNSTABLE, S.RETRY_PAUSE, S.WAIT_FOR_DECISION})

ARROWS: Final[Mapping[tuple[JobStatus, Cause], frozenset[JobStatus]]] = {
    (S.IDLE, Cause.REACH): frozenset({S.PREPARE, S.WAIT_FOR_APPROVAL}),
    (S.IDLE, Cause.DESELECT): frozenset({S.SKIPPED}),
    (S.PREPARE, Cause.STARTED): frozenset({S.RUNNING}),
    (S.PREPARE, Cause.SKIP): frozenset({S.SKIPPED}),
    (S.PREPARE, Cause.END): _ENDS,
    (S.PREPARE, Cause.LOSE): frozenset({S.PREPARE}),
    (S.RUNNING, Cause.END): _ENDS,
    (S.RUNNING, Cause.LOSE): frozenset({S.PREPARE}),
    (S.RETRY_PAUSE, Cause.RESUME): frozenset({S.PREPARE, S.WAIT_FOR_APPROVAL}),
    (S.RETRY_PAUSE, Cause.EXPIRE): frozenset({S.TIMEOUT}),
    (S.RETRY_PAUSE, Cause.CANCEL): frozenset({S.CANCELLED}),
    (S.WAIT_FOR_APPROVAL, Cause.SKIP): frozenset({S.SKIPPED}),
    (S.WAIT_FOR_APPROVAL, Cause.VOTE): frozenset({S.PASSED, S.REJECT}),
    (S.WAIT_FOR_APPROVAL, Cause.EXPIRE): frozenset({S.TIMEOUT, S.UNSTABLE, S.RETRY_PAUSE, S.WAIT_FOR_DECISION}),
    (S.WAIT_FOR_APPROVAL, Cause.CANCEL): frozenset({S.CANCELLED}),
    (S.WAIT_FOR_DECISION, Cause.DECIDE): frozenset({S.UNSTABLE, S.FAILED, S.TIMEOUT}),
    (S.WAIT_FOR_DECISION, Cause.EXPIRE): frozenset({S.TIMEOUT}),
    (S.WAIT_FOR_DECISION, Cause.CANCEL): frozenset({S.CANCELLED}),
    (S.FAILED, Cause.RESET): frozenset({S.IDLE}),
    (S.TIMEOUT, Cause.RESET): frozenset({S.IDLE}),
    (S.CANCELLED, Cause.RESET): frozenset({S.IDLE}),
    (S.REJECT, Cause.RESET): frozenset({S.IDLE}),
    (S.PASSED, Cause.AGAIN): frozenset({S.IDLE}),
    (S.UNSTABLE, Cause.AGAIN): frozenset({S.IDLE}),
    (S.SKIPPED, Cause.AGAIN): frozenset({S.IDLE}),
}


def move(job: JobTask, cause: Cause, to: JobStatus, **changes: Any) -> JobTask:
    """Return *job* with the status *to* and *changes*. Raises WrongStatus where there is no such arrow."""
    if to not in ARROWS.get((job.status, cause), ()):
        raise WrongStatus(f"job {job.name}", job.status or "not started", f"become {to} ({cause})")
    return replace(job, status=to, **changes)


_STAGE_ORDER: Final = (S.CANCELLED, S.TIMEOUT, S.FAILED, S.REJECT, S.PASSED, S.UNSTABLE, S.SKIPPED)
_TASK_ORDER: Final = (
    StageStatus.REJECT,
    StageStatus.CANCELLED,
    StageStatus.TIMEOUT,
    StageStatus.FAILED,
    StageStatus.PASSED,
    StageStatus.UNSTABLE,
    StageStatus.SKIPPED,
)
_TASK_OF: Final[Mapping[StageStatus, TaskStatus]] = {
    StageStatus.REJECT: TaskStatus.REJECT,
    StageStatus.CANCELLED: TaskStatus.CANCELLED,
    StageStatus.TIMEOUT: TaskStatus.TIMEOUT,
    StageStatus.FAILED: TaskStatus.FAILED,
    StageStatus.PASSED: TaskStatus.PASSED,
    StageStatus.UNSTABLE: TaskStatus.PASSED,
    StageStatus.SKIPPED: TaskStatus.PASSED,
}


def stage_status(jobs: Iterable[JobStatus]) -> StageStatus:
    """The status of an ended stage: the highest among its ended jobs."""
    present = set(jobs)
    return StageStatus(next((status for status in _STAGE_ORDER if status in present), S.SKIPPED).value)


def task_status(stages: Iterable[StageStatus]) -> TaskStatus:
    """The status of an ended task: the highest among its ended stages; ignored failures count as passed."""
    present = set(stages)
    return _TASK_OF[next((status for status in _TASK_ORDER if status in present), StageStatus.SKIPPED)]


def diagram() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> idle"]
    for (status, cause), targets in ARROWS.items():
        lines += [f"    {status or 'idle'} --> {to or 'idle'}: {cause}" for to in sorted(targets)]
    return "\n".join(lines)
