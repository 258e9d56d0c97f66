"""Configuration objects of every kind, in one table: a new kind is a model, not a migration."""

import re
import secrets
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, select, update

from cador.domain.errors import AlreadyExists, NotFound
from cador.ports.stores import Resource
from cador.storage import dialect
from cador.storage.dialect import AnyRow, json_of, json_text
from cador.storage.errors import Overtaken
from cador.storage.lane import Lane
from cador.storage.tables import catalogue_version, word
from cador.storage.tables import resource as r

_NAMED: Final = (r.c.kind == bindparam("of_kind"), r.c.project == bindparam("of_project"), r.c.name == bindparam("at"))
FIND: Final = select(*r.c).where(*_NAMED)
BY_UID: Final = select(*r.c).where(r.c.uid == bindparam("uid"), r.c.kind == bindparam("kind"))
BY_ID: Final = select(*r.c).where(r.c.id == bindparam("id"), r.c.kind == bindparam("kind"))
OF_KIND: Final = select(*r.c).where(r.c.kind == bindparam("kind"))
OF_KIND_AND_PROJECT: Final = OF_KIND.where(r.c.project == bindparam("project"))
OF_PROJECT: Final = select(*r.c).where(r.c.project.in_([bindparam("project"), word("")]))
_ADDED: Final = [column.name for column in r.c if column is not r.c.id]
ADD: Final = (
    dialect.insert(r)
    .values({name: bindparam(name) for name in _ADDED})
    .on_conflict_do_nothing(index_elements=[r.c.kind, r.c.project, r.c.name])
    .returning(r.c.id)
)
REPLACE: Final = (
    update(r)
    .where(*_NAMED, r.c.revision == bindparam("read"))
    .values(
        document=bindparam("document"),
        updated_by=bindparam("updated_by"),
        update_at=bindparam("update_at"),
        revision=r.c.revision + 1,
    )
)
DELETE: Final = delete(r).where(*_NAMED)
VERSION: Final = select(catalogue_version.c.version)
HOLD: Final = VERSION.with_for_update()
"""Every change of a resource writes this one row, so whoever holds it is alone; SQLite has one writer anyway."""
CHANGED: Final = update(catalogue_version).values(version=catalogue_version.c.version + 1)

_LARGEST_ID: Final = 2**63 - 1
_NUMBER: Final = re.compile("[0-9]{1,19}")
"""So long that it may be such an id: Python reads no number of thousands of digits."""


def _row(row: AnyRow) -> Resource:
    return Resource(
        kind=row.kind, project=row.project, name=row.name, document=json_of(row.document), id=row.id, uid=row.uid,
        revision=row.revision, created_by=row.created_by, create_at=row.create_at, updated_by=row.updated_by,
        update_at=row.update_at,
    )  # fmt: skip


class Resources:
    """Implements ``ports.stores.ResourceStore``.

    Whoever writes has the one row of the version first, so that writers wait for each other there and not crosswise.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lane = Lane(connection)

    def hold(self) -> None:
        self._lane.value(HOLD)

    def find(self, kind: str, project: str, name: str, *, lock: bool = False) -> Resource | None:
        if lock:
            self.hold()
        return self._one(FIND, _named(kind, project, name))

    def by_id(self, kind: str, ident: str) -> Resource | None:
        found = self._one(BY_UID, {"uid": ident, "kind": kind})
        if found is None and _NUMBER.fullmatch(ident) and int(ident) <= _LARGEST_ID:
            found = self._one(BY_ID, {"id": int(ident), "kind": kind})
        return found

    def list_kind(self, kind: str, project: str | None = None) -> list[Resource]:
        if project is None:
            rows = self._connection.execute(OF_KIND, {"kind": kind})
        else:
            rows = self._connection.execute(OF_KIND_AND_PROJECT, {"kind": kind, "project": project})
        # Here and not in SQL: the two databases order text differently.
        return sorted(map(_row, rows), key=lambda resource: (resource.name, resource.project))

    def of_project(self, project: str) -> list[Resource]:
        rows = self._connection.execute(OF_PROJECT, {"project": project})
        return sorted(map(_row, rows), key=lambda resource: (resource.kind, resource.project, resource.name))

    def add(self, resource: Resource) -> Resource:
        uid = resource.uid or secrets.token_hex(12)
        values = {name: getattr(resource, name) for name in _ADDED if name not in ("uid", "document")}
        values |= {"uid": uid, "document": json_text(resource.document)}
        self._connection.execute(CHANGED)
        resource_id = self._connection.execute(ADD, values).scalar_one_or_none()
        if resource_id is None:
            raise AlreadyExists(resource.kind, resource.name, project=resource.project)
        return replace(resource, id=resource_id, uid=uid)

    def replace(self, resource: Resource) -> None:
        values = _named(resource.kind, resource.project, resource.name) | {
            "document": json_text(resource.document),
            "updated_by": resource.updated_by,
            "update_at": resource.update_at,
            "read": resource.revision,
        }
        self._connection.execute(CHANGED)
        if self._connection.execute(REPLACE, values).rowcount != 1:
            if self.find(resource.kind, resource.project, resource.name) is None:
                raise NotFound(resource.kind, resource.name)
            raise Overtaken(resource.kind, resource.name)

    def delete(self, kind: str, project: str, name: str) -> None:
        self._connection.execute(CHANGED)
        if self._connection.execute(DELETE, _named(kind, project, name)).rowcount != 1:
            raise NotFound(kind, name)

    def version(self) -> int:
        version: int = self._lane.value(VERSION)
        return version

    def _one(self, statement: Any, values: dict[str, Any]) -> Resource | None:
        row = self._connection.execute(statement, values).one_or_none()
        return _row(row) if row is not None else None


def _named(kind: str, project: str, name: str) -> dict[str, Any]:
    return {"of_kind": kind, "of_project": project, "at": name}
