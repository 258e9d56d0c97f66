"""Tests and scans run by themselves: each by a workflow of one job that belongs to it and that no list shows.

It is made when it is run for the first time, under a key made of the id of the test or scan; its tasks are tasks like
any others: with logs, artifacts, a place in the queue.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

import msgspec

from cador.domain.errors import AlreadyExists, Invalid, NotFound
from cador.engine.hearing import Claim, Ear, Outcome
from cador.engine.housekeeping import Burial
from cador.jobs.base import Doc
from cador.jobs.junit import Case, UnreadableReport, read_report
from cador.jobs.values import repos_of_plan
from cador.operations import resources, tasks, workflows
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.finding import task_row
from cador.operations.reading import in_reader
from cador.operations.task_values import JobInput, StartRequest
from cador.ports.stores import JobRow, Resource, TaskRow, Tx, WorkflowRow

SHOWN_CASES: Final = 1_000
_READ_BYTES: Final = 8 << 20
"""Of a report: enough for cases of 8 KiB each."""


@dataclass(frozen=True, slots=True)
class Quality:
    """*kind*: of the resource. *type*: of its workflow. *names*: key of the job's own list in its input, and of the
    name in it."""

    kind: str
    type: str
    job_type: str
    names: tuple[str, str]

    def key(self, uid: str) -> str:
        return f"{self.type}-{uid}"

    def spec(self, name: str, project: str) -> dict[str, Any]:
        entry = {"name": name, "project_name": project}
        if self.kind == "test":
            return {"test_type": "", "test_modules": [entry]}
        return {"scanning_type": "", "scannings": [entry]}


TEST: Final = Quality("test", "testing", "zadig-test", ("testing_list", "testing_name"))
SCAN: Final = Quality("scan", "scanning", "zadig-scanning", ("scanning_list", "scanning_name"))


@dataclass(frozen=True, slots=True)
class Run:
    """*job*: None while the task has none."""

    task: TaskRow
    job: JobRow | None
    spec: Mapping[str, Any]
    """Of the job, as details show it."""

    @property
    def repositories(self) -> list[dict[str, Any]]:
        """As they were planned, in the order of ``repos`` in the spec."""
        return repos_of_plan(self.job.plan.get("spec", {})) if self.job is not None else []


async def run(
    ctx: Context, actor: Actor, of: Quality, project: str, name: str, repos: Sequence[Doc], inputs: Sequence[Doc]
) -> tuple[str, int]:
    """Start *name* with other repositories and variables; the caller has checked that *actor* may. Returns the key of
    its workflow and the number of the task.

    Raises: NotFound: no such test or scan; Invalid; NotStartable.
    """
    try:
        key = await ctx.engine.transact(_ensure, ctx, actor, of, project, name)
    except AlreadyExists:  # made by another server meanwhile
        key = await ctx.engine.transact(_ensure, ctx, actor, of, project, name)
    listed, named = of.names
    given = {listed: [{named: name, "repo_info": list(repos), "inputs": list(inputs)}]}
    request = StartRequest(key, project, (JobInput(of.kind, of.job_type, given),), remark=None)
    return key, (await tasks.start_allowed(ctx, actor, request)).number


def _ensure(tx: Tx, claim: Claim, ctx: Context, actor: Actor, of: Quality, project: str, name: str) -> Outcome[str]:
    """The key of the workflow, which is there then and has the limit that the configuration says."""
    ear = Ear(tx, claim)
    found = resources.get(tx, of.kind, project, name)
    if tx.workflows.find(of.key(found.uid)) is None:
        tx.admission.lock()
        tx.resources.hold()  # it must not go meanwhile
        found = resources.get(tx, of.kind, project, name)
    key = of.key(found.uid)
    limit = (found.document.get("advanced_settings") or {}).get("concurrency_limit") or -1
    row = tx.workflows.find(key)
    if row is None:
        body = {
            "name": key,
            "project": project,
            "concurrency_limit": limit,
            "stages": [
                {"name": of.kind, "jobs": [{"name": of.kind, "type": of.job_type, "spec": of.spec(name, project)}]}
            ],
        }
        new = workflows.draft(body)
        workflows.check_new(tx, new.workflow, ctx.types)
        tx.workflows.add(
            WorkflowRow(
                key=key,
                project=project,
                display_name=key,
                type=of.type,
                concurrency_limit=limit,
                disabled=False,
                definition=msgspec.json.encode(new.doc).decode(),
                revision=1,
                created_by=actor.name,
                create_at=tx.now,
                updated_by=actor.name,
                update_at=tx.now,
            )
        )
    elif row.concurrency_limit != limit:
        tx.admission.lock()
        locked = tx.workflows.find(key, lock=True)
        if locked is not None:
            tx.workflows.replace(replace(locked, concurrency_limit=limit))
            ear.admit()
    return ear.outcome(key)


async def find(ctx: Context, of: Quality, project: str, name: str, number: int) -> Run:
    """One run of a test or scan. Raises: NotFound."""

    def read(tx: Tx) -> tuple[TaskRow, JobRow | None]:
        found = resources.get(tx, of.kind, project, name)
        row = task_row(tx, of.key(found.uid), number)
        if row is None:
            raise NotFound("task", f"{name}:{number}")
        jobs = tx.tasks.jobs(row.id)
        return row, jobs[0] if jobs else None

    row, job = await ctx.db.read(read)
    spec: Mapping[str, Any] = {}
    if job is not None and (job_type := ctx.types.get(job.type)) is not None:
        spec = job_type.view(job.plan.get("spec", {}), job.outputs, job.result, job.end_at is not None)
    return Run(row, job, spec)


async def cases_of(ctx: Context, run: Run) -> list[dict[str, Any]]:
    """The first cases of a run's reports, in the words of the API; ``[]`` when there is no report."""
    job = run.job
    if job is None or "junit" not in job.result:
        return []
    key = f"tasks/{run.task.workflow_key}/{run.task.number}/{job.name}/junit/merged.xml"

    def read() -> list[dict[str, Any]]:
        cases: list[Case] = []
        with contextlib.suppress(NotFound, UnreadableReport):  # of what was cut off, those before it
            cases.extend(islice(read_report(ctx.blobs.read(key, 0, _READ_BYTES)), SHOWN_CASES))
        return [
            {
                "name": case.name,
                "time": case.time_s,
                "failure": case.message if case.status == "failed" else "",
                "error": case.message if case.status == "error" else "",
            }
            for case in cases
        ]

    return await in_reader(read)


async def delete(ctx: Context, actor: Actor, of: Quality, project: str, name: str) -> None:
    """Delete a test or scan with its own runs, as workflows are deleted. Raises: NotFound; Conflict: still used."""
    burial = await ctx.engine.transact(_delete, resources.Hand(actor, ctx.sealer), of, project, name)
    await workflows.finish_removal(ctx, burial)


def _delete(
    tx: Tx, claim: Claim, hand: resources.Hand, of: Quality, project: str, name: str
) -> Outcome[Burial | None]:  # fmt: skip
    ear = Ear(tx, claim)
    tx.admission.lock()
    tx.resources.hold()
    return ear.outcome(remove(tx, hand, ear, of, resources.get(tx, of.kind, project, name)))


def remove(tx: Tx, hand: resources.Hand, ear: Ear, of: Quality, found: Resource) -> Burial | None:
    """Delete *found* with the workflow that runs it by itself. Call with the admission row and the configuration held.

    Raises: Conflict: still used.
    """
    resources.drop(tx, hand, found)
    row = tx.workflows.find(of.key(found.uid), lock=True)
    return workflows.remove_workflow(tx, ear, row.key) if row is not None else None


def check_repositories(entries: Any, what: str) -> list[dict[str, Any]]:
    """``repo_info`` of a run. Raises: Invalid with the documented texts."""
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise Invalid(f"{what} must be a list of objects", place=what)
    seen: set[tuple[str, str, str]] = set()
    for number, entry in enumerate(entries):
        place = f"{what}[{number}]"
        names = [entry.get(key) for key in ("codehost_name", "repo_namespace", "repo_name")]
        if not all(isinstance(name, str) and name for name in names):
            raise Invalid(f"{place} codehost_name, repo_namespace and repo_name cannot be empty")
        if entry.get("enable_commit") is True:
            if not entry.get("commit_id"):
                raise Invalid(f"{place} commit_id cannot be empty when enable_commit is true")
        elif not entry.get("branch"):
            raise Invalid(f"{place} branch cannot be empty when enable_commit is false")
        identity = (str(names[0]), str(names[1]), str(names[2]))
        if identity in seen:
            raise Invalid(f"{place} duplicates repository {identity[1]}/{identity[2]}")
        seen.add(identity)
    return [dict(entry) for entry in entries]


def check_inputs(entries: Any, what: str) -> list[dict[str, Any]]:
    """``inputs`` of a run. Raises: Invalid with the documented texts."""
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise Invalid(f"{what} must be a list of objects", place=what)
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        key = entry.get("key")
        if not isinstance(key, str) or not key:
            raise Invalid(f"{what}[{number}] key cannot be empty")
        if key in seen:
            raise Invalid(f'{what}[{number}] duplicates key "{key}"')
        seen.add(key)
    return [dict(entry) for entry in entries]
