"""Routes of users, API tokens and role bindings. Source: API documents, "Users, groups, roles, API tokens"."""

from typing import Any, Final

from cador.api.catalogue import Operation
from cador.api.errors import bad_request
from cador.api.params import integer
from cador.api.permissions import LOGGED_IN, SYSTEM_ADMIN, by_operation
from cador.api.routing import Call, Routes
from cador.domain.errors import AlreadyExists, Conflict, Invalid, NotFound
from cador.operations import people
from cador.operations.actor import ROLE_ACTIONS
from cador.operations.models.system import TokenBody, UserBody, UserChange
from cador.ports.stores import Token, User

ROUTES: Final = Routes("people")
USERS: Final = "/openapi/users"
BINDINGS: Final = "/openapi/policy/role-bindings"


def _brief(user: User) -> dict[str, Any]:
    return {
        "last_login_time": int(user.last_login_at or 0),
        "uid": user.uid,
        "account": user.account,
        "name": user.name,
        "identity_type": user.identity_type,
    }


def _full(user: User) -> dict[str, Any]:
    return {**_brief(user), "email": user.email, "phone": user.phone, "admin": user.admin}


@ROUTES.get(USERS, SYSTEM_ADMIN, query=("account", "name", "pageNum", "pageSize"))
async def list_users(call: Call) -> dict[str, Any]:
    """Users; ``account`` must match exactly, ``name`` be contained."""
    page, size = call.page()
    users, total = await people.list_users(
        call.ctx, account=call.value("account"), name=call.value("name"), page=page, size=size
    )
    return {"users": [_brief(user) for user in users], "total_count": total}


@ROUTES.post(
    USERS,
    SYSTEM_ADMIN,
    also=("/api/v1/users",),
    faults={AlreadyExists: Operation.CREATE_USER, Invalid: Operation.CREATE_USER},
    body=UserBody,
)
async def create_user(call: Call) -> dict[str, Any]:
    """Create a user with a password."""
    return _full(await people.create_user(call.ctx, call.actor, await call.object(), call.sessions))


@ROUTES.get(f"{USERS}/{{uid}}", by_operation("admin_system"), faults={NotFound: Operation.FIND_USER})
async def user(call: Call) -> dict[str, Any]:
    """One user; everybody may look at themselves."""
    return _full(await people.find_user(call.ctx, call.actor, call.path_value("uid")))


@ROUTES.put(
    f"{USERS}/{{uid}}",
    by_operation("admin_system"),
    also=("/api/v1/users/{uid}",),
    faults={NotFound: Operation.UPDATE_USER, Invalid: Operation.UPDATE_USER, Conflict: Operation.UPDATE_USER},
    body=UserChange,
)
async def change_user(call: Call) -> None:
    """Change a user; what is absent stays."""
    await people.change_user(call.ctx, call.actor, call.path_value("uid"), await call.object(), call.sessions)


@ROUTES.delete(f"{USERS}/{{uid}}", SYSTEM_ADMIN, faults={NotFound: Operation.FIND_USER})
async def delete_user(call: Call) -> None:
    """Delete a user with tokens and roles."""
    await people.delete_user(call.ctx, call.actor, call.path_value("uid"))


# -- tokens


def _token(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "prefix": token.prefix,
        "scopes": list(token.scopes),
        "create_time": int(token.create_at),
        "expire_time": int(token.expires_at or 0),
        "last_used_time": int(token.last_used_at or 0),
    }


@ROUTES.post(
    f"{USERS}/{{uid}}/tokens", by_operation("admin_system"), faults={NotFound: Operation.FIND_USER}, body=TokenBody
)
async def create_token(call: Call) -> dict[str, Any]:
    """Make an API token. It is shown this once."""
    body = await call.object_or_none() or {}
    text, token = await people.create_token(call.ctx, call.actor, call.path_value("uid"), body)
    return {**_token(token), "token": text}


@ROUTES.get(f"{USERS}/{{uid}}/tokens", by_operation("admin_system"), faults={NotFound: Operation.FIND_USER})
async def list_tokens(call: Call) -> list[dict[str, Any]]:
    """The API tokens of a user, without their text."""
    return [_token(token) for token in await people.list_tokens(call.ctx, call.actor, call.path_value("uid"))]


@ROUTES.delete(f"{USERS}/{{uid}}/tokens/{{id}}", by_operation("admin_system"), faults={NotFound: Operation.FIND_USER})
async def delete_token(call: Call) -> None:
    """End an API token."""
    token_id = integer(call.path_value("id"))
    if token_id is None:
        raise bad_request("id must be an integer")
    await people.delete_token(call.ctx, call.actor, call.path_value("uid"), token_id)


# -- roles


def _namespace(call: Call) -> str:
    namespace = call.value("namespace")
    if not namespace:
        raise bad_request("namespace is empty")
    return namespace


@ROUTES.get("/openapi/policy/roles", LOGGED_IN, query=("namespace!",))
async def list_roles(call: Call) -> list[dict[str, Any]]:
    """The built-in roles of a project, or of the system (``*``)."""
    namespace = _namespace(call)
    texts = {"admin": "everything"} if namespace == people.SYSTEM_NAMESPACE else people.ROLE_TEXTS
    return [
        {"id": number, "name": name, "namespace": namespace, "desc": text, "type": "system"}
        for number, (name, text) in enumerate(texts.items(), start=1)
    ]


@ROUTES.get("/openapi/policy/roles/{name}", LOGGED_IN, query=("namespace!",))
async def role(call: Call) -> dict[str, Any]:
    """One built-in role with its actions."""
    namespace, name = _namespace(call), call.path_value("name")
    actions = ROLE_ACTIONS.get(name)
    if actions is None:
        raise bad_request(f"role {name} not found")
    rules: dict[str, list[str]] = {}
    for action in sorted(actions):
        rules.setdefault(action.partition("_")[2], []).append(action)
    return {
        "id": list(people.ROLE_TEXTS).index(name) + 1,
        "name": name,
        "namespace": namespace,
        "desc": people.ROLE_TEXTS[name],
        "type": "system",
        "rules": [{"resource": resource, "verbs": verbs} for resource, verbs in rules.items()],
    }


@ROUTES.get(BINDINGS, by_operation("admin_project"), query=("namespace!",))
async def list_bindings(call: Call) -> list[dict[str, Any]]:
    """Who has which roles in a project, or in the system (``*``)."""
    return [
        {
            "binding_type": "user",
            "user_info": {
                "identity_type": binding.user.identity_type,
                "uid": binding.user.uid,
                "account": binding.user.account,
                "username": binding.user.name,
            },
            "roles": list(binding.roles),
        }
        for binding in await people.list_bindings(call.ctx, call.actor, _namespace(call))
    ]


@ROUTES.post(BINDINGS, by_operation("admin_project"), query=("namespace!",))
async def add_bindings(call: Call) -> None:
    """Give one role to several users."""
    namespace = _namespace(call)
    body = await call.object()
    identities, name = body.get("identities"), body.get("role")
    if not isinstance(identities, list) or not identities:
        raise bad_request("identities cannot be empty")
    if not isinstance(name, str) or not name:
        raise bad_request("role cannot be empty")
    uids = []
    for number, identity in enumerate(identities):
        if not isinstance(identity, dict) or identity.get("identity_type", "user") != "user":
            raise bad_request(f"identities[{number}] identity_type can only be user")
        if not isinstance(identity.get("uid"), str) or not identity["uid"]:
            raise bad_request(f"identities[{number}] uid cannot be empty")
        uids.append(identity["uid"])
    await people.add_bindings(call.ctx, call.actor, namespace, uids, name)


@ROUTES.post(f"{BINDINGS}/user/{{uid}}", by_operation("admin_project"), query=("namespace!",))
async def set_roles(call: Call) -> None:
    """Replace all roles of a user in a project."""
    namespace = _namespace(call)
    roles = (await call.object()).get("roles")
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise bad_request("roles must be a list of role names")
    await people.set_roles(call.ctx, call.actor, namespace, call.path_value("uid"), roles)


@ROUTES.delete(f"{BINDINGS}/user/{{uid}}", by_operation("admin_project"), query=("namespace!",))
async def remove_roles(call: Call) -> None:
    """Take all roles in a project from a user."""
    await people.set_roles(call.ctx, call.actor, _namespace(call), call.path_value("uid"), [])
