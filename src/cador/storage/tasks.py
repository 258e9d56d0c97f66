"""Tasks with their stages, job tasks, approvals, votes and events."""

from collections.abc import Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import Any, Final, get_args

import msgspec
from sqlalchemy import Connection

from cador.domain.errors import AlreadyExists, NotFound
from cador.domain.events import Event
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
from cador.ports.stores import AttemptRow, EventRow, JobRow, NewTask, TaskFilter, TaskRow
from cador.storage import task_statements as sql
from cador.storage.commits import ADD as ADD_COMMIT
from cador.storage.commits import commit_values
from cador.storage.deliveries import ADD_RECEIVER, receiver_values
from cador.storage.dialect import AnyRow, Packer, json_of, json_text, kind_of
from cador.storage.lane import Lane
from cador.storage.task_memory import SHARED, Parts, TaskMemory, new_stamp

# Looking a member up costs a fraction of calling its class, and a task of a hundred jobs asks three hundred times.
_TASK_STATUS: Final = {member.value: member for member in TaskStatus}
_STAGE_STATUS: Final = {member.value: member for member in StageStatus}
_JOB_STATUS: Final = {member.value: member for member in JobStatus}
_JOB_KIND: Final = {member.value: member for member in JobKind}
_POLICY: Final = {member.value: member for member in Policy}
_SLOT: Final = {member.value: member for member in Slot}
_APPROVAL_STATUS: Final = {member.value: member for member in ApprovalStatus}

_EVENT_KIND: Final[Mapping[type, str]] = {event: kind_of(event) for event in get_args(Event)}
_ACTIVE: Final = frozenset({JobStatus.PREPARE, JobStatus.RUNNING})
_NO_PLAN: Final[Mapping[str, Any]] = {}
_MOST: Final = (1 << 31) - 1
"""The largest number of a task."""


class Tasks:
    """Implements ``ports.stores.TaskStore``."""

    def __init__(self, connection: Connection, memory: TaskMemory = SHARED) -> None:
        self._connection = connection
        self._memory = memory
        self._lane = Lane(connection)
        self._packer = Packer()

    # -- a new task

    def add(self, task: NewTask) -> int:
        lane = self._lane
        task_id = lane.value(sql.ADD_TASK, _task_values(task))
        if task_id is None:
            raise AlreadyExists("idempotency key", task.idempotency_key)
        lane.change(sql.COUNT_TASK, {"key": task.workflow_key, "number": task.number})
        lane.change(sql.ADD_SNAPSHOT, {"task_id": task_id, "body": self._packer.pack(task.snapshot)})
        lane.change_each(
            sql.ADD_STAGE,
            [
                {"task_id": task_id, "idx": index, "name": name, "parallel": parallel, "status": "", "error": "",
                 "start_at": None, "end_at": None, "manual": task.manual.get(index, ""), "executed_by": ""}
                for index, (name, parallel) in enumerate(task.stages)
            ],
        )  # fmt: skip
        job_ids = self._add_jobs(task_id, task)
        lane.change_each(
            sql.ADD_APPROVAL,
            [
                {"task_id": task_id, "stage": new.stage, "job_id": None if new.job is None else job_ids[new.job],
                 "needed": new.needed, "approvers": json_text(new.approvers), "timeout_s": new.timeout_s,
                 "status": "", "round": 0, "start_at": None, "end_at": None, "description": new.description,
                 "type": new.type}
                for new in task.approvals
            ],
        )  # fmt: skip
        lane.change_each(ADD_COMMIT, commit_values(task_id, task.project, task.commits))
        lane.change_each(ADD_RECEIVER, [receiver_values(task_id, one) for one in task.receivers])
        data = {"creator": task.creator, "trigger": task.trigger}
        lane.change(
            sql.ADD_EVENT, {"task_id": task_id, "at": task.create_at, "kind": "created", "data": json_text(data)}
        )
        return int(task_id)

    def _add_jobs(self, task_id: int, task: NewTask) -> Sequence[int]:
        if not task.jobs:
            return ()
        self._lane.change_each(
            sql.ADD_JOB,
            [
                {"task_id": task_id, "position": position, "stage": job.stage, "name": job.name, "job": job.job,
                 "key": job.key, "display_name": job.display_name, "type": job.type, "kind": job.kind, "status": "",
                 "error": "", "attempt": 0, "recovery": 0, "retry_count": 0, "stopping": "", "start_at": None,
                 "end_at": None, "deadline_at": None, "timeout_s": job.timeout_s, "policy": job.policy,
                 "maximum_retry": job.maximum_retry, "repeatable": job.repeatable, "failed_as": "",
                 "approval_users": json_text(job.approval_users), "conditional": job.conditional}
                for position, job in enumerate(task.jobs)
            ],
        )  # fmt: skip
        job_ids = [job_id for (job_id,) in self._lane.rows(sql.JOB_IDS, {"id": task_id})]
        self._lane.change_each(
            sql.ADD_BODY,
            [
                {"job_id": job_id, "plan": self._packer.pack(job.plan), "outputs": "{}",
                 "result": json_text({"warnings": job.warnings}) if job.warnings else "{}"}
                for job_id, job in zip(job_ids, task.jobs, strict=True)
            ],
        )  # fmt: skip
        return job_ids

    # -- deciding

    def lock(self, task_id: int) -> WorkflowTask:
        return self._read(task_id, sql.LOCK_TASK)

    def load(self, task_id: int) -> WorkflowTask:
        return self._read(task_id, sql.TASK)

    def _read(self, task_id: int, statement: Any) -> WorkflowTask:
        of = {"id": task_id}
        # The row first and alone: what is read after it was waited for is what the one before left.
        row = self._lane.row(statement, of)
        if row is None:
            raise NotFound("task", str(task_id))
        (_, number, key, status, slot, parallel_limit, error, revoker, revoker_id, create_at, start_at, end_at,
         retry_num, retry_wanted, asks, timeout_s, archived, stamp) = row  # fmt: skip
        stages, jobs = self._memory.find(task_id, stamp) or self._parts(of)
        return WorkflowTask(
            id=task_id,
            number=number,
            label=f"{key}:{number}",
            status=_TASK_STATUS[status],
            stages=stages,
            jobs=jobs,
            approvals=self._approvals(of) if asks else (),
            slot=_SLOT[slot],
            parallel_limit=parallel_limit,
            error=error,
            revoker=revoker,
            revoker_id=revoker_id,
            create_at=create_at,
            start_at=start_at,
            end_at=end_at,
            retry_num=retry_num,
            retry_wanted=retry_wanted,
            timeout_s=timeout_s,
            archived=bool(archived),
        )

    def _parts(self, of: Mapping[str, Any]) -> Parts:
        stage_rows, job_rows = self._lane.rows_of_all((sql.STAGES, sql.JOBS), of)
        stages = tuple(
            StageTask(name, parallel, _STAGE_STATUS[status], error, start, end, manual, executed_by)
            for name, parallel, status, error, start, end, manual, executed_by in stage_rows
        )
        return stages, tuple(map(_job, job_rows))

    def _approvals(self, of: Mapping[str, Any]) -> tuple[Approval, ...]:
        votes: dict[int, list[Vote]] = {}
        given, found = self._lane.rows_of_all((sql.VOTES, sql.APPROVALS), of)
        for approval_id, user_id, user_name, approve, comment, at in given:
            votes.setdefault(approval_id, []).append(Vote(user_id, user_name, approve, comment, at))
        return tuple(
            Approval(
                id=approval_id,
                stage=stage,
                job_id=job_id,
                needed=needed,
                approvers=tuple(Approver(*pair) for pair in json_of(approvers)),
                timeout_s=timeout_s,
                status=_APPROVAL_STATUS[status],
                round=number,
                # A round that was reset and not asked again shows no votes.
                votes=tuple(votes.get(approval_id, ())) if status else (),
                start_at=start_at,
                end_at=end_at,
            )
            for approval_id, stage, job_id, needed, approvers, timeout_s, status, number, start_at, end_at in found
        )

    def save(self, before: WorkflowTask, after: WorkflowTask) -> None:
        lane, stamp = self._lane, new_stamp()
        of: dict[str, Any] = {"of": after.id, "stamp": stamp}
        if _moved(before, after, sql.TASK_MOVES):
            lane.change(sql.SAVE_TASK, _moves(after, sql.TASK_MOVES) | {"waits_at": _waits_at(after)} | of)
        else:
            lane.change(sql.SAVE_STAMP, of)
        stages = [
            _moves(now, sql.STAGE_MOVES) | {"of": after.id, "index": index}
            for index, (old, now) in enumerate(zip(before.stages, after.stages, strict=True))
            if now is not old and now != old
        ]
        lane.change_each(sql.SAVE_STAGE, stages)
        jobs = [
            (old, now)
            for old, now in zip(before.jobs, after.jobs, strict=True)
            if now is not old and now != old
        ]  # fmt: skip
        if jobs:
            self._save_jobs(jobs)
        for old, now in zip(before.approvals, after.approvals, strict=True):
            if now is not old and now != old:
                self._save_approval(old, now)
        if after.final:
            self._memory.forget(after.id)
        else:
            self._memory.keep(after.id, stamp, (after.stages, after.jobs))

    def _save_jobs(self, jobs: list[tuple[JobTask, JobTask]]) -> None:
        lane = self._lane
        lane.change_each(sql.SAVE_JOB, [_moves(now, sql.JOB_MOVES) | {"of": now.id} for _, now in jobs])
        begun = [_attempt(now) | {"job_id": now.id, "attempt": now.attempt} for old, now in jobs if _begins(old, now)]
        lane.change_each(sql.ADD_ATTEMPT, begun)
        # What an execution before it found is none of this one's.
        again = [
            {"of": now.id} for old, now in jobs if old.attempt and (_begins(old, now) or now.recovery > old.recovery)
        ]
        lane.change_each(sql.FORGET_FOUND, again)
        # Only while it is under way: what happens to the job after its attempt ended - a decision, a reset by a
        # retry - is not part of the attempt.
        moved = [
            _attempt(now) | {"of": now.id, "number": now.attempt}
            for old, now in jobs
            if old.status in _ACTIVE and not _begins(old, now)
        ]
        lane.change_each(sql.SAVE_ATTEMPT, moved)

    def _save_approval(self, old: Approval, now: Approval) -> None:
        self._lane.change(sql.SAVE_APPROVAL, _moves(now, sql.APPROVAL_MOVES) | {"of": now.id})
        known = {vote.user_id for vote in old.votes} if old.round == now.round else set()
        new = [
            {"approval_id": now.id, "round": now.round, "user_id": vote.user_id, "user_name": vote.user_name,
             "approve": vote.approve, "comment": vote.comment, "at": vote.at}
            for vote in now.votes
            if vote.user_id not in known
        ]  # fmt: skip
        self._lane.change_each(sql.ADD_VOTE, new)

    def append_event(self, task_id: int, event: Event) -> None:
        data = msgspec.to_builtins(event)
        del data["at"]
        values = {"task_id": task_id, "at": event.at, "kind": _EVENT_KIND[type(event)], "data": json_text(data)}
        self._lane.change(sql.ADD_EVENT, values)

    # -- looking

    def by_idempotency_key(self, creator_id: str, key: str) -> TaskRow | None:
        row = self._lane.row(sql.BY_IDEMPOTENCY_KEY, {"creator_id": creator_id, "key": key})
        return _task_row(row) if row is not None else None

    def find_id(self, workflow_key: str, number: int) -> int | None:
        if not 0 < number <= _MOST:
            return None  # PostgreSQL does not compare a column with what it cannot hold
        task_id: int | None = self._lane.value(sql.FIND_ID, {"workflow_key": workflow_key, "number": number})
        return task_id

    def find_row(self, workflow_key: str, number: int) -> TaskRow | None:
        if not 0 < number <= _MOST:
            return None
        row = self._lane.row(sql.FIND_ROW, {"workflow_key": workflow_key, "number": number})
        return _task_row(row) if row is not None else None

    def row(self, task_id: int) -> TaskRow:
        """Raises: NotFound."""
        row = self._lane.row(sql.ROW, {"id": task_id})
        if row is None:
            raise NotFound("task", str(task_id))
        return _task_row(row)

    def list_tasks(self, where: TaskFilter) -> list[TaskRow]:
        """Newest first. Several statuses or projects are lists of their own, each read from its index and cut, and
        then merged: none of them goes through what does not belong to it."""
        columns = {"workflow_key": where.workflow_key, "project": where.project, "creator": where.creator}
        columns = {name: value for name, value in columns.items() if value}
        per_project = where.projects is not None and not columns
        projects = tuple(dict.fromkeys(where.projects or ())) if per_project else (None,)
        statuses = tuple(dict.fromkeys(where.statuses)) or (None,)
        branches = [(project, status) for project in projects for status in statuses]
        # A merged list is cut here; one alone is cut where it is read.
        skip = where.offset if len(branches) == 1 else 0
        values: dict[str, Any] = {**columns, "skip": skip, "limit": where.limit + where.offset - skip}
        if where.before is not None:
            values |= {"before_at": where.before[0], "before_id": where.before[1]}
        if where.projects is not None and not per_project:
            values["projects"] = list(where.projects)
        found: list[Sequence[AnyRow]] = []
        for project, status in branches:
            of = columns if project is None else {"project": project}
            scope, *more = of or [""]
            statement = sql.page(
                scope, tuple(more), by_status=status is not None, keyset=where.before is not None,
                projects="projects" in values,
            )  # fmt: skip
            found.append(self._connection.execute(statement, {**values, **of, "status": status}).all())
        if len(found) == 1:
            return [_task_row(row) for row in found[0]]
        merged = merge(*found, key=lambda row: (row.create_at, row.id), reverse=True)
        return [_task_row(row) for row in islice(merged, where.offset, where.offset + where.limit)]

    def count(self, workflow_key: str) -> int:
        return self._connection.execute(sql.COUNT, {"key": workflow_key}).scalar_one_or_none() or 0

    def jobs(self, task_id: int, *, plans: bool = True) -> list[JobRow]:
        rows = self._connection.execute(sql.JOB_ROWS_PLANS if plans else sql.JOB_ROWS, {"id": task_id})
        return [self._job_row(row, plan=plans) for row in rows]

    def find_job(self, task_id: int, name: str) -> JobRow | None:
        row = self._connection.execute(sql.JOB_NAMED, {"id": task_id, "name": name}).one_or_none()
        return self._job_row(row) if row is not None else None

    def job_by_id(self, job_id: int) -> JobRow | None:
        row = self._lane.row(sql.JOB_BY_ID, {"id": job_id})
        if row is None:
            return None
        users, outputs, result, plan = row[-4:]
        return JobRow(
            **dict(zip(sql.JOB_ROW, row, strict=False)),
            plan=self._packer.unpack(plan),
            outputs=json_of(outputs),
            result=json_of(result),
            approval_users=tuple(json_of(users)),
        )

    def _job_row(self, row: AnyRow, *, plan: bool = True) -> JobRow:
        return JobRow(
            **dict(zip(sql.JOB_ROW, row, strict=False)),
            plan=self._packer.unpack(row.plan) if plan else _NO_PLAN,
            outputs=json_of(row.outputs),
            result=json_of(row.result),
            approval_users=tuple(json_of(row.approval_users)),
        )

    def attempts(self, task_id: int) -> list[AttemptRow]:
        """In order of jobs, then of attempts."""
        return [
            AttemptRow(row.job_id, row.attempt, row.status, row.error, row.start_at, row.end_at, json_of(row.steps))
            for row in self._connection.execute(sql.ATTEMPTS, {"id": task_id})
        ]

    def events(self, task_id: int, after: int = 0, limit: int = 1000) -> list[EventRow]:
        values = {"id": task_id, "after": after, "limit": limit}
        return [
            EventRow(row.id, row.task_id, row.at, row.kind, json_of(row.data))
            for row in self._connection.execute(sql.EVENTS, values)
        ]

    def snapshot(self, task_id: int) -> Mapping[str, Any]:
        """Raises: NotFound."""
        blob = self._lane.value(sql.SNAPSHOT, {"id": task_id})
        if blob is None:
            raise NotFound("task", str(task_id))
        return self._packer.unpack(blob)

    def set_snapshot(self, task_id: int, snapshot: Mapping[str, Any]) -> None:
        """Raises: NotFound."""
        body = self._packer.pack(snapshot)
        if self._connection.execute(sql.SET_SNAPSHOT, {"of": task_id, "body": body}).rowcount != 1:
            raise NotFound("task", str(task_id))
        self._connection.execute(sql.COUNT_EDIT, {"of": task_id})

    def approval_texts(self, task_id: int) -> Mapping[int, tuple[str, str]]:
        rows = self._connection.execute(sql.APPROVAL_TEXTS, {"id": task_id})
        return {row.id: (row.description, row.type) for row in rows}

    # -- what executions find

    def set_plan(self, job_id: int, plan: Mapping[str, Any]) -> None:
        """Raises: NotFound."""
        self._set(sql.SET_PLAN, job_id, {"plan": self._packer.pack(plan)})

    def set_outputs(self, job_id: int, outputs: Mapping[str, str]) -> None:
        """Raises: NotFound."""
        self._set(sql.SET_OUTPUTS, job_id, {"outputs": json_text(outputs)})

    def merge_result(self, job_id: int, result: Mapping[str, Any]) -> None:
        """Raises: NotFound."""
        present = self._lane.value(sql.GET_RESULT, {"id": job_id})
        if present is None:
            raise NotFound("job task", str(job_id))
        self._set(sql.SET_RESULT, job_id, {"result": json_text({**json_of(present), **result})})

    def set_steps(self, job_id: int, attempt: int, steps: Sequence[Mapping[str, Any]]) -> None:
        """Raises: NotFound: that attempt never began."""
        self._set(sql.SET_STEPS, job_id, {"number": attempt, "steps": json_text(steps)})

    def _set(self, statement: Any, job_id: int, values: dict[str, Any]) -> None:
        if self._lane.changed(statement, values | {"of": job_id}) != 1:
            raise NotFound("job task", str(job_id))

    def worded(self, workflow_key: str, word: str) -> list[int]:
        return sorted(self._connection.execute(sql.WORDED, {"key": workflow_key, "auto_cancel": word}).scalars())

    def set_remark(self, task_id: int, remark: str) -> None:
        if self._connection.execute(sql.SET_REMARK, {"of": task_id, "remark": remark}).rowcount != 1:
            raise NotFound("task", str(task_id))

    def queue_figures(self, now: float) -> Mapping[str, float]:
        rows = {row.name: row for row in self._connection.execute(sql.QUEUE)}
        oldest = rows["waiting"].oldest
        figures: dict[str, float] = {name: row.number for name, row in rows.items()}
        return figures | {"oldest_waiting_s": max(now - oldest, 0.0) if oldest is not None else 0.0}


def _task_values(task: NewTask) -> dict[str, Any]:
    return {
        "workflow_key": task.workflow_key,
        "project": task.project,
        "number": task.number,
        "display_name": task.display_name,
        "type": task.type,
        "status": TaskStatus.WAITING.value,
        "slot": Slot.NONE.value,
        "parallel_limit": task.parallel_limit,
        "asks": len(task.approvals),
        "error": "",
        "revoker": "",
        "revoker_id": "",
        "creator": task.creator,
        "creator_id": task.creator_id,
        "creator_account": task.creator_account,
        "trigger": task.trigger,
        "create_at": task.create_at,
        "start_at": None,
        "end_at": None,
        "retry_num": 0,
        "retry_wanted": "",
        "waits_at": task.create_at,
        "remark": task.remark,
        "deleted": False,
        "idempotency_key": task.idempotency_key or None,
        "stamp": 0,
        "archived": False,
        "auto_cancel": task.auto_cancel,
        "timeout_s": task.timeout_s,
        "archived_at": None,
        "edits": 0,
    }


def _waits_at(task: WorkflowTask) -> float | None:
    """Its place in the queue, also when it was retried or goes on after an approval."""
    wanted = task.status is TaskStatus.RUNNING and task.slot is Slot.WANTED
    return task.create_at if wanted or task.status is TaskStatus.WAITING else None


def _task_row(row: Sequence[Any]) -> TaskRow:
    return TaskRow(*row)


def _job(row: Sequence[Any]) -> JobTask:
    (job_id, name, kind, stage, status, error, attempt, recovery, retry_count, stopping, start_at, end_at, deadline_at,
     timeout_s, policy, maximum_retry, repeatable, failed_as, conditional) = row  # fmt: skip
    return JobTask(
        job_id, name, _JOB_KIND[kind], stage, _JOB_STATUS[status], error, attempt, recovery, retry_count, stopping,
        start_at, end_at, deadline_at, timeout_s, _POLICY[policy], maximum_retry, repeatable, failed_as,
        conditional,
    )  # fmt: skip


def _moves(thing: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in names}


def _moved(before: object, after: object, names: Sequence[str]) -> bool:
    return any(getattr(before, name) != getattr(after, name) for name in names)


def _begins(old: JobTask, now: JobTask) -> bool:
    return now.attempt > old.attempt


def _attempt(job: JobTask) -> dict[str, Any]:
    """The present attempt of *job*: while people or a pause decide what follows, it is over already."""
    status = job.status
    if status in (JobStatus.RETRY_PAUSE, JobStatus.WAIT_FOR_DECISION):
        status = JobStatus(job.failed_as or JobStatus.FAILED)
    return {"status": status, "error": job.error, "start_at": job.start_at, "end_at": job.end_at}
