"""``cador role``: what may be allowed, and who may it."""

from typing import Annotated

from cyclopts import Parameter

from cador.cli.client import Client, connect
from cador.cli.options import Json, Yes, group
from cador.cli.output import USAGE, Failure, result, result_json, say, table
from cador.cli.people import find_uid
from cador.cli.terminal import confirm
from cador.client import shapes
from cador.client.groups.people import EVERYWHERE

role = group(
    "role",
    """Roles of a project, or without --project of the whole system, and who has them.

      $ cador role create tester --project shop --action get_test --action run_test
      $ cador role give tester alice --project shop
      $ cador role give read-only --group leads --project shop""",
)

_Name = Annotated[str, Parameter(help="Name of the role.")]
_Project = Annotated[str, Parameter(name=["--project", "-p"], help="Key of the project; else the whole system.")]
_Actions = Annotated[
    list[str] | None, Parameter(name="--action", negative="", help="What it allows; again for more. See role actions.")
]
_Account = Annotated[str, Parameter(help="Account of the user.")]
_Group = Annotated[str, Parameter(name="--group", help="A user group instead of a user.")]


@role.command(name="list")
def list_roles(*, project: _Project = "", json: Json = False) -> int:
    """All roles, built in and made here.

    $ cador role list --project shop
    """
    rows = connect().roles.list(project or EVERYWHERE)
    if json:
        result_json(rows)
    else:
        table(("name", "type", "description"), ((one["name"], one["type"], one["desc"]) for one in rows))
    return 0


@role.command
def show(name: _Name, /, *, project: _Project = "", json: Json = False) -> int:
    """What a role allows.

    $ cador role show tester --project shop
    """
    found = connect().roles.get(name, project or EVERYWHERE)
    if json:
        result_json(found)
    else:
        for rule in found["rules"]:
            for verb in rule["verbs"]:
                result(verb)
    return 0


@role.command
def actions(*, json: Json = False) -> int:
    """What roles of projects can be made of.

    $ cador role actions
    """
    found = connect().roles.actions()
    if json:
        result_json(found)
    else:
        rows = [(rule["action"], one["alias"], rule["alias"]) for one in found for rule in one["rules"]]
        table(("action", "of", "means"), rows)
    return 0


@role.command
def create(name: _Name, /, *, action: _Actions = None, description: str = "", project: _Project = "") -> int:
    """Make a role.

    $ cador role create tester --project shop --action get_test --action run_test
    """
    connect().roles.create(name, action or (), project or EVERYWHERE, description=description)
    say(f"role {name} is created")
    return 0


@role.command
def update(name: _Name, /, *, action: _Actions = None, description: str | None = None, project: _Project = "") -> int:
    """Change a role; what is not given stays. It counts at once for all who have it.

    $ cador role update tester --project shop --action get_test
    """
    connect().roles.change(name, project or EVERYWHERE, actions=action, description=description)
    say(f"role {name} is changed")
    return 0


@role.command
def delete(name: _Name, /, *, project: _Project = "", yes: Yes = False) -> int:
    """Delete a role that nobody has.

    $ cador role delete tester --project shop
    """
    confirm(f"Delete role {name}?", yes)
    connect().roles.delete(name, project or EVERYWHERE)
    say(f"role {name} is deleted")
    return 0


@role.command
def members(*, project: _Project = "", json: Json = False) -> int:
    """Which users and groups have which roles.

    $ cador role members --project shop
    """
    rows = connect().roles.members(project or EVERYWHERE)
    if json:
        result_json(rows)
    else:
        table(("type", "name", "roles"), ((one["binding_type"], _who(one), ", ".join(one["roles"])) for one in rows))
    return 0


def _who(binding: shapes.Binding) -> str:
    if binding["binding_type"] == "user":
        return str(binding["user_info"]["account"])
    return str(binding["group_info"]["name"])


@role.command
def give(name: _Name, account: _Account = "", /, *, group: _Group = "", project: _Project = "") -> int:
    """Give a role to a user or a group, beside what they have.

    $ cador role give tester alice --project shop
    """
    client = connect()
    kind, ident = _identity(client, account, group)
    to = {"groups" if kind == "group" else "uids": [ident]}
    client.roles.give(name, project or EVERYWHERE, **to)
    say(f"{group or account} has role {name}")
    return 0


@role.command
def take(name: _Name, account: _Account = "", /, *, group: _Group = "", project: _Project = "") -> int:
    """Take a role from a user or a group.

    $ cador role take tester alice --project shop
    """
    client = connect()
    kind, ident = _identity(client, account, group)
    have: list[str] = next(
        (
            one["roles"]
            for one in client.roles.members(project or EVERYWHERE)
            if one["binding_type"] == kind
            and ident == (one["group_info"]["group_id"] if kind == "group" else one["user_info"]["uid"])
        ),
        [],
    )
    if name not in have:
        raise Failure(f"{group or account} does not have role {name}")
    left = [role for role in have if role != name]
    (client.roles.set_group if kind == "group" else client.roles.set_user)(ident, left, project or EVERYWHERE)
    say(f"{group or account} does not have role {name} any more")
    return 0


def _identity(client: Client, account: str, group: str) -> tuple[str, str]:
    """Raises: Failure: neither or both are named, or there is no such one."""
    if bool(account) == bool(group):
        raise Failure("name an account, or a group with --group", USAGE)
    if account:
        return "user", find_uid(client, account)
    found = client.groups.find(group)
    if found is None:
        raise Failure(f"there is no group {group}; cador group list shows those there are")
    return "group", found["id"]
