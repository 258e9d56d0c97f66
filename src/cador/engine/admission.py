"""One pass over the queue: let in all that fit, in the order of ``domain.sharing``.

With the admission row held nobody else lets tasks in. What is read here is counted in this transaction; meanwhile
others may only end, which leaves more room than was counted, and a wish for another pass.
"""

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from cador.domain.sharing import Candidate, Line, QueueLimits, Rooms, Shares, next_of
from cador.ports.admission import AdmissionStore, Gate

CHUNK: Final = 32
"""Tasks of a project that are read at once. When none of so many fits, its groups are asked instead."""


def let_in_all(
    queue: AdmissionStore,
    gate: Gate,
    limits: QueueLimits,
    let_in: Callable[[int], bool],
    *,
    most: int,
    chunk: int = CHUNK,
) -> bool:
    """Let in what fits, but no more than *most*; True: more may fit. Call with the row held: *gate*. *limits*: of the
    settings.

    ``let_in(task_id)`` locks the task and starts it; False: it does not wait any more.
    """
    limits = gate.over(limits)
    held, lines = queue.lines(limits.max_running_tasks)
    if not lines:
        return False
    rooms = Rooms(limits, limits.max_running_tasks - held)
    if limits.max_per_project or limits.max_per_user:
        for project, person, tasks in queue.held_by():
            rooms.projects[project] = rooms.projects.get(project, 0) + tasks
            rooms.people[person] = rooms.people.get(person, 0) + tasks
    shares = Shares(gate.vtime)
    waiting = [Waiting(queue, line, chunk) for line in lines]
    count = 0
    while waiting and rooms.free > 0 and count < most:
        offers = [(one, task) for one in waiting if (task := one.first(rooms)) is not None]
        chosen = next_of([(one.line, task) for one, task in offers], shares)
        waiting = [one for one, _ in offers]
        if chosen is None:
            break
        one, task = offers[chosen]
        one.remove()
        if let_in(task.id):
            count += 1
            rooms.take(task)
            shares.give(one.line)
    if shares.times:
        queue.charge(shares.clock, shares.times)
    return bool(waiting) and rooms.free > 0


class Waiting:
    """Those of one project who could be let in, oldest first; read as far as they are needed.

    First in order, a chunk at a time. Behind many who do not fit - 5,000 of a workflow that is full - their groups are
    looked at instead: one of each, however long they are.
    """

    def __init__(self, queue: AdmissionStore, line: Line, chunk: int) -> None:
        self.line = line
        self._queue, self._chunk = queue, chunk
        self._rows = deque([line.head])
        self._last = line.head
        self._more = line.more
        self._misfits = 0
        self._groups: list[tuple[float, int, Candidate]] | None = None

    def first(self, rooms: Rooms) -> Candidate | None:
        """The oldest that fits; None: there is none, and will be none in this pass."""
        if rooms.full(self.line.project):
            return None
        while self._groups is None:
            while self._rows:
                if rooms.fits(self._rows[0]):
                    return self._rows[0]
                self._rows.popleft()
                self._misfits += 1
            if not self._more:
                return None
            self._read()
        while self._groups:
            task = self._groups[0][-1]
            if rooms.fits(task):
                return task
            heappop(self._groups)  # nobody of this group will fit
        return None

    def _read(self) -> None:
        if self._misfits >= self._chunk:
            self._groups = [(task.waits_at, task.id, task) for task in self._queue.groups(self.line.project)]
            heapify(self._groups)
            return
        found = self._queue.next_of(self.line.project, self._last, self._chunk)
        self._more = len(found) == self._chunk
        self._rows.extend(found)
        if found:
            self._last = found[-1]

    def remove(self) -> None:
        """Take out the one that ``first`` gave."""
        self._misfits = 0
        if self._groups is None:
            self._rows.popleft()
            return
        _, _, task = heappop(self._groups)
        following = self._queue.next_in_group(task)
        if following is not None:
            heappush(self._groups, (following.waits_at, following.id, following))
