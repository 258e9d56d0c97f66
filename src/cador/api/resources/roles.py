"""Routes of roles, who has them, and shared workflows. Source: API documents, "Users, groups, roles, API tokens"."""

from typing import Any, Final

from cador.api.catalogue import NO_DOCUMENTS
from cador.api.described import Described
from cador.api.errors import Refusal, bad_request
from cador.api.params import PROJECT
from cador.api.permissions import LOGGED_IN, by_operation, in_query
from cador.api.resources.kinds import list_of
from cador.api.routing import Call, Routes
from cador.domain.errors import AlreadyExists, Conflict, NotFound
from cador.operations import roles
from cador.operations.actions import PROJECT_SUBJECTS, alias
from cador.operations.models.roles import BindingBody, CollaborationBody, RoleBody, RoleChange, RolesBody
from cador.operations.roles import Binding, Role
from cador.ports.stores import User

ROUTES: Final = Routes("roles")
POLICY: Final = "/openapi/policy"
ROLES: Final = f"{POLICY}/roles"
BINDINGS: Final = f"{POLICY}/role-bindings"
COLLABORATIONS: Final = "/openapi/collaborations"

_NAMESPACE: Final = ("namespace!",)


def _not_found(error: Exception) -> Refusal:
    return bad_request(str(error) if getattr(error, "kind", "") in ("role", "user", "group") else NO_DOCUMENTS)


def _refused(error: Exception) -> Refusal:
    return bad_request(str(error))


_FAULTS: Final = {NotFound: _not_found, AlreadyExists: _refused, Conflict: _refused}


def _namespace(call: Call) -> str:
    namespace = call.value("namespace")
    if not namespace:
        raise bad_request("namespace is empty")
    return namespace


# -- roles


class Rule(Described):
    action: str
    alias: str


class Subject(Described):
    """What something can be done to. ``alias``: in the language of the request."""

    resource: str
    alias: str
    rules: list[Rule]


class RoleLine(Described):
    """``namespace``: a project, or `*`; ``type``: `system` (built in) or `custom`."""

    id: int
    name: str
    namespace: str
    desc: str
    type: str


class VerbsOf(Described):
    """``verbs``: actions done to ``resource``."""

    resource: str
    verbs: list[str]


class RoleShown(RoleLine):
    rules: list[VerbsOf]


class BoundUser(Described):
    identity_type: str
    uid: str
    account: str
    username: str


class BoundGroup(Described):
    group_id: str
    name: str
    user_infos: list[BoundUser]


class BindingShown(Described):
    """``binding_type``: `user` or `group`, and there is what is called so."""

    binding_type: str
    user_info: BoundUser | None = None
    group_info: BoundGroup | None = None
    roles: list[str]


class CollaborationShown(CollaborationBody):
    """Which workflows are shared with whom."""


@ROUTES.get(f"{POLICY}/resource-actions", LOGGED_IN, query=("projectName!", "envType"), reply=list_of(Subject))
async def resource_actions(call: Call) -> list[dict[str, Any]]:
    """What a project's roles can be made of."""
    if not call.text(PROJECT):
        raise bad_request("namespace is empty")
    language = call.language
    return [
        {
            "resource": subject.name,
            "alias": subject.en if language == "en" else subject.zh,
            "rules": [{"action": action, "alias": alias(subject, action, language)} for action in subject.actions],
        }
        for subject in PROJECT_SUBJECTS
    ]


def _line(role: Role) -> dict[str, Any]:
    kind = "system" if role.built_in else "custom"
    return {"id": role.id, "name": role.name, "namespace": role.namespace, "desc": role.desc, "type": kind}


@ROUTES.get(ROLES, by_operation("get_project"), query=_NAMESPACE, faults=_FAULTS, reply=list_of(RoleLine))
async def list_roles(call: Call) -> list[dict[str, Any]]:
    """The roles of a project, or of the system (``*``)."""
    return [_line(role) for role in await roles.list_roles(call.ctx, call.actor, _namespace(call))]


@ROUTES.post(ROLES, by_operation("admin_project"), query=_NAMESPACE, faults=_FAULTS, body=RoleBody)
async def create_role(call: Call) -> None:
    """Make a role of actions."""
    await roles.create_role(call.ctx, call.actor, _namespace(call), await call.object())


@ROUTES.get(f"{ROLES}/{{name}}", by_operation("get_project"), query=_NAMESPACE, faults=_FAULTS, reply=RoleShown)
async def role(call: Call) -> dict[str, Any]:
    """One role with its actions."""
    found = await roles.find_role(call.ctx, call.actor, _namespace(call), call.path_value("name"))
    rules: dict[str, list[str]] = {}
    for action in found.actions:
        rules.setdefault(action.partition("_")[2] or action, []).append(action)
    return {**_line(found), "rules": [{"resource": resource, "verbs": verbs} for resource, verbs in rules.items()]}


@ROUTES.put(f"{ROLES}/{{name}}", by_operation("admin_project"), query=_NAMESPACE, faults=_FAULTS, body=RoleChange)
async def change_role(call: Call) -> None:
    """Change what a role allows; what is absent stays. It counts at once for all who have it."""
    namespace, name = _namespace(call), call.path_value("name")
    await roles.change_role(call.ctx, call.actor, namespace, name, await call.object())


@ROUTES.delete(f"{ROLES}/{{name}}", by_operation("admin_project"), query=_NAMESPACE, faults=_FAULTS)
async def delete_role(call: Call) -> None:
    """Delete a role that nobody has."""
    await roles.delete_role(call.ctx, call.actor, _namespace(call), call.path_value("name"))


# -- who has them


def _user_info(user: User) -> dict[str, Any]:
    return {
        "identity_type": user.identity_type,
        "uid": user.uid,
        "account": user.account,
        "username": user.name,
    }


def _binding(binding: Binding) -> dict[str, Any]:
    if binding.user is not None:
        who: dict[str, Any] = {"binding_type": "user", "user_info": _user_info(binding.user)}
    else:
        group = binding.group
        info = {
            "group_id": group.uid if group is not None else "",
            "name": group.name if group is not None else "",
            "user_infos": [_user_info(user) for user in binding.members],
        }
        who = {"binding_type": "group", "group_info": info}
    return {**who, "roles": list(binding.roles)}


@ROUTES.get(BINDINGS, by_operation("admin_project"), query=_NAMESPACE, faults=_FAULTS, reply=list_of(BindingShown))
async def list_bindings(call: Call) -> list[dict[str, Any]]:
    """Which users and groups have which roles in a project, or in the system (``*``)."""
    return [_binding(one) for one in await roles.list_bindings(call.ctx, call.actor, _namespace(call))]


@ROUTES.post(BINDINGS, by_operation("admin_project"), query=_NAMESPACE, faults=_FAULTS, body=BindingBody)
async def add_bindings(call: Call) -> None:
    """Give one role to several users and groups."""
    await roles.add_bindings(call.ctx, call.actor, _namespace(call), await call.object())


@ROUTES.post(
    f"{BINDINGS}/user/{{uid}}", by_operation("admin_project"), query=_NAMESPACE, faults=_FAULTS, body=RolesBody
)
async def set_roles(call: Call) -> None:
    """Replace all roles of a user in a project, or in the system (``*``)."""
    await roles.set_roles(call.ctx, call.actor, _namespace(call), call.path_value("uid"), await call.object())


@ROUTES.delete(f"{BINDINGS}/user/{{uid}}", by_operation("admin_project"), query=_NAMESPACE, faults=_FAULTS)
async def remove_roles(call: Call) -> None:
    """Take all roles in a project from a user."""
    await roles.set_roles(call.ctx, call.actor, _namespace(call), call.path_value("uid"), {"roles": []})


@ROUTES.post(
    f"{BINDINGS}/group/{{gid}}", by_operation("admin_project"), query=_NAMESPACE, faults=_FAULTS, body=RolesBody
)
async def set_group_roles(call: Call) -> None:
    """Replace all roles of a group in a project, or in the system (``*``); its members have them from now on."""
    await roles.set_group_roles(call.ctx, call.actor, _namespace(call), call.path_value("gid"), await call.object())


@ROUTES.delete(f"{BINDINGS}/group/{{gid}}", by_operation("admin_project"), query=_NAMESPACE, faults=_FAULTS)
async def remove_group_roles(call: Call) -> None:
    """Take all roles in a project from a group."""
    await roles.set_group_roles(call.ctx, call.actor, _namespace(call), call.path_value("gid"), {"roles": []})


# -- single workflows

_SHARING: Final = in_query("admin_project")
_ONE: Final = f"{COLLABORATIONS}/{{name}}"


@ROUTES.get(COLLABORATIONS, _SHARING, query=("projectKey!",), faults=_FAULTS, reply=list_of(CollaborationShown))
async def list_collaborations(call: Call) -> list[dict[str, Any]]:
    """Which single workflows of a project are shared with whom."""
    return [
        {"name": mode.name, "project_key": mode.project, **mode.document}
        for mode in await roles.list_collaborations(call.ctx, call.need(PROJECT))
    ]


@ROUTES.post(COLLABORATIONS, _SHARING, query=("projectKey!",), faults=_FAULTS, body=CollaborationBody)
async def create_collaboration(call: Call) -> None:
    """Let single users and groups see, change or run single workflows."""
    await roles.create_collaboration(call.ctx, call.actor, call.need(PROJECT), await call.object())


@ROUTES.put(_ONE, _SHARING, query=("projectKey!",), faults=_FAULTS, body=CollaborationBody)
async def change_collaboration(call: Call) -> None:
    """Replace what is shared with whom."""
    project, name = call.need(PROJECT), call.path_value("name")
    await roles.change_collaboration(call.ctx, call.actor, project, name, await call.object())


@ROUTES.delete(_ONE, _SHARING, query=("projectKey!",), faults=_FAULTS)
async def delete_collaboration(call: Call) -> None:
    """Share these workflows no more."""
    await roles.delete_collaboration(call.ctx, call.actor, call.need(PROJECT), call.path_value("name"))
