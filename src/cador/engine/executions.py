"""Executions: start, follow to the end, stop, adopt. One asyncio task per live execution, nothing else waits here."""

import asyncio
import contextlib
import errno
from collections.abc import Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from cador.domain import events as ev
from cador.domain.errors import CadorError, NotFound, Unavailable
from cador.domain.masking import Masker
from cador.domain.naming import commits_of
from cador.domain.task import WorkflowTask
from cador.engine.afterwards import Afterwards
from cador.engine.hearing import Claim, Ear, Fenced, NotHere, Outcome
from cador.engine.preparing import After, Loaded, Prepared, Preparer
from cador.ports.actions import SERVER, Action
from cador.ports.blobs import BlobStore
from cador.ports.clock import Clock
from cador.ports.executor import End, Executor, Gone, Output, StartRefused, StepMark, StepState, Unreachable
from cador.ports.logs import LogName, LogStore, LogWriter
from cador.ports.peers import Replica
from cador.ports.stores import HERE, CommandRow, ExecutionRow, Tx, brief

if TYPE_CHECKING:
    from cador.engine.engine import Engine, Room

log = structlog.get_logger(__name__)

SYNC_S: Final = 1.0
"""How often a growing log is made durable."""
SYNC_BYTES: Final = 16 << 20
"""After so much output as well: what is read is given back, and a job may print faster than a disk is large."""
REMOVE_PAUSES_S: Final = (1.0, 10.0, 60.0)
"""Pauses before what an ended job left is removed once more; after the last one the next sweep finds it."""
SWEEP_AGAIN_S: Final = 10.0
"""Pause before an executor that was away is asked again what it has."""
FETCH_S: Final = 60.0
"""How long an adopted job waits for a store that is away and may have the beginning of its log."""
FETCHERS: Final = 8
"""Threads that ask for beginnings of logs: a store that is away holds up nothing else."""
KILL_S: Final = 60.0
"""How long the end of an execution that is given up is waited for."""
LOOK_S: Final = 2.0
"""How often it is looked whether a server of a machine that is missed has come back."""
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
        home: str = "",
        actions: Mapping[str, Action] | None = None,
    ) -> None:
        self._engine = engine
        self._after = Afterwards(engine, {} if actions is None else actions, clock)
        self._installation = installation
        self._clock = clock
        self._logs, self._blobs = logs, blobs
        self._executors = executors
        self._preparer = preparer
        self._stop_grace_s = stop_grace_s
        self._max_artifact_bytes = max_artifact_bytes
        self._lost_after_s = lost_after_s
        self._home = home
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
        self._following: set[str] = set()
        self._taking: set[str] = set()

    def key(self, job_id: int, attempt: int, recovery: int) -> str:
        """Names one execution for ever; the installation is part of it, so that sweeps never meet strangers."""
        return f"{self._installation}.{job_id}.{attempt}.{recovery}"

    # -- start

    async def run(self, command: CommandRow, room: "Room", loaded: Loaded | None = None) -> None:
        """Carry out a ``start``: prepare, start, and follow until the end is heard. *loaded*: read by the transaction
        that claimed it."""
        job_id, attempt = int(command.payload["job_id"]), int(command.payload["attempt"])
        recovery = int(command.payload["recovery"])
        if loaded is None:
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
        if not self._near(command.place):
            room.free()
            await self._wait_for_host(command, loaded.job.name, attempt, recovery)
            return
        await self._still_ours(command)
        try:
            ref = await executor.start(key, prepared.folder)
        except StartRefused as error:
            await self._fail_start(command, loaded.job.name, attempt, recovery, str(error))
            return
        row = ExecutionRow(
            key, command.task_id, job_id, attempt, recovery, executor.name, executor.place, ref,
            command.owner, self._clock.now(),
        )  # fmt: skip
        await self._engine.transact(_started, command, row, prepared.warnings, self._home, starts=0)
        self._engine.meter.job_started(executor.name, max(0.0, row.created_at - (loaded.job.start_at or 0.0)))
        await self._follow(row, prepared, room)

    def _near(self, place: str) -> bool:
        """Whether what may have begun at *place*, of another server, can be found from here: on the same machine, or
        because no executor here belongs to a machine."""
        here = self._engine.place
        return place in ("", HERE) or not self._bound() or _same_host(place, here)

    def _bound(self) -> bool:
        """Whether executions belong to the machine of the server that starts them."""
        here = self._engine.place
        return any(_same_host(executor.place, here) for executor in self._executors.values())

    async def _wait_for_host(self, command: CommandRow, name: str, attempt: int, recovery: int) -> None:
        """A start that may have begun on another machine is repeated there and nowhere else. When no server of that
        machine comes back, nobody knows what became of it. Raises: NotHere: one is there."""
        until = _time() + self._lost_after_s
        while True:
            neighbours = await self._engine.db.read(_replicas)
            if any(_same_host(command.place, one.place) for one in neighbours):
                raise NotHere(command.key)
            if (left := until - _time()) <= 0:
                break
            await asyncio.sleep(min(LOOK_S, left))
        await self._fail_start(command, name, attempt, recovery, f"lost executor: {command.place}")

    async def _still_ours(self, command: CommandRow) -> None:
        """Just before the act outside: a process that was frozen may have been declared dead. Raises: Fenced."""
        if not self._engine.holds(command.owner):
            raise Fenced(command.key)
        if not self._engine.alone and not await self._engine.db.read(_owns, command):
            raise Fenced(command.key)

    async def ask_policy(self, command: CommandRow) -> None:
        """Carry out an ``ask_policy``: nothing is started, people are asked or they are not."""
        job_id = int(command.payload["job_id"])
        loaded = await self._engine.db.read(self._preparer.load, command.task_id, job_id)
        if loaded is None:
            await self._engine.transact(_drop, command, starts=0)
            return
        try:
            allowed = self._preparer.allows(loaded)
        except CadorError as error:
            log.warning("policy_not_read", task=command.task_id, job=loaded.job.name, error=str(error))
            allowed = True  # people decide, then
        at = self._clock.now()
        event = ev.JobAllowed(at, job_id) if allowed else ev.JobSkipped(at, job_id, loaded.job.attempt)
        await self._engine.transact(_hear, command, command.task_id, event)

    async def _fail_start(self, command: CommandRow, name: str, attempt: int, recovery: int, reason: str) -> None:
        ended = ev.JobEnded(
            self._clock.now(), int(command.payload["job_id"]), attempt, recovery, ev.Result.BROKEN, reason
        )
        await self._engine.transact(_hear, command, command.task_id, ended)
        log.info("job_not_started", task=command.task_id, job=name, reason=reason)

    async def give_up(self, command: CommandRow, error: Exception) -> None:
        """A ``start`` that failed again and again for reasons of the machine: the job fails with the last one."""
        payload = command.payload
        job_id, attempt, recovery = int(payload["job_id"]), int(payload["attempt"]), int(payload["recovery"])
        reason = f"the job could not be started: {(str(error).splitlines() or [repr(error)])[-1]}"
        await self._still_ours(command)  # else what is ended here may be another's by now
        if not await self._engine.db.read(_there, command):
            raise Fenced(command.key)  # it has begun, and only the reply to that was lost
        for executor in self._executors.values():  # perhaps it was started, and only that could not be told
            await self._kill(executor, self.key(job_id, attempt, recovery), "")
        await self._fail_start(command, command.key, attempt, recovery, reason)

    # -- follow

    async def _follow(self, row: ExecutionRow, prepared: Prepared, room: "Room", *, adopted: bool = False) -> None:
        """Write the log of one execution, collect what it leaves, hear its end. Errors of the outside are waited out;
        the execution itself is never harmed by them."""
        if row.key in self._following:
            return
        self._following.add(row.key)
        self._engine.meter.running_jobs(row.executor, 1)
        try:
            await self._follow_to_end(self._executors[row.executor], row, prepared, room, adopted=adopted)
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
                await self._tell_lost(row, "")
                return
            except Unreachable as error:
                if reach.away_s(_time()) > self._lost_after_s:
                    await self._tell_lost(row, f"lost executor: {error}")
                    return
            except NotFound:
                return  # the task is no more
            except Fenced:
                log.info("execution_fenced", key=row.key)
                return  # another server follows it
            except (OSError, CadorError) as error:
                reach.disk_full = reach.disk_full or getattr(error, "errno", None) == errno.ENOSPC
                log.warning("following_interrupted", key=row.key, error=repr(error))
            except Exception as error:
                # The edge of one job: whatever is wrong in our own code, the job ends, with the reason.
                log.exception("following_failed", key=row.key)
                if not self._engine.holds(row.owner):
                    return  # whoever follows it now may fare better
                await self._kill(executor, row.key, row.ref)
                reason = Masker(prepared.folder.secrets).mask_text(f"job: {prepared.log_name.job} panic: {error}")
                await self._tell_lost(row, reason)
                return
            else:
                return
            await asyncio.sleep(AGAIN_S)

    async def _tell_lost(self, row: ExecutionRow, reason: str) -> None:
        """Hear that an execution is over and nobody followed it to its end. Waits until the database takes it."""
        at = self._clock.now()
        while True:
            try:
                await self._engine.transact(_lost, row, at, reason)
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

    async def _kill(self, executor: Executor, key: str, ref: str) -> None:
        """End an execution that nobody follows any more, and remove it. What cannot be done now the next sweep does."""
        try:
            async with asyncio.timeout(KILL_S):
                await executor.stop(key, ref, "cancel", self._stop_grace_s)
                with contextlib.suppress(Gone):
                    async for _ in executor.follow(key, ref, 0):
                        pass
                await executor.remove(key, ref)
        except (OSError, CadorError, Gone, Unreachable) as error:  # a TimeoutError is an OSError
            log.warning("execution_not_killed", key=key, error=repr(error))

    async def _watch(
        self, executor: Executor, row: ExecutionRow, prepared: Prepared, reach: "_Reach", *, adopted: bool
    ) -> _Followed:
        name = prepared.log_name
        if adopted or row.recovery:  # another server may have written the beginning
            await self._fetch(name, FETCH_S)
        judged = self._logs.complete(name)
        writer = self._logs.open(name, prepared.folder.secrets, row.recovery)
        steps = [_idle_step(s.name, s.type) for s in prepared.folder.steps]
        followed = _Followed(row, prepared, writer, steps, judged=judged)
        done = False
        synced_at, fed = _time(), 0
        try:
            if self._logs.size(name) == 0:
                for warning in prepared.warnings:
                    writer.line(f"warning: {warning}")
            async for item in executor.follow(row.key, row.ref, writer.raw_offset):
                reach.heard = True
                if not self._engine.holds(row.owner):
                    raise Fenced(row.key)
                match item:
                    case Output():
                        writer.feed(item.data, item.offset + len(item.data))
                        fed += len(item.data)
                        # What the server itself does prints nowhere else: it cannot be read once more after a crash.
                        if row.executor == SERVER or fed >= SYNC_BYTES or _time() - synced_at >= SYNC_S:
                            await self._sync(executor, row, writer, reach)
                            synced_at, fed = _time(), 0
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

    async def _fetch(self, name: LogName, within_s: float) -> None:
        """Get what another server wrote of a log, if that can be had in time. Waits here and not in a thread: there
        may be many logs, and one who is told to stop should."""
        until = _time() + within_s
        while not await asyncio.get_running_loop().run_in_executor(self._fetchers, self._logs.fetch, name):
            if _time() >= until:
                return
            await asyncio.sleep(AGAIN_S)

    async def _sync(self, executor: Executor, row: ExecutionRow, writer: LogWriter, reach: "_Reach") -> None:
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

    async def _close(self, executor: Executor, followed: _Followed, *, adopted: bool) -> None:
        """Collect, judge, write: the log is complete before the end is told, so that readers agree."""
        row, prepared, writer, end = followed.row, followed.prepared, followed.writer, followed.end
        if end is None:
            writer.leave()
            raise Unreachable("the executor told no end")
        # A log that is complete says how it ended: found dead, it is not run again with nowhere to write.
        unseen = adopted and not followed.judged
        try:
            conclusion = await self._preparer.conclude(
                executor, row, prepared, end, self._blobs, self._max_artifact_bytes, adopted=unseen,
                afterwards=partial(self._afterwards, row, prepared, writer),
            )  # fmt: skip
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

    async def _afterwards(
        self, row: ExecutionRow, prepared: Prepared, writer: LogWriter, outputs: Mapping[str, str]
    ) -> After:
        call = prepared.folder.after
        if call is None:
            return After()
        return await self._after.carry_out(row, call, outputs, Masker(prepared.folder.secrets), writer.line)

    # -- stop

    async def stop(self, command: CommandRow) -> None:
        """Carry out a ``stop``. An execution that was not begun yet ends here; a running one tells its own end."""
        job_id, attempt = int(command.payload["job_id"]), int(command.payload["attempt"])
        recovery, reason = int(command.payload["recovery"]), str(command.payload["reason"])
        never_began = await self._engine.transact(_stop_unbegun, command, job_id, attempt, recovery, self._clock.now())
        if never_began:
            return
        key = self.key(job_id, attempt, recovery)
        begun_by = f"{command.task_id}/start:{job_id}:{attempt}:{recovery}"
        row, start = await self._engine.db.read(_begun, key, begun_by)
        if row is not None and not self._reaches(row):
            raise NotHere(key)
        if row is None and start is not None and not self._stops_here(start):
            raise NotHere(key)
        await self._still_ours(command)
        for executor in self._executors.values():
            if row is None or row.executor == executor.name:
                await executor.stop(key, row.ref if row is not None else "", reason, self._stop_grace_s)
        await self._engine.transact(_stopped, command, begun_by, starts=0)

    def _stops_here(self, start: CommandRow) -> bool:
        """Whether a stop of what *start* begins can be told here. What another server is just starting on its own
        machine will be an execution in a moment."""
        if start.owner and start.owner != self._engine.me:
            return not self._bound()
        return self._near(start.place)

    # -- adopt

    async def adopt_free(self, *, sweep: bool = False) -> None:
        """Attach to the executions that no server follows. *sweep*: also end what runs outside and no row knows of."""
        found = await self._existing() if sweep else {}
        rows, pending = await self._engine.db.read(_live)
        free = [row for row in rows if not row.owner and row.key not in self._following]
        for row in free:
            if row.key in self._taking:
                continue
            self._taking.add(row.key)
            if self._reaches(row):
                room = self._engine.adopted()
                after = partial(self._taken, row.key, room)
                self._engine.spawn(f"adopt {row.key}", self._adopt, row, room, after=after)
            else:
                after = partial(self._taken, row.key)
                self._engine.spawn(f"lose {row.key}", self._lose, row, after=after)
        live = {row.key for row in rows} | {self.key(*ids) for ids in pending}
        for name, keys in found.items():
            if orphans := keys - live:
                try:
                    swept = await self._executors[name].sweep(orphans)
                except (OSError, Unreachable) as error:
                    self._sweep_later(name, error)
                else:
                    log.info("orphans_swept", executor=name, keys=sorted(swept))

    async def _existing(self) -> dict[str, Set[str]]:
        """What there is outside; nothing of an executor that is away."""
        found = {}
        for name, executor in self._executors.items():
            try:
                found[name] = await executor.existing()
            except (OSError, Unreachable) as error:
                self._sweep_later(name, error)
        return found

    def _sweep_later(self, name: str, error: Exception) -> None:
        """An executor that is away keeps no server from starting; what is left there is ended when it is back."""
        log.warning("sweep_failed", executor=name, error=repr(error))
        self._engine.spawn("sweep", self._sweep_again)

    async def _sweep_again(self) -> None:
        await asyncio.sleep(SWEEP_AGAIN_S)
        while True:
            try:
                await self.adopt_free(sweep=True)
            except Unavailable:
                await asyncio.sleep(AGAIN_S)
            else:
                return

    def _reaches(self, row: ExecutionRow) -> bool:
        """Whether this server can attach to an execution of that place."""
        executor = self._executors.get(row.executor)
        return executor is not None and _same_host(row.place, executor.place)

    def _taken(self, key: str, room: "Room | None" = None) -> None:
        self._taking.discard(key)
        if room is not None:
            room.free()

    async def take_up(self, command: CommandRow) -> None:
        """Follow what a ``start`` began, if its commit was made and nobody heard of it."""
        payload = command.payload
        key = self.key(int(payload["job_id"]), int(payload["attempt"]), int(payload["recovery"]))
        while True:
            try:
                row = await self._engine.db.read(_execution, key)
            except Unavailable:
                await asyncio.sleep(AGAIN_S)
            else:
                break
        if row is not None and row.owner == command.owner and key not in self._taking:
            self._taking.add(key)
            room = self._engine.adopted()
            self._engine.spawn(f"adopt {key}", self._adopt, row, room, after=partial(self._taken, key, room))

    async def _adopt(self, row: ExecutionRow, room: "Room") -> None:
        ours = await self._take_on(row)
        if ours is None:
            return  # another server was faster, or it is over
        row, loaded = ours
        self._engine.meter.recovered("adopted", 1)
        log.info("execution_adopted", key=row.key)
        prepared = None
        if loaded is not None:
            try:
                prepared = self._preparer.prepare(loaded, begun=True)
            except Exception as error:  # an edge: it may be of another version, and must not stay for ever
                log.warning("adopted_job_not_prepared", key=row.key, error=repr(error))
        if prepared is None:
            # Nobody can follow it, so it must not run on beside its repetition.
            await self._kill(self._executors[row.executor], row.key, row.ref)
            await self._tell_lost(row, "")
            return
        await self._follow(row, prepared, room, adopted=True)

    async def _take_on(self, row: ExecutionRow) -> tuple[ExecutionRow, Loaded | None] | None:
        me = self._engine.me
        while True:
            try:
                if not await self._engine.db.write(_take, row, me, self._home):
                    return None
                loaded = await self._engine.db.read(self._preparer.load, row.task_id, row.job_id)
            except Unavailable:
                await asyncio.sleep(AGAIN_S)
            else:
                return replace(row, owner=me), loaded

    async def _lose(self, row: ExecutionRow) -> None:
        """Nobody here reaches that place. It may only be away for a moment, so the job is not run again; and while a
        server of that machine lives, it is that one's. Only what nobody had for all of the time is lost: a server that
        came back, and is just being started again, had it."""
        until = _time() + self._lost_after_s
        while (left := until - _time()) > 0:
            await asyncio.sleep(min(LOOK_S, left))
            try:
                known, neighbours = await self._engine.db.read(_missed, row.key)
            except Unavailable:
                until = _time() + self._lost_after_s  # that machine could not show itself either
                continue
            if known is None or known.owner:
                return
            if any(_same_host(row.place, one.place) for one in neighbours):
                until = _time() + self._lost_after_s
        # What the server itself did ended with it: nobody followed it for all of the time.
        await self._tell_lost(row, "" if row.executor == SERVER else f"lost executor: {row.place}")


def _time() -> float:
    """Monotonic seconds, of the event loop."""
    return asyncio.get_running_loop().time()


def _same_host(one: str, other: str) -> bool:
    """Whether two places - machine, boot, where on it - are the same but for the boot: after a reboot a machine still
    knows that its processes are gone. Servers of one machine may keep their jobs apart; some places have no third part.
    """
    machine, _, rest = one.partition(":")
    other_machine, _, other_rest = other.partition(":")
    where, other_where = rest.partition(":")[2], other_rest.partition(":")[2]
    if where.startswith("/") != other_where.startswith("/"):  # one of a version that told the path and no mark before
        where, other_where = (one if one.startswith("/") else one.partition(":")[2] for one in (where, other_where))
    return machine == other_machine and (where == other_where or not where or not other_where)


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
def _hear(tx: Tx, claim: Claim, command: CommandRow | None, task_id: int, event: ev.Event) -> Outcome[None]:
    ear = Ear(tx, claim)
    ear.settle(command)
    ear.hear(task_id, event)
    return ear.outcome(None)


@brief
def _drop(tx: Tx, claim: Claim, command: CommandRow) -> Outcome[None]:
    ear = Ear(tx, claim)
    ear.settle(command)
    return ear.outcome(None)


@brief
def _started(
    tx: Tx, claim: Claim, command: CommandRow, row: ExecutionRow, warnings: tuple[str, ...], home: str
) -> Outcome[None]:
    ear = Ear(tx, claim)
    ear.settle(command)
    tx.executions.add(row)
    if warnings:
        tx.tasks.merge_result(row.job_id, {"warnings": list(warnings)})
    ear.hear(row.task_id, ev.JobStarted(row.created_at, row.job_id, row.attempt, row.recovery))
    if home:
        tx.homes.hold(row.job_id, row.attempt, home)
    return ear.outcome(None)


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
def _lost(tx: Tx, claim: Claim, row: ExecutionRow, at: float, reason: str) -> Outcome[None]:
    """The execution is gone, or unknown for too long (*reason*: then it is not run again)."""
    ear = Ear(tx, claim)
    if not _ours(tx, row):
        return ear.outcome(None)
    tx.executions.delete(row.key)
    result = ev.Result.BROKEN if reason else ev.Result.LOST
    ear.hear(row.task_id, ev.JobEnded(at, row.job_id, row.attempt, row.recovery, result, reason))
    return ear.outcome(None)


@brief
def _ours(tx: Tx, row: ExecutionRow) -> bool:
    """Whether the execution is still there. Raises: Fenced: it is, and another server's by now."""
    if tx.executions.hold(row.key, row.owner):
        return True
    if tx.executions.get(row.key) is not None:
        raise Fenced(row.key)
    return False


@brief
def _owns(tx: Tx, command: CommandRow) -> bool:
    return tx.commands.owns(command.id, command.owner)


@brief
def _there(tx: Tx, command: CommandRow) -> bool:
    row = tx.commands.find(command.key)
    return row is not None and row.owner == command.owner


def _replicas(tx: Tx) -> list[Replica]:
    return tx.replicas.list_replicas()


def _missed(tx: Tx, key: str) -> tuple[ExecutionRow | None, list[Replica]]:
    return tx.executions.get(key), tx.replicas.list_replicas()


@brief
def _stop_unbegun(
    tx: Tx, claim: Claim, command: CommandRow, job_id: int, attempt: int, recovery: int, at: float
) -> Outcome[bool]:
    """If the start is still waiting for room, take it back and end the attempt. Not one that came back from a server:
    there may be something to be ended."""
    ear = Ear(tx, claim)
    if not tx.commands.take_unowned(f"{command.task_id}/start:{job_id}:{attempt}:{recovery}"):
        return ear.outcome(False)
    ear.settle(command)
    result = ev.Result.CANCELLED if command.payload["reason"] == "cancel" else ev.Result.TIMEOUT
    ear.hear(command.task_id, ev.JobEnded(at, job_id, attempt, recovery, result))
    return ear.outcome(True)


@brief
def _begun(tx: Tx, key: str, begun_by: str) -> tuple[ExecutionRow | None, CommandRow | None]:
    """An execution, and the start it comes from if that was not carried out yet."""
    return tx.executions.get(key), tx.commands.find(begun_by)


@brief
def _stopped(tx: Tx, claim: Claim, command: CommandRow, begun_by: str) -> Outcome[None]:
    """The stop was told. A start that nobody owns is carried out at once, room or not: what it may have begun comes to
    its end, and what it did not begin is not begun any more."""
    ear = Ear(tx, claim)
    ear.settle(command)
    start = tx.commands.claim_one(begun_by, claim.me) if claim.me else None
    if start is not None:
        ear.carry(start)
    return ear.outcome(None)


@brief
def _execution(tx: Tx, key: str) -> ExecutionRow | None:
    return tx.executions.get(key)


@brief
def _take(tx: Tx, row: ExecutionRow, me: str, home: str) -> bool:
    """Whether it is *me*'s from now on; it may have been so already, when only the reply was lost."""
    ours = tx.executions.adopt(row.key, me) or tx.executions.hold(row.key, me)
    if ours and home:
        tx.homes.hold(row.job_id, row.attempt, home)
    return ours


def _abandoned(tx: Tx, row: ExecutionRow) -> LogName | None:
    """The log of an execution that was lost, unless the attempt goes on with another one."""
    job = tx.tasks.job_by_id(row.job_id)
    if job is None or (job.attempt == row.attempt and job.recovery > row.recovery):
        return None
    task = tx.tasks.row(row.task_id)
    return LogName(task.workflow_key, task.number, job.name, row.attempt)


def _live(tx: Tx) -> tuple[list[ExecutionRow], list[tuple[int, int, int]]]:
    """All executions, and the ids of starts that may have begun one already."""
    return tx.executions.list_executions(), tx.commands.pending_starts()
