"""Small facts of the installation."""

from typing import Final

from sqlalchemy import Connection, bindparam, select

from cador.storage import dialect
from cador.storage.tables import meta

_insert = dialect.insert(meta)
GET: Final = select(meta.c.value).where(meta.c.name == bindparam("name"))
SET: Final = _insert.values(name=bindparam("name"), value=bindparam("value")).on_conflict_do_update(
    index_elements=[meta.c.name], set_={"value": _insert.excluded.value}
)


class Meta:
    """Implements ``ports.stores.MetaStore``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> str | None:
        value: str | None = self._connection.execute(GET, {"name": name}).scalar_one_or_none()
        return value

    def set(self, name: str, value: str) -> None:
        self._connection.execute(SET, {"name": name, "value": value})
