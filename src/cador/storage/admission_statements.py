"""The statements of admission. None of them goes through the queue: projects, and groups of tasks that only fit or fail
together, are jumped over from one to the next along an index."""

from typing import Any, Final

from sqlalchemy import and_, bindparam, case, exists, func, literal_column, select, tuple_, update

from cador.storage import dialect
from cador.storage.tables import (
    TASK_COUNTS,
    TASK_HOLDS,
    TASK_WAITS,
    admission,
    resource,
    share,
    word,
    workflow,
    workflow_task,
)

t = workflow_task.c
r = admission.c
_h = share.c

GATE: Final = select(r.max_running_tasks, r.max_per_project, r.max_per_user, r.vtime)
HOLD: Final = GATE.with_for_update()
TRY_HOLD: Final = GATE.with_for_update(skip_locked=True)
SET_LIMITS: Final = update(admission).values(
    max_running_tasks=bindparam("tasks"), max_per_project=bindparam("project"), max_per_user=bindparam("person")
)
SET_CLOCK: Final = update(admission).values(vtime=bindparam("clock"))
_put = dialect.insert(share)
CHARGE: Final = _put.values(project=bindparam("project"), vtime=bindparam("time")).on_conflict_do_update(
    index_elements=[_h.project], set_={"vtime": _put.excluded.vtime}
)

HELD: Final = select(func.count()).select_from(workflow_task).where(TASK_HOLDS)
HELD_BY: Final = select(t.project, t.creator_id, func.count().label("tasks")).where(TASK_HOLDS).group_by(
    t.project, t.creator_id
)  # fmt: skip

# -- one task that waits, and what its workflow has room for

_other = workflow_task.alias("other")
_o = _other.c
_other_counts = and_(
    _o.status.in_([word("waiting"), word("running"), word("cancelling"), word("pause")]),
    _o.status.in_([word("running"), word("cancelling")]),
)
"""``TASK_COUNTS`` of another row."""
_running = (
    select(func.count())
    .select_from(_other)
    .where(_o.workflow_key == t.workflow_key, _other_counts)
    .correlate(workflow_task)
    .scalar_subquery()
)
_limit = workflow.c.concurrency_limit
# Counted only for workflows that have a limit: those without cost nothing, however much of them runs.
_left = _limit - _running
ROOM: Final = case((_limit.is_(None), 0), (_limit < 0, -1), (_limit == 0, 0), (_left > 0, _left), else_=0).label("room")
CANDIDATE: Final = (
    t.id, t.waits_at, t.project, t.workflow_key, t.creator_id, (t.slot == word("wanted")).label("wanted"),
)  # fmt: skip
"""In the order of the fields of ``domain.sharing.Candidate``; the room comes last."""
_WORKFLOW: Final = workflow_task.outerjoin(workflow, workflow.c.key == t.workflow_key)


def _jump(name: str, first: Any, onwards: Any, *begin: Any) -> Any:
    """Ids of the first task of each group in the queue: *onwards* finds the first one past ``current``'s group."""
    found = select(first.label("id")).where(*begin).cte(name, recursive=True)
    return found.union_all(select(onwards).join_from(found, _current, _current.c.id == found.c.id))


_current = workflow_task.alias("current")
_next = workflow_task.alias("next")
_n, _c = _next.c, _current.c
_next_waits = _n.waits_at.is_not(None)

_one: Any = literal_column("1")
_oldest = select(_n.id).where(_next_waits).order_by(_n.project, _n.waits_at, _n.id).limit(_one).scalar_subquery()
_of_next_project = (
    select(_n.id)
    .where(_next_waits, _n.project > _c.project)
    .order_by(_n.project, _n.waits_at, _n.id)
    .limit(_one)
    .correlate(_current)
    .scalar_subquery()
)
_heads = _jump("heads", _oldest, _of_next_project, HELD.scalar_subquery() < bindparam("most"))
_behind = (
    exists()
    .where(_next_waits, _n.project == t.project, tuple_(_n.waits_at, _n.id) > tuple_(t.waits_at, t.id))
    .correlate(workflow_task)
)
_project = resource.alias("owner")
LINES: Final = (
    select(
        *CANDIDATE, ROOM, HELD.scalar_subquery().label("held"), _h.vtime, _project.c.document, _behind.label("more")
    )
    .select_from(
        _heads.join(workflow_task, t.id == _heads.c.id)
        .outerjoin(workflow, workflow.c.key == t.workflow_key)
        .outerjoin(share, _h.project == t.project)
        .outerjoin(
            _project,
            and_(
                _project.c.kind == word("project"), _project.c.project == word(""), _project.c.name == t.project
            ),
        )
    )
)  # fmt: skip
"""The oldest task of each project in the queue; nothing when *most* tasks hold a slot."""

NEXT: Final = (
    select(*CANDIDATE, ROOM)
    .select_from(_WORKFLOW)
    .where(
        TASK_WAITS,
        t.project == bindparam("project"),
        tuple_(t.waits_at, t.id) > tuple_(bindparam("after_at"), bindparam("after_id")),
    )
    .order_by(t.waits_at, t.id)
    .limit(bindparam("limit"))
)

_of_project = _n.project == bindparam("project")
_group_order = (_n.slot, _n.workflow_key, _n.creator_id, _n.waits_at, _n.id)
_first_group = select(_n.id).where(_next_waits, _of_project).order_by(*_group_order).limit(_one).scalar_subquery()
_next_group = (
    select(_n.id)
    .where(
        _next_waits,
        _of_project,
        tuple_(_n.slot, _n.workflow_key, _n.creator_id) > tuple_(_c.slot, _c.workflow_key, _c.creator_id),
    )
    .order_by(*_group_order)
    .limit(_one)
    .correlate(_current)
    .scalar_subquery()
)
_groups = _jump("groups", _first_group, _next_group)
GROUPS: Final = select(*CANDIDATE, ROOM).select_from(
    _groups.join(workflow_task, t.id == _groups.c.id).outerjoin(workflow, workflow.c.key == t.workflow_key)
)
"""The oldest task of each group of one project: those of one workflow and one person, that start or that go on."""
NEXT_IN_GROUP: Final = (
    select(*CANDIDATE, ROOM)
    .select_from(_WORKFLOW)
    .where(
        TASK_WAITS,
        t.project == bindparam("project"),
        t.slot == bindparam("slot"),
        t.workflow_key == bindparam("workflow_key"),
        t.creator_id == bindparam("creator_id"),
        tuple_(t.waits_at, t.id) > tuple_(bindparam("after_at"), bindparam("after_id")),
    )
    .order_by(t.waits_at, t.id)
    .limit(_one)
)

# -- why a task waits

FACTS: Final = (
    select(*CANDIDATE, ROOM, t.status, t.slot, _limit.label("limit"), _h.vtime, _project.c.document)
    .select_from(
        workflow_task.outerjoin(workflow, workflow.c.key == t.workflow_key)
        .outerjoin(share, _h.project == t.project)
        .outerjoin(
            _project,
            and_(_project.c.kind == word("project"), _project.c.project == word(""), _project.c.name == t.project),
        )
    )
    .where(t.id == bindparam("id"))
)
_before = tuple_(t.waits_at, t.id) <= tuple_(bindparam("at"), bindparam("id"))
OLDER: Final = select(func.count()).select_from(workflow_task).where(TASK_WAITS, _before)
OLDER_OF: Final = OLDER.where(t.project == bindparam("project"))
QUEUED: Final = (
    select(t.project, func.count().label("tasks")).select_from(workflow_task).where(TASK_WAITS).group_by(t.project)
)
_blocker = select(t.workflow_key, t.number, t.project)
BLOCKERS_WORKFLOW: Final = _blocker.where(t.workflow_key == bindparam("workflow_key"), TASK_COUNTS)
"""Unsorted: asked for order, SQLite would rather walk all numbers of the workflow than sort the few."""
BLOCKERS_ALL: Final = _blocker.where(TASK_HOLDS)
BLOCKERS_PROJECT: Final = BLOCKERS_ALL.where(t.project == bindparam("project"))
BLOCKERS_PERSON: Final = BLOCKERS_ALL.where(t.creator_id == bindparam("creator_id"))
