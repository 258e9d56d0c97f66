"""The parts of tasks as they were written last, so that the next event need not read them again.

A task of 400 jobs is locked twice for each of them: 800 times 400 rows. Whoever changes parts of a task gives its row
a new *stamp*, a random number that is never used twice. Who locks the row reads the stamp with it; if parts are known
here under that very stamp they are those of the tables. It does not matter who wrote last, which server that was, or
whether a transaction was taken back: its stamp is then in no row. The tables stay the only truth.
"""

import secrets
import threading
from collections import OrderedDict
from typing import Final, TypeAlias

from cador.domain.task import JobTask, StageTask

JOBS: Final = 8_192
"""Jobs kept, some 300 bytes each."""

Parts: TypeAlias = tuple[tuple[StageTask, ...], tuple[JobTask, ...]]


class TaskMemory:
    """Parts of the tasks that changed last, of *most* jobs together. Safe in any thread."""

    def __init__(self, most: int = JOBS) -> None:
        self._most = most
        self._jobs = 0
        self._known: OrderedDict[int, tuple[int, Parts]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, task_id: int, stamp: int) -> Parts | None:
        known = self._known.get(task_id)
        return known[1] if known is not None and known[0] == stamp else None

    def keep(self, task_id: int, stamp: int, parts: Parts) -> None:
        with self._lock:
            self._drop(task_id)
            self._known[task_id] = (stamp, parts)
            self._jobs += len(parts[1])
            while self._jobs > self._most:
                self._drop(next(iter(self._known)))

    def forget(self, task_id: int) -> None:
        with self._lock:
            self._drop(task_id)

    def _drop(self, task_id: int) -> None:
        known = self._known.pop(task_id, None)
        if known is not None:
            self._jobs -= len(known[1][1])


def new_stamp() -> int:
    """Never 0, which rows have that were not changed yet."""
    return secrets.randbits(63) or 1


SHARED: Final = TaskMemory()
"""Of all connections of this process: stamps tell the tasks of different databases apart, too."""
