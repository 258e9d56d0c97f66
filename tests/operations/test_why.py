"""Why something does not run: every reason, from a task and what is known."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cador.domain import events as ev
from cador.domain.errors import CadorError
from cador.domain.replaying import EVENTS
from cador.domain.task import (
    Approval,
    ApprovalStatus,
    Approver,
    JobKind,
    JobStatus,
    JobTask,
    Policy,
    Slot,
    StageStatus,
    StageTask,
    TaskStatus,
    Vote,
    WorkflowTask,
)
from cador.domain.task_machine import advance
from cador.operations.forecasts import Forecast
from cador.operations.stage_executors import StageExecutors
from cador.operations.why import MEANING, Facts, JobWhy, Person, Reason, Why, explain
from cador.ports.admission import Blocker, QueueFacts
from domain.test_replaying import a_task as any_task
from domain.test_replaying import made

NOW = 1000.0
ANN, BEN, CID = (Approver(uid, uid.title()) for uid in ("ann", "ben", "cid"))
OTHER = Blocker("other", 7, "shop")
ASK_STAGE = Approval(1, 0, None, 2, (ANN, BEN, CID), 600.0)
ASK_JOB = Approval(2, 0, 1, 1, (ANN,), 600.0)


def job(number: int, stage: int = 0, **fields: Any) -> JobTask:
    return JobTask(number, f"j{number}", fields.pop("kind", JobKind.SANDBOX), stage, **fields)


def a_task(*jobs: JobTask, parallel: bool = False, **fields: Any) -> WorkflowTask:
    stages = tuple(StageTask(f"s{index}", parallel) for index in range(1 + max(job.stage for job in jobs)))
    return WorkflowTask(1, 12, "wf:12", TaskStatus.WAITING, stages, jobs, **fields)


def hear(task: WorkflowTask, *events: ev.Event) -> WorkflowTask:
    for event in events:
        task, _ = advance(task, event)
    return task


def admitted(*jobs: JobTask, **fields: Any) -> WorkflowTask:
    return hear(a_task(*jobs, **fields), ev.Admitted(900.0))


def ended(number: int, result: ev.Result = ev.Result.PASSED) -> ev.JobEnded:
    return ev.JobEnded(950.0, number, 1, 0, result, "exit status 1")


def queued(reason: str, *blocking: Blocker, **fields: Any) -> Facts:
    limits = {Reason.WORKFLOW_LIMIT: 1, Reason.GLOBAL_LIMIT: 2, Reason.FAIR_SHARE: 2, Reason.PROJECT_CAP: 3,
              Reason.USER_CAP: 4, Reason.NOT_EXECUTABLE: 0}  # fmt: skip
    return Facts(NOW, QueueFacts(reason, 3, blocking), limits=limits, **fields)


def of(why: Why, name: str) -> JobWhy:
    return next(job for job in why.jobs if job.name == name)


def reasons(why: Why) -> dict[str, list[str]]:
    """By job; the task's own under ``""``."""
    found = {job.name: [str(wait.reason) for wait in job.waits] for job in why.jobs}
    return {"": [str(wait.reason) for wait in why.waits], **found}


QUIET = Facts(NOW)
PREPARED = admitted(job(1))
RUNNING = hear(PREPARED, ev.JobStarted(901.0, 1, 1, 0))


@pytest.mark.parametrize(
    ("task", "facts", "expected"),
    [
        pytest.param(
            a_task(job(1), job(2, 1)), queued(reason), {"": [word], "j1": [word], "j2": ["stage_order"]}, id=word
        )
        for reason, word in [
            *((word, word) for word in (
                "not_executable", "workflow_limit", "project_cap", "user_cap", "global_limit", "fair_share",
            )),
            ("", "starting"),
        ]
    ]
    + [
        pytest.param(PREPARED, QUIET, {"": ["starting"], "j1": ["starting"]}, id="being started"),
        pytest.param(
            PREPARED, Facts(NOW, untaken={1: NOW}, max_jobs=8), {"": ["no_room"], "j1": ["no_room"]}, id="no room"
        ),
        pytest.param(RUNNING, QUIET, {"": [], "j1": []}, id="it runs"),
        pytest.param(
            admitted(job(1), job(2)), QUIET, {"": ["starting"], "j1": ["starting"], "j2": ["stage_order"]}, id="serial"
        ),
        pytest.param(
            hear(admitted(job(1), job(2), job(3), parallel=True, parallel_limit=2), ev.JobStarted(901.0, 1, 1, 0)),
            QUIET,
            {"": [], "j1": [], "j2": ["starting"], "j3": ["stage_limit"]},
            id="as many as the stage may",
        ),
        pytest.param(
            admitted(job(1), approvals=(ASK_STAGE,)), QUIET, {"": ["approval"], "j1": ["approval"]}, id="stage approval"
        ),
        pytest.param(
            admitted(job(1, kind=JobKind.APPROVAL), job(2), approvals=(ASK_JOB,)),
            QUIET,
            {"": ["approval"], "j1": ["approval"], "j2": ["stage_order"]},
            id="approval job",
        ),
        pytest.param(
            hear(admitted(job(1, policy=Policy.MANUAL)), ended(1, ev.Result.FAILED)),
            QUIET,
            {"": ["decision"], "j1": ["decision"]},
            id="decision",
        ),
        pytest.param(
            hear(admitted(job(1, policy=Policy.RETRY, maximum_retry=3)), ended(1, ev.Result.FAILED)),
            QUIET,
            {"": ["retry_pause"], "j1": ["retry_pause"]},
            id="pause",
        ),
        pytest.param(
            hear(RUNNING, ev.CancelRequested(960.0, "ann", "Ann")),
            QUIET,
            {"": ["cancelling"], "j1": []},
            id="cancelling",
        ),
        pytest.param(
            hear(admitted(job(1), job(2), timeout_s=60.0), ev.TaskExpired(960.0, 0)),
            QUIET,
            {"": ["expiring"], "j1": ["expiring"], "j2": ["expiring"]},
            id="expiring",
        ),
        pytest.param(
            hear(admitted(job(1), job(2)), ev.CancelRequested(960.0, "ann", "Ann")),
            QUIET,
            {"": ["cancelling"], "j1": ["cancelling"], "j2": ["cancelling"]},
            id="cancelling what has not begun",
        ),
        pytest.param(
            hear(admitted(job(1), job(2)), ended(1, ev.Result.FAILED)),
            QUIET,
            {"": ["finished"], "j1": ["finished"], "j2": ["not_reached"]},
            id="over",
        ),
        pytest.param(
            a_task(job(1), job(2, 1)),
            replace(queued("global_limit"), unknown={2: "a job of type ide needs what is not here"}),
            {"": ["global_limit"], "j1": ["global_limit"], "j2": ["stage_order", "no_executor"]},
            id="no executor",
        ),
        pytest.param(
            hear(
                admitted(job(1), approvals=(replace(ASK_STAGE, needed=1),)),
                ev.Voted(910.0, 1, "ann", "Ann", True, ""),
            ),
            queued("global_limit"),
            {"": ["waiting_for_slot"], "j1": ["waiting_for_slot"]},
            id="approved, and no slot",
        ),
        pytest.param(
            replace(
                a_task(job(1)), status=TaskStatus.PAUSE, stages=(StageTask("s0", False, StageStatus.PAUSE),)
            ),
            QUIET,
            {"": ["manual_stage"], "j1": ["manual_stage"]},
            id="manual stage",
        ),
    ],
)  # fmt: skip
def test_each_reason(task: WorkflowTask, facts: Facts, expected: dict[str, list[str]]) -> None:
    found = explain(task, facts)
    assert reasons(found) == expected
    for wait in (*found.waits, *(wait for job in found.jobs for wait in job.waits)):
        assert wait.text
        assert "None" not in wait.text


def test_who_is_in_the_way_is_named() -> None:
    start = Forecast(1060.0, "good", 20)
    found = explain(a_task(job(1)), queued("workflow_limit", OTHER, hidden=2, start=start))
    (wait,) = found.waits
    assert (wait.blocking, wait.hidden, wait.limit) == ((OTHER,), 2, 1)
    assert wait.text == "its workflow runs 1 task at once (concurrency_limit)"
    assert (found.position, found.start) == (3, start)


def test_an_approval_tells_who_is_missing_and_until_when() -> None:
    task = admitted(job(1), approvals=(ASK_STAGE,))
    task = hear(task, ev.Voted(910.0, 1, "ben", "Ben", True, "fine"))
    (wait,) = of(explain(task, QUIET), "j1").waits
    assert wait.people == (Person("ann", "Ann"), Person("cid", "Cid"))
    assert (wait.missing, wait.until) == (1, 1500.0)
    assert wait.text == "1 more of Ann, Cid must approve"


def test_several_who_wait_are_told_once_each() -> None:
    one, two = (replace(ASK_JOB, id=n, job_id=n, approvers=(who,)) for n, who in ((1, ANN), (2, BEN)))
    jobs = (job(1, kind=JobKind.APPROVAL), job(2, kind=JobKind.APPROVAL), job(3, 1))
    task = admitted(*jobs, parallel=True, approvals=(one, two))
    assert [wait.text for wait in explain(task, QUIET).waits] == [
        "1 more of Ann must approve", "1 more of Ben must approve",
    ]  # fmt: skip


def test_a_pause_ends_and_a_decision_has_deciders() -> None:
    paused = hear(admitted(job(1, policy=Policy.RETRY, maximum_retry=3)), ended(1, ev.Result.FAILED))
    (wait,) = of(explain(paused, QUIET), "j1").waits
    assert wait.until == 960.0
    asked = hear(admitted(job(1, policy=Policy.MANUAL)), ended(1, ev.Result.FAILED))
    (wait,) = of(explain(asked, QUIET), "j1").waits
    assert wait.text == "it failed, and a system administrator must decide what that means"
    people = (Person("ann", "Ann"), Person("ben", "Ben"))
    (wait,) = of(explain(asked, Facts(NOW, deciders={1: people})), "j1").waits
    assert (wait.people, wait.text) == (people, "it failed, and Ann or Ben must decide what that means")


def test_a_start_that_is_tried_again() -> None:
    (wait,) = of(explain(PREPARED, Facts(NOW, untaken={1: NOW + 3})), "j1").waits
    assert (wait.reason, wait.until) == (Reason.STARTING, NOW + 3)
    assert "tried again" in wait.text


def test_order_and_limits_name_what_they_wait_for() -> None:
    found = explain(admitted(job(1), job(2), job(3, 1)), QUIET)
    assert of(found, "j2").waits[0].waits_for == ("j1",)
    assert of(found, "j3").waits[0].waits_for == ("s0",)
    found = explain(admitted(job(1), job(2), parallel=True, parallel_limit=1), QUIET)
    assert (of(found, "j2").waits[0].waits_for, of(found, "j2").waits[0].limit) == (("j1",), 1)


@pytest.mark.parametrize(
    ("openers", "text", "people"),
    [
        (StageExecutors((("ann", "Ann"),)), "Ann must start stage s0 by hand", (Person("ann", "Ann"),)),
        (StageExecutors(everybody=True), "somebody who may run the workflow must start stage s0 by hand", ()),
        (StageExecutors(), "a system administrator must start stage s0 by hand", ()),
    ],
)
def test_who_may_start_a_stage_by_hand(openers: StageExecutors, text: str, people: tuple[Person, ...]) -> None:
    task = replace(a_task(job(1)), status=TaskStatus.PAUSE, stages=(StageTask("s0", False, StageStatus.PAUSE),))
    (wait,) = of(explain(task, Facts(NOW, openers={0: openers})), "j1").waits
    assert (wait.text, wait.people) == (text, people)


def test_every_word_has_a_meaning_and_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    assert {*MEANING} == {*Reason}
    for reason, meaning in MEANING.items():
        assert f"| `{reason}` | {meaning} |\n" in page
    assert "`ticket_window` is reserved" in page


def test_a_closed_approval_asks_nobody() -> None:
    closed = replace(ASK_STAGE, status=ApprovalStatus.APPROVED, votes=(Vote("ann", "Ann", True, "", 1.0),))
    task = replace(
        a_task(job(1), approvals=(closed,)), status=TaskStatus.RUNNING, slot=Slot.HELD,
        stages=(StageTask("s0", False, StageStatus.RUNNING),), jobs=(job(1, status=JobStatus.RUNNING),),
    )  # fmt: skip
    assert reasons(explain(task, QUIET)) == {"": [], "j1": []}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(Policy), st.lists(st.one_of([made(kind) for kind in EVENTS.values()]), max_size=40))
def test_whatever_happens_what_does_not_run_has_a_reason(policy: Policy, news: list[ev.Event]) -> None:
    """And what runs has none; a task that is not over and runs nothing is never without one."""
    task = hear(any_task(policy), ev.Admitted(1.0))
    for event in news:
        present = task.job(getattr(event, "job_id", 0))
        if present is not None and hasattr(event, "attempt"):
            event = replace(event, attempt=present.attempt or event.attempt)
        with suppress(CadorError):
            task, _ = advance(task, replace(event, at=2.0))
    waiting = task.status is TaskStatus.WAITING or task.slot is Slot.WANTED
    found = explain(task, queued("global_limit", OTHER) if waiting else QUIET)
    for told, one in zip(found.jobs, task.jobs, strict=True):
        assert bool(told.waits) == (one.status is not JobStatus.RUNNING), (task, told)
    runs = any(one.status is JobStatus.RUNNING for one in task.jobs)
    cancelling = task.status is TaskStatus.CANCELLING
    assert bool(found.waits) == (cancelling or waiting or not runs), (task, found.waits)
