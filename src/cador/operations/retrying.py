"""Run a task again, or what a person chooses of it, under the same number."""

from cador.domain import events as ev
from cador.domain.errors import NotFound, NotStartable, WrongStatus
from cador.domain.task import JOB_KEPT, TaskStatus
from cador.domain.task_machine import advance
from cador.engine.hearing import Claim, Ear, Outcome
from cador.operations.actor import Actor
from cador.operations.audit import note_task
from cador.operations.context import Context
from cador.operations.finding import find_task
from cador.operations.redrafting import Edited, Redraft, begins, behind, left_out, load_original, redraft
from cador.operations.task_values import RetryRequest
from cador.ports.stores import JobRow, Tx, brief

EVERYTHING = RetryRequest()


def not_executable(key: str) -> str:
    return f"workflow {key} is not executable: concurrency_limit is 0"


async def retry_task(
    ctx: Context, actor: Actor, workflow_key: str, number: int, project: str = "", request: RetryRequest = EVERYTHING
) -> None:
    """Run what did not pass once more, or what *request* chooses, with the values it changes.

    Raises: NotFound: the task, or a job that is chosen; Forbidden; WrongStatus; NotStartable: the workflow is not
    executable, or a configuration is not as it was; Invalid: a value that cannot be meant; Conflict.
    """
    task_id = await find_task(ctx, actor, "run_workflow", workflow_key, number, project)
    for again in (False, True):
        draft = await _redraft(ctx, task_id, request)
        try:
            await ctx.engine.transact(_retry, task_id, actor, request, draft)
        except Edited:
            if again:
                raise
        else:
            return


async def _redraft(ctx: Context, task_id: int, request: RetryRequest) -> Redraft | None:
    """New plans, where values are changed or where a job that runs again has a plan from before such a change."""
    if not request.edits and not await ctx.db.read(_was_edited, task_id):
        return None
    original = await ctx.db.read(load_original, ctx.catalogues, task_id)
    if not request.edits:
        jobs, first = await ctx.db.read(_chosen, task_id, request)
        moved, _ = advance(original.task, ev.RetryRequested(original.task.create_at, "", "", jobs, first))
        if moved.status is TaskStatus.CANCELLING:
            kept = frozenset(job.id for job in moved.jobs if job.status in JOB_KEPT)
            if first is not None and behind(original, kept):
                raise WrongStatus(moved.label, "being stopped", "be retried from a job with other values than it had")
            return None
        if not behind(original, begins(original.task, moved)):
            return None
    return await redraft(ctx, original, request.edits)


@brief
def _was_edited(tx: Tx, task_id: int) -> bool:
    return tx.tasks.row(task_id).edits > 0


@brief
def _chosen(tx: Tx, task_id: int, request: RetryRequest) -> tuple[tuple[int, ...], int | None]:
    """Ids of the jobs that are chosen, and of the one to begin from. Raises: NotFound("job", name); WrongStatus: who
    executed its stage left it out."""
    jobs = tuple(dict.fromkeys(_job(tx, task_id, job).id for job in request.jobs))
    if not request.from_job:
        return jobs, None
    first = _job(tx, task_id, request.from_job)
    if left_out(first):
        raise WrongStatus(f"job {first.name}", "left out of its stage", "begin from it")
    return jobs, first.id


def _retry(
    tx: Tx, claim: Claim, task_id: int, actor: Actor, request: RetryRequest, draft: Redraft | None
) -> Outcome[None]:
    ear = Ear(tx, claim)
    row = tx.tasks.row(task_id)
    workflow = tx.workflows.find(row.workflow_key)
    if workflow is not None and workflow.concurrency_limit == 0:
        raise NotStartable(not_executable(row.workflow_key))
    jobs, first = _chosen(tx, task_id, request)
    changes = draft.changes if draft is not None else ()
    event = ev.RetryRequested(tx.now, actor.uid, actor.name, jobs, first, changes)
    ear.hear(task_id, event, draft.store if draft is not None else None)
    detail = {"jobs": list(request.jobs), "from": request.from_job, "changed": len(changes)}
    note_task(tx, actor, "retry_task", row.project, row.workflow_key, row.number, detail)
    return ear.outcome(None)


def _job(tx: Tx, task_id: int, name: str) -> JobRow:
    """By name, else key, else display name. Raises: NotFound("job", name)."""
    job = tx.tasks.find_job(task_id, name)
    if job is None:
        raise NotFound("job", name)
    return job
