"""Jobs whose work is a configuration of its own: builds, tests, scans.

A job of such a type lists *entries*, ``{service_name, service_module, key_vals, repos, ...}``: each names a
configuration of the catalogue (its *base*), which says which repositories and variables there are, and holds what the
workflow, or a start, makes different. Tests and scans share their whole shape; see :class:`ListedType`.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cador.domain.errors import NotStartable
from cador.domain.naming import norm
from cador.domain.variables import for_service
from cador.domain.workflow import Job
from cador.jobs.base import Doc, JobTaskPlan, Scope
from cador.jobs.sandbox import USUAL_MIN, SandboxType, git_paths, timeout_s, variables_of, with_job_lists
from cador.jobs.sources import referred_services
from cador.jobs.values import (
    KeyInput,
    RepoInput,
    ServiceInput,
    configured_repos,
    mapping,
    objects,
    overlay_refs,
    overlay_values,
    pair,
    require_values,
    sealed_values,
    set_refs,
    set_values,
    text,
    variables,
)

Object = dict[str, Any]
Repos = Sequence[Mapping[str, Any]]
USUAL_RESOURCES: Final = {"cpu_limit": 1000, "memory_limit": 512}
"""Of a configuration that names none: millicores and MiB."""


class Given(Protocol):
    """What a start says of one entry."""

    repo_info: list[RepoInput]
    inputs: list[KeyInput]


def with_input(entry: Object, base: Doc, given: Given, scope: Scope, where: str) -> Object:
    """*entry* as a start wants it. Unknown variables and repositories warn. Raises: Invalid: unknown code host."""
    repos = _with_ids(entry.get("repos"), scope)
    sourced = [repo for repo in repos if repo.get("source_from") in ("param", "job")]
    own = overlay_refs(_with_ids(base.get("repo_info"), scope), [repo for repo in repos if repo not in sourced])
    return {
        **entry,
        "key_vals": set_values(_variables(base, entry), given.inputs, scope, where),
        "repos": [*set_refs(own, given.repo_info, scope, where), *sourced],
    }


def envs_of(base: Doc, entry: Doc, scope: Scope, where: str) -> list[Object]:
    """Variables of the configuration with the values of *entry*. Raises: NotStartable: a required one is empty."""
    envs = _variables(base, entry)
    require_values(envs, where)
    return sealed_values(envs, scope)


def repos_of(base: Doc, entry: Doc, refs: Repos, scope: Scope, where: str) -> list[Object]:
    """Repositories of the configuration with what *entry*, and *refs* of another job, check out of them.

    Raises: NotStartable: something they refer to is missing."""
    repos = configured_repos(base.get("repo_info"), scope, where)
    repos = overlay_refs(repos, configured_repos(entry.get("repos"), scope, where))
    return overlay_refs(repos, [dict(repo) for repo in refs])


def made_by_another(
    job: Job, entries: Sequence[Object], scope: Scope, lacks: str
) -> tuple[list[Object], dict[tuple[str, str], Repos]]:
    """``source: fromjob``: those of *entries* whose modules the referred job makes, in its order, and, with
    ``ref_repos``, its repositories by module. *lacks*: what a module has not that has no entry (``build``).

    Raises: NotStartable: there is no such job."""
    modules = referred_services(job, scope)
    known: dict[tuple[str, str], list[Object]] = {}
    for entry in entries:
        known.setdefault(pair(entry), []).append(entry)
    for module in modules:
        if module.pair not in known:
            scope.warn(f"job {job.name}: {module.service}/{module.module} has no {lacks}, left out")
    chosen = [entry for module in modules for entry in known.get(module.pair, ())]
    return chosen, {module.pair: module.repos for module in modules} if job.spec.get("ref_repos") is True else {}


def _variables(base: Doc, entry: Doc) -> list[Object]:
    return overlay_values(variables(base.get("parameters")), variables(entry.get("key_vals")))


def _with_ids(repos: Any, scope: Scope) -> list[Object]:
    """Repositories of a configuration name their code host; give them its id, to be told apart."""
    named = []
    for repo in objects(repos):
        host = scope.catalogue.find("codehost", text(repo.get("codehost_name"))) if repo.get("codehost_name") else None
        named.append({**repo, "codehost_id": host.id} if host else repo)
    return named


# -- tests and scans


class NamedInput(Given, Protocol):
    """What a start says of one entry of a list."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Shape:
    """How definitions of a type spell what both types have. ``listed``, ``served``: names of the list a job works
    through, by itself and per service module, the one of older definitions first; ``kind``: of the configurations;
    ``find``: what failed when there is none."""

    kind: str
    find: str
    type_key: str
    by_service: str
    listed: tuple[str, str]
    served: tuple[str, str]
    name_key: str


class ListedType(SandboxType):
    """A list of configurations, or one or more per service module. A list of a start overrides, it does not select: an
    entry that it does not name runs as it is stored. Service modules of a start do select."""

    shape: Shape

    @abstractmethod
    def given(self, parameters: Doc) -> tuple[Sequence[NamedInput], list[ServiceInput] | None]:
        """Raises: Invalid."""

    @abstractmethod
    def plan(self, entry: Doc, base: Doc, envs: list[Object], repos: list[Object], by_service: bool,
             scope: Scope, where: str) -> Object:  # fmt: skip
        """The plan of one job task. Raises: NotStartable."""

    def by_service(self, spec: Doc) -> bool:
        return text(spec.get(self.shape.type_key)) == self.shape.by_service

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        named, services = self.given(parameters)
        if not self.by_service(job.spec):
            return self._listed(job, {item.name: item for item in named}, scope)
        return dict(job.spec) if services is None else self._served(job, services, scope)

    def _listed(self, job: Job, asked: dict[str, NamedInput], scope: Scope) -> Object:
        stored, options = self.shape.listed
        entries = []
        for entry in objects(job.spec.get(stored)) or objects(job.spec.get(options)):
            item = asked.pop(text(entry.get("name")), None)
            entries.append(self._set(entry, item, job, scope) if item is not None else entry)
        for name in asked:
            scope.warn(f"job {job.name}: {self.shape.kind} {name} is not configured")
        return {**job.spec, stored: entries}

    def _served(self, job: Job, given: list[ServiceInput], scope: Scope) -> Object:
        stored, options = self.shape.served
        asked = {item.pair: item for item in given}
        entries = self._service_entries(job.spec)
        chosen = [self._set(entry, asked[pair(entry)], job, scope) for entry in entries if pair(entry) in asked]
        known = {pair(entry) for entry in entries}
        for service, module in (one for one in asked if one not in known):
            scope.warn(f"job {job.name}: {service}/{module} has no {self.shape.kind} configured")
        spec = {key: value for key, value in job.spec.items() if key not in (options, "target_services")}
        return {**spec, stored: chosen}

    def _set(self, entry: Object, given: Given, job: Job, scope: Scope) -> Object:
        return with_input(entry, self._base(entry, scope), given, scope, f"job {job.name}")

    def _service_entries(self, spec: Doc) -> list[Object]:
        stored, options = self.shape.served
        return objects(spec.get(options)) or objects(spec.get(stored))

    def _base(self, entry: Doc, scope: Scope) -> Doc:
        """Raises: NotStartable."""
        name, project = text(entry.get("name")), text(entry.get("project_name")) or scope.workflow.project
        kind = self.shape.kind
        found = scope.catalogue.find(kind, name, project) or scope.catalogue.find(kind, name)
        if found is None:
            raise NotStartable(f"{self.shape.find}: {name} error: not found in project {project}")
        return found.document

    def expand(self, job: Job, scope: Scope) -> list[JobTaskPlan]:
        if not self.by_service(job.spec):
            stored, options = self.shape.listed
            entries = objects(job.spec.get(stored)) or objects(job.spec.get(options))
            return [self._task(job, entry, (), scope) for entry in entries]
        entries = self._service_entries(job.spec)
        refs: Mapping[tuple[str, str], Repos] = {}
        if job.spec.get("source") == "fromjob":
            entries, refs = made_by_another(job, entries, scope, f"{self.shape.kind} configured")
        elif chosen := {pair(entry) for entry in objects(job.spec.get("target_services"))}:
            entries = [entry for entry in entries if pair(entry) in chosen]
        plans = [self._task(job, entry, refs.get(pair(entry), ()), scope) for entry in entries]
        return with_job_lists(job.name, plans)

    def _task(self, job: Job, entry: Object, refs: Repos, scope: Scope) -> JobTaskPlan:
        by_service = self.by_service(job.spec)
        name = text(entry.get("name"))
        where = f"job {job.name} {self.shape.kind} {name}"
        base = self._base(entry, scope)
        settings = mapping(base.get("advanced_settings"))
        repos = repos_of(base, entry, refs, scope, where)
        plan = self.plan(entry, base, envs_of(base, entry, scope, where), repos, by_service, scope, where)
        service, module = pair(entry) if by_service else ("", "")
        plan = {"service_name": service, "service_module": module, **plan}
        own = (service, module) if by_service else (name,)
        key = ".".join([job.name, *own])
        plan = for_service(plan, service, module) if by_service else plan
        return JobTaskPlan(
            name=norm(*own, job.name),
            key=key,
            display_name="-".join([job.name, *own]),
            timeout_s=timeout_s(settings.get("timeout"), USUAL_MIN),
            plan=plan,
            info={"job_name": job.name, self.shape.name_key: name, "service_name": service, "service_module": module},
            variables=variables_of(key, plan),
            repos=git_paths(plan),
        )
