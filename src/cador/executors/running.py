"""What a server keeps in memory of an execution it has to do with; all of it can be found again by the key."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from cador.executors.job_folder import Record
from cador.executors.placement import Containment


@dataclass(slots=True)
class Driver:
    """The first process of a job, with a pidfd. *told*: pipe with what kept a fresh one from beginning, else -1."""

    pid: int
    pidfd: int
    told: int = -1

    def reason(self) -> str:
        """Why it did not begin, of one that has ended."""
        return os.read(self.told, 4096).decode("utf-8", "replace") if self.told >= 0 else ""

    def hush(self) -> None:
        if self.told >= 0:
            os.close(self.told)
            self.told = -1

    def close(self) -> None:
        self.hush()
        self.close_pidfd()

    def close_pidfd(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Run:
    """One execution this server has to do with. ``over`` is set when its driver and everything else of it is gone."""

    def __init__(self, key: str, record: Record, holder: Containment, driver: Driver | None) -> None:
        """*driver* None: it is dead."""
        self.key, self.record, self.holder, self.driver = key, record, holder, driver
        self.pid = driver.pid if driver is not None else None
        self.watches: list[int] = []
        self.begun = False
        self.cleared = False
        """Nothing of it runs and nothing holds it any more."""
        self.dead = asyncio.Event()
        self.over = asyncio.Event()
        self.died_at: float | None = None
        """Unix seconds; None: it was dead when it was found."""
        self.reason = ""
        self.listeners: set[asyncio.Event] = set()
        self.ladder: asyncio.Task[None] | None = None
        self.ticks: asyncio.Task[None] | None = None
        """Instead of the watches, when there were none to be had."""
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
