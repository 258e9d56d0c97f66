"""Run a task again, or what a person chooses of it, under the same number."""

from cador.domain import events as ev
from cador.domain.errors import NotFound, NotStartable
from cador.engine.hearing import Claim, Ear, Outcome
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.finding import find_task
from cador.operations.task_values import RetryRequest
from cador.ports.stores import Tx

EVERYTHING = RetryRequest()


def not_executable(key: str) -> str:
    return f"workflow {key} is not executable: concurrency_limit is 0"


async def retry_task(
    ctx: Context, actor: Actor, workflow_key: str, number: int, project: str = "", request: RetryRequest = EVERYTHING
) -> None:
    """Run what did not pass once more, or what *request* chooses.

    Raises: NotFound, Forbidden; WrongStatus; NotStartable: the workflow is not executable.
    """
    task_id = await find_task(ctx, actor, "run_workflow", workflow_key, number, project)
    await ctx.engine.transact(_retry, task_id, actor.uid, actor.name, request)


def _retry(tx: Tx, claim: Claim, task_id: int, uid: str, name: str, request: RetryRequest) -> Outcome[None]:
    ear = Ear(tx, claim)
    row = tx.tasks.row(task_id)
    workflow = tx.workflows.find(row.workflow_key)
    if workflow is not None and workflow.concurrency_limit == 0:
        raise NotStartable(not_executable(row.workflow_key))
    jobs = tuple(job_id(tx, task_id, job) for job in request.jobs)
    first = job_id(tx, task_id, request.from_job) if request.from_job else None
    ear.hear(task_id, ev.RetryRequested(tx.now, uid, name, jobs, first))
    return ear.outcome(None)


def job_id(tx: Tx, task_id: int, name: str) -> int:
    """Of a job task, by name, else key, else display name. Raises: NotFound("job", name)."""
    job = tx.tasks.find_job(task_id, name)
    if job is None:
        raise NotFound("job", name)
    return job.id
