"""Routes of users and their API tokens. Source: API documents, "Users, groups, roles, API tokens"."""

from typing import Any, Final

from cador.api.catalogue import Operation
from cador.api.described import Described, DescribedRoot
from cador.api.errors import bad_request
from cador.api.params import PROJECT, integer
from cador.api.permissions import SYSTEM_ADMIN, by_operation
from cador.api.routing import Call, Routes
from cador.domain.errors import AlreadyExists, Conflict, Invalid, NotFound
from cador.operations import people, tokens
from cador.operations.models.system import UserBody, UserChange
from cador.operations.models.tokens import TokenBody
from cador.operations.people import Wanted
from cador.ports.stores import Token, User

ROUTES: Final = Routes("people")
USERS: Final = "/openapi/users"


class UserBrief(Described):
    """``last_login_time``: Unix seconds, 0 for never."""

    uid: str
    account: str
    name: str
    identity_type: str
    last_login_time: int


class UserShown(UserBrief):
    email: str
    phone: str
    admin: bool


class UserList(Described):
    users: list[UserBrief]
    total_count: int


class TokenShown(Described):
    """Times: Unix seconds; ``expire_time`` 0: never."""

    id: int
    name: str
    kind: str
    prefix: str
    scopes: list[str]
    projects: list[str]
    create_time: int
    expire_time: int
    last_used_time: int


class TokenList(DescribedRoot[list[TokenShown]]):
    pass


class TokenMade(TokenShown):
    """``token``: its text, shown this once."""

    token: str


class TokenOfSomebody(TokenShown):
    uid: str
    account: str


class TokenPage(Described):
    """``next_before``: for the next page; null on the last one."""

    tokens: list[TokenOfSomebody]
    next_before: int | None


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


@ROUTES.get(
    USERS,
    SYSTEM_ADMIN,
    query=("account", "name", "identity_type", "roles", "projectName", "pageNum:int", "pageSize:int"),
    reply=UserList,
)
async def list_users(call: Call) -> dict[str, Any]:
    """Users; ``account`` must match exactly, ``name`` be contained.

    ``identity_type``: system or oidc. ``roles``: who has one of them, by commas or given several times, in the project
    ``projectName``, else in the system. ``projectName`` alone: who has any role in it.
    """
    page, size = call.page()
    roles = (role.strip() for text in call.query.get("roles", ()) for role in text.split(","))
    wanted = Wanted(
        account=call.value("account"),
        name=call.value("name"),
        identity_type=call.value("identity_type"),
        roles=frozenset(filter(None, roles)),
        project=call.text(PROJECT),
    )
    users, total = await people.list_users(call.ctx, wanted, page=page, size=size)
    return {"users": [_brief(user) for user in users], "total_count": total}


@ROUTES.post(
    USERS,
    SYSTEM_ADMIN,
    also=("/api/v1/users",),
    faults={AlreadyExists: Operation.CREATE_USER, Invalid: Operation.CREATE_USER},
    body=UserBody,
    reply=UserShown,
)
async def create_user(call: Call) -> dict[str, Any]:
    """Create a user with a password."""
    return _full(await people.create_user(call.ctx, call.actor, await call.object(), call.sessions))


@ROUTES.get(f"{USERS}/{{uid}}", by_operation("admin_system"), faults={NotFound: Operation.FIND_USER}, reply=UserShown)
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
        "kind": token.kind,
        "prefix": token.prefix,
        "scopes": list(token.scopes),
        "projects": list(token.projects),
        "create_time": int(token.create_at),
        "expire_time": int(token.expires_at or 0),
        "last_used_time": int(token.last_used_at or 0),
    }


_TOKENS: Final = f"{USERS}/{{uid}}/tokens"
_NO_USER: Final = {NotFound: Operation.FIND_USER}


@ROUTES.post(
    _TOKENS, by_operation("admin_system"), faults=_NO_USER, body=TokenBody, body_optional=True, reply=TokenMade
)
async def create_token(call: Call) -> dict[str, Any]:
    """Make an API token. It is shown this once."""
    body = await call.object_or_none() or {}
    text, token = await tokens.create_token(call.ctx, call.actor, call.path_value("uid"), body)
    return {**_token(token), "token": text}


@ROUTES.get(_TOKENS, by_operation("admin_system"), faults=_NO_USER, reply=TokenList)
async def list_tokens(call: Call) -> list[dict[str, Any]]:
    """The API tokens and sessions of a user, without their text."""
    await call.sessions.write_uses()
    return [_token(token) for token in await tokens.list_tokens(call.ctx, call.actor, call.path_value("uid"))]


@ROUTES.post(f"{_TOKENS}/{{id}}/rotate", by_operation("admin_system"), faults=_NO_USER, reply=TokenMade)
async def rotate_token(call: Call) -> dict[str, Any]:
    """Give an API token another text, shown this once; the old one is refused from now on."""
    text, token = await tokens.rotate_token(call.ctx, call.actor, call.path_value("uid"), _token_id(call))
    return {**_token(token), "token": text}


@ROUTES.delete(f"{_TOKENS}/{{id}}", by_operation("admin_system"), faults=_NO_USER)
async def delete_token(call: Call) -> None:
    """End an API token or a session."""
    await tokens.delete_token(call.ctx, call.actor, call.path_value("uid"), _token_id(call))


def _token_id(call: Call) -> int:
    token_id = integer(call.path_value("id"))
    if token_id is None:
        raise bad_request("id must be an integer")
    return token_id


@ROUTES.get("/api/v1/tokens", SYSTEM_ADMIN, query=("prefix", "before:int", "limit:int"), reply=TokenPage)
async def all_tokens(call: Call) -> dict[str, Any]:
    """The tokens of all users, newest first. ``prefix``: how the text begins, or a whole text found somewhere."""
    await call.sessions.write_uses()
    limit = min(max(call.number("limit") or 50, 1), 1000)
    found = await tokens.all_tokens(
        call.ctx, call.actor, prefix=call.value("prefix"), before=call.number("before"), limit=limit
    )
    return {
        "tokens": [{**_token(token), "uid": user.uid, "account": user.account} for token, user in found],
        "next_before": found[-1][0].id if len(found) == limit else None,
    }
