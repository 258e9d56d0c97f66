"""Who did what."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """``last_id``, ``last_hash``: where the next look begins. ``broken``: what is wrong, empty: nothing so far.
    ``broken_id``: of the entry where it shows. ``done``: the newest entry was reached."""

    last_id: int
    last_hash: str
    seen: int
    broken: str = ""
    broken_id: int = 0
    done: bool = False


class AuditStore(Protocol):
    def add(
        self, *, at: float, actor: str, action: str, project: str, target: str, detail: Mapping[str, Any]
    ) -> None: ...

    def list_entries(
        self,
        *,
        before: int | None = None,
        limit: int = 50,
        skip: int = 0,
        actor: str = "",
        project: str = "",
        action: str = "",
    ) -> list[Mapping[str, Any]]:
        """Newest first; filters are exact. *skip*: how many to leave out, for numbered pages near the top.
        Keys: id, at, actor, action, project, target, detail (an object), hash."""

    def count(self, most: int, *, actor: str = "", project: str = "", action: str = "") -> int:
        """How many entries fit; counted up to *most*."""

    def verify(self, after: int, previous: str, limit: int) -> AuditCheck:
        """Look at the *limit* entries after the id *after*, the last of which had the hash *previous*."""
