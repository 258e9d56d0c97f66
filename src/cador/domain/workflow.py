"""Workflow > stage > job as defined by a user. A job's ``spec`` is opaque here: only its job type reads it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ErrorPolicy:
    """``policy``: ``stop``, ``ignore_error``, ``retry`` or ``manual_check``; ``approval_users``: who decides."""

    policy: str = "stop"
    maximum_retry: int = 0
    approval_users: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class ExecutePolicy:
    """``type``: ``execute`` or ``skip``; ``match_rule``: ``all`` or ``any``; rules: triples of field, verb, value."""

    type: str = ""
    match_rule: str = "all"
    rules: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    name: str
    type: str
    spec: Mapping[str, Any]
    skipped: bool = False
    run_policy: str = ""
    error_policy: ErrorPolicy = ErrorPolicy()
    execute_policy: ExecutePolicy = ExecutePolicy()
    breakpoints: tuple[str, ...] = ()
    """``before``, ``after``: kept, never stopped at."""


@dataclass(frozen=True, slots=True)
class StageApproval:
    """Approval before a stage. ``users``: entries as written (``type``, ``user_id``, ``user_name`` ...)."""

    type: str
    description: str
    users: tuple[Mapping[str, Any], ...]
    needed: int
    timeout_min: int


@dataclass(frozen=True, slots=True)
class ManualStage:
    """A stage that starts only when somebody says so. ``users``: entries as written; none: everybody who may run the
    workflow. ``modify_params``: with other inputs for its jobs, if they like."""

    users: tuple[Mapping[str, Any], ...] = ()
    modify_params: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    jobs: tuple[Job, ...]
    parallel: bool = False
    approval: StageApproval | None = None
    manual: ManualStage | None = None


@dataclass(frozen=True, slots=True)
class Param:
    """A workflow variable. ``repo``: for type ``repo``. ``doc``: the object as written, for replies."""

    name: str
    type: str
    value: str
    default: str = ""
    options: tuple[str, ...] = ()
    is_credential: bool = False
    source: str = "runtime"
    required: bool = False
    repo: Mapping[str, Any] | None = None
    doc: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workflow:
    """A definition. ``doc``: the whole document in its stored shape, credentials sealed."""

    key: str
    project: str
    display_name: str
    stages: tuple[Stage, ...]
    params: tuple[Param, ...] = ()
    type: str = "custom"
    concurrency_limit: int = 0
    disabled: bool = False
    remark_required: bool = False
    task_timeout_min: int = 0
    """Of a whole task; 0: none."""
    debug: bool = False
    enable_approval_ticket: bool = False
    doc: Mapping[str, Any] = field(default_factory=dict)

    def job(self, name: str) -> Job | None:
        return next((job for stage in self.stages for job in stage.jobs if job.name == name), None)
