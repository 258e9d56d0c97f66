"""What a route demands of its caller: an action, and where the request names the project it is needed in.

Every route has one of these, written beside its path; a route without one does not start (see ``create_app``). The
order of checks is: 401, then 400 for the parameters that name the project, then 403, then everything else. A caller
without permission in a project gets 403 whether or not the object exists.

Public projects are open to read for everybody who is logged in.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from cador.operations.actor import READ_ONLY, ROLE_ACTIONS, SYSTEM, Actor
from cador.operations.context import Context
from cador.operations.finding import is_public


class Where(Enum):
    """Where the project is found."""

    NOBODY = "anyone, also without a token"
    LOGGED_IN = "any valid token; the operation shows what the caller may see"
    SYSTEM = "system administrators"
    QUERY = "query parameter projectKey (any of its spellings)"
    BODY = "body field project_key (any of its spellings)"
    QUERY_OR_BODY = "query parameter, else body field"
    PATH = "path parameter"
    OPERATION = "project of the named object; checked by the operation in the transaction that reads it"


@dataclass(frozen=True, slots=True)
class Permission:
    """``actions``: one of them is enough. ``path_name``: name of the path parameter. ``body_names``: spellings of the
    project in the body; empty: those of every route. ``required``: the text when the project is not named; empty:
    ``projectKey is required``."""

    where: Where
    actions: tuple[str, ...] = ()
    path_name: str = "projectKey"
    body_names: tuple[str, ...] = ()
    required: str = ""

    def __str__(self) -> str:
        return f"{' or '.join(self.actions) or 'none'} ({self.where.value})"


NOBODY: Final = Permission(Where.NOBODY)
"""No token needed: health, metrics, documents, login."""
LOGGED_IN: Final = Permission(Where.LOGGED_IN)
SYSTEM_ADMIN: Final = Permission(Where.SYSTEM, (SYSTEM,))


def in_query(*actions: str, required: str = "") -> Permission:
    """Needs one of *actions* in the project of the query; absent: 400 ``projectKey is required``, or *required*."""
    return Permission(Where.QUERY, actions, required=required)


def in_body(*actions: str, names: tuple[str, ...] = (), required: str = "") -> Permission:
    """Needs one of *actions* in the project of the body; *names*: its spellings there."""
    return Permission(Where.BODY, actions, body_names=names, required=required)


def in_query_or_body(*actions: str, names: tuple[str, ...] = (), required: str = "") -> Permission:
    """Needs one of *actions* in the project of the query, else of the body."""
    return Permission(Where.QUERY_OR_BODY, actions, body_names=names, required=required)


def in_path(*actions: str, name: str = "projectKey") -> Permission:
    """Needs one of *actions* in the project of the path parameter *name*."""
    return Permission(Where.PATH, actions, path_name=name)


def by_operation(*actions: str) -> Permission:
    """The operation checks: it gets the actor and calls ``actor.need`` where it reads the object. *actions* are for
    the documentation and the tests; none: something else than an action decides (a list of approvers)."""
    return Permission(Where.OPERATION, actions)


async def allow(ctx: Context, actor: Actor, actions: tuple[str, ...], project: str) -> bool:
    """Whether *actor* may do one of *actions* in *project*. Asks the database only where it matters whether the
    project is public."""
    if any(actor.may(action, project) for action in actions):
        return True
    open_to_readers = ROLE_ACTIONS[READ_ONLY]
    if not any(action in open_to_readers and actor.may(action, project, public=True) for action in actions):
        return False
    return await is_public(ctx, project)
