"""What must hold whatever happens: looked at after every commit, whenever a job begins outside, and as time passes."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from cador.domain.events import Event, JobEnded, Result
from cador.domain.job_machine import ARROWS, Cause
from cador.domain.task import (
    JOB_BUSY,
    JOB_FINAL,
    JOB_KEPT,
    STAGE_FINAL,
    STAGE_KEPT,
    TASK_FINAL,
    ApprovalStatus,
    JobKind,
    JobStatus,
    JobTask,
    Slot,
    TaskStatus,
    WorkflowTask,
)
from cador.ports.stores import NewTask
from cador.storage.database import Stores
from simulation.database import SimulatedDatabase, Violation

if TYPE_CHECKING:
    from cador.executors.scripted import ScriptedWorld
    from cador.ports.executor import End
    from simulation.deeds import Deeds

T = TaskStatus
ENDS: Final = TASK_FINAL
MOVES: Final = {
    T.WAITING: {T.RUNNING, T.CANCELLED, T.PAUSE, T.TIMEOUT},
    T.RUNNING: {*ENDS, T.CANCELLING, T.EXPIRING, T.PAUSE},
    T.CANCELLING: {T.CANCELLED, T.WAITING},
    T.EXPIRING: {T.TIMEOUT, T.CANCELLING, T.CANCELLED},
    T.PAUSE: {T.WAITING, T.CANCELLED, T.TIMEOUT},
    T.FAILED: {T.WAITING},
    T.TIMEOUT: {T.WAITING},
    T.CANCELLED: {T.WAITING},
    T.REJECT: {T.WAITING},
    T.PASSED: {T.WAITING},
}
"""``domain/task.py`` by the words of the contract: which status of a task may follow which, with one event."""

_STEPS: Final[dict[JobStatus, set[JobStatus]]] = {}
for (_status, _cause), _targets in ARROWS.items():
    if _cause not in (Cause.RESET, Cause.AGAIN):
        _STEPS.setdefault(_status, set()).update(_targets)
_RESET: Final = {status for (status, cause) in ARROWS if cause in (Cause.RESET, Cause.AGAIN)}
"""What a retry puts back to its beginning: it may begin anew in the same transaction."""
_OUTSIDE: Final = frozenset({JobStatus.PREPARE, JobStatus.RUNNING})
_GIVEN_UP: Final = ("lost executor", "could not be started")
"""Errors that say that nobody knows what became of an execution."""
STOP_S: Final = 75
"""The same for a job that is to be stopped: what fails is tried again after a minute at most."""
GRACE_S: Final = 5
"""Seconds a job may go on after its stop was told: it gets one to end by itself."""
RECOVERY_S: Final = 40
"""Seconds in which somebody could have adopted an execution, after which nobody is excused."""


_STRAY_EXECUTIONS: Final = (
    "SELECT e.key, j.status, j.attempt, j.recovery FROM execution e LEFT JOIN job_task j ON j.id = e.job_id"
    " WHERE j.id IS NULL OR j.status NOT IN ('prepare', 'running')"
    " OR j.attempt != e.attempt OR j.recovery != e.recovery"
)
_STRAY_STARTS: Final = (
    "SELECT c.key, j.status, j.attempt, j.recovery FROM command c"
    " LEFT JOIN job_task j ON j.id = json_extract(c.payload, '$.job_id') WHERE c.kind = 'start' AND (j.id IS NULL"
    " OR j.status != 'prepare' OR j.attempt != json_extract(c.payload, '$.attempt')"
    " OR j.recovery != json_extract(c.payload, '$.recovery'))"
)


class Judge:
    def __init__(
        self,
        db: SimulatedDatabase,
        worlds: "Iterable[ScriptedWorld | Deeds]",
        deeds: "Deeds",
        *,
        note: Callable[[str], None],
        fail: Callable[[str], None],
        max_running: Callable[[], int],
        installation: str,
    ) -> None:
        """*fail*: told what must never be, before it is raised: whoever catches it, the run is over."""
        self.db, self.worlds, self.deeds = db, list(worlds), deeds
        self.note, self.fail, self.max_running = note, fail, max_running
        self.installation = installation
        self.ends: Counter[tuple[int, int]] = Counter()
        """Terminal events by task and round."""
        self.ended: dict[tuple[int, int], str] = {}
        self.went_on: Counter[int] = Counter()
        """How often a task that was over went on."""
        self.begun: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()
        """Of each key: how often the outside lost it."""
        self.given_up: set[str] = set()
        """Keys that were told to be over while nobody knew: their executor was away for too long."""
        self.moves: list[tuple[WorkflowTask, WorkflowTask]] = []
        self.tasks: dict[tuple[str, int], tuple[int, str]] = {}
        """Id and idempotency key of every task there ever was, by workflow and number."""
        self.events: dict[int, list[Event]] = {}
        self._pending: list[tuple[int, Event | NewTask]] = []
        self.checks = 0
        self._held = 0
        self._running: dict[str, int] = {}
        self._ownerless: dict[str, int] = {}
        self._unstopped: dict[str, int] = {}
        self._untold: dict[str, int] = {}

    # -- after a commit

    def watch(self, stores: Stores) -> None:
        """Hear of everything that is saved through *stores*."""
        save = stores.tasks.save

        def saved(before: WorkflowTask, after: WorkflowTask) -> Any:
            result = save(before, after)
            self.moves.append((before, after))
            return result

        append_event, add = stores.tasks.append_event, stores.tasks.add

        def appended(task_id: int, event: Event) -> None:
            append_event(task_id, event)
            self._pending.append((task_id, event))

        def added(task: NewTask) -> int:
            task_id = add(task)
            self._pending.append((task_id, task))
            return task_id

        stores.tasks.save = saved  # type: ignore[method-assign]
        stores.tasks.append_event = appended  # type: ignore[method-assign]
        stores.tasks.add = added  # type: ignore[method-assign]

    def begin(self) -> None:
        """A transaction begins: what was not committed before it never will be."""
        self.moves.clear()
        self._pending.clear()

    def committed(self) -> None:
        """Judge the transaction that was just committed."""
        for task_id, what in self._pending:
            if isinstance(what, NewTask):
                self.tasks[what.workflow_key, what.number] = (task_id, what.idempotency_key)
            else:
                self.events.setdefault(task_id, []).append(what)
                if isinstance(what, JobEnded) and (
                    any(words in what.error for words in _GIVEN_UP)
                    or (what.result is Result.LOST and self._by_a_server(what.job_id))
                ):
                    self.given_up.add(f"{self.installation}.{what.job_id}.{what.attempt}.{what.recovery}")
        self._pending.clear()
        self._rows()
        if not self.moves:
            return
        self.checks += 1
        for before, after in self.moves:
            self._task(before, after)
        self.moves.clear()
        self._limits()

    def _by_a_server(self, job_id: int) -> bool:
        """Whether a server itself carries it out: what it does when it is frozen nobody knows."""
        row = self.db.raw.execute("SELECT kind FROM job_task WHERE id = ?", (job_id,)).fetchone()
        return row is not None and row[0] == JobKind.SERVER

    def _task(self, before: WorkflowTask, after: WorkflowTask) -> None:
        label = after.label
        if after.status is not before.status:
            self.note(f"task {label} {before.status} -> {after.status}")
            legal = after.status in MOVES[before.status]
            # A round of a retry may find that there is nothing left to run: all had passed before the task was
            # cancelled, or what was chosen had.
            again = before.status is T.WAITING and after.status in (T.PASSED, T.FAILED) and after.retry_num > 0
            self._must(legal or again, f"{label}: {before.status} -> {after.status}")
        if after.final:
            self._must(after.end_at is not None, f"{label} is {after.status} without an end")
            self._must(after.slot is Slot.NONE, f"{label} is {after.status} and has a slot")
            for job in after.jobs:
                live = job.status not in JOB_FINAL and job.status is not JobStatus.IDLE
                self._must(not live, f"{label} is {after.status}, its job {job.name} is {job.status}")
            for stage in after.stages:
                self._must(
                    stage.status in STAGE_FINAL or not stage.status,
                    f"{label} is {after.status}, its stage {stage.name} is {stage.status}",
                )
            if not before.final:
                self.ends[after.id, after.retry_num] += 1
                self.ended[after.id, after.retry_num] = after.status.value
                once = self.ends[after.id, after.retry_num] == 1
                self._must(once, f"{label} ended twice in round {after.retry_num}")
        elif before.final:
            self.went_on[after.id] += 1
            self._must(after.retry_num > before.retry_num, f"{label} goes on in the round that was over")
        for old, new in zip(before.jobs, after.jobs, strict=True):
            if new != old:
                self._job(before, after, old, new)
        self._stages(after)
        self._approvals(before, after)

    def _job(self, before: WorkflowTask, after: WorkflowTask, old: JobTask, new: JobTask) -> None:
        label = f"{after.label}/{new.name}"
        if new.status is not old.status or new.attempt != old.attempt or new.recovery != old.recovery:
            self.note(f"job {label} {old.status or 'idle'} -> {new.status or 'idle'} #{new.attempt}.{new.recovery}")
        if new.status is not old.status:
            reset = new.status is JobStatus.IDLE
            steps = _STEPS.get(old.status, set())
            anew = _STEPS[JobStatus.IDLE] if old.status in _RESET else set()
            legal = old.status in _RESET or steps & _RESET if reset else new.status in steps | anew
            self._must(bool(legal), f"{label}: {old.status or 'idle'} -> {new.status or 'idle'}")
        begins = new.attempt != old.attempt
        if begins:
            self._must(new.attempt == old.attempt + 1, f"{label}: attempt {new.attempt} after {old.attempt}")
            self._must(after.status is TaskStatus.RUNNING, f"{label} begins in a task that is {after.status}")
            self._must(after.slot is Slot.HELD, f"{label} begins without a slot")
        if new.recovery > old.recovery and not begins:
            self._lost(label, old)
        if old.kind is not JobKind.APPROVAL and old.status in _OUTSIDE and (new.status not in _OUTSIDE or begins):
            self._over(label, old, new)

    def _lost(self, label: str, old: JobTask) -> None:
        """It runs again because its execution was lost: that must be so."""
        key = self.key(old)
        # One that never began may have been stopped before it was given up, by a server that died in between.
        loose = self.deeds.loose(key)
        lost = self.losses[key] > 0 or not self.begun[key]
        self._must(lost or loose, f"{label}: run again, but {key} was never lost")
        self._must(loose or not self._lives(key), f"{label}: run again while {key} runs")

    def _over(self, label: str, old: JobTask, new: JobTask) -> None:
        """Its attempt is over: nothing of it runs, and it ended as is said."""
        key = self.key(old)
        if key not in self.given_up:
            self._must(not self._lives(key), f"{label} is {new.status or 'idle'} while {key} runs")
        end = self._end(key)
        if new.status is JobStatus.PASSED:
            natural = end is not None and end.exit_code == 0 and not end.stopped
            self._must(natural, f"{label} passed, but {key} ended as {end}")

    def _stages(self, task: WorkflowTask) -> None:
        """Stages in order, jobs of a serial stage in order, those of a parallel one within their limit."""
        if task.status is not TaskStatus.RUNNING:
            return
        open_ = None
        for index, stage in enumerate(task.stages):
            jobs = task.jobs_of(index)
            busy = [job for job in jobs if job.status in JOB_BUSY]
            if open_ is not None:
                begun = [job.name for job in busy]
                self._must(not begun, f"{task.label}: {begun} of stage {stage.name} run before {open_} is over")
            if stage.status not in STAGE_KEPT and open_ is None:
                open_ = stage.name
            if stage.parallel:
                most = task.parallel_limit
                self._must(len(busy) <= most, f"{task.label}: {len(busy)} jobs of stage {stage.name}, not {most}")
            else:
                self._must(len(busy) <= 1, f"{task.label}: {len(busy)} jobs of the serial stage {stage.name}")
                earlier_kept = True
                for job in jobs:
                    if job.status in JOB_BUSY:
                        self._must(earlier_kept, f"{task.label}: {job.name} runs out of order")
                    earlier_kept = earlier_kept and job.status in JOB_KEPT

    def _approvals(self, before: WorkflowTask, after: WorkflowTask) -> None:
        for old, new in zip(before.approvals, after.approvals, strict=True):
            if new == old:
                continue
            label = f"{after.label}: approval {new.id}"
            yes = sum(vote.approve for vote in new.votes)
            no = len(new.votes) - yes
            voters = [vote.user_id for vote in new.votes]
            self._must(len(voters) == len(set(voters)), f"{label}: {voters} voted more than once")
            listed = {approver.user_id for approver in new.approvers}
            self._must(set(voters) <= listed, f"{label}: {voters} voted, {listed} may")
            if new.status is ApprovalStatus.WAITING:
                self._must(
                    yes < new.needed and not no, f"{label} waits with {yes} of {new.needed} votes and {no} against"
                )
            if new.status is ApprovalStatus.APPROVED and old.status is not new.status:
                self._must(yes >= new.needed, f"{label} is given with {yes} of {new.needed} votes")
            if old.round == new.round and new.status not in (ApprovalStatus.IDLE, ApprovalStatus.CANCELLED):
                self._must(set(old.votes) <= set(new.votes), f"{label} forgot votes")

    def _rows(self) -> None:
        """Executions and starts are those of attempts that wait for them: whoever was fenced wrote nothing."""
        execute = self.db.raw.execute
        strays = execute(_STRAY_EXECUTIONS).fetchall() + execute(_STRAY_STARTS).fetchall()
        self._must(not strays, f"rows of attempts that are over: {strays}")

    def _limits(self) -> None:
        execute = self.db.raw.execute
        (held,) = execute("SELECT count(*) FROM workflow_task WHERE slot = 'held'").fetchone()
        most = max(self.max_running(), self._held)
        self._must(held <= most, f"{held} tasks hold a slot, not {most}")
        self._held = held
        counts = execute(
            "SELECT t.workflow_key, w.concurrency_limit, count(*) FROM workflow_task t"
            " JOIN workflow w ON w.key = t.workflow_key"
            " WHERE t.status IN ('running', 'cancelling', 'expiring') AND NOT t.deleted GROUP BY 1"
        ).fetchall()
        for key, limit, count in counts:
            if limit >= 0:
                most = max(limit, self._running.get(key, 0))
                self._must(count <= most, f"{count} tasks of {key} run, not {most}")
        self._running = {key: count for key, _, count in counts}

    # -- outside

    def key(self, job: JobTask) -> str:
        return f"{self.installation}.{job.id}.{job.attempt}.{job.recovery}"

    def began(self, key: str) -> None:
        """A job really begins outside."""
        self.begun[key] += 1
        self.note(f"begins {key}")
        self._must(self.begun[key] <= 1 + self.losses[key], f"{key} ran twice")
        job_id, attempt, recovery = (int(part) for part in key.split(".")[-3:])
        row = self.db.raw.execute("SELECT status, attempt, recovery FROM job_task WHERE id = ?", (job_id,)).fetchone()
        waits = row is not None and row[0] in ("prepare", "running") and tuple(row[1:]) == (attempt, recovery)
        # Of a machine that was given up for lost nobody knows what it still does, until it is back and clears up.
        self._must(waits or key in self.given_up, f"{key} begins, but the job is {row}")
        for world in self.worlds:
            for other in world.runs:
                if other != key and other.split(".")[-3] == str(job_id) and self._lives(other):
                    self._must(other in self.given_up, f"{key} begins while {other} runs")

    def lost(self, key: str) -> None:
        """The outside loses an execution."""
        self.losses[key] += 1

    def _lives(self, key: str) -> bool:
        return any(key in world.runs and world.end(key) is None for world in self.worlds)

    def _end(self, key: str) -> "End | None":
        return next((world.end(key) for world in self.worlds if key in world.runs), None)

    # -- as time passes

    def tick(self, owners: set[str], *, could_adopt: bool) -> None:
        """Once a second. *owners*: who lives; *could_adopt*: somebody is there, awake, and reaches the database."""
        rows = self.db.raw.execute("SELECT key, owner FROM execution").fetchall()
        nobodys = {key for key, owner in rows if owner not in owners}
        self._ownerless = {
            key: self._ownerless.get(key, 0) + could_adopt for key in sorted(nobodys)
        }  # fmt: skip
        for key, seconds in self._ownerless.items():
            self._must(seconds <= RECOVERY_S, f"{key} has no owner for {seconds} s")
        stops = self.db.raw.execute("SELECT json_extract(payload, '$.job_id') FROM command WHERE kind = 'stop'")
        told = {job_id for (job_id,) in stops.fetchall()}
        rows = self.db.raw.execute(
            "SELECT id, attempt, recovery FROM job_task WHERE stopping != '' AND status IN ('prepare', 'running')"
        ).fetchall()
        going = {f"{self.installation}.{job_id}.{attempt}.{recovery}": job_id for job_id, attempt, recovery in rows}
        unstopped = {key: job_id for key, job_id in going.items() if self._lives(key) and not self.deeds.parked(key)}
        self._unstopped = {key: self._unstopped.get(key, 0) + could_adopt for key in unstopped}
        self._untold = {key: self._untold.get(key, 0) + 1 for key, job_id in unstopped.items() if job_id not in told}
        for key, seconds in self._unstopped.items():
            self._must(seconds <= STOP_S, f"{key} still runs {seconds} s after it was to be stopped")
        for key, seconds in self._untold.items():
            self._must(seconds <= GRACE_S, f"{key} still runs {seconds} s after its stop was told")

    def _must(self, holds: bool, what: str) -> None:
        if not holds:
            self.fail(what)
            raise Violation(what)
