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
from cador.engine.housekeeping import Retention, stored_retention
from cador.operations.actor import SYSTEM, Actor
from cador.operations.context import Context
from cador.operations.resources import Hand
from cador.operations.retention import KEEPING, keep, kept
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
_BOUNDS: Final[Mapping[str, tuple[int, int]]] = {name: (limit.least, MOST) for name, limit in LIMITS.items()} | {
    name: (0, keeping.most) for name, keeping in KEEPING.items()
}


async def live_settings(ctx: Context, actor: Actor) -> tuple[LiveSetting, ...]:
    """All that can be changed. Raises: Forbidden."""
    actor.need(SYSTEM)

    def read(tx: Tx) -> tuple[LiveSetting, ...]:
        return _told(tx, ctx.engine.queue_limits(), ctx.engine.housekeeping.configured)

    return await ctx.db.read(read)


async def change_settings(ctx: Context, actor: Actor, changes: Mapping[str, object]) -> tuple[LiveSetting, ...]:
    """Set those named, None gives one back to the configuration; returns all. A raised limit lets tasks in at once, a
    lowered one stops nothing.

    Raises: Forbidden; Invalid: an unknown name or a value that does not fit, nothing is changed then.
    """
    actor.need(SYSTEM)
    configured = ctx.engine.housekeeping.configured
    return await ctx.engine.transact(_change, Hand(actor, ctx.sealer), _checked(changes), configured)


def _change(
    tx: Tx, claim: Claim, hand: Hand, changes: Mapping[str, int | None], retention: Retention
) -> Outcome[tuple[LiveSetting, ...]]:  # fmt: skip
    ear = Ear(tx, claim)
    put_settings(tx, hand, ear, changes)
    return ear.outcome(_told(tx, claim.limits, retention))


def put_settings(tx: Tx, hand: Hand, ear: Ear, changes: Mapping[str, object]) -> None:
    """Set those named, None gives one back to the configuration. Raises: Invalid."""
    checked = _checked(changes)
    before = tx.admission.lock()
    if checked and before is not None:
        if any(name in LIMITS for name in checked):
            tx.admission.set_limits(*(checked.get(name, limit.of_gate(before)) for name, limit in LIMITS.items()))
            ear.admit()
        keep(tx, {name: value for name, value in checked.items() if name in KEEPING})
        hand.audit(tx, "change_settings", "", "settings", dict(checked))


def set_here(tx: Tx) -> dict[str, int]:
    """What administrators have set, by name."""
    gate, stored = tx.admission.gate(), stored_retention(tx)
    limits = {name: limit.of_gate(gate) for name, limit in LIMITS.items()}
    found = limits | {name: stored.get(keeping.field) for name, keeping in KEEPING.items()}
    return {name: value for name, value in found.items() if value is not None}


def _told(tx: Tx, limits: QueueLimits, retention: Retention) -> tuple[LiveSetting, ...]:
    gate = tx.admission.gate()
    now = gate.over(limits)
    return (
        *(
            LiveSetting(name, limit.of_limits(now), limit.of_limits(limits), limit.of_gate(gate) is not None)
            for name, limit in LIMITS.items()
        ),
        *(LiveSetting(name, *facts) for name, facts in kept(tx, retention).items()),
    )


def _checked(changes: Mapping[str, object]) -> dict[str, int | None]:
    checked: dict[str, int | None] = {}
    for name, value in changes.items():
        if name not in _BOUNDS:
            near = difflib.get_close_matches(name, _BOUNDS, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(_BOUNDS)}"
            raise Invalid(f"no setting that can be changed here{hint}", place=name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise Invalid("must be a whole number, or null for what the configuration says", place=name)
        least, most = _BOUNDS[name]
        if value is not None and not least <= value <= most:
            raise Invalid(f"must be {least} to {most}", place=name)
        checked[name] = value
    return checked
