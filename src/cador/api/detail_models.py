"""What tasks and workflows look like in detail, for ``/openapi.json``.

Source: API documents, "Get Workflow Task Details", "Get Workflow Details".
"""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Variable(BaseModel):
    """A workflow variable. The value of a credential is ``********``."""

    name: str
    description: str = ""
    type: str
    value: Any = None
    default: Any = None
    is_credential: bool = False


class JobTask(BaseModel):
    """``spec``: what its type shows. Times: Unix seconds, 0 when not reached."""

    name: str
    type: str
    status: str
    start_time: int
    end_time: int
    cost_seconds: int = 0
    error: str = ""
    spec: dict[str, Any] | None


class StageTask(BaseModel):
    """``approval``, ``manual_exec``: only where somebody is asked."""

    name: str
    status: str
    start_time: int
    end_time: int
    parallel: bool = False
    approval: dict[str, Any] | None = None
    manual_exec: dict[str, Any] | None = None
    jobs: list[JobTask] | None
    error: str = ""


class TaskDocument(BaseModel):
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
    queue: dict[str, Any] | None = None


class StageDocument(BaseModel):
    name: str
    parallel: bool = False
    approval: dict[str, Any] | None = None
    jobs: list[dict[str, Any]] | None


class WorkflowDocument(BaseModel):
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
