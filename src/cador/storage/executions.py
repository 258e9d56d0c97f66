"""Live executions: what runs outside and who listens to it."""

from dataclasses import fields
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select, update

from cador.ports.stores import ExecutionRow
from cador.storage import dialect
from cador.storage.dialect import AnyRow
from cador.storage.lane import Lane
from cador.storage.tables import execution as e
from cador.storage.tables import replica, word

_insert = dialect.insert(e)
ADD: Final = _insert.values({column.name: bindparam(column.name) for column in e.c}).on_conflict_do_update(
    index_elements=[e.c.key], set_={"ref": _insert.excluded.ref, "owner": _insert.excluded.owner}
)
_COLUMNS: Final = tuple(field.name for field in fields(ExecutionRow))
GET: Final = select(*(e.c[name] for name in _COLUMNS)).where(e.c.key == bindparam("key"))
OF_JOB: Final = select(*e.c).where(e.c.job_id == bindparam("job_id")).order_by(e.c.created_at, e.c.key)
HOLD: Final = (
    select(e.c.key).where(e.c.key == bindparam("key"), e.c.owner == bindparam("held_by")).with_for_update()
)  # fmt: skip
DELETE: Final = delete(e).where(e.c.key == bindparam("execution"))
ADOPT: Final = update(e).where(e.c.key == bindparam("execution"), e.c.owner == word("")).values(owner=bindparam("me"))
RELEASE: Final = update(e).where(e.c.owner == bindparam("gone"), e.c.owner != word("")).values(owner="")

RELEASE_OTHERS: Final = update(e).where(e.c.owner != bindparam("me"), e.c.owner != word("")).values(owner="")
RELEASE_UNKNOWN: Final = (
    update(e).where(e.c.owner != word(""), e.c.owner.not_in(select(replica.c.id))).values(owner="")
)  # fmt: skip


def _row(row: AnyRow) -> ExecutionRow:
    return ExecutionRow(
        row.key, row.task_id, row.job_id, row.attempt, row.recovery, row.executor, row.place, row.ref, row.owner,
        row.created_at,
    )  # fmt: skip


class Executions:
    """Implements ``ports.stores.ExecutionStore``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lane = Lane(connection)

    def add(self, row: ExecutionRow) -> None:
        self._lane.change(ADD, {name: getattr(row, name) for name in _COLUMNS})

    def get(self, key: str) -> ExecutionRow | None:
        row = self._lane.row(GET, {"key": key})
        return ExecutionRow(*row) if row is not None else None

    def of_job(self, job_id: int) -> list[ExecutionRow]:
        return [_row(row) for row in self._connection.execute(OF_JOB, {"job_id": job_id})]

    def delete(self, key: str) -> None:
        self._lane.change(DELETE, {"execution": key})

    def list_executions(self, *, owner: str | None = None, place: str | None = None) -> list[ExecutionRow]:
        """*owner* ``""``: those without one; None: whoever owns them."""
        found = select(*e.c).order_by(e.c.created_at, e.c.key)
        if owner is not None:
            found = found.where(e.c.owner == owner)
        if place is not None:
            found = found.where(e.c.place == place)
        return [_row(row) for row in self._connection.execute(found)]

    def adopt(self, key: str, me: str) -> bool:
        return self._connection.execute(ADOPT, {"execution": key, "me": me}).rowcount == 1

    def hold(self, key: str, owner: str) -> bool:
        return self._lane.row(HOLD, {"key": key, "held_by": owner}) is not None

    def release(self, owner: str) -> int:
        return self._connection.execute(RELEASE, {"gone": owner}).rowcount

    def release_others(self, me: str) -> int:
        return self._connection.execute(RELEASE_OTHERS, {"me": me}).rowcount

    def release_unknown(self) -> int:
        return self._connection.execute(RELEASE_UNKNOWN).rowcount
