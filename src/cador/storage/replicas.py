"""Rows of the servers that work on the database."""

from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from cador.ports.peers import Replica
from cador.storage.tables import replica as r

CONDEMNED: Final = 0.0
"""Time of the last sign of life of a server that gives none any more, whatever it does."""
ADD: Final = insert(r).values({column.name: bindparam(column.name) for column in r.c})
LIST: Final = select(*r.c).order_by(r.c.started_at, r.c.id)
BEAT: Final = update(r).where(r.c.id == bindparam("me"), r.c.seen_at > CONDEMNED).values(seen_at=bindparam("now"))
CONDEMN: Final = update(r).where(r.c.id == bindparam("gone")).values(seen_at=CONDEMNED)
REMOVE: Final = delete(r).where(r.c.id == bindparam("gone"))


class Replicas:
    """Implements ``ports.stores.ReplicaStore``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, row: Replica) -> None:
        self._connection.execute(ADD, {column.name: getattr(row, column.name) for column in r.c})

    def list_replicas(self) -> list[Replica]:
        return [Replica(*row) for row in self._connection.execute(LIST)]

    def beat(self, me: str, now: float) -> bool:
        return self._connection.execute(BEAT, {"me": me, "now": now}).rowcount == 1

    def condemn(self, gone: str) -> bool:
        return self._connection.execute(CONDEMN, {"gone": gone}).rowcount == 1

    def remove(self, gone: str) -> bool:
        return self._connection.execute(REMOVE, {"gone": gone}).rowcount == 1
