"""Executor ``server``: carries out actions (``cador.ports.actions``) in the server process itself.

An action lives in memory and nowhere else: it ends with its server, and every other server hears ``Gone`` of it. What
may not be done twice depends on three rules:

* It begins when it is followed for the first time, not when it is started: by then the tables say that it runs. So no
  crash leaves one that ran and that nobody knows of.
* Nobody follows it for :attr:`unattended_s`: it is broken off. So a server that lost its place among others does not go
  on with what another one has given up by then.
* A server that is told to end lets actions that are not repeatable come to their end for a while (:meth:`drain`); what
  takes longer ends with the reason, what is repeatable is begun anew by the next server.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Set
from functools import partial
from typing import Final

import structlog

from cador.domain.masking import Masker
from cador.ports.actions import SERVER, Action, ActionCall, ActionFailed
from cador.ports.executor import End, Gone, Harvest, JobFolder, Output, StartRefused, StepMark, Unreachable

log = structlog.get_logger(__name__)

CANCELLED: Final = 143
TIMED_OUT: Final = 124
HELD_BYTES: Final = 8 << 20
"""Output that waits for a follower; what an action prints beyond it is dropped, and told."""
CHUNK: Final = 262_144
PATIENCE_S: Final = 10.0
"""After so long an action that was broken off is cancelled again."""
CLOSING_S: Final = 5.0
"""How long actions that are broken off at the end of a server have for clearing up."""
TOMBSTONES: Final = 10_000
ENDED: Final = "the server was stopped before the job ended"


class ServerExecutor:
    """See :class:`cador.ports.executor.Executor`."""

    name = SERVER

    def __init__(
        self,
        actions: Mapping[str, Action],
        *,
        place: str,
        clock: Callable[[], float],
        unattended_s: float = 30.0,
        forgotten_s: float = 600.0,
    ) -> None:
        """*place*: of this server; the next one that is started on the same data has the same, and finds nothing here.
        *clock*: Unix seconds. *forgotten_s*: after so long what was started and nobody ever followed is forgotten: its
        server was fenced in between, and another one has it."""
        self.place = place
        self.unattended_s = unattended_s
        self._forgotten_s = forgotten_s
        self._actions, self._clock = actions, clock
        self._runs: dict[str, _Run] = {}
        self._tombstones: OrderedDict[str, str] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def start(self, key: str, job: JobFolder) -> str:
        if self._closing:
            raise Unreachable("this server is about to end")
        if key in self._tombstones:
            if self._tombstones[key] == "removed":
                self._bury(key, "refused")
            return key
        if key not in self._runs:
            if job.action is None:
                raise StartRefused("the job runs steps, and the server itself runs none")
            action = self._actions.get(job.action.name)
            if action is None:
                raise StartRefused(f"this server knows no action {job.action.name}")
            run = self._runs[key] = _Run(key, job.action, action, Masker(job.secrets))
            run.unattended = asyncio.get_running_loop().call_later(self._forgotten_s, self._give_up, run)
        return key

    async def follow(self, key: str, ref: str, after: int) -> AsyncIterator[Output | StepMark | End]:
        if self._tombstones.get(key) in ("stopped", "refused"):
            yield End(None, self._clock(), stopped="cancel", reason="stopped before it started")
            return
        run = self._find(key)
        changed = run.listen()
        try:
            self._begin(run)
            while True:
                changed.clear()
                while (output := run.read(after)).data:
                    yield output
                    after = output.offset + len(output.data)
                if self._runs.get(key) is not run:
                    raise Gone(key)
                if run.end is not None:
                    yield run.end
                    return
                await changed.wait()
        finally:
            run.listeners.discard(changed)
            if not run.listeners and run.end is None and self._runs.get(key) is run:
                loop = asyncio.get_running_loop()
                run.unattended = loop.call_later(self.unattended_s, self._give_up, run)

    async def stop(self, key: str, ref: str, reason: str, grace_s: float) -> None:
        run = self._runs.get(key)
        if run is None:
            if key not in self._tombstones:
                self._bury(key, "stopped")
        elif run.end is None and run.stopped not in (reason, "cancel"):
            run.stopped = reason
            self._break_off(run)

    async def harvest(self, key: str, ref: str) -> Harvest:
        return Harvest({name: value.strip("\r\n") for name, value in self._find(key).outputs.items()})

    def consumed(self, key: str, upto: int) -> None:
        if (run := self._runs.get(key)) is not None:
            run.drop(upto)

    async def remove(self, key: str, ref: str) -> None:
        self._drop(key)
        if key not in self._tombstones:
            self._bury(key, "removed")

    async def sweep(self, unwanted: Set[str]) -> Set[str]:
        found = unwanted & self._runs.keys()
        for key in found:
            await self.remove(key, key)
        return found

    async def existing(self) -> Set[str]:
        return set(self._runs)

    async def drain(self, within_s: float) -> None:
        """Start nothing more, and let what is not repeatable come to its end within *within_s*; what takes longer is
        broken off and ends with the reason. Returns when their ends were heard, or could not be."""
        self._closing = True
        lasting = [run for run in self._runs.values() if not run.call.repeatable]
        if not lasting:
            return
        log.info("waiting_for_actions", keys=sorted(run.key for run in lasting), within_s=within_s)
        if await self._removed(lasting, within_s):
            return
        for run in lasting:
            if run.end is None and not run.stopped:
                run.stopped = ENDED
                self._break_off(run)
        await self._removed(lasting, CLOSING_S)

    async def close(self) -> None:
        """Break off what still runs, and let it clear up."""
        self._closing = True
        for key in list(self._runs):
            self._drop(key)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSING_S)

    # -- one action

    def _begin(self, run: "_Run") -> None:
        if run.unattended is not None:
            run.unattended.cancel()
            run.unattended = None
        if run.task is None and run.end is None:
            run.task = asyncio.get_running_loop().create_task(
                run.action(run, run.call.arguments), name=f"action {run.key}"
            )
            self._tasks.add(run.task)
            run.task.add_done_callback(partial(self._ended, run))

    def _ended(self, run: "_Run", task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        run.finish(self._judged(run, task))

    def _judged(self, run: "_Run", task: "asyncio.Task[None]") -> End:
        if task.cancelled():
            return self._stopped(run.stopped)
        error = task.exception()
        match error:
            case None:
                return End(0, self._clock())  # it was done before the stop reached it
            case _ if run.stopped:
                return self._stopped(run.stopped)
            case ActionFailed():
                return End(1, self._clock(), reason=str(error))
            case _:
                # The edge of one action: a mistake of ours ends this job and nothing else.
                told = run.mask(f"{type(error).__name__}: {error}")
                log.error("action_broke_off", key=run.key, action=run.call.name, error=told)
                return End(1, self._clock(), reason=f"the action {run.call.name} broke off: {told}")

    def _stopped(self, reason: str) -> End:
        match reason:
            case "cancel":
                return End(CANCELLED, self._clock(), stopped="cancel")
            case "timeout":
                return End(TIMED_OUT, self._clock(), stopped="timeout")
            case _:
                return End(1, self._clock(), reason=reason or ENDED)

    def _break_off(self, run: "_Run") -> None:
        """Ask the action to end, and again until it does."""
        if run.task is None:
            if run.end is None:
                run.finish(self._stopped(run.stopped))
        elif not run.task.done():
            if run.asked:
                log.warning("action_does_not_stop", key=run.key, action=run.call.name)
            run.asked = True
            run.task.cancel()
            asyncio.get_running_loop().call_later(PATIENCE_S, self._break_off, run)

    def _give_up(self, run: "_Run") -> None:
        """Nobody follows it any more: others may have it for lost."""
        if self._runs.get(run.key) is run and not run.listeners:
            log.warning("action_unattended", key=run.key, action=run.call.name)
            self._drop(run.key)

    def _drop(self, key: str) -> None:
        run = self._runs.pop(key, None)
        if run is None:
            return
        if run.unattended is not None:
            run.unattended.cancel()
        self._break_off(run)
        run.wake()

    def _bury(self, key: str, how: str) -> None:
        self._tombstones[key] = how
        if len(self._tombstones) > TOMBSTONES:
            self._tombstones.popitem(last=False)

    def _find(self, key: str) -> "_Run":
        try:
            return self._runs[key]
        except KeyError:
            raise Gone(key) from None

    async def _removed(self, runs: "list[_Run]", within_s: float) -> bool:
        """Whether all of *runs* were heard to their end and removed in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for run in runs:
                    changed = run.listen()
                    try:
                        while self._runs.get(run.key) is run:
                            changed.clear()
                            await changed.wait()
                    finally:
                        run.listeners.discard(changed)
        return all(self._runs.get(run.key) is not run for run in runs)


class _Run:
    """One execution. Implements :class:`cador.ports.actions.ActionRun`."""

    def __init__(self, key: str, call: ActionCall, action: Action, masker: Masker) -> None:
        self.key, self.call, self.action, self.masker = key, call, action, masker
        self.outputs: dict[str, str] = {}
        self.asked = False
        self.stopped = ""
        """``cancel``, ``timeout``, or why it was broken off."""
        self.end: End | None = None
        self.task: asyncio.Task[None] | None = None
        self.unattended: asyncio.TimerHandle | None = None
        self.listeners: set[asyncio.Event] = set()
        self._held, self._base, self._dropped = bytearray(), 0, 0

    # -- for the action

    def line(self, text: str) -> None:
        data = text.encode("utf-8", "replace") + b"\n"
        if len(self._held) + len(data) > HELD_BYTES:
            self._dropped += 1
            return
        self._tell_dropped()
        self._held += data
        self.wake()

    def leave(self, name: str, value: str) -> None:
        self.outputs[name] = value

    def mask(self, text: str) -> str:
        return self.masker.mask_text(text)

    # -- for the executor

    def read(self, after: int) -> Output:
        start = max(0, after - self._base)
        return Output(self._base + start, bytes(self._held[start : start + CHUNK]))

    def drop(self, upto: int) -> None:
        count = min(upto - self._base, len(self._held))
        if count > 0:
            del self._held[:count]
            self._base += count

    def _tell_dropped(self) -> None:
        if self._dropped:
            self._held += f"warning: {self._dropped} lines are missing here\n".encode()
            self._dropped = 0

    def finish(self, end: End) -> None:
        self._tell_dropped()
        self.end = end
        self.wake()

    def listen(self) -> asyncio.Event:
        changed = asyncio.Event()
        self.listeners.add(changed)
        return changed

    def wake(self) -> None:
        for listener in self.listeners:
            listener.set()
