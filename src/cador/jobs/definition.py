"""Workflow definitions as they enter: parsed once, every fault named with its place, then values.

:func:`normalise` gives the document in the shape it is stored in (names of "Create a Workflow", API documents);
:func:`parse_workflow` makes domain values of that. What a definition must keep to is in ``rules``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NoReturn, cast

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from cador.domain.errors import Invalid
from cador.domain.workflow import ErrorPolicy, ExecutePolicy, Job, ManualStage, Param, Stage, StageApproval, Workflow

APPROVAL_TIMEOUT_MIN: Final = 60
"""Minutes an approval waits when none (or 0) is configured."""

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

    model_config = ConfigDict(strict=True, defer_build=True, extra="ignore")

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
            maximum_retry=retries or max(error.get("maximum_retry", 0), 0),
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
    return min(retry, MOST_TASKS) if isinstance(retry, int) and retry > 0 else 0


def _approval(doc: Mapping[str, Any] | None) -> StageApproval | None:
    if doc is None or not doc["enabled"]:
        return None
    body = doc.get(f"{doc['type']}_approval") or {}
    return StageApproval(
        type=doc["type"],
        description=doc["description"],
        users=tuple(body.get("approve_users") or ()),
        needed=max(body.get("needed_approvers") or 0, 1),
        timeout_min=min(max(body.get("timeout") or 0, 0), LONGEST_TASK_MIN) or APPROVAL_TIMEOUT_MIN,
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
