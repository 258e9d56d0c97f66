"""The audit record in the shape of the documents' operation log, with numbered pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cador.domain.errors import Invalid
from cador.operations.actor import SYSTEM, Actor
from cador.operations.audit import GET_LOG
from cador.operations.context import Context
from cador.ports.stores import Tx

MOST: Final = 10_000
"""Entries that numbered pages reach and the total counts; older ones are found by filters, or by the audit's own
pages."""
DONE: Final = 200


@dataclass(frozen=True, slots=True)
class Operations:
    entries: Sequence[Mapping[str, Any]]
    total: int


async def list_operations(
    ctx: Context, actor: Actor, *, page: int, size: int, account: str, project: str, action: str, status: int | None
) -> Operations:
    """Newest first; filters are exact. What is written down was done: of another *status* than 200 there is nothing.

    Raises: Forbidden; Invalid: too far back.
    """
    if not actor.may(GET_LOG):
        actor.need(SYSTEM)
    skip = (page - 1) * size
    if skip + size > MOST:
        raise Invalid(f"pages reach the newest {MOST} entries: use filters, or GET /api/v1/audit", place="page")
    if status not in (None, 0, DONE):
        return Operations((), 0)

    def read(tx: Tx) -> Operations:
        found = tx.audit.list_entries(skip=skip, limit=size, actor=account, project=project, action=action)
        return Operations(found, tx.audit.count(MOST, actor=account, project=project, action=action))

    return await ctx.db.read(read)
