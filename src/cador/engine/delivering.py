"""Tells the outside what became of a task: each piece of news to each receiver, at least once, under a key of its own.

What is to be said is written in the transaction in which it happens (:class:`FanOut`); a command carries it there
(:class:`Deliverer`) and goes with the news that it arrived, or that nobody tries any more.
"""

import asyncio
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import structlog

from cador.domain.commands import Command, Deliver, Tell
from cador.domain.errors import Unavailable
from cador.domain.events import DeliveryTried
from cador.engine.hearing import Claim, Ear, Fenced, Outcome
from cador.ports.deliveries import Courier, Delivery, Receiver, Said
from cador.ports.stores import CommandRow, Tx, brief

if TYPE_CHECKING:
    from cador.engine.engine import Engine

log = structlog.get_logger(__name__)

AWAY_S: Final = 1.0
_KEYS: Final = uuid.UUID("6f1d8a52-62f3-4c54-9d4b-1b0d7a1f7c11")


def delivery_key(installation: str, command_key: str) -> str:
    """What a receiver tells a repeated delivery by."""
    return str(uuid.uuid5(_KEYS, f"{installation}/{command_key}"))


class FanOut:
    """Turns one piece of news into a delivery for each receiver that wants to hear it."""

    def __init__(self, couriers: Mapping[str, Courier]) -> None:
        self._couriers = couriers
        self._heard = frozenset(word for courier in couriers.values() for word in courier.hears)

    def __call__(self, tx: Tx, task_id: int, news: Tell) -> list[Command]:
        found: list[Command] = []
        if news.what.partition(":")[0] not in self._heard:
            return found
        for receiver in tx.deliveries.receivers(task_id):
            courier = self._couriers.get(receiver.kind)
            if courier is None or news.what not in receiver.hears:
                continue
            body = courier.compose(tx, task_id, news.what)
            tx.deliveries.add(Delivery(task_id, receiver.name, news.what, news.round, body))
            found.append(Deliver(receiver.name, news.what, news.round))
        return found


class Deliverer:
    """Carries out commands of kind ``deliver``."""

    def __init__(self, engine: "Engine", couriers: Mapping[str, Courier], installation: str) -> None:
        self._engine, self._couriers, self._installation = engine, couriers, installation

    async def deliver(self, row: CommandRow) -> None:
        """Raises: Fenced."""
        found = await self._found(row)
        if found is None:
            await self._engine.transact(_drop, row, starts=0)
            return
        receiver, delivery = found
        courier = self._couriers.get(receiver.kind)
        if courier is None:
            said = Said(False, "", reason=f"this server has nobody who speaks to a {receiver.kind}", final=True)
            pauses: tuple[float, ...] = ()
        else:
            pauses = tuple(courier.pauses)
            if not self._engine.holds(row.owner):
                raise Fenced(row.key)
            said = await courier.say(receiver, delivery, delivery_key(self._installation, row.key))
        again_s = None if said.ok or said.final or row.tries >= len(pauses) else pauses[row.tries]
        log.info("delivery", key=row.key, ok=said.ok, place=said.place, reason=said.reason, again_s=again_s)
        await self._keep(row, delivery, said, again_s)

    async def give_up(self, row: CommandRow, error: Exception) -> None:
        """Errors of our own stood in its way too often."""
        found = await self._found(row)
        if found is None:
            await self._engine.transact(_drop, row, starts=0)
        else:
            said = Said(False, "", reason=f"an error of this server: {type(error).__name__}", final=True)
            await self._keep(row, found[1], said, None)

    async def _found(self, row: CommandRow) -> tuple[Receiver, Delivery] | None:
        """However long the database is away: its absence is no try."""
        while True:
            try:
                return await self._engine.db.read(_find, row, alone=self._engine.alone)
            except Unavailable:
                await asyncio.sleep(AWAY_S)

    async def _keep(self, row: CommandRow, delivery: Delivery, said: Said, again_s: float | None) -> None:
        """However long the database is away: what was said must not be said again for that."""
        while True:
            try:
                await self._engine.transact(_tried, row, delivery, said, again_s, starts=0)
            except Unavailable:
                await asyncio.sleep(AWAY_S)
            else:
                return


def _find(tx: Tx, row: CommandRow, *, alone: bool) -> tuple[Receiver, Delivery] | None:
    """Raises: Fenced: another server has it, or may have it soon, because others took this one for dead."""
    if not alone and not tx.commands.owns(row.id, row.owner):
        raise Fenced(row.key)
    payload = row.payload
    return tx.deliveries.find(row.task_id, str(payload["receiver"]), str(payload["what"]), int(payload["round"]))


@brief
def _drop(tx: Tx, claim: Claim, row: CommandRow) -> Outcome[None]:
    """There is nothing to be said: the task is gone."""
    ear = Ear(tx, claim)
    ear.settle(row)
    return ear.outcome(None)


@brief
def _tried(
    tx: Tx, claim: Claim, row: CommandRow, delivery: Delivery, said: Said, again_s: float | None
) -> Outcome[None]:
    """Write what came of it, and let the command go or come back."""
    ear = Ear(tx, claim)
    if again_s is None:
        ear.settle(row)
        tx.deliveries.remove(delivery)
    elif not tx.commands.postpone(row.id, claim.me, tx.now + again_s):
        raise Fenced(row.key)
    event = DeliveryTried(
        tx.now,
        receiver=delivery.receiver,
        what=delivery.what,
        round=delivery.round,
        number=row.tries + 1,
        place=said.place,
        ok=said.ok,
        status=said.status,
        reason=said.reason,
        again_at=None if again_s is None else tx.now + again_s,
    )
    ear.hear(row.task_id, event)
    return ear.outcome(None)
