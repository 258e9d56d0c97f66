"""A task drafted once more from what it keeps of its start, with other values: the jobs that have not run yet, or run
again, get new plans; which jobs there are stays as it is.

Definitions and values are the task's own. Configurations (builds, registries, code hosts) are read as they are now, as
at every start; commits stay frozen where the same branch or tag is asked for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from cador.domain.errors import Conflict, Invalid, NotStartable
from cador.domain.events import Edit
from cador.domain.masking import MASK
from cador.domain.naming import commits_of, unique
from cador.domain.task import JOB_FINAL, JobStatus, TaskStatus, WorkflowTask
from cador.domain.workflow import Param, Workflow
from cador.engine.preparing import Catalogues
from cador.jobs.base import Catalogue
from cador.jobs.definition import parse_workflow
from cador.operations.actor import Actor
from cador.operations.commits import freeze_commits
from cador.operations.context import Context
from cador.operations.input_edits import edits_of, merged, shown
from cador.operations.resources import refuse_sealed
from cador.operations.starting import DECIDERS, Draft, Ground, draft_task, filled, new_jobs, repos_at, snapshot_of
from cador.operations.task_values import Edits, JobInput, StartRequest
from cador.operations.tickets import check_reach
from cador.ports.stores import JobRow, NewJob, TaskRow, Tx
from cador.ports.tickets import Ticket

_CHOICE: Final = ("branch", "tag", "pr", "prs", "merge_branches", "enable_commit")
_FACTS: Final = ("commit_id", "commit_message", "author_name")
EDITS: Final = "edits"
"""In the plan of a job task: how often the task had been edited when the plan was made."""


class Edited(Conflict):
    """The task was edited by somebody else since it was read."""


@dataclass(frozen=True, slots=True)
class Original:
    """A task as it is stored, with everything a further draft needs."""

    row: TaskRow
    task: WorkflowTask
    snapshot: Mapping[str, Any]
    jobs: tuple[JobRow, ...]
    catalogue: Catalogue
    ticket: Ticket | None = None
    """The approval ticket that let it in, as it is now."""


def load_original(tx: Tx, catalogues: Catalogues, task_id: int) -> Original:
    """On one snapshot of the database. Raises: NotFound."""
    row = tx.tasks.row(task_id)
    snapshot = tx.tasks.snapshot(task_id)
    let_in = snapshot.get("approval_ticket")
    return Original(
        row,
        tx.tasks.load(task_id),
        snapshot,
        tuple(tx.tasks.jobs(task_id)),
        catalogues.load(tx, row.project),
        tx.tickets.by_uid(let_in["id"]) if let_in else None,
    )


@dataclass(frozen=True, slots=True)
class Redraft:
    """New plans by id of their job task, and the new snapshot; None: nothing was edited, only plans were behind.

    ``basis``: how often the task had been edited before. ``jobs``: names of jobs whose inputs were edited; ``params``:
    whether workflow variables were. ``changes``: what was edited, for the event. ``commits``: of all repositories.
    """

    plans: Mapping[int, Mapping[str, Any]]
    snapshot: Mapping[str, Any] | None
    basis: int
    jobs: tuple[str, ...] = ()
    params: bool = False
    changes: tuple[Edit, ...] = ()
    commits: tuple[str, ...] = ()

    def store(self, tx: Tx, before: WorkflowTask, after: WorkflowTask) -> None:
        """Write what the jobs that begin, or begin again, run with from now on; in the transaction of the event.

        Raises: Edited: the task was edited meanwhile. Invalid: an edited job does not run again, or others that run
        depend on an edited variable.
        """
        if tx.tasks.row(after.id).edits != self.basis:
            raise Edited("the task was changed meanwhile, try again")
        if self.params and before.status is TaskStatus.RUNNING:
            raise Invalid(
                "other jobs of the task run with the present parameters; they can be changed when it has ended",
                place="parameters",
            )
        begun = begins(before, after)
        rows = {job.id: job for job in tx.tasks.jobs(after.id)}
        for name in self.jobs:
            if not any(job.job == name and job.id in begun for job in rows.values()):
                raise Invalid(f"job {name} does not run, its inputs cannot be changed", place="inputs")
        for job_id in begun:
            old, plan = rows[job_id].plan, self.plans[job_id]
            if self.snapshot is not None or old.get(EDITS, 0) < plan[EDITS]:
                tx.tasks.set_plan(job_id, {**plan, **({"run_policy": skip} if (skip := old.get("run_policy")) else {})})
        tx.commits.add(after.id, tx.tasks.row(after.id).project, self.commits)
        if self.snapshot is not None:
            tx.tasks.set_snapshot(after.id, self.snapshot)


def begins(before: WorkflowTask, after: WorkflowTask) -> frozenset[int]:
    """Job tasks that had not begun, or were put back to their beginning, between *before* and *after*."""
    still = {job.id for job in before.jobs if job.status is JobStatus.IDLE or job.status in JOB_FINAL}
    return frozenset(job.id for job in after.jobs if job.id in still and job.status not in JOB_FINAL)


SKIP: Final = "skip"
"""``run_policy`` in the plan of a job task that was left out of its stage."""


def left_out(job: JobRow) -> bool:
    """Whether the person who executed its stage left *job* out: no retry runs it without the stage being executed."""
    return job.plan.get("run_policy") == SKIP


def behind(original: Original, begun: frozenset[int]) -> bool:
    """Whether a job of *begun* has a plan from before the task was last edited."""
    return any(job.id in begun and job.plan.get(EDITS, 0) < original.row.edits for job in original.jobs)


async def redraft(ctx: Context, original: Original, edits: Edits) -> Redraft:
    """Raises: Invalid: a value does not fit, or would change which jobs the task has. NotStartable: a configuration
    that the jobs need is not as it was."""
    refuse_sealed((edits.parameters, [entry.parameters for entry in edits.inputs]), ctx.sealer)
    row, snapshot = original.row, original.snapshot
    request = snapshot["request"]
    workflow = _workflow(original)
    old_inputs = _inputs(ctx, request)
    _check(workflow, original, edits, old_inputs)
    inputs = tuple(_edited(entry, edits.inputs) for entry in old_inputs)
    creator = Actor(row.creator_id, row.creator, row.creator_account)
    start = StartRequest(
        row.workflow_key,
        row.project,
        inputs=inputs,
        parameters=tuple(_whole(entry, workflow, original.catalogue) for entry in edits.parameters),
        notify_inputs=tuple(request.get("notify_inputs", ())),
        auto_cancel=request.get("auto_cancel", ""),
        debug=bool(snapshot.get("debug", False)),
    )
    draft = draft_task(
        Ground(workflow, 0, original.catalogue, _project_name(original), {}),
        start,
        creator,
        ctx.types,
        at=row.create_at,
        base_url=ctx.options().base_url,
        strict=False,
        seal=lambda value: ctx.sealer.seal(value, f"task/{row.workflow_key}"),
        typed=_typed(request, workflow, snapshot),
    )
    _check_same_jobs(draft, original)
    if edits and "approval_ticket" in snapshot:
        if original.ticket is None:
            raise NotStartable("the approval ticket of this task is gone: it can be repeated only as it was")
        check_reach(original.ticket, [(job, plan) for _, job, _, plan in draft.plans])
    _refuse_new_warnings(draft, original, edits)
    frozen = _keep_commits(draft, original)
    await freeze_commits(ctx, original.catalogue, draft, lambda repo: id(repo) in frozen)
    jobs, secrets = new_jobs(draft)
    commits = commits_of(draft.repositories())
    number = row.edits + bool(edits)
    plans = {
        old.id: {**filled(new.plan, row.number), **_asked(old), EDITS: number}
        for old, new in zip(original.jobs, jobs, strict=True)
    }
    if not edits:
        return Redraft(plans, None, row.edits, commits=commits)
    kept = {
        **filled(snapshot_of(draft, start, secrets, original.ticket), row.number),
        "task_url": snapshot.get("task_url", ""),
    }
    kept["warnings"] = list(dict.fromkeys((*snapshot.get("warnings", ()), *kept["warnings"])))
    changes = (*_param_changes(workflow, draft.params), *_input_changes(old_inputs, inputs, jobs))
    edited = tuple(entry.job_name for entry in edits.inputs)
    return Redraft(plans, kept, row.edits, edited, bool(edits.parameters), changes, commits)


def _asked(job: JobRow) -> Mapping[str, Any]:
    """Who decides about a failure stays as it was when the task was created."""
    return {DECIDERS: job.plan[DECIDERS]} if DECIDERS in job.plan else {}


def _workflow(original: Original) -> Workflow:
    """The definition the task was made from, its variables with the values of the task."""
    workflow = parse_workflow(original.snapshot["workflow"])
    values = {doc["name"]: doc for doc in original.snapshot["params"]}

    def with_value(param: Param) -> Param:
        doc = values.get(param.name)
        # A default was put in when the task was created; what is empty now is meant to be.
        return param if doc is None else replace(param, value=doc["value"], repo=doc.get("repo"), default="")

    row = original.row
    return replace(
        workflow,
        params=tuple(with_value(param) for param in workflow.params),
        display_name=row.display_name,
        type=row.type,
    )


def _project_name(original: Original) -> str:
    project = original.catalogue.find("project", original.row.project)
    return str(project.document.get("project_name") or original.row.project) if project else original.row.project


def _inputs(ctx: Context, request: Mapping[str, Any]) -> tuple[JobInput, ...]:
    sealed = request["inputs"]
    return msgspec.json.decode(ctx.sealer.open(sealed), type=tuple[JobInput, ...]) if sealed else ()


def _typed(request: Mapping[str, Any], workflow: Workflow, snapshot: Mapping[str, Any]) -> frozenset[str]:
    """Variables whose values people typed in. Tasks of earlier versions did not say: those that differ."""
    if "given" in request:
        return frozenset(request["given"])
    written = {param.name: param.value for param in parse_workflow(snapshot["workflow"]).params}
    return frozenset(param.name for param in workflow.params if param.value != written[param.name])


def _check(workflow: Workflow, original: Original, edits: Edits, inputs: tuple[JobInput, ...]) -> None:
    params = {param.name: param for param in workflow.params}
    for entry in edits.parameters:
        name = str(entry.get("name", ""))
        if name in params and params[name].source in ("fixed", "reference"):
            raise Invalid(f"param {name} is {params[name].source} in the workflow, it cannot be changed", place=name)
        if name in params and params[name].type != "repo" and entry.get("repo") is not None:
            raise Invalid(f"param {name} is no repository", place=name)
        if entry.get("value") == MASK:
            raise Invalid(f"the value of param {name} is masked", place=name)
    known = {entry.job_name for entry in inputs}
    for edited in edits.inputs:
        if edited.job_name not in known:
            raise Invalid(f"job {edited.job_name} is not part of task {original.task.label}", place="inputs")
        if MASK in msgspec.json.encode(edited.parameters).decode():
            raise Invalid(f"inputs of job {edited.job_name} contain a masked value", place="inputs")


def _whole(entry: Mapping[str, Any], workflow: Workflow, catalogue: Catalogue) -> Mapping[str, Any]:
    """*entry* as a start takes it: of a repository only its branch, or what is to be another one, was named."""
    param = next((param for param in workflow.params if param.name == entry.get("name")), None)
    if param is None or param.type != "repo" or not param.repo:
        return entry
    present = param.repo
    host = catalogue.by_id("codehost", str(present.get("codehost_id")))
    names = {
        "codehost_name": host.name if host is not None else "",
        "repo_namespace": present.get("repo_namespace") or present.get("repo_owner"),
        "repo_name": present.get("repo_name"),
    }
    return {**entry, "repo": {**names, **(entry.get("repo") or {"branch": entry.get("value", "")})}}


def _edited(entry: JobInput, edits: tuple[JobInput, ...]) -> JobInput:
    for edit in edits:
        if edit.job_name == entry.job_name:
            entry = replace(entry, parameters=merged(entry.parameters, edit.parameters))
    return entry


def _refuse_new_warnings(draft: Draft, original: Original, edits: Edits) -> None:
    """What a start would only warn of, an edit must not: it would be told as done, and be nothing."""
    known = set(original.snapshot.get("warnings", ()))
    told = filled({"warnings": draft.warnings}, original.row.number)["warnings"]
    new = [warning for warning in told if warning not in known]
    if new and edits:
        raise Invalid(new[0], place="inputs" if edits.inputs else "parameters")


def _keep_commits(draft: Draft, original: Original) -> set[int]:
    """Put the frozen commits where the same source is asked for as before. Returns which (``id``) those are."""
    kept = set()
    for (_, _, _, plan), row in zip(draft.plans, original.jobs, strict=True):
        for path in plan.repos:
            before = {_repo_key(repo): repo for repo in repos_at(row.plan.get("spec", {}), path)}
            for repo in repos_at(plan.plan, path):
                old = before.get(_repo_key(repo))
                if old is None or not old.get("commit_id") or _source(repo) != _source(old):
                    continue
                if not repo.get("enable_commit") or repo.get("commit_id") == old.get("commit_id"):
                    repo.update({key: old[key] for key in _FACTS if old.get(key)})
                    kept.add(id(repo))
    return kept


def _source(repo: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of the repository is asked for; nothing said is the same as nothing."""
    return tuple(repo.get(key) or None for key in _CHOICE)


def _repo_key(repo: Mapping[str, Any]) -> tuple[str, ...]:
    namespace = repo.get("repo_namespace") or repo.get("repo_owner")
    return (str(repo.get("codehost_id")), str(namespace), str(repo.get("repo_name")))


def _check_same_jobs(draft: Draft, original: Original) -> None:
    names = unique([plan.name for _, _, _, plan in draft.plans])
    now = [
        (draft.stages[index].name, name, job.type) for (index, job, _, _), name in zip(draft.plans, names, strict=True)
    ]
    then = [(original.task.stages[job.stage].name, job.name, job.type) for job in original.jobs]
    if now != then:
        raise Invalid("this would change which jobs the task has; start a new task instead", place="inputs")


def _param_changes(workflow: Workflow, params: tuple[Param, ...]) -> Iterator[Edit]:
    for old, new in zip(workflow.params, params, strict=True):
        if old.type == "repo":
            before, after = _repo_text(old.repo), _repo_text(new.repo)
        else:
            before, after = (shown(param.value, hidden=param.is_credential) for param in (old, new))
        if (old.value, old.repo) != (new.value, new.repo):
            yield Edit(old.name, before, after)


def _repo_text(repo: Mapping[str, Any] | None) -> str:
    repo = repo or {}
    parts = [str(repo.get("tag") or repo.get("branch") or ""), *(f"#{number}" for number in repo.get("prs") or ())]
    return " ".join(filter(None, parts))


def _input_changes(old: tuple[JobInput, ...], new: tuple[JobInput, ...], jobs: tuple[NewJob, ...]) -> Iterator[Edit]:
    for before, after in zip(old, new, strict=True):
        if before.parameters != after.parameters:
            plans = [job.plan for job in jobs if job.job == after.job_name]
            yield from edits_of(after.job_name, before.parameters, after.parameters, frozenset(_secret_keys(plans)))


def _secret_keys(doc: Any) -> Iterator[str]:
    """Keys of variables that are credentials."""
    if isinstance(doc, Mapping):
        if doc.get("is_credential") is True and doc.get("key"):
            yield str(doc["key"])
        for value in doc.values():
            yield from _secret_keys(value)
    elif isinstance(doc, list):
        for value in doc:
            yield from _secret_keys(value)
