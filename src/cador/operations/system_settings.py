"""Settings that administrators change while servers work. They win over the configuration, on every server at once.

They carry the names they have in the configuration. Given back (None), the configuration counts again.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cador.domain.errors import Invalid
from cador.domain.sharing import QueueLimits
from cador.engine.hearing import Claim, Ear, Outcome
from cador.operations.actor import SYSTEM, Actor
from cador.operations.context import Context
from cador.operations.resources import Hand
from cador.ports.admission import Gate
from cador.ports.stores import Tx

MOST: Final = 1_000_000
"""Largest limit."""


@dataclass(frozen=True, slots=True)
class LiveSetting:
    """``value``: what counts; ``configured``: of the server that was asked; ``live``: set by an administrator."""

    name: str
    value: int
    configured: int
    live: bool


@dataclass(frozen=True, slots=True)
class _Limit:
    """A limit of the queue: where the admission row and the configuration have it, and the least it may be."""

    of_gate: Callable[[Gate], int | None]
    of_limits: Callable[[QueueLimits], int]
    least: int


LIMITS: Final[Mapping[str, _Limit]] = {
    "engine.max_running_tasks": _Limit(lambda g: g.max_running_tasks, lambda q: q.max_running_tasks, 1),
    "engine.max_running_per_project": _Limit(lambda g: g.max_per_project, lambda q: q.max_per_project, 0),
    "engine.max_running_per_user": _Limit(lambda g: g.max_per_user, lambda q: q.max_per_user, 0),
}
"""In the order of ``AdmissionStore.set_limits``. 0 is no limit where it is allowed."""


async def live_settings(ctx: Context, actor: Actor) -> tuple[LiveSetting, ...]:
    """All that can be changed. Raises: Forbidden."""
    actor.need(SYSTEM)

    def read(tx: Tx) -> tuple[LiveSetting, ...]:
        return _told(tx.admission.gate(), ctx.engine.queue_limits())

    return await ctx.db.read(read)


async def change_settings(ctx: Context, actor: Actor, changes: Mapping[str, object]) -> tuple[LiveSetting, ...]:
    """Set those named, None gives one back to the configuration; returns all. A raised limit lets tasks in at once, a
    lowered one stops nothing.

    Raises: Forbidden; Invalid: an unknown name or a value that does not fit, nothing is changed then.
    """
    actor.need(SYSTEM)
    return await ctx.engine.transact(_change, Hand(actor, ctx.sealer), _checked(changes))


def _change(
    tx: Tx, claim: Claim, hand: Hand, changes: Mapping[str, int | None]
) -> Outcome[tuple[LiveSetting, ...]]:  # fmt: skip
    ear = Ear(tx, claim)
    before = tx.admission.lock()
    if changes and before is not None:
        tx.admission.set_limits(*(changes.get(name, limit.of_gate(before)) for name, limit in LIMITS.items()))
        hand.audit(tx, "change_settings", "", "settings", dict(changes))
        ear.admit()
    return ear.outcome(_told(tx.admission.gate(), claim.limits))


def _told(gate: Gate, configured: QueueLimits) -> tuple[LiveSetting, ...]:
    now = gate.over(configured)
    return tuple(
        LiveSetting(name, limit.of_limits(now), limit.of_limits(configured), limit.of_gate(gate) is not None)
        for name, limit in LIMITS.items()
    )


def _checked(changes: Mapping[str, object]) -> dict[str, int | None]:
    checked: dict[str, int | None] = {}
    for name, value in changes.items():
        limit = LIMITS.get(name)
        if limit is None:
            near = difflib.get_close_matches(name, LIMITS, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(LIMITS)}"
            raise Invalid(f"{name} is no setting that can be changed here{hint}", place=name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise Invalid(f"{name}: must be a whole number, or null for what the configuration says", place=name)
        if value is not None and not limit.least <= value <= MOST:
            raise Invalid(f"{name}: must be {limit.least} to {MOST}", place=name)
        checked[name] = value
    return checked
