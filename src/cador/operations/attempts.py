"""The attempts of one job task side by side: how each went, and what was changed before it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cador.domain.errors import NotFound
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.finding import find_task
from cador.ports.stores import AttemptRow, EventRow, JobRow, Tx

_PAGE: Final = 1000
_EDITING: Final = frozenset({"retry_requested", "stage_executed"})


@dataclass(frozen=True, slots=True)
class AttemptView:
    """``changes``: values that were changed since the attempt before, ``{name, before, after}``, secrets masked."""

    row: AttemptRow
    changes: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class JobAttempts:
    """``logged``: attempts of this job have logs (approvals have none)."""

    job: JobRow
    attempts: tuple[AttemptView, ...]
    logged: bool


async def job_attempts(ctx: Context, actor: Actor, workflow_key: str, number: int, name: str) -> JobAttempts:
    """*name*: of the job task, else its key, else its display name. Raises: NotFound("task"), NotFound("job", name),
    Forbidden."""
    task_id = await find_task(ctx, actor, "get_workflow", workflow_key, number)

    def read(tx: Tx) -> JobAttempts:
        job = tx.tasks.find_job(task_id, name)
        if job is None:
            raise NotFound("job", name)
        edits = _edits(tx, task_id) if tx.tasks.row(task_id).edits else []
        rows = [row for row in tx.tasks.attempts(task_id) if row.job_id == job.id]
        views = []
        since = float("-inf")
        for row in rows:
            began = row.start_at if row.start_at is not None else since
            changes = tuple(c for e in edits if since < e.at <= began for c in e.data.get("changes", ()))
            views.append(AttemptView(row, changes))
            since = began
        return JobAttempts(job, tuple(views), job.kind != "approval")

    return await ctx.db.read(read)


def _edits(tx: Tx, task_id: int) -> list[EventRow]:
    """Events that changed values. Read page by page: what runs long has many others."""
    found: list[EventRow] = []
    after = 0
    while page := tx.tasks.events(task_id, after, _PAGE):
        found += [event for event in page if event.kind in _EDITING]
        after = page[-1].id
    return found
