"""Executor ``scripted``: runs no process. What a job does is written in a table, or in very small step texts.

For tests and dry runs: time passes by the event loop's timers alone, so a loop with a clock of its own runs hours in a
moment, and always alike. What exists is kept in a :class:`ScriptedWorld`, as the processes of a host are kept by the
host: executors come and go (server restarts, replicas) and find it.

A job's whole future is planned when it starts: output, marks and the end, each with its time. A stop plans anew from
its moment on; what is past never changes. Followers walk along the plan.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from cador.executors.scripted_steps import Program, parse
from cador.ports.executor import (
    End,
    FolderStep,
    Gone,
    Harvest,
    JobFolder,
    Output,
    StartRefused,
    StepMark,
    StepState,
    Unreachable,
)

_TERMINATED: Final = 143
_KILLED: Final = 137
_TIMED_OUT: Final = 124
_HAIR_S: Final = 1e-5
"""Clocks of 1e9 seconds are not finer than this: a timer may seem to fire a hair early."""


@dataclass(frozen=True, slots=True)
class Script:
    """What one job does. Its last step that is not ``on_failure`` takes *after_s* seconds and ends with *exit_code*;
    the others pass at once.

    *lines*: (seconds after the start, text); a str gets a newline, bytes are printed as they are. *outputs* are left
    when the step ends by itself. *ignores_term*: only the kill after the grace period ends it. *start_error*: why it
    cannot start, or the error that ``start`` raises. *survives_restart*: false: :meth:`ScriptedWorld.restart` loses it.
    """

    after_s: float = 0.0
    exit_code: int = 0
    outputs: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[tuple[float, str | bytes], ...] = ()
    ignores_term: bool = False
    start_error: str | Exception | None = None
    survives_restart: bool = True


Scripts = Mapping[str, Script] | Callable[[str, JobFolder], Script | None]
"""Script by pattern of the key (``*-build-*``, first match), or a function; None: the step texts say what happens."""


class _Planned(NamedTuple):
    at: float
    event: bytes | StepMark | End


class _Run:
    """One execution and its plan."""

    def __init__(self, job: JobFolder, programs: tuple[Program, ...], at: float, *, survives: bool) -> None:
        self.job, self.programs, self.survives = job, programs, survives
        self.plan: list[_Planned] = []
        self.stopped = ""
        self._results: dict[int, Mapping[str, str]] = {}
        self._continue(0, at, code=0, failed=None)

    def results(self) -> dict[str, str]:
        """Values left by the steps that ended by themselves."""
        found = {name: value for index in sorted(self._results) for name, value in self._results[index].items()}
        return {name: found[name].strip("\r\n") for name in self.job.outputs if name in found}

    def stop(self, reason: str, at: float, grace_s: float) -> None:
        """Plan anew from *at* on."""
        running = self._running(at)
        if running is None or self.stopped in (reason, "cancel"):
            return
        self.stopped = reason
        ending, until, natural = next(
            (place, ends_at, event)
            for place, (ends_at, event) in enumerate(self.plan)
            if isinstance(event, StepMark) and event.index == running and event.state is not StepState.RUNNING
        )
        status = natural.exit_code or 0
        killed = True
        if not self.programs[running].ignores_term:
            until, status = at, _TERMINATED
        elif until > at + grace_s:
            until, status = at + grace_s, _KILLED
        else:
            killed = False
        self._results = {
            index: left for index, left in self._results.items() if index < running or (index == running and not killed)
        }
        self.plan = [planned for planned in self.plan[:ending] if planned.at <= until]
        code, failed = self._failure()
        if status and not code:
            code, failed = status, running
        ended = StepState.FAILED if status else StepState.PASSED
        state = StepState.CANCELLED if reason == "cancel" else ended
        self._add(until, StepMark(running, state, until, status))
        self._continue(running + 1, until, code=code, failed=failed)

    def crash(self, at: float) -> None:
        """Its processes die at *at*, and nobody sees how."""
        if self._running(at) is None:
            return
        self.plan = [planned for planned in self.plan if planned.at <= at]
        self._results.clear()
        self._add(at, End(None, at, reason="the host killed it"))

    def end(self, at: float) -> End | None:
        """How it ended; None: it has not, yet."""
        last = self.plan[-1]
        return last.event if isinstance(last.event, End) and last.at <= at else None

    def _running(self, at: float) -> int | None:
        """The step that runs at *at*; None: all is over."""
        running = None
        for planned in self.plan:
            if planned.at > at:
                return running
            if isinstance(planned.event, StepMark) and planned.event.state is StepState.RUNNING:
                running = planned.event.index
        return None

    def _failure(self) -> tuple[int, int | None]:
        for _, event in self.plan:
            if isinstance(event, StepMark) and event.state is StepState.FAILED and event.exit_code:
                if self.job.steps[event.index].tolerate:
                    continue
                return event.exit_code, event.index
        return 0, None

    def _continue(self, first: int, at: float, *, code: int, failed: int | None) -> None:
        """Plan the steps from *first* on, and the end."""
        deadline = at + self.job.report_s if self.stopped == "timeout" else None
        if deadline is not None and not code:
            code = _TIMED_OUT
        for index in range(first, len(self.job.steps)):
            step = self.job.steps[index]
            late = deadline is not None and at >= deadline
            if self.stopped == "cancel" or (code and not step.on_failure) or late:
                self._add(at, StepMark(index, StepState.SKIPPED, at))
                continue
            at, status = self._step(index, step, at, deadline)
            if status and not step.tolerate and not code:
                code, failed = status, index
        self._add(at, End(code, at, self.stopped, failed))

    def _step(self, index: int, step: FolderStep, began: float, deadline: float | None) -> tuple[float, int]:
        """Plan one step; returns when it ends, and how."""
        environ = {**self.job.env, **{k: v for left in self._results.values() for k, v in left.items()}}
        done = self.programs[index].run(environ, step.outputs)
        status, ended = done.exit_code, began + done.after_s
        if deadline is not None and ended > deadline:
            status, ended = _KILLED, deadline
        else:
            self._results[index] = done.outputs
        self._add(began, StepMark(index, StepState.RUNNING, began))
        if not step.quiet:
            self._add(began, f"cador: step {step.name} started\n".encode())
        for after, text in done.prints:
            if began + after <= ended:
                self._add(began + after, text)
        if not step.quiet:
            how = f"failed with exit code {status}" if status else "passed"
            self._add(ended, f"cador: step {step.name} {how} after {ended - began:.2f} s\n".encode())
            if status and step.tolerate:
                self._add(ended, f"cador: step {step.name}: exit code {status} is tolerated\n".encode())
        self._add(ended, StepMark(index, StepState.FAILED if status else StepState.PASSED, ended, status))
        return ended, status

    def _add(self, at: float, event: bytes | StepMark | End) -> None:
        self.plan.append(_Planned(at, event))


class ScriptedWorld:
    """The host that the executors share. Belongs to one event loop at a time."""

    def __init__(self, clock: Callable[[], float], *, place: str = "scripted") -> None:
        """*clock*: Unix seconds, as fast as the event loop's own."""
        self.place = place
        self.runs: dict[str, _Run] = {}
        self.tombstones: dict[str, str] = {}
        """Key -> ``stopped`` (before it started), ``removed``, ``refused`` (removed, then started again)."""
        self.starts: list[str] = []
        """Keys in the order they really began: what a test counts."""
        self.consumed: dict[str, int] = {}
        self.reachable = True
        """False: every call raises ``Unreachable``, followers too, from :meth:`changed` on."""
        self.began: Callable[[str], None] = lambda key: None
        """Called with each key that really begins."""
        self._clock, self._skipped = clock, 0.0
        self._waiting: set[asyncio.Future[None]] = set()

    def now(self) -> float:
        """Unix seconds."""
        return self._clock() + self._skipped

    def skip(self, seconds: float) -> None:
        """Let time pass for all jobs at once."""
        self._skipped += seconds
        self.changed()

    def restart(self) -> None:
        """Lose the jobs that do not survive a restart, ended or not."""
        for key in [key for key, run in self.runs.items() if not run.survives]:
            del self.runs[key]
        self.changed()

    def lose(self, key: str) -> None:
        """The host forgets a job, as if it had never been there."""
        if self.runs.pop(key, None) is not None:
            self.changed()

    def crash(self, key: str) -> None:
        """The processes of a job die, and nobody sees how."""
        if (run := self.runs.get(key)) is not None:
            run.crash(self.now() + _HAIR_S)
            self.changed()

    def end(self, key: str) -> End | None:
        """How a job that is still there ended."""
        run = self.runs.get(key)
        return run.end(self.now() + _HAIR_S) if run is not None else None

    def changed(self) -> None:
        """Wake the followers: a plan or what can be reached changed."""
        for waiting in tuple(self._waiting):
            _wake(waiting)

    async def wait(self, until: float | None) -> None:
        """Wait for *until*, or for a change."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(max(0.0, until - self.now()), _wake, waiting) if until is not None else None
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)
            if timer is not None:
                timer.cancel()


class ScriptedExecutor:
    """See :class:`cador.ports.executor.Executor`."""

    name = "scripted"

    def __init__(self, world: ScriptedWorld, scripts: Scripts | None = None) -> None:
        self._world, self._scripts = world, scripts if scripts is not None else {}

    @property
    def place(self) -> str:
        return self._world.place

    async def start(self, key: str, job: JobFolder) -> str:
        self._reach()
        world = self._world
        if key in world.tombstones:
            if world.tombstones[key] == "removed":
                world.tombstones[key] = "refused"
            return key
        if key in world.runs:
            return key
        script = self._script(key, job)
        if isinstance(script, Script) and script.start_error is not None:
            raise script.start_error if isinstance(script.start_error, Exception) else StartRefused(script.start_error)
        programs = tuple(_programs(job, script))
        survives = script.survives_restart if script is not None else True
        world.runs[key] = _Run(job, programs, world.now(), survives=survives)
        world.starts.append(key)
        world.began(key)
        world.changed()
        return key

    async def follow(self, key: str, ref: str, after: int) -> AsyncIterator[Output | StepMark | End]:
        self._reach()
        world = self._world
        if world.tombstones.get(key) in ("stopped", "refused"):
            yield End(None, world.now(), stopped="cancel", reason="stopped before it started")
            return
        run = self._find(key)
        heard = offset = 0
        while True:
            # a stop plans anew behind what is past, so what was heard stays where it is
            due = bisect_right(run.plan, world.now() + _HAIR_S, lo=heard, key=lambda planned: planned.at)
            for planned in run.plan[heard:due]:
                heard += 1
                if isinstance(planned.event, bytes):
                    offset += len(planned.event)
                    if offset > after:
                        data = planned.event[max(0, len(planned.event) - (offset - after)) :]
                        yield Output(offset - len(data), data)
                else:
                    yield planned.event
                    if isinstance(planned.event, End):
                        return
            await world.wait(run.plan[heard].at if heard < len(run.plan) else None)
            self._reach()
            if world.runs.get(key) is not run:
                raise Gone(key)

    async def stop(self, key: str, ref: str, reason: str, grace_s: float) -> None:
        self._reach()
        run = self._world.runs.get(key)
        if run is None:
            self._world.tombstones.setdefault(key, "stopped")
        else:
            run.stop(reason, self._world.now() + _HAIR_S, grace_s)
        self._world.changed()

    async def harvest(self, key: str, ref: str) -> Harvest:
        self._reach()
        return Harvest(self._find(key).results())

    def consumed(self, key: str, upto: int) -> None:
        if key in self._world.runs:
            self._world.consumed[key] = max(upto, self._world.consumed.get(key, 0))

    async def remove(self, key: str, ref: str) -> None:
        self._reach()
        self._world.runs.pop(key, None)
        self._world.consumed.pop(key, None)
        self._world.tombstones.setdefault(key, "removed")
        self._world.changed()

    async def sweep(self, unwanted: Set[str]) -> Set[str]:
        found = unwanted & await self.existing()
        for key in sorted(found):
            await self.remove(key, key)
        return found

    async def existing(self) -> Set[str]:
        self._reach()
        return set(self._world.runs)

    async def close(self) -> None:
        """Nothing is held here."""

    def _reach(self) -> None:
        if not self._world.reachable:
            raise Unreachable(f"{self._world.place} does not answer")

    def _find(self, key: str) -> _Run:
        try:
            return self._world.runs[key]
        except KeyError:
            raise Gone(key) from None

    def _script(self, key: str, job: JobFolder) -> Script | None:
        if callable(self._scripts):
            return self._scripts(key, job)
        return next((script for pattern, script in self._scripts.items() if fnmatchcase(key, pattern)), None)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _programs(job: JobFolder, script: Script | None) -> Iterator[Program]:
    """What each step does. Raises: StartRefused."""
    if script is None:
        for step in job.steps:
            yield parse(step)
        return
    mains = [index for index, step in enumerate(job.steps) if not step.on_failure]
    main = mains[-1] if mains else len(job.steps) - 1
    prints = tuple((at, text if isinstance(text, bytes) else f"{text}\n".encode()) for at, text in script.lines)
    for index in range(len(job.steps)):
        if index == main:
            yield Program.of_script(script.after_s, prints, script.exit_code, script.outputs, script.ignores_term)
        else:
            yield Program()
