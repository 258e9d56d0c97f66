"""The engine of one server process: owns the tree of tasks, the claims and the room for executions."""

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import structlog

from cador.domain.errors import Unavailable
from cador.domain.sharing import QueueLimits
from cador.engine.delivering import Deliverer, FanOut
from cador.engine.executions import Executions
from cador.engine.handlers import Handlers
from cador.engine.hearing import Claim, Fenced, NotHere, Outcome
from cador.engine.housekeeping import Housekeeping, Retention
from cador.engine.preparing import Loaded, Preparer
from cador.ports.actions import Action
from cador.ports.blobs import BlobStore
from cador.ports.clock import Clock
from cador.ports.deliveries import Courier
from cador.ports.executor import Executor
from cador.ports.logs import LogStore
from cador.ports.metrics import Meter, SilentMeter
from cador.ports.peers import Peers
from cador.ports.stores import HERE, CommandRow, Database, Tx, brief

log = structlog.get_logger(__name__)
R = TypeVar("R")

SWEEP_S = 5.0
"""How long the dispatcher sleeps at most: what nobody woke it for is found then."""
RESERVE = 2
"""Starts reserved for an ordinary transaction; what it does not use is given back after its commit. More than that is
left to the dispatcher, so that many transactions at once do not hold back room that none of them uses."""
BATCH = 64
RECLAIM_STEP_S = 0.05
AWAY_S = 1.0
"""Pause before the database is asked again after it was away."""
LAG_SAMPLE_S = 5.0
ELSEWHERE_S = 0.2
"""Pause before a command that another machine has to carry out is offered again."""
SET_BACK_S = 1.0
"""A clock that goes back by less is only being corrected."""
MAX_TRIES = 6
"""Infrastructure errors of one command before its job fails with the reason."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_running_tasks``: tasks that hold a slot, over all processes; ``max_jobs``: executions of this process;
    ``max_per_project``, ``max_per_user``: tasks of one of them that hold a slot, 0 for any number. What counts of those
    of tasks is what the admission row says, and these where it says nothing."""

    max_running_tasks: int
    max_jobs: int
    max_per_project: int = 0
    max_per_user: int = 0

    @property
    def queue(self) -> QueueLimits:
        return QueueLimits(self.max_running_tasks, self.max_per_project, self.max_per_user)


class Room:
    """The room one execution takes among those of this process. Freed once, as soon as its processes are gone."""

    def __init__(self, engine: "Engine") -> None:
        self._engine: Engine | None = engine

    def free(self) -> None:
        if self._engine is not None:
            engine, self._engine = self._engine, None
            engine.freed()


class Engine:
    """Carries out commands and follows executions until cancelled.

    ``transact`` is the one way to change tasks: it reserves room, runs the function as one transaction, and takes on
    what it caused. Work that is lost with the process is found again in the tables by the next one.
    """

    def __init__(
        self,
        *,
        peers: Peers,
        installation: str,
        db: Database,
        clock: Clock,
        logs: LogStore,
        blobs: BlobStore,
        executors: Mapping[str, Executor],
        preparer: Preparer,
        limits: Callable[[], Limits],
        stop_grace_s: float = 1.5,
        max_artifact_bytes: int = 2 << 30,
        lost_after_s: float = 60.0,
        couriers: Mapping[str, Courier] | None = None,
        actions: Mapping[str, Action] | None = None,
        meter: Meter | None = None,
        home: str = "",
        retention: Callable[[], Retention] | None = None,
    ) -> None:
        """*couriers*: by the kind of receivers they speak to. *actions*: by name, what jobs ask for when
        their processes have ended. *home*, *retention*: see :class:`Housekeeping`."""
        self._peers = peers
        self._me = ""
        self.meter: Meter = meter or SilentMeter()
        self._db, self._clock = db, clock
        self._limits = limits
        self._fan_out = FanOut(couriers) if couriers else None
        self._load = preparer.load
        self._renew = preparer.renew
        self._busy = 0
        self._short = False
        self._wake = asyncio.Event()
        self._free = asyncio.Event()
        self._sleep_until = 0.0
        self._soonest = math.inf
        self._seen: tuple[float, float] | None = None
        self._writes = 0
        self._writing: set[int] = set()
        self._hands: set[int] = set()
        self._reclaiming = False
        # Who waits holds the event; when nobody does any more it is gone, however many tasks were looked at.
        self._changes: WeakValueDictionary[int, asyncio.Event] = WeakValueDictionary()
        self._group: asyncio.TaskGroup | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        self._work: set[asyncio.Task[None]] = set()
        self.turned_at = 0.0
        self.executions = Executions(
            self,
            installation=installation,
            clock=clock,
            logs=logs,
            blobs=blobs,
            executors=executors,
            preparer=preparer,
            stop_grace_s=stop_grace_s,
            max_artifact_bytes=max_artifact_bytes,
            lost_after_s=lost_after_s,
            home=home,
            actions=actions,
        )
        self.housekeeping = Housekeeping(self, logs=logs, blobs=blobs, home=home, retention=retention)
        deliverer = Deliverer(self, couriers or {}, installation)
        self._handlers = Handlers(self, self.executions, self.housekeeping, deliverer)

    # -- what operations know (operations.context.Waker)

    @property
    def me(self) -> str:
        """Under which id this process takes things on; empty while it is no member: then it takes on nothing."""
        return self._me

    @property
    def alone(self) -> bool:
        return self._peers.alone

    @property
    def place(self) -> str:
        """Machine and boot of this server; empty when it is alone."""
        return self._peers.place

    def holds(self, me: str) -> bool:
        """Whether what was taken on under the id *me* is certainly still ours. Asked before every act outside."""
        return me == self._me and self._peers.holds()

    @property
    def db(self) -> Database:
        return self._db

    @property
    def clock(self) -> Clock:
        return self._clock

    def room(self) -> int:
        return max(0, self._limits().max_jobs - self._busy)

    def max_jobs(self) -> int:
        """Executions of this process at once."""
        return self._limits().max_jobs

    def queue_limits(self) -> QueueLimits:
        """Of the settings; what the admission row says counts before them."""
        return self._limits().queue

    def wake(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    async def changed(self, task_id: int, timeout_s: float) -> bool:
        event = self._changes.setdefault(task_id, asyncio.Event())
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return False
        return True

    async def transact(self, fn: Callable[..., Outcome[R]], *args: Any, starts: int = RESERVE) -> R:
        """Run ``fn(tx, claim, *args)`` as one transaction, then carry out what it caused; at most *starts* executions
        at once, others follow by the dispatcher.

        Raises: whatever *fn* raises; nothing is changed then.
        """
        me = self._me
        reserved = min(self.room(), starts) if me and self._group is not None and not self._closing else 0
        self._busy += reserved
        claim = Claim(me, self.queue_limits(), reserved, self._fan_out, self._load, self._renew)
        taken = 0
        with self._write():
            try:
                outcome = await self._db.write(fn, claim, *args)
                taken = sum(row.kind == "start" for row in outcome.rows)
            finally:
                self._busy -= reserved - taken
            for row in outcome.rows:
                self._carry_out(row, outcome.loaded.get(row.id))
        self._announce(outcome.tasks)
        if not self._peers.alone and (outcome.tasks or outcome.short):
            self._peers.tell(outcome.tasks, work=outcome.short)
        for _, waited_s in outcome.admitted:
            self.meter.task_started(waited_s)
        for status, took_s in outcome.ended:
            self.meter.task_ended(status, took_s)
        if outcome.soonest is not None:
            self._expect(outcome.soonest)
        self._short = self._short or outcome.short
        if self._short and self.room():
            self._wake.set()
        return outcome.value

    @contextlib.contextmanager
    def _write(self) -> Iterator[None]:
        """Around a write that may claim commands. When its outcome does not arrive, it may have claimed some that
        nobody knows of."""
        self._writes += 1
        number = self._writes
        self._writing.add(number)
        try:
            yield
        except (Unavailable, asyncio.CancelledError):
            if self._me and not self._reclaiming and self._group is not None and not self._closing:
                self._reclaiming = True
                self.spawn("reclaim", self._reclaim, self._me, after=self._reclaimed)
            raise
        finally:
            self._writing.discard(number)

    def _expect(self, due_at: float) -> None:
        """The dispatcher looks again at *due_at* at the latest."""
        self._soonest = min(self._soonest, due_at)
        if due_at < self._sleep_until:
            self._wake.set()

    def _announce(self, tasks: tuple[int, ...]) -> None:
        for task_id in tasks:
            event = self._changes.pop(task_id, None)
            if event is not None:
                event.set()

    # -- room of executions

    def freed(self) -> None:
        """The room of one execution goes to the next start. For :class:`Room` alone."""
        self._busy -= 1
        if self._short:
            self._wake.set()

    def adopted(self) -> "Room":
        """An execution of an earlier process counts from now on; it may exceed the limit, nothing is stopped for it."""
        self._busy += 1
        return Room(self)

    @property
    def busy(self) -> int:
        return self._busy

    # -- running

    def spawn(
        self,
        name: str,
        work: Callable[..., Coroutine[Any, Any, None]],
        *args: Any,
        after: Callable[[], None] | None = None,
    ) -> None:
        """Add a child that runs ``work(*args)`` to the one tree of tasks of this process. *after* is called when it is
        over, also when it was cancelled before its first step."""
        if self._group is None or self._closing:
            if after is not None:
                after()
            return
        child = self._group.create_task(self._edge(name, work, *args), name=name)
        self._work.add(child)
        child.add_done_callback(self._work.discard)
        if after is not None:
            child.add_done_callback(lambda _: after())

    @staticmethod
    async def _edge(name: str, work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """One child's failure is told and ends there: it must not take the tree down. What it was about is still in
        the tables and found by the next process."""
        try:
            await work(*args)
        except Exception as error:
            log.exception("child_failed", child=name, error=repr(error))

    async def _for_ever(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run *work*, which never ends by itself; an error that nobody foresaw is told, and it begins anew."""
        while True:
            try:
                await work()
            except Exception as error:
                log.exception("keeper_failed", keeper=name, error=repr(error))
            await asyncio.sleep(AWAY_S)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take over what earlier processes left, then carry out commands until the block ends.

        Raises: Unavailable: the database was away at the beginning.
        """
        self._loop = asyncio.get_running_loop()
        self._peers.listen(self._heard)
        self._me = await self._peers.join()
        await self.housekeeping.arm()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self.executions.adopt_free(sweep=True)
                self.spawn("queue", self._handlers.look_at_queue)
                keepers = [
                    group.create_task(self._stay(), name="membership"),
                    group.create_task(self._for_ever("loop lag", self._measure_lag), name="loop lag"),
                ]
                try:
                    yield
                finally:
                    # Executions run on without us; the rows say where the next process goes on.
                    self._closing = True
                    for child in (*keepers, *self._work):
                        child.cancel()
        finally:
            self._group, self._me = None, ""
            with contextlib.suppress(Unavailable):
                await self._peers.leave()

    async def _stay(self) -> None:
        """Be a member as long as it lasts, and again under a new id: what was begun under the old one is left to
        whoever takes it over."""
        while True:
            self.spawn("dispatcher", self._for_ever, "dispatcher", self._dispatch)
            self.spawn("clearing", self._for_ever, "clearing", self.housekeeping.clear_for_ever)
            if not self._peers.alone:
                self.spawn("finder", self._for_ever, "finder", self._find_free)
            reason = await self._peers.lost()
            log.warning("membership_lost", reason=reason, id=self._me)
            self._me = ""
            abandoned = list(self._work)
            for child in abandoned:
                child.cancel()
            await asyncio.gather(*abandoned, return_exceptions=True)
            while True:
                try:
                    self._me = await self._peers.join()
                    await self.executions.adopt_free(sweep=True)
                except Unavailable as error:
                    log.warning("membership_refused", error=str(error))
                    await asyncio.sleep(AWAY_S)
                else:
                    break
            log.info("membership_renewed", id=self._me)

    def _heard(self, tasks: frozenset[int], work: bool) -> None:
        """What other servers tell."""
        self._announce(tuple(tasks))
        if work:
            self._wake.set()
            self._free.set()

    async def _find_free(self) -> None:
        """Adopt executions that lost their server, as soon as somebody tells of them, and at least now and then."""
        while True:
            self._free.clear()
            try:
                await self.executions.adopt_free()
            except Unavailable:
                await asyncio.sleep(AWAY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_S):
                    await self._free.wait()

    def _expected_now(self) -> float:
        """What the clock of the tables shows by now at least, unless it was set back; unknown at the beginning."""
        if self._seen is None:
            return math.inf
        shown, at = self._seen
        return shown + asyncio.get_running_loop().time() - at - SET_BACK_S

    async def _dispatch(self) -> None:
        while True:
            self.turned_at = self._clock.now()
            self._wake.clear()
            # What comes while the tables are being asked is noted here: their answer does not know of it.
            self._short, self._soonest = False, math.inf
            starts = self.room()
            self._busy += starts
            taken = 0
            try:
                with self._write():
                    try:
                        expected = self._expected_now()
                        rows, due_s, seen = await self._db.write(_claim_due, self._me, BATCH, starts, expected)
                        self._seen = seen, asyncio.get_running_loop().time()
                        taken = sum(row.kind == "start" for row in rows)
                    finally:
                        self._busy -= starts - taken
                    for row in rows:
                        self._carry_out(row)
            except Unavailable as error:
                log.warning("database_away", error=str(error))
                await asyncio.sleep(AWAY_S)
                continue
            # With all room taken, more starts may be due: whoever ends wakes us for them.
            self._short = self._short or taken == starts
            if len(rows) == BATCH or (self._short and self.room()):
                continue
            now = self._clock.now()
            pause = min(SWEEP_S, due_s, max(0.0, self._soonest - now))
            self._sleep_until = now + pause
            # Not wait_for, which may swallow a cancellation that comes in the same instant.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _reclaim(self, me: str) -> None:
        """Give back the commands that are ours in the tables and in nobody's hands: the write that claimed them was
        committed, and its reply never came. Twice, because a write that nobody waits for may still be under way."""
        for pause_s in (0.0, SWEEP_S):
            await asyncio.sleep(pause_s)
            while True:
                try:
                    suspects = await self._db.write(_owned, me) - self._hands
                    # Taken now: a write that began meanwhile may be among them, and its reply still on the way here.
                    under_way = set(self._writing)
                    while suspects and under_way & self._writing:  # noqa: ASYNC110 - rare, and writes have deadlines
                        await asyncio.sleep(RECLAIM_STEP_S)
                    if lost := suspects - self._hands:
                        await self._db.write(_give_back, me, lost)
                        log.info("commands_reclaimed", count=len(lost))
                        self._wake.set()
                except Unavailable:
                    await asyncio.sleep(AWAY_S)
                else:
                    break
            self._reclaimed()

    def _reclaimed(self) -> None:
        """From here on a new doubt begins anew."""
        self._reclaiming = False

    def _carry_out(self, row: CommandRow, loaded: Loaded | None = None) -> None:
        if self._group is None or self._closing or row.owner != self._me:
            # Claimed too late: the membership it was claimed under is over, and others take it.
            if row.kind == "start":
                self._busy -= 1
            return
        self._hands.add(row.id)
        room = Room(self) if row.kind == "start" else None

        def after() -> None:
            self._hands.discard(row.id)
            if room is not None:
                room.free()

        self.spawn(row.key, self._guarded, row, room, loaded, after=after)

    async def _guarded(self, row: CommandRow, room: Room | None, loaded: Loaded | None) -> None:
        """Carry out one command. The one edge where any error of a handler ends: it is tried again, then it fails."""
        try:
            await self._handlers.handle(row, room, loaded)
        except Fenced:
            log.info("command_fenced", key=row.key)
        except NotHere:
            await self._elsewhere(row)
        except Exception as error:
            log.warning("command_failed", key=row.key, tries=row.tries, error=repr(error), exc_info=True)
            await self._again(row, error)
        finally:
            if room is not None:
                room.free()

    async def _again(self, row: CommandRow, error: Exception) -> None:
        self.meter.command_retried(row.kind)
        while True:
            try:
                if row.tries + 1 >= MAX_TRIES and await self._handlers.give_up(row, error):
                    return
                # Jitter, so that what failed together is not tried together.
                pause_s = min(60.0, 0.2 * 4 ** min(row.tries, 8)) * random.uniform(0.7, 1.3)  # noqa: S311
                place = row.place or self.place or HERE if row.kind == "start" else ""
                ours = await self._db.write(_postpone, row, row.owner, pause_s, place)
            except Unavailable:
                await asyncio.sleep(AWAY_S)
            except Fenced:  # it was given up or had begun, and only the reply was lost; or it is another's by now
                if row.kind == "start":
                    await self.executions.take_up(row)
                return
            else:
                break
        if ours:
            self._expect(self._clock.now() + pause_s)
        elif row.kind == "start":
            await self.executions.take_up(row)

    async def _elsewhere(self, row: CommandRow) -> None:
        """Only a server of another machine can carry it out: give it back for a moment, one of them will take it."""
        pause_s = ELSEWHERE_S * random.uniform(0.7, 1.3)  # noqa: S311
        while True:
            try:
                await self._db.write(_postpone, row, row.owner, pause_s, row.place)
            except Unavailable:
                await asyncio.sleep(AWAY_S)
            else:
                break
        self._peers.tell((), work=True)

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SAMPLE_S
            await asyncio.sleep(LAG_SAMPLE_S)
            self.meter.loop_lag(max(0.0, loop.time() - due))


def _owned(tx: Tx, me: str) -> set[int]:
    return tx.commands.owned(me)


def _give_back(tx: Tx, me: str, ids: set[int]) -> None:
    tx.commands.give_back(me, ids)


@brief
def _claim_due(tx: Tx, me: str, limit: int, starts: int, expected: float) -> tuple[list[CommandRow], float, float]:
    """Due rows, after how many seconds to look again, and what time it is, by the clock that says what is due: starts
    beyond the room do not count, they wait for an end. *expected*: an earlier time than this was set."""
    if tx.now < expected:
        tx.commands.hurry(tx.now)
    rows = tx.commands.claim(me, tx.now, limit, starts=starts)
    full = sum(row.kind == "start" for row in rows) == starts
    due = tx.commands.next_due(starts=not full)
    return rows, math.inf if due is None else max(0.0, due - tx.now), tx.now


@brief
def _postpone(tx: Tx, row: CommandRow, me: str, pause_s: float, place: str) -> bool:
    return tx.commands.postpone(row.id, me, tx.now + pause_s, place)
