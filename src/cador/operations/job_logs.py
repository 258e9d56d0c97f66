"""Which log a job task has, and how far it is: what a stream must know to wait, to follow or to end."""

from dataclasses import dataclass

from cador.domain.errors import NotFound
from cador.domain.task import JOB_FINAL, TASK_FINAL, JobKind, JobStatus
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.finding import find_task
from cador.ports.logs import LogName
from cador.ports.stores import JobRow, Tx

_FINAL_JOBS = frozenset(JOB_FINAL)
_FINAL_TASKS = frozenset(TASK_FINAL)


@dataclass(frozen=True, slots=True)
class JobLog:
    """``name``: the log of the newest attempt, None when there is none: the job has not started (then ``waiting``), or
    will never have one. ``ended``: nothing further will be written. ``status``: of the job task."""

    task_id: int
    job_id: int
    name: LogName | None
    waiting: bool
    ended: bool
    status: str
    attempt: int


async def job_log(
    ctx: Context, actor: Actor, workflow_key: str, number: int, job: str, attempt: int | None = None
) -> JobLog:
    """The log of a job task, named by its name, key or display name (``_`` counts as ``-``).

    Raises: NotFound("task"), NotFound("job"), Forbidden.
    """
    task_id = await find_task(ctx, actor, "get_workflow", workflow_key, number)

    def read(tx: Tx) -> JobRow | None:
        return tx.tasks.find_job(task_id, job) or tx.tasks.find_job(task_id, job.replace("_", "-"))

    row = await ctx.db.read(read)
    if row is None:
        raise NotFound("job", job)
    return await again(ctx, workflow_key, number, task_id, row.id, attempt)


async def again(
    ctx: Context, workflow_key: str, number: int, task_id: int, job_id: int, attempt: int | None = None
) -> JobLog:
    """The same as it is now, for a job that was found and allowed before. Raises: NotFound: deleted meanwhile."""

    def read(tx: Tx) -> JobLog:
        row = tx.tasks.job_by_id(job_id)
        if row is None:
            raise NotFound("job", str(job_id))
        chosen = attempt or row.attempt
        over = tx.tasks.row(task_id).status in _FINAL_TASKS
        idle = row.status == JobStatus.IDLE and not attempt
        waiting = idle and not over and row.kind != JobKind.APPROVAL
        has_log = row.kind != JobKind.APPROVAL and chosen > 0 and not waiting
        return JobLog(
            task_id=task_id,
            job_id=job_id,
            name=LogName(workflow_key, number, row.name, chosen) if has_log else None,
            waiting=waiting,
            ended=row.status in _FINAL_JOBS or over or chosen < row.attempt or row.kind == JobKind.APPROVAL,
            status=row.status,
            attempt=chosen,
        )

    return await ctx.db.read(read)
