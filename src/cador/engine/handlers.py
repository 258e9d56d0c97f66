"""One handler per kind of command. Each may be carried out again: its effect on the tables is one transaction with the
removal of the command, its effect outside is idempotent under the command's key."""

import asyncio
from typing import TYPE_CHECKING

from cador.domain import events as ev
from cador.domain.errors import Unavailable
from cador.engine.delivering import Deliverer
from cador.engine.executions import Executions
from cador.engine.hearing import Claim, Ear, Outcome
from cador.engine.housekeeping import Housekeeping
from cador.engine.outside import AGAIN_S
from cador.engine.preparing import Loaded
from cador.ports.stores import CommandRow, Tx, brief

if TYPE_CHECKING:
    from cador.engine.engine import Engine
    from cador.engine.room import Room


class Handlers:
    def __init__(
        self,
        engine: "Engine",
        executions: Executions,
        housekeeping: Housekeeping,
        deliverer: Deliverer,
    ) -> None:
        self._engine, self._executions = engine, executions
        self._housekeeping, self._deliverer = housekeeping, deliverer

    async def handle(self, row: CommandRow, room: "Room | None" = None, loaded: Loaded | None = None) -> None:
        """*room*, *loaded*: of a ``start``. Raises: Fenced, and errors of the outside: the command is tried again."""
        match row.kind:
            case "start" if room is not None:
                await self._executions.starter.run(row, room, loaded)
            case "stop":
                await self._executions.stopper.stop(row)
            case "ask_policy":
                await self._executions.starter.ask_policy(row)
            case "housekeep":
                await self._housekeeping.keep(row)
            case "bury":
                await self._housekeeping.bury(row)
            case "admit":
                await self._engine.transact(_admit, starts=self._engine.capacity.left())
            case "deliver":
                await self._deliverer.deliver(row)
            case _:
                await self._engine.transact(_timer, row)

    async def look_at_queue(self) -> None:
        """For a server that starts: its settings may leave more room than those before."""
        while True:
            try:
                await self._engine.transact(_look_at_queue)
            except Unavailable:
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def give_up(self, row: CommandRow, error: Exception) -> bool:
        """After the last try: True when the command has come to an end by that."""
        if row.kind == "start":
            await self._executions.starter.give_up(row, error)
            return True
        if row.kind == "deliver":
            await self._deliverer.give_up(row, error)
            return True
        return False

    async def take_up(self, row: CommandRow) -> None:
        """The reply to what became of a ``start`` was lost: what it began is followed here, if it is ours."""
        await self._executions.adopter.take_up(row)


def _admit(tx: Tx, claim: Claim) -> Outcome[None]:
    """One pass for all wishes at once. They are deleted first: a wish that comes meanwhile makes a pass of its own."""
    ear = Ear(tx, claim)
    gate = tx.admission.lock()
    if tx.commands.delete_admits():
        ear.admit(gate)
    return ear.outcome(None)


def _look_at_queue(tx: Tx, claim: Claim) -> Outcome[None]:
    ear = Ear(tx, claim)
    ear.admit()
    return ear.outcome(None)


@brief
def _timer(tx: Tx, claim: Claim, row: CommandRow) -> Outcome[None]:
    """Hear what a due timer says, at the time it was due for."""
    ear = Ear(tx, claim)
    # The task first: whoever holds it may be about to take this very timer back.
    task = tx.tasks.lock(row.task_id)
    ear.settle(row)
    payload = row.payload
    event: ev.Event
    match row.kind:
        case "watch_deadline":
            event = ev.DeadlinePassed(tx.now, int(payload["job_id"]), int(payload["attempt"]))
        case "wait_retry":
            event = ev.RetryPauseOver(tx.now, int(payload["job_id"]), int(payload["attempt"]))
        case "watch_approval":
            event = ev.ApprovalExpired(tx.now, int(payload["approval_id"]), int(payload["round"]))
        case "watch_task":
            event = ev.TaskExpired(tx.now, int(payload["round"]))
        case kind:
            raise ValueError(f"unknown kind of command: {kind}")
    ear.hear(row.task_id, event, locked=task)
    return ear.outcome(None)
