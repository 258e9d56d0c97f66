"""Our statuses in the API's words. Source: API documents, status tables.

Clients switch on six values of a task and may wait while it is ``created`` or ``running``; the finer word is in
``status_detail``. Stages and jobs show the engine's own words, but for the two that are ours alone.
"""

from collections.abc import Mapping
from typing import Final

from cador.domain.task import JobStatus, TaskStatus
from cador.ports.stores import TaskRow

TASK_STATUS: Final[Mapping[str, str]] = {
    TaskStatus.WAITING: "created",
    TaskStatus.RUNNING: "running",
    TaskStatus.CANCELLING: "cancelled",
    TaskStatus.EXPIRING: "running",
    TaskStatus.PAUSE: "running",
    TaskStatus.PASSED: "passed",
    TaskStatus.FAILED: "failed",
    TaskStatus.REJECT: "failed",
    TaskStatus.TIMEOUT: "timeout",
    TaskStatus.CANCELLED: "cancelled",
}
TASK_DETAIL: Final[Mapping[str, str]] = {"approval": "wait_for_approval", "slot": "waiting_for_slot"}
"""By what a running task waits for."""
JOB_STATUS: Final[Mapping[str, str]] = {status.value: status.value for status in JobStatus} | {
    JobStatus.RETRY_PAUSE: "running"
}


def task_status(row: TaskRow) -> str:
    """One of the six."""
    return TASK_STATUS[row.status]


def task_detail_status(row: TaskRow) -> str:
    """The finer word: ``waiting``, ``running``, ``wait_for_approval``, ``waiting_for_slot``, ``pause``,
    ``cancelling``, ``expiring``, ``reject``, or one of the six."""
    if row.status == TaskStatus.RUNNING:
        return TASK_DETAIL.get(row.waiting_for, row.status)
    return row.status


def job_status(status: str) -> str:
    return JOB_STATUS[status]
