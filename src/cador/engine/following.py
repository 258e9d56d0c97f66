"""Follow: write the log of one execution, collect what it leaves, hear its end. One asyncio task each."""

import asyncio
import contextlib
import errno
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from cador.domain import events as ev
from cador.domain.errors import CadorError, Invalid, NotFound, Unavailable
from cador.domain.masking import Masker
from cador.domain.naming import commits_of
from cador.domain.task import WorkflowTask
from cador.domain.task_machine import INTERRUPTED
from cador.engine.afterwards import Afterwards
from cador.engine.hearing import Claim, Ear, Fenced, Outcome
from cador.engine.outside import AGAIN_S, Outside, loop_time
from cador.engine.preparing import After, Prepared
from cador.ports.actions import SERVER, Action
from cador.ports.blobs import BlobStore
from cador.ports.executor import End, Executor, Gone, Output, StepMark, StepState, Unreachable
from cador.ports.logs import LogName, LogStore, LogWriter
from cador.ports.stores import ExecutionRow, Tx, brief

if TYPE_CHECKING:
    from cador.engine.room import Room

log = structlog.get_logger(__name__)

SYNC_S: Final = 1.0
"""How often a growing log is made durable."""
SYNC_BYTES: Final = 16 << 20
"""After so much output as well: what is read is given back, and a job may print faster than a disk is large."""
REMOVE_PAUSES_S: Final = (1.0, 10.0, 60.0)
"""Pauses before what an ended job left is removed once more; after the last one the next sweep finds it."""
FETCH_S: Final = 60.0
"""How long an adopted job waits for a store that is away and may have the beginning of its log."""
FETCHERS: Final = 8
"""Threads that ask for beginnings of logs: a store that is away holds up nothing else."""
KILL_S: Final = 60.0
"""How long the end of an execution that is given up is waited for."""


@dataclass(slots=True)
class _Followed:
    """What the follower of one execution has in hand."""

    row: ExecutionRow
    prepared: Prepared
    writer: LogWriter
    steps: list[dict[str, Any]] = field(default_factory=list)
    end: End | None = None
    judged: bool = False
    """Whoever followed it before came to its end, and could only not tell it."""


@dataclass(slots=True)
class _Reach:
    """Since when an executor is away: *heard* says that it was there since it was asked last."""

    heard: bool = False
    since: float | None = None
    disk_full: bool = False
    """What is to be told in the log as soon as that can be written again."""

    def away_s(self, now: float) -> float:
        """It did not answer: for how many seconds now."""
        if self.since is None or self.heard:
            self.since, self.heard = now, False
        return now - self.since


class Follower:
    def __init__(
        self,
        outside: Outside,
        *,
        logs: LogStore,
        blobs: BlobStore,
        max_artifact_bytes: int,
        actions: Mapping[str, Action],
    ) -> None:
        self._outside, self._engine = outside, outside.engine
        self._logs, self._blobs = logs, blobs
        self._max_artifact_bytes = max_artifact_bytes
        self._after = Afterwards(outside.engine, actions, outside.clock)
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
        self._following: set[str] = set()

    def follows(self, key: str) -> bool:
        return key in self._following

    async def follow(self, row: ExecutionRow, prepared: Prepared, room: "Room", *, adopted: bool = False) -> None:
        """Until its end is heard. Errors of the outside are waited out; the execution itself is never harmed by
        them."""
        if row.key in self._following:
            return
        self._following.add(row.key)
        self._engine.meter.running_jobs(row.executor, 1)
        try:
            await self._follow_to_end(self._outside.executors[row.executor], row, prepared, room, adopted=adopted)
        finally:
            self._following.discard(row.key)
            self._engine.meter.running_jobs(row.executor, -1)

    async def _follow_to_end(
        self, executor: Executor, row: ExecutionRow, prepared: Prepared, room: "Room", *, adopted: bool
    ) -> None:
        reach = _Reach()
        while True:
            try:
                followed = await self._watch(executor, row, prepared, reach, adopted=adopted)
                room.free()
                await self._close(executor, followed, adopted=adopted)
            except Gone:
                # A log that is complete says how it ended, and only that could not be told: it is not run again with
                # nowhere to write.
                await self.tell_lost(row, "", judged=self._logs.complete(prepared.log_name))
                return
            except Unreachable as error:
                if reach.away_s(loop_time()) > self._outside.lost_after_s:
                    await self.tell_lost(row, f"lost executor: {error}")
                    return
            except NotFound:
                return  # the task is no more
            except Fenced:
                log.info("execution_fenced", key=row.key)
                return  # another server follows it
            except Invalid as error:  # asking once more changes nothing: what the job left cannot be kept
                await self._break_off(executor, row, prepared, error)
                return
            except (OSError, CadorError) as error:
                reach.disk_full = reach.disk_full or getattr(error, "errno", None) == errno.ENOSPC
                log.warning("following_interrupted", key=row.key, error=repr(error))
            except Exception as error:
                # The edge of one job: whatever is wrong in our own code, the job ends, with the reason.
                await self._break_off(executor, row, prepared, error)
                return
            else:
                return
            await asyncio.sleep(AGAIN_S)

    async def _break_off(self, executor: Executor, row: ExecutionRow, prepared: Prepared, error: Exception) -> None:
        log.error("following_failed", key=row.key, exc_info=error)
        if not self._engine.holds(row.owner):
            return  # whoever follows it now may fare better
        await self.kill(executor, row.key, row.ref)
        reason = Masker(prepared.folder.secrets).mask_text(f"job: {prepared.log_name.job} panic: {error}")
        await self.tell_lost(row, reason)

    async def _watch(
        self, executor: Executor, row: ExecutionRow, prepared: Prepared, reach: _Reach, *, adopted: bool
    ) -> _Followed:
        name = prepared.log_name
        if adopted or row.recovery:  # another server may have written the beginning
            await self._fetch(name, FETCH_S)
        judged = self._logs.complete(name)
        writer = self._logs.open(name, prepared.folder.secrets, row.recovery)
        steps = [_idle_step(s.name, s.type) for s in prepared.folder.steps]
        followed = _Followed(row, prepared, writer, steps, judged=judged)
        done = False
        synced_at, fed = loop_time(), 0
        try:
            if self._logs.size(name) == 0:
                for warning in prepared.warnings:
                    writer.line(f"warning: {warning}")
            # What the server itself does begins by being followed: not when others may have given it up by now.
            self._need(row)
            async for item in executor.follow(row.key, row.ref, writer.raw_offset):
                reach.heard = True
                self._need(row)
                match item:
                    case Output():
                        writer.feed(item.data, item.offset + len(item.data))
                        fed += len(item.data)
                        # What the server itself does prints nowhere else: it cannot be read once more after a crash.
                        if row.executor == SERVER or fed >= SYNC_BYTES or loop_time() - synced_at >= SYNC_S:
                            await self._sync(executor, row, writer, reach)
                            synced_at, fed = loop_time(), 0
                    case StepMark():
                        _mark(followed.steps, item)
                    case End():
                        followed.end = item
            if reach.disk_full:
                await self._sync(executor, row, writer, reach)
            done = True
        finally:
            if not done:
                writer.leave()
        return followed

    def _need(self, row: ExecutionRow) -> None:
        """Raises: Fenced: it is not certain that nobody else follows *row* by now."""
        if not self._engine.holds(row.owner):
            raise Fenced(row.key)

    async def _sync(self, executor: Executor, row: ExecutionRow, writer: LogWriter, reach: _Reach) -> None:
        """Make the log durable. On a full disk it waits in memory, as long as that takes little of it."""
        try:
            executor.consumed(row.key, await asyncio.to_thread(writer.sync))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            reach.disk_full = True
        else:
            if reach.disk_full:
                writer.line("warning: the disk was full for a while, lines of the job may be missing here")
            reach.disk_full = False

    async def _fetch(self, name: LogName, within_s: float) -> None:
        """Get what another server wrote of a log, if that can be had in time. Waits here and not in a thread: there
        may be many logs, and one who is told to stop should."""
        until = loop_time() + within_s
        while not await asyncio.get_running_loop().run_in_executor(self._fetchers, self._logs.fetch, name):
            if loop_time() >= until:
                return
            await asyncio.sleep(AGAIN_S)

    async def _close(self, executor: Executor, followed: _Followed, *, adopted: bool) -> None:
        """Collect, judge, write: the log is complete before the end is told, so that readers agree."""
        row, prepared, writer, end = followed.row, followed.prepared, followed.writer, followed.end
        if end is None:
            writer.leave()
            raise Unreachable("the executor told no end")
        # A log that is complete says how it ended: found dead, it is not run again with nowhere to write.
        unseen = adopted and not followed.judged
        try:
            conclusion = await self._outside.preparer.conclude(
                executor, row, prepared, end, self._blobs, self._max_artifact_bytes, adopted=unseen,
                afterwards=partial(self._afterwards, row, prepared, writer), need=partial(self._need, row),
            )  # fmt: skip
            self._need(row)
            for line in conclusion.lines:
                writer.line(line)
            # The log of a job that was lost goes on when it is run again.
            lost = conclusion.result is ev.Result.LOST
            await asyncio.to_thread(writer.leave if lost else writer.close)
        except BaseException:
            writer.leave()
            raise
        error = Masker(prepared.folder.secrets).mask_text(conclusion.error) if conclusion.error else ""
        event = ev.JobEnded(conclusion.at, row.job_id, row.attempt, row.recovery, conclusion.result, error)
        await self._engine.transact(_ended, row, event, conclusion.outputs, conclusion.facts, followed.steps)
        if lost:
            self._engine.spawn(f"end log {row.key}", self._end_log, row, "")
        took_s = max(0.0, conclusion.at - row.created_at)
        self._engine.meter.job_ended(prepared.type.name, conclusion.result.value, took_s)
        await self._remove(executor, row)

    async def _afterwards(
        self, row: ExecutionRow, prepared: Prepared, writer: LogWriter, outputs: Mapping[str, str]
    ) -> After:
        call = prepared.folder.after
        if call is None:
            return After()
        return await self._after.carry_out(row, call, outputs, Masker(prepared.folder.secrets), writer.line)

    @staticmethod
    async def _remove(executor: Executor, row: ExecutionRow) -> None:
        for pause_s in (*REMOVE_PAUSES_S, None):
            try:
                await executor.remove(row.key, row.ref)
            except (OSError, CadorError, Gone, Unreachable) as error:
                if pause_s is None:
                    log.warning("execution_not_removed", key=row.key, error=repr(error))
                else:
                    await asyncio.sleep(pause_s)
            else:
                return

    # -- without an end of its own

    async def tell_lost(self, row: ExecutionRow, reason: str, *, judged: bool = False) -> None:
        """Hear that an execution is over and nobody followed it to its end. *judged*: somebody did, and could not tell.
        Waits until the database takes it."""
        at = self._outside.clock.now()
        while True:
            try:
                await self._engine.transact(_lost, row, at, reason, judged)
            except Unavailable:
                await asyncio.sleep(AGAIN_S)
            except (NotFound, Fenced):
                return  # the task is no more, or another server follows
            else:
                self._engine.spawn(f"end log {row.key}", self._end_log, row, reason)
                return

    async def _end_log(self, row: ExecutionRow, reason: str) -> None:
        """Complete the log of a lost job that is not run again, as far as it can be had here. Whoever reads it is told
        the end in any case, so that a disk or a store that is away now is no reason to try for ever."""
        try:
            name = await self._engine.db.read(_abandoned, row)
            if name is None:
                return
            await self._fetch(name, 0.0)
            if not self._logs.exists(name):
                return
            writer = self._logs.open(name, (), row.recovery)
            if reason:
                writer.line(reason)
            await asyncio.to_thread(writer.close)
        except (OSError, CadorError) as error:
            log.warning("log_not_completed", key=row.key, error=repr(error))

    async def kill(self, executor: Executor, key: str, ref: str) -> None:
        """End an execution that nobody follows any more, and remove it. What cannot be done now the next sweep does."""
        try:
            async with asyncio.timeout(KILL_S):
                await executor.stop(key, ref, "cancel", self._outside.stop_grace_s)
                with contextlib.suppress(Gone):
                    async for _ in executor.follow(key, ref, 0):
                        pass
                await executor.remove(key, ref)
        except (OSError, CadorError, Gone, Unreachable) as error:  # a TimeoutError is an OSError
            log.warning("execution_not_killed", key=key, error=repr(error))


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


@brief
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
        if outputs or row.attempt > 1 or row.recovery:  # an earlier execution may have left some
            tx.tasks.set_outputs(row.job_id, outputs)
        if facts:
            tx.tasks.merge_result(row.job_id, facts)
        if checked_out := commits_of(facts.get("repos", ())):
            tx.commits.add(row.task_id, tx.tasks.row(row.task_id).project, checked_out)
        tx.tasks.set_steps(row.job_id, row.attempt, steps)

    ear = Ear(tx, claim)
    if not _ours(tx, row):
        return ear.outcome(None)  # heard before; the process died between the commit and the clean-up
    tx.executions.delete(row.key)
    ear.hear(row.task_id, event, also)
    return ear.outcome(None)


@brief
def _lost(tx: Tx, claim: Claim, row: ExecutionRow, at: float, reason: str, judged: bool) -> Outcome[None]:
    """The execution is gone, or unknown for too long (*reason*), or *judged*: then it is not run again."""
    ear = Ear(tx, claim)
    if not _ours(tx, row):
        return ear.outcome(None)
    tx.executions.delete(row.key)
    result = ev.Result.BROKEN if reason else ev.Result.LOST
    error = reason or (INTERRUPTED if judged else "")
    ear.hear(row.task_id, ev.JobEnded(at, row.job_id, row.attempt, row.recovery, result, error))
    return ear.outcome(None)


@brief
def _ours(tx: Tx, row: ExecutionRow) -> bool:
    """Whether the execution is still there. Raises: Fenced: it is, and another server's by now."""
    if tx.executions.hold(row.key, row.owner):
        return True
    if tx.executions.get(row.key) is not None:
        raise Fenced(row.key)
    return False


def _abandoned(tx: Tx, row: ExecutionRow) -> LogName | None:
    """The log of an execution that was lost, unless the attempt goes on with another one."""
    job = tx.tasks.job_by_id(row.job_id)
    if job is None or (job.attempt == row.attempt and job.recovery > row.recovery):
        return None
    task = tx.tasks.row(row.task_id)
    return LogName(task.workflow_key, task.number, job.name, row.attempt)
