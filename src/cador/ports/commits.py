"""Which tasks worked on which commit."""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cador.ports.stores import TaskRow


class CommitStore(Protocol):
    """Commits of the repositories of tasks. All of it goes with the task."""

    def add(self, task_id: int, project: str, commits: Iterable[str]) -> None:
        """*project*: of the task. Full or shortened ids as the code host or git tells them; what is no commit id, and
        what is there already, is left alone."""

    def tasks_of(self, prefix: str, projects: Collection[str] | None, limit: int) -> "Sequence[TaskRow]":
        """Listed tasks of *projects* (None: of all) with a commit whose id begins with *prefix*, newest first, each
        once, at most *limit*.

        A prefix so short that very many commits begin with it is looked up among the newest tasks only.
        """

    def forget(self, ids: Sequence[int]) -> None:
        """These tasks are not listed any more."""
