"""The time of a whole task: whatever it does when its time is up, it goes down and ends ``timeout``."""

from dataclasses import replace

import pytest

from cador.domain import events as ev
from cador.domain.commands import Forget, Start, Stop, Tell, WatchTask
from cador.domain.errors import WrongStatus
from cador.domain.task import ApprovalStatus, JobKind, Policy, Slot, TaskStatus
from domain.test_task_machine import Dialogue, a_task, admitted, an_approval, job

HOUR = 3600.0


def test_the_time_of_a_task_begins_when_it_starts():
    d = Dialogue(a_task(job(1), timeout_s=HOUR))
    d.say(ev.Admitted)
    assert d.said(WatchTask) == [WatchTask(0, d.at + HOUR)]
    assert not admitted(job(1)).said(WatchTask), "no limit, no timer"


def test_what_runs_is_stopped_and_nothing_begins():
    d = admitted(job(1), job(2, policy=Policy.RETRY, maximum_retry=3), job(3), parallel=True, parallel_limit=2,
                 timeout_s=HOUR)  # fmt: skip
    d.start(1).start(2)
    d.say(ev.TaskExpired, round=0)
    assert (d.task.status, d.task.slot) == (TaskStatus.EXPIRING, Slot.HELD)
    assert d.said(Stop) == [Stop(1, 1, 0, "timeout"), Stop(2, 1, 0, "timeout")]
    d.end(1)
    assert not d.said(Start)
    d.end(2, ev.Result.TIMEOUT)
    assert d.jobs() == ["passed", "timeout", ""], "what ended by itself keeps its result; no policy repeats it"
    assert d.task.jobs[1].error == "the time of the task was up"
    assert (d.stages(), d.task.status, d.task.slot) == (["timeout"], TaskStatus.TIMEOUT, Slot.NONE)
    assert d.task.error == "task timed out after 60 minutes"
    assert d.said(Tell) == [Tell("timeout", 0)]


def test_its_time_goes_on_while_people_are_asked():
    d = admitted(job(1), approvals=(an_approval(),), timeout_s=HOUR)
    d.say(ev.TaskExpired, round=0)
    assert (d.stages(), d.jobs(), d.task.status) == (["timeout"], [""], TaskStatus.TIMEOUT)
    assert d.task.approvals[0].status is ApprovalStatus.TIMEOUT
    assert Forget("approval:1:1") in d.commands
    with pytest.raises(WrongStatus):
        d.say(ev.Voted, approval_id=1, user_id="ann", user_name="Ann", approve=True, comment="")


@pytest.mark.parametrize("policy", [Policy.RETRY, Policy.MANUAL])
def test_a_job_between_two_attempts_or_before_a_decision_times_out(policy):
    d = admitted(job(1, policy=policy, maximum_retry=1), timeout_s=HOUR).run(1, ev.Result.FAILED, "flaky")
    d.say(ev.TaskExpired, round=0)
    assert (d.jobs(), d.task.status) == (["timeout"], TaskStatus.TIMEOUT)
    before = d.task
    d.say(ev.RetryPauseOver, job_id=1, attempt=1)
    assert d.task == before


def test_an_approval_job_and_a_wish_for_a_slot_end_with_it():
    jobs = (job(1, kind=JobKind.APPROVAL), job(2, stage=1))
    d = admitted(*jobs, approvals=(an_approval(job_id=1),), timeout_s=HOUR)
    wanting = Dialogue(d.task).say(ev.Voted, approval_id=1, user_id="ann", user_name="Ann", approve=True, comment="")
    assert wanting.task.slot is Slot.WANTED
    wanting.say(ev.TaskExpired, round=0)
    assert (wanting.stages(), wanting.task.status) == (["passed", "timeout"], TaskStatus.TIMEOUT)
    d.say(ev.TaskExpired, round=0)
    assert (d.jobs(), d.stages(), d.task.status) == (["timeout", ""], ["timeout", ""], TaskStatus.TIMEOUT)


def test_a_task_that_ended_forgets_its_time():
    for d in (
        admitted(job(1), timeout_s=HOUR).run(1),
        admitted(job(1), timeout_s=HOUR).run(1, ev.Result.FAILED),
        Dialogue(a_task(job(1), timeout_s=HOUR)).say(ev.CancelRequested, user_id="ann", user_name="Ann"),
    ):
        assert Forget("task-timeout:0") in d.commands
        before = d.task
        d.say(ev.TaskExpired, round=0)
        assert d.task == before


def test_each_retry_has_its_own_time():
    d = admitted(job(1), timeout_s=HOUR).run(1, ev.Result.FAILED)
    d.say(ev.RetryRequested, user_id="ann", user_name="Ann").say(ev.Admitted)
    assert d.said(WatchTask) == [WatchTask(1, d.at + HOUR)]
    d.say(ev.TaskExpired, round=0)
    assert d.task.status is TaskStatus.RUNNING, "the timer of an earlier round is of no effect"
    d.say(ev.TaskExpired, round=1)
    assert d.task.status is TaskStatus.EXPIRING


def test_a_cancel_while_it_goes_down_wins():
    d = admitted(job(1), timeout_s=HOUR).start(1).say(ev.TaskExpired, round=0)
    with pytest.raises(WrongStatus):
        d.say(ev.RetryRequested, user_id="ann", user_name="Ann")
    d.say(ev.CancelRequested, user_id="ann", user_name="Ann")
    assert d.said(Stop) == [Stop(1, 1, 0, "cancel")], "clean-up steps of a time-out are not waited for"
    d.end(1, ev.Result.CANCELLED)
    assert (d.task.status, d.task.revoker, d.said(Tell)) == (TaskStatus.CANCELLED, "Ann", [Tell("cancelled", 0)])


def test_a_cancelled_task_does_not_expire():
    d = admitted(job(1), timeout_s=HOUR).start(1).say(ev.CancelRequested, user_id="ann", user_name="Ann")
    d.say(ev.TaskExpired, round=0)
    assert d.task.status is TaskStatus.CANCELLING


def test_a_job_that_was_not_to_run_times_out_like_the_others():
    d = admitted(job(1), timeout_s=HOUR).say(ev.TaskExpired, round=0).say(ev.JobSkipped, job_id=1, attempt=1)
    assert (d.jobs(), d.task.status) == (["timeout"], TaskStatus.TIMEOUT)


def test_a_lost_job_is_not_repeated_when_the_time_is_up():
    d = admitted(job(1), timeout_s=HOUR).start(1).say(ev.TaskExpired, round=0).end(1, ev.Result.LOST)
    assert (d.jobs(), d.task.status, d.said(Start)) == (["timeout"], TaskStatus.TIMEOUT, [])


def test_a_pause_before_a_manual_stage_is_part_of_the_time():
    task = a_task(job(1), job(2, stage=1), timeout_s=HOUR)
    first, second = task.stages
    d = Dialogue(replace(task, stages=(first, replace(second, manual="{}")))).say(ev.Admitted)
    begun = d.at
    d.run(1)
    assert (d.task.status, d.stages()) == (TaskStatus.PAUSE, ["passed", "pause"])
    executed = Dialogue(d.task).say(ev.StageExecuted, stage=1, user_id="ann", user_name="Ann")
    executed.say(ev.Admitted)
    again = executed.said(WatchTask)
    assert [timer.key for timer in again] == [WatchTask(0, begun + HOUR).key], "stored once, the first one stays"
    executed.say(ev.TaskExpired, round=0)
    assert executed.task.status is TaskStatus.EXPIRING
    d.say(ev.TaskExpired, round=0)
    assert (d.stages(), d.jobs(), d.task.status) == (["passed", "timeout"], ["passed", ""], TaskStatus.TIMEOUT)


def test_a_task_whose_turn_does_not_come_again_expires():
    task = a_task(job(1), timeout_s=HOUR)
    d = Dialogue(replace(task, stages=(replace(task.stages[0], manual="{}"),))).say(ev.Admitted)
    d.say(ev.StageExecuted, stage=0, user_id="ann", user_name="Ann")
    assert d.task.status is TaskStatus.WAITING
    d.say(ev.TaskExpired, round=0)
    assert (d.task.status, d.task.slot, d.said(Tell)) == (TaskStatus.TIMEOUT, Slot.NONE, [Tell("timeout", 0)])


def test_what_was_stopped_before_it_began_times_out_as_well():
    """Its start was with a server that died: it comes to its end as stopped, and says no more."""
    d = admitted(job(1), timeout_s=HOUR).say(ev.TaskExpired, round=0).start(1).end(1, ev.Result.CANCELLED)
    assert (d.jobs(), d.task.jobs[0].error) == (["timeout"], "the time of the task was up")
    assert (d.stages(), d.task.status) == (["timeout"], TaskStatus.TIMEOUT)
