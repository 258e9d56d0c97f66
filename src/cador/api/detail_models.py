"""What tasks and workflows look like in detail, for ``/openapi.json``.

Source: API documents, "Get Workflow Task Details", "Get Workflow Details".
"""

from typing import Any

from pydantic import ConfigDict

from cador.api.described import Described


class Variable(Described):
    """A workflow variable. The value of a credential is ``********``."""

    name: str
    description: str = ""
    type: str
    value: Any = None
    default: Any = None
    is_credential: bool = False


class ApproveUser(Described):
    """``reject_or_approve``: empty before the vote, ``approve`` or ``reject``."""

    user_name: str
    user_id: str = ""
    reject_or_approve: str
    comment: str
    operation_time: int


class NativeApproval(Described):
    """``timeout``: minutes. ``needed_approvers``: votes. ``reject_or_approve``: what came of it, empty while open."""

    timeout: int
    approve_users: list[ApproveUser]
    needed_approvers: int
    reject_or_approve: str


class StageApproval(NativeApproval):
    """Flat, and once more below ``native_approval``: clients of different editions read the one or the other."""

    enabled: bool
    type: str = ""
    status: str = ""
    description: str
    start_time: int = 0
    end_time: int = 0
    native_approval: NativeApproval | None = None


class ManualUser(Described):
    type: str
    user_id: str
    user_name: str


class ManualExec(Described):
    """Who may execute a stage by hand, empty: all who may run the workflow; and who has. Spelled as clients know it."""

    enabled: bool
    modify_params: bool
    excuted: bool
    manual_exec_users: list[ManualUser]
    manual_exector_name: str


class TaskName(Described):
    workflow: str
    number: int


class Start(Described):
    """When a task may start, in Unix seconds. ``sure``: ``good`` or ``rough``."""

    at: int
    sure: str
    samples: int


class Queue(Described):
    """Why a task waits. ``blocking``: numbers of tasks of its own workflow; ``blocked_by``: all that may be seen."""

    position: int
    blocking: list[int]
    blocked_by: list[TaskName]
    reason: str
    text: str
    expected_start: Start | None


class JobTask(Described):
    """``spec``: what its type shows. Times: Unix seconds, 0 when not reached."""

    name: str
    type: str
    status: str
    start_time: int
    end_time: int
    cost_seconds: int = 0
    error: str = ""
    spec: dict[str, Any] | None


class StageTask(Described):
    """``approval``, ``manual_exec``: only where somebody is asked."""

    name: str
    status: str
    start_time: int
    end_time: int
    parallel: bool = False
    approval: StageApproval | None = None
    manual_exec: ManualExec | None = None
    jobs: list[JobTask] | None
    error: str = ""


class TaskDocument(Described):
    """``status``: created, running, passed, failed, timeout or cancelled; ``status_detail`` is finer. ``queue``: only
    while it waits for its turn. Times: Unix seconds, 0 when not reached."""

    model_config = ConfigDict(extra="allow")

    task_id: int
    workflow_key: str
    workflow_name: str = ""
    project_key: str = ""
    params: list[Variable] | None = None
    status: str
    status_detail: str = ""
    task_creator: str
    create_time: int
    start_time: int
    end_time: int
    stages: list[StageTask] | None
    error: str = ""
    remark: str = ""
    warnings: list[str] = []
    queue: Queue | None = None


class StageDocument(Described):
    name: str
    parallel: bool = False
    approval: dict[str, Any] | None = None
    jobs: list[dict[str, Any]] | None


class WorkflowDocument(Described):
    """A definition, credentials masked. ``warnings``: what it names and the server does not know."""

    model_config = ConfigDict(extra="allow")

    workflow_key: str
    workflow_name: str
    project_key: str
    description: str = ""
    created_by: str
    create_time: int
    updated_by: str
    update_time: int
    params: list[Variable] | None = None
    stages: list[StageDocument] | None
    notify_ctls: list[dict[str, Any]] | None = None
    share_storages: list[dict[str, Any]] | None = None
    concurrency_limit: int = 0
    workflow_type: str = ""
    warnings: list[str] = []
