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
    """``enabled``: whether a view shows it; in replies only what is shown is there."""

    workflow_key: str
    workflow_type: NotRequired[str]
    enabled: NotRequired[bool]


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
    """``action``: created, updated, unchanged, deleted, ``kept`` (``error`` says by whom it is used) or ``error``."""

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


class TokenOfSomebody(Token):
    uid: str
    account: str


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


# -- projects and what belongs to them


class ProjectLine(TypedDict):
    project_key: str
    project_name: str
    description: str
    deploy_type: str


class Project(TypedDict):
    """``deploy_type``: k8s, helm or cloud_host."""

    project_key: str
    project_name: str
    desc: str
    is_public: bool
    deploy_type: str
    create_time: int
    created_by: str
    weight: NotRequired[float]


class Variable(TypedDict):
    key: str
    value: str
    type: NotRequired[str]
    options: NotRequired[list[str]]
    desc: NotRequired[str]


class Variables(TypedDict):
    variables: list[Variable]
    production_variables: list[Variable]


class Container(TypedDict):
    """A module of a service and its image."""

    name: str
    image: str
    image_name: str


class ServiceLine(TypedDict):
    service_name: str
    source: str
    type: str
    containers: list[Container]


class Service(ServiceLine):
    """``template_name``: of the template it was made from, if any."""

    yaml: str
    revision: int
    template_name: str
    auto_sync: bool
    service_variable_kvs: list[Variable]
    created_by: str
    created_time: int


class EnvironmentLine(TypedDict):
    """``status``: ``unknown`` with ``status_reason`` where the server does not look into the cluster."""

    env_key: str
    envName: str
    namespace: str
    cluster_id: str
    registry_id: str
    production: bool
    status: str
    status_reason: str
    update_by: str
    update_time: int


class Environment(TypedDict):
    project_key: str
    env_key: str
    env_name: str
    namespace: str
    cluster_id: str
    registry_id: str
    production: bool
    global_variables: list[Variable]
    services: list[dict[str, Any]]
    status: str
    status_reason: str
    update_by: str
    update_time: int


class EnvironmentState(TypedDict):
    env_name: str
    status: str
    err_message: str


class BuildLine(TypedDict):
    name: str
    project_key: str
    source: str
    target_services: list[dict[str, Any]]
    update_by: str
    update_time: int


class TestLine(TypedDict):
    name: str
    project_key: str
    description: str
    update_by: str
    update_time: int


class ScanLine(TypedDict):
    name: str
    project_key: str
    scanner_type: str
    description: str
    update_by: str
    update_time: int


class StartedRun(TypedDict):
    """``workflow_key``: of the workflow that the run is a task of."""

    task_id: int
    workflow_key: str


# -- people


class UserLine(TypedDict):
    uid: str
    account: str
    name: str
    identity_type: str
    last_login_time: int


class User(UserLine):
    email: str
    phone: str
    admin: bool


class UserGroupLine(TypedDict):
    id: str
    name: str
    description: str
    type: str
    user_total: int


class Member(TypedDict):
    uid: str
    account: str
    name: str


class UserGroup(UserGroupLine):
    users: list[Member]


class RoleLine(TypedDict):
    """``type``: ``system`` (built in) or ``custom``. ``namespace``: a project, or ``*``."""

    id: str
    name: str
    namespace: str
    desc: str
    type: str


class Rule(TypedDict):
    resource: str
    verbs: list[str]


class Role(RoleLine):
    rules: list[Rule]


class Action(TypedDict):
    action: str
    alias: str


class ActionGroup(TypedDict):
    resource: str
    alias: str
    rules: list[Action]


class Binding(TypedDict):
    """``binding_type``: ``user`` with ``user_info``, or ``group`` with ``group_info``."""

    binding_type: str
    roles: list[str]
    user_info: NotRequired[dict[str, Any]]
    group_info: NotRequired[dict[str, Any]]


# -- the system


class CodeHost(TypedDict):
    """``alias``: the older word for ``name``."""

    id: int
    name: str
    alias: str
    type: str
    address: str


class Registry(TypedDict):
    registry_id: str
    name: str
    address: str
    namespace: str
    provider: str
    region: str
    is_default: bool


class Cluster(TypedDict):
    """``local``: the server's own machine. ``executor``: kubernetes, container or process."""

    cluster_id: str
    name: str
    type: str
    executor: str
    local: bool
    production: bool
    description: str
    project_names: list[str]
    status: str
    status_reason: str


class Database(TypedDict):
    id: str
    name: str
    type: str
    host: str
    port: str
    username: str
    database: str
    projects: list[str]


class Setting(TypedDict):
    """``value``: what counts; ``configured``: what the configuration says; ``live``: it was set here."""

    name: str
    value: int
    configured: int
    live: bool


class AuditEntry(TypedDict):
    id: int
    at: str
    account: str
    action: str
    project: str
    target: str
    detail: dict[str, Any]


class AuditCheck(TypedDict):
    """``ok``: all ``entries`` are as they were written, up to the one with ``last_id`` and ``last_hash``; else
    ``broken`` says which is not."""

    ok: bool
    entries: int
    broken: str
    last_id: int
    last_hash: str
