"""Opening a database, and what both kinds share: the transaction that functions get, and the way back to the loop.

A transaction is a plain function; database threads run it (``sqlite``, ``postgres``). The event loop's thread never
touches a connection, a database thread never touches what belongs to the loop but through :class:`Door`.
"""

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from cador.domain.errors import Invalid, Unavailable
from cador.ports.stores import Database, Tx
from cador.storage.admission import AdmissionQueue
from cador.storage.audit import Audit
from cador.storage.commands import Commands
from cador.storage.commits import Commits
from cador.storage.deliveries import Deliveries
from cador.storage.errors import DatabaseTooNew, OutcomeUnknown
from cador.storage.executions import Executions
from cador.storage.homes import Homes
from cador.storage.housekeeping import Housekeeping
from cador.storage.meta import Meta
from cador.storage.outlook import Outlook
from cador.storage.people import People
from cador.storage.replicas import Replicas
from cador.storage.resources import Resources
from cador.storage.tasks import Tasks
from cador.storage.tickets import Tickets
from cador.storage.workflows import Workflows

__all__ = ["DatabaseTooNew", "OpenDatabase", "OutcomeUnknown", "migrate", "open_database"]

P = ParamSpec("P")
R = TypeVar("R")


class OpenDatabase(Database, Protocol):
    """A database somebody has to close."""

    async def close(self) -> None:
        """Finish what was given, then end threads and connections."""


async def open_database(
    url: str, *, clock: Callable[[], float] | None = None, readers: int = 3, pool: int = 8
) -> OpenDatabase:
    """Bring the tables up to date and open the database for the running event loop.

    *url*: ``sqlite:///<path>`` or ``postgresql://...``. *clock*: Unix seconds, for tests; by default the host's on
    SQLite and the server's own on PostgreSQL. *readers*: reading threads beside SQLite's one writer; *pool*: threads,
    each with a connection, on PostgreSQL.

    Raises: Invalid: no such kind of URL. DatabaseTooNew. Unavailable.
    """
    if kind_of(url) == "sqlite":
        from cador.storage.sqlite import SqliteDatabase

        return await SqliteDatabase.open(url, clock=clock or time.time, readers=readers)
    # Loaded only here: an embedded server pays neither time nor memory for it.
    from cador.storage.postgres import PostgresDatabase

    return await PostgresDatabase.open(url, clock=clock, pool=pool)


def migrate(url: str) -> None:
    """Bring the tables up to date, without opening the database. Blocks.

    Raises: Invalid, DatabaseTooNew, Unavailable.
    """
    if kind_of(url) == "sqlite":
        from cador.storage import sqlite

        sqlite.migrate(url)
    else:
        from cador.storage import postgres

        postgres.migrate(url)


def kind_of(url: str) -> str:
    """``sqlite`` or ``postgresql``. Raises: Invalid."""
    try:
        kind = make_url(url).get_backend_name()
    except (ArgumentError, ValueError) as error:  # ValueError: of a port that is no number
        raise Invalid("database: the URL must look like sqlite:///<path> or postgresql://<host>/<name>") from error
    if kind == "postgres":  # an older spelling that hosting services still hand out
        return "postgresql"
    if kind not in ("sqlite", "postgresql"):
        raise Invalid(f"database: {kind} is not supported, use sqlite:///<path> or postgresql://<host>/<name>")
    return kind


class Stores:
    """The stores of one connection; they hold no state of a transaction."""

    __slots__ = (
        "admission", "commands", "commits", "connection", "deliveries", "executions", "homes", "housekeeping", "meta",
        "outlook", "people", "replicas", "resources", "tasks", "tickets", "workflows",
    )  # fmt: skip

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.workflows = Workflows(connection)
        self.tasks = Tasks(connection)
        self.commands = Commands(connection)
        self.executions = Executions(connection)
        self.admission = AdmissionQueue(connection)
        self.resources = Resources(connection)
        self.people = People(connection)
        self.outlook = Outlook(connection)
        self.commits = Commits(connection)
        self.deliveries = Deliveries(connection)
        self.tickets = Tickets(connection)
        self.replicas = Replicas(connection)
        self.homes = Homes(connection)
        self.housekeeping = Housekeeping(connection)
        self.meta = Meta(connection)


class Transaction:
    """What a transaction function gets. ``connection`` is for migrations, backups and tests of this package."""

    __slots__ = ("_asked", "_audit", "_now", "_stores", "calls")

    def __init__(self, stores: Stores, now: float | Callable[[], tuple[float, float]]) -> None:
        """*now*: Unix seconds. A function that tells it with the same moment of the monotonic clock, where it has to be
        asked for and the transaction may wait for others; else it is over in an instant."""
        self._stores, self._now = stores, now
        self._asked: float | None = None
        self._audit: Audit | None = None
        self.calls: list[Callable[[], None]] = []

    @property
    def connection(self) -> Connection:
        return self._stores.connection

    @property
    def now(self) -> float:
        if callable(self._now):
            self._now, self._asked = self._now()
        return self._now

    @property
    def later(self) -> float:
        now = self.now
        return now if self._asked is None else now + time.monotonic() - self._asked

    @property
    def workflows(self) -> Workflows:
        return self._stores.workflows

    @property
    def tasks(self) -> Tasks:
        return self._stores.tasks

    @property
    def commands(self) -> Commands:
        return self._stores.commands

    @property
    def executions(self) -> Executions:
        return self._stores.executions

    @property
    def admission(self) -> AdmissionQueue:
        return self._stores.admission

    @property
    def resources(self) -> Resources:
        return self._stores.resources

    @property
    def people(self) -> People:
        return self._stores.people

    @property
    def outlook(self) -> Outlook:
        return self._stores.outlook

    @property
    def tickets(self) -> Tickets:
        return self._stores.tickets

    @property
    def deliveries(self) -> Deliveries:
        return self._stores.deliveries

    @property
    def commits(self) -> Commits:
        return self._stores.commits

    @property
    def replicas(self) -> Replicas:
        return self._stores.replicas

    @property
    def homes(self) -> Homes:
        return self._stores.homes

    @property
    def housekeeping(self) -> Housekeeping:
        return self._stores.housekeeping

    @property
    def audit(self) -> Audit:
        if self._audit is None:
            self._audit = Audit(self._stores.connection)
        return self._audit

    @property
    def meta(self) -> Meta:
        return self._stores.meta

    def after_commit(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def finish(self) -> None:
        """The function has returned: write what belongs to the end of the transaction."""
        if self._audit is not None:
            self._audit.finish()


class Work:
    """One transaction on its way: the function bound to its arguments, who waits for it, and what came of it."""

    __slots__ = ("brief", "calls", "error", "future", "read_only", "result", "run")

    def __init__(
        self, run: Callable[[Tx], Any], future: "asyncio.Future[Any]", *, read_only: bool, brief: bool = False
    ) -> None:
        self.run = run
        self.brief = brief
        self.future = future
        self.read_only = read_only
        self.result: Any = None
        self.error: BaseException | None = None
        self.calls: list[Callable[[], None]] = []

    def attempt(self, stores: Stores, now: float | Callable[[], tuple[float, float]]) -> None:
        """Run the function once; what it raises is kept for its caller."""
        transaction = Transaction(stores, now)
        self.result, self.error = None, None
        self.calls = transaction.calls
        try:
            self.result = self.run(transaction)
            transaction.finish()
        except Exception as error:  # whatever it is: it aborts the transaction and belongs to its caller
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        if isinstance(error, StopIteration):  # a future refuses it
            error = RuntimeError(f"a transaction raised {error!r}")
        self.result, self.error, self.calls = None, error, []


class Door:
    """The way from the database threads back to the event loop: however much comes at once, the loop is woken once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._done: deque[Work] = deque()
        self._knocked = False

    def deliver(self, works: "list[Work]") -> None:
        """Hand over finished *works*: first their calls after the commit, then their results, in order."""
        with self._lock:
            self._done.extend(works)
            if self._knocked:
                return
            self._knocked = True
        try:
            self._loop.call_soon_threadsafe(self._open)
        except RuntimeError:
            # The loop was closed over our head: nobody waits any more. What is committed stays committed.
            return

    def _open(self) -> None:
        with self._lock:
            works, self._done = self._done, deque()
            self._knocked = False
        settle(self._loop, works)


def settle(loop: asyncio.AbstractEventLoop, works: Iterable[Work]) -> None:
    """On the loop: make the calls after the commit of finished *works*, then give their results, in order."""
    for work in works:
        for call in work.calls:
            # Each on its own: one that raises goes to the loop's handler and keeps nothing else from happening.
            loop.call_soon(call)
        if work.future.done():  # its caller was cancelled and does not wait any more
            continue
        if work.error is None:
            work.future.set_result(work.result)
        else:
            work.future.set_exception(work.error)


log: Final = structlog.get_logger(__name__)

_END: Final = None
"""In a queue: no more work comes."""

ANSWER_S: Final = 40.0
"""How long a caller waits for a database that neither answers nor refuses; more than one statement may take."""


def _give_up(future: "asyncio.Future[Any]", read_only: bool) -> None:
    """The work itself stays with its thread: it may still be done."""
    if not future.done():
        text = f"database: no answer within {ANSWER_S:.0f} s"
        future.set_exception(Unavailable(text) if read_only else OutcomeUnknown(text))


Jobs = queue.SimpleQueue[Work | None]
"""Its length is bounded by the number of callers: each waits for its own work."""


class ThreadedDatabase:
    """Queues of work and the threads that do it. A subclass says what its threads do."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._door = Door(loop)
        self._threads: list[tuple[threading.Thread, Jobs]] = []
        self._closed = False

    def _spawn(self, name: str, target: Callable[[Jobs], None], jobs: Jobs) -> None:
        thread = threading.Thread(target=target, args=(jobs,), name=name, daemon=True)
        self._threads.append((thread, jobs))
        thread.start()

    async def _submit(self, jobs: Jobs, run: Callable[[Tx], Any], *, read_only: bool) -> Any:
        if self._closed:
            raise Unavailable("database: closed")
        future = self._loop.create_future()
        limit = self._loop.call_later(ANSWER_S, _give_up, future, read_only)
        jobs.put(Work(run, future, read_only=read_only))
        try:
            return await future
        finally:
            limit.cancel()

    def _surprise(self, works: "list[Work]", error: BaseException) -> None:
        """What no rule foresees must not end a thread: its callers hear of it, and so does the log."""
        log.error("database_thread_surprised", error=repr(error), exc_info=error)
        for work in works:
            work.fail(error)

    async def _close(self, threads: "list[tuple[threading.Thread, Jobs]]") -> None:
        """End *threads* after all that was given to them is done."""
        for _, jobs in threads:
            jobs.put(_END)
        for thread, _ in threads:
            await asyncio.to_thread(thread.join)


def bind(fn: Callable[Concatenate[Any, P], R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[Tx], R]:
    """*fn* as a function of its transaction alone."""
    if not args and not kwargs:
        return fn

    def run(tx: Tx) -> R:
        return fn(tx, *args, **kwargs)

    return run
