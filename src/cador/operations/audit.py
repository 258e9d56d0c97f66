"""The audit record: who changed what. Looked at by system administrators; the chain shows what was tampered with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cador.operations.actor import SYSTEM, Actor
from cador.operations.context import Context
from cador.ports.stores import AuditCheck, Tx

GET_LOG: Final = "get_log_operation"
STEP: Final = 1_000
"""Entries that are checked in one transaction."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``broken``: what is wrong, empty when all is as it was written; ``broken_id``: of the entry where it shows, 0 at
    the end. ``entries``: how many fit. ``last_id``, ``last_hash``: of the last of them: noted elsewhere, they show
    later that nothing up to there was rewritten."""

    entries: int
    last_id: int
    last_hash: str
    broken: str
    broken_id: int


def note_task(
    tx: Tx, actor: Actor, action: str, project: str, workflow: str, number: int, detail: Mapping[str, Any] | None = None
) -> None:
    """Write down what somebody did to a task; part of a transaction. *detail* holds no values: they may be secret."""
    target = f"task/{workflow}/{number}"
    tx.audit.add(at=tx.now, actor=actor.account, action=action, project=project, target=target, detail=detail or {})


async def list_entries(
    ctx: Context, actor: Actor, *, before: int | None, limit: int, account: str, project: str, action: str
) -> list[Mapping[str, Any]]:
    """Newest first. *before*: keyset, only smaller ids; filters are exact. Raises: Forbidden."""
    _need(actor)

    def read(tx: Tx) -> list[Mapping[str, Any]]:
        return tx.audit.list_entries(before=before, limit=limit, actor=account, project=project, action=action)

    return await ctx.db.read(read)


async def verify(ctx: Context, actor: Actor, *, known_id: int = 0, known_hash: str = "") -> Verdict:
    """Check the whole chain, a piece in each transaction, so that nobody is held up. *known_id*, *known_hash*: an entry
    that was noted before.

    Raises: Forbidden.
    """
    _need(actor)
    at, entries, met = AuditCheck(0, "", 0), 0, not known_id
    while not at.done and not at.broken:
        limit = STEP if met else min(STEP, max(1, known_id - at.last_id))  # ids have gaps, but do not repeat
        found = await ctx.db.read(_look, at, limit)
        at, entries = found, entries + found.seen
        if not met and at.last_id >= known_id:
            met = True
            if (at.last_id, at.last_hash) != (known_id, known_hash):
                text = f"entry {known_id} is not the one that was noted: the record was written anew"
                return Verdict(entries, at.last_id, at.last_hash, text, known_id)
    if not met and not at.broken:
        return Verdict(entries, at.last_id, at.last_hash, f"entry {known_id} is missing", known_id)
    return Verdict(entries, at.last_id, at.last_hash, at.broken, at.broken_id)


def _look(tx: Tx, at: AuditCheck, limit: int) -> AuditCheck:
    return tx.audit.verify(at.last_id, at.last_hash, limit)


def _need(actor: Actor) -> None:
    if not actor.may(GET_LOG):
        actor.need(SYSTEM)
