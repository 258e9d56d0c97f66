"""Routes of user groups. Source: API documents, "Users, groups, roles, API tokens"."""

from typing import Any, Final

from cador.api.catalogue import NO_DOCUMENTS
from cador.api.described import Described
from cador.api.errors import Refusal, bad_request
from cador.api.permissions import SYSTEM_ADMIN
from cador.api.routing import Call, Routes
from cador.domain.errors import AlreadyExists, Conflict, NotFound
from cador.operations import groups
from cador.operations.groups import Group
from cador.operations.models.groups import GroupBody, GroupChange, MembersBody

ROUTES: Final = Routes("groups")
PATH: Final = "/openapi/user-groups"
_ONE: Final = f"{PATH}/{{id}}"


def _no_group(error: Exception) -> Refusal:
    return bad_request(NO_DOCUMENTS)


def _refused(error: Exception) -> Refusal:
    return bad_request(str(error))


_FAULTS: Final = {NotFound: _no_group, AlreadyExists: _refused, Conflict: _refused}


class GroupLine(Described):
    id: str
    name: str
    description: str
    type: str
    user_total: int


class GroupList(Described):
    group_list: list[GroupLine]
    total: int


class GroupMember(Described):
    uid: str
    account: str
    name: str


class GroupShown(GroupLine):
    users: list[GroupMember]


def _line(group: Group) -> dict[str, Any]:
    return {
        "id": group.uid,
        "name": group.name,
        "description": group.description,
        "type": "custom",
        "user_total": len(group.members),
    }


def _full(group: Group) -> dict[str, Any]:
    users = [{"uid": user.uid, "account": user.account, "name": user.name} for user in group.members]
    return {**_line(group), "users": users}


@ROUTES.get(PATH, SYSTEM_ADMIN, query=("pageNum", "pageSize", "name"), reply=GroupList)
async def list_groups(call: Call) -> dict[str, Any]:
    """User groups; ``name`` must be contained."""
    page, size = call.page()
    found, total = await groups.list_groups(call.ctx, name=call.value("name"), page=page, size=size)
    return {"group_list": [_line(group) for group in found], "total": total}


@ROUTES.post(PATH, SYSTEM_ADMIN, faults=_FAULTS, body=GroupBody, reply=GroupShown)
async def create_group(call: Call) -> dict[str, Any]:
    """Create a user group with its members."""
    return _full(await groups.create_group(call.ctx, call.actor, await call.object()))


@ROUTES.get(_ONE, SYSTEM_ADMIN, faults=_FAULTS, reply=GroupShown)
async def group(call: Call) -> dict[str, Any]:
    """One user group with its members."""
    return _full(await groups.find_group(call.ctx, call.path_value("id")))


@ROUTES.put(_ONE, SYSTEM_ADMIN, faults=_FAULTS, body=GroupChange, reply=GroupShown)
async def change_group(call: Call) -> dict[str, Any]:
    """Change a user group; what is absent stays. Tasks that were created keep the people they know."""
    return _full(await groups.change_group(call.ctx, call.actor, call.path_value("id"), await call.object()))


@ROUTES.delete(_ONE, SYSTEM_ADMIN, faults=_FAULTS)
async def delete_group(call: Call) -> None:
    """Delete a user group that no workflow names."""
    await groups.delete_group(call.ctx, call.actor, call.path_value("id"))


@ROUTES.post(f"{_ONE}/users", SYSTEM_ADMIN, faults=_FAULTS, body=MembersBody, reply=GroupShown)
async def add_members(call: Call) -> dict[str, Any]:
    """Add members to a user group."""
    return _full(await groups.add_members(call.ctx, call.actor, call.path_value("id"), await call.object()))


@ROUTES.delete(f"{_ONE}/users/{{uid}}", SYSTEM_ADMIN, faults=_FAULTS, reply=GroupShown)
async def remove_member(call: Call) -> dict[str, Any]:
    """Take a member out of a user group."""
    ident, uid = call.path_value("id"), call.path_value("uid")
    return _full(await groups.remove_member(call.ctx, call.actor, ident, uid))
