"""Who did what: a chain in which each entry's hash covers the one before, so that a changed or cut list shows.

Entries of a transaction are kept until its end and chained then, all at once: the head, for which all writers of all
servers queue up, is held for two statements and the COMMIT, however long the transaction was, and being the last lock
that is taken it closes no circle.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, select, update

from cador.ports.stores import AuditCheck
from cador.storage.dialect import json_of, json_text
from cador.storage.lane import Lane
from cador.storage.tables import audit, audit_head

_FIELDS: Final = ("at", "actor", "action", "project", "target", "detail")
LOOK: Final = select(audit_head.c.hash)
HEAD: Final = LOOK.with_for_update()
MOVE: Final = update(audit_head).values(hash=bindparam("newest"))
ADD: Final = insert(audit).values({name: bindparam(name) for name in (*_FIELDS, "hash")})
_FILTERS: Final = ("actor", "project", "action")
_NEWEST_ID: Final = 2**63 - 1
NEXT: Final = select(*audit.c).where(audit.c.id > bindparam("after")).order_by(audit.c.id).limit(bindparam("limit"))

CHANGED: Final = "does not fit what is before it: it was changed, or something before it was changed or removed"
CUT: Final = "the newest entries are missing"


def chained(previous: str, entry: Mapping[str, Any]) -> str:
    """SHA-256 hex over the hash of the entry before and all that this one says."""
    text = json_text([previous, *(entry[name] for name in _FIELDS)])
    return hashlib.sha256(text.encode()).hexdigest()


def _fitting(*values: str) -> list[ColumnElement[bool]]:
    return [audit.c[name] == value for name, value in zip(_FILTERS, values, strict=True) if value]


class Audit:
    """Implements ``ports.stores.AuditStore``. Of one transaction: who runs it calls :meth:`finish` at its end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._entries: list[dict[str, Any]] = []

    def add(self, *, at: float, actor: str, action: str, project: str, target: str, detail: Mapping[str, Any]) -> None:
        self._entries.append(
            {
                "at": at,
                "actor": actor,
                "action": action,
                "project": project,
                "target": target,
                "detail": json_text(detail),
            }
        )

    def finish(self) -> None:
        """Chain and write what was added."""
        if not self._entries:
            return
        entries, self._entries = self._entries, []
        lane = Lane(self._connection)
        newest = lane.value(HEAD)
        for entry in entries:
            entry["hash"] = newest = chained(newest, entry)
        lane.change_each(ADD, entries)
        lane.change(MOVE, {"newest": newest})

    def list_entries(
        self,
        *,
        before: int | None = None,
        limit: int = 50,
        skip: int = 0,
        actor: str = "",
        project: str = "",
        action: str = "",
    ) -> list[Mapping[str, Any]]:
        self.finish()
        page = select(*audit.c).where(audit.c.id < (_NEWEST_ID if before is None else before))
        page = page.where(*_fitting(actor, project, action))
        rows = self._connection.execute(page.order_by(audit.c.id.desc()).limit(limit).offset(skip))
        return [{**row._mapping, "detail": json_of(row.detail)} for row in rows]

    def count(self, most: int, *, actor: str = "", project: str = "", action: str = "") -> int:
        self.finish()
        found = select(audit.c.id).where(*_fitting(actor, project, action)).limit(most).subquery()
        counted: int = self._connection.execute(select(func.count()).select_from(found)).scalar_one()
        return counted

    def verify(self, after: int, previous: str, limit: int) -> AuditCheck:
        rows = self._connection.execute(NEXT, {"after": after, "limit": limit}).all()
        for number, row in enumerate(rows):
            if chained(previous, dict(row._mapping)) != row.hash:
                return AuditCheck(after, previous, number, f"entry {row.id} {CHANGED}", int(row.id))
            previous, after = row.hash, int(row.id)
        if len(rows) == limit:
            return AuditCheck(after, previous, len(rows))
        if self._connection.execute(LOOK).scalar_one() != previous:
            return AuditCheck(after, previous, len(rows), CUT)
        return AuditCheck(after, previous, len(rows), done=True)
