"""Approval tickets: what an approval made elsewhere allows to run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """``uid``: id of the record, 24 hex digits. ``approval_id``: number of the form in the other system, unique over
    the server. ``valid``: whether it is in effect. ``envs``, ``services`` (service and module), ``users`` (name and
    e-mail): empty means any. ``start_at``, ``end_at``: Unix seconds, 0 means open. ``used_by``: workflow key and number
    of the task it let in; a ticket lets in one."""

    uid: str
    project: str
    approval_id: str
    valid: bool
    envs: tuple[str, ...] = ()
    services: tuple[tuple[str, str], ...] = ()
    users: tuple[tuple[str, str], ...] = ()
    start_at: int = 0
    end_at: int = 0
    create_at: float = 0.0
    used_by: tuple[str, int] | None = None


class TicketStore(Protocol):
    """Tickets of all projects."""

    def add(self, ticket: Ticket) -> bool:
        """False: the approval id is taken."""

    def replace(self, ticket: Ticket) -> None:
        """By ``uid``; who used it stays as it is."""

    def delete(self, uid: str) -> None: ...

    def delete_project(self, project: str) -> None: ...

    def by_uid(self, uid: str, *, lock: bool = False) -> Ticket | None: ...

    def by_approval_id(self, approval_id: str, *, lock: bool = False) -> Ticket | None:
        """*lock*: others who want to change or use it wait."""

    def list_tickets(self, project: str, limit: int, offset: int = 0, *, unused: bool = False) -> Sequence[Ticket]:
        """Newest first. *unused*: only those that have let nothing in yet."""

    def use(self, uid: str, workflow_key: str, number: int) -> None:
        """Remember which task it let in."""
