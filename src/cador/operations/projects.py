"""Projects: what everything else belongs to."""

from typing import Any, Final

from cador.domain.errors import AlreadyExists, Conflict, NotFound
from cador.domain.sharing import weight_of
from cador.operations import resources
from cador.operations.actor import PROJECT_ADMIN, SYSTEM, Actor
from cador.operations.context import Context
from cador.operations.models.body import read_body
from cador.operations.models.project import DEPLOY_TYPES, KEPT, ProjectBody, ProjectChange
from cador.operations.resources import Doc, Hand, need_project, put_new, put_over
from cador.operations.workflows import delete_workflow
from cador.ports.stores import Resource, Tx

_ROUNDS: Final = 5
"""How often workflows created meanwhile are looked for again before a deletion gives up."""


def store(tx: Tx, hand: Hand, document: dict[str, Any], *, new: bool = False) -> tuple[Resource, bool]:
    """Add or replace a project; who adds it becomes its administrator. The flag says whether anything changed.

    Its weight is what it has beside other projects: without one in the document it stays, and only administrators of
    the system change it.

    Raises: AlreadyExists: *new* and it is there. Forbidden: the weight. Conflict: what is let to it already is not for
    everybody who may create projects.
    """
    key = document["project_key"]
    document = {**document, "deploy_type": DEPLOY_TYPES[document["project_type"]]}
    old = tx.resources.find("project", "", key)
    if old is not None:
        if new:
            raise AlreadyExists("project", key)
        document = {**{name: old.document[name] for name in KEPT if name in old.document}, **document}
    if weight_of(document) != weight_of(old.document if old is not None else {}):
        hand.actor.need(SYSTEM)
    if old is not None:
        changed = put_over(tx, hand, old, document)
        return need_project(tx, key), changed
    _check_unnamed(tx, hand.actor, key)
    project = put_new(tx, hand, "project", "", key, document)
    if tx.people.user(hand.actor.uid) is not None:
        tx.people.set_roles(hand.actor.uid, key, [PROJECT_ADMIN])
    return project, True


_LETS: Final = (
    ("cluster", "project_names"),
    ("codehost", "projects"),
    ("database", "projects"),
    ("secret", "projects"),
    ("storage", "projects"),
)
"""What of the system names the projects that may use it."""


def _check_unnamed(tx: Tx, actor: Actor, key: str) -> None:
    """A key that something is let to belonged to a project that is gone, or was meant for one to come."""
    if actor.may(SYSTEM):
        return
    if any(key in (one.document.get(field) or ()) for kind, field in _LETS for one in tx.resources.list_kind(kind, "")):
        raise Conflict(f"something of the system is let to project {key}: its administrators may create it")


async def create(ctx: Context, actor: Actor, body: Doc) -> None:
    """Raises: Invalid, AlreadyExists, Conflict."""
    document = read_body(ProjectBody, body).document()

    def write(tx: Tx, hand: Hand) -> None:
        store(tx, hand, document, new=True)

    await resources.change(ctx, actor, write)


async def change(ctx: Context, actor: Actor, key: str, body: Doc) -> None:
    """What is absent stays. Raises: Invalid, NotFound, Forbidden: the weight."""
    new = read_body(ProjectChange, body).model_dump(exclude_none=True)

    def write(tx: Tx, hand: Hand) -> None:
        old = need_project(tx, key)
        merged = read_body(ProjectBody, {**old.document, **new}).document()
        store(tx, hand, merged)

    await resources.change(ctx, actor, write)


async def list_projects(ctx: Context, actor: Actor, page: int, size: int) -> tuple[list[Resource], int]:
    """One page of those the actor may see, by key, and how many there are."""

    def read(tx: Tx) -> list[Resource]:
        return tx.resources.list_kind("project", "")

    seen = [
        project
        for project in await ctx.db.read(read)
        if actor.may("get_project", project.name, public=project.document.get("is_public") is True)
    ]
    return seen[(page - 1) * size : page * size], len(seen)


async def find(ctx: Context, key: str) -> Resource:
    """Raises: NotFound."""
    return await ctx.db.read(need_project, key)


async def delete(ctx: Context, actor: Actor, key: str) -> None:
    """Delete a project with its workflows (running tasks are cancelled), services, builds, tests and role bindings.

    Raises: NotFound; Conflict: workflows keep being created.
    """
    for _ in range(_ROUNDS):
        for workflow in await ctx.db.read(_workflows, key):
            try:
                await delete_workflow(ctx, actor, workflow, key)
            except NotFound:
                continue  # somebody else was quicker
        if await resources.change(ctx, actor, lambda tx, hand: drop_project(tx, hand, key)):
            return
    raise Conflict(f"workflows of project {key} are being created, try again")


def _workflows(tx: Tx, key: str) -> list[str]:
    need_project(tx, key)
    return [row.key for row in tx.workflows.list_workflows(key, implicit=True)]


def drop_project(tx: Tx, hand: Hand, key: str) -> bool:
    """Delete a project and all its resources; False and nothing done while it has workflows. Raises: NotFound."""
    need_project(tx, key)
    if tx.workflows.list_workflows(key, implicit=True):
        return False
    for resource in tx.resources.of_project(key):
        if resource.project == key:
            tx.resources.delete(resource.kind, key, resource.name)
    for uid in tx.people.bindings(key):
        tx.people.set_roles(uid, key, ())
    tx.tickets.delete_project(key)
    tx.resources.delete("project", "", key)
    hand.audit(tx, "delete_project", key, f"project/{key}")
    return True
