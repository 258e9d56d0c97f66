"""Statements of housekeeping: each reads an index from where it left off, and none goes through history."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, false, insert, literal, or_, select, tuple_, update

from cador.ports.housekeeping import Place, Remains
from cador.storage.tables import (
    TASK_ARCHIVED,
    TASK_GONE,
    TASK_LISTED,
    TASK_LIVES,
    TASK_SHOWN,
    TASK_WAITS,
    command,
    job_attempt,
    job_task,
    remains,
    word,
    workflow_counter,
    workflow_task,
)
from cador.storage.task_memory import new_stamp

t, c, r = workflow_task.c, workflow_counter.c, remains.c
_OVER: Final = ~TASK_LIVES
_KEY: Final[Any] = bindparam("workflow")
_LIMIT: Final[Any] = bindparam("limit")
_IDS: Final[Any] = bindparam("ids", expanding=True)
_AFTER: Final = tuple_(t.create_at, t.id) > tuple_(bindparam("after_at"), bindparam("after_id"))

HOLD: Final = select(c.last).where(c.key == _KEY).with_for_update()
COUNT_NONE: Final = update(workflow_counter).where(c.key == bindparam("of_key")).values(tasks=0)
WAITS_NOT: Final = (
    update(workflow_task)
    # What waits lives: its index names the workflow first, that of those who wait does not.
    .where(
        t.workflow_key == bindparam("of_key"), t.status.in_([word("waiting"), word("running")]), TASK_LIVES, TASK_WAITS
    )
    .values(waits_at=None)
)
UNCANCELLED: Final = (
    select(t.id)
    .where(
        t.workflow_key == _KEY,
        TASK_LIVES,
        or_(t.status != word("cancelling"), t.retry_wanted != word("")),
        t.number <= bindparam("last"),
    )
    .limit(_LIMIT)
)
NEXT: Final = (
    select(t.id, t.number)
    .where(t.workflow_key == _KEY, t.number > bindparam("after"), t.number <= bindparam("last"), TASK_SHOWN)
    .order_by(t.number)
    .limit(_LIMIT)
    .with_for_update()
)
MARK: Final = update(workflow_task).where(t.id.in_(_IDS)).values(deleted=True, waits_at=None)
DELETED: Final = (
    select(t.workflow_key, t.id)
    .where(TASK_GONE, _OVER, tuple_(t.workflow_key, t.id) > tuple_(bindparam("after_key"), bindparam("after_id")))
    .order_by(t.workflow_key, t.id)
    .limit(_LIMIT)
    .with_for_update(skip_locked=True)
)
DELETED_OF: Final = DELETED.where(t.workflow_key == _KEY)
PENDING: Final = select(literal(1)).where(t.workflow_key == _KEY, TASK_GONE).limit(1)

_PLACES: Final = (
    select(t.create_at, t.id)
    .where(TASK_LISTED, _OVER, _AFTER)
    .order_by(t.create_at, t.id)
    .limit(_LIMIT)
    .with_for_update(skip_locked=True)
)
OLDER: Final = _PLACES.where(t.create_at < bindparam("before"), t.end_at < bindparam("before"))
OVERFULL: Final = select(c.key).where(c.tasks > bindparam("most")).order_by(c.key)
EDGE: Final = (
    select(t.create_at, t.id)
    .where(t.workflow_key == _KEY, TASK_LISTED)
    .order_by(t.create_at.desc(), t.id.desc())
    .offset(bindparam("most"))
    .limit(1)
)
SURPLUS: Final = _PLACES.where(
    t.workflow_key == _KEY, tuple_(t.create_at, t.id) <= tuple_(bindparam("edge_at"), bindparam("edge_id"))
)
KEYS: Final = select(t.workflow_key).where(t.id.in_(_IDS), t.archived.is_(false()))
ARCHIVE: Final = (
    update(workflow_task)
    .where(t.id.in_(_IDS))
    .values(archived=True, archived_at=bindparam("now"), stamp=bindparam("stamp"))
)
COUNT_LESS: Final = (
    update(workflow_counter).where(c.key == bindparam("of_key")).values(tasks=c.tasks - bindparam("fewer"))
)
ARCHIVED: Final = (
    select(t.id)
    .where(TASK_ARCHIVED, t.archived_at < bindparam("before"), _OVER)
    .order_by(t.archived_at, t.id)
    .limit(_LIMIT)
    .with_for_update(skip_locked=True)
)
BUSY: Final = select(command.c.task_id).distinct().where(command.c.task_id.in_(_IDS))
"""Tasks for which something is still to be done outside."""

LEAVE: Final = insert(remains).from_select(
    ["home", "workflow_key", "number", "at"],
    select(job_attempt.c.home, t.workflow_key, t.number, bindparam("now", type_=r.at.type))
    .select_from(workflow_task)
    .join(job_task, job_task.c.task_id == t.id)
    .join(job_attempt, job_attempt.c.job_id == job_task.c.id)
    .where(t.id.in_(_IDS))
    .distinct(),
)
REMOVE: Final = delete(workflow_task).where(t.id.in_(_IDS))
REMAINS: Final = (
    select(r.id, r.workflow_key, r.number)
    .where(or_(r.home.in_([word(""), bindparam("home")]), r.at < bindparam("abandoned")), r.id > bindparam("after"))
    .order_by(r.id)
    .limit(_LIMIT)
)
CLEARED: Final = delete(remains).where(r.id.in_(_IDS))


class Housekeeping:
    """Implements ``ports.housekeeping.HousekeepingStore``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def bury(self, workflow: str) -> int:
        last: int | None = self._connection.execute(HOLD, {"workflow": workflow}).scalar_one_or_none()
        self._connection.execute(COUNT_NONE, {"of_key": workflow})
        self._connection.execute(WAITS_NOT, {"of_key": workflow})
        return last or 0

    def hold_burial(self, workflow: str) -> None:
        self._connection.execute(HOLD, {"workflow": workflow})

    def uncancelled(self, workflow: str, last: int, limit: int) -> list[int]:
        found = self._connection.execute(UNCANCELLED, {"workflow": workflow, "last": last, "limit": limit})
        return sorted(found.scalars())

    def mark(self, workflow: str, after: int, last: int, limit: int) -> int | None:
        values = {"workflow": workflow, "after": after, "last": last, "limit": limit}
        found = self._connection.execute(NEXT, values).all()
        if found:
            self._connection.execute(MARK, {"ids": [row.id for row in found]})
        return found[-1].number if len(found) == limit else None

    def deleted(self, limit: int, workflow: str = "") -> list[int]:
        values: dict[str, Any] = {"after_key": workflow, "after_id": 0, "limit": limit}
        if workflow:
            values["workflow"] = workflow
        while found := self._connection.execute(DELETED_OF if workflow else DELETED, values).all():
            if done := self._done([row.id for row in found]):
                return done
            values |= {"after_key": found[-1].workflow_key, "after_id": found[-1].id}
        return []

    def pending(self, workflow: str) -> bool:
        return self._connection.execute(PENDING, {"workflow": workflow}).one_or_none() is not None

    def older(self, before: float, after: Place, limit: int) -> list[Place]:
        return self._places(OLDER, after, limit, {"before": before})

    def overfull(self, most: int) -> list[str]:
        return list(self._connection.execute(OVERFULL, {"most": most}).scalars())

    def edge(self, workflow: str, most: int) -> Place | None:
        row = self._connection.execute(EDGE, {"workflow": workflow, "most": most}).one_or_none()
        return Place(row.create_at, row.id) if row is not None else None

    def surplus(self, workflow: str, edge: Place, after: Place, limit: int) -> list[Place]:
        bounds = {"workflow": workflow, "edge_at": edge.create_at, "edge_id": edge.id}
        return self._places(SURPLUS, after, limit, bounds)

    def _places(self, statement: Any, after: Place, limit: int, values: dict[str, Any]) -> list[Place]:
        bounds = {"after_at": after.create_at, "after_id": after.id, "limit": limit}
        return [Place(*row) for row in self._connection.execute(statement, {**values, **bounds})]

    def archive(self, ids: Sequence[int], at: float) -> None:
        counted = Counter(self._connection.execute(KEYS, {"ids": list(ids)}).scalars())
        self._connection.execute(ARCHIVE, {"ids": list(ids), "now": at, "stamp": new_stamp()})
        for key, fewer in sorted(counted.items()):
            self._connection.execute(COUNT_LESS, {"of_key": key, "fewer": fewer})

    def archived_before(self, before: float, limit: int) -> list[int]:
        return self._done(list(self._connection.execute(ARCHIVED, {"before": before, "limit": limit}).scalars()))

    def _done(self, ids: list[int]) -> list[int]:
        busy = set(self._connection.execute(BUSY, {"ids": ids}).scalars()) if ids else set()
        return [task_id for task_id in ids if task_id not in busy]

    def leave(self, ids: Sequence[int], at: float) -> None:
        self._connection.execute(LEAVE, {"ids": list(ids), "now": at})

    def remove(self, ids: Sequence[int]) -> None:
        self._connection.execute(REMOVE, {"ids": list(ids)})

    def remains(self, home: str, abandoned: float, after: int, limit: int) -> list[Remains]:
        values = {"home": home, "abandoned": abandoned, "after": after, "limit": limit}
        return [Remains(*row) for row in self._connection.execute(REMAINS, values)]

    def cleared(self, ids: Sequence[int]) -> None:
        self._connection.execute(CLEARED, {"ids": list(ids)})
