"""What a job type is: pure functions from a definition to job tasks, and from a job task to what an executor runs.

A start goes: ``update`` (run-time input) -> ``expand`` (job tasks with a *plan* each) -> stored. When a job task is
reached: its plan is rendered again with what earlier jobs produced -> ``compile`` -> an executor runs the folder ->
``conclude`` (reports, images, verdict). ``view`` is what clients see of it, at any time.

A plan is a JSON object. It holds no secret in clear: credentials stand in it sealed and are opened by ``compile``
through :class:`Run`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from cador.domain.workflow import Job, Workflow
from cador.ports.code_hosts import CodeHostAccess
from cador.ports.executor import JobFolder
from cador.ports.stores import Resource

NUMBER: Final = "\ue000number\ue000"
"""Stands in a plan for the number of the task, which is only known in the transaction that stores it."""

Doc = Mapping[str, Any]


class Catalogue:
    """The configuration one project sees, frozen at one version: its own resources and those of the system.

    Documents are the stored ones, credentials sealed. Kinds: ``project``, ``service``, ``build``, ``test``,
    ``codehost``, ``registry``, ``baseimage``, ``cluster``.
    """

    def __init__(self, project: str, resources: Sequence[Resource], version: int = 0) -> None:
        self.project = project
        self.version = version
        self._by_name = {(r.kind, r.project, r.name): r for r in resources}
        self._by_id = {(r.kind, ident): r for r in resources for ident in (r.uid, str(r.id))}

    def find(self, kind: str, name: str, project: str | None = None) -> Resource | None:
        """By name, in *project* (default: this one), else of the system."""
        own = self._by_name.get((kind, self.project if project is None else project, name))
        return own or self._by_name.get((kind, "", name))

    def by_id(self, kind: str, ident: str | int) -> Resource | None:
        return self._by_id.get((kind, str(ident)))

    def all(self, kind: str) -> list[Resource]:
        return [resource for (k, _, _), resource in self._by_name.items() if k == kind]


@dataclass(frozen=True, slots=True)
class Scope:
    """What ``update`` and ``expand`` may look at. ``at``: Unix seconds of the start; ``local_time``: the same as
    ``YYYYMMDDhhmmss`` in the server's time zone, for image tags. ``jobs``: jobs of this start by name, updated ones
    included. ``plans``: what jobs expanded so far became, by job name (for ``fromjob``). ``creator``: user id and
    display name of who starts."""

    catalogue: Catalogue
    workflow: Workflow
    at: float
    local_time: str
    creator: tuple[str, str] = ("", "")
    jobs: Mapping[str, Job] = field(default_factory=dict)
    plans: Mapping[str, Sequence["JobTaskPlan"]] = field(default_factory=dict)
    warn: Callable[[str], None] = lambda text: None
    note: Callable[[str], None] = lambda text: None
    """Tells what is worth knowing and wrong nowhere: a warning that refuses no start in strict mode."""
    seal: Callable[[str], str] = lambda text: text
    """Seals a credential given at run time."""


@dataclass(frozen=True, slots=True)
class JobTaskPlan:
    """One job task as expanded. ``name`` is not yet unique in the task (the start pipeline sees to that).

    ``info``: the ingredients of the name (``job_name``, ``service_name`` ...). ``variables``: what other jobs may refer
    to from creation on, by full path without braces (``job.build.api.api.BRANCH``); sealed texts are credentials.
    ``repos``: dotted paths (``repos``, ``steps.0.spec.repos``) of lists of repositories inside ``plan`` whose commits
    are resolved at creation.
    """

    name: str
    key: str
    display_name: str
    timeout_s: float
    plan: dict[str, Any]
    info: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    repos: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """What ``compile`` knows of the execution besides the rendered plan.

    ``params``: workflow variables as environment (repo and file types left out), credentials opened. ``open``: opens a
    sealed text and remembers it for masking. ``codehost``: access by id, None if there is none.
    """

    workflow: str
    project: str
    number: int
    job_task: str
    task_url: str
    params: Mapping[str, str]
    open: Callable[[str], str]
    codehost: Callable[[int], CodeHostAccess | None]
    secrets: Callable[[], tuple[str, ...]]
    """All values opened so far: what must be masked."""
    resource: Callable[[str, str], Resource | None] = lambda kind, ident: None
    """Configuration the project sees, by kind and id (or name), as it is now; credentials sealed."""


class Collected(Protocol):
    """Artifacts of an ended job, by name relative to its prefix."""

    def names(self, prefix: str) -> list[str]: ...

    def open(self, name: str, most: int) -> bytes:
        """The first *most* bytes: who made the file is not trusted."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What an ended execution means. ``result``: facts for the job task's ``result`` (JSON). ``error``: turns a passed
    job into a failed one. ``outputs``: added to those the job wrote. ``lines``: for the log. ``files``: further
    artifacts made by the server (name -> content). ``only_if_passed``: a job that did not pass publishes no outputs.
    """

    result: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    only_if_passed: bool = False


class JobType(Protocol):
    """One kind of job. Stateless; every method is pure.

    ``name``: the word on the wire. ``kind``: ``sandbox``, ``server`` or ``approval``. ``repeatable``: may run again
    when its execution was lost.
    """

    name: str
    kind: str
    repeatable: bool

    def check(self, job: Job, workflow: Workflow) -> None:
        """Rules of the definition itself, resources not looked at. Raises: InvalidDefinition."""

    def update(self, job: Job, parameters: Doc, scope: Scope) -> Job:
        """Apply the run-time input of one job. ``{}`` keeps what is configured. Unknown names warn.

        Raises: Invalid: a value that cannot be meant (text of the documents)."""

    def expand(self, job: Job, scope: Scope) -> list[JobTaskPlan]:
        """The job tasks of this start. Raises: NotStartable with the reason."""

    def renew(self, plan: Doc, local_time: str) -> dict[str, Any]:
        """The plan for a further round of the task (retry): image tags get the new time."""

    def compile(self, plan: Doc, run: Run) -> JobFolder:
        """What runs in the sandbox. Raises: Invalid: the job fails with this text."""

    def conclude(self, plan: Doc, outputs: Mapping[str, str], passed: bool, collected: Collected) -> Conclusion:
        """What an ended execution means."""

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> dict[str, Any]:
        """``spec`` of the job in the task's detail, credentials masked."""


__all__ = [
    "NUMBER",
    "Catalogue",
    "CodeHostAccess",
    "Collected",
    "Conclusion",
    "Doc",
    "JobTaskPlan",
    "JobType",
    "Run",
    "Scope",
]
