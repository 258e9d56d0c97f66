"""Stop: a ``stop`` is told to whoever has the execution, or ends one that was not begun yet."""

from cador.domain import events as ev
from cador.engine.hearing import Claim, Ear, NotHere, Outcome
from cador.engine.outside import Outside, start_key
from cador.ports.stores import CommandRow, ExecutionRow, Tx, brief


class Stopper:
    def __init__(self, outside: Outside) -> None:
        self._outside, self._engine = outside, outside.engine

    async def stop(self, command: CommandRow) -> None:
        """Carry out a ``stop``. An execution that was not begun yet ends here; a running one tells its own end."""
        job_id, attempt = int(command.payload["job_id"]), int(command.payload["attempt"])
        recovery, reason = int(command.payload["recovery"]), str(command.payload["reason"])
        now = self._outside.clock.now()
        never_began = await self._engine.transact(_stop_unbegun, command, job_id, attempt, recovery, now)
        if never_began:
            return
        key = self._outside.key(job_id, attempt, recovery)
        begun_by = start_key(command.task_id, job_id, attempt, recovery)
        row, start = await self._engine.db.read(_begun, key, begun_by)
        if row is not None and not self._outside.reaches(row):
            raise NotHere(key)
        if row is None and start is not None and not self._reaches_start(start):
            raise NotHere(key)
        await self._engine.still_ours(command)
        for executor in self._outside.executors.values():
            if row is None or row.executor == executor.name:
                await executor.stop(key, row.ref if row is not None else "", reason, self._outside.stop_grace_s)
        await self._engine.transact(_stopped, command, begun_by, starts=0)

    def _reaches_start(self, start: CommandRow) -> bool:
        """Whether a stop of what *start* begins can be told here. What another server is just starting on its own
        machine will be an execution in a moment."""
        if start.owner and start.owner != self._engine.me:
            return not self._outside.bound()
        return self._outside.near(start.place)


# -- transactions


@brief
def _stop_unbegun(
    tx: Tx, claim: Claim, command: CommandRow, job_id: int, attempt: int, recovery: int, at: float
) -> Outcome[bool]:
    """If the start is still waiting for room, take it back and end the attempt. Not one that came back from a server:
    there may be something to be ended."""
    ear = Ear(tx, claim)
    if not tx.commands.take_unowned(start_key(command.task_id, job_id, attempt, recovery)):
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
