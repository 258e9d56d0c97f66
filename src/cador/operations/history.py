"""What happened to a task, in words, and how it stood at some moment of the past."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from cador.domain.errors import Invalid
from cador.domain.replaying import CREATED, Replayed, Told, replay
from cador.domain.task import ApprovalStatus, Slot, TaskStatus, WorkflowTask
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.finding import find_task
from cador.operations.task_values import ApprovalView
from cador.operations.task_views import approval_view
from cador.ports.stores import EventRow, JobRow, TaskRow, Tx

PAGE: Final = 1000
"""Events that are read, and told, at once."""


@dataclass(frozen=True, slots=True)
class EventView:
    """One event. ``about``: the job or stage it is about, empty: the whole task. ``who``: name of the person behind it.
    ``text``: what happened, as a sentence for people."""

    id: int
    at: float
    kind: str
    data: Mapping[str, Any]
    about: str = ""
    who: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class EventPage:
    """``over``: the task had ended when this was read, and nothing follows unless it is retried."""

    events: tuple[EventView, ...]
    over: bool


@dataclass(frozen=True, slots=True)
class Names:
    """What ids in events stand for."""

    jobs: Mapping[int, str]
    approvals: Mapping[int, str]
    stages: tuple[str, ...]

    @classmethod
    def of(cls, task: WorkflowTask) -> "Names":
        jobs = {job.id: job.name for job in task.jobs}
        asked = {
            a.id: jobs.get(a.job_id, "") if a.job_id is not None else task.stages[a.stage].name for a in task.approvals
        }
        return cls(jobs, asked, tuple(stage.name for stage in task.stages))

    def about(self, data: Mapping[str, Any]) -> str:
        """The job or stage that an event is about; empty: the task."""
        if name := self.jobs.get(data.get("job_id", 0)) or self.approvals.get(data.get("approval_id", 0)):
            return name
        stage = data.get("stage")
        return self.stages[stage] if isinstance(stage, int) and stage < len(self.stages) else ""

    def listed(self, ids: Any) -> str:
        return ", ".join(self.jobs.get(ident, str(ident)) for ident in ids or ())


async def task_events(ctx: Context, actor: Actor, workflow_key: str, number: int, after: int = 0) -> EventPage:
    """What happened, oldest first, after event id *after*; at most :data:`PAGE`.

    Raises: NotFound("task"), Forbidden.
    """
    task_id = await find_task(ctx, actor, "get_workflow", workflow_key, number)

    def read(tx: Tx) -> EventPage:
        task = tx.tasks.load(task_id)
        rows = tx.tasks.events(task_id, after, PAGE)
        return EventPage(told(rows, Names.of(task)), task.final and len(rows) < PAGE)

    return await ctx.db.read(read)


def told(rows: list[EventRow], names: Names) -> tuple[EventView, ...]:
    """Stored events with the names of what they are about."""
    return tuple(_told(row, names) for row in rows)


def _told(row: EventRow, names: Names) -> EventView:
    data = row.data
    about = names.about(data)
    who = str(data.get("user_name") or data.get("creator") or "")
    say = _SENTENCES.get(row.kind, _plainly)
    shown = {
        **data,
        "kind": row.kind,
        "about": about,
        "who": who or "somebody",
        "jobs": names.listed(data.get("jobs")),
        "skipped": names.listed(data.get("skipped")),
        "from_job": names.jobs.get(data.get("from_job") or 0, ""),
    }
    return EventView(row.id, row.at, row.kind, data, about, who, say(shown))


def _attempt(data: Mapping[str, Any]) -> str:
    again = ", once more because it was lost" if data.get("recovery") else ""
    return f" (attempt {data.get('attempt')}{again})"


def _because(text: Any) -> str:
    return f": {text}" if text else ""


def _created(data: Mapping[str, Any]) -> str:
    trigger = data.get("trigger")
    return f"created by {data['who']}" + (f" ({trigger})" if trigger else "")


def _ended(data: Mapping[str, Any]) -> str:
    result = {"broken": "could not be run", "lost": "was lost"}.get(data.get("result", ""), str(data.get("result")))
    return f"{data['about']} {result}{_because(data.get('error'))}"


def _decided(data: Mapping[str, Any]) -> str:
    what = "ignored the failure of" if data.get("ignore") else "let stand the failure of"
    return f"{data['who']} {what} {data['about']}"


def _voted(data: Mapping[str, Any]) -> str:
    word = "approved" if data.get("approve") else "rejected"
    return f"{data['who']} {word} {data['about']}{_because(data.get('comment'))}"


def _retry(data: Mapping[str, Any]) -> str:
    which = f" of {data['jobs']}" if data["jobs"] else f" from {data['from_job']}" if data["from_job"] else ""
    return f"{data['who']} asked for a retry{which}{_changed(data)}"


def _executed(data: Mapping[str, Any]) -> str:
    without = f", without {data['skipped']}" if data["skipped"] else ""
    return f"{data['who']} started {data['about']}{without}{_changed(data)}"


def _changed(data: Mapping[str, Any]) -> str:
    changes = ", ".join(f"{edit.get('name')} = {edit.get('after')}" for edit in data.get("changes") or ())
    return f", with {changes}" if changes else ""


def _plainly(data: Mapping[str, Any]) -> str:
    """An event that has no sentence of its own: what it is called, and what it says."""
    said = [str(data["kind"]).replace("_", " ")]
    if data["about"]:
        said.append(str(data["about"]))
    if data.get("user_name"):
        said.append(f"by {data['who']}")
    return " ".join(said)


def _delivery(data: Mapping[str, Any]) -> str:
    place = f" ({data['place']})" if data.get("place") else ""
    told = f"{data.get('receiver')}{place}"
    if data.get("ok"):
        return f"{told} was told: {data.get('what')}"
    text = f"{told} could not be told: {data.get('what')}{_because(data.get('reason'))}"
    if data.get("again_at") is None:
        return f"{text}; it is given up after {data.get('number')} tries"
    return f"{text}; it is tried again at {_moment(data['again_at'])}"


_SENTENCES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    CREATED: _created,
    "admitted": lambda data: "let in",
    "job_started": lambda data: f"{data['about']} started{_attempt(data)}",
    "job_skipped": lambda data: f"{data['about']} skipped by its execute policy",
    "job_ended": _ended,
    "deadline_passed": lambda data: f"the time of {data['about']} is up",
    "retry_pause_over": lambda data: f"{data['about']} is repeated",
    "decided": _decided,
    "voted": _voted,
    "approval_expired": lambda data: f"{data['about']} was not answered in time",
    "task_expired": lambda data: "the time of the task is up",
    "cancel_requested": lambda data: f"{data['who']} cancelled it",
    "retry_requested": _retry,
    "stage_executed": _executed,
    "delivery_tried": _delivery,
    "job_allowed": lambda data: f"the execute policy of {data['about']} lets people be asked",
}


# -- the past


@dataclass(frozen=True, slots=True)
class Past:
    """A task as it was at ``at``. ``row``: as lists would have shown it; ``task``: its stages and jobs; ``jobs``: what
    never changes of them, in the same order; ``approvals`` by id; ``last``: the newest event until then. ``agrees``:
    all events together give the task as it is stored; where not, this view is not to be relied on."""

    at: float
    row: TaskRow
    task: WorkflowTask
    jobs: tuple[JobRow, ...]
    approvals: Mapping[int, ApprovalView]
    last: EventView | None
    agrees: bool


async def task_at(ctx: Context, actor: Actor, workflow_key: str, number: int, at: float) -> Past:
    """How a task stood at *at*, in Unix seconds.

    Raises: NotFound("task"), Forbidden; Invalid: it did not exist then, or the moment has not come;
    UnknownHistory: its events cannot be heard by this version.
    """
    task_id = await find_task(ctx, actor, "get_workflow", workflow_key, number)
    if at > (now := ctx.clock.now()):
        raise Invalid(f"{_moment(at)} has not come yet, it is {_moment(now)}", place="at")
    row, task, jobs, texts, history = await ctx.db.read(_whole, task_id)
    if at < row.create_at:
        raise Invalid(f"{workflow_key}/{number} was created at {_moment(row.create_at)}", place="at")
    # Many events of many jobs take their time, and nobody else is to wait for that.
    found = await asyncio.to_thread(replay, task, [Told(e.id, e.at, e.kind, e.data) for e in history], at)
    return _past(at, row, found, jobs, texts)


def _whole(
    tx: Tx, task_id: int
) -> tuple[TaskRow, WorkflowTask, list[JobRow], Mapping[int, tuple[str, str]], list[EventRow]]:
    task = tx.tasks.load(task_id)
    texts = tx.tasks.approval_texts(task_id) if task.approvals else {}
    return tx.tasks.row(task_id), task, tx.tasks.jobs(task_id, plans=False), texts, all_events(tx, task_id)


def all_events(tx: Tx, task_id: int, most: int = 0) -> list[EventRow]:
    """All events of a task, or the first *most*; page by page."""
    found: list[EventRow] = []
    while True:
        page = tx.tasks.events(task_id, found[-1].id if found else 0, PAGE)
        found += page
        if len(page) < PAGE or 0 < most <= len(found):
            return found[:most] if most else found


def _past(at: float, row: TaskRow, found: Replayed, jobs: list[JobRow], texts: Mapping[int, tuple[str, str]]) -> Past:
    task = found.task
    waiting_for = ""
    if task.status is TaskStatus.RUNNING and task.slot is Slot.WANTED:
        waiting_for = "slot"
    elif (
        task.status is TaskStatus.RUNNING
        and task.slot is Slot.NONE
        and any(a.status is ApprovalStatus.WAITING for a in task.approvals)
    ):
        waiting_for = "approval"
    then = replace(
        row,
        status=task.status.value,
        slot=task.slot.value,
        error=task.error,
        revoker=task.revoker,
        start_at=task.start_at,
        end_at=task.end_at,
        retry_num=task.retry_num,
        waiting_for=waiting_for,
    )
    last = found.last
    view = None
    if last is not None:
        view = _told(EventRow(last.id, row.id, last.at, last.kind, last.data), Names.of(task))
    approvals = {a.id: approval_view(a, *texts.get(a.id, ("", "native"))) for a in task.approvals}
    return Past(at, then, task, tuple(jobs), approvals, view, found.agrees)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
