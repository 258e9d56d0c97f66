"""Logging in by password, and who I am. Logging in with an identity provider is in :mod:`cador.api.oidc`."""

from typing import Any, Final

from pydantic import ConfigDict

from cador import __version__
from cador.api import own_models
from cador.api.catalogue import Operation
from cador.api.described import Described
from cador.api.errors import Refusal
from cador.api.own import time
from cador.api.permissions import LOGGED_IN, NOBODY
from cador.api.routing import Call, Routes
from cador.operations.actions import PROJECT_ADMIN, ROLE_ACTIONS, SYSTEM, SYSTEM_ACTIONS
from cador.operations.sessions import NotAuthenticated, TooManyAttempts

ROUTES: Final = Routes("server")


class LoginBody(Described):
    model_config = ConfigDict(strict=True)

    account: str
    password: str


class Me(Described):
    """``roles``: by project."""

    uid: str
    account: str
    name: str
    email: str
    admin: bool
    roles: dict[str, list[str]]
    scopes: list[str]


class ProjectPermissions(Described):
    """``workflows``: what single workflows are shared for, beside ``actions``, which holds for all."""

    roles: list[str]
    actions: list[str]
    workflows: dict[str, list[str]]


class Permissions(Described):
    """``admin``: everything, in every project; ``projects`` names those with a role of one's own. ``scopes``,
    ``limited_to_projects``: limits of the token, empty without any."""

    admin: bool
    scopes: list[str]
    limited_to_projects: list[str]
    system: list[str]
    projects: dict[str, ProjectPermissions]


class LoginReply(Described):
    """``token``: for ``Authorization: Bearer``; shown this once."""

    token: str
    expires_at: str
    user: dict[str, str]


@ROUTES.get("/api/v1/version", NOBODY, reply=own_models.Version)
async def version(call: Call) -> Any:
    """Version of this server."""
    return {"name": "cador", "version": __version__}


def _wrong_login(error: NotAuthenticated) -> Refusal:
    return Refusal(Operation.UNAUTHORIZED, str(error))


def _too_many(error: TooManyAttempts) -> Refusal:
    return Refusal(Operation.TOO_MANY, str(error), headers={"Retry-After": str(int(error.retry_after_s) + 1)})


@ROUTES.post(
    "/api/v1/login",
    NOBODY,
    faults={NotAuthenticated: _wrong_login, TooManyAttempts: _too_many},
    body=LoginBody,
    reply=LoginReply,
)
async def log_in(call: Call) -> Any:
    """Log in by password: a token that ends by itself."""
    body = await call.parsed(LoginBody)
    login = await call.sessions.log_in(body.account, body.password, call.address)
    user = {"uid": login.user.uid, "account": login.user.account, "name": login.user.name}
    return {"token": login.token, "expires_at": time(login.expires_at), "user": user}


@ROUTES.post("/api/v1/logout", LOGGED_IN)
async def log_out(call: Call) -> None:
    """End the session of the token that this request carries. API tokens stay: they are deleted one by one."""
    await call.sessions.log_out(call.actor)


@ROUTES.get("/api/v1/me", LOGGED_IN, reply=Me)
async def me(call: Call) -> Any:
    """Who I am and what I may do."""
    actor = call.actor
    return {
        "uid": actor.uid,
        "account": actor.account,
        "name": actor.name,
        "email": actor.email,
        "admin": actor.admin,
        "roles": {project: list(roles) for project, roles in actor.roles.items()},
        "scopes": list(actor.scopes),
    }


@ROUTES.get("/api/v1/me/permissions", LOGGED_IN, reply=Permissions)
async def my_permissions(call: Call) -> Any:
    """What I may do, by my roles and those of my groups, within the limits of this token."""
    actor = call.actor
    return {
        "admin": actor.admin,
        "scopes": list(actor.scopes),
        "limited_to_projects": list(actor.projects),
        "system": sorted(action for action in (*SYSTEM_ACTIONS, SYSTEM) if actor.may(action)),
        "projects": {
            project: {
                "roles": list(actor.roles.get(project, ())),
                "actions": sorted(action for action in ROLE_ACTIONS[PROJECT_ADMIN] if actor.may(action, project)),
                "workflows": {
                    key: sorted(action for action in actions if actor.carries(action, project))
                    for key, actions in actor.shared.get(project, {}).items()
                },
            }
            for project in sorted(actor.places())
        },
    }
