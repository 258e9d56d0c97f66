"""An event loop on which time costs nothing: when nothing is ready it jumps to the next timer.

``run(main(), limit_s=3600)`` runs a coroutine to its end; an hour of sleeping takes a moment. Work in other threads
(``to_thread``, ``run_in_executor``) is waited for really, time stands still meanwhile. Sockets and processes are not
known to it: whoever waits for those needs a real loop.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Final, TypeVar

_R = TypeVar("_R")

BASE: Final = 1_700_000_000.0
"""Unix seconds at which every run begins."""
_STUCK_S: Final = 30.0


class Stuck(Exception):
    """Nothing is ready, no timer is set, no thread is at work: the program would wait for ever."""


class _JumpingSelector(selectors.SelectSelector):
    """Reports what is ready; instead of waiting it lets the loop's clock jump."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.at_work = 0
        """Calls in other threads whose end the loop has not heard."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.at_work or timeout is None:
            ready = super().select(_STUCK_S)
            if not ready:
                raise Stuck
            return ready
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. ``time()`` begins at 0; :meth:`clock` is the wall clock that goes with it."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        # adding a timeout to a big number may end a hair before the timer
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._jumping.now

    def clock(self) -> float:
        """Unix seconds."""
        return BASE + self.time()

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)
        self._jumping.at_work += 1
        future.add_done_callback(self._heard)
        return future

    def _heard(self, _: asyncio.Future[Any]) -> None:
        self._jumping.at_work -= 1


def run(main: Coroutine[Any, Any, _R], *, limit_s: float = 86_400.0, loop: VirtualLoop | None = None) -> _R:
    """Run *main* on a new loop (or on *loop*, which is closed at the end) and return what it returns.

    Raises: TimeoutError: *main* is not done after *limit_s* of virtual time. Stuck.
    """
    loop = loop or VirtualLoop()

    async def bounded() -> _R:
        async with asyncio.timeout(limit_s):
            return await main

    try:
        return loop.run_until_complete(bounded())
    finally:
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()


def clock() -> float:
    """Unix seconds of the virtual loop that runs here."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop), "not on a virtual loop"
    return loop.clock()
