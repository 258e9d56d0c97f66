"""Who waits for a slot, who holds one, and how much each project has been given."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from cador.domain.errors import NotFound
from cador.domain.sharing import Candidate, Line, QueueLimits, ahead, weight_of
from cador.ports.admission import Blocker, Gate, QueueFacts
from cador.storage import admission_statements as sql
from cador.storage.dialect import json_of
from cador.storage.lane import Lane

MOST_BLOCKERS: Final = 50
"""How many of the tasks in the way are named."""
_ALL: Final = (1 << 31) - 1
"""More tasks than any server holds: lines are told however many run."""


class AdmissionQueue:
    """Implements ``ports.admission.AdmissionStore``. On SQLite whoever writes holds the row already."""

    def __init__(self, connection: Connection) -> None:
        self._lane = Lane(connection)

    # -- the one row

    def lock(self, *, wait: bool = True) -> Gate | None:
        row = self._lane.row(sql.HOLD if wait else sql.TRY_HOLD)
        return Gate(*row) if row is not None else None

    def gate(self) -> Gate:
        return Gate(*(self._lane.row(sql.GATE) or ()))

    def set_limits(self, tasks: int | None, project: int | None, person: int | None) -> None:
        self._lane.change(sql.SET_LIMITS, {"tasks": tasks, "project": project, "person": person})

    # -- a pass

    def held(self) -> int:
        held: int = self._lane.value(sql.HELD)
        return held

    def held_by(self) -> list[tuple[str, str, int]]:
        return [(project, person, tasks) for project, person, tasks in self._lane.rows(sql.HELD_BY)]

    def lines(self, slots: int) -> tuple[int, list[Line]]:
        rows = self._lane.rows(sql.LINES, {"slots": slots})
        lines = []
        for _, *waiting, vtime, document, more in rows:
            task = _candidate(waiting)
            lines.append(Line(task.project, vtime or 0.0, _weight(document), task, bool(more)))
        return (rows[0][0] if rows else slots), lines

    def next_of(self, project: str, after: Candidate, limit: int) -> list[Candidate]:
        values = {"project": project, "after_at": after.waits_at, "after_id": after.id, "limit": limit}
        return [_candidate(row) for row in self._lane.rows(sql.NEXT, values)]

    def groups(self, project: str) -> list[Candidate]:
        return [_candidate(row) for row in self._lane.rows(sql.GROUPS, {"project": project})]

    def next_in_group(self, after: Candidate) -> Candidate | None:
        values = {
            "project": after.project,
            "slot": "wanted" if after.wanted else "none",
            "workflow_key": after.workflow_key,
            "creator_id": after.creator_id,
            "after_at": after.waits_at,
            "after_id": after.id,
        }
        row = self._lane.row(sql.NEXT_IN_GROUP, values)
        return _candidate(row) if row is not None else None

    def charge(self, clock: float, times: Mapping[str, float]) -> None:
        self._lane.change_each(sql.CHARGE, [{"project": name, "time": time} for name, time in times.items()])
        self._lane.change(sql.SET_CLOCK, {"clock": clock})

    # -- why a task waits

    def facts(self, task_id: int, limits: QueueLimits) -> QueueFacts | None:
        row = self._lane.row(sql.FACTS, {"id": task_id})
        if row is None:
            raise NotFound("task", str(task_id))
        *waiting, vtime, document = row
        task = _candidate(waiting)
        if task.waits_at is None:
            return None
        gate = self.gate()
        position, age = self._position(task, max(gate.vtime, vtime or 0.0), _weight(document), gate.vtime)
        reason, blocking = self._reason(task, bool(waiting[_MOST]), gate.over(limits), passed=position > age)
        return QueueFacts(reason, position, blocking[:MOST_BLOCKERS])

    def _reason(
        self, task: Candidate, executable: bool, limits: QueueLimits, *, passed: bool
    ) -> tuple[str, tuple[Blocker, ...]]:
        """*passed*: younger tasks of other projects go first."""
        values = {"workflow_key": task.workflow_key, "project": task.project, "creator_id": task.creator_id}
        if not task.wanted and task.room == 0:
            if not executable:
                return "not_executable", ()
            return "workflow_limit", self._blockers(sql.BLOCKERS_WORKFLOW, values)
        for reason, most, statement in (
            ("project_cap", limits.max_per_project, sql.BLOCKERS_PROJECT),
            ("user_cap", limits.max_per_user if task.creator_id else 0, sql.BLOCKERS_PERSON),
        ):
            if most > 0 and len(own := self._blockers(statement, values)) >= most:
                return reason, own
        held = self._blockers(sql.BLOCKERS_ALL, {})
        if len(held) < limits.max_running_tasks:
            return "", ()
        return ("fair_share" if passed else "global_limit"), held

    def _blockers(self, statement: Any, values: Mapping[str, Any]) -> tuple[Blocker, ...]:
        return tuple(sorted(Blocker(*row) for row in self._lane.rows(statement, values)))

    def _position(self, task: Candidate, turn: float, weight: float, clock: float) -> tuple[int, int]:
        """Its place by turns of the projects, and its place by age alone. *turn*: that of its project's next task.

        Of workflows that are full only its own counts: others are not before it however old they are.
        """
        lines = {line.project: line for line in self.lines(_ALL)[1]}
        tasks, older, first = Counter[str](), Counter[str](), dict[str, float]()
        for project, key, wanted, count, before, oldest, most, running in self._lane.rows(
            sql.QUEUE, {"at": task.waits_at, "id": task.id}
        ):
            if wanted or _room(most, running) or (key == task.workflow_key and not task.wanted):
                tasks[project] += count
                older[project] += before
                first[project] = min(oldest, first.get(project, oldest))
        turn += (older[task.project] - 1) / weight
        position = older[task.project]
        for project, waiting in tasks.items():
            line = lines.get(project)
            if line is not None and project != task.project:
                level = first[project] < task.waits_at
                position += ahead(turn, max(clock, line.vtime), line.weight, waiting, level=level)
        return position, older.total()


_MOST: Final = 6
"""Where the limit of its workflow is among ``admission_statements.CANDIDATE``."""


def _candidate(row: Sequence[Any]) -> Candidate:
    task_id, waits_at, project, workflow_key, creator_id, wanted, most, running = row[:8]
    return Candidate(task_id, waits_at, project, workflow_key, creator_id, wanted, _room(most, running))


def _room(most: int | None, running: int) -> int:
    """How many more may run, -1 for any number: none of a workflow that was deleted."""
    return 0 if most is None else -1 if most < 0 else max(0, most - running)


def _weight(document: str | None) -> float:
    return weight_of(json_of(document)) if document else 1.0
