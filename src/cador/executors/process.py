"""Executor ``process``: jobs run as processes of this host, in sessions of their own, and survive the server.

Everything of an execution is found by its key: the folder (``job_folder.py``), its processes (``containment.py``). In
memory there is only what makes hearing quick, rebuilt when a server starts: a ``Run`` (``running.py``) per execution it
has to do with. The driver (``driver.py``) alone decides what the job does next; this module starts it, reads what it
says, ends it (``stopping.py``), and clears up after it.

Two orders keep a start and a stop that meet from missing each other. The driver makes ``started`` and then looks for
``stop``; who stops writes ``stop`` and then looks for ``started``. The other one is told in ``births.py``.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar, TypeVarTuple

import structlog

from cador.executors.births import Births
from cador.executors.clearing import Clearing
from cador.executors.containment import available
from cador.executors.job_folder import KEY, Folders, Record, Started, Stop
from cador.executors.machine import Machine, boot_id, identity, owner_of
from cador.executors.marks import Marks, OutputFile, last_sign, read_exit
from cador.executors.outputs import read_outputs
from cador.executors.running import Driver, Run
from cador.executors.spawner import Hands
from cador.executors.stopping import Ladder
from cador.executors.watch import IN_CLOSE_WRITE, IN_MODIFY, FileWatch, punch
from cador.ports.executor import End, Gone, Harvest, JobFolder, Output, StartRefused, StepMark, Unreachable

Ts = TypeVarTuple("Ts")
R = TypeVar("R")

_START_S: Final = 10.0
_PUNCH_BYTES: Final = 1 << 20
_BLOCK: Final = 4096
_NO_ROOM_BYTES: Final = 65_536
_THREADS: Final = 8
_LOOK_S: Final = 1.0
log = structlog.get_logger(__name__)


class ProcessExecutor:
    """Runs jobs below *root*, a folder that belongs to *installation* and this host alone.

    *user*: as root, the user jobs run as; None: the server's own. *stop_grace_s* is used where a stop names no time.
    *containment*: ``auto`` or one of ``cgroup2 freezer pidns tree``. *child_nofile*: soft and hard RLIMIT_NOFILE of
    jobs, for a server that raised its own.
    """

    name = "process"

    def __init__(
        self,
        *,
        root: Path,
        installation: str,
        user: str | None = None,
        stop_grace_s: float = 1.5,
        containment: str = "auto",
        child_nofile: tuple[int, int] | None = None,
    ) -> None:
        self._root, self._installation = root, installation
        self._grace_s, self._wanted, self._nofile = stop_grace_s, containment, child_nofile
        self._boot = boot_id()
        self._owner = owner_of(user)
        self._folders = Folders(root, installation, self._boot, self._owner)
        self._ladder = Ladder(self._folders, self._blocking)
        self._runs: dict[str, Run] = {}
        self._starting: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._punched: dict[str, int] = {}
        self._closed = False

    async def open(self) -> None:
        """Make the root, find out what can contain jobs, clear leftovers. Call once, on the loop that is to be used.

        Raises: OSError: the root cannot be made, or the containment asked for cannot be had.
        """
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="executor")
        await self._blocking(self._folders.prepare)
        self._identity = await self._blocking(identity, self._root)
        holders = await self._blocking(available, self._installation, self._wanted)
        self._watch = FileWatch()
        self._hands = Hands(self._loop)
        self._machine = Machine(self._folders, self._boot, holders, self._hands, self._blocking)
        self._births = Births(self._machine, self._owner, self._nofile)
        self._clearing = Clearing(self._machine)

    def containment_note(self) -> str:
        """One line for people: how jobs are contained here, and what that cannot catch."""
        holder = self._machine.holder
        return f"{holder.name}: {holder.note}"

    @property
    def place(self) -> str:
        machine, mark = self._identity
        return f"{machine}:{self._boot}:{mark}:{self._folders.root}"

    # --- start --------------------------------------------------------------------------------------------------

    async def start(self, key: str, job: JobFolder) -> str:
        if not KEY.match(key):
            raise StartRefused(f"the execution key {key!r} is not made of letters, digits, - and .")
        while (other := self._starting.get(key)) is not None:
            await other.wait()
        if key in self._runs:
            return key
        self._starting[key] = asyncio.Event()
        try:
            spawned = await self._births.fresh(key, job) or await self._holding(self._births.anew, key, job)
            if spawned is not None:
                await self._begun(key, *spawned)
        finally:
            self._starting.pop(key).set()
        return key

    async def _begun(self, key: str, record: Record, driver: Driver) -> None:
        """Wait for a fresh driver's first act, and adopt it; one that came second just ends.

        Raises: OSError: it ended before it began.
        """
        run = self._known(key, record, driver)
        try:
            started = await self._first_act(run)
            if started is not None and started.pid == driver.pid and key not in self._runs:
                self._adopt(run)
            elif started is None and not self._folders.has_started(key):
                await self._blocking(self._births.explain, key, driver)
        finally:
            driver.hush()
            if self._runs.get(key) is not run:
                self._forget(run)

    async def _first_act(self, run: Run) -> Started | None:
        """What the driver of *run*, or another one before it, wrote first of all; None: it ended before.

        Raises: TimeoutError.
        """
        listener = asyncio.Event()
        run.listeners.add(listener)
        try:
            async with asyncio.timeout(_START_S):
                while (started := self._folders.started(run.key)) is None and not run.dead.is_set():
                    await listener.wait()
                    listener.clear()
        finally:
            run.listeners.discard(listener)
        return started

    # --- attach -------------------------------------------------------------------------------------------------

    def _adopt(self, run: Run) -> None:
        """Register an execution that has begun."""
        self._runs[run.key] = run
        run.begun = True
        if run.dead.is_set():
            self._go(self._settle(run))

    def _known(self, key: str, record: Record, driver: Driver | None) -> Run:
        """An execution with ears: woken by its marks, its output and the end of its driver. None: that is dead.

        The watches stay until the folder goes: the kernel then drops them itself, which is much cheaper than asking.
        """
        run = Run(key, record, self._machine.holder_of(record), driver)
        if driver is None:
            run.dead.set()
            return run
        folder = self._folders.place(key)
        try:
            for path, mask in ((f"{folder}/marks", IN_CLOSE_WRITE), (f"{folder}/output", IN_MODIFY)):
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile: the driver ends by itself
                    run.watches.append(self._watch.add(path, mask, run.wake))
        except OSError as error:  # the machine has no watch left (fs.inotify.max_user_watches)
            log.warning("job_not_watched", execution=key, error=str(error))
            run.ticks = self._go(self._tick(run))
        self._loop.add_reader(driver.pidfd, self._died, run)
        return run

    async def _tick(self, run: Run) -> None:
        """Have *run* looked at again and again, where nobody tells when there is something to see."""
        while not run.over.is_set():
            await asyncio.sleep(_LOOK_S)
            run.wake()

    def _died(self, run: Run) -> None:
        self._close_driver(run)
        run.died_at = time.time()
        run.dead.set()
        run.wake()
        if run.begun:
            self._go(self._settle(run))

    async def _settle(self, run: Run) -> None:
        """The driver is gone: end what it left running, free what held it."""
        try:
            await self._clearing.clear(run)
        except OSError as error:  # the end must be heard all the same; the sweep tries again
            log.warning("job_not_cleared", execution=run.key, error=str(error))
        finally:
            run.over.set()
            run.wake()

    async def _find(self, key: str) -> Run:
        """The execution *key*, known or found on this host. Raises: Gone."""
        if (starting := self._starting.get(key)) is not None:
            await starting.wait()
        run = self._runs.get(key)
        if run is not None:
            return run
        record = await self._blocking(self._folders.record, key)
        if record is None or not self._folders.has_started(key):
            await self._blocking(self._bury_unstarted, key)
            record = await self._blocking(self._folders.record, key)
            if record is None or not self._folders.has_started(key):
                raise Gone(key)
        while True:
            started = self._folders.started(key)
            driver = await self._holding(self._machine.living, key, record, started)
            if (run := self._runs.get(key)) is not None:  # somebody found it meanwhile
                if driver is not None:
                    driver.close()
                return run
            run = self._known(key, record, driver)
            if started is not None or driver is None:
                break
            try:  # it is about to write that it is the one, or it is another
                await self._first_act(run)
            except TimeoutError as error:
                raise Unreachable(key) from error
            finally:
                self._forget(run)
        self._adopt(run)
        if stop := self._folders.stop(key):
            self._climb(run, stop)
        return run

    def _bury_unstarted(self, key: str) -> None:
        """Before *gone* is said of a folder whose job never started: keep a late driver of it from starting."""
        if not self._folders.exists(key):
            return
        self._folders.bury_removed(key)
        with contextlib.suppress(FileNotFoundError):
            self._folders.write_stop(key, Stop("cancel", 0.0, time.time()))

    def _forget(self, run: Run) -> None:
        if self._runs.get(run.key) is run:
            del self._runs[run.key]
        for watch in run.watches:
            self._watch.forget(watch, run.wake)
        run.watches.clear()
        for task in (run.ladder, run.ticks):
            if task is not None:
                task.cancel()
        self._close_driver(run)

    def _close_driver(self, run: Run) -> None:
        if run.driver is not None:
            self._loop.remove_reader(run.driver.pidfd)
            run.driver.close_pidfd()
            run.driver = None

    # --- follow -------------------------------------------------------------------------------------------------

    async def follow(self, key: str, ref: str, after: int) -> AsyncIterator[Output | StepMark | End]:
        if key not in self._runs and self._folders.tombstone(key) in ("stopped", "refused"):
            yield End(None, time.time(), stopped="cancel", reason="stopped before it started")
            return
        run = await self._find(key)
        listener = asyncio.Event()
        marks = Marks(self._folders, key, run.record.steps)
        try:
            output = OutputFile(self._folders, key, after)
        except FileNotFoundError as error:
            raise Gone(key) from error
        run.listeners.add(listener)
        try:
            while True:
                listener.clear()
                over = run.over.is_set()
                made = marks.news()  # before the output is measured: a step's output comes before its end
                size = output.size()
                while data := output.read(size):
                    yield Output(output.offset - len(data), data)
                for mark in made:
                    yield mark
                if over:
                    break
                await listener.wait()
            end = self._end(run, marks)
            for mark in marks.rest(end):
                yield mark
            yield end
        finally:
            run.listeners.discard(listener)
            output.close()

    def _end(self, run: Run, marks: Marks) -> End:
        if not self._folders.exists(run.key):
            raise Gone(run.key)
        stop = self._folders.stop(run.key)
        if (told := read_exit(self._folders, run.key)) is not None:
            return End(told.code, told.at, told.stopped, told.failed_step, run.reason)
        at = run.died_at if run.died_at is not None else last_sign(self._folders, run.key)
        if stop is not None:
            failed = marks.first_failure()
            code, step = (failed.exit_code, failed.index) if failed else (None, None)
            return End(code, at, stop.reason, step, run.reason)
        if run.record.boot != self._boot:
            return End(None, at, reason="the host was restarted while the job ran")
        return End(None, at, reason=run.reason or self._unsaid(run.key))

    def _unsaid(self, key: str) -> str:
        """Why a driver ended without a word: it had no room to write one, or somebody killed it."""
        written = self._folders.content(key, "marks/exit", 1)
        disk = os.statvfs(self._root)
        no_room = disk.f_bavail * disk.f_frsize < _NO_ROOM_BYTES or (disk.f_files > 0 and disk.f_favail == 0)
        if no_room or (written is not None and not written[0]):
            return "the disk of the jobs is full"
        return "the job's first process was killed from outside"

    # --- stop ---------------------------------------------------------------------------------------------------

    async def stop(self, key: str, ref: str, reason: str, grace_s: float) -> None:
        stop = Stop(reason, grace_s if grace_s >= 0 else self._grace_s, time.time())
        if key not in self._runs and not await self._blocking(self._stop_unstarted, key):
            return
        try:
            run = await self._find(key)
        except Gone:
            return
        before = await self._blocking(self._folders.stop, key)
        if run.over.is_set() or (before is not None and before.reason in (reason, "cancel")):
            if before is not None:
                self._climb(run, before)
            return
        with contextlib.suppress(FileNotFoundError):
            await self._blocking(self._folders.write_stop, key, stop)
        self._climb(run, stop)

    def _stop_unstarted(self, key: str) -> bool:
        """Whether the job has started; if not, it never will."""
        if self._folders.has_started(key):
            return True
        if self._folders.tombstone(key):
            return False
        self._folders.bury(key, "stopped")
        if self._folders.exists(key):
            with contextlib.suppress(FileNotFoundError):
                self._folders.write_stop(key, Stop("cancel", 0.0, time.time()))
        return self._folders.has_started(key)

    def _climb(self, run: Run, stop: Stop) -> None:
        """Carry out *stop*, unless that is under way. A server that finds the file ``stop`` goes on with it."""
        if run.over.is_set() or (run.ladder is not None and run.ladder_reason in (stop.reason, "cancel")):
            return
        if run.ladder is not None:
            run.ladder.cancel()
        run.ladder_reason = stop.reason
        run.ladder = self._go(
            self._ladder.cancel(run, stop) if stop.reason == "cancel" else self._ladder.time_out(run, stop)
        )

    # --- after the end ------------------------------------------------------------------------------------------

    async def harvest(self, key: str, ref: str) -> Harvest:
        run = self._runs.get(key)
        if run is not None and not run.record.outputs:
            return self._harvest(key, run.record)  # a look at the folder
        return await self._blocking(self._harvest, key, run.record if run is not None else None)

    def _harvest(self, key: str, record: Record | None) -> Harvest:
        if record is None:
            record = self._folders.record(key)
        if record is None or not self._folders.exists(key):
            raise Gone(key)
        values, problems = read_outputs(self._folders, key, record.outputs)
        return Harvest(values, problems, self._folders.folder(key) / "workspace")

    def consumed(self, key: str, upto: int) -> None:
        start, end = self._punched.get(key, 0), upto - upto % _BLOCK
        if end - start < _PUNCH_BYTES:
            return
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(self._folders.folder(key) / "output", os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                punch(descriptor, start, end)
            finally:
                os.close(descriptor)
        self._punched[key] = end

    async def remove(self, key: str, ref: str) -> None:
        run = self._runs.get(key)
        if run is not None:
            self._forget(run)
        self._punched.pop(key, None)
        await self._clearing.remove(key, run)
        if run is not None:
            run.dead.set()
            run.over.set()
            run.wake()

    async def sweep(self, unwanted: Set[str]) -> Set[str]:
        await self._blocking(self._folders.tidy)
        found = unwanted & await self.existing()
        for key in found:
            await self.remove(key, key)
        return found

    async def existing(self) -> Set[str]:
        return await self._blocking(self._clearing.existing)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for run in tuple(self._runs.values()):
            self._forget(run)
        self._watch.close()
        self._folders.close()
        self._hands.close()
        await self._blocking(self._births.close)
        for holder in self._machine.holders.values():
            await self._blocking(holder.close)
        self._threads.shutdown(wait=True)

    # --- plumbing -----------------------------------------------------------------------------------------------

    async def _blocking(self, function: Callable[[*Ts], R], *args: *Ts) -> R:
        return await self._loop.run_in_executor(self._threads, function, *args)

    async def _holding(self, function: Callable[[*Ts], R], *args: *Ts) -> R:
        """As :meth:`_blocking`, for what returns a driver: that is closed if nobody waits any more."""
        work = self._loop.run_in_executor(self._threads, function, *args)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(_let_go)
            raise

    def _go(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A child of this executor: ends by itself or with :meth:`close`. What it raises is logged."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._gone)
        return task

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("process_executor_failed", exc_info=error)


def _let_go(work: asyncio.Future[Any]) -> None:
    if not work.cancelled() and work.exception() is None:
        result = work.result()
        driver = result[-1] if isinstance(result, tuple) else result
        if isinstance(driver, Driver):
            driver.close()
