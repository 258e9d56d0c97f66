"""Which workflows somebody may look at: of one project, and of all."""

from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.finding import is_public
from cador.ports.stores import Tx


async def visible_workflows(ctx: Context, actor: Actor, project: str) -> frozenset[str] | None:
    """Keys of the workflows of *project* that are shared with *actor*; None: all may be seen.

    Raises: Forbidden: none may.
    """
    if actor.may("get_workflow", project, public=await is_public(ctx, project)):
        return None
    shared = actor.some_of("get_workflow", project)
    if not shared:
        actor.need("get_workflow", project)
    return shared


def visible_places(tx: Tx, actor: Actor) -> tuple[set[str], dict[str, frozenset[str]]]:
    """Projects all of whose workflows *actor* may look at; and of which other projects at which workflows."""
    public = {p.name for p in tx.resources.list_kind("project", "") if p.document.get("is_public") is True}
    places = actor.places() | public | set(actor.projects)
    whole = {project for project in places if actor.may("get_workflow", project, public=project in public)}
    some = {project: actor.some_of("get_workflow", project) for project in places - whole}
    return whole, {project: workflows for project, workflows in some.items() if workflows}
