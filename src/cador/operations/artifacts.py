"""What jobs left behind, as files to take away."""

from dataclasses import dataclass

from cador.domain.errors import Invalid, NotFound
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.finding import find_task
from cador.operations.reading import in_reader


@dataclass(frozen=True, slots=True)
class Artifact:
    """``key`` in the blob store; ``name``: last segment of the path; ``size`` in bytes."""

    key: str
    name: str
    size: int


async def find_artifact(ctx: Context, actor: Actor, workflow_key: str, number: int, path: str) -> Artifact:
    """One artifact of a task; *path* as lists show it (``<job task>/archive/x.tar.gz``).

    Raises: NotFound("task"), NotFound("artifact"), Forbidden.
    """
    await find_task(ctx, actor, "get_workflow", workflow_key, number)
    key = f"tasks/{workflow_key}/{number}/{path}"
    try:
        size = await in_reader(ctx.blobs.size, key)
    except (NotFound, Invalid):  # a path that is none, such as one with "..", leads nowhere
        raise NotFound("artifact", path) from None
    return Artifact(key, path.rpartition("/")[2], size)
