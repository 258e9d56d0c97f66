"""From a start request to a task that can be stored: merge, expand, render. Pure but for resolving commits.

Nothing here touches tables; ``tasks.start_task`` reads before and stores after.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import msgspec

from cador.domain.errors import Invalid, NotStartable
from cador.domain.naming import commits_of, unique
from cador.domain.variables import (
    Lookup,
    TaskFacts,
    bounded,
    creation_variables,
    credentials,
    plain,
    protect,
    references,
    render,
    settle,
    settled_params,
    task_url,
)
from cador.domain.workflow import ExecutePolicy, Job, Param, Stage, Workflow
from cador.jobs.base import NUMBER, Catalogue, Doc, JobTaskPlan, JobType, Scope
from cador.operations.actor import Actor
from cador.operations.callbacks import callback_receiver
from cador.operations.notify_inputs import overridden
from cador.operations.parameters import apply_parameters
from cador.operations.stage_executors import StageExecutors
from cador.operations.task_values import JobInput, StartRequest
from cador.ports.stores import NewApproval, NewJob, NewTask, User
from cador.ports.tickets import Ticket

DECIDERS: Final = "deciders"
"""In the plan of a job task: ids of who may decide about its failure."""
MOST_JOB_TASKS: Final = 5_000
"""Of one task: a list of services is quickly written."""
MOST_PLAN_BYTES: Final = 256 << 20
"""Of all job tasks of a start: each of them holds the script that they share."""
APPROVAL_MINUTES: Final = 60
"""Time of an approval that names none."""
_DONE: Final = re.compile(r", (?:ignored|left out|the given value is not used)$")
"""What a start does about a name that means nothing, at the end of a warning: where it refuses, it does not do that."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a start stands on: everything read before it is decided."""

    workflow: Workflow
    revision: int
    catalogue: Catalogue
    project_name: str
    users: Mapping[str, User]
    """By uid and by account: approvers are looked up here."""
    groups: Mapping[str, tuple[User, ...]] = field(default_factory=dict)
    """Members of user groups, by id and by name."""
    ticket: Ticket | None = None
    """The approval ticket that the request names, if the workflow asks for one."""
    at: float = 0.0
    """When this was read: Unix seconds."""


@dataclass(slots=True)
class Draft:
    """A task on its way. ``plans``: in order of fan-out, with the index of their stage among ``stages``."""

    workflow: Workflow
    params: tuple[Param, ...]
    stages: list[Stage]
    plans: list[tuple[int, Job, JobType, JobTaskPlan]]
    table: Mapping[str, str]
    warnings: list[str]
    facts: TaskFacts
    seal: Callable[[str], str]
    given: frozenset[str] = frozenset()
    """Names of the workflow variables whose values people typed in: nothing in those is a reference."""
    notify_ctls: tuple[Mapping[str, Any], ...] | None = None
    """The notifications of this task; None: those of the workflow."""

    def repositories(self) -> list[dict[str, Any]]:
        """The repositories of all job tasks whose commits are to be resolved; changed in place."""
        return [repo for _, _, _, plan in self.plans for path in plan.repos for repo in repos_at(plan.plan, path)]


def draft_task(
    ground: Ground,
    request: StartRequest,
    actor: Actor,
    types: Mapping[str, JobType],
    *,
    at: float,
    base_url: str,
    strict: bool,
    seal: Callable[[str], str],
    typed: frozenset[str] = frozenset(),
) -> Draft:
    """Merge the request into the definition and expand every job that runs. *typed*: names of workflow variables whose
    values in the definition were typed in by people.

    Raises: Invalid, NotStartable: the request or the configuration does not fit, with the contract's text.
    """
    workflow = ground.workflow
    local = datetime.fromtimestamp(at).astimezone()
    warnings: list[str] = []
    names: list[str] = []

    def unknown(text: str) -> None:
        names.append(text)
        warnings.append(text)

    params = apply_parameters(workflow.params, request.parameters, ground.catalogue, unknown, seal)
    facts = TaskFacts(
        number=NUMBER,
        at=at,
        local=local,
        creator=actor.name,
        creator_account=actor.account,
        creator_id=actor.uid,
        project_name=ground.project_name,
        url=task_url(base_url, workflow.project, workflow.key, NUMBER, workflow.display_name),
    )
    given = frozenset(str(entry.get("name", "")) for entry in request.parameters) | typed
    table = creation_variables(workflow, params, facts, given=given)
    lookup = bounded(table.get)
    chosen = _chosen(workflow, request.inputs, unknown)
    scope = Scope(
        catalogue=ground.catalogue,
        workflow=replace(workflow, params=params),
        at=at,
        local_time=local.strftime("%Y%m%d%H%M%S"),
        creator=(actor.uid, actor.name),
        warn=unknown,
        note=warnings.append,
        seal=seal,
    )
    notify_ctls = overridden(workflow.doc.get("notify_ctls") or (), request.notify_inputs, warnings.append)
    draft = Draft(workflow, params, [], [], table, warnings, facts, seal, given, notify_ctls)
    jobs: dict[str, Job] = {}
    expanded: dict[str, Sequence[JobTaskPlan]] = {}
    for stage in workflow.stages:
        ran = [job for job in stage.jobs if job.name in chosen]
        for job in ran:
            jobs[job.name] = _updated(job, chosen[job.name], types, replace(scope, jobs=jobs, plans=expanded))
        for job in ran:
            updated = jobs[job.name]
            spec, _ = render(updated.spec, lookup)
            breakpoints = tuple(dict.fromkeys((*job.breakpoints, *chosen[job.name].breakpoints)))
            updated = jobs[job.name] = replace(updated, spec=spec, breakpoints=breakpoints)
            if breakpoints:
                warnings.append(f"job {job.name}: breakpoints are kept, but nothing stops at them")
            expanded[job.name] = types[job.type].expand(updated, replace(scope, jobs=jobs, plans=expanded))
        plans = [(jobs[job.name], plan) for job in ran for plan in expanded[job.name]]
        if (count := len(draft.plans) + len(plans)) > MOST_JOB_TASKS:
            raise NotStartable(f"{count} job tasks are more than the {MOST_JOB_TASKS} that a task may have")
        if plans:
            index = len(draft.stages)
            draft.stages.append(stage)
            draft.plans += [(index, job, types[job.type], plan) for job, plan in plans]
    if request.debug or workflow.debug:
        warnings.append("debug is kept, but nothing stops at breakpoints")
    if strict and names:
        raise NotStartable(_DONE.sub("", names[0]))
    return draft


def _chosen(workflow: Workflow, inputs: Sequence[JobInput], warn: Callable[[str], None]) -> dict[str, JobInput]:
    """The jobs that run: those that ``inputs`` names, the last entry of a name counts."""
    chosen: dict[str, JobInput] = {}
    jobs = {job.name: job for stage in workflow.stages for job in stage.jobs}
    for entry in inputs:
        job = jobs.get(entry.job_name)
        if job is None:
            warn(f"job {entry.job_name} not found in workflow, ignored")
            continue
        if entry.job_type and entry.job_type != job.type:
            warn(f"job {job.name} is of type {job.type}, not {entry.job_type}")
        chosen[job.name] = entry
    for stage in workflow.stages:
        for job in stage.jobs:
            if job.run_policy == "force_run" and job.name not in chosen:
                raise NotStartable(f"job {job.name} skipped, but the run policy is set to force run")
    return chosen


def _updated(job: Job, entry: JobInput, types: Mapping[str, JobType], scope: Scope) -> Job:
    job_type = types.get(job.type)
    if job_type is None:
        raise Invalid(f"undefined job type of type:{job.type}", place="inputs")
    return job_type.update(job, entry.parameters, scope)


def new_task(draft: Draft, ground: Ground, request: StartRequest, actor: Actor, parallel_limit: int) -> NewTask:
    """The task to store; its number is still the placeholder (see :func:`with_number`).

    Raises: NotStartable: an approval that nobody could give, or that is asked for elsewhere.
    """
    approvals: list[NewApproval] = []
    manual = {}
    for index, stage in enumerate(draft.stages):
        if text := _manual(stage, ground, actor, draft.warnings):
            manual[index] = text
        if stage.approval is not None:
            if stage.approval.type != "native":
                raise NotStartable(f"{stage.approval.type} approval is not configured")
            needed, voters = _electorate(stage.approval.users, stage.approval.needed, ground, actor, draft.warnings)
            minutes = stage.approval.timeout_min or APPROVAL_MINUTES
            approvals.append(
                NewApproval(index, None, needed, voters, minutes * 60.0, stage.approval.description,
                            stage.approval.type)
            )  # fmt: skip
    for place, (index, _, job_type, plan) in enumerate(draft.plans):
        if job_type.kind == "approval":
            spec = plan.plan
            needed, voters = _electorate(
                spec["approve_users"], int(spec["needed_approvers"]), ground, actor, draft.warnings
            )
            approvals.append(
                NewApproval(index, place, needed, voters, float(spec["timeout"]) * 60.0,
                            plain(str(spec.get("description", ""))), str(spec.get("type", "native")))
            )  # fmt: skip
    jobs, secrets = new_jobs(draft)
    jobs = tuple(
        _with_deciders(new, job, ground, actor, draft.warnings)
        for new, (_, job, _, _) in zip(jobs, draft.plans, strict=True)
    )
    workflow = draft.workflow
    return NewTask(
        workflow_key=workflow.key,
        project=workflow.project,
        number=0,
        display_name=workflow.display_name,
        type=workflow.type,
        creator=actor.name,
        creator_id=actor.uid,
        creator_account=actor.account,
        trigger=request.trigger,
        create_at=draft.facts.at,
        parallel_limit=parallel_limit,
        stages=tuple((stage.name, stage.parallel) for stage in draft.stages),
        jobs=jobs,
        approvals=tuple(approvals),
        snapshot=snapshot_of(draft, request, secrets, ground.ticket),
        remark=request.remark or "",
        idempotency_key=request.idempotency_key,
        auto_cancel=request.auto_cancel,
        timeout_s=workflow.task_timeout_min * 60.0,
        manual=manual,
        commits=commits_of(draft.repositories()),
        receivers=(callback_receiver(request.callback, draft.seal),) if request.callback is not None else (),
    )


def _with_deciders(new: NewJob, job: Job, ground: Ground, actor: Actor, warnings: list[str]) -> NewJob:
    """*new* with those who may decide about its failure: as they are known now, groups as they are now."""
    users = job.error_policy.approval_users
    if not users:
        return new
    deciders = [uid for uid, _ in _people("decider", users, ground, actor, warnings)]
    return replace(new, plan={**new.plan, DECIDERS: deciders})


def new_jobs(draft: Draft) -> tuple[tuple[NewJob, ...], dict[str, str]]:
    """The job tasks of *draft*, rendered as far as is known, and its credentials by the path of their references.

    Raises: NotStartable: they, or what is put in for references, are larger than anybody means.
    """
    table = dict(draft.table)
    secrets = credentials(draft.params)
    for _, _, _, plan in draft.plans:
        for path, value in plan.variables.items():
            if value.startswith("sealed:"):
                secrets[path] = value
            elif value:
                table.setdefault(path, value if references(value) else protect(value))
    lookup = bounded(settle(table).get)
    names = unique([plan.name for _, _, _, plan in draft.plans])
    jobs, size = [], 0
    for (index, job, job_type, plan), name in zip(draft.plans, names, strict=True):
        made, written = _new_job(index, job, job_type, plan, name, lookup)
        jobs.append(made)
        size += written
        if size > MOST_PLAN_BYTES:
            raise NotStartable(f"the job tasks of this start are larger than {MOST_PLAN_BYTES >> 20} MiB together")
    return tuple(jobs), secrets


def snapshot_of(
    draft: Draft, request: StartRequest, secrets: Mapping[str, str], ticket: Ticket | None = None
) -> dict[str, Any]:
    """What a task keeps of how it came about: enough to draft it once more."""
    return {
        "workflow": draft.workflow.doc,
        "params": [_param_doc(param) for param in draft.params],
        "env": settled_params(draft.params, draft.table),
        "secret_variables": dict(secrets),
        "request": {
            # As JSON, sealed: what was sent for a credential stands in it as it was typed.
            "inputs": draft.seal(msgspec.json.encode(request.inputs).decode()) if request.inputs else "",
            "given": sorted(draft.given),
            "notify_inputs": list(request.notify_inputs),
            "auto_cancel": request.auto_cancel,
        },
        **({"notify_ctls": list(draft.notify_ctls)} if draft.notify_ctls is not None else {}),
        **({"approval_ticket": {"id": ticket.uid, "approval_id": ticket.approval_id}} if ticket is not None else {}),
        "task_url": draft.facts.url,
        "debug": request.debug or draft.workflow.debug,
        "warnings": list(dict.fromkeys(draft.warnings)),
    }


def _new_job(
    stage: int,
    job: Job,
    job_type: JobType,
    plan: JobTaskPlan,
    name: str,
    lookup: Lookup,
) -> tuple[NewJob, int]:
    """Also how long its plan is, written as JSON."""
    spec, _ = render(plan.plan, lookup)
    policy = _policy_doc(job.execute_policy, lookup)
    envelope: dict[str, Any] = {"spec": spec, "info": dict(plan.info)}
    if policy is not None:
        envelope["policy"] = policy
    if job.breakpoints:
        envelope["breakpoints"] = list(job.breakpoints)
    # References that are left need what earlier jobs produce: only then are those read at the start of this job.
    written = msgspec.json.encode(envelope).decode()
    envelope["late"] = bool(references(written))
    new = NewJob(
        stage=stage,
        name=name,
        job=job.name,
        key=plan.key,
        display_name=plan.display_name,
        type=job.type,
        kind=job_type.kind,
        timeout_s=plan.timeout_s,
        plan=envelope,
        policy=job.error_policy.policy,
        maximum_retry=job.error_policy.maximum_retry,
        repeatable=job_type.repeatable,
        conditional=job_type.kind == "approval" and policy is not None,
    )
    return new, len(written)


def _policy_doc(policy: ExecutePolicy, lookup: Lookup) -> dict[str, Any] | None:
    if not policy.rules:
        return None
    rules, _ = render([list(rule) for rule in policy.rules], lookup)
    return {"type": policy.type, "match_rule": policy.match_rule, "rules": rules}


def _electorate(
    entries: Sequence[Mapping[str, Any]], needed: int, ground: Ground, actor: Actor, warnings: list[str]
) -> tuple[int, tuple[tuple[str, str], ...]]:
    """Who may vote, without duplicates, and how many votes it takes (0 counts as 1)."""
    voters = _people("approver", entries, ground, actor, warnings)
    needed = max(1, needed)
    if not voters:
        raise NotStartable("num of approve-users is 0")
    if len(voters) < needed:
        raise NotStartable("all approve users should not less than needed approvers")
    known = {user.uid for user in ground.users.values()} | {actor.uid}
    known |= {user.uid for members in ground.groups.values() for user in members}
    strangers = [name for uid, name in voters if uid not in known]
    if len(voters) - len(strangers) < needed:
        raise NotStartable(f"approver {strangers[0]} is not a user of this server")
    return needed, voters


def _manual(stage: Stage, ground: Ground, actor: Actor, warnings: list[str]) -> str:
    """Who may execute *stage*, as it is stored. Where the definition names only people who are not known, nobody but
    the administrators may."""
    if stage.manual is None:
        return ""
    users = _people("executor", stage.manual.users, ground, actor, warnings)
    return StageExecutors(users, not stage.manual.users, stage.manual.modify_params).text()


def _people(
    what: str, entries: Sequence[Mapping[str, Any]], ground: Ground, actor: Actor, warnings: list[str]
) -> tuple[tuple[str, str], ...]:
    """The people that *entries* of a definition mean, each once, as pairs of user id and name. *what*: they are."""
    people: dict[str, str] = {}
    for entry in entries:
        kind = str(entry.get("type") or "user")
        ident, name = str(entry.get("user_id") or ""), str(entry.get("user_name") or "")
        if kind == "task_creator":
            people.setdefault(actor.uid, actor.name)
            continue
        if kind == "group":
            group, title = str(entry.get("group_id") or ""), str(entry.get("group_name") or "")
            found = ground.groups.get(group, ground.groups.get(title))
            if found is None:
                warnings.append(f"{what} group {title or group} is not known, left out")
            for member in found or ():
                people.setdefault(member.uid, member.name)
            continue
        user = ground.users.get(ident) or ground.users.get(name)
        if user is None:
            warnings.append(f"{what} {name or ident} is not a user of this server")
            people.setdefault(ident or name, name or ident)
        else:
            people.setdefault(user.uid, user.name)
    return tuple(people.items())


def _param_doc(param: Param) -> dict[str, Any]:
    doc = {**param.doc, "name": param.name, "type": param.type, "value": param.value}
    if param.type == "repo":
        doc["repo"] = dict(param.repo) if param.repo is not None else None
    return doc


def with_number(task: NewTask, number: int) -> NewTask:
    """*task* with its number everywhere the placeholder stood."""
    return replace(
        task,
        number=number,
        jobs=tuple(replace(job, plan=filled(job.plan, number)) for job in task.jobs),
        snapshot=filled(task.snapshot, number),
    )


def filled(doc: Doc, number: int) -> dict[str, Any]:
    """*doc* with the number of its task where the placeholder stood."""
    text = msgspec.json.encode(doc)
    placeholder = NUMBER.encode()
    if placeholder in text:
        text = text.replace(placeholder, str(number).encode())
    filled: dict[str, Any] = msgspec.json.decode(text)
    return filled


def repos_at(doc: Any, path: str) -> list[dict[str, Any]]:
    """The repositories in the list at dotted *path* of a plan; ``[]`` when there is none."""
    for part in path.split("."):
        if isinstance(doc, list):
            doc = doc[int(part)] if part.isdigit() and int(part) < len(doc) else None
        elif isinstance(doc, Mapping):
            doc = doc.get(part)
    return [repo for repo in doc if isinstance(repo, dict)] if isinstance(doc, list) else []
