"""How a job is stopped: ask, wait, kill. What is under way is in the job's folder, so that the next server goes on."""

import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from cador.executors.job_folder import Folders, Stop
from cador.executors.marks import Marks
from cador.executors.running import Run

_ASK_AGAIN_S: Final = 0.2


class Ladder:
    """*blocking* runs a function on a thread."""

    def __init__(self, folders: Folders, blocking: Callable[..., Awaitable[Any]]) -> None:
        self._folders, self._blocking = folders, blocking

    async def cancel(self, run: Run, stop: Stop) -> None:
        """Nothing further runs."""
        await self._ask(run, stop, run.dead.is_set)
        if not run.dead.is_set():
            await self._blocking(run.holder.kill, run.key, run.pid)

    async def time_out(self, run: Run, stop: Stop) -> None:
        """The running step and all it left are ended; then the gate is opened for the reports, for their time."""
        marks = Marks(self._folders, run.key, run.record.steps)
        reporting = self._folders.folder(run.key) / "reporting"
        since = time.time()
        if (told := self._folders.content(run.key, "reporting", 1)) is not None:
            since = told[1]
        else:
            await self._ask(run, stop, lambda: run.dead.is_set() or not marks.running())
            if run.dead.is_set():
                return
            await self._blocking(run.holder.kill, run.key, run.pid, run.pid)
            reporting.touch()
        gate = os.open(self._folders.folder(run.key) / "gate", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(gate, b"open\n")
            await run.wait_for(run.dead.is_set, since + run.record.report_s - time.time())
        finally:
            os.close(gate)
        if not run.dead.is_set():
            await self._blocking(run.holder.kill, run.key, run.pid)

    async def _ask(self, run: Run, stop: Stop, done: Callable[[], bool]) -> None:
        """TERM to every process but the driver, who outlives them to say how it ended; wait until *done* or grace."""
        asked: set[int] = set()
        deadline = stop.at + stop.grace_s
        while not done():
            pids = await self._blocking(run.holder.pids, run.key, run.pid)
            for pid in pids - asked - {run.pid}:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGTERM)
            asked |= pids
            left = deadline - time.time()
            if left <= 0:
                return
            await run.wait_for(done, min(left, _ASK_AGAIN_S))
