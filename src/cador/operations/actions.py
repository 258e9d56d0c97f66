"""What can be allowed: every action by the thing it is done to, and who has which by a built-in role.

Source: API documents, "Users, groups, roles, API tokens", "Actions".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Subject:
    """A thing actions are done to. ``zh``, ``en``: its name; ``actions``: verb words by action."""

    name: str
    zh: str
    en: str
    actions: Mapping[str, str]


_VERBS: Final[Mapping[str, tuple[str, str]]] = {
    "admin": ("管理", "administer"),
    "config": ("配置", "configure"),
    "create": ("新建", "create"),
    "debug": ("调试", "debug"),
    "delete": ("删除", "delete"),
    "edit": ("编辑", "edit"),
    "get": ("查看", "view"),
    "manage": ("管理服务实例", "manage service instances"),
    "restart": ("重启", "restart"),
    "rollback": ("回滚", "roll back"),
    "run": ("执行", "run"),
    "scale": ("扩缩容", "scale"),
    "ssh": ("登录主机", "log in to hosts"),
}


def _subject(name: str, zh: str, en: str, noun: str, *verbs: str, more: Mapping[str, str] | None = None) -> Subject:
    return Subject(name, zh, en, {f"{verb}_{noun}": verb for verb in verbs} | dict(more or {}))


_EDITED: Final = ("get", "create", "edit", "delete")

PROJECT_SUBJECTS: Final = (
    _subject("Workflow", "工作流", "workflow", "workflow", *_EDITED, "run", "rollback", "debug"),
    _subject(
        "Environment", "测试环境", "environment", "environment",
        *_EDITED, "config", "scale", "manage", "restart", "rollback", more={"debug_pod": "debug", "ssh_pm": "ssh"},
    ),
    _subject(
        "ProductionEnvironment", "生产环境", "production environment", "production_environment",
        *_EDITED, "config", "scale", "manage", "restart", "rollback", more={"production_debug_pod": "debug"},
    ),
    _subject("Service", "测试服务", "service", "service", *_EDITED),
    _subject("ProductionService", "生产服务", "production service", "production_service", *_EDITED),
    _subject("Build", "构建", "build", "build", *_EDITED),
    _subject("Test", "测试", "test", "test", *_EDITED, "run"),
    _subject("Scan", "代码扫描", "scan", "scan", *_EDITED, "run"),
    _subject("Delivery", "版本", "delivery", "delivery", "get", "create", "delete"),
)  # fmt: skip
"""Of a project."""

SYSTEM_SUBJECTS: Final = (
    _subject("Project", "项目", "project", "project", "create"),
    _subject("Template", "模板", "template", "template", *_EDITED),
    _subject("ClusterManagement", "集群", "cluster", "cluster_management", *_EDITED),
    _subject("RegistryManagement", "镜像仓库", "image registry", "registry_management", *_EDITED),
    _subject("S3StorageManagement", "对象存储", "object storage", "s3storage_management", *_EDITED),
    _subject("HelmRepoManagement", "Helm 仓库", "Helm repository", "helmrepo_management", *_EDITED),
    _subject("DBInstanceManagement", "数据库", "database", "dbinstance_management", *_EDITED),
    _subject("LogOperation", "操作日志", "operation log", "log_operation", "get"),
)
"""Of the system."""

GET_PROJECT: Final = "get_project"
ADMIN_PROJECT: Final = "admin_project"
"""What only a project's administrators may do: views, tickets, members, roles."""
SYSTEM: Final = "admin_system"
"""The action of everything that is not of one project; only system administrators have it."""
TICKET: Final = "ticket"
"""To create approval tickets: project administrators, and tokens that a system administrator gave this scope."""
APPROVE: Final = "approve_workflow"
"""A scope alone: whoever is a listed approver, executor or decider needs no role, but a limited token needs this."""

PROJECT_ACTIONS: Final = frozenset(action for subject in PROJECT_SUBJECTS for action in subject.actions)
"""What a role of a project may be made of."""
SYSTEM_ACTIONS: Final = frozenset(action for subject in SYSTEM_SUBJECTS for action in subject.actions)
"""What a role of the system may be made of."""
SHARED_ACTIONS: Final = frozenset(
    {"get_workflow", "edit_workflow", "run_workflow", "rollback_workflow", "debug_workflow"}
)
"""What may be shared of a single workflow."""

ADMIN: Final = "admin"
PROJECT_ADMIN: Final = "project-admin"
READ_ONLY: Final = "read-only"
READ_PROJECT_ONLY: Final = "read-project-only"

ROLE_ACTIONS: Final[Mapping[str, frozenset[str]]] = {
    PROJECT_ADMIN: PROJECT_ACTIONS | {GET_PROJECT, ADMIN_PROJECT, TICKET},
    READ_ONLY: frozenset({GET_PROJECT, *(action for action in PROJECT_ACTIONS if action.startswith("get_"))}),
    READ_PROJECT_ONLY: frozenset({GET_PROJECT}),
}
"""Built-in roles of a project."""

ROLE_TEXTS: Final[Mapping[str, str]] = {
    PROJECT_ADMIN: "everything in the project",
    READ_ONLY: "look at everything in the project",
    READ_PROJECT_ONLY: "see the project",
}

SCOPES: Final = frozenset({SYSTEM, APPROVE}) | SYSTEM_ACTIONS | ROLE_ACTIONS[PROJECT_ADMIN]
"""What a token may be limited to."""


def alias(subject: Subject, action: str, language: str) -> str:
    """An action in words. *language*: ``zh`` or ``en``."""
    zh, en = _VERBS[subject.actions[action]]
    return en if language == "en" else zh
