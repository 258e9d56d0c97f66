"""Who did what: a chain in which each entry's hash covers the one before, so that a changed or cut list shows."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select, update

from cador.storage.dialect import json_of, json_text
from cador.storage.tables import audit, audit_head

_FIELDS: Final = ("at", "actor", "action", "project", "target", "detail")
# Held until the end of the transaction: entries are chained one after the other. Always taken last, so it closes no
# circle of locks.
LOOK: Final = select(audit_head.c.hash)
HEAD: Final = LOOK.with_for_update()
MOVE: Final = update(audit_head).values(hash=bindparam("newest"))
ADD: Final = insert(audit).values({name: bindparam(name) for name in (*_FIELDS, "hash")})
_PAGE: Final = select(*audit.c).order_by(audit.c.id.desc()).limit(bindparam("limit"))
NEWEST: Final = _PAGE
BEFORE: Final = _PAGE.where(audit.c.id < bindparam("before"))
NEXT: Final = select(*audit.c).where(audit.c.id > bindparam("after")).order_by(audit.c.id).limit(bindparam("limit"))
_STEP: Final = 1000


def chained(previous: str, entry: Mapping[str, Any]) -> str:
    """SHA-256 hex over the hash of the entry before and all that this one says."""
    text = json_text([previous, *(entry[name] for name in _FIELDS)])
    return hashlib.sha256(text.encode()).hexdigest()


class Audit:
    """Implements ``ports.stores.AuditStore``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, *, at: float, actor: str, action: str, project: str, target: str, detail: Mapping[str, Any]) -> None:
        previous: str = self._connection.execute(HEAD).scalar_one()
        entry = {
            "at": at,
            "actor": actor,
            "action": action,
            "project": project,
            "target": target,
            "detail": json_text(detail),
        }
        newest = chained(previous, entry)
        self._connection.execute(ADD, entry | {"hash": newest})
        self._connection.execute(MOVE, {"newest": newest})

    def list_entries(self, *, before: int | None = None, limit: int = 50) -> list[Mapping[str, Any]]:
        """Newest first. Keys: id, at, actor, action, project, target, detail (an object), hash."""
        if before is None:
            rows = self._connection.execute(NEWEST, {"limit": limit})
        else:
            rows = self._connection.execute(BEFORE, {"limit": limit, "before": before})
        return [{**row._mapping, "detail": json_of(row.detail)} for row in rows]

    def first_broken(self) -> int | None:
        """Id of the first entry that was changed or follows a removed one, 0 when the newest ones are missing; None
        when all is as it was written. Reads everything: for ``cador doctor``."""
        previous, after = "", 0
        while rows := self._connection.execute(NEXT, {"after": after, "limit": _STEP}).all():
            for row in rows:
                if chained(previous, dict(row._mapping)) != row.hash:
                    return int(row.id)
                previous, after = row.hash, row.id
        return None if previous == self._connection.execute(LOOK).scalar_one() else 0
