"""The tables of a backup: out of one snapshot of either database, into an empty one of either kind.

Rows travel as JSON lists in the order of the columns. A backup carries the revision of its tables; an older one is put
back as it was, and the next start of a server brings it up to date like any other database.
"""

import base64
import contextlib
import itertools
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import (
    Connection,
    Engine,
    LargeBinary,
    Table,
    column,
    create_engine,
    event,
    func,
    insert,
    inspect,
    select,
    table,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from cador.domain.errors import CadorError
from cador.storage import sqlite
from cador.storage.backup_archive import ArchiveWriter, BackupError, TableFacts
from cador.storage.database import kind_of
from cador.storage.errors import DatabaseTooNew
from cador.storage.migrations import config_for, create_tables, revision_of
from cador.storage.tables import REVISION, metadata

_LEFT: Final = frozenset({"replica"})
"""Servers that were there when the backup was made are not there when it is put back."""
_PIECE_BYTES: Final = 4 << 20
_ROWS: Final = 1_000
_SEQUENCE: Final = text("SELECT pg_get_serial_sequence(:name, :key)")

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list).decode


@contextlib.contextmanager
def snapshot(url: str) -> Iterator[Connection]:
    """A connection that sees the database as it is now for as long as the block lasts, and holds nobody up.

    On SQLite the reader keeps the write-ahead log from being folded in meanwhile, nothing else.

    Raises: BackupError: there is no database, or not one of this program's version. DatabaseTooNew. Unavailable.
    """
    engine = _reading(url)
    try:
        with engine.connect() as connection, connection.begin():
            revision = revision_of(connection)
            if revision is None:
                raise BackupError("the database has no tables yet: there is nothing to back up")
            if revision != REVISION:
                if revision > REVISION:
                    raise DatabaseTooNew(revision)
                raise BackupError("the database is of an older cador: use that one, or start this one first")
            yield connection
    except (DBAPIError, sqlite3.Error) as error:
        raise _told(error, url) from error
    finally:
        engine.dispose()


def _reading(url: str) -> Engine:
    if kind_of(url) != "sqlite":
        return create_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            poolclass=NullPool,
            isolation_level="REPEATABLE READ",
            connect_args={"connect_timeout": 5, "application_name": "cador backup"},
            execution_options={"postgresql_readonly": True},
        )
    path = sqlite.path_of(url)
    if not Path(path).exists():
        raise BackupError(f"there is no database {path}: there is nothing to back up")

    def connect() -> sqlite3.Connection:
        # Read-only to the last: a connection that may write would fold the log in when it closes, which is for the
        # server alone.
        name = Path(path).as_uri() + "?mode=ro"
        return sqlite3.connect(name, uri=True, timeout=sqlite.BUSY_S, isolation_level=None, check_same_thread=False)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _told(error: BaseException, url: str) -> CadorError:
    if kind_of(url) == "sqlite":
        return sqlite.unavailable(error) or BackupError(f"database: {_first_line(error)}")
    from cador.storage import postgres

    return postgres.unavailable(error) or BackupError(f"database: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    return (str(cause).splitlines() or [repr(cause)])[0]


# -- out


def dump(connection: Connection, archive: ArchiveWriter, tables: Sequence[Table] | None = None) -> list[TableFacts]:
    """Add all tables to *archive*, those that others refer to first."""
    found = []
    for one in metadata.sorted_tables if tables is None else tables:
        if one.name not in _LEFT:
            found.append(_dump_table(connection, archive, one))
    return found


def _dump_table(connection: Connection, archive: ArchiveWriter, one: Table) -> TableFacts:
    count, number, piece = 0, itertools.count(1), bytearray()

    def write() -> None:
        archive.add(f"tables/{one.name}/{next(number):06d}.jsonl", bytes(piece))
        piece.clear()

    for row in connection.execute(select(*one.c).execution_options(yield_per=_ROWS)):
        piece += _encode(tuple(row)) + b"\n"  # bytes become base64
        count += 1
        if len(piece) >= _PIECE_BYTES:
            write()
    if piece or not count:
        write()
    binary = tuple(c.name for c in one.c if isinstance(c.type, LargeBinary))
    return TableFacts(one.name, tuple(c.name for c in one.c), binary, count, _last_id(connection, one))


def _last_id(connection: Connection, one: Table) -> int:
    """The highest id that was ever handed out. PostgreSQL's is read outside the snapshot: at worst some are skipped."""
    key = one.autoincrement_column
    if key is None:
        return 0
    highest = int(connection.execute(select(func.max(key))).scalar_one() or 0)
    if connection.dialect.name == "sqlite":
        known = connection.execute(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": one.name})
        return max(highest, int(known.scalar_one_or_none() or 0))
    sequence = connection.execute(_SEQUENCE, {"name": f'"{one.name}"', "key": key.name}).scalar_one()
    last, called = connection.execute(text(f"SELECT last_value, is_called FROM {sequence}")).one()  # noqa: S608
    return max(highest, int(last) if called else 0)


# -- in


@contextlib.contextmanager
def empty_database(url: str, revision: str) -> Iterator[Connection]:
    """A transaction on an empty database in which tables of *revision* are made; committed when the block ends well.

    Raises: BackupError: the database is not empty. DatabaseTooNew: no such revision here. Unavailable.
    """
    kind = kind_of(url)
    if kind == "sqlite":
        engine = sqlite.engine_for(sqlite.path_of(url))
    else:
        from cador.storage import postgres

        engine = postgres.engine_for(url)
    try:
        with engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            raw.execute("BEGIN")
            try:
                _make_tables(connection, revision)
                yield connection
            except BaseException:
                raw.execute("ROLLBACK")
                raise
            raw.execute("COMMIT")
            if kind == "sqlite":
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except (DBAPIError, sqlite3.Error) as error:
        raise _told(error, url) from error
    except Exception as error:
        if kind == "postgresql" and type(error).__module__.startswith("psycopg"):
            raise _told(error, url) from error
        raise
    finally:
        engine.dispose()


def _make_tables(connection: Connection, revision: str) -> None:
    if inspect(connection).get_table_names():
        raise BackupError("the database is not empty: restore into a new one")
    if revision == REVISION:
        create_tables(connection)
        return
    from alembic import command
    from alembic.script import ScriptDirectory

    config = config_for(connection)
    if revision not in {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}:
        raise DatabaseTooNew(revision)
    command.upgrade(config, revision)


class Loader:
    """Puts rows back, in the order in which they come."""

    def __init__(self, connection: Connection, tables: Sequence[TableFacts]) -> None:
        self._connection = connection
        self._tables = {one.name: one for one in tables}
        known = set(inspect(connection).get_table_names())
        for one in reversed(tables):
            if one.name not in known:
                raise BackupError(f"the backup has a table {one.name} that its version does not have: it is damaged")
            connection.execute(table(one.name).delete())  # rows that every new database begins with

    def add(self, name: str, piece: bytes) -> None:
        """One piece of the table *name*."""
        facts = self._tables.get(name)
        if facts is None:
            raise BackupError(f"the backup has rows of {name}, which its list does not name: it is damaged")
        binary = [facts.columns.index(one) for one in facts.binary]
        statement = insert(table(name, *(column(one) for one in facts.columns)))
        lines = piece.splitlines()
        for start in range(0, len(lines), _ROWS):
            rows = []
            for line in lines[start : start + _ROWS]:
                try:
                    values = _decode(line)
                    for index in binary:
                        values[index] = None if values[index] is None else base64.b64decode(values[index])
                    rows.append(dict(zip(facts.columns, values, strict=True)))
                except (ValueError, TypeError, IndexError, msgspec.DecodeError):
                    raise BackupError(f"a row of {name} cannot be read: the backup is damaged") from None
            self._connection.execute(statement, rows)

    def finish(self, installation: str) -> None:
        """Let ids go on where they were, and cut what ties the tables to the servers that were.

        The database gets an id of its own, which all names outside carry: should the old server still live somewhere,
        neither touches executions of the other.
        """
        for facts in self._tables.values():
            if facts.last_id:
                self._go_on(facts)
        self._silence()
        for name in ("command", "execution"):
            self._connection.execute(table(name, column("owner")).update().values(owner=""))
        meta = table("meta", column("name"), column("value"))
        self._connection.execute(meta.delete().where(meta.c.name == "installation"))
        self._connection.execute(insert(meta).values(name="installation", value=installation))

    def _silence(self) -> None:
        """What was on its way to receivers outside when the backup was made has long been said by the server of that
        time, or is late by now: it is not said again. Each task's events tell so."""
        names = ("id", "kind", "task_id", "payload", "tries")
        commands = table("command", *map(column, names))
        pending = self._connection.execute(select(commands).where(commands.c.kind == "deliver")).all()
        if not pending:
            return
        at = time.time()
        events = table("event", *map(column, ("task_id", "at", "kind", "data")))
        for row in pending:
            data = {
                **msgspec.json.decode(row.payload), "number": row.tries + 1, "place": "", "ok": False, "status": 0,
                "reason": "this server was restored from a backup", "again_at": None,
            }  # fmt: skip
            told = {"task_id": row.task_id, "at": at, "kind": "delivery_tried", "data": _encode(data).decode()}
            self._connection.execute(insert(events).values(told))
        self._connection.execute(commands.delete().where(commands.c.kind == "deliver"))
        self._connection.execute(table("delivery").delete())

    def _go_on(self, facts: TableFacts) -> None:
        if self._connection.dialect.name == "sqlite":
            names = {"name": facts.name, "last": facts.last_id}
            self._connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": facts.name})
            self._connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), names)
            return
        key = inspect(self._connection).get_pk_constraint(facts.name)["constrained_columns"][0]
        names = {"name": f'"{facts.name}"', "key": key, "last": facts.last_id}
        self._connection.execute(text("SELECT setval(pg_get_serial_sequence(:name, :key), :last)"), names)
