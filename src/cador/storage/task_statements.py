"""The statements of the task store. Built once: building them at each call costs more than running them."""

from functools import cache
from typing import Any, Final

from sqlalchemy import and_, bindparam, case, exists, func, insert, literal, or_, select, tuple_, union_all, update

from cador.storage import dialect
from cador.storage.tables import (
    APPROVAL_OPEN,
    TASK_COUNTS,
    TASK_LISTED,
    TASK_SHOWN,
    TASK_WAITS,
    TASK_WORDED,
    approval,
    event,
    job_attempt,
    job_body,
    job_task,
    stage_task,
    task_snapshot,
    vote,
    word,
    workflow_counter,
    workflow_task,
)

t, s, j, a, v = workflow_task.c, stage_task.c, job_task.c, approval.c, vote.c
ID: Final[Any] = bindparam("id")


def _binds(*names: str) -> dict[str, Any]:
    return {name: bindparam(name) for name in names}


# -- the light parts, for deciding

TASK: Final = select(
    t.id, t.number, t.workflow_key, t.status, t.slot, t.parallel_limit, t.error, t.revoker, t.revoker_id, t.create_at,
    t.start_at, t.end_at, t.retry_num, t.retry_wanted, t.asks, t.timeout_s, t.archived, t.stamp,
).where(t.id == ID)  # fmt: skip
LOCK_TASK: Final = TASK.with_for_update(key_share=True)
"""Others may still refer to the task with new rows; whoever wants to change it waits."""
STAGES: Final = (
    select(s.name, s.parallel, s.status, s.error, s.start_at, s.end_at, s.manual, s.executed_by)
    .where(s.task_id == ID)
    .order_by(s.idx)
)
JOB_LIGHT: Final = (
    "id", "name", "kind", "stage", "status", "error", "attempt", "recovery", "retry_count", "stopping", "start_at",
    "end_at", "deadline_at", "timeout_s", "policy", "maximum_retry", "repeatable", "failed_as", "conditional",
)  # fmt: skip
"""In the order of the fields of ``domain.task.JobTask``."""
JOBS: Final = select(*(j[name] for name in JOB_LIGHT)).where(j.task_id == ID).order_by(j.position)
APPROVALS: Final = (
    select(a.id, a.stage, a.job_id, a.needed, a.approvers, a.timeout_s, a.status, a.round, a.start_at, a.end_at)
    .where(a.task_id == ID)
    .order_by(a.id)
)
VOTES: Final = (
    select(v.approval_id, v.user_id, v.user_name, v.approve, v.comment, v.at)
    .join_from(vote, approval, and_(v.approval_id == a.id, v.round == a.round))
    .where(a.task_id == ID)
    .order_by(v.id)
)
"""Of the present round."""

TASK_MOVES: Final = (
    "status", "slot", "error", "revoker", "revoker_id", "start_at", "end_at", "retry_num", "retry_wanted",
)  # fmt: skip
STAGE_MOVES: Final = ("status", "error", "start_at", "end_at", "executed_by")
JOB_MOVES: Final = (
    "status", "error", "attempt", "recovery", "retry_count", "stopping", "start_at", "end_at", "deadline_at",
    "failed_as",
)  # fmt: skip
APPROVAL_MOVES: Final = ("status", "round", "start_at", "end_at")

SAVE_TASK: Final = update(workflow_task).where(t.id == bindparam("of")).values(_binds(*TASK_MOVES, "waits_at", "stamp"))
SAVE_STAMP: Final = update(workflow_task).where(t.id == bindparam("of")).values(_binds("stamp"))
SAVE_STAGE: Final = (
    update(stage_task)
    .where(s.task_id == bindparam("of"), s.idx == bindparam("index"))
    .values(_binds(*STAGE_MOVES))
)  # fmt: skip
SAVE_JOB: Final = update(job_task).where(j.id == bindparam("of")).values(_binds(*JOB_MOVES))
SAVE_APPROVAL: Final = update(approval).where(a.id == bindparam("of")).values(_binds(*APPROVAL_MOVES))
ADD_VOTE: Final = insert(vote).values(
    _binds("approval_id", "round", "user_id", "user_name", "approve", "comment", "at")
)  # fmt: skip
_at = job_attempt.c
ADD_ATTEMPT: Final = insert(job_attempt).values(
    _binds("job_id", "attempt", "status", "error", "start_at", "end_at") | {"steps": literal("[]")}
)
SAVE_ATTEMPT: Final = (
    update(job_attempt)
    .where(_at.job_id == bindparam("of"), _at.attempt == bindparam("number"))
    .values(_binds("status", "error", "start_at", "end_at"))
)
ADD_EVENT: Final = insert(event).values(_binds("task_id", "at", "kind", "data"))

# -- a new task

ADD_TASK: Final = (
    dialect.insert(workflow_task)
    .values(_binds(*(column.name for column in t if column is not t.id)))
    .on_conflict_do_nothing(index_elements=[t.creator_id, t.idempotency_key])
    .returning(t.id)
)
ADD_SNAPSHOT: Final = insert(task_snapshot).values(_binds("task_id", "body"))
ADD_STAGE: Final = insert(stage_task).values(_binds(*(column.name for column in s)))
ADD_JOB: Final = insert(job_task).values(_binds(*(column.name for column in j if column is not j.id)))
JOB_IDS: Final = select(j.id).where(j.task_id == ID).order_by(j.position)
ADD_BODY: Final = insert(job_body).values(_binds("job_id", "plan", "outputs", "result"))
ADD_APPROVAL: Final = insert(approval).values(_binds(*(column.name for column in a if column is not a.id)))
_counter = dialect.insert(workflow_counter)
COUNT_TASK: Final = _counter.values(
    key=bindparam("key"), last=bindparam("number"), tasks=literal(1)
).on_conflict_do_update(
    index_elements=[workflow_counter.c.key], set_={"tasks": workflow_counter.c.tasks + 1}
)  # fmt: skip

# -- what lists and details show

_asked = exists().where(a.task_id == t.id, APPROVAL_OPEN).correlate(workflow_task)
WAITING_FOR: Final = case(
    (and_(t.status == word("running"), t.slot == word("wanted")), "slot"),
    (and_(t.status == word("running"), t.slot == word("none"), _asked), "approval"),
    else_="",
).label("waiting_for")
ROW_FIELDS: Final = (
    "id", "workflow_key", "project", "number", "display_name", "type", "status", "slot", "error", "creator",
    "creator_id", "creator_account", "trigger", "revoker", "create_at", "start_at", "end_at", "retry_num", "remark",
    "edits", "stamp",
)  # fmt: skip
"""In the order of the fields of ``ports.stores.TaskRow``."""
_ROWS: Final = select(*(t[name] for name in ROW_FIELDS), WAITING_FOR)
ROW: Final = _ROWS.where(t.id == ID)
BY_IDEMPOTENCY_KEY: Final = _ROWS.where(
    t.creator_id == bindparam("creator_id"), t.idempotency_key == bindparam("key")
)  # fmt: skip
_NAMED: Final = (t.workflow_key == bindparam("workflow_key"), t.number == bindparam("number"), TASK_SHOWN)
FIND_ID: Final = select(t.id).where(*_NAMED)
FIND_ROW: Final = _ROWS.where(*_NAMED)
COUNT: Final = select(workflow_counter.c.tasks).where(workflow_counter.c.key == bindparam("key"))


@cache
def page(scope: str, more: tuple[str, ...], *, by_status: bool, keyset: bool, projects: bool) -> Any:
    """One branch of a list, newest first: *scope* is the column whose index leads (``""``: all tasks), *more* further
    columns to compare. Each combination is built once and there are few."""
    found = _ROWS.where(TASK_LISTED).order_by(t.create_at.desc(), t.id.desc())
    for name in (*((scope,) if scope else ()), *more):
        found = found.where(t[name] == bindparam(name))
    if by_status:
        found = found.where(t.status == bindparam("status"))
    if projects:
        found = found.where(t.project.in_(bindparam("projects", expanding=True)))
    if keyset:
        found = found.where(tuple_(t.create_at, t.id) < tuple_(bindparam("before_at"), bindparam("before_id")))
    return found.offset(bindparam("skip")).limit(bindparam("limit"))


JOB_ROW: Final = tuple(column.name for column in j if column.name not in ("failed_as", "approval_users", "conditional"))
"""Of these ``ports.stores.JobRow`` has fields of the same name."""
_b = job_body.c
_JOB_ROWS: Final = select(*(j[name] for name in JOB_ROW), j.approval_users, _b.outputs, _b.result).join_from(
    job_task, job_body, j.id == _b.job_id
)
JOB_ROWS: Final = _JOB_ROWS.where(j.task_id == ID).order_by(j.position)
JOB_ROWS_PLANS: Final = JOB_ROWS.add_columns(_b.plan)
JOB_BY_ID: Final = _JOB_ROWS.add_columns(_b.plan).where(j.id == ID)
JOB_NAMED: Final = (
    _JOB_ROWS.add_columns(_b.plan)
    .where(
        j.task_id == ID,
        or_(j.name == bindparam("name"), j.key == bindparam("name"), j.display_name == bindparam("name")),
    )
    .order_by(case((j.name == bindparam("name"), 0), (j.key == bindparam("name"), 1), else_=2), j.position)
    .limit(1)
)
ATTEMPTS: Final = (
    select(*_at)
    .join_from(job_attempt, job_task, _at.job_id == j.id)
    .where(j.task_id == ID)
    .order_by(j.position, _at.attempt)
)
_e = event.c
EVENTS: Final = (
    select(*_e)
    .where(_e.task_id == ID, _e.id > bindparam("after"))
    .order_by(_e.id)
    .limit(bindparam("limit"))
)  # fmt: skip
SNAPSHOT: Final = select(task_snapshot.c.body).where(task_snapshot.c.task_id == ID)
SET_SNAPSHOT: Final = (
    update(task_snapshot).where(task_snapshot.c.task_id == bindparam("of")).values(body=bindparam("body"))
)  # fmt: skip
COUNT_EDIT: Final = update(workflow_task).where(t.id == bindparam("of")).values(edits=t.edits + 1)
APPROVAL_TEXTS: Final = select(a.id, a.description, a.type).where(a.task_id == ID)

_of_job = _b.job_id == bindparam("of")
SET_PLAN: Final = update(job_body).where(_of_job).values(plan=bindparam("plan"))
SET_OUTPUTS: Final = update(job_body).where(_of_job).values(outputs=bindparam("outputs"))
FORGET_FOUND: Final = update(job_body).where(_of_job).values(outputs="{}", result="{}")
GET_RESULT: Final = select(_b.result).where(_b.job_id == ID).with_for_update()
SET_RESULT: Final = update(job_body).where(_of_job).values(result=bindparam("result"))
SET_STEPS: Final = (
    update(job_attempt)
    .where(_at.job_id == bindparam("of"), _at.attempt == bindparam("number"))
    .values(steps=bindparam("steps"))
)

# -- a workflow that goes, and figures

WORDED: Final = select(t.id).where(
    t.workflow_key == bindparam("key"), t.auto_cancel == bindparam("auto_cancel"), TASK_WORDED
)
SET_REMARK: Final = update(workflow_task).where(t.id == bindparam("of")).values(remark=bindparam("remark"))

QUEUE: Final = union_all(
    select(literal("waiting").label("name"), func.count().label("number"), func.min(t.waits_at).label("oldest"))
    .select_from(workflow_task)
    .where(TASK_WAITS),
    select(literal("running"), func.count(), literal(None)).select_from(workflow_task).where(TASK_COUNTS),
    select(literal("waiting_for_approval"), func.count(a.task_id.distinct()), literal(None))
    .join_from(approval, workflow_task, a.task_id == t.id)
    .where(APPROVAL_OPEN, t.status == word("running"), t.slot == word("none")),
)
