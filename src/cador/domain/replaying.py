"""A task as it was: its stored events, heard again.

The same ``advance`` that moved the task moves it here, from its beginning, so that a state of the past is not a copy
somebody had to keep but what the events say. Replaying all of them gives the stored rows again; ``agrees`` tells.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Final, TypeVar, get_args

import msgspec

from cador.domain import events as ev
from cador.domain.errors import CadorError, Conflict
from cador.domain.task import Approval, JobTask, StageTask, TaskStatus, WorkflowTask
from cador.domain.task_machine import advance

Part = TypeVar("Part", WorkflowTask, StageTask, JobTask, Approval)

CREATED: Final = "created"
"""The first event of every task. It is its beginning, and so nothing to be heard."""

EVENTS: Final[Mapping[str, type[Any]]] = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", event.__name__).lower(): event for event in get_args(ev.Event)
}
"""Class by the word it is stored under: ``job_ended`` is ``JobEnded``."""

FIXED: Final[Mapping[type[Any], frozenset[str]]] = {
    WorkflowTask: frozenset(
        {"id", "number", "label", "stages", "jobs", "approvals", "parallel_limit", "create_at", "timeout_s", "archived"}
    ),
    StageTask: frozenset({"name", "parallel", "manual"}),
    JobTask: frozenset(
        {"id", "name", "kind", "stage", "timeout_s", "policy", "maximum_retry", "repeatable", "conditional"}
    ),
    Approval: frozenset({"id", "stage", "job_id", "needed", "approvers", "timeout_s"}),
}
"""What a task, a stage, a job and an approval are from the start. Every other field is made by events."""


class UnknownHistory(Conflict):
    """The events of a task cannot be heard by this version: another one wrote them, and meant something else."""


@dataclass(frozen=True, slots=True)
class Told:
    """A stored event: ``at`` in Unix seconds, ``data`` its other fields."""

    id: int
    at: float
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Replayed:
    """``task`` after the event ``last`` (None: as it was created). ``agrees``: hearing all that followed, too, gives
    the task as it is stored now; where not, what is shown of the past may be wrong as well."""

    task: WorkflowTask
    last: Told | None
    heard: int
    agrees: bool


def decoded(told: Told) -> ev.Event:
    """The event as a value. Raises: UnknownHistory: no such kind, or not its fields."""
    kind = EVENTS.get(told.kind)
    if kind is None:
        raise UnknownHistory(f"event {told.id}: this version knows no kind {told.kind!r}")
    try:
        event: ev.Event = msgspec.convert({**told.data, "at": told.at}, kind)
    except msgspec.ValidationError as error:
        raise UnknownHistory(f"event {told.id} ({told.kind}): {error}") from error
    return event


def beginning(task: WorkflowTask) -> WorkflowTask:
    """*task* as it was created: waiting, nothing begun, nobody asked."""
    return replace(
        _reset(task),
        status=TaskStatus.WAITING,
        stages=tuple(map(_reset, task.stages)),
        jobs=tuple(map(_reset, task.jobs)),
        approvals=tuple(map(_reset, task.approvals)),
    )


def _reset(part: Part) -> Part:
    made = {f.name: f.default for f in fields(part) if f.name not in FIXED[type(part)] and f.default is not MISSING}
    return replace(part, **made)


def replay(task: WorkflowTask, history: Iterable[Told], at: float) -> Replayed:
    """*task* as it was at *at* (Unix seconds). *task*: as it is stored; *history*: all its events, in order.

    What counts is the state that the tables went through: events are heard in the order in which they were stored, up
    to the first that happened later than *at*. News of an end that came late (the server was down) therefore does not
    change what was known before it.

    Raises: UnknownHistory.
    """
    now = beginning(task)
    then: WorkflowTask | None = None
    last: Told | None = None
    heard = 0
    for told in history:
        if then is None and told.at > at:
            then = now
        if then is None:
            last, heard = told, heard + 1
        try:
            now = _heard(now, told)
        except UnknownHistory:
            if then is None:
                raise
            return Replayed(then, last, heard, agrees=False)
    return Replayed(now if then is None else then, last, heard, agrees=now == task)


def _heard(task: WorkflowTask, told: Told) -> WorkflowTask:
    if told.kind == CREATED:
        return task
    try:
        moved, _ = advance(task, decoded(told))
    except UnknownHistory:
        raise
    except CadorError as error:
        raise UnknownHistory(f"event {told.id} ({told.kind}) fits no more: {error}") from error
    return moved
