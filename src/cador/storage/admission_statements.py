"""The statements of admission. None of them goes through the queue: projects, and groups of tasks that only fit or fail
together, are jumped over from one to the next along an index."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import and_, bindparam, case, func, literal_column, select, tuple_, update

from cador.storage import dialect
from cador.storage.tables import (
    TASK_COUNTS,
    TASK_HOLDS,
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
_w = workflow.c
_waiting = workflow_task.alias("waiting")
"""A task in the queue; the table under its own name is what holds slots and runs."""
q = _waiting.c
WAITS: Final = q.waits_at.is_not(None)

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


# Counted only for workflows that have a limit: those without cost nothing, however much of them runs.
def _running(key: Any) -> Any:
    running = select(func.count()).select_from(workflow_task).where(t.workflow_key == key, TASK_COUNTS)
    return case((_w.concurrency_limit > 0, running.correlate(key.table).scalar_subquery()), else_=0)


CANDIDATE: Final = (
    q.id, q.waits_at, q.project, q.workflow_key, q.creator_id, (q.slot == word("wanted")).label("wanted"),
    _w.concurrency_limit.label("most"), _running(q.workflow_key).label("running"),
)  # fmt: skip
"""``most``: NULL when the workflow is gone; ``running``: 0 where nobody counts."""
_with_workflow = _waiting.outerjoin(workflow, _w.key == q.workflow_key)
_BEHIND: Final = tuple_(q.waits_at, q.id) > tuple_(bindparam("after_at"), bindparam("after_id"))

# -- jumping from group to group

_current, _next = workflow_task.alias("current"), workflow_task.alias("next")
_c, _n = _current.c, _next.c
_one: Any = literal_column("1")
_zero: Any = literal_column("0")


def _first(order: Sequence[Any], *where: Any) -> Any:
    """Id of the first task in the queue by *order*."""
    return (
        select(_n.id).where(_n.waits_at.is_not(None), *where).order_by(*order).limit(_one).correlate(_current)
    ).scalar_subquery()  # fmt: skip


def _jump(name: str, first: Any, onwards: Any, *begin: Any) -> Any:
    """Ids of the first task of each group in the queue: *onwards* is that of the group behind ``current``'s."""
    found = select(first.label("id")).where(*begin).cte(name, recursive=True)
    return found.union_all(select(onwards).join_from(found, _current, _c.id == found.c.id).where(_few(found)))


def _few(found: Any) -> Any:
    """True of every id. PostgreSQL expects a hundred rows of any recursion, and would rather read a table of some
    thousand rows than look up so many; of an expression that equals something it expects one row."""
    return found.c.id * _zero == _zero


_by_project = (_n.project, _n.waits_at, _n.id)
_heads = _jump(
    "heads",
    _first(_by_project),
    _first(_by_project, _n.project > _c.project),
    HELD.scalar_subquery() < bindparam("slots"),
)
_owner = resource.alias("owner")
_is_owner = and_(_owner.c.kind == word("project"), _owner.c.project == word(""), _owner.c.name == q.project)
# Not EXISTS: for that PostgreSQL may look through the table, hoping to find one soon.
_behind_head = (
    select(_n.id)
    .where(_n.waits_at.is_not(None), _n.project == q.project, tuple_(_n.waits_at, _n.id) > tuple_(q.waits_at, q.id))
    .order_by(_n.waits_at, _n.id)
    .limit(_one)
    .correlate(_waiting)
    .scalar_subquery()
)
LINES: Final = (
    select(
        HELD.scalar_subquery().label("held"),
        *CANDIDATE,
        _h.vtime,
        _owner.c.document,
        _behind_head.label("more"),
    )
    .select_from(
        _heads.join(_waiting, q.id == _heads.c.id)
        .outerjoin(workflow, _w.key == q.workflow_key)
        .outerjoin(share, _h.project == q.project)
        .outerjoin(_owner, _is_owner)
    )
    .where(_few(_heads))
)
"""The oldest task of each project in the queue; nothing when no slot of *slots* is free."""

NEXT: Final = (
    select(*CANDIDATE)
    .select_from(_with_workflow)
    .where(
        WAITS,
        q.project == bindparam("project"),
        q.waits_at >= bindparam("after_at"),
        # With the project in it no index fits that has all projects mixed.
        tuple_(q.project, q.waits_at, q.id)
        > tuple_(bindparam("project"), bindparam("after_at"), bindparam("after_id")),
    )
    .order_by(q.waits_at, q.id)
    .limit(bindparam("limit"))
)

_mine = _n.project == bindparam("project")
_by_group = (_n.slot, _n.workflow_key, _n.creator_id, _n.waits_at, _n.id)
_same_slot, _same_workflow = _n.slot == _c.slot, _n.workflow_key == _c.workflow_key
_groups = _jump(
    "groups",
    _first(_by_group, _mine),
    # One step for each column: a comparison of rows would be a search by the first of them alone on SQLite.
    func.coalesce(
        _first(_by_group, _mine, _same_slot, _same_workflow, _n.creator_id > _c.creator_id),
        _first(_by_group, _mine, _same_slot, _n.workflow_key > _c.workflow_key),
        _first(_by_group, _mine, _n.slot > _c.slot),
    ),
)
GROUPS: Final = (
    select(*CANDIDATE)
    .select_from(_groups.join(_waiting, q.id == _groups.c.id).outerjoin(workflow, _w.key == q.workflow_key))
    .where(_few(_groups))
)
"""The oldest task of each group of one project: those of one workflow and one person, that start or that go on."""
NEXT_IN_GROUP: Final = (
    select(*CANDIDATE)
    .select_from(_with_workflow)
    .where(
        WAITS,
        q.project == bindparam("project"),
        q.slot == bindparam("slot"),
        q.workflow_key == bindparam("workflow_key"),
        q.creator_id == bindparam("creator_id"),
        _BEHIND,
    )
    .order_by(q.waits_at, q.id)
    .limit(_one)
)

# -- why a task waits

FACTS: Final = (
    select(*CANDIDATE, _h.vtime, _owner.c.document)
    .select_from(_with_workflow.outerjoin(share, _h.project == q.project).outerjoin(_owner, _is_owner))
    .where(q.id == bindparam("id"))
)
_older = tuple_(q.waits_at, q.id) <= tuple_(bindparam("at"), bindparam("id"))
_queue = (
    select(
        q.project,
        q.workflow_key,
        (q.slot == word("wanted")).label("wanted"),
        func.count().label("tasks"),
        func.sum(case((_older, 1), else_=0)).label("older"),
        func.min(q.waits_at).label("first"),
    )
    .where(WAITS)
    .group_by(q.project, q.slot, q.workflow_key)
    .subquery("queue")
)
QUEUE: Final = select(
    _queue.c.project,
    _queue.c.workflow_key,
    _queue.c.wanted,
    _queue.c.tasks,
    _queue.c.older,
    _queue.c.first,
    _w.concurrency_limit,
    _running(_queue.c.workflow_key),
).select_from(_queue.outerjoin(workflow, _w.key == _queue.c.workflow_key))
"""Tasks of each workflow in the queue, of them those up to one (itself included), and how old the first is. The one
statement that goes through the queue: for a person who asks."""
_blocker = select(t.workflow_key, t.number, t.project)
BLOCKERS_WORKFLOW: Final = _blocker.where(t.workflow_key == bindparam("workflow_key"), TASK_COUNTS)
"""Unsorted: asked for order, SQLite would rather walk all numbers of the workflow than sort the few."""
BLOCKERS_ALL: Final = _blocker.where(TASK_HOLDS)
BLOCKERS_PROJECT: Final = BLOCKERS_ALL.where(t.project == bindparam("project"))
BLOCKERS_PERSON: Final = BLOCKERS_ALL.where(t.creator_id == bindparam("creator_id"))
