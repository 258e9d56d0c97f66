"""The engine of one server process: owns the tree of tasks, its membership among servers, and the one way to change
tasks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import structlog

from cador.domain.errors import Unavailable
from cador.domain.sharing import QueueLimits
from cador.engine.delivering import Deliverer, FanOut
from cador.engine.dispatching import AWAY_S, SWEEP_S, Dispatcher
from cador.engine.executions import Executions
from cador.engine.handlers import Handlers
from cador.engine.hearing import Claim, Fenced, Outcome
from cador.engine.housekeeping import Housekeeping, Retention
from cador.engine.preparing import Preparer
from cador.engine.room import Capacity, Limits
from cador.ports.actions import Action
from cador.ports.blobs import BlobStore
from cador.ports.clock import Clock
from cador.ports.deliveries import Courier
from cador.ports.executor import Executor
from cador.ports.logs import LogStore
from cador.ports.metrics import Meter, SilentMeter
from cador.ports.peers import Peers
from cador.ports.stores import CommandRow, Database, Tx, brief

log = structlog.get_logger(__name__)
R = TypeVar("R")

RESERVE: Final = 2
"""Starts reserved for an ordinary transaction; what it does not use is given back after its commit. More than that is
left to the dispatcher, so that many transactions at once do not hold back room that none of them uses."""
LAG_SAMPLE_S: Final = 5.0


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
        self.db, self.clock = db, clock
        self.meter: Meter = meter or SilentMeter()
        self.capacity = Capacity(limits, lambda: self.dispatcher.freed())
        self._limits = limits
        self._peers = peers
        self._me = ""
        self._fan_out = FanOut(couriers) if couriers else None
        self._load, self._renew = preparer.load, preparer.renew
        self._free = asyncio.Event()
        # Who waits holds the event; when nobody does any more it is gone, however many tasks were looked at.
        self._changes: WeakValueDictionary[int, asyncio.Event] = WeakValueDictionary()
        self._group: asyncio.TaskGroup | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        self._work: set[asyncio.Task[None]] = set()
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
        self.handlers = Handlers(self, self.executions, self.housekeeping, deliverer)
        self.dispatcher = Dispatcher(self, self.handlers)

    # -- membership

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

    async def still_ours(self, command: CommandRow) -> None:
        """Just before the act outside: a process that was frozen may have been declared dead. Raises: Fenced."""
        if not self.holds(command.owner):
            raise Fenced(command.key)
        # Of the wait for the answer nobody knows how long it was.
        if not self.alone and not (await self.db.read(_owns, command) and self.holds(command.owner)):
            raise Fenced(command.key)

    def tell_work(self) -> None:
        """There is something for other servers to take."""
        self._peers.tell((), work=True)

    # -- what operations know (operations.context.Waker)

    def max_jobs(self) -> int:
        """Executions of this process at once."""
        return self.capacity.most

    @property
    def busy(self) -> int:
        """Executions of this process now."""
        return self.capacity.busy

    @property
    def turned_at(self) -> float:
        """When the dispatcher looked last for what is due, Unix seconds."""
        return self.dispatcher.turned_at

    def queue_limits(self) -> QueueLimits:
        """Of the settings; what the admission row says counts before them."""
        return self._limits().queue

    def wake(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.dispatcher.wake)

    async def changed(self, task_id: int, timeout_s: float) -> bool:
        event = self._changes.setdefault(task_id, asyncio.Event())
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return False
        return True

    def _announce(self, tasks: tuple[int, ...]) -> None:
        for task_id in tasks:
            event = self._changes.pop(task_id, None)
            if event is not None:
                event.set()

    async def transact(self, fn: Callable[..., Outcome[R]], *args: Any, starts: int = RESERVE) -> R:
        """Run ``fn(tx, claim, *args)`` as one transaction, then carry out what it caused; at most *starts* executions
        at once, others follow by the dispatcher.

        Raises: whatever *fn* raises; nothing is changed then.
        """
        me, capacity = self._me, self.capacity
        reserved = min(capacity.left(), starts) if me and self.takes_on else 0
        capacity.busy += reserved
        claim = Claim(me, self.queue_limits(), reserved, self._fan_out, self._load, self._renew)
        taken = 0
        with self.dispatcher.claiming():
            try:
                outcome = await self.db.write(fn, claim, *args)
                taken = sum(row.kind == "start" for row in outcome.rows)
            finally:
                capacity.busy -= reserved - taken
            for row in outcome.rows:
                self.dispatcher.carry_out(row, outcome.loaded.get(row.id))
        self._announce(outcome.tasks)
        if not self._peers.alone and (outcome.tasks or outcome.short):
            self._peers.tell(outcome.tasks, work=outcome.short)
        for _, waited_s in outcome.admitted:
            self.meter.task_started(waited_s)
        for status, took_s in outcome.ended:
            self.meter.task_ended(status, took_s)
        if outcome.soonest is not None:
            self.dispatcher.expect(outcome.soonest)
        self.dispatcher.leave(short=outcome.short)
        return outcome.value

    # -- the tree of tasks

    @property
    def takes_on(self) -> bool:
        """Whether there is a tree of tasks that is not being taken down."""
        return self._group is not None and not self._closing

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
        try:
            await self.housekeeping.arm()
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self.executions.adopter.adopt_free(sweep=True)
                self.spawn("queue", self.handlers.look_at_queue)
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
            self.spawn("dispatcher", self._for_ever, "dispatcher", self.dispatcher.run)
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
                    await self.executions.adopter.adopt_free(sweep=True)
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
            self.dispatcher.wake()
            self._free.set()

    async def _find_free(self) -> None:
        """Adopt executions that lost their server, as soon as somebody tells of them, and at least now and then."""
        while True:
            self._free.clear()
            try:
                await self.executions.adopter.adopt_free()
            except Unavailable:
                await asyncio.sleep(AWAY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_S):
                    await self._free.wait()

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SAMPLE_S
            await asyncio.sleep(LAG_SAMPLE_S)
            self.meter.loop_lag(max(0.0, loop.time() - due))


@brief
def _owns(tx: Tx, command: CommandRow) -> bool:
    return tx.commands.owns(command.id, command.owner)
