"""Details of tasks as they were put together last: clients ask for one every few seconds, and mostly nothing happened.

Every change of what a detail shows renews the stamp of its task (``TaskRow.stamp``), in the same transaction. So one
look at the row says whether what is known here is still true, whichever server made the change.
"""

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cador.operations.task_values import TaskDetail
    from cador.ports.stores import TaskRow

JOBS: Final = 1_024
"""Jobs kept, a few kilobytes each."""


class DetailMemory:
    """Details of the tasks that were asked for last, of *most* jobs together. Safe in any thread."""

    def __init__(self, most: int = JOBS) -> None:
        self._most = most
        self._jobs = 0
        self._known: OrderedDict[tuple[str, int], TaskDetail] = OrderedDict()
        self._lock = threading.Lock()

    def knows(self, workflow_key: str, number: int) -> bool:
        return (workflow_key, number) in self._known

    def find(self, row: "TaskRow") -> "TaskDetail | None":
        """*row*: of the task as it is now."""
        known = self._known.get((row.workflow_key, row.number))
        if known is None or (known.row.id, known.row.stamp, known.row.edits) != (row.id, row.stamp, row.edits):
            return None
        return known if known.row == row else replace(known, row=row)

    def keep(self, detail: "TaskDetail") -> None:
        """Not of a task that waits for its turn: what stands before it changes without it."""
        if detail.queue is not None:
            return
        key = (detail.row.workflow_key, detail.row.number)
        with self._lock:
            self._drop(key)
            self._known[key] = detail
            self._jobs += _size(detail)
            while self._jobs > self._most:
                self._drop(next(iter(self._known)))

    def _drop(self, key: tuple[str, int]) -> None:
        known = self._known.pop(key, None)
        if known is not None:
            self._jobs -= _size(known)


def _size(detail: "TaskDetail") -> int:
    return 1 + sum(len(stage.jobs) for stage in detail.stages)
