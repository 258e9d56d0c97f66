"""What a server keeps in memory of an execution it has to do with; all of it can be found again by the key."""

import asyncio
import contextlib
from collections.abc import Callable

from cador.executors.containment import Containment
from cador.executors.job_folder import Record


class Run:
    """One execution this server has to do with. ``over`` is set when its driver and everything else of it is gone."""

    def __init__(self, key: str, record: Record, holder: Containment) -> None:
        self.key, self.record, self.holder = key, record, holder
        self.pid: int | None = None
        self.pidfd = -1
        self.watches: list[int] = []
        self.begun = False
        self.dead = asyncio.Event()
        self.over = asyncio.Event()
        self.died_at: float | None = None
        """Unix seconds; None: it was dead when it was found."""
        self.reason = ""
        self.listeners: set[asyncio.Event] = set()
        self.ladder: asyncio.Task[None] | None = None
        self.ladder_reason = ""

    def wake(self) -> None:
        for listener in self.listeners:
            listener.set()

    async def wait_for(self, done: Callable[[], bool], seconds: float) -> None:
        """Return when *done*, looked at whenever something of the execution changes, or after *seconds*."""
        listener = asyncio.Event()
        self.listeners.add(listener)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, seconds)):
                    while not done():
                        await listener.wait()
                        listener.clear()
        finally:
            self.listeners.discard(listener)
