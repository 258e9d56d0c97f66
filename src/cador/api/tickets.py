"""Approval tickets. Source: API documents, "Create an approval ticket"."""

from typing import Any, Final

from cador.api.catalogue import NO_DOCUMENTS, Operation
from cador.api.described import Described, DescribedRoot
from cador.api.errors import Refusal
from cador.api.params import PROJECT
from cador.api.permissions import by_operation, in_query
from cador.api.routing import Call, Routes
from cador.domain import errors as domain
from cador.operations import tickets
from cador.operations.actions import TICKET
from cador.operations.models.ticket import TicketBody, TicketService, TicketUser

ROUTES: Final = Routes("tickets")

_PATH: Final = "/openapi/ticket/approval"
_MOST_SHOWN: Final = 200


class Created(Described):
    code: int = 1
    message: str = "success"


class UsedBy(Described):
    workflow_key: str
    task_id: int


class ShownTicket(Described):
    id: str
    project_key: str
    approval_id: str
    status: int
    envs: list[str]
    services: list[TicketService]
    users: list[TicketUser]
    execution_window_start: int
    execution_window_end: int
    create_time: int
    used_by: UsedBy | None


class TicketList(DescribedRoot[list[ShownTicket]]):
    """Newest first."""


def _no_project(error: domain.NotFound) -> Refusal:
    return Refusal(Operation.CREATE_TICKET, f"failed to find project: {error.name}, error: {NO_DOCUMENTS}")


@ROUTES.post(
    _PATH,
    by_operation(TICKET),
    faults={domain.NotFound: _no_project, domain.AlreadyExists: Operation.CREATE_TICKET},
    body=TicketBody,
    reply=Created,
    example={"code": 1, "message": "success"},
)
async def create_ticket(call: Call) -> Any:
    """Tell of an approval that was given in another system: it lets one task of the project in."""
    await tickets.create_ticket(call.ctx, call.actor, await call.object())
    return {"code": 1, "message": "success"}


@ROUTES.put(_PATH, by_operation(TICKET), faults={domain.NotFound: Operation.CREATE_TICKET}, body=TicketBody)
async def change_named_ticket(call: Call) -> None:
    """Change what the ticket with the number in the body allows, or put it out of effect (`status` 0)."""
    await tickets.change_ticket(call.ctx, call.actor, "", await call.object())


@ROUTES.put(
    f"{_PATH}/{{approvalID}}",
    by_operation(TICKET),
    faults={domain.NotFound: Operation.CREATE_TICKET},
    body=TicketBody,
)
async def change_ticket(call: Call) -> None:
    """Change what a ticket allows, or put it out of effect (`status` 0)."""
    await tickets.change_ticket(call.ctx, call.actor, call.path_value("approvalID"), await call.object())


@ROUTES.delete(
    f"{_PATH}/{{approvalID}}",
    in_query(TICKET),
    query=("projectKey!",),
    faults={domain.NotFound: Operation.CREATE_TICKET},
)
async def delete_ticket(call: Call) -> None:
    """Delete a ticket."""
    await tickets.delete_ticket(call.ctx, call.actor, call.need(PROJECT), call.path_value("approvalID"))


@ROUTES.get(_PATH, in_query(TICKET), query=("projectKey!", "pageNum:int", "pageSize:int"), reply=TicketList)
async def list_tickets(call: Call) -> Any:
    """All tickets of a project, newest first."""
    found = await tickets.list_tickets(call.ctx, call.actor, call.need(PROJECT), *call.page())
    return [tickets.document(ticket) for ticket in found]


@ROUTES.get(
    "/api/aslan/ticket/approval",
    in_query("run_workflow", required="projectName is required"),
    query=("projectName!", "query"),
    reply=TicketList,
)
async def usable_tickets(call: Call) -> Any:
    """Tickets with which the caller may start something, newest first; `query` is contained in their number."""
    found = await tickets.usable_tickets(call.ctx, call.actor, call.need(PROJECT), call.value("query"), _MOST_SHOWN)
    return [tickets.document(ticket) for ticket in found]
