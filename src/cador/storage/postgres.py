"""PostgreSQL: a pool of threads, each with a connection of its own.

A function that fails because another transaction was in the way (serialization, deadlock, a unique key taken at the
same moment) runs again, and so does one whose connection broke before COMMIT was sent. When the reply of COMMIT is
lost, the server is asked what became of the transaction; nothing is ever guessed.
"""

import asyncio
import contextlib
import queue
import random
import time
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import psycopg
from psycopg import errors as pg
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from cador.domain.errors import Unavailable
from cador.ports.stores import Tx
from cador.storage.database import Jobs, OutcomeUnknown, Stores, ThreadedDatabase, Work, bind
from cador.storage.errors import Overtaken
from cador.storage.migrations import migrate_connection
from cador.storage.tables import for_postgresql
from cador.storage.wire import Wire, wire_of

for_postgresql()

P = ParamSpec("P")
R = TypeVar("R")

TRIES: Final = 8
"""How often a function is run before its caller hears of it."""
CONNECT_S: Final = 5
STATEMENT_S: Final = 30
LOCK_S: Final = 15
MIGRATE_LOCK_S: Final = 60
ASK_S: Final = 10.0
"""How long to ask for the outcome of a COMMIT before the caller is told that it is unknown."""
_MIGRATE_KEY: Final = 0x6361646F72  # "cador"

_AGAIN: Final = (pg.SerializationFailure, pg.DeadlockDetected, pg.UniqueViolation, Overtaken)
"""Another transaction was in the way; run again, this one sees what the other did. A unique key that is really taken
is found by the stores before they insert, so a violation is a race too; a true one ends after :data:`TRIES`."""
_BROKEN: Final = (pg.AdminShutdown, pg.CrashShutdown, pg.CannotConnectNow, pg.IdleInTransactionSessionTimeout)
_AWAY: Final = (
    (pg.DiskFull, "the disk of the database server is full"),
    (pg.OutOfMemory, "the database server is out of memory"),
    (pg.TooManyConnections, "the database server has no connection left"),
    (pg.ReadOnlySqlTransaction, "the database server is read-only"),
    (pg.QueryCanceled, "the database server was too slow"),
    (pg.LockNotAvailable, "the database was locked for too long"),
    (pg.SerializationFailure, "too many transactions were in each other's way"),
    (pg.DeadlockDetected, "too many transactions were in each other's way"),
)


def engine_for(url: str) -> Engine:
    """An engine whose connections begin and end transactions only when told to."""
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args={
            "connect_timeout": CONNECT_S,
            "application_name": "cador",
            # A server host that vanishes without a word is noticed in a quarter of a minute.
            "keepalives_idle": 5,
            "keepalives_interval": 3,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        },
    )
    event.listen(engine, "before_cursor_execute", _say_what_waits)
    return engine


def _say_what_waits(connection: Connection, *_: object) -> None:
    """What waits in the short lane was said before this statement."""
    wire_of(connection).say()


def connect(engine: Engine) -> Connection:
    """Raises: Unavailable."""
    try:
        connection = engine.connect()
    except DBAPIError as error:  # also of an address that libpq does not understand
        raise Unavailable("database: PostgreSQL cannot be reached") from error
    try:
        # Said here and not as options of the connection, which a pooler would refuse.
        driver(connection).execute(
            f"SET statement_timeout = '{STATEMENT_S}s'; SET lock_timeout = '{LOCK_S}s';"
            f"SET idle_in_transaction_session_timeout = '{2 * STATEMENT_S}s'",
            prepare=False,
        )
    except psycopg.Error as error:
        discard(connection)
        raise Unavailable("database: PostgreSQL cannot be reached") from error
    return connection


def driver(connection: Connection) -> "psycopg.Connection[Any]":
    """The driver's own connection: BEGIN and COMMIT are said to it directly."""
    raw = connection.connection.driver_connection
    if not isinstance(raw, psycopg.Connection):
        raise TypeError(f"not a connection of PostgreSQL: {raw!r}")
    return raw


def discard(connection: Connection) -> None:
    """Close *connection*, whatever state it is in."""
    with contextlib.suppress(psycopg.Error, DBAPIError):
        connection.invalidate()
    with contextlib.suppress(psycopg.Error, DBAPIError):
        connection.close()


def cause_of(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def unavailable(error: BaseException) -> Unavailable | None:
    """What to tell the caller when *error* is about the server and not about the statement; else None."""
    cause = cause_of(error)
    text = next((text for kind, text in _AWAY if isinstance(cause, kind)), None)
    if text is None and _broken(cause):
        text = "PostgreSQL is away"
    return Unavailable(f"database: {text}") if text else None


def _first_line(error: BaseException, url: str) -> str:
    """What libpq says of a connection that is refused, without the password."""
    line = (str(cause_of(error)).strip().splitlines() or [""])[0].rstrip(".")
    password = make_url(url).password
    return line.replace(str(password), "***") if password else line


def _broken(cause: BaseException) -> bool:
    """The connection is lost. An error with a code came over a connection that works, but for those of a shutdown."""
    if isinstance(cause, psycopg.Error) and cause.sqlstate is None:
        return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    return isinstance(cause, _BROKEN)


class Worker:
    """One connection of the pool and what is done over it. Of one thread."""

    def __init__(self, engine: Engine, clock: Callable[[], float] | None, *, ask_s: float = ASK_S) -> None:
        self._ask_s = ask_s
        self._engine = engine
        self._clock = clock
        self._stores: Stores | None = None

    def carry_out(self, work: Work) -> None:
        """Run *work* until it is committed or fails for good; afterwards it holds its result or its error."""
        for number in range(1, TRIES + 1):
            if self._once(work):
                return
            # Fast at first - a restarted server is back at once, a deadlock is gone - then slower, never in step.
            if number < TRIES:
                time.sleep(random.uniform(0.5, 1.0) * min(0.005 * 2**number, 0.5))  # noqa: S311
        if work.error is not None and (away := unavailable(work.error)) is not None:
            away.__cause__ = work.error
            work.fail(away)

    def close(self) -> None:
        """What is left open is taken back by the server."""
        self._drop()

    def _once(self, work: Work) -> bool:
        """False: it was not carried out, may be tried again, and ``work.error`` says why."""
        try:
            if self._stores is None:
                self._stores = Stores(connect(self._engine))
            wire = wire_of(self._stores.connection)
            wire.begin(read_only=work.read_only)
            work.attempt(self._stores, self._clock() if self._clock is not None else wire.begun)
            if work.error is not None:
                return self._failed(work)
        except (psycopg.Error, Unavailable) as error:
            self._drop()
            work.fail(error if isinstance(error, Unavailable) else Unavailable("database: PostgreSQL is away"))
            return False
        return self._commit(wire, work)

    def _failed(self, work: Work) -> bool:
        """Take the transaction back, and judge whether another try is worth it."""
        assert work.error is not None and self._stores is not None  # noqa: S101, PT018 - the caller looked
        cause = cause_of(work.error)
        if _broken(cause):
            self._drop()
            return False
        try:
            wire_of(self._stores.connection).roll_back()
        except psycopg.Error:
            self._drop()  # the server takes back what a lost connection left
        if isinstance(cause, _AGAIN):
            return False
        if (away := unavailable(cause)) is not None:
            away.__cause__ = work.error
            work.fail(away)
            if isinstance(cause, pg.ReadOnlySqlTransaction):
                self._drop()  # after a failover the name leads to another server
        return True

    def _commit(self, wire: Wire, work: Work) -> bool:
        try:
            if work.read_only:
                wire.leave()
            else:
                wire.commit()
        except psycopg.Error as error:
            if work.read_only:
                self._drop()
                return True
            if not _broken(error):  # of the COMMIT, or of a statement that had waited for it
                work.fail(error)
                return self._failed(work)
            xid = wire.xid
            self._drop()
            if xid:
                return self._find_out(xid, work)
            work.fail(Unavailable("database: PostgreSQL is away"))
            return False
        return True

    def _find_out(self, xid: str, work: Work) -> bool:
        """Ask what became of the transaction *xid*, whose COMMIT was sent and never answered."""
        limit = time.monotonic() + self._ask_s
        while time.monotonic() < limit:
            with contextlib.suppress(psycopg.Error, Unavailable):
                connection = self._connect()
                row = driver(connection).execute("SELECT pg_xact_status(%s::xid8)", (xid,)).fetchone()
                status = row[0] if row is not None else None
                if status == "committed":
                    return True
                if status == "aborted":
                    work.fail(Unavailable("database: PostgreSQL is away"))
                    return False
                if status is None:
                    break  # too old for the server to remember
                # "in progress": the old connection's process has not noticed yet
            time.sleep(0.05)
        work.fail(OutcomeUnknown("database: PostgreSQL went away during a commit, whether it is done is not known"))
        return True

    def _connect(self) -> Connection:
        if self._stores is not None and driver(self._stores.connection).closed:
            self._drop()
        if self._stores is None:
            self._stores = Stores(connect(self._engine))
        return self._stores.connection

    def _drop(self) -> None:
        if self._stores is not None:
            discard(self._stores.connection)
            self._stores = None


def migrate(url: str) -> None:
    """Bring the tables up to date, one server at a time. Raises: DatabaseTooNew, Unavailable."""
    try:
        connection = connect(engine_for(url))
    except Unavailable as error:
        # Whoever starts a server may know why: a wrong password, a name that does not exist.
        raise Unavailable(f"{error} ({_first_line(error.__cause__ or error, url)})") from error
    raw = driver(connection)
    try:
        # A migration waits for others, but never long enough that all who wait behind it notice.
        raw.execute(
            f"BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{MIGRATE_LOCK_S}s';"
            f"SELECT pg_advisory_xact_lock({_MIGRATE_KEY}); SET LOCAL lock_timeout = '{LOCK_S}s'",
            prepare=False,
        )
        migrate_connection(connection)
        raw.execute("COMMIT", prepare=False)
    except (psycopg.Error, DBAPIError) as error:
        away = unavailable(error)
        if away is None:
            raise
        raise away from error
    finally:
        discard(connection)  # an open transaction goes with it


class PostgresDatabase(ThreadedDatabase):
    """Implements ``ports.stores.Database``."""

    def __init__(
        self, url: str, loop: asyncio.AbstractEventLoop, *, clock: Callable[[], float] | None, pool: int
    ) -> None:
        super().__init__(loop)
        self._engine = engine_for(url)
        self._clock = clock
        self._jobs: Jobs = queue.SimpleQueue()
        for number in range(pool):
            self._spawn(f"database-{number}", self._loop_of_thread, self._jobs)

    @classmethod
    async def open(cls, url: str, *, clock: Callable[[], float] | None, pool: int) -> "PostgresDatabase":
        await asyncio.to_thread(migrate, url)
        return cls(url, asyncio.get_running_loop(), clock=clock, pool=max(pool, 1))

    async def write(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = await self._submit(self._jobs, bind(fn, args, kwargs), read_only=False)
        return result

    async def read(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = await self._submit(self._jobs, bind(fn, args, kwargs), read_only=True)
        return result

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._close(self._threads)

    def _loop_of_thread(self, jobs: Jobs) -> None:
        worker = Worker(self._engine, self._clock)
        while (work := jobs.get()) is not None:
            try:
                worker.carry_out(work)
            except Exception as error:  # the edge of this thread
                self._surprise([work], error)
                worker.close()
            self._door.deliver([work])
        worker.close()
