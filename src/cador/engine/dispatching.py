"""The dispatcher: finds commands that are due, and sees to it that whatever this process claimed is carried out,
whoever claimed it - the dispatcher itself, or the transaction that caused it."""

import asyncio
import contextlib
import math
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import structlog

from cador.domain.errors import Unavailable
from cador.engine.handlers import Handlers
from cador.engine.hearing import Fenced, NotHere
from cador.engine.preparing import Loaded
from cador.engine.room import Room
from cador.ports.stores import HERE, CommandRow, Tx, brief

if TYPE_CHECKING:
    from cador.engine.engine import Engine

log = structlog.get_logger(__name__)

SWEEP_S: Final = 5.0
"""How long the dispatcher sleeps at most: what nobody woke it for is found then."""
BATCH: Final = 64
RECLAIM_STEP_S: Final = 0.05
AWAY_S: Final = 1.0
"""Pause before the database is asked again after it was away."""
ELSEWHERE_S: Final = 0.2
"""Pause before a command that another machine has to carry out is offered again."""
SET_BACK_S: Final = 1.0
"""A clock that goes back by less is only being corrected."""
MAX_TRIES: Final = 6
"""Infrastructure errors of one command before its job fails with the reason."""


class Dispatcher:
    def __init__(self, engine: "Engine", handlers: Handlers) -> None:
        self._engine, self._handlers = engine, handlers
        self._db, self._clock, self._capacity = engine.db, engine.clock, engine.capacity
        self._wake = asyncio.Event()
        self._short = False
        """Starts are due for which there was no room."""
        self._sleep_until = 0.0
        self._soonest = math.inf
        self._seen: tuple[float, float] | None = None
        self._writes = 0
        self._writing: set[int] = set()
        self._hands: set[int] = set()
        self._reclaiming = False
        self.turned_at = 0.0

    # -- what others tell it

    def wake(self) -> None:
        self._wake.set()

    def expect(self, due_at: float) -> None:
        """It looks again at *due_at* at the latest."""
        self._soonest = min(self._soonest, due_at)
        if due_at < self._sleep_until:
            self._wake.set()

    def leave(self, *, short: bool) -> None:
        """A transaction is over; *short*: it left starts for later."""
        self._short = self._short or short
        if self._short and self._capacity.left():
            self._wake.set()

    def freed(self) -> None:
        """The room of one execution goes to the next start."""
        if self._short:
            self._wake.set()

    # -- finding what is due

    async def run(self) -> None:
        """Never ends by itself."""
        while True:
            self.turned_at = self._clock.now()
            self._wake.clear()
            # What comes while the tables are being asked is noted here: their answer does not know of it.
            self._short, self._soonest = False, math.inf
            starts = self._capacity.left()
            self._capacity.busy += starts
            taken = 0
            try:
                with self.claiming():
                    try:
                        expected = self._expected_now()
                        rows, due_s, seen = await self._db.write(_claim_due, self._engine.me, BATCH, starts, expected)
                        self._seen = seen, asyncio.get_running_loop().time()
                        taken = sum(row.kind == "start" for row in rows)
                    finally:
                        self._capacity.busy -= starts - taken
                    for row in rows:
                        self.carry_out(row)
            except Unavailable as error:
                log.warning("database_away", error=str(error))
                await asyncio.sleep(AWAY_S)
                continue
            # With all room taken, more starts may be due: whoever ends wakes us for them.
            self._short = self._short or taken == starts
            if len(rows) == BATCH or (self._short and self._capacity.left()):
                continue
            now = self._clock.now()
            pause = min(SWEEP_S, due_s, max(0.0, self._soonest - now))
            self._sleep_until = now + pause
            # Not wait_for, which may swallow a cancellation that comes in the same instant.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    def _expected_now(self) -> float:
        """What the clock of the tables shows by now at least, unless it was set back; unknown at the beginning."""
        if self._seen is None:
            return math.inf
        shown, at = self._seen
        return shown + asyncio.get_running_loop().time() - at - SET_BACK_S

    # -- claims whose reply does not arrive

    @contextlib.contextmanager
    def claiming(self) -> Iterator[None]:
        """Around a write that may claim commands. When its outcome does not arrive, it may have claimed some that
        nobody knows of."""
        self._writes += 1
        number = self._writes
        self._writing.add(number)
        try:
            yield
        except (Unavailable, asyncio.CancelledError):
            if self._engine.me and not self._reclaiming and self._engine.takes_on:
                self._reclaiming = True
                self._engine.spawn("reclaim", self._reclaim, self._engine.me, after=self._reclaimed)
            raise
        finally:
            self._writing.discard(number)

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

    # -- carrying out

    def carry_out(self, row: CommandRow, loaded: Loaded | None = None) -> None:
        """See to a command that was claimed. The room of a ``start`` is counted already."""
        if not self._engine.takes_on or row.owner != self._engine.me:
            # Claimed too late: the membership it was claimed under is over, and others take it.
            if row.kind == "start":
                self._capacity.busy -= 1
            return
        self._hands.add(row.id)
        room = Room(self._capacity) if row.kind == "start" else None

        def after() -> None:
            self._hands.discard(row.id)
            if room is not None:
                room.free()

        self._engine.spawn(row.key, self._guarded, row, room, loaded, after=after)

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
        self._engine.meter.command_retried(row.kind)
        while True:
            try:
                if row.tries + 1 >= MAX_TRIES and await self._handlers.give_up(row, error):
                    return
                # Jitter, so that what failed together is not tried together.
                pause_s = min(60.0, 0.2 * 4 ** min(row.tries, 8)) * random.uniform(0.7, 1.3)  # noqa: S311
                place = row.place or self._engine.place or HERE if row.kind == "start" else ""
                ours = await self._db.write(_postpone, row, row.owner, pause_s, place)
            except Unavailable:
                await asyncio.sleep(AWAY_S)
            except Fenced:  # it was given up or had begun, and only the reply was lost; or it is another's by now
                if row.kind == "start":
                    await self._handlers.take_up(row)
                return
            else:
                break
        if ours:
            self.expect(self._clock.now() + pause_s)
        elif row.kind == "start":
            await self._handlers.take_up(row)

    async def _elsewhere(self, row: CommandRow) -> None:
        """Only a server of another machine can carry it out: give it back for a moment, one of them will take it."""
        pause_s = ELSEWHERE_S * random.uniform(0.7, 1.3)  # noqa: S311
        while True:
            try:
                await self._db.write(_postpone, row, row.owner, pause_s, row.place, tried=False)
            except Unavailable:
                await asyncio.sleep(AWAY_S)
            else:
                break
        self._engine.tell_work()


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
def _postpone(tx: Tx, row: CommandRow, me: str, pause_s: float, place: str, *, tried: bool = True) -> bool:
    return tx.commands.postpone(row.id, me, tx.now + pause_s, place, tried=tried)
