"""What stands before a waiting task, and how long such things took."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, bindparam, exists, or_, select, tuple_

from cador.domain.commands import Start
from cador.domain.task import Slot
from cador.ports.outlook import RunningTask
from cador.storage.tables import (
    TASK_COUNTS,
    TASK_HOLDS,
    TASK_LISTED,
    TASK_WAITS,
    command,
    word,
    workflow,
    workflow_task,
)

t, c = workflow_task.c, command.c
_mine = workflow_task.alias("mine")
_keys: Final[BindParameter[Any]] = bindparam("keys", expanding=True)

_RUNNING: Final = select(t.id, t.workflow_key, t.number, t.start_at, t.slot).limit(bindparam("limit"))
# Two statements, each along an index of its own: one with OR would go through all tasks.
HOLDING: Final = _RUNNING.where(TASK_HOLDS)
COUNTING: Final = _RUNNING.where(t.workflow_key.in_(_keys), TASK_COUNTS)
AHEAD: Final = (
    select(t.workflow_key)
    .select_from(_mine)
    .join(workflow_task, tuple_(t.waits_at, t.id) < tuple_(_mine.c.waits_at, _mine.c.id))
    .where(_mine.c.id == bindparam("id"), TASK_WAITS)
    .order_by(t.waits_at, t.id)
    .limit(bindparam("limit"))
)
OTHERS: Final = select(
    or_(
        exists().where(TASK_WAITS, t.project < bindparam("project")),
        exists().where(TASK_WAITS, t.project > bindparam("project")),
    )
)
"""Each half looks into one end of an index."""
LIMITS: Final = select(workflow.c.key, workflow.c.concurrency_limit).where(workflow.c.key.in_(_keys))
TIMES: Final = (
    select(t.start_at, t.end_at)
    .where(t.workflow_key == bindparam("key"), t.status == word("passed"), TASK_LISTED)
    .order_by(t.create_at.desc(), t.id.desc())
    .limit(bindparam("limit"))
)
UNTAKEN: Final = select(c.key, c.due_at).where(c.key.in_(_keys), c.owner == word(""))


class Outlook:
    """Implements ``ports.outlook.OutlookStore``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def running(self, workflows: Collection[str], limit: int) -> list[RunningTask]:
        found: dict[int, RunningTask] = {}
        for statement, values in ((HOLDING, {}), (COUNTING, {"keys": list(workflows)})):
            for row in self._connection.execute(statement, {"limit": limit, **values}):
                found[row.id] = RunningTask(row.id, row.workflow_key, row.number, row.start_at, row.slot == Slot.HELD)
        return list(found.values())

    def ahead(self, task_id: int, limit: int) -> list[str]:
        return list(self._connection.execute(AHEAD, {"id": task_id, "limit": limit}).scalars())

    def only(self, project: str) -> bool:
        return not self._connection.execute(OTHERS, {"project": project}).scalar_one()

    def limits(self, workflows: Collection[str]) -> Mapping[str, int]:
        rows = self._connection.execute(LIMITS, {"keys": list(workflows)})
        return {row.key: row.concurrency_limit for row in rows}

    def times(self, workflow: str, limit: int) -> list[float]:
        rows = self._connection.execute(TIMES, {"key": workflow, "limit": limit})
        return [row.end_at - row.start_at for row in rows if row.start_at is not None and row.end_at is not None]

    def untaken(self, task_id: int, starts: Sequence[tuple[int, int, int]]) -> Mapping[int, float]:
        keys = {f"{task_id}/{Start(*start).key}": start[0] for start in starts}
        return {keys[row.key]: row.due_at for row in self._connection.execute(UNTAKEN, {"keys": list(keys)})}
