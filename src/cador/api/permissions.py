"""What a route demands of its caller: an action, and where the request names the project it is needed in.

Every route has one of these, written beside its path; a route without one does not start (see ``create_app``). The
order of checks is: 401, then 400 for the parameters that name the project, then 403, then everything else. A caller
without permission in a project gets 403 whether or not the object exists.

Public projects are open to read for everybody who is logged in.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from cador.operations.actions import READ_ONLY, ROLE_ACTIONS, SYSTEM
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.finding import is_public


class Where(Enum):
    """Where the project is found."""

    NOBODY = "anyone, also without a token"
    LOGGED_IN = "any valid token; the operation shows what the caller may see"
    SYSTEM = "the system: its administrators, and who has a role there"
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
    workflow: str = ""
    """Name of the path parameter with the workflow that is meant; ``*``: any spelling of it in query and body."""
    shared: bool = False

    def __str__(self) -> str:
        return f"{' or '.join(self.actions) or 'none'} ({self.where.value})"


NOBODY: Final = Permission(Where.NOBODY)
"""No token needed: health, metrics, documents, login."""
LOGGED_IN: Final = Permission(Where.LOGGED_IN)
SYSTEM_ADMIN: Final = Permission(Where.SYSTEM, (SYSTEM,))


def in_system(*actions: str) -> Permission:
    """Needs one of *actions* in a role of the system; its administrators have them all."""
    return Permission(Where.SYSTEM, (SYSTEM, *actions))


def in_query(*actions: str, required: str = "", workflow: str = "", shared: bool = False) -> Permission:
    """Needs one of *actions* in the project of the query; absent: 400 ``projectKey is required``, or *required*.

    *workflow*: name of the path parameter with the workflow that is meant. *shared*: it is enough to have one of
    *actions* with some workflow of the project; the operation shows those alone.
    """
    return Permission(Where.QUERY, actions, required=required, workflow=workflow, shared=shared)


def in_body(*actions: str, names: tuple[str, ...] = (), required: str = "", workflow: str = "") -> Permission:
    """Needs one of *actions* in the project of the body; *names*: its spellings there. *workflow*: ``*`` for the one
    that the body names under any spelling."""
    return Permission(Where.BODY, actions, body_names=names, required=required, workflow=workflow)


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


async def allow(
    ctx: Context, actor: Actor, actions: tuple[str, ...], project: str, *, workflow: str = "", shared: bool = False
) -> bool:
    """Whether *actor* may do one of *actions* in *project*, with *workflow* or (*shared*) any of its workflows. The
    database is asked only where it matters whether the project is public."""
    if any(actor.may(action, project, workflow=workflow) for action in actions):
        return True
    if shared and any(actor.some_of(action, project) for action in actions):
        return True
    open_to_readers = ROLE_ACTIONS[READ_ONLY]
    if not any(action in open_to_readers and actor.may(action, project, public=True) for action in actions):
        return False
    return await is_public(ctx, project)
