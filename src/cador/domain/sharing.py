"""Who is let in next: fair shares between projects, and what keeps a task waiting. Pure.

Start-time fair queueing. Each project has a virtual time that grows by ``1 / weight`` with every task it is given; the
clock of the server is the virtual time at which the last task was let in. The next task is of the project whose time,
but never less than the clock, is least: who has had less, goes first, and who was away has saved nothing up. Of one
project the oldest task goes first, and so do the older of two when projects are level.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

LEAST_WEIGHT: Final = 0.001
MOST_WEIGHT: Final = 1000.0
"""What a project may weigh."""


_LEVEL: Final = 1e-6
"""Turns that differ by less are the same: they are sums of fractions."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """``max_running_tasks``: tasks that hold a slot, over the whole server; ``max_per_project``, ``max_per_user``:
    those of one project, of one person; 0 for none."""

    max_running_tasks: int
    max_per_project: int = 0
    max_per_user: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A task that waits for a slot. ``creator_id``: empty when nobody is behind it. ``wanted``: it is running and goes
    on, so that the limit of its workflow counts it already. ``room``: how many more tasks of its workflow may become
    running, -1 for any number."""

    id: int
    waits_at: float
    project: str
    workflow_key: str
    creator_id: str
    wanted: bool
    room: int


@dataclass(frozen=True, slots=True)
class Line:
    """A project in the queue: its virtual time, its weight, and its oldest task; ``more``: others wait behind it."""

    project: str
    vtime: float
    weight: float
    head: Candidate
    more: bool


def weight_of(document: Mapping[str, object]) -> float:
    """Of a project's document; 1 when it says nothing that makes sense."""
    weight = document.get("weight")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
        return 1.0
    return float(weight)


@dataclass(slots=True)
class Shares:
    """What each project has been given, while tasks are let in. ``clock``: of the server; never goes back."""

    clock: float
    times: dict[str, float] = field(default_factory=dict)

    def turn(self, line: Line) -> float:
        """The virtual time at which the next task of this project would be let in."""
        return max(self.clock, self.times.get(line.project, line.vtime))

    def give(self, line: Line) -> None:
        """Count one task for the project."""
        begun = self.turn(line)
        self.clock = begun
        self.times[line.project] = begun + 1 / line.weight


@dataclass(slots=True)
class Rooms:
    """What is still free of every limit, while tasks are let in. Only ever shrinks: what did not fit once does not fit
    later. ``projects``, ``people``: tasks they have running now."""

    limits: QueueLimits
    free: int
    projects: dict[str, int] = field(default_factory=dict)
    people: dict[str, int] = field(default_factory=dict)
    workflows: dict[str, int] = field(default_factory=dict)

    def fits(self, task: Candidate) -> bool:
        return self.free > 0 and not self.full(task.project) and self._person(task) and self._workflow(task) != 0

    def full(self, project: str) -> bool:
        """The project has all it may have."""
        most = self.limits.max_per_project
        return most > 0 and self.projects.get(project, 0) >= most

    def take(self, task: Candidate) -> None:
        self.free -= 1
        self.projects[task.project] = self.projects.get(task.project, 0) + 1
        self.people[task.creator_id] = self.people.get(task.creator_id, 0) + 1
        room = self._workflow(task)
        if room > 0:
            self.workflows[task.workflow_key] = room - 1

    def _person(self, task: Candidate) -> bool:
        most = self.limits.max_per_user
        return not (most > 0 and task.creator_id and self.people.get(task.creator_id, 0) >= most)

    def _workflow(self, task: Candidate) -> int:
        return -1 if task.wanted else self.workflows.setdefault(task.workflow_key, task.room)


def next_of(offers: Sequence[tuple[Line, Candidate]], shares: Shares) -> int | None:
    """Whose turn it is, by index: *offers* are the oldest task that fits of each project."""

    def rank(index: int) -> tuple[float, float, int]:
        line, task = offers[index]
        return shares.turn(line), task.waits_at, task.id

    return min(range(len(offers)), key=rank, default=None)


def ahead(turn: float, begun: float, weight: float, waiting: int, *, level: bool) -> int:
    """How many of *waiting* tasks of another project come before a task let in at *turn*: that project's next turn is
    at *begun* and each of its tasks moves it by ``1 / weight``. *level*: one whose turn is the same comes before, too.
    """
    steps = (turn - begun) * weight
    nearest = round(steps)
    if abs(steps - nearest) >= _LEVEL:
        nearest = math.ceil(steps)
    elif level:
        nearest += 1
    return min(waiting, max(0, nearest))
