"""Approval tickets."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, select, update

from cador.ports.tickets import Ticket
from cador.storage import dialect
from cador.storage.dialect import json_of, json_text
from cador.storage.lane import Lane
from cador.storage.tables import TICKET_UNUSED, ticket

t = ticket.c
_COLUMNS: Final = (
    t.uid, t.project, t.approval_id, t.valid, t.envs, t.services, t.users, t.start_at, t.end_at, t.create_at,
    t.used_by_workflow, t.used_by_number,
)  # fmt: skip
_NAMES: Final = ("project", "approval_id", "valid", "envs", "services", "users", "start_at", "end_at")

ADD: Final = (
    dialect.insert(ticket)
    .values({name: bindparam(name) for name in ("uid", *_NAMES, "create_at")} | {"used_by_workflow": ""})
    .on_conflict_do_nothing(index_elements=[t.approval_id])
    .returning(t.id)
)
REPLACE: Final = (
    update(ticket).where(t.uid == bindparam("of")).values({name: bindparam(name) for name in _NAMES})
)  # fmt: skip
DELETE: Final = delete(ticket).where(t.uid == bindparam("of"))
DELETE_PROJECT: Final = delete(ticket).where(t.project == bindparam("of"))
BY_UID: Final = select(*_COLUMNS).where(t.uid == bindparam("of"))
BY_APPROVAL_ID: Final = select(*_COLUMNS).where(t.approval_id == bindparam("of"))
LOCK_UID, LOCK_APPROVAL_ID = BY_UID.with_for_update(), BY_APPROVAL_ID.with_for_update()
LIST: Final = (
    select(*_COLUMNS)
    .where(t.project == bindparam("of"))
    .order_by(t.id.desc())
    .limit(bindparam("limit"))
    .offset(bindparam("skip"))
)
LIST_UNUSED: Final = LIST.where(TICKET_UNUSED)
USE: Final = (
    update(ticket)
    .where(t.uid == bindparam("of"))
    .values(used_by_workflow=bindparam("workflow"), used_by_number=bindparam("number"))
)


def _ticket(row: Sequence[Any]) -> Ticket:
    uid, project, approval_id, valid, envs, services, users, start_at, end_at, create_at, workflow, number = row
    return Ticket(
        uid=uid,
        project=project,
        approval_id=approval_id,
        valid=bool(valid),
        envs=tuple(json_of(envs)),
        services=tuple((service, module) for service, module in json_of(services)),
        users=tuple((name, email) for name, email in json_of(users)),
        start_at=start_at,
        end_at=end_at,
        create_at=create_at,
        used_by=(workflow, number) if workflow else None,
    )


def _values(one: Ticket) -> dict[str, Any]:
    values = {name: getattr(one, name) for name in _NAMES}
    return values | {name: json_text(values[name]) for name in ("envs", "services", "users")}


class Tickets:
    """Implements ``ports.tickets.TicketStore``."""

    def __init__(self, connection: Connection) -> None:
        self._lane = Lane(connection)

    def add(self, one: Ticket) -> bool:
        return self._lane.value(ADD, _values(one) | {"uid": one.uid, "create_at": one.create_at}) is not None

    def replace(self, one: Ticket) -> None:
        self._lane.change(REPLACE, _values(one) | {"of": one.uid})

    def delete(self, uid: str) -> None:
        self._lane.change(DELETE, {"of": uid})

    def delete_project(self, project: str) -> None:
        self._lane.change(DELETE_PROJECT, {"of": project})

    def by_uid(self, uid: str, *, lock: bool = False) -> Ticket | None:
        row = self._lane.row(LOCK_UID if lock else BY_UID, {"of": uid})
        return _ticket(row) if row is not None else None

    def by_approval_id(self, approval_id: str, *, lock: bool = False) -> Ticket | None:
        row = self._lane.row(LOCK_APPROVAL_ID if lock else BY_APPROVAL_ID, {"of": approval_id})
        return _ticket(row) if row is not None else None

    def list_tickets(self, project: str, limit: int, offset: int = 0, *, unused: bool = False) -> Sequence[Ticket]:
        values = {"of": project, "limit": limit, "skip": offset}
        return [_ticket(row) for row in self._lane.rows(LIST_UNUSED if unused else LIST, values)]

    def use(self, uid: str, workflow_key: str, number: int) -> None:
        self._lane.change(USE, {"of": uid, "workflow": workflow_key, "number": number})
