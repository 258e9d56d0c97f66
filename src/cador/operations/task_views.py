"""Look at workflow tasks: details, lists, events, logs, artifacts. Reads only; one snapshot of the database each."""

from collections.abc import Mapping
from typing import Any

from cador.domain.errors import NotFound
from cador.domain.masking import MASK
from cador.domain.secrets import mask_credentials
from cador.domain.task import Approval, Slot, TaskStatus
from cador.domain.variables import plain
from cador.jobs.base import JobType
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.finding import find_task, is_public, row_in
from cador.operations.reading import in_reader
from cador.operations.stage_executors import executors_of
from cador.operations.task_values import (
    ApprovalView,
    JobView,
    StageView,
    TaskDetail,
    TaskPage,
    VoterView,
)
from cador.operations.why_facts import why_of
from cador.ports.logs import LogName
from cador.ports.stores import JobRow, TaskFilter, TaskRow, Tx, brief


async def task_detail(ctx: Context, actor: Actor, workflow_key: str, number: int) -> TaskDetail:
    """Everything about one task. Raises: NotFound("task"), Forbidden."""
    if ctx.details.knows(workflow_key, number):
        known = await ctx.db.read(_known_detail, ctx, actor, workflow_key, number)
        if known is not None:
            return known
    return await ctx.db.read(_found_detail, ctx, actor, workflow_key, number)


@brief
def _known_detail(tx: Tx, ctx: Context, actor: Actor, workflow_key: str, number: int) -> TaskDetail | None:
    """What clients that poll get. None: something changed, or only a longer look tells whether the actor may see it."""
    row = tx.tasks.find_row(workflow_key, number)
    if row is None or not actor.may("get_workflow", row.project, workflow=workflow_key):
        return None
    return ctx.details.find(row)


def _found_detail(tx: Tx, ctx: Context, actor: Actor, workflow_key: str, number: int) -> TaskDetail:
    row = row_in(tx, ctx, actor, "get_workflow", workflow_key, number)
    detail = ctx.details.find(row) or _detail(tx, ctx, actor, row)
    ctx.details.keep(detail)
    return detail


def _detail(tx: Tx, ctx: Context, actor: Actor, row: TaskRow) -> TaskDetail:
    task_id = row.id
    task = tx.tasks.load(task_id)
    snapshot = tx.tasks.snapshot(task_id)
    texts = tx.tasks.approval_texts(task_id) if task.approvals else {}
    approvals = {a.id: approval_view(a, *texts.get(a.id, ("", "native"))) for a in task.approvals}
    by_job = {a.job_id: approvals[a.id] for a in task.approvals if a.job_id is not None}
    by_stage = {a.stage: approvals[a.id] for a in task.approvals if a.job_id is None}
    jobs = tx.tasks.jobs(task_id)
    stages = tuple(
        StageView(
            name=stage.name,
            parallel=stage.parallel,
            status=stage.status,
            error=stage.error,
            start_at=stage.start_at,
            end_at=stage.end_at,
            jobs=tuple(_job(job, ctx.types, by_job.get(job.id)) for job in jobs if job.stage == index),
            approval=by_stage.get(index),
            executors=executors_of(stage.manual) if stage.manual else None,
            executed_by=stage.executed_by,
        )
        for index, stage in enumerate(task.stages)
    )
    warnings = list(snapshot.get("warnings", ()))
    for job in jobs:
        warnings += [f"job {job.name}: {text}" for text in job.result.get("warnings", ())]
    waits = task.status is TaskStatus.WAITING or task.slot is Slot.WANTED
    return TaskDetail(
        row=row,
        stages=stages,
        params=tuple(_param(doc) for doc in snapshot.get("params", ())),
        warnings=tuple(dict.fromkeys(warnings)),
        attempts=tuple(tx.tasks.attempts(task_id)),
        queue=why_of(tx, ctx, actor, task, row) if waits else None,
        notify_ctls=tuple(snapshot.get("notify_ctls") or snapshot["workflow"].get("notify_ctls") or ()),
        debug=bool(snapshot.get("debug")),
        approval_ticket=_ticket_of(snapshot),
        auto_cancel=str(snapshot["request"].get("auto_cancel", "")),
        timeout_min=round(task.timeout_s / 60),
        archived=task.archived,
    )


def _param(doc: Mapping[str, Any]) -> Mapping[str, Any]:
    masked: Mapping[str, Any] = mask_credentials(plain(doc))
    if doc.get("is_credential") and doc.get("value"):
        masked = {**masked, "value": MASK}
    return masked


def _job(row: JobRow, types: Mapping[str, JobType], approval: ApprovalView | None) -> JobView:
    job_type = types.get(row.type)
    spec = plain(row.plan.get("spec", {}))
    if job_type is not None:
        spec = job_type.view(spec, row.outputs, row.result, row.end_at is not None)
    return JobView(row, mask_credentials(spec), approval)


def approval_view(approval: Approval, description: str, kind: str) -> ApprovalView:
    """An approval with who may vote, and who has."""
    votes = {vote.user_id: vote for vote in approval.votes}
    voters = []
    for approver in approval.approvers:
        vote = votes.get(approver.user_id)
        if vote is None:
            voters.append(VoterView(approver.user_id, approver.user_name))
        else:
            word = "approve" if vote.approve else "reject"
            voters.append(VoterView(approver.user_id, approver.user_name, word, vote.comment, vote.at))
    return ApprovalView(
        type=kind,
        description=description,
        status=approval.status,
        needed=approval.needed,
        timeout_min=round(approval.timeout_s / 60),
        voters=tuple(voters),
        start_at=approval.start_at,
        end_at=approval.end_at,
    )


async def list_tasks(
    ctx: Context, actor: Actor, workflow_key: str, project: str, *, page: int = 1, size: int = 50
) -> TaskPage:
    """Tasks of one workflow, newest first. An unknown workflow, or one of another project, has none.

    Raises: Forbidden.
    """
    actor.need("get_workflow", project, public=await is_public(ctx, project), workflow=workflow_key)

    def read(tx: Tx) -> TaskPage:
        workflow = tx.workflows.find(workflow_key)
        if workflow is None or workflow.project != project:
            return TaskPage((), 0)
        where = TaskFilter(workflow_key=workflow_key, offset=(page - 1) * size, limit=size)
        return TaskPage(tuple(tx.tasks.list_tasks(where)), tx.tasks.count(workflow_key))

    return await ctx.db.read(read)


async def task_log(
    ctx: Context, actor: Actor, workflow_key: str, number: int, job: str, attempt: int | None = None
) -> LogName | None:
    """Which log a job task has: of its newest attempt, or of *attempt*. None: jobs of its kind have none (approvals).

    *job*: name, else key, else display name. A job that has not started has the log of its first attempt to come.

    Raises: NotFound("task"), NotFound("job", name), Forbidden.
    """
    task_id = await find_task(ctx, actor, "get_workflow", workflow_key, number)

    def read(tx: Tx) -> JobRow | None:
        return tx.tasks.find_job(task_id, job)

    row = await ctx.db.read(read)
    if row is None:
        raise NotFound("job", job)
    if row.kind == "approval":
        return None
    return LogName(workflow_key, number, row.name, attempt or max(1, row.attempt))


async def task_artifacts(ctx: Context, actor: Actor, workflow_key: str, number: int) -> list[tuple[str, int]]:
    """Names (``<job task>/archive/x.tar.gz``) and sizes in bytes. Raises: NotFound("task"), Forbidden."""
    await find_task(ctx, actor, "get_workflow", workflow_key, number)
    prefix = f"tasks/{workflow_key}/{number}"
    blobs = await in_reader(lambda: list(ctx.blobs.list(prefix)))
    return [(blob.key[len(prefix) + 1 :], blob.size) for blob in blobs]


def _ticket_of(snapshot: Mapping[str, Any]) -> tuple[str, str]:
    ticket = snapshot.get("approval_ticket") or {}
    return str(ticket.get("id") or ""), str(ticket.get("approval_id") or "")
