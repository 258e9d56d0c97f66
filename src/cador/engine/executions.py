"""Executions: start, follow to the end, stop, adopt. One asyncio task per live execution, nothing else waits here."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

from cador.domain import events as ev
from cador.domain.errors import CadorError, NotFound, Unavailable
from cador.domain.task import WorkflowTask
from cador.engine.hearing import Claim, Ear, Outcome
from cador.engine.preparing import Loaded, Prepared, Preparer
from cador.ports.blobs import BlobStore
from cador.ports.clock import Clock
from cador.ports.executor import End, Executor, Gone, Output, StartRefused, StepMark, StepState, Unreachable
from cador.ports.logs import LogStore, LogWriter
from cador.ports.stores import CommandRow, ExecutionRow, Tx

if TYPE_CHECKING:
    from cador.engine.engine import Engine, Room

log = structlog.get_logger(__name__)

SYNC_S: Final = 1.0
"""How often a growing log is made durable."""
AGAIN_S: Final = 1.0
"""Pause before the end of an execution is written again when the database or the place was away."""


@dataclass(slots=True)
class _Followed:
    """What the follower of one execution has in hand."""

    row: ExecutionRow
    prepared: Prepared
    writer: LogWriter
    steps: list[dict[str, Any]] = field(default_factory=list)
    end: End | None = None


class Executions:
    def __init__(
        self,
        engine: "Engine",
        *,
        installation: str,
        clock: Clock,
        logs: LogStore,
        blobs: BlobStore,
        executors: Mapping[str, Executor],
        preparer: Preparer,
        stop_grace_s: float,
        max_artifact_bytes: int,
        lost_after_s: float,
    ) -> None:
        self._engine = engine
        self._installation = installation
        self._clock = clock
        self._logs, self._blobs = logs, blobs
        self._executors = executors
        self._preparer = preparer
        self._stop_grace_s = stop_grace_s
        self._max_artifact_bytes = max_artifact_bytes
        self._lost_after_s = lost_after_s

    def key(self, job_id: int, attempt: int, recovery: int) -> str:
        """Names one execution for ever; the installation is part of it, so that sweeps never meet strangers."""
        return f"{self._installation}.{job_id}.{attempt}.{recovery}"

    # -- start

    async def run(self, command: CommandRow, room: "Room") -> None:
        """Carry out a ``start``: prepare, start, and follow until the end is heard."""
        job_id, attempt = int(command.payload["job_id"]), int(command.payload["attempt"])
        recovery = int(command.payload["recovery"])
        loaded = await self._engine.db.read(self._preparer.load, command.task_id, job_id)
        if loaded is None or not loaded.awaits(attempt, recovery):
            await self._engine.transact(_drop, command, starts=0)
            return
        try:
            prepared = self._preparer.prepare(loaded)
        except CadorError as error:
            await self._fail_start(command, loaded.job.name, attempt, recovery, str(error))
            return
        if prepared is None:
            skipped = ev.JobSkipped(self._clock.now(), job_id, attempt)
            await self._engine.transact(_hear, command, command.task_id, skipped)
            return
        executor = self._executors[prepared.executor]
        key = self.key(job_id, attempt, recovery)
        try:
            ref = await executor.start(key, prepared.folder)
        except StartRefused as error:
            await self._fail_start(command, loaded.job.name, attempt, recovery, str(error))
            return
        row = ExecutionRow(
            key, command.task_id, job_id, attempt, recovery, executor.name, executor.place, ref,
            self._engine.me, self._clock.now(),
        )  # fmt: skip
        await self._engine.transact(_started, command, row, prepared.warnings, starts=0)
        self._engine.meter.job_started(executor.name, max(0.0, row.created_at - (loaded.job.start_at or 0.0)))
        await self._follow(row, prepared, room)

    async def _fail_start(self, command: CommandRow, name: str, attempt: int, recovery: int, reason: str) -> None:
        ended = ev.JobEnded(
            self._clock.now(), int(command.payload["job_id"]), attempt, recovery, ev.Result.BROKEN, reason
        )
        await self._engine.transact(_hear, command, command.task_id, ended)
        log.info("job_not_started", task=command.task_id, job=name, reason=reason)

    async def give_up(self, command: CommandRow, error: Exception) -> None:
        """A ``start`` that failed again and again for reasons of the machine: the job fails with the last one."""
        await self._fail_start(
            command,
            command.key,
            int(command.payload["attempt"]),
            int(command.payload["recovery"]),
            f"the job could not be started: {(str(error).splitlines() or [repr(error)])[-1]}",
        )

    # -- follow

    async def _follow(self, row: ExecutionRow, prepared: Prepared, room: "Room", *, adopted: bool = False) -> None:
        """Write the log of one execution, collect what it leaves, hear its end. Errors of the outside are waited out;
        the execution itself is never harmed by them."""
        executor = self._executors[row.executor]
        since = _time()
        while True:
            try:
                followed = await self._watch(executor, row, prepared)
                room.free()
                await self._close(executor, followed, adopted=adopted)
            except Gone:
                await self._engine.transact(_lost, row, self._clock.now(), "")
                return
            except Unreachable as error:
                if _time() - since > self._lost_after_s:
                    await self._engine.transact(_lost, row, self._clock.now(), f"lost executor: {error}")
                    return
            except NotFound:
                return  # the task is no more
            except (OSError, CadorError) as error:
                log.warning("following_interrupted", key=row.key, error=repr(error))
            else:
                return
            await asyncio.sleep(AGAIN_S)

    async def _watch(self, executor: Executor, row: ExecutionRow, prepared: Prepared) -> _Followed:
        writer = self._logs.open(prepared.log_name, prepared.folder.secrets)
        followed = _Followed(row, prepared, writer, [_idle_step(s.name, s.type) for s in prepared.folder.steps])
        done = False
        synced_at = _time()
        try:
            if writer.raw_offset == 0:
                for warning in prepared.warnings:
                    writer.line(f"warning: {warning}")
            async for item in executor.follow(row.key, row.ref, writer.raw_offset):
                match item:
                    case Output():
                        writer.feed(item.data, item.offset + len(item.data))
                        if _time() - synced_at >= SYNC_S:
                            executor.consumed(row.key, await asyncio.to_thread(writer.sync))
                            synced_at = _time()
                    case StepMark():
                        _mark(followed.steps, item)
                    case End():
                        followed.end = item
            done = True
        finally:
            if not done:
                writer.leave()
        return followed

    async def _close(self, executor: Executor, followed: _Followed, *, adopted: bool) -> None:
        """Collect, judge, write: the log is complete before the end is told, so that readers agree."""
        row, prepared, writer, end = followed.row, followed.prepared, followed.writer, followed.end
        if end is None:
            writer.leave()
            raise Unreachable("the executor told no end")
        try:
            conclusion = await self._preparer.conclude(
                executor, row, prepared, end, self._blobs, self._max_artifact_bytes, adopted=adopted
            )
            for line in conclusion.lines:
                writer.line(line)
            await asyncio.to_thread(writer.close)
        except BaseException:
            writer.leave()
            raise
        event = ev.JobEnded(end.at, row.job_id, row.attempt, row.recovery, conclusion.result, conclusion.error)
        await self._engine.transact(_ended, row, event, conclusion.outputs, conclusion.facts, followed.steps)
        self._engine.meter.job_ended(prepared.type.name, conclusion.result.value, max(0.0, end.at - row.created_at))
        await executor.remove(row.key, row.ref)

    # -- stop

    async def stop(self, command: CommandRow) -> None:
        """Carry out a ``stop``. An execution that was not begun yet ends here; a running one tells its own end."""
        job_id, attempt = int(command.payload["job_id"]), int(command.payload["attempt"])
        recovery, reason = int(command.payload["recovery"]), str(command.payload["reason"])
        never_began = await self._engine.transact(_stop_unbegun, command, job_id, attempt, recovery, self._clock.now())
        if never_began:
            return
        key = self.key(job_id, attempt, recovery)
        row = await self._engine.db.read(_execution, key)
        for executor in self._executors.values():
            if row is None or (row.executor == executor.name and row.place == executor.place):
                await executor.stop(key, row.ref if row is not None else "", reason, self._stop_grace_s)
        await self._engine.transact(_drop, command, starts=0)

    # -- adopt

    async def adopt_all(self) -> None:
        """Attach to what earlier processes started, then end what no row knows of."""
        found = {name: await executor.existing() for name, executor in self._executors.items()}
        rows, pending = await self._engine.db.read(_live)
        for row in rows:
            executor = self._executors.get(row.executor)
            if executor is not None and _same_host(row.place, executor.place):
                self._engine.spawn(f"adopt {row.key}", self._adopt, row, self._engine.adopted())
            else:
                self._engine.spawn(f"lose {row.key}", self._lose, row)
        live = {row.key for row in rows} | {self.key(*ids) for ids in pending}
        for name, keys in found.items():
            if keys - live:
                swept = await self._executors[name].sweep(live)
                log.info("orphans_swept", executor=name, keys=sorted(swept))
        if rows:
            self._engine.meter.recovered("adopted", len(rows))
            log.info("executions_adopted", count=len(rows))

    async def _adopt(self, row: ExecutionRow, room: "Room") -> None:
        try:
            loaded = await self._take_on(row)
            prepared = None
            if loaded is not None:
                try:
                    prepared = self._preparer.prepare(loaded)
                except CadorError as error:
                    log.warning("adopted_job_not_prepared", key=row.key, error=str(error))
            if prepared is None:
                await self._engine.transact(_lost, row, self._clock.now(), "")
                return
            await self._follow(row, prepared, room, adopted=True)
        finally:
            room.free()

    async def _take_on(self, row: ExecutionRow) -> Loaded | None:
        while True:
            try:
                await self._engine.db.write(_take, row.key, self._engine.me)
                return await self._engine.db.read(self._preparer.load, row.task_id, row.job_id)
            except Unavailable:
                await asyncio.sleep(AGAIN_S)

    async def _lose(self, row: ExecutionRow) -> None:
        """Nobody here reaches that place. It may only be away for a moment, so the job is not run again."""
        await asyncio.sleep(self._lost_after_s)
        await self._engine.transact(_lost, row, self._clock.now(), f"lost executor: {row.place}")


def _time() -> float:
    """Monotonic seconds, of the event loop."""
    return asyncio.get_running_loop().time()


def _same_host(one: str, other: str) -> bool:
    """Whether two places are the same machine: after a reboot it still knows that its processes are gone."""
    return one.split(":", 1)[0] == other.split(":", 1)[0]


def _idle_step(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "status": "", "start_time": 0, "end_time": 0, "exit_code": None}


def _mark(steps: list[dict[str, Any]], mark: StepMark) -> None:
    if not 0 <= mark.index < len(steps):
        return
    step = steps[mark.index]
    step["status"] = mark.state.value
    if mark.state is StepState.RUNNING:
        step["start_time"] = mark.at
    else:
        step["end_time"] = mark.at
        step["exit_code"] = mark.exit_code


# -- transactions


def _hear(tx: Tx, claim: Claim, command: CommandRow | None, task_id: int, event: ev.Event) -> Outcome[None]:
    ear = Ear(tx, claim)
    ear.settle(command)
    ear.hear(task_id, event)
    return ear.outcome(None)


def _drop(tx: Tx, claim: Claim, command: CommandRow) -> Outcome[None]:
    ear = Ear(tx, claim)
    ear.settle(command)
    return ear.outcome(None)


def _started(tx: Tx, claim: Claim, command: CommandRow, row: ExecutionRow, warnings: tuple[str, ...]) -> Outcome[None]:
    ear = Ear(tx, claim)
    ear.settle(command)
    tx.executions.add(row)
    if warnings:
        tx.tasks.merge_result(row.job_id, {"warnings": list(warnings)})
    ear.hear(row.task_id, ev.JobStarted(row.created_at, row.job_id, row.attempt, row.recovery))
    return ear.outcome(None)


def _ended(
    tx: Tx,
    claim: Claim,
    row: ExecutionRow,
    event: ev.JobEnded,
    outputs: Mapping[str, str],
    facts: Mapping[str, Any],
    steps: list[dict[str, Any]],
) -> Outcome[None]:
    def also(tx: Tx, before: WorkflowTask, after: WorkflowTask) -> None:
        if outputs:
            tx.tasks.set_outputs(row.job_id, outputs)
        if facts:
            tx.tasks.merge_result(row.job_id, facts)
        tx.tasks.set_steps(row.job_id, row.attempt, steps)

    ear = Ear(tx, claim)
    if tx.executions.get(row.key) is None:
        return ear.outcome(None)  # heard before; the process died between the commit and the clean-up
    tx.executions.delete(row.key)
    ear.hear(row.task_id, event, also)
    return ear.outcome(None)


def _lost(tx: Tx, claim: Claim, row: ExecutionRow, at: float, reason: str) -> Outcome[None]:
    """The execution is gone, or unknown for too long (*reason*: then it is not run again)."""
    ear = Ear(tx, claim)
    if tx.executions.get(row.key) is None:
        return ear.outcome(None)
    tx.executions.delete(row.key)
    result = ev.Result.BROKEN if reason else ev.Result.LOST
    ear.hear(row.task_id, ev.JobEnded(at, row.job_id, row.attempt, row.recovery, result, reason))
    return ear.outcome(None)


def _stop_unbegun(
    tx: Tx, claim: Claim, command: CommandRow, job_id: int, attempt: int, recovery: int, at: float
) -> Outcome[bool]:
    """If the start is still waiting for room, take it back and end the attempt: nothing was begun."""
    ear = Ear(tx, claim)
    if not tx.commands.take_unowned(f"{command.task_id}/start:{job_id}:{attempt}:{recovery}"):
        return ear.outcome(False)
    ear.settle(command)
    result = ev.Result.CANCELLED if command.payload["reason"] == "cancel" else ev.Result.TIMEOUT
    ear.hear(command.task_id, ev.JobEnded(at, job_id, attempt, recovery, result))
    return ear.outcome(True)


def _execution(tx: Tx, key: str) -> ExecutionRow | None:
    return tx.executions.get(key)


def _take(tx: Tx, key: str, me: str) -> bool:
    return tx.executions.adopt(key, me)


def _live(tx: Tx) -> tuple[list[ExecutionRow], list[tuple[int, int, int]]]:
    """All executions, and the ids of starts that may have begun one already."""
    return tx.executions.list_executions(), tx.commands.pending_starts()
