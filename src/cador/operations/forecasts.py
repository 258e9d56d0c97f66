"""When a waiting task may start: what stands before it, played through with the times such tasks took so far.

Pure and small: a list of what runs, a list of who waits, and two kinds of limits. It knows nothing of people: a task
whose end hangs on somebody's answer has no end here, and who waits for it alone has no forecast.
"""

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from cador.ports.outlook import RunningTask

ENOUGH: Final = 5
"""So many times of a workflow make a forecast one to rely on."""
STEADY: Final = 0.5
"""So far may half of the times be apart, as a share of the median, for the same."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """``at``: Unix seconds. ``sure``: ``good``, or ``rough`` when few or very different times are known, something has
    taken longer than usual already, or rules beyond the limits have a say. ``samples``: the fewest times of a workflow
    that it stands on."""

    at: float
    sure: str
    samples: int


@dataclass(frozen=True, slots=True)
class Line:
    """``running``: all tasks that have to do with it. ``ahead``: workflow of each task that goes first, in order.
    ``limits``: of the workflows concerned; one that is missing or negative has none. ``times``: seconds that the last
    passed tasks of a workflow took. ``slot_only``: the task runs already, and wants nothing but a slot."""

    workflow: str
    slots: int
    running: Sequence[RunningTask]
    ahead: Sequence[str]
    limits: Mapping[str, int]
    times: Mapping[str, Sequence[float]]
    slot_only: bool = False
    exact: bool = True
    """False: shares and caps may let others go first."""


def forecast(line: Line, now: float) -> Forecast | None:
    """When the last in *line* may start. None: nobody knows, because it never can, hangs on people, or nothing is
    known of what is before it."""
    used: set[str] = set()
    late = False

    def takes(workflow: str) -> float:
        times = line.times.get(workflow, ())
        if not times:
            return math.inf
        used.add(workflow)
        return median(times)

    free = line.slots
    counts: Counter[str] = Counter()
    ends: list[tuple[float, str, bool]] = []
    for task in line.running:
        counts[task.workflow] += 1
        free -= task.holds
        end = math.inf
        if task.holds:
            end = (task.start_at if task.start_at is not None else now) + takes(task.workflow)
            late = late or end < now
        heapq.heappush(ends, (max(end, now), task.workflow, task.holds))

    def fits(workflow: str) -> bool:
        limit = line.limits.get(workflow, -1)
        return free > 0 and (limit < 0 or counts[workflow] < limit)

    at = now
    queue = list(line.ahead)
    while True:
        held_back: list[str] = []
        for workflow in queue:
            if not fits(workflow):
                held_back.append(workflow)
                continue
            free -= 1
            counts[workflow] += 1
            heapq.heappush(ends, (at + takes(workflow), workflow, True))
        queue = held_back
        if free > 0 if line.slot_only else fits(line.workflow):
            break
        if not ends or math.isinf(ends[0][0]):
            return None
        at, workflow, held = heapq.heappop(ends)
        free += held
        counts[workflow] -= 1
    samples = min((len(line.times[workflow]) for workflow in used), default=0)
    steady = all(_spread(line.times[workflow]) <= STEADY for workflow in used)
    sure = line.exact and not late and samples >= ENOUGH and steady
    return Forecast(at, "good" if sure else "rough", samples)


def _spread(times: Sequence[float]) -> float:
    """How far the middle half of *times* is apart, as a share of their median."""
    ordered = sorted(times)
    quarter = len(ordered) // 4
    middle = ordered[quarter : len(ordered) - quarter]
    return (middle[-1] - middle[0]) / max(median(ordered), 1e-9)
