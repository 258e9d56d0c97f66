"""Find a task and check the permission in its project, in the order the contract demands."""

from cador.domain.errors import NotFound
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.ports.stores import TaskRow, Tx


async def find_task(ctx: Context, actor: Actor, action: str, workflow_key: str, number: int, project: str = "") -> int:
    """The task's id, if the actor may do *action* in its project. Raises: as :func:`find_row`."""
    return (await find_row(ctx, actor, action, workflow_key, number, project)).id


async def find_row(
    ctx: Context, actor: Actor, action: str, workflow_key: str, number: int, project: str = ""
) -> TaskRow:
    """The task as lists show it, if the actor may do *action* in its project. Raises: as :func:`row_in`."""
    return await ctx.db.read(row_in, ctx, actor, action, workflow_key, number, project)


def row_in(
    tx: Tx, ctx: Context, actor: Actor, action: str, workflow_key: str, number: int, project: str = ""
) -> TaskRow:
    """The task as lists show it, if the actor may do *action* in its project.

    Raises: NotFound("task"): no such task, or not in *project*; Forbidden.
    """
    if project:
        actor.need(action, project, public=_public(tx, ctx, project), workflow=workflow_key)
    row = task_row(tx, workflow_key, number)
    if row is None and not project:
        # Who may not look there must not learn by the kind of error what there is.
        home = _home(tx, workflow_key)
        if home or not actor.anywhere(action):
            actor.need(action, home, public=bool(home) and _public(tx, ctx, home), workflow=workflow_key)
    if row is None or (project and row.project != project):
        raise NotFound("task", f"{workflow_key}:{number}")
    if not project:
        actor.need(action, row.project, public=_public(tx, ctx, row.project), workflow=workflow_key)
    return row


async def is_public(ctx: Context, project: str) -> bool:
    """Whether everybody who is known may look into *project*."""
    return await ctx.db.read(_public, ctx, project)


def _public(tx: Tx, ctx: Context, project: str) -> bool:
    resource = ctx.catalogues.load(tx, project).find("project", project)
    return resource is not None and bool(resource.document.get("is_public"))


def _home(tx: Tx, workflow_key: str) -> str:
    """The project of a workflow; empty: there is none of that name."""
    workflow = tx.workflows.find(workflow_key)
    return workflow.project if workflow is not None else ""


def task_row(tx: Tx, workflow_key: str, number: int) -> TaskRow | None:
    return tx.tasks.find_row(workflow_key, number)
