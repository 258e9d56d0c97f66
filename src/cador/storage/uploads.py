"""What is to be copied to the shared store, kept on disk until it is there: a crash loses none of it.

Each piece of work is a small file in a folder of its own, written before what asks for it goes on. Nothing waits for
the store: a job never fails or stops because the store is away.
"""

import asyncio
import contextlib
import heapq
import itertools
import os
import random
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec
import structlog

from cador.storage.objects import Objects, StoreAway, StoreRefuses

log = structlog.get_logger(__name__)

WORKERS: Final = 4
PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0


NOTHING: Final = ("", 0, "", 0)


class Order(msgspec.Struct, frozen=True):
    """One piece of work. ``put``: the file *file* (below the data folder) as object *key*, then all objects below
    *instead* are removed; ``delete``: all objects below *key*, and *key* itself. Orders of one *group* are carried out
    one after another, as they were given. *about*: workflow, number of the task, job task and attempt that it is about;
    ``""`` and 0 where it is about all of them."""

    kind: Literal["put", "delete"]
    group: str
    key: str
    file: str = ""
    instead: str = ""
    about: tuple[str, int, str, int] = NOTHING


@dataclass(frozen=True, slots=True)
class Figures:
    """``pending``: orders not carried out yet; ``oldest_s``: for how long the oldest one waits; ``failures``,
    ``done``, ``refused``: counted since the start; ``error``: of the last failure, ``""`` when the store answered
    since."""

    pending: int
    oldest_s: float
    failures: int
    done: int
    refused: int
    error: str


class Health:
    """Whether the store answers, and how long to leave it alone. Used on the event loop."""

    def __init__(self) -> None:
        self.error = ""
        self.failures = 0
        self._tries = 0
        self._until = 0.0

    def fine(self) -> None:
        if self.error:
            log.info("store_back")
        self.error, self._tries = "", 0

    def failed(self, error: Exception) -> None:
        if not self.error:
            log.warning("store_away", error=str(error))
        self.error = str(error) or type(error).__name__
        self.failures += 1
        pause_s = min(LONGEST_PAUSE_S, PAUSE_S * 2 ** min(self._tries, 10)) * random.uniform(0.7, 1.0)  # noqa: S311
        self._tries += 1
        self._until = asyncio.get_running_loop().time() + pause_s

    @property
    def wait_s(self) -> float:
        """Seconds until the store may be tried again."""
        return max(0.0, self._until - asyncio.get_running_loop().time()) if self.error else 0.0


class Uploads:
    """Carries out orders until cancelled, one by one within a group, several groups at once.

    ``put`` and ``delete`` may be called from any thread, also before :meth:`run`.
    """

    def __init__(
        self,
        objects: Objects,
        data: Path,
        *,
        wanted: Callable[[Order], Awaitable[bool]] | None = None,
        folder: str = "uploads",
    ) -> None:
        """*data*: the data folder; the orders are in its folder *folder*. *wanted*: asked about each order of an
        earlier process; False: it was overtaken by what another server did meanwhile."""
        self.health = Health()
        self._objects, self._data, self._folder = objects, data, data / folder
        self._wanted = wanted
        self._lock = threading.Lock()
        self._groups: dict[str, deque[tuple[str, Order, bool]]] = {}
        self._ready: list[tuple[int, str]] = []
        self._since: dict[str, float] = {}
        self._turns = itertools.count()
        self._wake: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._done = self._refused = 0
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._numbers = itertools.count(self._load())

    # -- asking

    def put(
        self, group: str, key: str, file: Path, *, instead: str = "", about: tuple[str, int, str, int] = NOTHING
    ) -> None:
        """Raises: OSError: the order could not be written down."""
        self._add(Order("put", group, key, str(file.relative_to(self._data)), instead, about))

    def delete(self, group: str, prefix: str, *, about: tuple[str, int, str, int] = NOTHING) -> None:
        """Raises: OSError."""
        self._add(Order("delete", group, prefix, about=about))

    def pending(self, group: str) -> bool:
        """Whether some order of that group is not carried out yet."""
        with self._lock:
            return group in self._groups

    def figures(self) -> Figures:
        with self._lock:
            oldest = min(self._since.values(), default=None)
            pending = len(self._since)
        waited = 0.0 if oldest is None else max(0.0, time.time() - oldest)
        return Figures(pending, waited, self.health.failures, self._done, self._refused, self.health.error)

    def _add(self, order: Order) -> None:
        name = f"{next(self._numbers):016d}"
        path = self._folder / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(order))
            os.fdatasync(descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        finally:
            os.close(descriptor)
        self._enqueue(name, order, time.time(), old=False)

    def _enqueue(self, name: str, order: Order, since: float, *, old: bool) -> None:
        with self._lock:
            self._since[name] = since
            waiting = self._groups.get(order.group)
            if waiting is not None:
                waiting.append((name, order, old))
                return
            self._groups[order.group] = deque([(name, order, old)])
            heapq.heappush(self._ready, (next(self._turns), order.group))
        if self._loop is not None and self._wake is not None:
            with contextlib.suppress(RuntimeError):  # closed: the next process finds the file
                self._loop.call_soon_threadsafe(self._wake.set)

    def _load(self) -> int:
        """Take up what an earlier process left; returns the next number."""
        last = 0
        for path in sorted(self._folder.iterdir()):
            try:
                order = msgspec.json.decode(path.read_bytes(), type=Order)
                last = int(path.name)
            except (ValueError, msgspec.MsgspecError):  # torn: whoever asked for it never heard that it was written
                path.unlink()
                continue
            self._enqueue(path.name, order, path.stat().st_mtime, old=True)
        return last + 1

    # -- doing

    async def run(self) -> None:
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work(self._wake))

    async def _work(self, wake: asyncio.Event) -> None:
        while True:
            await asyncio.sleep(self.health.wait_s)
            with self._lock:
                turn = heapq.heappop(self._ready) if self._ready else None
                if turn is None:
                    wake.clear()
            if turn is None:
                await wake.wait()
                continue
            group = turn[1]
            with self._lock:
                name, order, old = self._groups[group][0]
            try:
                done = await self._carry_out(order, old=old)
            except BaseException:
                self._again(group)
                raise
            if not done:
                self._again(group)
                continue
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()
            with self._lock:
                self._since.pop(name, None)
                waiting = self._groups[group]
                waiting.popleft()
                if not waiting:
                    del self._groups[group]
            if waiting:
                self._again(group)

    def _again(self, group: str) -> None:
        with self._lock:
            heapq.heappush(self._ready, (next(self._turns), group))
        if self._wake is not None:
            self._wake.set()

    async def _carry_out(self, order: Order, *, old: bool) -> bool:
        """False: the store is away, try again later."""
        try:
            if old and self._wanted is not None and not await self._wanted(order):
                return True
            if order.kind == "delete":
                await self._remove(order.key, True)
            else:
                await self._objects.put(order.key, self._data / order.file)
                if order.instead:
                    await self._remove(order.instead, False)
        except StoreAway as error:
            self.health.failed(error)
            return False
        except (FileNotFoundError, NotADirectoryError):
            return True  # deleted meanwhile, or replaced by something newer that has an order of its own
        except StoreRefuses as error:
            self._refused += 1
            log.error("store_refuses", key=order.key, error=str(error))
            return True
        except Exception as error:
            # The edge of one order: a disk or a database that is away. It must not stop the others.
            self.health.failed(error)
            return False
        self._done += 1
        self.health.fine()
        return True

    async def _remove(self, prefix: str, itself: bool) -> None:
        await self._objects.delete(await asyncio.to_thread(self._below, prefix, itself))

    def _below(self, prefix: str, itself: bool) -> list[str]:
        found = [one.key for one in self._objects.list(prefix)]
        with contextlib.suppress(FileNotFoundError):
            if itself and self._objects.size(prefix) >= 0:
                found.append(prefix)
        return found
