"""Start, stop, repeat, approve and decide about workflow tasks. Looking at them is in ``task_views``."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import msgspec

from cador.domain import events as ev
from cador.domain.commands import Admit, Tell
from cador.domain.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    NotAnApprover,
    NotFound,
    NothingToApprove,
    NotStartable,
    WrongStatus,
)
from cador.domain.task import ApprovalStatus, StageStatus, TaskStatus, WorkflowTask
from cador.domain.workflow import Workflow
from cador.engine.hearing import Claim, Ear, Outcome
from cador.engine.preparing import Catalogues
from cador.jobs.definition import parse_workflow
from cador.operations.actions import APPROVE
from cador.operations.actor import Actor
from cador.operations.audit import note_task
from cador.operations.commits import freeze_commits
from cador.operations.context import Context
from cador.operations.finding import find_task, row_in
from cador.operations.groups import entries_of, people_named
from cador.operations.resources import refuse_sealed
from cador.operations.retrying import not_executable, retry_task
from cador.operations.starting import Draft, Ground, draft_task, new_task, with_number
from cador.operations.task_values import Ballot, Started, StartRequest
from cador.operations.task_views import list_tasks, task_artifacts, task_detail, task_log
from cador.operations.tickets import check_reach, check_ticket, find_ticket
from cador.ports.stores import NewTask, TaskRow, Tx, brief
from cador.ports.tickets import Ticket

__all__ = [
    "approve",
    "cancel_task",
    "decide",
    "list_tasks",
    "not_executable",
    "retry_task",
    "set_remark",
    "start_task",
    "task_artifacts",
    "task_detail",
    "task_log",
]


class _Moved(Exception):
    """What was read is no longer so: the definition changed, or the same request was stored meanwhile."""


@lru_cache(maxsize=256)
def parsed(key: str, revision: int, definition: str) -> Workflow:
    """The stored definition as values."""
    return parse_workflow(msgspec.json.decode(definition))


@lru_cache(maxsize=256)
def _people_in(key: str, revision: int, definition: str) -> tuple[Mapping[str, Any], ...]:
    """The entries of the stored definition that name people."""
    return tuple(entries_of(msgspec.json.decode(definition)))


# -- start


async def start_task(ctx: Context, actor: Actor, request: StartRequest) -> Started:
    """Start a workflow: the reply is what was committed.

    Raises: Forbidden; NotFound: no such workflow in that project; Invalid: a value that cannot be meant; NotStartable.
    """
    actor.need("run_workflow", request.project_key, workflow=request.workflow_key)
    return await start_allowed(ctx, actor, request)


async def start_allowed(ctx: Context, actor: Actor, request: StartRequest) -> Started:
    """:func:`start_task` for a caller who has checked that *actor* may.

    Raises: NotFound, Invalid, NotStartable; Conflict: the idempotency key is that of a task of another workflow.
    """
    if refusal := ctx.refuse_starts():
        raise NotStartable(refusal)
    refuse_sealed((request.parameters, [entry.parameters for entry in request.inputs]), ctx.sealer)
    for again in (False, True):
        ground, repeated = await ctx.db.read(_ground, ctx.catalogues, request, actor.uid)
        if repeated is not None:
            if repeated.workflow_key != request.workflow_key:
                label = f"{repeated.workflow_key}:{repeated.number}"
                raise Conflict(f"this Idempotency-Key was used to start {label}, of another workflow")
            return Started(repeated.workflow_key, repeated.project, repeated.number)
        draft, made = _draft(ctx, actor, ground, request)
        await freeze_commits(ctx, ground.catalogue, draft)
        task = new_task(draft, ground, made, actor, ctx.options().max_jobs_per_stage)
        try:
            revoker = (actor.uid, actor.name) if request.trigger == "openapi" else ("", request.trigger)
            ticket = ground.ticket if ground.workflow.enable_approval_ticket else None
            number = await ctx.engine.transact(_store, actor, task, ground.revision, revoker, request, ticket)
        except (_Moved, AlreadyExists):
            if again:
                raise NotStartable("the workflow is being changed, try again") from None
            continue
        return Started(task.workflow_key, task.project, number, tuple(dict.fromkeys(draft.warnings)))
    raise AssertionError("unreachable")


@brief
def _ground(tx: Tx, catalogues: Catalogues, request: StartRequest, uid: str) -> tuple[Ground, TaskRow | None]:
    row = tx.workflows.find(request.workflow_key)
    if row is None or row.project != request.project_key:
        raise NotFound("workflow", request.workflow_key)
    key = request.idempotency_key
    repeated = tx.tasks.by_idempotency_key(uid, key) if key else None
    workflow = replace(
        parsed(row.key, row.revision, row.definition),
        disabled=row.disabled,
        concurrency_limit=row.concurrency_limit,
        display_name=row.display_name,
        type=row.type,
    )
    catalogue = catalogues.load(tx, row.project)
    project = catalogue.find("project", row.project)
    users, groups = people_named(tx, _people_in(row.key, row.revision, row.definition))
    name = str(project.document.get("project_name") or row.project) if project is not None else row.project
    ticket = find_ticket(tx, request) if workflow.enable_approval_ticket else None
    return Ground(workflow, row.revision, catalogue, name, users, groups, ticket, tx.now), repeated


def _draft(ctx: Context, actor: Actor, ground: Ground, request: StartRequest) -> tuple[Draft, StartRequest]:
    """The draft, and the request with the inputs it was made with."""
    workflow = ground.workflow
    if workflow.disabled:
        raise NotStartable("workflow is disabled")
    if workflow.remark_required and request.remark is not None and not request.remark.strip():
        raise NotStartable("workflow remark is required.")
    if workflow.concurrency_limit == 0:
        raise NotStartable(not_executable(workflow.key))
    ticket = None
    if workflow.enable_approval_ticket:
        ticket = check_ticket(ground.ticket, request, workflow.project, actor, ground.at)
    options = ctx.options()
    strict = options.strict_inputs if request.strict is None else request.strict
    told: tuple[str, ...] = ()
    if request.choose is not None:
        chosen = request.choose(workflow, ground.catalogue)
        if strict and chosen.unknown:
            raise NotStartable(chosen.unknown[0])
        request, told = replace(request, inputs=chosen.inputs), (*chosen.unknown, *chosen.notes)
    draft = draft_task(
        ground,
        request,
        actor,
        ctx.types,
        at=ctx.clock.now(),
        base_url=options.base_url,
        strict=strict,
        seal=lambda value: ctx.sealer.seal(value, f"task/{workflow.key}"),
    )
    draft.warnings[:0] = told
    if ticket is not None:
        check_reach(ticket, [(job, plan) for _, job, _, plan in draft.plans])
    return draft, request


@brief
def _store(
    tx: Tx,
    claim: Claim,
    actor: Actor,
    task: NewTask,
    revision: int,
    revoker: tuple[str, str],
    request: StartRequest,
    ticket: Ticket | None,
) -> Outcome[int]:
    """Number and store the task, and let it in at once if that can be decided here. *revoker*: uid and name of who
    cancels the older tasks with its ``auto_cancel`` word. *ticket*: what the task was checked against; it is used up
    here."""
    ear = Ear(tx, claim)
    row = tx.workflows.find(task.workflow_key, lock=True)
    if row is None:
        raise NotFound("workflow", task.workflow_key)
    if row.revision != revision:
        raise _Moved
    if row.disabled:
        raise NotStartable("workflow is disabled")
    if task.idempotency_key and tx.tasks.by_idempotency_key(task.creator_id, task.idempotency_key) is not None:
        raise _Moved
    number = tx.workflows.next_number(task.workflow_key)
    if not task.jobs:
        raise NotStartable(f"no stage found in workflow task: {task.workflow_key},taskID: {number}")
    if ticket is not None:
        held = check_ticket(find_ticket(tx, request, lock=True), request, task.project, actor, tx.now)
        if held != ticket:
            raise _Moved
        tx.tickets.use(held.uid, task.workflow_key, number)
    older = tx.tasks.worded(task.workflow_key, task.auto_cancel) if task.auto_cancel else ()
    task_id = tx.tasks.add(with_number(task, number))
    for older_id in older:
        ear.hear(older_id, ev.CancelRequested(tx.now, *revoker))
    ear.command(task_id, (Tell("created", 0), Admit()))
    note_task(tx, actor, "run_workflow", task.project, task.workflow_key, number, {"trigger": task.trigger})
    return ear.outcome(number)


# -- cancel


async def cancel_task(ctx: Context, actor: Actor, workflow_key: str, number: int) -> None:
    """Cancel. Returns when the wish is committed: it is carried out even if the server stops right after.

    Raises: NotFound, Forbidden; WrongStatus: the task has passed.
    """
    task_id = await find_task(ctx, actor, "run_workflow", workflow_key, number)
    await ctx.engine.transact(_cancel, task_id, actor)


def _cancel(tx: Tx, claim: Claim, task_id: int, actor: Actor) -> Outcome[None]:
    ear = Ear(tx, claim)
    task = tx.tasks.lock(task_id)
    if not task.final or task.status is TaskStatus.PASSED:
        ear.hear(task_id, ev.CancelRequested(tx.now, actor.uid, actor.name))
    row = tx.tasks.row(task_id)
    note_task(tx, actor, "cancel_task", row.project, row.workflow_key, row.number)
    return ear.outcome(None)


async def set_remark(ctx: Context, actor: Actor, workflow_key: str, number: int, remark: str) -> None:
    """Change the remark of a task, whatever its status. Raises: NotFound, Forbidden."""
    task_id = await find_task(ctx, actor, "run_workflow", workflow_key, number)
    await ctx.db.write(_remark, task_id, remark, actor)


def _remark(tx: Tx, task_id: int, remark: str, actor: Actor) -> None:
    tx.tasks.set_remark(task_id, remark)
    row = tx.tasks.row(task_id)
    note_task(tx, actor, "edit_remark", row.project, row.workflow_key, row.number, {"remark": remark})


# -- approve, decide


async def approve(ctx: Context, actor: Actor, ballot: Ballot) -> None:
    """Vote. Being a listed approver is what it takes, no role.

    A limited token needs the scope ``approve_workflow``.

    Raises: NothingToApprove, NotAnApprover, VotedAlready, Forbidden.
    """
    await ctx.engine.transact(_vote, ballot, actor)


def _vote(tx: Tx, claim: Claim, ballot: Ballot, actor: Actor) -> Outcome[None]:
    ear = Ear(tx, claim)
    nothing = NothingToApprove(ballot.workflow_key, ballot.number, ballot.stage)
    task_id = tx.tasks.find_id(ballot.workflow_key, ballot.number)
    if task_id is None:
        raise nothing
    task = tx.tasks.lock(task_id)
    row = tx.tasks.row(task_id)
    if not actor.carries(APPROVE, row.project):
        raise Forbidden(APPROVE, project=row.project)
    approval_id = _open_approval(tx, task, ballot.stage, actor.uid)
    if approval_id is None:
        raise nothing
    try:
        ear.hear(task_id, ev.Voted(tx.now, approval_id, actor.uid, actor.name, ballot.approve, ballot.comment))
    except WrongStatus:
        raise nothing from None
    verdict = "approve" if ballot.approve else "reject"
    note_task(tx, actor, f"{verdict}_task", row.project, row.workflow_key, row.number, {"stage": ballot.stage})
    return ear.outcome(None)


def _open_approval(tx: Tx, task: WorkflowTask, name: str, uid: str) -> int | None:
    """Which open approval *name* means: a waiting stage; a waiting approval job by job task name, job name or display
    name; the one waiting approval job of the stage of that name (of several: the one this user may decide)."""
    if task.status is not TaskStatus.RUNNING:
        return None
    for index, stage in enumerate(task.stages):
        approval = task.stage_approval(index)
        if stage.name == name and stage.status is StageStatus.WAIT_FOR_APPROVAL and approval is not None:
            return approval.id
    waiting = {a.job_id: a for a in task.approvals if a.job_id and a.status is ApprovalStatus.WAITING}
    if not waiting:
        return None
    rows = [row for row in tx.tasks.jobs(task.id, plans=False) if row.id in waiting]
    for row in rows:
        if name in (row.name, row.job, row.display_name, row.key):
            return waiting[row.id].id
    here = [waiting[row.id] for row in rows if task.stages[row.stage].name == name]
    if len(here) > 1:
        here = [a for a in here if any(voter.user_id == uid for voter in a.approvers)]
    return here[0].id if len(here) == 1 else None


async def decide(ctx: Context, actor: Actor, workflow_key: str, number: int, job: str, *, ignore: bool) -> None:
    """Decide about a failed job whose error policy asks people: ignore the failure, or let it stand.

    Being listed is what it takes, or being a system administrator. Who is neither learns no more of the task than by
    looking at it.

    Raises: NotFound, Forbidden; WrongStatus: that job waits for no decision; NotAnApprover.
    """
    await ctx.engine.transact(_decide, ctx, workflow_key, number, job, ignore, actor)


def _decide(
    tx: Tx, claim: Claim, ctx: Context, workflow_key: str, number: int, name: str, ignore: bool, actor: Actor
) -> Outcome[None]:
    ear = Ear(tx, claim)
    task_id = tx.tasks.find_id(workflow_key, number)
    if task_id is not None:
        tx.tasks.lock(task_id)
    job = tx.tasks.find_job(task_id, name) if task_id is not None else None
    listed = job is not None and (actor.admin or actor.uid in job.plan.get("deciders", ()))
    if not listed:
        row_in(tx, ctx, actor, "get_workflow", workflow_key, number)
    if task_id is None:
        raise NotFound("task", f"{workflow_key}:{number}")
    row = tx.tasks.row(task_id)
    if not actor.carries(APPROVE, row.project):
        raise Forbidden(APPROVE, project=row.project)
    if job is None:
        raise NotFound("job", name)
    if not listed:
        raise NotAnApprover(actor.name)
    ear.hear(task_id, ev.Decided(tx.now, job.id, ignore, actor.uid, actor.name))
    detail = {"job": job.name, "ignore": ignore}
    note_task(tx, actor, "decide_task", row.project, row.workflow_key, row.number, detail)
    return ear.outcome(None)
