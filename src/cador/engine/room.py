"""Room for executions: how many this process has, and how many more it may have."""

from collections.abc import Callable
from dataclasses import dataclass

from cador.domain.sharing import QueueLimits


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_running_tasks``: tasks that hold a slot, over all processes; ``max_jobs``: executions of this process;
    ``max_per_project``, ``max_per_user``: tasks of one of them that hold a slot, 0 for any number. What counts of those
    of tasks is what the admission row says, and these where it says nothing."""

    max_running_tasks: int
    max_jobs: int
    max_per_project: int = 0
    max_per_user: int = 0

    @property
    def queue(self) -> QueueLimits:
        return QueueLimits(self.max_running_tasks, self.max_per_project, self.max_per_user)


class Room:
    """The room one execution takes among those of this process. Freed once, as soon as its processes are gone."""

    def __init__(self, capacity: "Capacity") -> None:
        self._capacity: Capacity | None = capacity

    def free(self) -> None:
        if self._capacity is not None:
            capacity, self._capacity = self._capacity, None
            capacity.freed()


class Capacity:
    """*limits*: as they are now. *wake*: called when there is room again."""

    def __init__(self, limits: Callable[[], Limits], wake: Callable[[], None]) -> None:
        self._limits, self._wake = limits, wake
        self.busy = 0

    @property
    def most(self) -> int:
        """Executions of this process at once."""
        return self._limits().max_jobs

    def left(self) -> int:
        return max(0, self.most - self.busy)

    def adopted(self) -> Room:
        """An execution of an earlier process counts from now on; it may exceed the limit, nothing is stopped for it."""
        self.busy += 1
        return Room(self)

    def freed(self) -> None:
        """The room of one execution goes to the next start. For :class:`Room` alone."""
        self.busy -= 1
        self._wake()
