"""Approval tickets: an approval that was given in another system lets one task of a workflow in.

Workflows with ``enable_approval_ticket`` start with a ticket alone. It is checked against what the start became - who
starts, when, which environments and services its jobs touch - and used up in the transaction that stores the task: two
starts with one ticket make one task. A retry asks for nothing, it is the same task. Source: API documents, "Create an
approval ticket".
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from cador.domain.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound, NotStartable
from cador.domain.variables import references
from cador.domain.workflow import Job
from cador.jobs.base import JobTaskPlan
from cador.operations.actions import ADMIN_PROJECT, TICKET
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.models.body import read_body
from cador.operations.models.ticket import TicketBody
from cador.operations.resources import Hand, need_project
from cador.ports.stores import Tx
from cador.ports.tickets import Ticket

NEEDED: Final = "workflow need approval ticket to run, which is not supported by openAPI right now."
_DENIED: Final = "workflow task creation denied: "
_BUILDS: Final = frozenset({"zadig-build", "zadig-deploy", "zadig-vm-deploy", "zadig-distribute-image"})
"""Types whose services count."""
MOST_LOOKED_AT: Final = 10_000
"""Tickets of a project, the newest, among which those are found that somebody may use."""
_PAGE: Final = 1_000

Doc = Mapping[str, Any]


class Wish(Protocol):
    """The part of a start request that names a ticket."""

    @property
    def approval_ticket_id(self) -> str: ...

    @property
    def approval_id(self) -> str: ...


# -- what a start asks


def find_ticket(tx: Tx, wish: Wish, *, lock: bool = False) -> Ticket | None:
    """The ticket a start names: by the id of its record, else by the number of its form."""
    if wish.approval_ticket_id:
        return tx.tickets.by_uid(wish.approval_ticket_id, lock=lock)
    if wish.approval_id:
        return tx.tickets.by_approval_id(wish.approval_id, lock=lock)
    return None


def check_ticket(ticket: Ticket | None, wish: Wish, project: str, actor: Actor, at: float) -> Ticket:
    """Whether *ticket* lets *actor* start something in *project* at *at*. Raises: NotStartable, with the reason."""
    named = wish.approval_ticket_id or wish.approval_id
    if not named:
        raise NotStartable(NEEDED)
    if ticket is None or not ticket.valid:
        raise NotStartable(f"cannot find approval ticket of id: {named}, error: mongo: no documents in result")
    if ticket.project != project:
        raise NotStartable(f"{_DENIED}project key mismatch.")
    if at < ticket.start_at or (ticket.end_at and at > ticket.end_at):
        raise NotStartable(f"{_DENIED}not in execution time window.")
    if ticket.users:
        if not actor.uid:
            raise NotStartable(f"{_DENIED}task creator cannot be identified.")
        mine = actor.email.casefold()
        if not mine or mine not in {email.casefold() for _, email in ticket.users}:
            raise NotStartable(f"{_DENIED}user {actor.name} is not allowed to create workflow task.")
    if ticket.used_by is not None:
        key, number = ticket.used_by
        raise NotStartable(f"{_DENIED}the approval ticket was used by task {key}:{number} already.")
    return ticket


def check_reach(ticket: Ticket, plans: Iterable[tuple[Job, JobTaskPlan]]) -> None:
    """Whether the job tasks stay within the environments and services of *ticket*. What is not known before the task
    runs is not within. Raises: NotStartable, with the first that is not."""
    for job, plan in plans:
        if ticket.envs and (env := _environment(plan)) is not None and env not in ticket.envs:
            raise NotStartable(f"{_DENIED}environment {env} is not allowed by the approval ticket.")
        if ticket.services and job.type in _BUILDS:
            for service, module in _services(plan):
                if not _allowed(ticket, service, module):
                    raise NotStartable(f"{_DENIED}service {service}/{module} is not allowed by the approval ticket.")


def _environment(plan: JobTaskPlan) -> str | None:
    """Where the job goes; None: it touches no environment."""
    env = plan.plan.get("env")
    return env if isinstance(env, str) else None


def _services(plan: JobTaskPlan) -> Iterable[tuple[str, str]]:
    listed = [
        entry
        for key in ("service_and_images", "distribute_target", "targets")
        for entry in plan.plan.get(key) or ()
        if isinstance(entry, Mapping)
    ]
    for entry in listed or [plan.info]:
        yield str(entry.get("service_name") or ""), str(entry.get("service_module") or "")


def _allowed(ticket: Ticket, service: str, module: str) -> bool:
    if references(service) or references(module):
        return False
    if not module:  # all of the service
        return any(service == name for name, _ in ticket.services)
    return (service, module) in ticket.services


# -- parts of transactions


def stored_body(tx: Tx, project: str, approval_id: str) -> dict[str, Any] | None:
    """What is known of a ticket of *project*, in the shape in which it is sent; None: there is none."""
    found = tx.tickets.by_approval_id(approval_id)
    return body_of(found) if found is not None and found.project == project else None


def store_ticket(tx: Tx, hand: Hand, project: str, body: TicketBody) -> bool:
    """Create a ticket or change what it allows; False when it says the same already. Whom it let in stays.

    Raises: Conflict: another project has that form; NotFound("project").
    """
    old = tx.tickets.by_approval_id(body.approval_id, lock=True)
    if old is None:
        need_project(tx, project)
        made = replace(_ticket(body, secrets.token_hex(12)), create_at=tx.now)
        if not tx.tickets.add(made):
            raise Conflict(f"ticket {body.approval_id} was made at this moment by somebody else")
        _audit(hand, tx, "create_ticket", made)
        return True
    if old.project != project:
        raise Conflict(f"ticket {body.approval_id} is in another project")
    changed = replace(_ticket(body, old.uid), create_at=old.create_at, used_by=old.used_by)
    if changed == old:
        return False
    tx.tickets.replace(changed)
    _audit(hand, tx, "edit_ticket", changed)
    return True


def drop_ticket(tx: Tx, hand: Hand, project: str, approval_id: str) -> None:
    """Raises: NotFound("ticket")."""
    old = tx.tickets.by_approval_id(approval_id, lock=True)
    if old is None or old.project != project:
        raise NotFound("ticket", approval_id)
    tx.tickets.delete(old.uid)
    _audit(hand, tx, "delete_ticket", old)


# -- operations


async def create_ticket(ctx: Context, actor: Actor, body: Doc) -> Ticket:
    """Raises: Invalid; Forbidden; NotFound("project"); AlreadyExists: the form is known."""
    new = _ticket(read_body(TicketBody, body), secrets.token_hex(12))
    actor.need(TICKET, new.project)

    def write(tx: Tx) -> Ticket:
        tx.resources.hold()  # the project must not go meanwhile
        need_project(tx, new.project)
        made = replace(new, create_at=tx.now)
        if not tx.tickets.add(made):
            raise AlreadyExists("ticket", made.approval_id, project=made.project)
        _audit(Hand(actor, ctx.sealer), tx, "create_ticket", made)
        return made

    return await ctx.db.write(write)


async def change_ticket(ctx: Context, actor: Actor, approval_id: str, body: Doc) -> None:
    """Replace what the ticket allows, or put it out of effect. *approval_id* empty: as the body names it.

    Raises: Invalid, Forbidden, NotFound("ticket").
    """
    sent = read_body(TicketBody, {**body, "approval_id": body.get("approval_id") or approval_id})
    if approval_id and sent.approval_id != approval_id:
        raise Invalid("approval_id cannot be changed", place="approval_id")
    actor.need(TICKET, sent.project_key)

    def write(tx: Tx) -> None:
        old = tx.tickets.by_approval_id(sent.approval_id, lock=True)
        if old is None or old.project != sent.project_key:
            raise NotFound("ticket", sent.approval_id)
        changed = replace(_ticket(sent, old.uid), create_at=old.create_at, used_by=old.used_by)
        tx.tickets.replace(changed)
        _audit(Hand(actor, ctx.sealer), tx, "edit_ticket", changed)

    await ctx.db.write(write)


async def delete_ticket(ctx: Context, actor: Actor, project: str, approval_id: str) -> None:
    """Raises: Forbidden, NotFound("ticket")."""
    actor.need(TICKET, project)
    await ctx.db.write(drop_ticket, Hand(actor, ctx.sealer), project, approval_id)


async def list_tickets(ctx: Context, actor: Actor, project: str, page: int, size: int) -> list[Ticket]:
    """All of a project, newest first. Raises: Forbidden."""
    if not actor.may(ADMIN_PROJECT, project) and not actor.may(TICKET, project):
        raise Forbidden(TICKET, project=project)
    return await ctx.db.read(lambda tx: list(tx.tickets.list_tickets(project, size, (page - 1) * size)))


async def usable_tickets(ctx: Context, actor: Actor, project: str, query: str, limit: int) -> list[Ticket]:
    """Those in effect that nobody has used and the actor may start something with, of the newest
    :data:`MOST_LOOKED_AT`, newest first; *query*: contained in the number of the form. Their windows may be over."""
    mine = actor.email.casefold()

    def usable(ticket: Ticket) -> bool:
        who = {email.casefold() for _, email in ticket.users}
        return ticket.valid and (not who or mine in who) and query in ticket.approval_id

    def read(tx: Tx) -> list[Ticket]:
        found: list[Ticket] = []
        skip = 0
        while len(found) < limit and skip < MOST_LOOKED_AT:
            page = tx.tickets.list_tickets(project, _PAGE, skip, unused=True)
            found += filter(usable, page)
            skip += _PAGE
            if len(page) < _PAGE:
                break
        return found[:limit]

    return await ctx.db.read(read)


def document(ticket: Ticket) -> dict[str, Any]:
    """As it is shown."""
    return {
        "id": ticket.uid,
        **body_of(ticket),
        "create_time": int(ticket.create_at),
        "used_by": {"workflow_key": ticket.used_by[0], "task_id": ticket.used_by[1]} if ticket.used_by else None,
    }


def body_of(ticket: Ticket) -> dict[str, Any]:
    """As it is sent."""
    return {
        "project_key": ticket.project,
        "approval_id": ticket.approval_id,
        "status": int(ticket.valid),
        "envs": list(ticket.envs),
        "services": [{"service_name": name, "service_module": module} for name, module in ticket.services],
        "users": [{"name": name, "email": email} for name, email in ticket.users],
        "execution_window_start": ticket.start_at,
        "execution_window_end": ticket.end_at,
    }


def _ticket(body: TicketBody, uid: str) -> Ticket:
    return Ticket(
        uid=uid,
        project=body.project_key,
        approval_id=body.approval_id,
        valid=body.status == 1,
        envs=tuple(dict.fromkeys(body.envs)),
        services=tuple((one.service_name, one.service_module) for one in body.services),
        users=tuple((one.name, one.email) for one in body.users),
        start_at=body.execution_window_start,
        end_at=body.execution_window_end,
    )


def _audit(hand: Hand, tx: Tx, action: str, ticket: Ticket) -> None:
    hand.audit(tx, action, ticket.project, f"ticket/{ticket.approval_id}", document(ticket))
