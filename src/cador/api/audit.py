"""Routes of the audit record."""

from typing import Any, Final

from cador.api.described import Described
from cador.api.own import time
from cador.api.permissions import in_system
from cador.api.routing import Call, Routes
from cador.operations import audit

ROUTES: Final = Routes("audit")
_SEES: Final = in_system(audit.GET_LOG)
_MOST: Final = 1000


class AuditEntry(Described):
    """``hash`` covers this entry and the hash of the one before it."""

    id: int
    at: str
    account: str
    action: str
    project: str
    target: str
    detail: dict[str, Any]
    hash: str


class AuditPage(Described):
    """``next_before``: for the next page, null on the last one."""

    entries: list[AuditEntry]
    next_before: int | None


class AuditVerdict(Described):
    """``ok``: every entry is as it was written and none is missing; else ``broken`` says what is wrong."""

    ok: bool
    entries: int
    last_id: int
    last_hash: str
    broken: str
    broken_id: int


@ROUTES.get(
    "/api/v1/audit",
    _SEES,
    query=("account", "project", "action", "before:int", "limit:int"),
    reply=AuditPage,
)
async def entries(call: Call) -> Any:
    """Who changed what, newest first."""
    limit = min(max(call.number("limit") or 50, 1), _MOST)
    found = await audit.list_entries(
        call.ctx,
        call.actor,
        before=call.number("before"),
        limit=limit,
        account=call.value("account"),
        project=call.value("project"),
        action=call.value("action"),
    )
    return {
        "entries": [
            {
                "id": entry["id"],
                "at": time(entry["at"]),
                "account": entry["actor"],
                **{key: entry[key] for key in ("action", "project", "target", "detail", "hash")},
            }
            for entry in found
        ],
        "next_before": found[-1]["id"] if len(found) == limit else None,
    }


@ROUTES.get("/api/v1/audit/verify", _SEES, query=("known_id:int", "known_hash"), reply=AuditVerdict)
async def verify(call: Call) -> Any:
    """Check the chain of the whole record. ``known_id``, ``known_hash``: an entry that was noted before."""
    verdict = await audit.verify(
        call.ctx, call.actor, known_id=call.number("known_id") or 0, known_hash=call.value("known_hash")
    )
    return {
        "ok": not verdict.broken,
        "entries": verdict.entries,
        "last_id": verdict.last_id,
        "last_hash": verdict.last_hash,
        "broken": verdict.broken,
        "broken_id": verdict.broken_id,
    }
