"""Manual stages, and approvals whose execute policy is asked first."""

import pytest

from cador.domain import events as ev
from cador.domain.commands import Admit, AskPolicy, Start, Tell, WatchApproval
from cador.domain.errors import StageNotExecutable, WrongStatus
from cador.domain.task import ApprovalStatus, JobKind, Slot, TaskStatus
from domain.test_task_machine import Dialogue, admitted, an_approval, job


def paused(*jobs, **fields) -> Dialogue:
    """A task whose first stage passed and whose second waits to be executed."""
    return admitted(job(1), *(jobs or (job(2, stage=1), job(3, stage=2))), manual={1: "anybody"}, **fields).run(1)


def execute(d: Dialogue, stage: int = 1, **fields) -> Dialogue:
    return d.say(ev.StageExecuted, stage=stage, user_id="ann", user_name="Ann", **fields)


def test_on_arrival_it_pauses_and_uses_nothing():
    d = paused()
    assert (d.task.status, d.stages(), d.task.slot, d.task.end_at) == (
        TaskStatus.PAUSE, ["passed", "pause", ""], Slot.NONE, None,
    )  # fmt: skip
    assert d.said(Admit), "its place is free for others"
    assert d.said(Tell) == [Tell("pause:1", 0)]
    assert d.task.stages[1].start_at is None


def test_executed_it_waits_for_its_turn_and_goes_on_there():
    d = paused()
    started, created = d.task.start_at, d.task.create_at
    execute(d)
    assert (d.task.status, d.stages(), d.task.stages[1].executed_by) == (TaskStatus.WAITING, ["passed", "", ""], "Ann")
    assert d.said(Admit)
    d.say(ev.Admitted)
    assert (d.task.status, d.said(Start)) == (TaskStatus.RUNNING, [Start(2, 1, 0)])
    assert (d.task.start_at, d.task.create_at) == (started, created)
    d.run(2).run(3)
    assert d.task.status is TaskStatus.PASSED


def test_only_the_stage_that_waits_is_executed_and_only_once():
    d = paused()
    for stage in (-1, 0, 2, 7):
        with pytest.raises(StageNotExecutable):
            execute(d, stage)
    execute(d)
    with pytest.raises(StageNotExecutable, match=r"^task status does not allow manual execution$"):
        execute(d)


def test_the_first_stage_can_be_manual():
    d = admitted(job(1), manual={0: "anybody"})
    assert (d.task.status, d.said(Start)) == (TaskStatus.PAUSE, [])
    execute(d, 0).say(ev.Admitted).run(1)
    assert d.task.status is TaskStatus.PASSED


def test_an_approval_comes_before_the_pause():
    d = paused(approvals=(an_approval(stage=1),))
    assert (d.task.status, d.stages()[1]) == (TaskStatus.RUNNING, "wait_for_approval")
    d.say(ev.Voted, approval_id=1, user_id="ann", user_name="Ann", approve=True, comment="")
    assert (d.task.status, d.stages()[1]) == (TaskStatus.PAUSE, "pause")
    execute(d).say(ev.Admitted)
    assert d.said(Start) == [Start(2, 1, 0)], "who approved is not asked again"


def test_deselected_jobs_are_skipped():
    d = execute(paused(job(2, stage=1), job(3, stage=1), job(4, stage=2)), skipped=(2, 4))
    assert d.jobs() == ["passed", "skipped", "", ""], "a job of another stage cannot be deselected"
    d.say(ev.Admitted)
    assert d.said(Start) == [Start(3, 1, 0)]


def test_an_approval_that_was_left_out_stays_so_while_its_stage_is_not_executed_again():
    jobs = (job(2, stage=1), job(3, stage=1, kind=JobKind.APPROVAL), job(4, stage=1))
    d = execute(paused(*jobs, approvals=(an_approval(stage=1, job_id=3),)), skipped=(3,))
    d.say(ev.Admitted).run(2).run(4, ev.Result.FAILED)
    d.say(ev.RetryRequested, user_id="ben", user_name="Ben", from_job=2)
    assert d.jobs() == ["passed", "", "skipped", ""]
    d.say(ev.Admitted).run(2).run(4, ev.Result.FAILED)
    d.say(ev.RetryRequested, user_id="ben", user_name="Ben", from_job=1)
    assert d.jobs() == ["", "", "", ""], "executed again, the stage may be executed with it"


def test_with_all_jobs_deselected_the_task_goes_on_behind_the_stage():
    d = execute(paused(), skipped=(2,)).say(ev.Admitted)
    assert (d.stages(), d.said(Start)) == (["passed", "skipped", "running"], [Start(3, 1, 0)])


def test_a_pause_is_cancelled_at_once():
    d = paused()
    d.say(ev.CancelRequested, user_id="ben", user_name="Ben")
    assert (d.task.status, d.stages(), d.task.end_at, d.task.revoker) == (
        TaskStatus.CANCELLED, ["passed", "cancelled", ""], d.at, "Ben",
    )  # fmt: skip
    assert d.said(Tell) == [Tell("cancelled", 0)]
    with pytest.raises(StageNotExecutable):
        execute(d)


def test_a_retry_asks_again_for_what_nobody_executed():
    d = paused().say(ev.CancelRequested, user_id="ben", user_name="Ben")
    d.say(ev.RetryRequested, user_id="ben", user_name="Ben").say(ev.Admitted)
    assert (d.task.status, d.said(Tell)) == (TaskStatus.PAUSE, [Tell("pause:1", 1)])


def test_a_retry_does_not_ask_again_for_an_executed_stage():
    d = execute(paused()).say(ev.Admitted).run(2, ev.Result.FAILED)
    d.say(ev.RetryRequested, user_id="ben", user_name="Ben").say(ev.Admitted)
    assert (d.stages()[1], d.said(Start)) == ("running", [Start(2, 2, 0)])


def test_what_runs_again_before_it_is_executed_again():
    d = execute(paused()).say(ev.Admitted).run(2).run(3, ev.Result.FAILED)
    d.say(ev.RetryRequested, user_id="ben", user_name="Ben", from_job=1).say(ev.Admitted).run(1)
    assert (d.task.status, d.task.stages[1].executed_by) == (TaskStatus.PAUSE, "")


def test_waiting_for_its_turn_behind_a_pause_it_can_be_cancelled():
    d = execute(paused()).say(ev.CancelRequested, user_id="ben", user_name="Ben")
    assert (d.task.status, d.stages()) == (TaskStatus.CANCELLED, ["passed", "", ""])


def asked(**fields) -> Dialogue:
    jobs = (job(1, kind=JobKind.APPROVAL, conditional=True), job(2, stage=1))
    return admitted(*jobs, approvals=(an_approval(job_id=1),), **fields)


def test_a_conditional_approval_asks_its_policy_before_people():
    d = asked()
    assert (d.jobs(), d.said(AskPolicy), d.said(WatchApproval)) == (["wait_for_approval", ""], [AskPolicy(1, 0)], [])
    with pytest.raises(WrongStatus):
        d.say(ev.Voted, approval_id=1, user_id="ann", user_name="Ann", approve=True, comment="")
    d.say(ev.JobAllowed, job_id=1)
    assert (d.task.approvals[0].status, d.said(WatchApproval)) == (
        ApprovalStatus.WAITING, [WatchApproval(1, 1, d.at + 3600)],
    )  # fmt: skip
    before = d.task
    d.say(ev.JobAllowed, job_id=1)
    assert d.task == before, "asked once"
    d.say(ev.JobSkipped, job_id=1, attempt=0)
    assert d.task == before, "late news of the policy is of no effect"


def test_a_policy_that_says_no_skips_the_approval():
    d = asked().say(ev.JobSkipped, job_id=1, attempt=0)
    assert (d.jobs()[0], d.stages()[0], d.task.approvals[0].status) == ("skipped", "skipped", ApprovalStatus.IDLE)
    d.say(ev.Admitted).run(2)
    assert d.task.status is TaskStatus.PASSED


def test_a_cancel_before_the_policy_was_asked():
    d = asked().say(ev.CancelRequested, user_id="ben", user_name="Ben")
    assert (d.task.status, d.jobs()) == (TaskStatus.CANCELLED, ["cancelled", ""])
    before = d.task
    d.say(ev.JobAllowed, job_id=1).say(ev.JobSkipped, job_id=1, attempt=0)
    assert d.task == before


def test_its_policy_is_asked_again_in_another_round():
    d = asked().say(ev.JobAllowed, job_id=1)
    d.say(ev.Voted, approval_id=1, user_id="ann", user_name="Ann", approve=False, comment="")
    d.say(ev.RetryRequested, user_id="ben", user_name="Ben").say(ev.Admitted)
    assert d.said(AskPolicy) == [AskPolicy(1, 1)]
