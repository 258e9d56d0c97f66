"""Look at and execute the manual stage a task pauses before."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cador.domain import events as ev
from cador.domain.errors import Forbidden, Invalid, NotAnExecutor, NotFound, StageNotExecutable
from cador.domain.manual import NOT_ALLOWED
from cador.domain.task import STAGE_KEPT, StageStatus, TaskStatus, WorkflowTask
from cador.engine.hearing import Claim, Ear, Outcome
from cador.operations.actor import Actor
from cador.operations.audit import note_task
from cador.operations.context import Context
from cador.operations.finding import is_public, task_row
from cador.operations.redrafting import SKIP, Edited, Redraft, load_original, redraft
from cador.operations.stage_executors import NOBODY, StageExecutors, executors_of
from cador.operations.task_values import Edits, ExecuteRequest
from cador.ports.stores import JobRow, TaskRow, Tx


@dataclass(frozen=True, slots=True)
class PausedStage:
    """What a task pauses before. ``stage`` is empty when it does not pause."""

    row: TaskRow
    stage: str = ""
    executors: StageExecutors = NOBODY
    can_execute: bool = False


async def paused_stage(ctx: Context, actor: Actor, workflow_key: str, number: int, project: str) -> PausedStage:
    """Raises: NotFound("task"): no such task in *project*. Forbidden: who may not see the workflow and is not named."""
    row, task = await _find(ctx, actor, workflow_key, number, project)
    index = _pending(task)
    if index is None:
        return PausedStage(row)
    executors = executors_of(task.stages[index].manual)
    return PausedStage(row, task.stages[index].name, executors, _may(actor, row, executors))


async def execute_stage(
    ctx: Context, actor: Actor, workflow_key: str, number: int, project: str, request: ExecuteRequest
) -> None:
    """Let the stage a task pauses before begin: the task waits for its turn and goes on there.

    Raises: NotFound, Forbidden; StageNotExecutable; NotAnExecutor; Invalid: inputs that cannot be meant, or must not be
    changed here; Conflict.
    """
    row, task = await _find(ctx, actor, workflow_key, number, project)
    _check(task, row, actor, request)
    for again in (False, True):
        draft = None
        if request.inputs:
            original = await ctx.db.read(load_original, ctx.catalogues, row.id)
            draft = await redraft(ctx, original, Edits(inputs=request.inputs))
        try:
            await ctx.engine.transact(_execute, row.id, actor, request, draft)
        except Edited:
            if again:
                raise
        else:
            return


async def _find(
    ctx: Context, actor: Actor, workflow_key: str, number: int, project: str
) -> tuple[TaskRow, WorkflowTask]:
    """The task, if *actor* may look at it, or is named in one of its stages."""

    def read(tx: Tx) -> tuple[TaskRow, WorkflowTask] | None:
        row = task_row(tx, workflow_key, number)
        return (row, tx.tasks.load(row.id)) if row is not None and row.project == project else None

    found = await ctx.db.read(read)
    if not actor.may("get_workflow", project, public=await is_public(ctx, project), workflow=workflow_key):
        stages = found[1].stages if found is not None else ()
        if not any(stage.manual and executors_of(stage.manual).names(actor.uid) for stage in stages):
            raise Forbidden("get_workflow", project=project)
    if found is None:
        raise NotFound("task", f"{workflow_key}:{number}")
    return found


def _pending(task: WorkflowTask) -> int | None:
    if task.status is not TaskStatus.PAUSE:
        return None
    return next((n for n, stage in enumerate(task.stages) if stage.status is StageStatus.PAUSE), None)


def _may(actor: Actor, row: TaskRow, executors: StageExecutors) -> bool:
    """Who is named needs no role; a token that may not run workflows executes no stages either."""
    if not actor.carries("run_workflow", row.project):
        return False
    if executors.everybody:
        return actor.may("run_workflow", row.project, workflow=row.workflow_key)
    return actor.admin or executors.names(actor.uid)


def _check(task: WorkflowTask, row: TaskRow, actor: Actor, request: ExecuteRequest) -> int:
    """The index of the stage. Raises: StageNotExecutable, NotAnExecutor, Invalid."""
    index = _pending(task)
    if index is None:
        raise StageNotExecutable(NOT_ALLOWED)
    stage = task.stages[index]
    if stage.name != request.stage:
        later = [other.name for other in task.stages[index + 1 :] if other.status not in STAGE_KEPT]
        if request.stage in later:
            raise StageNotExecutable(f"previous stage {stage.name} status is not passed or skipped")
        raise StageNotExecutable(f"stage {request.stage} not found in workflow {row.workflow_key} or status is passed")
    executors = executors_of(stage.manual)
    if not _may(actor, row, executors):
        raise NotAnExecutor(actor.name, stage.name)
    if (request.inputs or request.jobs is not None) and not executors.modify_params:
        raise Invalid(f"the inputs of stage {stage.name} cannot be changed when it is executed", place="inputs")
    return index


def _execute(
    tx: Tx, claim: Claim, task_id: int, actor: Actor, request: ExecuteRequest, draft: Redraft | None
) -> Outcome[None]:
    ear = Ear(tx, claim)
    task = tx.tasks.lock(task_id)
    row = tx.tasks.row(task_id)
    index = _check(task, row, actor, request)
    jobs = [job for job in tx.tasks.jobs(task_id) if job.stage == index]
    known = {job.job for job in jobs}
    for name in (*(request.jobs or ()), *(entry.job_name for entry in request.inputs)):
        if name not in known:
            raise Invalid(f"job {name} is not part of stage {request.stage}", place="jobs")
    left_out = known - set(request.jobs) if request.jobs is not None else frozenset[str]()
    _refuse_forced(tx.tasks.snapshot(task_id) if left_out else {}, left_out)
    skipped = tuple(job.id for job in jobs if job.job in left_out)

    def also(tx: Tx, before: WorkflowTask, after: WorkflowTask) -> None:
        _mark(tx, jobs, skipped)
        if draft is not None:
            draft.store(tx, before, after)

    changes = draft.changes if draft is not None else ()
    ear.hear(task_id, ev.StageExecuted(tx.now, index, actor.uid, actor.name, skipped, changes), also)
    detail = {"stage": request.stage, "left_out": sorted(left_out), "changed": len(changes)}
    note_task(tx, actor, "execute_stage", row.project, row.workflow_key, row.number, detail)
    return ear.outcome(None)


def _refuse_forced(snapshot: Mapping[str, Any], left_out: frozenset[str] | set[str]) -> None:
    for stage in snapshot.get("workflow", {}).get("stages", ()):
        for job in stage["jobs"]:
            if job["name"] in left_out and job.get("run_policy") == "force_run":
                raise Invalid(f"job {job['name']} skipped, but the run policy is set to force run", place="jobs")


def _mark(tx: Tx, jobs: list[JobRow], skipped: tuple[int, ...]) -> None:
    for job in jobs:
        plan = {key: value for key, value in job.plan.items() if key != "run_policy"}
        if job.id in skipped:
            plan["run_policy"] = SKIP
        if plan != job.plan:
            tx.tasks.set_plan(job.id, plan)
