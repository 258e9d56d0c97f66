"""Retry: of everything, of single jobs, from a job on; when it may be asked for, and what it leaves alone."""

import pytest

from cador.domain import events as ev
from cador.domain.commands import Admit, Start, Tell
from cador.domain.errors import WrongStatus
from cador.domain.retrying import wish_of
from cador.domain.task import ApprovalStatus, JobKind, JobStatus, Policy, Slot, TaskStatus
from domain.test_task_machine import Dialogue, a_task, admitted, an_approval, job


def retry(d: Dialogue, **choice) -> Dialogue:
    return d.say(ev.RetryRequested, user_id="ann", user_name="Ann", **choice)


def vote(d: Dialogue, approval: int = 1, *, yes: bool = True, by: str = "ann") -> Dialogue:
    return d.say(ev.Voted, approval_id=approval, user_id=by, user_name=by.title(), approve=yes, comment="")


def cancel(d: Dialogue) -> Dialogue:
    return d.say(ev.CancelRequested, user_id="ann", user_name="Ann")


def ended_as(status: str) -> Dialogue:
    """A task of two parallel jobs and one behind them: the first passed, the second came to *status*."""
    jobs = (job(1), job(2, kind=JobKind.APPROVAL), job(3, stage=1))
    if status == "reject":
        return vote(admitted(*jobs, parallel=True, approvals=(an_approval(job_id=2),)).run(1), yes=False)
    d = admitted(job(1), job(2), job(3, stage=1), parallel=True).run(1)
    if status == "cancelled":
        return cancel(d.start(2)).end(2, ev.Result.CANCELLED)
    if status == "passed":
        return d.run(2).run(3)
    return d.run(2, ev.Result.FAILED if status == "failed" else ev.Result.TIMEOUT)


@pytest.mark.parametrize("choice", [{}, {"jobs": (2,)}, {"from_job": 1}])
@pytest.mark.parametrize(
    ("status", "allowed"),
    [("failed", True), ("timeout", True), ("cancelled", True), ("reject", True), ("passed", False)],
)
def test_what_may_be_retried_after_each_end(status: str, allowed: bool, choice: dict) -> None:
    d = ended_as(status)
    assert d.task.status == status
    before = d.task
    if not allowed:
        with pytest.raises(WrongStatus):
            retry(d, **choice)
        assert d.task == before
        return
    retry(d, **choice)
    again = ["", "", ""] if "from_job" in choice else ["passed", "", ""]
    assert (d.task.status, d.jobs(), d.stages()) == (TaskStatus.WAITING, again, ["", ""])
    assert (d.task.retry_num, d.task.create_at) == (1, before.create_at)
    assert (d.task.start_at, d.task.end_at, d.task.error, d.task.revoker) == (None, None, "", "")
    assert (d.said(Tell), d.said(Admit)) == ([Tell("created", 1)], [Admit()])


@pytest.mark.parametrize("status", ["waiting", "running", "pause"])
def test_what_has_not_ended_is_not_retried(status: str) -> None:
    d = Dialogue(a_task(job(1), job(2, stage=1), manual={1: "anybody"}))
    if status != "waiting":
        d.say(ev.Admitted)
    if status == "pause":
        d.run(1)
    assert d.task.status == status
    for choice in ({}, {"jobs": (1,)}, {"from_job": 1}):
        with pytest.raises(WrongStatus):
            retry(d, **choice)


def test_of_several_failures_one_is_run_again():
    d = admitted(job(1), job(2), job(3), parallel=True)
    d.run(1, ev.Result.FAILED).run(2, ev.Result.TIMEOUT).run(3)
    retry(d, jobs=(1,)).say(ev.Admitted)
    assert (d.jobs(), d.said(Start)) == (["prepare", "timeout", "passed"], [Start(1, 2, 0)])
    d.run(1)
    assert (d.task.status, d.jobs()) == (TaskStatus.TIMEOUT, ["passed", "timeout", "passed"])
    retry(d).say(ev.Admitted).run(2)
    assert d.task.status is TaskStatus.PASSED


def test_what_waited_behind_a_failure_follows_its_repetition():
    d = admitted(job(1), job(2), job(3), job(4, stage=1)).run(1).run(2, ev.Result.FAILED)
    retry(d, jobs=(2,)).say(ev.Admitted)
    assert d.said(Start) == [Start(2, 2, 0)]
    d.run(2).run(3).run(4)
    assert (d.task.status, [j.attempt for j in d.task.jobs]) == (TaskStatus.PASSED, [1, 2, 1, 1])


def test_from_a_job_on_runs_what_passed_once_more():
    d = admitted(job(1), job(2), job(3, stage=1), job(4, stage=2)).run(1).run(2).run(3).run(4, ev.Result.FAILED)
    kept = d.task.jobs[0]
    retry(d, from_job=2)
    assert d.jobs() == ["passed", "", "", ""]
    assert d.task.jobs[0] == kept
    d.say(ev.Admitted).run(2).run(3).run(4)
    assert (d.task.status, [j.attempt for j in d.task.jobs]) == (TaskStatus.PASSED, [1, 2, 2, 2])


def test_from_a_job_of_a_parallel_stage_leaves_those_beside_it_that_passed():
    d = admitted(job(1), job(2), job(3), job(4, stage=1), parallel=True)
    d.run(1).run(2).run(3, ev.Result.FAILED)
    retry(d, from_job=1)
    assert d.jobs() == ["", "passed", "", ""], "what failed beside it runs again: nothing could follow otherwise"


def test_ignored_failures_and_skipped_jobs_run_again_from_a_job_on():
    d = admitted(job(1, policy=Policy.IGNORE), job(2), job(3, stage=1)).run(1, ev.Result.FAILED)
    d.say(ev.JobSkipped, job_id=2, attempt=1).run(3, ev.Result.FAILED)
    assert d.jobs() == ["unstable", "skipped", "failed"]
    assert retry(d, from_job=1).jobs() == ["", "", ""]


def test_people_are_asked_again_behind_the_job_it_begins_from():
    approvals = (an_approval(1, stage=0), an_approval(2, stage=1), an_approval(3, stage=1, job_id=3))
    d = admitted(job(1), job(2, stage=1), job(3, stage=1, kind=JobKind.APPROVAL), job(4, stage=2), approvals=approvals)
    vote(d, 1).say(ev.Admitted).run(1)
    vote(d, 2).say(ev.Admitted).run(2)
    vote(d, 3).say(ev.Admitted).run(4, ev.Result.FAILED)
    retry(d, from_job=1)
    assert [a.status for a in d.task.approvals] == [ApprovalStatus.APPROVED, ApprovalStatus.IDLE, ApprovalStatus.IDLE]
    d.say(ev.Admitted).run(1)
    assert d.stages() == ["passed", "wait_for_approval", ""]
    assert (d.task.approvals[1].round, d.task.approvals[1].votes) == (2, ())


def test_single_jobs_leave_the_approvals_of_others_alone():
    jobs = (job(1), job(2, kind=JobKind.APPROVAL), job(3, kind=JobKind.APPROVAL))
    d = admitted(*jobs, parallel=True, approvals=(an_approval(1, job_id=2), an_approval(2, job_id=3)))
    vote(vote(d, 1, yes=False), 2, yes=False).run(1, ev.Result.FAILED)
    retry(d, jobs=(2,))
    assert [a.status for a in d.task.approvals] == [ApprovalStatus.IDLE, ApprovalStatus.REJECTED]


def test_a_failed_job_begins_anew_while_others_run():
    d = admitted(job(1), job(2), job(3, stage=1), parallel=True).start(2).run(1, ev.Result.FAILED, "no")
    beside = d.task.jobs[1]
    retry(d, jobs=(1,))
    assert (d.jobs(), d.said(Start), d.task.jobs[1]) == (["prepare", "running", ""], [Start(1, 2, 0)], beside)
    assert (d.task.retry_num, d.said(Tell), d.task.jobs[0].error) == (0, [], "")
    d.run(1).end(2).run(3)
    assert d.task.status is TaskStatus.PASSED


def test_a_rejected_approval_asks_again_while_others_run():
    d = admitted(job(1), job(2, kind=JobKind.APPROVAL), parallel=True, approvals=(an_approval(job_id=2),)).start(1)
    vote(d, yes=False)
    retry(d, jobs=(2,))
    assert (d.jobs(), d.task.approvals[0].round) == (["running", "wait_for_approval"], 2)


def test_begun_anew_beside_people_it_wants_a_slot():
    d = admitted(job(1), job(2, kind=JobKind.APPROVAL), parallel=True, approvals=(an_approval(job_id=2),))
    d.run(1, ev.Result.FAILED)
    assert d.task.slot is Slot.NONE
    retry(d, jobs=(1,))
    assert (d.task.slot, d.jobs()[0]) == (Slot.WANTED, "")
    d.say(ev.Admitted)
    assert d.said(Start) == [Start(1, 2, 0)]


def test_begun_anew_in_a_full_stage_it_waits_for_room():
    d = admitted(job(1), job(2), job(3), parallel=True, parallel_limit=1).run(1, ev.Result.FAILED).run(2)
    retry(d, jobs=(1,))
    assert (d.jobs(), d.said(Start)) == (["", "passed", "prepare"], [])
    d.run(3)
    assert d.said(Start) == [Start(1, 2, 0)]


@pytest.mark.parametrize("choice", [{"jobs": (2,)}, {"jobs": (3,)}, {"jobs": (9,)}, {"jobs": (1, 2)}, {"from_job": 1}])
def test_while_others_run_only_failed_jobs_are_begun_anew(choice: dict) -> None:
    d = admitted(job(1), job(2), job(3, stage=1), parallel=True).run(1, ev.Result.FAILED).start(2)
    before = d.task
    with pytest.raises(WrongStatus):
        retry(d, **choice)
    assert d.task == before


@pytest.mark.parametrize("choice", [{"jobs": (1,)}, {"jobs": (3,)}, {"from_job": 3}, {"from_job": 9}])
def test_only_what_failed_is_chosen_and_only_what_was_reached_is_begun_from(choice: dict) -> None:
    d = admitted(job(1), job(2), job(3)).run(1).run(2, ev.Result.FAILED)
    with pytest.raises(WrongStatus):
        retry(d, **choice)


@pytest.mark.parametrize(
    ("choice", "after"),
    [({}, ["passed", "", ""]), ({"jobs": (2,)}, ["passed", "", "cancelled"]), ({"from_job": 1}, ["", "", ""])],
)
def test_a_choice_made_while_it_goes_down_is_kept(choice: dict, after: list[str]) -> None:
    d = cancel(admitted(job(1), job(2), job(3), parallel=True).run(1).start(2).start(3))
    retry(d, **choice)
    assert d.task.status is TaskStatus.CANCELLING
    d.end(2, ev.Result.CANCELLED).end(3, ev.Result.CANCELLED)
    assert (d.task.status, d.task.retry_num, d.jobs()) == (TaskStatus.WAITING, 1, after)
    assert d.said(Tell) == [Tell("cancelled", 0), Tell("created", 1)]


def test_what_passed_after_all_while_it_went_down_is_not_run_again():
    d = retry(cancel(admitted(job(1), job(2, stage=1)).start(1)), jobs=(1,)).end(1)
    assert (d.task.status, d.jobs()) == (TaskStatus.WAITING, ["passed", ""])
    d.say(ev.Admitted).run(2)
    assert d.task.status is TaskStatus.PASSED


def test_values_are_not_changed_under_a_job_that_is_being_stopped():
    d = cancel(admitted(job(1)).start(1))
    with pytest.raises(WrongStatus, match="being stopped, cannot change what it runs with"):
        retry(d, changes=(ev.Edit("VERSION", "1", "2"),))


def test_a_wish_stored_by_an_earlier_version_is_a_whole_retry():
    assert (wish_of("Ann").by, wish_of("Ann").jobs, wish_of("Ann").from_job) == ("Ann", (), None)
    assert wish_of('"Ann"').by == '"Ann"'


def test_two_retries_at_once_are_one():
    d = retry(ended_as("failed"))
    with pytest.raises(WrongStatus):
        retry(d)


def test_a_vote_after_the_deadline_does_not_count():
    d = admitted(job(1), approvals=(an_approval(),))
    before = d.task
    due_at = before.approvals[0].start_at + 3600
    with pytest.raises(WrongStatus):
        d.say(ev.Voted, approval_id=1, user_id="ann", user_name="Ann", approve=True, comment="", at=due_at)
    assert d.task == before
    d.say(ev.ApprovalExpired, approval_id=1, round=1, at=due_at + 5)
    assert d.task.status is TaskStatus.TIMEOUT
    in_time = Dialogue(before).say(
        ev.Voted, approval_id=1, user_id="ann", user_name="Ann", approve=True, comment="", at=due_at - 1
    )
    assert in_time.task.approvals[0].status is ApprovalStatus.APPROVED


def test_a_rerun_counts_its_automatic_retries_anew():
    d = admitted(job(1, policy=Policy.RETRY, maximum_retry=1), job(2, stage=1))
    d.run(1, ev.Result.FAILED).say(ev.RetryPauseOver, job_id=1, attempt=1).run(1).run(2, ev.Result.FAILED)
    assert (d.task.jobs[0].status, d.task.jobs[0].retry_count) == (JobStatus.PASSED, 1)
    retry(d, from_job=1)
    assert (d.task.jobs[0].retry_count, d.task.jobs[0].attempt) == (0, 2)
