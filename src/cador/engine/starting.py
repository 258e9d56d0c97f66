"""Start: from a ``start`` command to an execution that is followed, or to the reason why there is none."""

import asyncio
from typing import TYPE_CHECKING

import structlog

from cador.domain import events as ev
from cador.domain.errors import CadorError
from cador.engine.following import Follower
from cador.engine.hearing import Claim, Ear, Fenced, NotHere, Outcome
from cador.engine.outside import LOOK_S, Outside, loop_time, same_host
from cador.engine.preparing import Loaded
from cador.ports.actions import SERVER
from cador.ports.executor import StartRefused
from cador.ports.peers import Replica
from cador.ports.stores import CommandRow, ExecutionRow, Tx, brief

if TYPE_CHECKING:
    from cador.engine.room import Room

log = structlog.get_logger(__name__)


class Starter:
    def __init__(self, outside: Outside, follower: Follower) -> None:
        self._outside, self._follower = outside, follower
        self._engine, self._preparer, self._clock = outside.engine, outside.preparer, outside.clock

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
            await self._fail(command, loaded.job.name, attempt, recovery, str(error), ev.Result.FAILED)
            return
        if prepared is None:
            skipped = ev.JobSkipped(self._clock.now(), job_id, attempt)
            await self._engine.transact(_hear, command, command.task_id, skipped)
            return
        executor = self._outside.executors[prepared.executor]
        key = self._outside.key(job_id, attempt, recovery)
        if prepared.executor != SERVER and not self._outside.near(command.place):
            room.free()
            await self._wait_for_host(command, loaded.job.name, attempt, recovery)
            return
        await self._engine.still_ours(command)
        try:
            ref = await executor.start(key, prepared.folder)
        except StartRefused as error:
            await self._fail(command, loaded.job.name, attempt, recovery, str(error), ev.Result.FAILED)
            return
        row = ExecutionRow(
            key, command.task_id, job_id, attempt, recovery, executor.name, executor.place, ref,
            command.owner, self._clock.now(),
        )  # fmt: skip
        await self._engine.transact(_started, command, row, prepared.warnings, self._outside.home, starts=0)
        self._engine.meter.job_started(executor.name, max(0.0, row.created_at - (loaded.job.start_at or 0.0)))
        await self._follower.follow(row, prepared, room)

    async def _wait_for_host(self, command: CommandRow, name: str, attempt: int, recovery: int) -> None:
        """A start that may have begun on another machine is repeated there and nowhere else. When no server of that
        machine comes back, nobody knows what became of it. Raises: NotHere: one is there."""
        until = loop_time() + self._outside.lost_after_s
        while True:
            neighbours = await self._engine.db.read(_replicas)
            if any(same_host(command.place, one.place) for one in neighbours):
                raise NotHere(command.key)
            if (left := until - loop_time()) <= 0:
                break
            await asyncio.sleep(min(LOOK_S, left))
        await self._fail(command, name, attempt, recovery, f"lost executor: {command.place}", ev.Result.BROKEN)

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

    async def give_up(self, command: CommandRow, error: Exception) -> None:
        """A ``start`` that failed again and again for reasons of the machine: the job fails with the last one."""
        payload = command.payload
        job_id, attempt, recovery = int(payload["job_id"]), int(payload["attempt"]), int(payload["recovery"])
        reason = f"the job could not be started: {(str(error).splitlines() or [repr(error)])[-1]}"
        await self._engine.still_ours(command)  # else what is ended here may be another's by now
        if not await self._engine.db.read(_there, command):
            raise Fenced(command.key)  # it has begun, and only the reply to that was lost
        for executor in self._outside.executors.values():  # perhaps it was started, and only that could not be told
            await self._follower.kill(executor, self._outside.key(job_id, attempt, recovery), "")
        await self._fail(command, command.key, attempt, recovery, reason, ev.Result.BROKEN)

    async def _fail(
        self, command: CommandRow, name: str, attempt: int, recovery: int, reason: str, result: ev.Result
    ) -> None:
        ended = ev.JobEnded(self._clock.now(), int(command.payload["job_id"]), attempt, recovery, result, reason)
        await self._engine.transact(_hear, command, command.task_id, ended)
        log.info("job_not_started", task=command.task_id, job=name, reason=reason)


# -- transactions


@brief
def _hear(tx: Tx, claim: Claim, command: CommandRow, task_id: int, event: ev.Event) -> Outcome[None]:
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
def _there(tx: Tx, command: CommandRow) -> bool:
    row = tx.commands.find(command.key)
    return row is not None and row.owner == command.owner


def _replicas(tx: Tx) -> list[Replica]:
    return tx.replicas.list_replicas()
