"""Who waits for a slot, who holds one, and how much each project has been given."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection

from cador.domain.errors import NotFound
from cador.domain.sharing import Candidate, Line, QueueLimits, ahead, weight_of
from cador.ports.admission import Blocker, Gate, QueueFacts
from cador.storage import admission_statements as sql
from cador.storage.dialect import AnyRow, json_of

MOST_BLOCKERS: Final = 50
"""How many of the tasks in the way are named."""


class AdmissionQueue:
    """Implements ``ports.stores.AdmissionStore``. On SQLite whoever writes holds the row already."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- the one row

    def lock(self, *, wait: bool = True) -> Gate | None:
        row = self._connection.execute(sql.HOLD if wait else sql.TRY_HOLD).one_or_none()
        return Gate(*row) if row is not None else None

    def gate(self) -> Gate:
        return Gate(*self._connection.execute(sql.GATE).one())

    def set_limits(self, tasks: int | None, project: int | None, person: int | None) -> None:
        self._connection.execute(sql.SET_LIMITS, {"tasks": tasks, "project": project, "person": person})

    # -- a pass

    def held(self) -> int:
        held: int = self._connection.execute(sql.HELD).scalar_one()
        return held

    def held_by(self) -> list[tuple[str, str, int]]:
        return [(row.project, row.creator_id, row.tasks) for row in self._connection.execute(sql.HELD_BY)]

    def lines(self, slots: int) -> tuple[int, list[Line]]:
        rows = self._connection.execute(sql.LINES, {"slots": slots}).all()
        if not rows:
            return slots, []
        return rows[0].held, [
            Line(row.project, row.vtime or 0.0, _weight(row.document), _candidate(row), bool(row.more)) for row in rows
        ]

    def next_of(self, project: str, after: Candidate, limit: int) -> list[Candidate]:
        values = {"project": project, "after_at": after.waits_at, "after_id": after.id, "limit": limit}
        return [_candidate(row) for row in self._connection.execute(sql.NEXT, values)]

    def groups(self, project: str) -> list[Candidate]:
        return [_candidate(row) for row in self._connection.execute(sql.GROUPS, {"project": project})]

    def next_in_group(self, after: Candidate) -> Candidate | None:
        values = {
            "project": after.project,
            "slot": "wanted" if after.wanted else "none",
            "workflow_key": after.workflow_key,
            "creator_id": after.creator_id,
            "after_at": after.waits_at,
            "after_id": after.id,
        }
        row = self._connection.execute(sql.NEXT_IN_GROUP, values).one_or_none()
        return _candidate(row) if row is not None else None

    def charge(self, clock: float, times: Mapping[str, float]) -> None:
        self._connection.execute(sql.CHARGE, [{"project": name, "time": time} for name, time in times.items()])
        self._connection.execute(sql.SET_CLOCK, {"clock": clock})

    # -- why a task waits

    def facts(self, task_id: int, limits: QueueLimits) -> QueueFacts | None:
        row = self._connection.execute(sql.FACTS, {"id": task_id}).one_or_none()
        if row is None:
            raise NotFound("task", str(task_id))
        if row.waits_at is None:
            return None
        gate = self.gate()
        task = _candidate(row)
        position, age = self._position(task, max(gate.vtime, row.vtime or 0.0), _weight(row.document), gate.vtime)
        reason, blocking = self._reason(task, row.most, gate.over(limits), passed=position > age)
        return QueueFacts(reason, position, blocking[:MOST_BLOCKERS])

    def _reason(
        self, task: Candidate, limit: int | None, limits: QueueLimits, *, passed: bool
    ) -> tuple[str, tuple[Blocker, ...]]:
        """*passed*: younger tasks of other projects go first."""
        values = {"workflow_key": task.workflow_key, "project": task.project, "creator_id": task.creator_id}
        if not task.wanted and task.room == 0:
            if not limit:
                return "not_executable", ()
            return "workflow_limit", self._blockers(sql.BLOCKERS_WORKFLOW, values)
        held = self._blockers(sql.BLOCKERS_ALL, {})
        for reason, most, statement in (
            ("project_cap", limits.max_per_project, sql.BLOCKERS_PROJECT),
            ("user_cap", limits.max_per_user if task.creator_id else 0, sql.BLOCKERS_PERSON),
        ):
            if most > 0 and len(own := self._blockers(statement, values)) >= most:
                return reason, own
        if len(held) < limits.max_running_tasks:
            return "", ()
        return ("fair_share" if passed else "global_limit"), held

    def _blockers(self, statement: Any, values: Mapping[str, Any]) -> tuple[Blocker, ...]:
        return tuple(sorted(Blocker(*row) for row in self._connection.execute(statement, values)))

    def _position(self, task: Candidate, turn: float, weight: float, clock: float) -> tuple[int, int]:
        """Its place by turns of the projects, and its place by age alone."""
        execute = self._connection.execute
        mine = {"at": task.waits_at, "id": task.id}
        age: int = execute(sql.OLDER, mine).scalar_one()
        place: int = execute(sql.OLDER_OF, {**mine, "project": task.project}).scalar_one()
        queued = {row.project: row.tasks for row in execute(sql.QUEUED)}
        turn += (place - 1) / weight
        position = place
        if len(queued) > 1:
            _, lines = self.lines(_ALL)
            for line in lines:
                if line.project != task.project:
                    older = (line.head.waits_at, line.head.id) < (task.waits_at, task.id)
                    begun = max(clock, line.vtime)
                    position += ahead(turn, begun, line.weight, queued.get(line.project, 0), level=older)
        return position, age


_ALL: Final = 1 << 62
"""More tasks than any server holds: lines are told however many run."""


def _candidate(row: AnyRow) -> Candidate:
    task_id, waits_at, project, workflow_key, creator_id, wanted, most, running = row[:8]
    # Whose workflow was deleted has no room.
    room = 0 if most is None else -1 if most < 0 else max(0, most - running)
    return Candidate(task_id, waits_at, project, workflow_key, creator_id, bool(wanted), room)


def _weight(document: str | None) -> float:
    return weight_of(json_of(document)) if document else 1.0
