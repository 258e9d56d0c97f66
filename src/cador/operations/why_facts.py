"""Ask why a task does not run: what the tables and this server know of it, and no more of others than the caller sees.

All that is read is bounded, however much waits or has run before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from cador.domain.commands import Deliver
from cador.domain.task import JOB_FINAL, JobStatus, Slot, StageStatus, TaskStatus, WorkflowTask
from cador.jobs.base import JobType
from cador.jobs.unavailable import Unavailable
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.finding import find_task
from cador.operations.forecasts import Forecast, Line, forecast
from cador.operations.stage_executors import executors_of
from cador.operations.why import Facts, Person, Reason, Why, explain
from cador.ports.admission import Blocker, QueueFacts
from cador.ports.stores import TaskRow, Tx

MOST_TASKS: Final = 200
"""A forecast looks at no more tasks that run, and no more that go first."""
MOST_WORKFLOWS: Final = 20
"""Nor at the times of more workflows."""
TIMES: Final = 20
"""So many of the last passed tasks of a workflow say how long the next one takes."""


_UNTOLD: Final = frozenset({Reason.NOT_EXECUTABLE, Reason.PROJECT_CAP, Reason.USER_CAP})
"""What keeps a task for a time that the line before it does not tell."""


@dataclass(frozen=True, slots=True)
class TaskWhy:
    row: TaskRow
    why: Why


async def task_why(ctx: Context, actor: Actor, workflow_key: str, number: int) -> TaskWhy:
    """Why a task, and each of its jobs, does not run now. Raises: NotFound("task"), Forbidden."""
    task_id = await find_task(ctx, actor, "get_workflow", workflow_key, number)

    def read(tx: Tx) -> TaskWhy:
        row = tx.tasks.row(task_id)
        return TaskWhy(row, why_of(tx, ctx, actor, tx.tasks.load(task_id), row))

    return await ctx.db.read(read)


def why_of(tx: Tx, ctx: Context, actor: Actor, task: WorkflowTask, row: TaskRow) -> Why:
    """The same, within a transaction that has the task."""
    return explain(task, _facts(tx, ctx, actor, task, row))


def _facts(tx: Tx, ctx: Context, actor: Actor, task: WorkflowTask, row: TaskRow) -> Facts:
    facts = Facts(now=tx.now, max_jobs=ctx.engine.max_jobs())
    if task.final:
        return replace(facts, untold=_untold(tx, task))
    if task.status is TaskStatus.WAITING or task.slot is Slot.WANTED:
        facts = _in_the_queue(tx, ctx, actor, task, row, facts)
    starts = [(job.id, job.attempt, job.recovery) for job in task.jobs if job.status is JobStatus.PREPARE]
    return replace(
        facts,
        untaken=tx.outlook.untaken(task.id, starts) if starts else {},
        unknown=_unknown(tx, ctx.types, task),
        deciders={job.id: _deciders(tx, job.id) for job in task.jobs if job.status is JobStatus.WAIT_FOR_DECISION},
        openers={
            index: executors_of(stage.manual)
            for index, stage in enumerate(task.stages)
            if stage.status is StageStatus.PAUSE
        },
    )


def _untold(tx: Tx, task: WorkflowTask) -> Mapping[str, float]:
    """Receivers that have not heard of the end, and when they are told next."""
    keys = {
        receiver.name: f"{task.id}/{Deliver(receiver.name, task.status.value, task.retry_num).key}"
        for receiver in tx.deliveries.receivers(task.id)
    }
    return {name: row.due_at for name, key in keys.items() if (row := tx.commands.find(key)) is not None}


def _in_the_queue(tx: Tx, ctx: Context, actor: Actor, task: WorkflowTask, row: TaskRow, facts: Facts) -> Facts:
    settings = ctx.engine.queue_limits()
    queue = tx.admission.facts(task.id, settings)
    if queue is None:
        return facts
    limits = tx.admission.gate().over(settings)
    by_reason = {
        Reason.GLOBAL_LIMIT: limits.max_running_tasks,
        Reason.FAIR_SHARE: limits.max_running_tasks,
        Reason.PROJECT_CAP: limits.max_per_project,
        Reason.USER_CAP: limits.max_per_user,
    }
    own = tx.outlook.limits((row.workflow_key,)).get(row.workflow_key)
    if own is not None:
        by_reason |= {Reason.WORKFLOW_LIMIT: own, Reason.NOT_EXECUTABLE: own}
    sees = _seer(tx, ctx, actor)
    seen = tuple(blocker for blocker in queue.blocking if sees(blocker))
    caps = bool(limits.max_per_project or limits.max_per_user)
    return replace(
        facts,
        queue=replace(queue, blocking=seen),
        hidden=len(queue.blocking) - len(seen),
        limits=by_reason,
        start=_forecast(tx, task, row, queue, limits.max_running_tasks, exact=not caps),
    )


def _seer(tx: Tx, ctx: Context, actor: Actor) -> Callable[[Blocker], bool]:
    """Whether the caller may see a task. Each project is looked up once."""
    public: dict[str, bool] = {}

    def sees(task: Blocker) -> bool:
        project = task.project
        if project not in public:
            document = ctx.catalogues.load(tx, project).find("project", project)
            public[project] = document is not None and bool(document.document.get("is_public"))
        return actor.may("get_workflow", project, public=public[project], workflow=task.workflow_key)

    return sees


def _forecast(
    tx: Tx, task: WorkflowTask, row: TaskRow, queue: QueueFacts, slots: int, *, exact: bool
) -> Forecast | None:
    """When it may start; None where too much is before it to be told."""
    ahead = tx.outlook.ahead(task.id, MOST_TASKS + 1)
    keys = {row.workflow_key, *ahead}
    if queue.reason in _UNTOLD or len(ahead) > MOST_TASKS or len(keys) > MOST_WORKFLOWS:
        return None
    running = tx.outlook.running(keys, MOST_TASKS + 1)
    concerned = keys | {one.workflow for one in running if one.holds}
    if len(running) > MOST_TASKS or len(concerned) > MOST_WORKFLOWS:
        return None
    line = Line(
        workflow=row.workflow_key,
        slots=slots,
        running=[one for one in running if one.id != task.id],
        ahead=ahead,
        limits=tx.outlook.limits(concerned),
        times={key: tx.outlook.times(key, TIMES) for key in concerned},
        slot_only=task.status is not TaskStatus.WAITING,
        # By turns of the projects others may go first, or it may: the line is by age.
        exact=exact and tx.outlook.only(row.project),
    )
    return forecast(line, tx.now)


def _unknown(tx: Tx, types: Mapping[str, JobType], task: WorkflowTask) -> Mapping[int, str]:
    """Why this server cannot carry out some of the jobs that are to come."""
    open_jobs = {job.id for job in task.jobs if job.status not in JOB_FINAL}
    return {
        row.id: reason
        for row in tx.tasks.jobs(task.id, plans=False)
        if row.id in open_jobs and (reason := _lacking(types.get(row.type), row.type))
    }


def _lacking(job_type: JobType | None, name: str) -> str:
    if job_type is None:
        return f"no job type {name} is known here"
    return job_type.reason if isinstance(job_type, Unavailable) else ""


def _deciders(tx: Tx, job_id: int) -> tuple[Person, ...]:
    row = tx.tasks.job_by_id(job_id)
    found = []
    for uid in dict.fromkeys(map(str, row.plan.get("deciders", ()))) if row is not None else ():
        user = tx.people.user(uid)
        found.append(Person(uid, user.name if user is not None else uid))
    return tuple(found)
