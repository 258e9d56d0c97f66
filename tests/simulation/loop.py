"""An event loop that owns the clock and picks the next ready callback by seed.

What runs on it belongs to a :class:`Process` (by the context of its callbacks) or to the simulation itself. A process
can die: none of its callbacks runs again, so no ``finally`` and no ``except`` of it does. It can be frozen: what
becomes ready waits until it is thawed, while time and everybody else go on. Threads are not real: what is given to one
runs as a callback of its own.
"""

import asyncio
import contextvars
import heapq
import itertools
import random
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

R = TypeVar("R")

BASE: Final = 1_700_000_000.0
"""Unix seconds at which every run begins."""
_RESOLUTION: Final = 1e-6


class Stuck(Exception):
    """Nothing is ready and no timer is set: the program would wait for ever."""


class Process:
    """One server process, from its start to its end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.parked: list[asyncio.Handle] = []
        self.context = contextvars.copy_context()
        self.context.run(_PROCESS.set, self)
        self.at_death: list[Callable[[], None]] = []

    def die(self) -> None:
        """Nothing of it runs from now on."""
        if self.alive:
            self.alive, self.frozen = False, False
            self.parked.clear()
            for call in self.at_death:
                call()


_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)
OUTSIDE: Final = contextvars.Context()
"""What belongs to no process: databases, executors, users."""


class _Numbered:
    """Hashes by order of birth instead of by address, so that sets of these have the same order in every run."""

    _number: int

    def __hash__(self) -> int:
        return self._number


class _Future(_Numbered, asyncio.Future[Any]):
    pass


class _Task(_Numbered, asyncio.Task[Any]):
    pass


_PICKS: Final = ("any", "any", "first", "last")


class SeededLoop(asyncio.BaseEventLoop):
    """See the module. ``time()`` is monotonic and begins at 0. *before*: called with the process of each callback,
    just before it runs; it may kill or freeze the process, and then the callback does not run."""

    def __init__(self, dice: random.Random, before: Callable[[Process | None], None] = lambda process: None) -> None:
        super().__init__()
        self.dice = dice
        self.before = before
        self.now = 0.0
        self.steps = 0
        self.tasks: list[_Task] = []
        self.checksum = 0
        """Of all that was picked so far, and when."""
        self._numbers = itertools.count(1)
        self._waiting: list[asyncio.Handle] = []
        self._ready = self._waiting  # type: ignore[assignment]  # the base class only appends to it
        self._clock_resolution = _RESOLUTION
        self._pick = dice.choice(_PICKS)
        self._hurry = dice.choice((0.0, 0.01, 0.05))
        self.set_task_factory(self._new_task)

    # -- what the base class leaves open

    def time(self) -> float:
        return self.now

    def create_future(self) -> asyncio.Future[Any]:
        future = _Future.__new__(_Future)
        future._number = next(self._numbers)
        future.__init__(loop=self)  # type: ignore[misc]
        return future

    def _new_task(self, loop: Any, coro: Coroutine[Any, Any, Any], **more: Any) -> _Task:
        task = _Task.__new__(_Task)
        task._number = next(self._numbers)
        task.__init__(coro, loop=self, **more)  # type: ignore[misc]
        self.tasks.append(task)
        return task

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except Exception as error:  # it belongs to who asked
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_soon(work)
        return future

    def _write_to_self(self) -> None:
        """Nobody sleeps here."""

    # -- the next step

    def _run_once(self) -> None:
        self._ripen()
        waiting = self._waiting
        while not waiting:
            self._jump()
        if self._hurry and self.dice.random() < self._hurry:
            self.now += self.dice.random() * 0.02
        handle = self._take()
        if handle._cancelled:
            return
        process: Process | None = handle._context.get(_PROCESS)  # type: ignore[attr-defined]
        if process is None:
            self.before(None)
        else:
            if process.alive and not process.frozen:
                self.before(process)
            if not process.alive:
                return
            if process.frozen:
                process.parked.append(handle)
                return
        self.steps += 1
        handle._run()

    def _take(self) -> asyncio.Handle:
        """Any of those that are ready; *first* and *last* of them mostly, in some runs."""
        waiting, dice = self._waiting, self.dice
        count = len(waiting)
        if count == 1:
            return waiting.pop()
        if self._pick == "first" and dice.random() < 0.8:
            place = 0
        elif self._pick == "last" and dice.random() < 0.8:
            place = count - 1
        else:
            place = int(dice.random() * count)
        self.checksum = hash((self.checksum, place, count, self.now))
        return waiting.pop(place)

    def _ripen(self) -> None:
        """Timers that are due become ready."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        limit = self.now + _RESOLUTION
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= limit):  # type: ignore[attr-defined]
            handle = heapq.heappop(scheduled)
            handle._scheduled = False  # type: ignore[attr-defined]
            if not handle._cancelled:
                self._waiting.append(handle)

    def _jump(self) -> None:
        """Nothing is ready: it is the time of the next timer."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        if not scheduled:
            raise Stuck
        self.now = max(self.now, scheduled[0]._when)  # type: ignore[attr-defined]
        self._ripen()

    def thaw(self, process: Process) -> None:
        process.frozen = False
        self._waiting += process.parked
        process.parked.clear()
