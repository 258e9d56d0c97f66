"""Workflows, and the counter of their tasks."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Final

from sqlalchemy import Connection, bindparam, case, delete, exists, literal, select, update

from cador.domain.errors import AlreadyExists, NotFound
from cador.ports.stores import IMPLICIT, WorkflowRow
from cador.storage import dialect
from cador.storage.dialect import AnyRow
from cador.storage.lane import Lane
from cador.storage.tables import word
from cador.storage.tables import workflow as w
from cador.storage.tables import workflow_counter as counter

FIND: Final = select(*(w.c[field.name] for field in fields(WorkflowRow))).where(w.c.key == bindparam("key"))
LOCK: Final = FIND.with_for_update(key_share=True)
_LIST: Final = select(*(column for column in w.c if column is not w.c.definition)).order_by(
    case((w.c.type == word("custom"), 0), else_=1), w.c.update_at.desc(), w.c.key
)
ALL: Final = _LIST.where(w.c.project == bindparam("project"))
LIST: Final = ALL.where(w.c.type.not_in([word(kind) for kind in IMPLICIT]))
LIST_KEYS: Final = LIST.where(w.c.key.in_(bindparam("keys", expanding=True)))
_ADDED: Final = [column.name for column in w.c if column is not w.c.id]
ADD: Final = (
    dialect.insert(w)
    .values({name: bindparam(name) for name in _ADDED})
    .on_conflict_do_nothing(index_elements=[w.c.key])
    .returning(w.c.id)
)
_REPLACED: Final = (
    "project", "display_name", "type", "concurrency_limit", "disabled", "definition", "updated_by", "update_at",
)  # fmt: skip
REPLACE: Final = (
    update(w)
    .where(w.c.key == bindparam("workflow_key"))
    .values({name: bindparam(name) for name in _REPLACED} | {"revision": w.c.revision + 1})
)
DELETE: Final = delete(w).where(w.c.key == bindparam("workflow_key"))
TAKEN: Final = select(
    exists().where(
        w.c.project == bindparam("project"), w.c.display_name == bindparam("display_name"), w.c.key != bindparam("but")
    )
)
COUNT_UP: Final = (
    dialect.insert(counter)
    .values(key=bindparam("key"), last=literal(1), tasks=literal(0))
    .on_conflict_do_update(index_elements=[counter.c.key], set_={"last": counter.c.last + 1})
    .returning(counter.c.last)
)


def _row(row: AnyRow, definition: str) -> WorkflowRow:
    return WorkflowRow(
        row.key, row.project, row.display_name, row.type, row.concurrency_limit, row.disabled, definition,
        row.revision, row.created_by, row.create_at, row.updated_by, row.update_at, row.id,
    )  # fmt: skip


class Workflows:
    """Implements ``ports.stores.WorkflowStore``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lane = Lane(connection)

    def find(self, key: str, *, lock: bool = False) -> WorkflowRow | None:
        row = self._lane.row(LOCK if lock else FIND, {"key": key})
        return WorkflowRow(*row) if row is not None else None

    def list_workflows(
        self, project: str, keys: Sequence[str] | None = None, *, implicit: bool = False
    ) -> list[WorkflowRow]:
        if keys is None:
            rows = self._connection.execute(ALL if implicit else LIST, {"project": project})
        else:
            rows = self._connection.execute(LIST_KEYS, {"project": project, "keys": list(keys)})
        return [_row(row, "") for row in rows]

    def add(self, row: WorkflowRow) -> int:
        values = {name: getattr(row, name) for name in _ADDED}
        workflow_id: int | None = self._connection.execute(ADD, values).scalar_one_or_none()
        if workflow_id is None:
            taken = self.find(row.key)
            raise AlreadyExists("workflow", row.key, project=taken.project if taken is not None else "")
        return workflow_id

    def replace(self, row: WorkflowRow) -> None:
        values = {name: getattr(row, name) for name in _REPLACED} | {"workflow_key": row.key}
        if self._connection.execute(REPLACE, values).rowcount != 1:
            raise NotFound("workflow", row.key)

    def delete(self, key: str) -> None:
        self._connection.execute(DELETE, {"workflow_key": key})

    def display_name_taken(self, project: str, display_name: str, but: str) -> bool:
        values = {"project": project, "display_name": display_name, "but": but}
        return bool(self._connection.execute(TAKEN, values).scalar_one())

    def next_number(self, key: str) -> int:
        number: int = self._lane.value(COUNT_UP, {"key": key})
        return number
