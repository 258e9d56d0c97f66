"""Runs of workflows that are asked for by services instead of by jobs.

A request says what is built, where it is deployed and which images are given; here that becomes the inputs of an
ordinary start: which jobs of the workflow run, and with what. There is one engine and one kind of task.

Builds are the jobs of type ``zadig-build``, deployments those of type ``zadig-deploy``, distributions those of type
``zadig-distribute-image``; jobs of all other types run as the definition says, approvals included.
Source: API documents, "Execute Product Workflow".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cador.domain.errors import Invalid, NotStartable
from cador.domain.workflow import Job, Workflow
from cador.jobs.base import Catalogue
from cador.jobs.build_templates import configuration
from cador.jobs.rules import reference
from cador.jobs.sources import stored_services
from cador.jobs.values import objects, text
from cador.operations.task_values import Chosen, JobInput

Pair = tuple[str, str]
"""Service and module."""

BUILD: Final = "zadig-build"
DEPLOY: Final = "zadig-deploy"
DISTRIBUTE: Final = "zadig-distribute-image"
SOURCE_ZADIG: Final = "zadig"
"""The images that are deployed come from the builds of this run."""
_NOT_BY_ITSELF: Final = frozenset({"skip", "default_not_run"})
_DEEPEST: Final = 100


@dataclass(frozen=True, slots=True)
class GivenImage:
    """An image of a module that somebody else has built."""

    service: str
    module: str
    image: str

    @property
    def pair(self) -> Pair:
        return self.service, self.module


@dataclass(frozen=True, slots=True)
class ServiceBuild:
    """A module to build. ``repos``: as ``repo_info`` of a start request; ``values``: as its ``inputs``."""

    service: str
    module: str
    repos: tuple[Mapping[str, Any], ...] = ()
    values: tuple[Mapping[str, Any], ...] = ()

    @property
    def pair(self) -> Pair:
        return self.service, self.module

    def parameters(self) -> dict[str, Any]:
        return {
            "service_name": self.service,
            "service_module": self.module,
            "repo_info": list(self.repos),
            "inputs": list(self.values),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to do. ``builds``: by build job; a job that is not here does not run, None: as it is configured.
    ``deploys``: whether anything is deployed; ``env``: where, empty: as configured; ``images``: what is deployed
    besides what is built. ``releases``: images to distribute; ``only_releases``: and nothing else runs."""

    builds: Mapping[str, tuple[ServiceBuild, ...] | None] = field(default_factory=dict)
    deploys: bool = False
    env: str = ""
    images: tuple[GivenImage, ...] = ()
    releases: tuple[GivenImage, ...] = ()
    only_releases: bool = False


@dataclass(frozen=True, slots=True)
class ByServices:
    """A run as the request for product workflows describes it. ``builds`` None: builds are off; ``listed`` None: they
    are on, as configured. ``deploy_listed``: modules to deploy, their image or ``""``."""

    target_env: str = ""
    build: bool = False
    build_list: tuple[ServiceBuild, ...] | None = None
    deploy: bool = False
    deploy_source: str = ""
    deploy_list: tuple[GivenImage, ...] = ()

    def __call__(self, workflow: Workflow, catalogue: Catalogue) -> Chosen:
        """Raises: Invalid, NotStartable."""
        if self.build and self.deploy and self.deploy_source != SOURCE_ZADIG:
            raise Invalid("deploy source must be zadig when there is a build stage", place="input.deploy.source")
        self._check_code_hosts(catalogue)
        unknown: list[str] = []
        builds = self._builds(workflow, unknown) if self.build else {}
        made = {pair for name, wanted in builds.items() for pair in _made(workflow, name, wanted)}
        images = self._images(made) if self.deploy else ()
        plan = Plan(builds, self.deploy, self.target_env, images)
        return chosen(workflow, plan, unknown)

    def _check_code_hosts(self, catalogue: Catalogue) -> None:
        for build in self.build_list or ():
            for repo in build.repos:
                name = str(repo.get("codehost_name", ""))
                if catalogue.find("codehost", name) is None:
                    raise Invalid(f"failed to find code host with name:{name}", place="input.build.service_list")

    def _builds(self, workflow: Workflow, unknown: list[str]) -> Mapping[str, tuple[ServiceBuild, ...] | None]:
        jobs = _jobs(workflow, BUILD)
        if self.build_list is None:
            return dict.fromkeys((job.name for job in jobs), None)
        by_job = {job.name: _buildable(job) for job in jobs}
        known = {pair for pairs in by_job.values() for pair in pairs}
        for build in self.build_list:
            if build.pair not in known:
                unknown.append(f"{build.service}/{build.module} is not built by workflow {workflow.key}")
        if self.build_list and not any(build.pair in known for build in self.build_list):
            raise NotStartable(unknown[0])
        return {
            name: wanted
            for name, pairs in by_job.items()
            if (wanted := tuple(build for build in self.build_list if build.pair in pairs))
        }

    def _images(self, made: set[Pair]) -> tuple[GivenImage, ...]:
        given = []
        for one in self.deploy_list:
            if one.pair in made:
                continue  # what this run builds is what it deploys
            if not one.image:
                raise Invalid(
                    f"{one.service}/{one.module} is not built in this run: image is required",
                    place="input.deploy.service_list",
                )
            given.append(one)
        return tuple(given)


@dataclass(frozen=True, slots=True)
class RepoChoice:
    """Which branch and pull request of a repository that is known by its name alone; ``pr`` 0: none."""

    name: str
    branch: str
    pr: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """A service to build and deploy, with all its modules."""

    service: str
    repos: tuple[RepoChoice, ...] = ()


@dataclass(frozen=True, slots=True)
class ByTargets:
    """A run as the oldest editions describe it."""

    env: str
    targets: tuple[Target, ...] = ()
    releases: tuple[GivenImage, ...] = ()

    def __call__(self, workflow: Workflow, catalogue: Catalogue) -> Chosen:
        """Raises: NotStartable."""
        unknown: list[str] = []
        builds: dict[str, tuple[ServiceBuild, ...]] = {}
        built: set[str] = set()
        targets = {target.service: target for target in self.targets}
        for job in _jobs(workflow, BUILD):
            wanted = []
            for entry in _entries(job):
                target = targets.get(text(entry.get("service_name")))
                if target is not None:
                    wanted.append(_build_of(entry, target, catalogue, unknown))
                    built.add(target.service)
            if wanted:
                builds[job.name] = tuple(wanted)
        for target in self.targets:
            if target.service not in built:
                raise NotStartable(f"service {target.service} is not built by workflow {workflow.key}")
        plan = Plan(
            builds,
            deploys=bool(self.targets),
            env=self.env,
            releases=self.releases,
            only_releases=not self.targets,
        )
        return chosen(workflow, plan, unknown)


def _build_of(entry: Mapping[str, Any], target: Target, catalogue: Catalogue, unknown: list[str]) -> ServiceBuild:
    """*entry* of a build job with the branches of *target*: a repository is meant by its name, the first one wins."""
    service, module = _pair(entry)
    base = catalogue.find("build", text(entry.get("build_name")))
    whole = configuration(catalogue, base.document, service, module) if base is not None else None
    configured = objects(whole.get("repo_info")) if whole is not None else []
    repos = []
    for choice in target.repos:
        found = next((repo for repo in configured if text(repo.get("repo_name")) == choice.name), None)
        if found is None:
            unknown.append(f"repository {choice.name} is not configured for {service}/{module}")
            continue
        repos.append(
            {
                "codehost_name": _code_host(found, catalogue),
                "repo_namespace": text(found.get("repo_namespace") or found.get("repo_owner")),
                "repo_name": choice.name,
                "branch": choice.branch,
                "prs": [choice.pr] if choice.pr else [],
            }
        )
    return ServiceBuild(service, module, tuple(repos))


def _code_host(repo: Mapping[str, Any], catalogue: Catalogue) -> str:
    if name := text(repo.get("codehost_name")):
        return name
    host = catalogue.by_id("codehost", repo.get("codehost_id") or 0)
    return host.name if host is not None else ""


# -- from a plan to inputs


def chosen(workflow: Workflow, plan: Plan, unknown: Sequence[str] = ()) -> Chosen:
    """The inputs of the jobs that run. Raises: NotStartable: an image that no job distributes."""
    return _Choice(workflow, plan, unknown).made()


class _Choice:
    """*named*: the modules that deploy and distribute jobs name themselves, by job."""

    def __init__(self, workflow: Workflow, plan: Plan, unknown: Sequence[str]) -> None:
        self._workflow, self._plan, self._unknown = workflow, plan, unknown
        self._notes: list[str] = []
        self._deploys = {job.name: frozenset(stored_services(job.spec)) for job in _jobs(workflow, DEPLOY)}
        self._spreads = {job.name: _by_pair(objects(job.spec.get("targets"))) for job in _jobs(workflow, DISTRIBUTE)}
        self._made = {name: _made(workflow, name, wanted) for name, wanted in plan.builds.items()}

    def made(self) -> Chosen:
        for one in self._plan.releases:
            if not any(not named or one.pair in named for named in self._spreads.values()):
                raise NotStartable("Invalid service module")
        inputs = []
        for stage in self._workflow.stages:
            for job in stage.jobs:
                parameters = self._parameters(job)
                if parameters is not None:
                    inputs.append(JobInput(job.name, job.type, parameters))
        return Chosen(tuple(inputs), tuple(dict.fromkeys(self._unknown)), tuple(self._notes))

    def _parameters(self, job: Job) -> Mapping[str, Any] | None:
        """Of *job* in this run; None: it does not run."""
        if job.type == DISTRIBUTE:
            return self._distribution(job)
        if self._plan.only_releases:
            return None
        if job.type == BUILD:
            return self._build(job)
        if job.type == DEPLOY:
            return self._deployment(job) if self._plan.deploys else None
        return None if _waits_for_a_wish(job) else {}

    def _build(self, job: Job) -> Mapping[str, Any] | None:
        if job.name not in self._plan.builds:
            return None
        wanted = self._plan.builds[job.name]
        return {} if wanted is None else {"service_list": [build.parameters() for build in wanted]}

    def _deployment(self, job: Job) -> Mapping[str, Any] | None:
        env = {"env_name": self._plan.env} if self._plan.env else {}
        images = [
            {"service_name": one.service, "service_module": one.module, "image_name": one.image}
            for one in self._plan.images
            if one.pair in self._deploys[job.name] or not any(one.pair in named for named in self._deploys.values())
        ]
        if job.spec.get("source") != "fromjob":
            if listed := [*self._built(job), *images]:
                return {**env, "service_list": listed}
            nothing_said = not self._plan.builds and not self._plan.images
            return env if nothing_said and self._deploys[job.name] else None
        origin = _origin(self._workflow, job)
        if origin is None or origin.type != BUILD:
            return {**env, "service_list": images} if images else env
        if origin.name not in self._made:
            return {**env, "service_list": images} if images else None
        if not images:
            return env
        made = [{"service_name": service, "service_module": module} for service, module in self._made[origin.name]]
        return {**env, "service_list": [*made, *images]}

    def _built(self, job: Job) -> list[dict[str, Any]]:
        """What this run builds, for a deploy job that gets its images with the start; known when it is built."""
        named = self._deploys[job.name]
        return [
            {
                "service_name": service,
                "service_module": module,
                "image_name": f"{{{{.job.{name}.{service}.{module}.output.IMAGE}}}}",
            }
            for name, made in self._made.items()
            for service, module in made
            if not named or (service, module) in named
        ]

    def _distribution(self, job: Job) -> Mapping[str, Any] | None:
        configured = self._spreads[job.name]
        listed = [one for one in self._plan.releases if not configured or one.pair in configured]
        if listed:
            return {"target_list": [_target(one, configured.get(one.pair, {})) for one in listed]}
        if self._plan.only_releases or _waits_for_a_wish(job):
            return None
        if job.spec.get("source") == "fromjob":
            origin = _origin(self._workflow, job)
            runs = origin is None or origin.type != BUILD or origin.name in self._made
        else:
            runs = any(entry.get("source_image") or entry.get("source_tag") for entry in configured.values())
        if not runs:
            self._notes.append(f"job {job.name}: there is no image to distribute, left out")
        return {} if runs else None


def _target(one: GivenImage, configured: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: configured[key] for key in ("target_tag", "update_tag") if configured.get(key)}
    return {"service_name": one.service, "service_module": one.module, "source_image": one.image, **kept}


# -- what a definition says


def _jobs(workflow: Workflow, kind: str) -> list[Job]:
    return [job for stage in workflow.stages for job in stage.jobs if job.type == kind]


def _entries(job: Job) -> list[dict[str, Any]]:
    return objects(job.spec.get("service_and_builds_options")) or objects(job.spec.get("service_and_builds"))


def _buildable(job: Job) -> set[Pair]:
    return {_pair(entry) for entry in _entries(job)}


def _made(workflow: Workflow, name: str, wanted: tuple[ServiceBuild, ...] | None) -> list[Pair]:
    """What the build job *name* makes in this run."""
    if wanted is not None:
        return [build.pair for build in wanted]
    job = workflow.job(name)
    return stored_services(job.spec) if job is not None else []


def _waits_for_a_wish(job: Job) -> bool:
    """Whether *job* runs only when a request names it."""
    return job.skipped or job.run_policy in _NOT_BY_ITSELF


def _by_pair(entries: Sequence[Mapping[str, Any]]) -> dict[Pair, Mapping[str, Any]]:
    return {_pair(entry): entry for entry in entries}


def _pair(entry: Mapping[str, Any]) -> Pair:
    return text(entry.get("service_name")), text(entry.get("service_module"))


def _origin(workflow: Workflow, job: Job) -> Job | None:
    """Where what *job* takes ``fromjob`` comes from in the end; None: it refers to nothing."""
    found: Job | None = job
    for _ in range(_DEEPEST):
        if found is None or found.spec.get("source") != "fromjob":
            return found
        found = workflow.job(reference(found.spec))
    return None
