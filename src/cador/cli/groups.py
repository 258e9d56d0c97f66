"""``cador group``."""

from typing import Annotated

from cyclopts import Parameter

from cador.cli.client import Client, connect
from cador.cli.options import Json, Yes
from cador.cli.options import group as commands
from cador.cli.output import Failure, plain, result, result_json, say, table
from cador.cli.people import find_uid
from cador.cli.terminal import confirm

group = commands(
    "group",
    """User groups: people whom workflows name together, as approvers and deciders.

      $ cador group create leads --member alice --member bob
      $ cador group show leads""",
)

_Name = Annotated[str, Parameter(help="Name of the group.")]
_Members = Annotated[
    list[str] | None, Parameter(name="--member", negative="", help="Account of a member; again for more.")
]


def _ident(client: Client, name: str) -> str:
    found = client.groups.find(name)
    if found is None:
        raise Failure(f"there is no group {name}; cador group list shows those there are")
    return found["id"]


@group.command(name="list")
def list_groups(*, json: Json = False) -> int:
    """All user groups.

    $ cador group list
    """
    rows = connect().groups.list()
    if json:
        result_json(rows)
    else:
        table(
            ("name", "members", "description", "id"),
            ((one["name"], one["user_total"], one["description"], one["id"]) for one in rows),
        )
    return 0


@group.command
def show(name: _Name, /, *, json: Json = False) -> int:
    """One group with its members.

    $ cador group show leads
    """
    client = connect()
    detail = client.groups.get(_ident(client, name))
    if json:
        result_json(detail)
        return 0
    for key in ("name", "description", "id"):
        result(plain(f"{key}: {detail[key]}"))
    for user in detail["users"]:
        result(f"member: {user['account']} ({user['name']})")
    return 0


@group.command
def create(name: _Name, /, *, description: str = "", member: _Members = None) -> int:
    """Create a group.

    $ cador group create leads --member alice --member bob
    """
    client = connect()
    uids = [find_uid(client, account) for account in member or ()]
    client.groups.create(name, uids, description=description)
    say(f"group {name} is created")
    return 0


@group.command
def add(name: _Name, account: Annotated[str, Parameter(help="Account of the new member.")], /) -> int:
    """Add a member.

    $ cador group add leads carol
    """
    client = connect()
    client.groups.add(_ident(client, name), [find_uid(client, account)])
    say(f"{account} is in {name}")
    return 0


@group.command
def remove(name: _Name, account: Annotated[str, Parameter(help="Account of the member.")], /) -> int:
    """Take a member out.

    $ cador group remove leads carol
    """
    client = connect()
    client.groups.remove(_ident(client, name), find_uid(client, account))
    say(f"{account} is not in {name} any more")
    return 0


@group.command
def delete(name: _Name, /, *, yes: Yes = False) -> int:
    """Delete a group that no workflow names.

    $ cador group delete leads
    """
    client = connect()
    ident = _ident(client, name)
    confirm(f"Delete group {name}?", yes)
    client.groups.delete(ident)
    say(f"group {name} is deleted")
    return 0
