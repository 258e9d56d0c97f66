"""The queue of tasks that wait for a slot: what admission asks of the tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from cador.domain.sharing import Candidate, Line, QueueLimits


@dataclass(frozen=True, slots=True)
class Gate:
    """The admission row. Limits that are None are those of the settings, 0 is none. ``vtime``: the virtual time at
    which the last task was let in."""

    max_running_tasks: int | None = None
    max_per_project: int | None = None
    max_per_user: int | None = None
    vtime: float = 0.0

    def over(self, settings: QueueLimits) -> QueueLimits:
        """The limits that count now: of this row, else of the *settings*."""

        def one(live: int | None, else_: int) -> int:
            return else_ if live is None else live

        return QueueLimits(
            one(self.max_running_tasks, settings.max_running_tasks),
            one(self.max_per_project, settings.max_per_project),
            one(self.max_per_user, settings.max_per_user),
        )


class Blocker(NamedTuple):
    """A task that has what another one waits for; show it to those who may see its *project*."""

    workflow_key: str
    number: int
    project: str


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """Why a task is not let in.

    ``reason``, the first of these that is true, and whom ``blocking`` names with it (the first 50, by workflow and
    number):

    - ``not_executable``: its workflow's limit is 0, or the workflow is gone; nobody.
    - ``workflow_limit``: as many tasks of its workflow run as may; those.
    - ``project_cap``, ``user_cap``: its project, or who started it, has as many as it may; those.
    - ``fair_share``: all slots are taken, and younger tasks of other projects go first; those that hold the slots.
    - ``global_limit``: all slots are taken; those that hold them.
    - ``""``: nothing, the next pass lets it in.

    ``position``: 1 for the task whose turn is next, by turns of the projects. Tasks of other workflows that are full
    are not counted as before it; caps are left out.
    """

    reason: str
    position: int
    blocking: tuple[Blocker, ...]


class AdmissionStore(Protocol):
    """One row that orders admission, the queue behind it, and what each project has been given.

    What is counted here is exact only while the row is held: nobody else can let a task in meanwhile, others can only
    end. On PostgreSQL the row must be got by a statement of its own: counts of one that waited for it would be of the
    time before.
    """

    def lock(self, *, wait: bool = True) -> Gate | None:
        """Hold the one admission row until the end of the transaction; None when *wait* is off and it is held."""

    def gate(self) -> Gate:
        """The row without holding it."""

    def set_limits(self, tasks: int | None, project: int | None, person: int | None) -> None:
        """Set the live limits (see :class:`Gate`). Call with the row held."""

    def held(self) -> int:
        """Tasks that hold a slot of the global limit."""

    def held_by(self) -> list[tuple[str, str, int]]:
        """Project, id of the creator, and how many tasks hold a slot."""

    def lines(self, slots: int) -> tuple[int, list[Line]]:
        """How many of *slots* are held, and each project that has a task in the queue; none if all are held."""

    def next_of(self, project: str, after: Candidate, limit: int) -> list[Candidate]:
        """Tasks in the queue of one project behind *after*, oldest first, whether they fit or not."""

    def groups(self, project: str) -> list[Candidate]:
        """Of one project the oldest task of each group of those that fit or fail together: of one workflow and one
        creator, waiting to start or to go on. However many wait, this looks at one of each."""

    def next_in_group(self, after: Candidate) -> Candidate | None:
        """The next one of the same group."""

    def charge(self, clock: float, times: Mapping[str, float]) -> None:
        """Store the virtual times of the server and of projects. Call with the row held."""

    def facts(self, task_id: int, limits: QueueLimits) -> QueueFacts | None:
        """Why a task waits for a slot; None when it does not. *limits*: of the settings. Raises: NotFound."""
