"""Which workflows of a project somebody may look at."""

from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.finding import is_public


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
