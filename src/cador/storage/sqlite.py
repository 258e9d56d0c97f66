"""The embedded database: one SQLite file, one connection that writes, a few that read.

The writer takes all functions that wait, runs each in a savepoint and commits once for all: 32 callers at once cost
about one ``fsync`` together, not 32. A function that fails goes back to its savepoint and leaves the others alone.
When the batch itself or its COMMIT fails, nothing of it is there, and each function runs again alone, so that only
the callers it concerns see the error.

Brief functions (``ports.stores.brief``) run on the event loop's own thread, and a thread of the writer's makes only the
COMMIT, which waits for the disk; what comes meanwhile is the next batch. A driver gives the interpreter lock up at
every statement: beside a busy loop a thread waits for it again and again, ten statements cost a hundred changes of
thread. All other functions run on the writer's thread from beginning to end, and so does whatever goes wrong.
"""

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from cador.domain.errors import Invalid, Unavailable
from cador.ports.stores import Tx, is_brief
from cador.storage.database import Jobs, Stores, ThreadedDatabase, Transaction, Work, bind, settle
from cador.storage.migrations import migrate_connection

P = ParamSpec("P")
R = TypeVar("R")

BATCH: Final = 256
"""Functions in one commit at most: the first waits for the last."""
TURN_S: Final = 0.01
"""How long brief functions of one batch may keep the event loop; one that has begun is finished."""
BUSY_S: Final = 10.0
"""How long to wait for another process (a backup, the ``sqlite3`` shell) that holds the file."""
OLDEST: Final = (3, 37, 0)
"""First SQLite with all that the statements use (RETURNING, row values, partial indexes, no surprises in ALTER)."""

_AWAY: Final = {
    sqlite3.SQLITE_BUSY: "another process holds the database file for too long",
    sqlite3.SQLITE_LOCKED: "another process holds the database file for too long",
    sqlite3.SQLITE_NOMEM: "out of memory",
    sqlite3.SQLITE_READONLY: "the database file is read-only",
    sqlite3.SQLITE_IOERR: "the disk does not read or write",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened",
    sqlite3.SQLITE_CORRUPT: "the database file is damaged, restore a backup",
    sqlite3.SQLITE_NOTADB: "the file is no database",
}


def unavailable(error: BaseException) -> Unavailable | None:
    """What to tell the caller when *error* is about the machine and not about the statement; else None."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, sqlite3.Error):
        return None
    # The low byte is the kind, what is above tells variants of it. Errors of the Python module itself have none.
    code = getattr(cause, "sqlite_errorcode", None)
    text = _AWAY.get(code & 0xFF) if code is not None else None
    return Unavailable(f"database: {text}") if text else None


def engine_for(path: str, *, query_only: bool = False, busy_s: float = BUSY_S) -> Engine:
    """An engine whose connections begin and end transactions only when told to. *path* may be ``:memory:``."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",  # a reply is sent only for what survives a power cut
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "journal_size_limit=67108864",
            "cache_size=-8000",
            # Memory mapping stays off: an I/O error of a mapped page is a signal that ends the process.
            "mmap_size=0",
            *(("query_only=ON", "wal_autocheckpoint=0") if query_only else ()),
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    return create_engine("sqlite://", creator=connect, poolclass=NullPool, isolation_level="AUTOCOMMIT")


def driver(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection: BEGIN, SAVEPOINT and COMMIT are said to it directly."""
    raw = connection.connection.dbapi_connection
    if not isinstance(raw, sqlite3.Connection):
        raise TypeError(f"not a connection of SQLite: {raw!r}")
    return raw


class Writer:
    """The one connection that writes, and how a batch of functions is committed through it. Of one thread."""

    def __init__(self, connection: Connection, clock: Callable[[], float]) -> None:
        self._stores = Stores(connection)
        self._raw = driver(connection)
        self._clock = clock
        self.commits = 0
        """How many transactions were committed, for figures and tests."""
        self.pending = False

    def commit(self, batch: list[Work]) -> None:
        """Carry *batch* out; afterwards each work holds its result or its error, and all that succeeded is durable."""
        if len(batch) > 1 and self._together(batch):
            return
        for number, work in enumerate(batch):
            if not self._begin(batch[number:]):
                return
            self._alone(work)

    def run(self, batch: list[Work], within_s: float) -> int:
        """Run functions of *batch* as one transaction, without waiting for anybody; stop beginning further ones after
        *within_s*. Returns how many ran. If ``pending``, they wait for :meth:`finish`; else they are over. 0: nothing
        happened, and it takes :meth:`commit` to find out what is in the way.
        """
        raw = self._raw
        changes = raw.total_changes
        alone = len(batch) == 1
        ran = 0
        try:
            raw.execute("PRAGMA busy_timeout = 0")
            try:
                raw.execute("BEGIN IMMEDIATE")
            finally:
                raw.execute(f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}")
            now, until = self._clock(), time.monotonic() + within_s
            for work in batch:
                if not alone:
                    raw.execute("SAVEPOINT work")
                work.attempt(self._stores, now)
                ran += 1
                if work.error is not None:
                    if unavailable(work.error):
                        raise work.error
                    raw.execute("ROLLBACK" if alone else "ROLLBACK TO work")
                if not alone:
                    raw.execute("RELEASE work")
                    if time.monotonic() > until:
                        break
            if not raw.in_transaction:  # taken back, by us or by one of them
                return ran if alone and batch[0].error is not None else 0
            self.pending = raw.total_changes != changes
            if not self.pending:
                raw.execute("COMMIT")  # of nothing: no disk is waited for
        except (sqlite3.Error, DBAPIError):
            self._rollback()
            return 0
        return ran

    def finish(self, works: list[Work]) -> None:
        """Commit what :meth:`run` left pending; afterwards as after :meth:`commit`."""
        self.pending = False
        try:
            self._raw.execute("COMMIT")
        except sqlite3.Error:
            self._rollback()
            self.commit(works)
        else:
            self.commits += 1

    def _begin(self, works: list[Work]) -> bool:
        """False: nobody can write now, which all *works* hear at once; one by one each would wait its turn anew."""
        try:
            self._raw.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            for work in works:
                work.fail(error)
                _explain(work)
            return False
        return True

    def _alone(self, work: Work) -> None:
        try:
            work.attempt(self._stores, self._clock())
            if work.error is None:
                self._raw.execute("COMMIT")
                self.commits += 1
            else:
                self._rollback()
        except sqlite3.Error as error:
            self._rollback()
            work.fail(error)
        _explain(work)

    def _together(self, batch: list[Work]) -> bool:
        """False: nothing of it happened, it is not known whose fault that is, and each has to run alone."""
        if not self._begin(batch):
            return True
        try:
            now = self._clock()
            for work in batch:
                self._raw.execute("SAVEPOINT work")
                work.attempt(self._stores, now)
                if work.error is not None:
                    # A full disk and the like end the whole transaction, savepoints and all: the next line raises.
                    self._raw.execute("ROLLBACK TO work")
                    if unavailable(work.error):
                        raise work.error
                self._raw.execute("RELEASE work")
            self._raw.execute("COMMIT")
        except (sqlite3.Error, DBAPIError):
            self._rollback()
            return False
        self.commits += 1
        return True

    def close(self) -> None:
        self._stores.connection.close()

    def _rollback(self) -> None:
        if self._raw.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # it is over already, which is what we want
                self._raw.execute("ROLLBACK")


def read(stores: Stores, work: Work, clock: Callable[[], float]) -> None:
    """Run *work* on one snapshot of the file."""
    raw = driver(stores.connection)
    try:
        raw.execute("BEGIN")
        try:
            work.attempt(stores, clock())
        finally:
            _leave(raw)
    except sqlite3.Error as error:
        work.fail(error)
    _explain(work)


def _leave(raw: sqlite3.Connection) -> None:
    """End a transaction that only read. An error of the disk may have ended it already, and is what is to be told."""
    if raw.in_transaction:
        raw.execute("ROLLBACK")


def _explain(work: Work) -> None:
    """Say in words of the domain when the machine is at fault."""
    if work.error is not None and (away := unavailable(work.error)) is not None:
        away.__cause__ = work.error
        work.fail(away)


def migrate(url: str, *, busy_s: float = BUSY_S) -> None:
    """Create the file if need be and bring its tables up to date. Raises: DatabaseTooNew, Unavailable."""
    path = path_of(url)
    try:
        # Hashes of passwords are in it: nobody else's to read, whatever the umask says.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise Unavailable(f"database: {path}: {error.strerror}") from error
    with _connected(engine_for(path, busy_s=busy_s)) as connection:
        raw = driver(connection)
        raw.execute("BEGIN IMMEDIATE")  # a second server that starts now waits here
        try:
            migrate_connection(connection)
        except BaseException:
            raw.execute("ROLLBACK")
            raise
        raw.execute("COMMIT")


def path_of(url: str) -> str:
    path = make_url(url).database
    if not path or path == ":memory:":
        raise Invalid("database: sqlite:///<path> needs the path of a file")
    return str(Path(path).absolute())


@contextlib.contextmanager
def _connected(engine: Engine) -> Iterator[Connection]:
    """A connection; what goes wrong with the machine is raised as Unavailable."""
    try:
        with engine.connect() as connection:
            yield connection
    except (DBAPIError, sqlite3.Error) as error:
        away = unavailable(error)
        if away is None:
            raise
        raise away from error


class SqliteDatabase(ThreadedDatabase):
    """Implements ``ports.stores.Database``."""

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop, *, clock: Callable[[], float], readers: int) -> None:
        super().__init__(loop)
        self._clock = clock
        self._reading: Jobs = queue.SimpleQueue()
        self._writer_engine = engine_for(path)
        self._reader_engine = engine_for(path, query_only=True)
        self.writer: Writer | None = None
        self._waiting: deque[Work] = deque()
        self._planned = False
        """A turn of writing is about to come."""
        self._away = False
        """The writer's thread has the connection."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._writing: queue.SimpleQueue[tuple[list[Work], bool] | None] = queue.SimpleQueue()
        self._writer_thread = threading.Thread(target=self._write_loop, name="database-writer", daemon=True)
        self._writer_thread.start()
        # Never waits for a lock: what does is for the threads.
        self._here_engine = engine_for(path, query_only=True, busy_s=0.0)
        self._here: Stores | None = None
        for number in range(readers):
            self._spawn(f"database-reader-{number}", self._read_loop, self._reading)

    @classmethod
    async def open(cls, url: str, *, clock: Callable[[], float], readers: int) -> "SqliteDatabase":
        if sqlite3.sqlite_version_info < OLDEST:
            raise Unavailable(f"database: SQLite {sqlite3.sqlite_version} is too old, 3.37 or newer is needed")
        await asyncio.to_thread(migrate, url)
        return cls(path_of(url), asyncio.get_running_loop(), clock=clock, readers=max(readers, 1))

    async def write(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._closed:
            raise Unavailable("database: closed")
        future = self._loop.create_future()
        self._waiting.append(Work(bind(fn, args, kwargs), future, read_only=False, brief=is_brief(fn)))
        self._idle.clear()
        self._plan()
        result: R = await future
        return result

    async def read(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R
        if is_brief(fn) and not self._closed:
            try:
                return self._read_here(fn, *args, **kwargs)
            except (sqlite3.Error, DBAPIError) as error:
                # A thread has the time to wait, or finds out that it is of no use.
                if unavailable(error) is None:
                    raise
        result = await self._submit(self._reading, bind(fn, args, kwargs), read_only=True)
        return result

    def _read_here(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._here is None:
            self._here = Stores(self._here_engine.connect())
            self._here_raw = driver(self._here.connection)
        raw = self._here_raw
        raw.execute("BEGIN")
        try:
            return fn(Transaction(self._here, self._clock()), *args, **kwargs)
        finally:
            _leave(raw)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._idle.wait()
        # The writer last: who closes last folds the log into the file, and only the writer may do that.
        if self._here is not None:
            self._here.connection.close()
        await self._close(self._threads)
        self._writing.put(None)
        await asyncio.to_thread(self._writer_thread.join)

    # -- writing: on the loop

    def _plan(self) -> None:
        """A turn soon, and not at once: whoever else wants to write in this round of the loop is part of it."""
        if self._waiting and not self._planned and not self._away:
            self._planned = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._planned = False
        brief = self._waiting[0].brief and self.writer is not None
        batch: list[Work] = []
        while self._waiting and len(batch) < BATCH and (not brief or self._waiting[0].brief):
            batch.append(self._waiting.popleft())
        ran = 0
        if brief and self.writer is not None:
            ran = self.writer.run(batch, TURN_S)
            self._waiting.extendleft(reversed(batch[ran:] if ran else ()))
            batch = batch[:ran] if ran else batch
            if ran and not self.writer.pending:
                self._settle(batch)
                return
        self._away = True
        self._writing.put((batch, ran > 0))

    def _returned(self, works: list[Work]) -> None:
        self._away = False
        self._settle(works)

    def _settle(self, works: list[Work]) -> None:
        settle(self._loop, works)
        # After those who were given their results have been on: what they write now goes along.
        self._plan()
        if not self._waiting:
            self._idle.set()

    # -- threads

    def _write_loop(self) -> None:
        while (order := self._writing.get()) is not None:
            batch, begun = order
            try:
                if self.writer is None:
                    self.writer = Writer(self._writer_engine.connect(), self._clock)
                if begun:
                    self.writer.finish(batch)
                else:
                    self.writer.commit(batch)
            except (sqlite3.Error, DBAPIError) as error:  # no connection: the next batch tries again
                for work in batch:
                    work.fail(unavailable(error) or error)
            except Exception as error:  # the edge of this thread
                self._surprise(batch, error)
                if self.writer is not None:
                    self.writer.close()
                    self.writer = None
            # Where the loop was closed over our head nobody waits any more. What is committed stays committed.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._returned, batch)
        if self.writer is not None:
            self.writer.close()

    def _read_loop(self, jobs: Jobs) -> None:
        stores: Stores | None = None
        while (work := jobs.get()) is not None:
            try:
                if stores is None:
                    stores = Stores(self._reader_engine.connect())
                read(stores, work, self._clock)
            except (sqlite3.Error, DBAPIError) as error:
                work.fail(unavailable(error) or error)
            except Exception as error:  # the edge of this thread
                self._surprise([work], error)
                if stores is not None:
                    stores.connection.close()
                    stores = None
            self._door.deliver([work])
        if stores is not None:
            stores.connection.close()
