"""The task machine under any order of news, however late or repeated."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cador.domain import events as ev
from cador.domain.commands import Admit, Start, Stop, Tell, WaitRetry, WatchApproval, WatchDeadline
from cador.domain.errors import NotAnApprover, StageNotExecutable, VotedAlready, WrongStatus
from cador.domain.task import (
    JOB_BUSY,
    JOB_FINAL,
    TASK_FINAL,
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
    WorkflowTask,
)
from cador.domain.task_machine import advance

ANN, BEN, CID = (Approver(uid, uid.title()) for uid in ("ann", "ben", "cid"))


def job(number: int, stage: int = 0, **fields) -> JobTask:
    return JobTask(id=number, name=f"j{number}", kind=fields.pop("kind", JobKind.SANDBOX), stage=stage, **fields)


def a_task(*jobs: JobTask, parallel: bool = False, approvals: tuple[Approval, ...] = (), **fields) -> WorkflowTask:
    count = 1 + max(job.stage for job in jobs)
    manual = fields.pop("manual", {})
    stages = tuple(StageTask(f"s{n}", parallel, manual=manual.get(n, "")) for n in range(count))
    return WorkflowTask(
        id=1, number=7, label="wf:7", status=TaskStatus.WAITING, stages=stages, jobs=jobs, approvals=approvals, **fields
    )


def an_approval(number: int = 1, stage: int = 0, job_id: int | None = None, needed: int = 1, voters=(ANN, BEN, CID)):
    return Approval(number, stage, job_id, needed, tuple(voters), timeout_s=3600)


class Dialogue:
    """Says events to a task and keeps what it answered."""

    def __init__(self, task: WorkflowTask) -> None:
        self.task, self.at, self.commands = task, 1000.0, ()

    def say(self, kind, **fields):
        self.at += 1
        self.task, self.commands = advance(self.task, kind(at=fields.pop("at", self.at), **fields))
        return self

    def start(self, number: int):
        job = self.task.job(number)
        return self.say(ev.JobStarted, job_id=number, attempt=job.attempt, recovery=job.recovery)

    def end(self, number: int, result: ev.Result = ev.Result.PASSED, error: str = "", at: float | None = None):
        job = self.task.job(number)
        more = {} if at is None else {"at": at}
        return self.say(
            ev.JobEnded, job_id=number, attempt=job.attempt, recovery=job.recovery, result=result, error=error, **more
        )

    def run(self, number: int, result: ev.Result = ev.Result.PASSED, error: str = ""):
        return self.start(number).end(number, result, error)

    def jobs(self) -> list[str]:
        return [str(job.status) for job in self.task.jobs]

    def stages(self) -> list[str]:
        return [str(stage.status) for stage in self.task.stages]

    def said(self, kind) -> list:
        return [command for command in self.commands if isinstance(command, kind)]


def admitted(*jobs: JobTask, **fields) -> Dialogue:
    return Dialogue(a_task(*jobs, **fields)).say(ev.Admitted)


def test_what_follows_never_begins_before_what_it_waited_for():
    """Two ends are heard in the other order than they came about: the next stage begins after both."""
    said = admitted(job(1), job(2), job(3, stage=1), parallel=True).start(1).start(2)
    said.end(1, at=1020.0).end(2, at=1010.0)
    assert said.task.stages[0].end_at == 1020.0
    assert said.task.job(3).start_at == 1020.0


def test_serial_stage_stops_at_the_first_failure():
    d = admitted(job(1), job(2), job(3), job(4, stage=1))
    assert [c.job_id for c in d.said(Start)] == [1]
    d.run(1)
    assert [c.job_id for c in d.said(Start)] == [2]
    d.run(2, ev.Result.FAILED, "exit status 1")
    assert d.jobs() == ["passed", "failed", "", ""]
    assert d.stages() == ["failed", ""]
    assert d.task.status is TaskStatus.FAILED
    assert d.task.error == "job j2: exit status 1"
    assert d.said(Tell) == [Tell("failed", 0)]
    assert d.said(Admit)


def test_parallel_stage_waits_for_all_and_counts_the_worst():
    d = admitted(job(1), job(2), job(3), parallel=True)
    assert len(d.said(Start)) == 3
    for number in (1, 2, 3):
        d.start(number)
    d.end(2, ev.Result.FAILED)
    assert d.task.status is TaskStatus.RUNNING
    d.end(1)
    d.end(3, ev.Result.TIMEOUT)
    assert d.jobs() == ["passed", "failed", "timeout"]
    assert d.stages() == ["timeout"]
    assert d.task.status is TaskStatus.TIMEOUT


def test_a_stage_starts_no_more_jobs_than_its_limit():
    d = admitted(*(job(n) for n in range(1, 8)), parallel=True, parallel_limit=2)
    assert [c.job_id for c in d.said(Start)] == [1, 2]
    d.run(2)
    assert [c.job_id for c in d.said(Start)] == [3]


def test_ignored_failure_lets_the_task_go_on():
    d = admitted(job(1, policy=Policy.IGNORE), job(2, stage=1)).run(1, ev.Result.FAILED, "no")
    assert d.jobs() == ["unstable", "prepare"]
    d.run(2)
    assert d.stages() == ["unstable", "passed"]
    assert d.task.status is TaskStatus.PASSED


def test_automatic_retries_pause_and_count():
    d = admitted(job(1, policy=Policy.RETRY, maximum_retry=2))
    for attempt in (1, 2):
        d.run(1, ev.Result.FAILED, "flaky")
        assert d.said(WaitRetry) == [WaitRetry(1, attempt, d.at + 10)]
        d.say(ev.RetryPauseOver, job_id=1, attempt=attempt)
        assert d.said(Start) == [Start(1, attempt + 1, 0)]
    d.run(1)
    assert (d.task.jobs[0].status, d.task.jobs[0].retry_count, d.task.jobs[0].error) == (JobStatus.PASSED, 2, "")


def test_manual_check_waits_for_a_decision():
    d = admitted(job(1, policy=Policy.MANUAL), job(2, stage=1)).run(1, ev.Result.TIMEOUT)
    assert d.jobs() == ["wait_for_manual_error_handling", ""]
    assert d.task.slot is Slot.NONE
    d.say(ev.Decided, job_id=1, ignore=True, user_id="ann", user_name="Ann")
    assert d.task.jobs[0].status is JobStatus.UNSTABLE
    assert d.task.slot is Slot.WANTED
    d.say(ev.Admitted)
    assert d.jobs() == ["unstable", "prepare"]


def test_a_decision_before_the_failure_is_refused():
    d = admitted(job(1, policy=Policy.MANUAL))
    with pytest.raises(WrongStatus):
        d.say(ev.Decided, job_id=1, ignore=True, user_id="ann", user_name="Ann")


def test_lost_execution_is_repeated_once():
    d = admitted(job(1)).start(1)
    stale = (d.task.jobs[0].attempt, d.task.jobs[0].recovery)
    d.end(1, ev.Result.LOST)
    assert d.said(Start) == [Start(1, 1, 1)]
    d.say(ev.JobEnded, job_id=1, attempt=stale[0], recovery=stale[1], result=ev.Result.PASSED)
    assert d.jobs() == ["prepare"], "news of the lost execution is of no effect"
    d.start(1).end(1, ev.Result.LOST)
    assert d.jobs() == ["failed"]
    assert d.task.jobs[0].error == "interrupted by server restart"


def test_what_is_lost_for_a_reason_is_not_repeated():
    d = admitted(job(1)).start(1).end(1, ev.Result.LOST, "its end was lost")
    assert (d.jobs(), d.task.jobs[0].error, d.said(Start)) == (["failed"], "its end was lost", [])


def test_what_is_not_repeatable_fails_when_it_is_lost():
    d = admitted(job(1, repeatable=False)).start(1).end(1, ev.Result.LOST)
    assert d.jobs() == ["failed"]


def test_a_deadline_stops_the_job_and_its_end_is_a_timeout():
    d = admitted(job(1, timeout_s=60)).start(1)
    assert d.said(WatchDeadline) == [WatchDeadline(1, 1, d.at + 60)]
    d.say(ev.DeadlinePassed, job_id=1, attempt=1)
    assert d.said(Stop) == [Stop(1, 1, 0, "timeout")]
    d.end(1, ev.Result.TIMEOUT)
    assert d.jobs() == ["timeout"]
    assert d.task.jobs[0].error == "job timed out after 1 minutes"


def test_an_end_heard_late_is_judged_by_when_it_was():
    started = admitted(job(1, timeout_s=60)).start(1)
    deadline = started.task.jobs[0].deadline_at
    in_time = Dialogue(started.task).end(1, at=deadline - 1)
    assert in_time.jobs() == ["passed"]
    too_late = Dialogue(started.task).end(1, at=deadline + 1)
    assert too_late.jobs() == ["timeout"]


def test_cancel_stops_what_runs_and_ends_once_all_is_down():
    d = admitted(job(1), job(2), job(3, stage=1), parallel=True, parallel_limit=1).start(1)
    d.say(ev.CancelRequested, user_id="ann", user_name="Ann")
    assert d.task.status is TaskStatus.CANCELLING
    assert d.said(Stop) == [Stop(1, 1, 0, "cancel")]
    assert not d.said(Tell)
    d.end(1, ev.Result.CANCELLED)
    assert d.jobs() == ["cancelled", "", ""]
    assert d.stages() == ["cancelled", ""]
    assert (d.task.status, d.task.revoker) == (TaskStatus.CANCELLED, "Ann")
    assert d.said(Tell) == [Tell("cancelled", 0)]


def test_a_job_that_finished_meanwhile_keeps_its_result():
    d = admitted(job(1)).start(1).say(ev.CancelRequested, user_id="ann", user_name="Ann").end(1)
    assert d.jobs() == ["passed"]
    assert d.task.status is TaskStatus.CANCELLED


def test_cancel_of_a_waiting_task_is_final_at_once():
    d = Dialogue(a_task(job(1))).say(ev.CancelRequested, user_id="ann", user_name="Ann")
    assert (d.task.status, d.task.start_at, d.task.end_at) == (TaskStatus.CANCELLED, None, d.at)
    before = d.task
    d.say(ev.CancelRequested, user_id="ben", user_name="Ben")
    assert d.task == before


def test_cancel_of_a_passed_task_is_refused():
    d = admitted(job(1)).run(1)
    with pytest.raises(WrongStatus, match=r"^task: wf:7 is passed, cannot cancel$"):
        d.say(ev.CancelRequested, user_id="ann", user_name="Ann")


def test_retry_keeps_what_passed():
    d = admitted(job(1), job(2, stage=1)).run(1).run(2, ev.Result.FAILED)
    kept = d.task.jobs[0]
    d.say(ev.RetryRequested, user_id="ann", user_name="Ann")
    assert (d.task.status, d.task.retry_num, d.task.end_at) == (TaskStatus.WAITING, 1, None)
    assert d.task.jobs[0] == kept
    d.say(ev.Admitted)
    assert d.said(Start) == [Start(2, 2, 0)]
    d.run(2)
    assert d.task.status is TaskStatus.PASSED
    with pytest.raises(WrongStatus):
        d.say(ev.RetryRequested, user_id="ann", user_name="Ann")


def test_retry_while_going_down_begins_when_all_is_over():
    d = admitted(job(1)).start(1).say(ev.CancelRequested, user_id="ann", user_name="Ann")
    d.say(ev.RetryRequested, user_id="ann", user_name="Ann")
    assert d.task.status is TaskStatus.CANCELLING
    with pytest.raises(WrongStatus):
        d.say(ev.RetryRequested, user_id="ben", user_name="Ben")
    d.end(1, ev.Result.CANCELLED)
    assert (d.task.status, d.task.retry_num) == (TaskStatus.WAITING, 1)
    assert d.said(Tell) == [Tell("cancelled", 0), Tell("created", 1)]


def test_stage_approval_gives_the_slot_back_and_wants_a_new_one():
    d = admitted(job(1), job(2, stage=1), approvals=(an_approval(stage=1, needed=2),)).run(1)
    assert d.stages() == ["passed", "wait_for_approval"]
    assert d.task.slot is Slot.NONE
    assert d.said(WatchApproval) == [WatchApproval(1, 1, d.at + 3600)]
    d.say(ev.Voted, approval_id=1, user_id="ann", user_name="Ann", approve=True, comment="")
    with pytest.raises(VotedAlready, match=r"^Ann have approve already$"):
        d.say(ev.Voted, approval_id=1, user_id="ann", user_name="Ann", approve=False, comment="")
    with pytest.raises(NotAnApprover, match=r"^user Eve has no authority to approve$"):
        d.say(ev.Voted, approval_id=1, user_id="eve", user_name="Eve", approve=True, comment="")
    d.say(ev.Voted, approval_id=1, user_id="ben", user_name="Ben", approve=True, comment="go")
    assert (d.stages(), d.task.slot) == (["passed", "running"], Slot.WANTED)
    assert not d.said(Start)
    d.say(ev.Admitted)
    assert d.said(Start) == [Start(2, 1, 0)]
    with pytest.raises(WrongStatus):
        d.say(ev.Voted, approval_id=1, user_id="cid", user_name="Cid", approve=True, comment="")


def test_one_rejection_ends_it_and_a_retry_asks_again():
    d = admitted(job(1), approvals=(an_approval(needed=2),))
    d.say(ev.Voted, approval_id=1, user_id="ann", user_name="Ann", approve=True, comment="")
    d.say(ev.Voted, approval_id=1, user_id="ben", user_name="Ben", approve=False, comment="no")
    assert (d.stages(), d.jobs(), d.task.status) == (["reject"], [""], TaskStatus.REJECT)
    assert d.task.stages[0].error == "Ben reject this task"
    d.say(ev.RetryRequested, user_id="ann", user_name="Ann").say(ev.Admitted)
    approval = d.task.approvals[0]
    assert (approval.status, approval.round, approval.votes) == (ApprovalStatus.WAITING, 2, ())
    d.say(ev.ApprovalExpired, approval_id=1, round=1)
    assert d.task.approvals[0].status is ApprovalStatus.WAITING, "the timer of an earlier round is of no effect"


def test_approval_job_times_out():
    d = admitted(job(1, kind=JobKind.APPROVAL), approvals=(an_approval(job_id=1),))
    assert d.jobs() == ["wait_for_approval"]
    d.say(ev.ApprovalExpired, approval_id=1, round=1)
    assert (d.jobs(), d.task.status, d.task.jobs[0].error) == (["timeout"], TaskStatus.TIMEOUT, "workflow timeout")


def test_reject_beside_failure_fails_the_stage():
    jobs = (job(1, kind=JobKind.APPROVAL), job(2))
    d = admitted(*jobs, parallel=True, approvals=(an_approval(job_id=1),)).run(2, ev.Result.FAILED)
    d.say(ev.Voted, approval_id=1, user_id="ann", user_name="Ann", approve=False, comment="")
    assert (d.jobs(), d.stages(), d.task.status) == (["reject", "failed"], ["failed"], TaskStatus.FAILED)


class AnyOrder(RuleBasedStateMachine):
    """Whatever is said in whatever order: what is final stays, what is counted stays in its bounds."""

    @initialize(
        parallel=st.booleans(),
        policies=st.lists(st.sampled_from(list(Policy)), min_size=3, max_size=3),
        asks=st.booleans(),
        conditional=st.booleans(),
        manual=st.sampled_from([{}, {0: "anybody"}, {1: "anybody"}]),
        limit=st.integers(1, 3),
    )
    def make(
        self, parallel: bool, policies: list[Policy], asks: bool, conditional: bool, manual: dict[int, str], limit: int
    ) -> None:
        jobs = (
            job(1, policy=policies[0], maximum_retry=1),
            job(2, policy=policies[1], maximum_retry=2),
            job(3, policy=policies[2], kind=JobKind.APPROVAL, conditional=conditional),
            job(4, stage=1),
            job(5, stage=1),
        )
        approvals = (an_approval(1, job_id=3), *((an_approval(2, stage=1, needed=2),) if asks else ()))
        fields = {"parallel": parallel, "parallel_limit": limit, "manual": manual}
        self.d = Dialogue(a_task(*jobs, approvals=approvals, timeout_s=3600, **fields))
        self.ends: dict[int, int] = {}
        self.running: set[tuple[int, int, int]] = set()

    def hear(self, kind, **fields) -> None:
        before = self.d.task
        try:
            self.d.say(kind, **fields)
        except (WrongStatus, NotAnApprover, VotedAlready, StageNotExecutable):
            assert self.d.task == before
            return
        for command in self.d.said(Start):
            execution = (command.job_id, command.attempt, command.recovery)
            assert execution not in self.running, "no execution is started twice"
            self.running.add(execution)
        for command in self.d.said(Tell):
            if command.what in {str(status) for status in TASK_FINAL}:
                self.ends[command.round] = self.ends.get(command.round, 0) + 1
        if before.final and not isinstance(kind, ev.RetryRequested) and self.d.task.final:
            assert self.d.task.status is before.status

    @rule()
    def admit(self) -> None:
        self.hear(ev.Admitted)

    @rule(number=st.integers(1, 5), old=st.integers(0, 1))
    def started(self, number: int, old: int) -> None:
        job = self.d.task.job(number)
        self.hear(ev.JobStarted, job_id=number, attempt=job.attempt - old, recovery=job.recovery)

    @rule(number=st.integers(1, 5), old=st.integers(0, 1), result=st.sampled_from(list(ev.Result)))
    def ended(self, number: int, old: int, result: ev.Result) -> None:
        job = self.d.task.job(number)
        self.hear(ev.JobEnded, job_id=number, attempt=job.attempt - old, recovery=job.recovery, result=result)

    @rule(number=st.integers(1, 5))
    def skipped(self, number: int) -> None:
        self.hear(ev.JobSkipped, job_id=number, attempt=self.d.task.job(number).attempt)

    @rule(number=st.integers(1, 5))
    def deadline(self, number: int) -> None:
        self.hear(ev.DeadlinePassed, job_id=number, attempt=self.d.task.job(number).attempt)

    @rule(number=st.integers(1, 5))
    def pause_over(self, number: int) -> None:
        self.hear(ev.RetryPauseOver, job_id=number, attempt=self.d.task.job(number).attempt)

    @rule(number=st.integers(1, 5), ignore=st.booleans())
    def decided(self, number: int, ignore: bool) -> None:
        self.hear(ev.Decided, job_id=number, ignore=ignore, user_id="ann", user_name="Ann")

    @rule(number=st.integers(1, 2), who=st.sampled_from(["ann", "ben", "eve"]), yes=st.booleans())
    def voted(self, number: int, who: str, yes: bool) -> None:
        self.hear(ev.Voted, approval_id=number, user_id=who, user_name=who.title(), approve=yes, comment="")

    @rule(number=st.integers(1, 2), turn=st.integers(1, 2))
    def expired(self, number: int, turn: int) -> None:
        self.hear(ev.ApprovalExpired, approval_id=number, round=turn)

    @rule(turn=st.integers(0, 1))
    def time_is_up(self, turn: int) -> None:
        self.hear(ev.TaskExpired, round=turn)

    @rule()
    def cancel(self) -> None:
        self.hear(ev.CancelRequested, user_id="ann", user_name="Ann")

    @rule(jobs=st.lists(st.integers(1, 5), max_size=2), first=st.none() | st.integers(1, 5))
    def retry(self, jobs: list[int], first: int | None) -> None:
        before = self.d.task
        choice = {"from_job": first} if first is not None else {"jobs": tuple(jobs)}
        self.hear(ev.RetryRequested, user_id="ann", user_name="Ann", **choice)
        after = self.d.task
        if after == before:
            return
        again = {j.id for j, old in zip(after.jobs, before.jobs, strict=True) if j != old}
        if jobs and first is None:
            assert again <= set(jobs), "nothing else is touched"
        if before.status is TaskStatus.RUNNING:
            assert after.retry_num == before.retry_num
        elif before.final:
            assert (after.status, after.retry_num) == (TaskStatus.WAITING, before.retry_num + 1)
            assert first is None or after.job(first).status is JobStatus.IDLE
        for stage, old in zip(after.stages, before.stages, strict=True):
            assert first is not None or stage.executed_by == old.executed_by, "an executed stage is not asked again"

    @rule(stage=st.integers(0, 1), skipped=st.lists(st.integers(1, 5), max_size=1))
    def executed(self, stage: int, skipped: list[int]) -> None:
        self.hear(ev.StageExecuted, stage=stage, user_id="ann", user_name="Ann", skipped=tuple(skipped))

    @rule()
    def allowed(self) -> None:
        self.hear(ev.JobAllowed, job_id=3)

    @invariant()
    def told_once(self) -> None:
        assert all(count == 1 for count in self.ends.values())

    @invariant()
    def bounds(self) -> None:
        task = self.d.task
        for stage in range(len(task.stages)):
            assert sum(j.status in JOB_BUSY for j in task.jobs_of(stage)) <= task.parallel_limit
        if any(j.status in JOB_BUSY for j in task.jobs) and task.status is TaskStatus.RUNNING:
            assert task.slot is Slot.HELD, "work needs a slot"
        if task.final or task.status in (TaskStatus.WAITING, TaskStatus.PAUSE):
            assert task.slot is Slot.NONE
            assert all(j.status in JOB_FINAL or j.status is JobStatus.IDLE for j in task.jobs)
            assert all(a.status is not ApprovalStatus.WAITING for a in task.approvals)

    @invariant()
    def pauses(self) -> None:
        """A task pauses exactly where a manual stage that nobody executed is next; such a stage has not run."""
        task = self.d.task
        paused = [stage for stage in task.stages if stage.status is StageStatus.PAUSE]
        assert bool(paused) == (task.status is TaskStatus.PAUSE)
        for index, stage in enumerate(task.stages):
            if stage.manual and not stage.executed_by:
                assert all(job.status is JobStatus.IDLE for job in task.jobs_of(index))

    @invariant()
    def stages_in_order(self) -> None:
        task = self.d.task
        if task.stages[1].status is not StageStatus.IDLE:
            assert task.stages[0].status in {"passed", "unstable", "skipped"}

    @invariant()
    def never_stuck(self) -> None:
        """A running task has work, somebody to ask, or a wish for a slot: something will wake it."""
        task = self.d.task
        if task.status is TaskStatus.RUNNING:
            waits = {JobStatus.WAIT_FOR_APPROVAL, JobStatus.WAIT_FOR_DECISION}
            assert (
                any(j.status in JOB_BUSY or j.status in waits for j in task.jobs)
                or any(s.status is StageStatus.WAIT_FOR_APPROVAL for s in task.stages)
                or task.slot is Slot.WANTED
            )


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase


def test_unrelated_parts_are_left_alone():
    d = admitted(job(1), job(2), parallel=True)
    other = d.task.jobs[1]
    d.start(1)
    assert d.task.jobs[1] is other
    assert replace(d.task.jobs[0], status=JobStatus.PREPARE, deadline_at=None).attempt == 1
