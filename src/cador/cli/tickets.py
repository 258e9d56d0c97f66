"""``cador ticket``: approvals that were given in another system."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

from cyclopts import Parameter

from cador.cli.client import Client, connect
from cador.cli.options import Json, Limit, Project, Yes, group
from cador.cli.output import USAGE, Failure, moment, result_json, say, table
from cador.cli.task_names import project_or_only
from cador.cli.terminal import confirm
from cador.client import shapes

ticket = group(
    "ticket",
    """Approval tickets: each lets one task of its project in.

      $ cador ticket create CHG-1042 --env prod --service api/api --user ann@example.com --until 2026-12-01T00:00:00Z
      $ cador run release --ticket CHG-1042""",
)

_PAGE = 200
_Number = Annotated[str, Parameter(help="Number of the form in the other system.")]
_Texts = list[str] | None
_When = Annotated[str, Parameter(help="RFC 3339 with its zone, or Unix seconds.")]


def _seconds(text: str, option: str) -> int:
    """Raises: Failure."""
    if not text:
        return 0
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return int(at.timestamp())
    except (ValueError, OverflowError):
        pass
    raise Failure(f"{option} is a moment with its zone, such as 2026-12-01T00:00:00Z, or Unix seconds", USAGE)


def _service(text: str) -> dict[str, str]:
    service, _, module = text.partition("/")
    if not service or not module:
        raise Failure(f"{text!r} is no SERVICE/MODULE", USAGE)
    return {"service_name": service, "service_module": module}


def _user(text: str) -> dict[str, str]:
    name, _, email = text.rpartition("=")
    return {"name": name or email, "email": email}


def _all(client: Client, project: str) -> Iterator[shapes.Ticket]:
    page = 1
    while found := client.tickets.list(project, page=page, size=_PAGE):
        yield from found
        if len(found) < _PAGE:
            return
        page += 1


@ticket.command
def create(
    number: _Number,
    /,
    *,
    env: Annotated[_Texts, Parameter(negative="", help="Environment it allows; again for more; none: all.")] = None,
    service: Annotated[_Texts, Parameter(negative="", help="SERVICE/MODULE; again for more; none: all.")] = None,
    user: Annotated[
        _Texts, Parameter(negative="", help="E-mail, or NAME=E-MAIL, of who may use it; none: everybody.")
    ] = None,
    since: Annotated[str, Parameter(name="--from", help="RFC 3339 with its zone, or Unix seconds.")] = "",
    until: _When = "",
    project: Project = "",
) -> int:
    """Tell of an approval that was given.

    $ cador ticket create CHG-1042 --env prod --service api/api --user ann@example.com
    """
    body = {
        "approval_id": number,
        "status": 1,
        "envs": env or [],
        "services": [_service(text) for text in service or ()],
        "users": [_user(text) for text in user or ()],
        "execution_window_start": _seconds(since, "--from"),
        "execution_window_end": _seconds(until, "--until"),
    }
    client = connect()
    client.tickets.create(body | {"project_key": project_or_only(client, project)})
    say(f"ticket {number} is created")
    return 0


@ticket.command(name="list")
def list_(
    *,
    project: Project = "",
    limit: Limit = 50,
    json: Json = False,
) -> int:
    """Tickets of a project, newest first.

    $ cador ticket list --project shop
    """
    client = connect()
    rows = [one for one, _ in zip(_all(client, project_or_only(client, project)), range(limit), strict=False)]
    if json:
        result_json(rows)
        return 0
    table(("number", "status", "from", "until", "envs", "services", "users"), map(_row, rows))
    return 0


def _row(one: shapes.Ticket) -> tuple[str, ...]:
    used = one["used_by"]
    status = "revoked" if not one["status"] else f"used by {used['workflow_key']}/{used['task_id']}" if used else "open"
    return (
        one["approval_id"],
        status,
        moment(one["execution_window_start"]),
        moment(one["execution_window_end"]),
        " ".join(one["envs"]),
        " ".join(f"{each['service_name']}/{each['service_module']}" for each in one["services"]),
        " ".join(each["email"] for each in one["users"]),
    )


@ticket.command
def revoke(number: _Number, /, *, project: Project = "", yes: Yes = False) -> int:
    """Put a ticket out of effect. What it has let in goes on.

    $ cador ticket revoke CHG-1042
    """
    client = connect()
    project = project_or_only(client, project)
    found = next((one for one in _all(client, project) if one["approval_id"] == number), None)
    if found is None:
        raise Failure(f"there is no ticket {number} in project {project}; cador ticket list shows those there are")
    confirm(f"Revoke ticket {number} of project {project}?", yes)
    client.tickets.replace(number, {**found, "status": 0})
    say(f"ticket {number} is out of effect")
    return 0
