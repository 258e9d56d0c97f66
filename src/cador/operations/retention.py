"""How long tasks are kept, as administrators set it while servers work. The engine keeps house by it once an hour."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from cador.engine.housekeeping import STORED, Retention, stored_retention
from cador.ports.stores import Tx

MOST: Final = 36_500
"""Largest number of days."""
MOST_ITEMS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Keeping:
    """A setting: the field of :class:`Retention` it is, and the most it may be. 0 is always allowed: for ever."""

    field: str
    most: int


KEEPING: Final[Mapping[str, Keeping]] = {
    "retention.max_days": Keeping("max_days", MOST),
    "retention.max_items_per_workflow": Keeping("max_items_per_workflow", MOST_ITEMS),
    "retention.purge_days": Keeping("purge_days", MOST),
}
"""By the name in the configuration."""


def kept(tx: Tx, configured: Retention) -> dict[str, tuple[int, int, bool]]:
    """By name: what counts, what is configured, and whether the first was set here."""
    stored = stored_retention(tx)
    told = {}
    for name, keeping in KEEPING.items():
        settled: int = getattr(configured, keeping.field)
        told[name] = (stored.get(keeping.field, settled), settled, keeping.field in stored)
    return told


def keep(tx: Tx, changes: Mapping[str, int | None]) -> None:
    """Set those of :data:`KEEPING` named; None gives one back to the configuration. Counts from the next hour on: what
    was set by mistake can be taken back before anything is deleted."""
    stored = stored_retention(tx)
    for name, value in changes.items():
        if value is None:
            stored.pop(KEEPING[name].field, None)
        else:
            stored[KEEPING[name].field] = value
    tx.meta.set(STORED, msgspec.json.encode(stored).decode())
