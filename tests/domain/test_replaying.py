"""The past of a task, from its events."""

import json
from contextlib import suppress
from dataclasses import fields, replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cador.domain import events as ev
from cador.domain.errors import CadorError
from cador.domain.replaying import EVENTS, FIXED, Told, UnknownHistory, beginning, decoded, replay
from cador.domain.task import (
    Approval,
    Approver,
    JobKind,
    JobStatus,
    JobTask,
    Policy,
    StageTask,
    TaskStatus,
    WorkflowTask,
)
from cador.domain.task_machine import advance
from cador.storage import task_statements as sql
from cador.storage.dialect import kind_of

PEOPLE = (Approver("ann", "Ann"), Approver("ben", "Ben"))
KNOWN = {
    "job_id": st.integers(1, 4),
    "attempt": st.integers(1, 3),
    "recovery": st.integers(0, 1),
    "approval_id": st.integers(1, 2),
    "round": st.integers(1, 2),
    "user_id": st.sampled_from(["ann", "ben", "eve"]),
    "user_name": st.just("Someone"),
    "error": st.sampled_from(["", "exit status 1"]),
    "comment": st.just("yes"),
    "at": st.just(0.0),
}


def a_task(policy: Policy = Policy.STOP) -> WorkflowTask:
    jobs = (
        JobTask(1, "a", JobKind.SANDBOX, 0, policy=policy, maximum_retry=1),
        JobTask(2, "b", JobKind.SANDBOX, 0, policy=policy),
        JobTask(3, "ask", JobKind.APPROVAL, 1),
        JobTask(4, "c", JobKind.SERVER, 2, repeatable=False),
    )
    stages = (StageTask("build", True), StageTask("ask", False), StageTask("out", False))
    approvals = (
        Approval(1, 1, 3, 1, PEOPLE, timeout_s=600.0),
        Approval(2, 2, None, 2, PEOPLE, timeout_s=600.0),
    )
    return WorkflowTask(7, 12, "release:12", TaskStatus.WAITING, stages, jobs, approvals, create_at=100.0)


def told(ident: int, event: ev.Event) -> Told:
    """As the store writes it and gives it back."""
    data = json.loads(msgspec.json.encode(event))
    return Told(ident, data.pop("at"), kind_of(type(event)), data)


def made(kind: type) -> st.SearchStrategy[ev.Event]:
    own = {f.name: KNOWN[f.name] if f.name in KNOWN else st.from_type(f.type) for f in fields(kind)}
    return st.builds(kind, **own)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(Policy),
    st.lists(st.one_of([made(kind) for kind in EVENTS.values()]) | st.just(ev.Admitted(0.0)), max_size=60),
    st.data(),
)
def test_whatever_happened_is_replayed_exactly(policy: Policy, news: list[ev.Event], data: st.DataObject) -> None:
    task = a_task(policy)
    history, states = [Told(1, 100.0, "created", {"creator": "ann", "trigger": "ui"})], [task]
    for event in news:
        event = replace(event, at=history[-1].at + 1)
        if isinstance(event, ev.JobEnded | ev.JobStarted | ev.JobSkipped | ev.DeadlinePassed | ev.RetryPauseOver):
            # Of the present attempt as a rule, or almost no news would fit.
            job = task.job(event.job_id)
            assert job is not None
            event = replace(event, attempt=job.attempt or event.attempt)
        with suppress(CadorError):
            task, _ = advance(task, event)
            history.append(told(len(history) + 1, event))
            states.append(task)
    whole = replay(task, history, at=1e9)
    assert whole.task == task
    assert whole.agrees
    index = data.draw(st.integers(0, len(history) - 1))
    found = replay(task, history, history[index].at + 0.5)
    assert (found.task, found.last, found.heard) == (states[index], history[index], index + 1)
    assert found.agrees


def test_the_table_is_the_union_of_events() -> None:
    assert EVENTS["job_ended"] is ev.JobEnded
    assert {kind_of(kind): kind for kind in EVENTS.values()} == EVENTS


def test_an_event_comes_back_as_it_was_stored() -> None:
    event = ev.JobEnded(12.5, 1, 2, 0, ev.Result.LOST, "gone")
    assert decoded(told(3, event)) == event


def test_fields_of_an_older_version_are_as_they_were_then() -> None:
    assert decoded(Told(3, 12.0, "job_ended", {"job_id": 1, "attempt": 1, "recovery": 0, "result": "passed"})) == (
        ev.JobEnded(12.0, 1, 1, 0, ev.Result.PASSED)
    )


@pytest.mark.parametrize(
    ("kind", "data", "says"),
    [
        ("job_exploded", {}, "event 3: this version knows no kind 'job_exploded'"),
        ("job_ended", {"job_id": "one"}, "event 3 (job_ended): "),
        ("voted", {"approval_id": 1}, "event 3 (voted): "),
    ],
)
def test_what_cannot_be_heard_is_said(kind: str, data: dict[str, object], says: str) -> None:
    with pytest.raises(UnknownHistory) as caught:
        replay(a_task(), [Told(3, 101.0, kind, data)], 200.0)
    assert str(caught.value).startswith(says)


def test_an_event_that_fits_no_more_is_said() -> None:
    vote = told(2, ev.Voted(101.0, 1, "ann", "Ann", True, ""))
    with pytest.raises(UnknownHistory, match=r"event 2 \(voted\) fits no more: "):
        replay(a_task(), [vote], 200.0)


def test_the_past_is_shown_even_if_what_followed_cannot_be_heard() -> None:
    history = [told(1, ev.Admitted(101.0)), Told(2, 105.0, "job_exploded", {})]
    found = replay(a_task(), history, 103.0)
    assert found.task.status is TaskStatus.RUNNING
    assert not found.agrees


def test_rows_that_the_events_do_not_give_are_noticed() -> None:
    admitted, _ = advance(a_task(), ev.Admitted(101.0))
    history = [told(1, ev.Admitted(101.0))]
    assert replay(admitted, history, 200.0).agrees
    assert not replay(replace(admitted, error="somebody wrote here"), history, 200.0).agrees


def test_late_news_changes_nothing_that_was_known_before() -> None:
    task, history = a_task(), []
    for event in (
        ev.Admitted(101.0),
        ev.JobStarted(102.0, 1, 1, 0),
        ev.JobStarted(120.0, 2, 1, 0),
        ev.JobEnded(110.0, 1, 1, 0, ev.Result.PASSED),  # heard late: the server was down
    ):
        task, _ = advance(task, event)
        history.append(told(len(history) + 1, event))
    at_115 = replay(task, history, 115.0).task
    assert [job.status for job in at_115.jobs[:2]] == [JobStatus.RUNNING, JobStatus.PREPARE]
    assert replay(task, history, 120.0).task == task


def test_the_beginning_is_the_task_as_it_was_created() -> None:
    task = a_task(Policy.RETRY)
    for event in (ev.Admitted(101.0), ev.JobStarted(102.0, 1, 1, 0), ev.CancelRequested(103.0, "ann", "Ann")):
        task, _ = advance(task, event)
    assert beginning(task) == a_task(Policy.RETRY)


@pytest.mark.parametrize(
    ("kind", "moves"),
    [
        (WorkflowTask, {*sql.TASK_MOVES}),
        (StageTask, {*sql.STAGE_MOVES}),
        (JobTask, {*sql.JOB_MOVES}),
        (Approval, {*sql.APPROVAL_MOVES, "votes"}),
    ],
)
def test_what_is_not_fixed_is_what_events_write(kind: type, moves: set[str]) -> None:
    """A field that events move is reset at the beginning, and one that they do not move is kept."""
    assert {f.name for f in fields(kind)} - FIXED[kind] == moves
