"""Replies of the API as typed dictionaries. They hold what the server sent: further keys may be there.

Times are Unix seconds, 0 where a moment is not reached, unless said otherwise.
"""

from typing import Any, NotRequired, TypedDict


class Started(TypedDict):
    """``warnings``: what was accepted and not used."""

    project_key: str
    workflow_key: str
    task_id: int
    warnings: NotRequired[list[str]]


class Job(TypedDict):
    name: str
    display_name: str
    type: str
    status: str
    start_time: int
    end_time: int
    error: str
    spec: dict[str, Any]


class Stage(TypedDict):
    name: str
    status: str
    start_time: int
    end_time: int
    jobs: list[Job]
    error: str


class Task(TypedDict):
    """``status``: created, running, passed, failed, timeout or cancelled; ``status_detail`` is finer."""

    task_id: int
    workflow_key: str
    project_key: str
    status: str
    status_detail: str
    task_creator: str
    create_time: int
    start_time: int
    end_time: int
    stages: list[Stage]
    error: NotRequired[str]


class TaskLine(TypedDict):
    task_id: int
    workflow_key: str
    project_key: str
    status: str
    task_creator: str
    create_time: int
    start_time: int
    end_time: int
    remark: NotRequired[str]


class TaskPage(TypedDict):
    """``total``: of all pages."""

    total: int
    workflow_tasks: list[TaskLine]


class WorkflowLine(TypedDict):
    workflow_key: str
    workflow_name: str
    update_by: str
    update_time: int
    type: str


class ViewMember(TypedDict):
    workflow_key: str
    workflow_type: NotRequired[str]


class View(TypedDict):
    name: str
    project_key: str
    workflows: list[ViewMember]
    update_time: int
    update_by: str


class Ticket(TypedDict):
    id: str
    project_key: str
    approval_id: str
    status: int
    envs: list[str]
    services: list[dict[str, Any]]
    users: list[dict[str, Any]]
    execution_window_start: int
    execution_window_end: int
    create_time: int
    used_by: dict[str, Any] | None


class Applied(TypedDict):
    """``action``: created, updated, unchanged, deleted or failed (``error`` says why)."""

    kind: str
    name: str
    project: str
    action: str
    error: str
    diff: NotRequired[Any]


class ApplyResult(TypedDict):
    results: list[Applied]
    warnings: list[str]


class Token(TypedDict):
    """``expire_time``: 0 for never."""

    id: int
    name: str
    kind: str
    prefix: str
    scopes: list[str]
    projects: list[str]
    create_time: int
    expire_time: int
    last_used_time: int


class NewToken(Token):
    """``token``: its text, shown this once."""

    token: str


class Artifact(TypedDict):
    path: str
    size: int


class Me(TypedDict):
    uid: str
    account: str
    name: str
    email: str
    admin: bool
    roles: dict[str, list[str]]
    scopes: list[str]
