"""What old and deleted tasks leave, and how it goes: a little at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task stands in the order of creation."""

    create_at: float
    id: int


@dataclass(frozen=True, slots=True)
class Remains:
    """Logs and artifacts of one task, in one data folder."""

    id: int
    workflow: str
    number: int


class HousekeepingStore(Protocol):
    """Each call is short and touches at most *limit* tasks; what another transaction holds is passed over and found the
    next time. Tasks that are not over are never archived and never removed."""

    # -- a workflow is deleted

    def bury(self, workflow: str) -> int:
        """No task of the workflow starts or is counted any more. Returns the number of the newest one there is."""

    def hold_burial(self, workflow: str) -> None:
        """Until the end of the transaction nobody else works at burying the workflow."""

    def uncancelled(self, workflow: str, last: int, limit: int) -> list[int]:
        """Ids of tasks up to number *last* that are neither over nor going down for good."""

    def mark(self, workflow: str, after: int, last: int, limit: int) -> int | None:
        """Take the next tasks with a number above *after*, up to *last*, out of everything that is shown. Returns the
        number of the last one, None when there are no more behind it."""

    def deleted(self, limit: int, workflow: str = "") -> list[int]:
        """Ids of tasks that were marked and are over, held, and nothing is to be done for them any more: oldest first.
        *workflow*: only of that one."""

    def pending(self, workflow: str) -> bool:
        """Whether any marked task of the workflow is still there."""

    # -- tasks grow old

    def older(self, before: float, after: Place, limit: int) -> list[Place]:
        """The next tasks in order of creation, after *after*, that were created and ended before then; held."""

    def overfull(self, most: int) -> list[str]:
        """Workflows with more than so many tasks in the lists."""

    def edge(self, workflow: str, most: int) -> Place | None:
        """The newest task that is not among the newest *most*; None: there are not so many."""

    def surplus(self, workflow: str, edge: Place, after: Place, limit: int) -> list[Place]:
        """The next tasks of the workflow, after *after*, up to *edge*, that are over; held."""

    def archive(self, ids: Sequence[int], at: float) -> None:
        """Out of the lists and their counts; found by number."""

    def archived_before(self, before: float, limit: int) -> list[int]:
        """Ids of tasks archived before then, held; nothing is to be done for them any more."""

    # -- what goes

    def leave(self, ids: Sequence[int], at: float) -> None:
        """Note that logs and artifacts of these tasks are to be deleted, wherever they are."""

    def remove(self, ids: Sequence[int]) -> None:
        """The tasks with all that is stored of them in the tables."""

    def remains(self, home: str, abandoned: float, after: int, limit: int) -> list[Remains]:
        """Of the data folder *home*, of none, and those noted before *abandoned*, whosever they were; the next ones
        after id *after*."""

    def cleared(self, ids: Sequence[int]) -> None:
        """These remains are no more."""
