"""What stands before a waiting task, and how long such things took: for forecasts. Reads only, all of it bounded."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task that has started and is not over. ``holds``: it takes a slot of the server; else it waits for people."""

    id: int
    workflow: str
    number: int
    start_at: float | None = None
    holds: bool = True


class OutlookStore(Protocol):
    def running(self, workflows: Collection[str], limit: int) -> list[RunningTask]:
        """Those that hold a slot, and those that count against the limit of one of *workflows*."""

    def ahead(self, task_id: int, limit: int) -> list[str]:
        """Workflows of the tasks that came into the queue before this one, oldest first."""

    def only(self, project: str) -> bool:
        """Whether no other project has a task in the queue."""

    def limits(self, workflows: Collection[str]) -> Mapping[str, int]:
        """``concurrency_limit`` by key; a workflow that is gone is left out."""

    def times(self, workflow: str, limit: int) -> list[float]:
        """Seconds that its last passed tasks took, newest first."""

    def untaken(self, task_id: int, starts: Sequence[tuple[int, int, int]]) -> Mapping[int, float]:
        """Of *starts* (job id, attempt, recovery): the jobs whose start no server has taken on, and when it is due."""
