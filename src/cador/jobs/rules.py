"""The rules of a workflow definition: :func:`check_workflow` applies them when it is saved, job types ask for some of
them again when a task starts. Old definitions are loaded without them."""

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final, cast

from cador.domain.errors import InvalidDefinition, NotStartable
from cador.domain.workflow import Job, Workflow
from cador.jobs.base import JobType
from cador.jobs.definition import LONGEST_TASK_MIN, MOST_TASKS

KEY_PATTERN: Final = re.compile(r"[a-zA-Z0-9-]+")
JOB_NAME_PATTERN: Final = r"^[a-z\u4e00-\u9fa5][a-z0-9\u4e00-\u9fa5-]{0,31}$"
"""As shown in messages. Matched with :func:`re.fullmatch`, ``$`` alone would let a newline pass."""
MOST_JOBS: Final = 2_000
"""Of one workflow."""
BAD_KEY: Final = "a workflow key consists of letters, digits and hyphens"


def check_workflow(workflow: Workflow, types: Mapping[str, JobType]) -> None:
    """Apply the rules of a definition. Raises: InvalidDefinition: the first broken one, in the documents' order:
    project, key, stage names, job names, types, references between jobs, approvals; then what each job type asks.
    """
    if not workflow.project:
        raise InvalidDefinition("project should not be empty", place="project")
    if not KEY_PATTERN.fullmatch(workflow.key):
        raise InvalidDefinition(BAD_KEY, place="name")
    if (count := sum(len(stage.jobs) for stage in workflow.stages)) > MOST_JOBS:
        raise InvalidDefinition(f"{count} jobs are more than the {MOST_JOBS} that a workflow may have", place="stages")
    _check_names(workflow, types)
    ranks = job_ranks(workflow)
    for place, job in _jobs(workflow):
        check_reference(job, ranks, place)
    for number, stage in enumerate(workflow.stages):
        if stage.approval is not None and (
            fault := approval_fault(stage.approval.type, _approval_doc(workflow, number))
        ):
            raise InvalidDefinition(
                f"stage: {stage.name} approval info error: {fault}", place=f"stages[{number}].approval"
            )
    for place, job in _jobs(workflow):
        for name in _output_names(job.spec):
            if not re.fullmatch(r"[a-zA-Z0-9_]{1,64}", name):
                raise InvalidDefinition("output name must match ^[a-zA-Z0-9_]{1,64}$", place=place)
        _check_numbers(place, job)
        types[job.type].check(job, workflow)


def _check_numbers(place: str, job: Job) -> None:
    """Timeouts of a job and how often it runs again: only the start would meet what no calendar and no table holds."""
    for path in _TIMEOUTS:
        where, minutes = f"{place}.spec.{'.'.join(path)}", _at(job.spec, path)
        if minutes is None:
            continue
        if not isinstance(minutes, int) or isinstance(minutes, bool):
            raise InvalidDefinition(f"timeout of job {job.name} must be an integer", place=where)
        if fault := timeout_fault(minutes):
            raise InvalidDefinition(f"job {job.name}: {fault}", place=where)
    retry = _at(job.spec, ("properties", "retry"))
    if isinstance(retry, int) and retry > MOST_TASKS:
        where = f"{place}.spec.properties.retry"
        raise InvalidDefinition(f"retry of job {job.name} is more than {MOST_TASKS}", place=where)


def _at(spec: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        spec = spec.get(key) if isinstance(spec, Mapping) else None
    return spec


def _jobs(workflow: Workflow) -> Iterator[tuple[str, Job]]:
    for s, stage in enumerate(workflow.stages):
        for j, job in enumerate(stage.jobs):
            yield f"stages[{s}].jobs[{j}]", job


def _check_names(workflow: Workflow, types: Mapping[str, JobType]) -> None:
    seen: set[str] = set()
    for number, stage in enumerate(workflow.stages):
        if not stage.name:  # nobody could approve it
            raise InvalidDefinition("stage name should not be empty", place=f"stages[{number}].name")
        if stage.name in seen:
            raise InvalidDefinition(f"duplicated stage name: {stage.name}", place=f"stages[{number}].name")
        seen.add(stage.name)
    for place, job in _jobs(workflow):
        if not re.fullmatch(JOB_NAME_PATTERN.strip("^$"), job.name):
            raise InvalidDefinition(f"job name [{job.name}] did not match {JOB_NAME_PATTERN}", place=f"{place}.name")
    seen.clear()
    for place, job in _jobs(workflow):
        if job.name in seen:
            raise InvalidDefinition(f"duplicated job name: {job.name}", place=f"{place}.name")
        seen.add(job.name)
    for place, job in _jobs(workflow):
        if job.type not in types:
            raise InvalidDefinition("job type not supported", place=f"{place}.type")


def job_ranks(workflow: Workflow) -> dict[str, tuple[int, str]]:
    """Rank and type of every job: each job of a serial stage has its own rank, those of a parallel stage share one."""
    ranks: dict[str, tuple[int, str]] = {}
    rank = 0
    for stage in workflow.stages:
        for job in stage.jobs:
            rank += not stage.parallel
            ranks[job.name] = (rank + stage.parallel, job.type)
        rank += stage.parallel
    return ranks


_SERVICE_SOURCES: Final = frozenset(
    {"zadig-build", "zadig-distribute-image", "zadig-deploy", "zadig-test", "zadig-scanning", "freestyle"}
)
QUOTABLE: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("zadig-build", "zadig-test", "zadig-scanning", "freestyle"), _SERVICE_SOURCES),
    "zadig-deploy": frozenset({"zadig-build", "zadig-distribute-image", "zadig-deploy", "zadig-restart", "freestyle"}),
    "zadig-distribute-image": frozenset({"zadig-build", "zadig-distribute-image", "zadig-deploy"}),
    "zadig-restart": _SERVICE_SOURCES | {"zadig-restart"},
    "zadig-vm-deploy": frozenset({"zadig-build"}),
    "approval": frozenset({"approval"}),
}
"""Which types a job with ``source: fromjob`` may refer to; types not named here may refer to any."""


def reference(spec: Mapping[str, Any]) -> str:
    """The job a spec with ``source: fromjob`` takes from, ``""`` without one. ``origin_job_name`` wins when given."""
    if spec.get("source") != "fromjob":
        return ""
    return str(spec.get("origin_job_name") or spec.get("job_name") or "")


def check_reference(job: Job, ranks: Mapping[str, tuple[int, str]], place: str) -> None:
    """Raises: InvalidDefinition: the quoted job is missing, of a wrong type, or does not run earlier."""
    if job.spec.get("source") != "fromjob":
        return
    quoted = reference(job.spec)
    rank, kind = ranks.get(quoted, (-1, ""))
    if rank < 0 or rank >= ranks[job.name][0] or kind not in QUOTABLE.get(job.type, (kind,)):
        raise InvalidDefinition(f"can not quote job {quoted} in job {job.name}", place=f"{place}.spec.job_name")


def _output_names(spec: Mapping[str, Any]) -> Iterator[str]:
    advanced, plugin = spec.get("advanced_setting"), spec.get("plugin")
    lists = (part.get("outputs") for part in (spec, advanced, plugin) if isinstance(part, Mapping))
    for output in chain.from_iterable(outputs for outputs in lists if isinstance(outputs, list)):
        name = output.get("name") if isinstance(output, Mapping) else output
        if isinstance(name, str):
            yield name


def _approval_doc(workflow: Workflow, stage: int) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", workflow.doc["stages"][stage]["approval"])


EXTERNAL_APPROVALS: Final = ("lark", "lark_intl", "dingtalk", "workwx")
_TIMEOUTS: Final = (
    ("timeout",),
    ("properties", "timeout"),
    ("advanced_setting", "timeout"),
    *((f"{kind}_approval", key) for kind in ("native", "lark", "dingtalk", "workwx") for key in ("timeout", "Timeout")),
)
"""Where specs of jobs say how many minutes they may take, of whatever type."""


def timeout_fault(minutes: int) -> str:
    """What is wrong with a timeout, ``""`` if nothing."""
    if minutes > LONGEST_TASK_MIN:
        return f"timeout {str(minutes)[:20]} is too long: at most {LONGEST_TASK_MIN} minutes, a year"
    return ""


def check_timeout(minutes: int) -> None:
    """Raises: NotStartable: more than a year, in a definition older than that rule."""
    if fault := timeout_fault(minutes):
        raise NotStartable(fault)


def approval_fault(kind: str, doc: Mapping[str, Any]) -> str:
    """What is wrong with an approval of a stage or of a job, ``""`` if nothing. *doc* holds ``<kind>_approval``.

    Groups count as enough people: who is in them is known at the start.
    """
    if kind != "native" and kind not in EXTERNAL_APPROVALS:
        return f"invalid approval type {kind}"
    body = doc.get(f"{kind.removesuffix('_intl')}_approval")
    if not isinstance(body, Mapping):
        return "approval not found"
    listed = body.get("approve_users") or []
    if not isinstance(listed, list | tuple):
        return "approve_users must be a list"
    users = [user for user in listed if isinstance(user, Mapping)]
    if kind != "native":
        return "" if users or body.get("approval_nodes") else "num of approve-users is 0"
    if not users:
        return "num of approve-users is 0"
    people = {str(user.get("user_id") or user.get("user_name") or user.get("type")) for user in users}
    needed = body.get("needed_approvers", body.get("NeededApprovers")) or 1
    if not isinstance(needed, int):
        return "needed_approvers must be an integer"
    if len(people) < needed and not any(user.get("type") == "group" for user in users):
        return "all approve users should not less than needed approvers"
    return ""
