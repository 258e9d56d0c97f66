"""Workflow definitions as they enter: parsed once, every fault named with its place, then values.

:func:`normalise` gives the document in the shape it is stored in (names of "Create a Workflow", API documents);
:func:`parse_workflow` makes domain values of that; :func:`check_workflow` applies the rules of a definition.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, Literal, NoReturn, cast

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from cador.domain.errors import Invalid, InvalidDefinition, NotStartable
from cador.domain.workflow import ErrorPolicy, ExecutePolicy, Job, ManualStage, Param, Stage, StageApproval, Workflow
from cador.jobs.base import JobType

KEY_PATTERN: Final = re.compile(r"[a-zA-Z0-9-]+")
JOB_NAME_PATTERN: Final = r"^[a-z\u4e00-\u9fa5][a-z0-9\u4e00-\u9fa5-]{0,31}$"
"""As shown in messages. Matched with :func:`re.fullmatch`, ``$`` alone would let a newline pass."""
APPROVAL_TIMEOUT_MIN: Final = 60
"""Minutes an approval waits when none (or 0) is configured."""
BAD_KEY: Final = "a workflow key consists of letters, digits and hyphens"

MOST_TASKS: Final = 2**31 - 1
"""Largest ``concurrency_limit`` and ``maximum_retry``, as the tables keep them."""
LONGEST_TASK_MIN: Final = 366 * 24 * 60
"""Minutes any timeout may be: a year, so that every deadline is an instant that can be told."""
BREAKPOINTS: Final = ("breakpoint_before", "breakpoint_after")

Doc = dict[str, Any]


def _without_nulls(value: Any) -> Any:
    """A key whose value is null counts as absent, as it did for the clients of the documents."""
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


class _Lenient(BaseModel):
    """Wrong types are faults; keys nobody knows are dropped."""

    model_config = ConfigDict(strict=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        return _without_nulls(value)


def _choice(*names: str) -> Any:
    return AliasChoices(*names)


def _options(value: Any) -> Any:
    """``choice_否`` is how the documents print ``choice_option``."""
    if isinstance(value, dict) and "choice_否" in value:
        value = dict(value)
        value.setdefault("choice_option", value.pop("choice_否"))
        value.pop("choice_否", None)
    return value


class ApproveUser(_Lenient):
    type: str = "user"
    user_id: str = ""
    user_name: str = ""
    group_id: str = ""
    group_name: str = ""
    id: str = ""
    name: str = ""


class ApprovalBody(_Lenient):
    """Who decides, in any of the kinds. ``timeout``: minutes."""

    timeout: int = Field(0, le=LONGEST_TASK_MIN, validation_alias=_choice("timeout", "Timeout"))
    needed_approvers: int = Field(0, validation_alias=_choice("needed_approvers", "NeededApprovers"))
    approve_users: list[ApproveUser] = []


class StageApprovalDoc(_Lenient):
    """The nested form of the documents, and the flat one (users beside ``enabled``)."""

    enabled: bool = False
    type: str = ""
    description: str = ""
    native_approval: ApprovalBody | None = None
    lark_approval: Doc | None = None
    dingtalk_approval: Doc | None = None
    workwx_approval: Doc | None = None
    timeout: int | None = Field(None, le=LONGEST_TASK_MIN, validation_alias=_choice("timeout", "Timeout"))
    needed_approvers: int | None = Field(None, validation_alias=_choice("needed_approvers", "NeededApprovers"))
    approve_users: list[ApproveUser] | None = None

    def document(self) -> Doc:
        """As stored: nested, lower-case keys; what was not sent stays away."""
        doc: Doc = {"enabled": self.enabled, "type": self.type or "native", "description": self.description}
        native = self.native_approval
        if native is None and (self.approve_users is not None or self.needed_approvers is not None):
            native = ApprovalBody.model_construct(
                timeout=self.timeout or 0,
                needed_approvers=self.needed_approvers or 0,
                approve_users=self.approve_users or [],
            )
        if native is not None:
            users = [user.model_dump(exclude_unset=True) for user in native.approve_users]
            doc["native_approval"] = {
                "timeout": native.timeout,
                "approve_users": users,
                "needed_approvers": native.needed_approvers,
            }
        for name in ("lark_approval", "dingtalk_approval", "workwx_approval"):
            if (other := getattr(self, name)) is not None:
                doc[name] = {"timeout" if key == "Timeout" else key: value for key, value in other.items()}
        return doc


class ManualExecDoc(_Lenient):
    """Who lets a stage begin, and whether they may change the inputs of its jobs."""

    enabled: bool = False
    modify_params: bool = False
    manual_exec_users: list[ApproveUser] = []

    def document(self) -> Doc:
        users = [user.model_dump(exclude_unset=True) for user in self.manual_exec_users]
        return {"enabled": self.enabled, "modify_params": self.modify_params, "manual_exec_users": users}


class ErrorPolicyDoc(_Lenient):
    policy: str = ""
    maximum_retry: int = Field(0, le=MOST_TASKS)
    approval_users: list[Doc] = []


class RuleDoc(_Lenient):
    field: str = ""
    verb: str = ""
    value: str = ""


class ExecutePolicyDoc(_Lenient):
    type: str = ""
    match_rule: str = "all"
    rules: list[RuleDoc] = []


class JobDoc(_Lenient):
    name: str = ""
    type: str = ""
    skipped: bool = False
    run_policy: str = ""
    spec: Doc = {}
    error_policy: ErrorPolicyDoc | None = None
    execute_policy: ExecutePolicyDoc | None = None
    breakpoint_before: bool = False
    breakpoint_after: bool = False
    notify_ctls: list[Doc] | None = None

    def document(self) -> Doc:
        doc: Doc = {
            "name": self.name,
            "type": self.type,
            "skipped": self.skipped,
            "run_policy": self.run_policy,
            "spec": rename_options(self.spec),
        }
        for name in ("error_policy", "execute_policy"):
            if (policy := getattr(self, name)) is not None:
                doc[name] = policy.model_dump()
        if self.notify_ctls:
            doc["notify_ctls"] = self.notify_ctls
        return doc | {name: True for name in BREAKPOINTS if getattr(self, name)}


class StageDoc(_Lenient):
    name: str = ""
    parallel: bool = False
    approval: StageApprovalDoc | None = None
    manual_exec: ManualExecDoc | None = None
    jobs: list[JobDoc] = []

    def document(self) -> Doc:
        doc: Doc = {"name": self.name, "parallel": self.parallel}
        if self.approval is not None:
            doc["approval"] = self.approval.document()
        if self.manual_exec is not None:
            doc["manual_exec"] = self.manual_exec.document()
        return {**doc, "jobs": [job.document() for job in self.jobs]}


class ParamDoc(_Lenient):
    name: str
    description: str = ""
    type: str = "string"
    value: str = ""
    default: str = ""
    repo: Doc | None = None
    choice_option: list[str] = []
    choice_value: list[str] = []
    is_credential: bool = False
    source: str = ""
    required: bool = False
    script: str = ""
    call_function: str = ""

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, value: Any) -> Any:
        return _options(value)

    def document(self) -> Doc:
        always = ("name", "description", "type", "value", "default", "repo", "is_credential")
        doc = self.model_dump()
        return {key: value for key, value in doc.items() if key in always or value}


OPTIONAL: Final = (
    "disabled", "remark", "remark_required", "task_timeout", "debug", "enable_approval_ticket", "ignore_cache",
    "category",
)  # fmt: skip
"""Fields of a definition that are stored and shown where they say something."""


class WorkflowDoc(_Lenient):
    name: str = Field("", validation_alias=_choice("name", "workflow_key"))
    display_name: str = Field("", validation_alias=_choice("display_name", "workflow_name"))
    project: str = Field("", validation_alias=_choice("project", "project_key"))
    description: str = ""
    concurrency_limit: int | None = Field(None, ge=-1, le=MOST_TASKS)
    multi_run: bool | None = None
    params: list[ParamDoc] = []
    stages: list[StageDoc] = []
    notify_ctls: list[Doc] = []
    share_storages: list[Doc] = []
    disabled: bool = False
    remark: str = ""
    remark_required: bool = False
    task_timeout: int = Field(0, ge=0, le=LONGEST_TASK_MIN)
    debug: bool = False
    enable_approval_ticket: bool = False
    ignore_cache: bool = False
    category: str = ""
    workflow_type: Literal["", "custom", "product"] = ""

    def document(self) -> Doc:
        doc: Doc = {
            "name": self.name,
            "display_name": self.display_name or self.name,
            "project": self.project,
            "description": self.description,
            "concurrency_limit": self._limit(),
            "params": [param.document() for param in self.params],
            "stages": [stage.document() for stage in self.stages],
            "notify_ctls": self.notify_ctls,
            "share_storages": self.share_storages,
            "workflow_type": self.workflow_type or "custom",
        }
        return {**doc, **{name: getattr(self, name) for name in OPTIONAL if getattr(self, name)}}

    def _limit(self) -> int:
        """``multi_run`` is how definitions before ``concurrency_limit`` said it; with neither the limit is 0."""
        if self.concurrency_limit is not None:
            return self.concurrency_limit
        return 0 if self.multi_run is None else (-1 if self.multi_run else 1)


def normalise(body: Any) -> Doc:
    """Parse the body of "Create a Workflow" into the document that is stored.

    Names have one spelling, defaults are filled in, unknown keys are dropped except inside ``spec`` of a job.

    Raises: Invalid: every fault of the body at once, ``place: reason`` joined by ``; ``; its place is the first one's.
    """
    if not isinstance(body, Mapping):
        raise Invalid("a workflow definition is an object")
    for first, second in (("name", "workflow_key"), ("display_name", "workflow_name"), ("project", "project_key")):
        if body.get(first) and body.get(second) and body[first] != body[second]:
            raise Invalid(f"conflicting values for {first}", place=first)
    sent = {key: value for key, value in body.items() if value != "" or key not in ("name", "display_name", "project")}
    try:
        return WorkflowDoc.model_validate(sent).document()
    except ValidationError as error:
        raise_faults(error)


def raise_faults(error: ValidationError, place: str = "") -> NoReturn:
    """Turn every fault pydantic found into one Invalid. *place* stands before each."""
    faults = [
        (_place([place, *fault["loc"]] if place else fault["loc"]), _reason(cast("Mapping[str, Any]", fault)))
        for fault in error.errors(include_url=False, include_input=False)
    ]
    raise Invalid("; ".join(f"{where}: {why}" for where, why in faults), place=faults[0][0]) from None


_REASONS: Final = {
    "missing": "is required",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}


def _reason(fault: Mapping[str, Any]) -> str:
    return _REASONS.get(fault["type"]) or str(fault["msg"]).removeprefix("Value error, ")


def _place(parts: Sequence[int | str]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".") or "body"


def rename_options(value: Any) -> Any:
    """``choice_否`` becomes ``choice_option`` at any depth."""
    if isinstance(value, Mapping):
        return {key: rename_options(item) for key, item in _options(dict(value)).items()}
    if isinstance(value, list):
        return [rename_options(item) for item in value]
    return value


# -- values


def parse_workflow(doc: Mapping[str, Any]) -> Workflow:
    """Domain values of a stored document (one that :func:`normalise` made)."""
    return Workflow(
        key=doc["name"],
        project=doc["project"],
        display_name=doc["display_name"],
        stages=tuple(_stage(stage) for stage in doc["stages"]),
        params=tuple(_param(param) for param in doc["params"]),
        type=doc.get("workflow_type", "custom"),
        concurrency_limit=doc["concurrency_limit"],
        disabled=doc.get("disabled", False),
        remark_required=doc.get("remark_required", False),
        task_timeout_min=doc.get("task_timeout", 0),
        debug=doc.get("debug", False),
        enable_approval_ticket=doc.get("enable_approval_ticket", False),
        doc=doc,
    )


def _stage(doc: Mapping[str, Any]) -> Stage:
    return Stage(
        doc["name"],
        tuple(_job(job) for job in doc["jobs"]),
        doc["parallel"],
        _approval(doc.get("approval")),
        _manual(doc.get("manual_exec")),
    )


def _manual(doc: Mapping[str, Any] | None) -> ManualStage | None:
    if doc is None or doc.get("enabled") is not True:
        return None
    users = tuple(user for user in doc.get("manual_exec_users") or () if isinstance(user, Mapping))
    return ManualStage(users, doc.get("modify_params") is True)


def _job(doc: Mapping[str, Any]) -> Job:
    error, execute = doc.get("error_policy") or {}, doc.get("execute_policy") or {}
    retries = 0 if error.get("policy") else _old_retry(doc)
    return Job(
        name=doc["name"],
        type=doc["type"],
        spec=doc["spec"],
        skipped=doc["skipped"],
        run_policy=doc["run_policy"],
        error_policy=ErrorPolicy(
            policy="retry" if retries else error.get("policy") or "stop",
            maximum_retry=retries or error.get("maximum_retry", 0),
            approval_users=tuple(error.get("approval_users", ())),
        ),
        execute_policy=ExecutePolicy(
            type=execute.get("type", ""),
            match_rule=execute.get("match_rule", "all"),
            rules=tuple((rule["field"], rule["verb"], rule["value"]) for rule in execute.get("rules", ())),
        ),
        breakpoints=tuple(name.removeprefix("breakpoint_") for name in BREAKPOINTS if doc.get(name)),
    )


def _old_retry(doc: Mapping[str, Any]) -> int:
    """``properties.retry`` of older definitions counts when there is no error policy."""
    properties = doc["spec"].get("properties")
    retry = properties.get("retry") if isinstance(properties, Mapping) else 0
    return retry if isinstance(retry, int) and retry > 0 else 0


def _approval(doc: Mapping[str, Any] | None) -> StageApproval | None:
    if doc is None or not doc["enabled"]:
        return None
    body = doc.get(f"{doc['type']}_approval") or {}
    return StageApproval(
        type=doc["type"],
        description=doc["description"],
        users=tuple(body.get("approve_users") or ()),
        needed=max(body.get("needed_approvers") or 0, 1),
        timeout_min=body.get("timeout") or APPROVAL_TIMEOUT_MIN,
    )


def _param(doc: Mapping[str, Any]) -> Param:
    selected = doc.get("choice_value", ())
    return Param(
        name=doc["name"],
        type=doc["type"],
        value=doc["value"] or (",".join(selected) if doc["type"] == "multi-select" else ""),
        default=doc["default"],
        options=tuple(doc.get("choice_option", ())),
        is_credential=doc["is_credential"],
        source=doc.get("source", "runtime"),
        required=doc.get("required", False),
        repo=doc["repo"],
        doc=doc,
    )


# -- rules


def check_workflow(workflow: Workflow, types: Mapping[str, JobType]) -> None:
    """Apply the rules of a definition. Raises: InvalidDefinition: the first broken one, in the documents' order:
    project, key, stage names, job names, types, references between jobs, approvals; then what each job type asks.
    """
    if not workflow.project:
        raise InvalidDefinition("project should not be empty", place="project")
    if not KEY_PATTERN.fullmatch(workflow.key):
        raise InvalidDefinition(BAD_KEY, place="name")
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
        types[job.type].check(job, workflow)


def _jobs(workflow: Workflow) -> Iterator[tuple[str, Job]]:
    for s, stage in enumerate(workflow.stages):
        for j, job in enumerate(stage.jobs):
            yield f"stages[{s}].jobs[{j}]", job


def _check_names(workflow: Workflow, types: Mapping[str, JobType]) -> None:
    seen: set[str] = set()
    for number, stage in enumerate(workflow.stages):
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


def check_timeout(minutes: int) -> None:
    """Raises: NotStartable: more than a year."""
    if minutes > LONGEST_TASK_MIN:
        raise NotStartable(f"timeout {str(minutes)[:20]} is too long: at most {LONGEST_TASK_MIN} minutes, a year")


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
