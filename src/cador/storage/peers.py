"""Membership on PostgreSQL: a session advisory lock proves that a server lives, a heartbeat that it is not frozen.

One thread and one connection of their own, direct and never through a pooler: it listens, tells, says that we live, and
tries the others' locks. Whose lock it gets is dead; what the dead one owned is released, and its row removed, in one
transaction. A server whose heartbeat is overdue is treated the same although it holds its lock: it is fenced, because
every write of an owner names it, and its own lease has run out before anybody may do that.
"""

import asyncio
import contextlib
import json
import os
import select
import threading
import time
import uuid
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import psycopg
import structlog
from psycopg import errors as pg
from sqlalchemy.exc import DBAPIError

from cador.domain.errors import Unavailable
from cador.ports.peers import Heard, Replica
from cador.storage.database import Stores
from cador.storage.postgres import cause_of, connect, discard, driver, engine_for, unavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection

PROBE_S: Final = 0.5
"""How often the others' locks are tried."""
TELL_S: Final = 0.003
"""How long news are collected before they are sent together."""
CHANNEL: Final = "cador"
MOST_TASKS: Final = 500
"""Ids in one message, which may have 8,000 bytes."""
TIMEOUT_S: Final = 60.0
RELEASE_S: Final = 1.0
"""How long a release waits at most for rows that others hold; less where the time-out is short."""
_IN_THE_WAY: Final = (pg.LockNotAvailable, pg.DeadlockDetected, pg.SerializationFailure)
_ROOM: Final = 0x63616472
"""High half of the keys of all session locks, so that they are nobody else's."""

log = structlog.get_logger(__name__)


class PostgresPeers:
    """Implements ``ports.peers.Peers``.

    *place*, *address*, *home*: of this server, for its row. *timeout_s*: after how many seconds without a heartbeat a
    server is declared dead; its own lease is three quarters of that, a beat comes every twelfth.
    """

    alone = False

    def __init__(
        self, url: str, *, place: str, address: str = "", home: str = "", timeout_s: float = TIMEOUT_S
    ) -> None:
        self._url, self.place, self._address, self._home = url, place, address, home
        self._timeout_s = timeout_s
        self._term: _Term | None = None
        # Of its own: the threads for everything else may all be waiting for a store or a server that is away.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="membership")
        self._heard: Heard = lambda tasks, work: None

    async def join(self) -> str:
        if self._term is not None:
            await self._in_thread(self._term.end)
        term = _Term(self, uuid.uuid4().hex, asyncio.get_running_loop())
        try:
            await self._in_thread(term.begin)
        except (psycopg.Error, DBAPIError) as error:
            raise unavailable(error) or Unavailable(f"database: cannot join the other servers: {error}") from error
        self._term = term
        return term.me

    async def lost(self) -> str:
        assert self._term is not None, "not a member"  # noqa: S101 - a mistake of the caller
        return await asyncio.shield(self._term.over)

    def holds(self) -> bool:
        return self._term is not None and self._term.holds()

    async def leave(self) -> None:
        term, self._term = self._term, None
        if term is not None:
            await self._in_thread(term.end)

    async def _in_thread(self, call: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def listen(self, heard: Heard) -> None:
        self._heard = heard

    def tell(self, tasks: Collection[int], *, work: bool) -> None:
        if self._term is not None:
            self._term.tell(tasks, work=work)


@dataclass(slots=True)
class _News:
    """What is to be told next."""

    tasks: set[int]
    work: bool = False

    def __bool__(self) -> bool:
        return self.work or bool(self.tasks)


class _Term:
    """One membership: from the lock to its loss. All but ``tell`` and ``holds`` happens in its thread."""

    def __init__(self, peers: PostgresPeers, me: str, loop: asyncio.AbstractEventLoop) -> None:
        self._peers, self.me, self._loop = peers, me, loop
        self._timeout_s = peers._timeout_s
        self.over: asyncio.Future[str] = loop.create_future()
        self._connection: Connection | None = None
        self._thread: threading.Thread | None = None
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._news = _News(set())
        self._said: list[str | bytes] = []
        """What the others told and nobody heard yet."""
        self._ending = False
        self._broken = False
        self._lapsed = False
        """Somebody was told that nothing is held any more: there is no way back from that."""
        self._beat_at = 0.0
        """When the last heartbeat that arrived was sent, on a clock that goes on while the machine sleeps."""

    # -- of the event loop's thread

    def holds(self) -> bool:
        if _clock() - self._beat_at >= 0.75 * self._timeout_s:
            self._lapsed = True
        return not (self._broken or self._lapsed)

    def tell(self, tasks: Collection[int], *, work: bool) -> None:
        with self._lock:
            first = not self._news
            self._news.tasks.update(tasks)
            self._news.work = self._news.work or work
        if first:
            self._ring()

    def _ring(self) -> None:
        # Under the lock: a number that was closed may be another file by now.
        with self._lock, contextlib.suppress(OSError):  # full: it is awake already; -1: it is over
            os.write(self._waker, b"!")

    # -- beginning and end

    def begin(self) -> None:
        """Blocks. Raises: errors of the driver, Unavailable."""
        try:
            self._connection = connect(engine_for(self._peers._url))
            raw = driver(self._connection)
            # The driver reads news along with the answer to any statement; without this it would keep them for ever.
            raw.add_notify_handler(lambda one: self._said.append(one.payload))
            raw.execute("SELECT pg_advisory_lock(%s)", (_key(self.me),))
            raw.execute(f"LISTEN {CHANNEL}")
            began = _clock()
            now = self._now()
            row = Replica(self.me, self._peers.place, self._peers._address, now, now, self._peers._home)
            self._transact(lambda stores: stores.replicas.add(row))
            self._beat_at = began
            self._look()
        except BaseException:
            if self._connection is not None:
                discard(self._connection)
            self._close_pipe()
            raise
        self._thread = threading.Thread(target=self._run, name="peers", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Leave in good order, if there is still somebody to tell. Blocks."""
        self._ending = True
        self._ring()
        if self._thread is not None:
            self._thread.join()

    def _close_pipe(self) -> None:
        with self._lock:
            os.close(self._wake)
            os.close(self._waker)
            self._wake = self._waker = -1

    # -- the thread

    def _run(self) -> None:
        reason = "it left"
        try:
            self._keep()
            self._depart()
        except _DeclaredDead:
            reason = "the others took it for dead"
        except _LeaseRanOut:
            reason = "it was stopped for longer than its lease"
        except (psycopg.Error, DBAPIError, Unavailable) as error:
            reason = f"the connection that proves that it lives is gone: {str(error).strip().splitlines()[0]}"
        except Exception as error:  # the edge of this thread
            log.exception("membership_failed", error=repr(error))
            reason = f"an error of its own: {error!r}"
        finally:
            self._broken = True
            if self._connection is not None:
                discard(self._connection)
            self._close_pipe()
            self._call(self._told_over, reason)

    def _told_over(self, reason: str) -> None:
        if not self.over.done():
            self.over.set_result(reason)

    def _call(self, call: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is interested any more
            self._loop.call_soon_threadsafe(call, *args)

    def _keep(self) -> None:
        """Listen, tell, look and beat until told to end."""
        assert self._connection is not None  # noqa: S101 - it began
        raw = driver(self._connection)
        poll = select.poll()
        poll.register(raw.fileno(), select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        look_at = _clock() + PROBE_S
        sweep_at = _clock()
        while not self._ending:
            poll.poll(0 if self._said else max(0.0, look_at - _clock()) * 1000)
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
            self._hear(raw)
            if self._news:
                time.sleep(TELL_S)  # whatever comes together goes together
                self._send(raw)
            now = _clock()
            if not self.holds():
                # What was asked about meanwhile has been let go of, and only the end of the membership frees it.
                raise _LeaseRanOut
            if now - self._beat_at >= self._timeout_s / 12:
                self._beat(now)
            if now >= look_at:
                if now >= sweep_at:
                    sweep_at = now + 10 * PROBE_S
                    self._release(_release_unknown)
                self._look()
                look_at = _clock() + PROBE_S

    def _hear(self, raw: "psycopg.Connection[Any]") -> None:
        raw.pgconn.consume_input()
        while (one := raw.pgconn.notifies()) is not None:
            self._said.append(one.extra)
        heard, self._said = self._said, []
        tasks: set[int] = set()
        work = False
        for text in heard:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # not of ours
                said = json.loads(text)
                if said["from"] != self.me:
                    tasks.update(map(int, said["tasks"]))
                    work = work or bool(said["work"])
        if tasks or work:
            self._call(self._peers._heard, frozenset(tasks), work)

    def _send(self, raw: "psycopg.Connection[Any]") -> None:
        with self._lock:
            news, self._news = self._news, _News(set())
        tasks = sorted(news.tasks)
        for start in range(0, max(len(tasks), 1), MOST_TASKS):
            said = {"from": self.me, "tasks": tasks[start : start + MOST_TASKS], "work": news.work}
            raw.execute("SELECT pg_notify(%s, %s)", (CHANNEL, json.dumps(said)))

    def _beat(self, now: float) -> None:
        seen = self._now()
        if not self._transact(lambda stores: stores.replicas.beat(self.me, seen)):
            raise _DeclaredDead
        self._beat_at = now

    def _look(self) -> None:
        """Release what the dead have left."""
        assert self._connection is not None  # noqa: S101 - it began
        raw = driver(self._connection)
        now = self._now()
        freed = False
        for one in Stores(self._connection).replicas.list_replicas():
            if _clock() - self._beat_at >= self._timeout_s / 4:
                break  # our own sign of life comes first, the rest with the next look
            if one.id == self.me:
                continue
            row = raw.execute("SELECT pg_try_advisory_lock(%s)", (_key(one.id),)).fetchone()
            locked = row is not None and bool(row[0])
            if not locked and now - one.seen_at < self._timeout_s:
                continue
            try:
                # Two steps: whoever looks after the first one knows that it is over, and what it took on before is
                # seen by the second.
                if self._release(partial(_condemn, gone=one.id)) is None:
                    continue
                taken = self._release(partial(_take_over, gone=one.id))
                if taken is None:
                    continue
                freed = taken or freed
                log.info("server_gone", id=one.id, place=one.place, frozen=not locked)
            finally:
                if locked:
                    raw.execute("SELECT pg_advisory_unlock(%s)", (_key(one.id),))
        if freed:
            self.tell((), work=True)
            self._call(self._peers._heard, frozenset(), True)

    def _depart(self) -> None:
        self._transact(partial(_take_over, gone=self.me))
        assert self._connection is not None  # noqa: S101 - it began
        self._news = _News(set(), work=True)
        self._send(driver(self._connection))

    # -- statements

    def _now(self) -> float:
        assert self._connection is not None  # noqa: S101 - it began
        row = driver(self._connection).execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        return float(row[0])

    def _release(self, fn: Callable[[Stores], Any]) -> bool | None:
        """Carry out *fn*, which frees what others own. None: somebody holds some of it - a frozen server in the middle
        of a transaction, or one who does the same - and the next look tries again. Waiting would cost our own
        membership, and that of all others who wait for the same."""
        try:
            return bool(self._transact(fn, wait_s=min(RELEASE_S, self._timeout_s / 6)))
        except (psycopg.Error, DBAPIError) as error:
            if not isinstance(cause_of(error), _IN_THE_WAY):
                raise
            log.info("release_put_off", error=str(cause_of(error)).strip().partition("\n")[0])
            return None

    def _transact(self, fn: Callable[[Stores], Any], wait_s: float | None = None) -> Any:
        """*wait_s*: for locks of others, if not as long as any statement."""
        assert self._connection is not None  # noqa: S101 - it began
        raw = driver(self._connection)
        brief = f"; SET LOCAL lock_timeout = {max(1, int(wait_s * 1000))}" if wait_s is not None else ""
        raw.execute(f"BEGIN{brief}", prepare=False)
        try:
            result = fn(Stores(self._connection))
        except BaseException:
            with contextlib.suppress(psycopg.Error):
                raw.execute("ROLLBACK", prepare=False)
            raise
        raw.execute("COMMIT", prepare=False)
        return result


class _DeclaredDead(Exception):
    pass


class _LeaseRanOut(Exception):
    pass


def _condemn(stores: Stores, gone: str) -> bool:
    """From now on *gone* is no member, though its row is still there. False: it is not."""
    return stores.replicas.condemn(gone)


def _take_over(stores: Stores, gone: str) -> bool:
    """Release all that *gone* owns and remove its row. False: another server did, or there was nothing."""
    commands = stores.commands.release(gone)
    executions = stores.executions.release(gone)
    removed = stores.replicas.remove(gone)
    return removed or bool(commands + executions)


def _release_unknown(stores: Stores) -> None:
    stores.commands.release_unknown()
    stores.executions.release_unknown()


def _key(member: str) -> int:
    """The key of a member's session lock."""
    return _ROOM << 32 | int(member[:8], 16)


def _clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
