"""What a start request may carry: jobs with their inputs, variables, recipients. Source: API documents, "Execute the
Workflow".

These models find values of a wrong type, with their place, whatever the type of the job; which of the members a job
uses is for its type to say.
"""

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, model_validator

from cador.api.lenient import LenientBody, Listed
from cador.api.params import PROJECT, WORKFLOW, respelled, spelled
from cador.operations.task_values import LONGEST_REMARK

LONGEST_WORD: Final = 255


class _Body(LenientBody):
    """Unknown keys are kept: they may mean something to the type of a job."""

    model_config = ConfigDict(extra="allow")


class KeyValue(_Body):
    """A variable. Only those that exist in the definition are set."""

    key: str
    value: str = ""


class RunRepoInput(_Body):
    """Which source to use. Overrides the configured repository of the same code host, namespace and name."""

    codehost_name: str = ""
    repo_namespace: str = ""
    repo_name: str = ""
    branch: str = ""
    pr: int = 0
    prs: Listed[int] = Field(default_factory=list)
    tag: str = ""
    enable_commit: bool = False
    commit_id: str = ""
    remote_name: str = ""
    checkout_path: str = ""
    submodules: bool = False


class RunServiceInput(_Body):
    """A service of a build, deploy, test or scan."""

    service_name: str = ""
    service_module: str = ""
    image_name: str = ""
    image: str = ""
    value_merge_strategy: Literal["", "reuse-values", "override"] = ""
    variable_kvs: Listed[dict[str, Any]] = Field(default_factory=list)
    variable_yaml: str = ""
    update_config: bool = False
    file_name: str = ""
    repo_info: Listed[RunRepoInput] = Field(default_factory=list)
    inputs: Listed[KeyValue] = Field(default_factory=list)


class RunTestInput(_Body):
    __test__ = False  # not one of pytest's

    testing_name: str
    repo_info: Listed[RunRepoInput] = Field(default_factory=list)
    inputs: Listed[KeyValue] = Field(default_factory=list)


class RunScanInput(_Body):
    scanning_name: str
    repo_info: Listed[RunRepoInput] = Field(default_factory=list)
    inputs: Listed[KeyValue] = Field(default_factory=list)


class TargetInput(_Body):
    """A workload of a custom deployment, an image to distribute or a resource to patch."""

    workload_type: str = ""
    workload_name: str = ""
    container_name: str = ""
    image_name: str = ""
    service_name: str = ""
    service_module: str = ""
    source_image: str = ""
    source_tag: str = ""
    target_tag: str = ""
    update_tag: bool = False
    resource_name: str = ""
    resource_kind: str = ""
    resource_group: str = ""
    resource_version: str = ""
    inputs: Listed[KeyValue] = Field(default_factory=list)


class IterationInput(_Body):
    iteration_id: str = ""
    iteration_name: str = ""
    start_date: str = ""
    end_date: str = ""


class JobParameters(_Body):
    """``parameters`` of an input: every job type takes those of these it knows. What is absent stays as configured."""

    registry: str = ""
    env_name: str = ""
    service_list: Listed[RunServiceInput] = Field(default_factory=list)
    services: Listed[RunServiceInput] = Field(default_factory=list)
    target_list: Listed[TargetInput] = Field(default_factory=list)
    testing_list: Listed[RunTestInput] = Field(default_factory=list)
    scanning_list: Listed[RunScanInput] = Field(default_factory=list)
    kv: Listed[KeyValue] = Field(default_factory=list)
    repo_info: Listed[RunRepoInput] = Field(default_factory=list)
    database_name: str = ""
    sql: str = ""
    project_id: str = ""
    project_name: str = ""
    status: str = ""
    iteration_ids: Listed[str] = Field(default_factory=list)
    iterations: Listed[IterationInput] = Field(default_factory=list)


class RunInput(_Body):
    """Runs the job of this name. ``job_type`` is for people: the definition decides. Breakpoints are kept and named in
    ``warnings``; nothing stops at them."""

    job_name: str
    job_type: str = ""
    parameters: JobParameters = Field(default_factory=JobParameters)
    breakpoint_before: bool = False
    breakpoint_after: bool = False


class RunRepo(_Body):
    codehost_name: str = ""
    repo_namespace: str = ""
    repo_name: str = ""
    branch: str = ""
    prs: Listed[int] = Field(default_factory=list)


class RunParameter(_Body):
    """A value of a workflow variable."""

    name: str
    type: str = ""
    value: str = ""
    repo: RunRepo | None = None


class Dynamic(_Body):
    """``dynamic_recipients``: variables like ``{{.workflow.params.owner_email}}`` that say whom to tell."""

    dynamic_recipients: Listed[str] = Field(default_factory=list)


class Account(_Body):
    """A person as the messenger knows them. Empty ``id_type`` means ``user_id``."""

    id: str
    id_type: Literal["", "user_id", "open_id"] = ""


class HookRecipients(Dynamic):
    at_users: Listed[str] = Field(default_factory=list)
    is_at_all: bool = False


class GroupRecipients(Dynamic):
    """An empty ``chat_id`` keeps the chat."""

    chat_id: str = ""
    at_users: Listed[Account] = Field(default_factory=list)
    is_at_all: bool = False


class PersonRecipients(Dynamic):
    users: Listed[Account] = Field(default_factory=list)


class DingRecipients(Dynamic):
    at_mobiles: Listed[str] = Field(default_factory=list)
    is_at_all: bool = False


class TeamsRecipients(Dynamic):
    at_emails: Listed[str] = Field(default_factory=list)


class MailRecipients(Dynamic):
    """``user_ids``: users of this server."""

    user_ids: Listed[str] = Field(default_factory=list)
    users: Listed[dict[str, Any]] = Field(default_factory=list)


class NotifyInput(_Body):
    """Other recipients for one notification, by its place among the workflow's, from 0. ``type`` must be that
    notification's, else the entry is not used; the configuration of that type replaces all recipients."""

    id: int
    type: str
    enabled: bool | None = None
    lark_hook_notification_config: HookRecipients | None = None
    lark_group_notification_config: GroupRecipients | None = None
    lark_person_notification_config: PersonRecipients | None = None
    wechat_notification_config: HookRecipients | None = None
    dingding_notification_config: DingRecipients | None = None
    msteams_notification_config: TeamsRecipients | None = None
    mail_notification_config: MailRecipients | None = None


class RunBody(_Body):
    """Execute a workflow: the jobs named in ``inputs`` run, all others are skipped.

    ``auto_cancel``: a word such as ``pr:shop/api:12``; unfinished older tasks of this workflow that were started with
    the same word are cancelled. ``debug`` is kept and named in ``warnings``; nothing stops at breakpoints.
    """

    workflow_key: str
    project_key: str
    parameters: Listed[RunParameter] = Field(default_factory=list)
    inputs: Listed[RunInput] = Field(default_factory=list)
    notify_inputs: Listed[NotifyInput] = Field(default_factory=list)
    remark: str = Field("", max_length=LONGEST_REMARK)
    auto_cancel: str = Field("", max_length=LONGEST_WORD)
    debug: bool = False
    approval_ticket_id: str = ""
    approval_id: str = ""

    model_config = ConfigDict(json_schema_extra=spelled(WORKFLOW, PROJECT))

    @model_validator(mode="before")
    @classmethod
    def _respell(cls, value: Any) -> Any:
        return respelled(value, (WORKFLOW, PROJECT)) if isinstance(value, dict) else value
