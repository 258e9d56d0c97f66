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
from cador.jobs.definition import reference
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
        warnings: list[str] = []
        builds = self._builds(workflow, warnings) if self.build else {}
        made = {pair for name, wanted in builds.items() for pair in _made(workflow, name, wanted)}
        images = self._images(made) if self.deploy else ()
        plan = Plan(builds, self.deploy, self.target_env, images)
        return chosen(workflow, plan, warnings)

    def _check_code_hosts(self, catalogue: Catalogue) -> None:
        for build in self.build_list or ():
            for repo in build.repos:
                name = str(repo.get("codehost_name", ""))
                if catalogue.find("codehost", name) is None:
                    raise Invalid(f"failed to find code host with name:{name}", place="input.build.service_list")

    def _builds(self, workflow: Workflow, warnings: list[str]) -> Mapping[str, tuple[ServiceBuild, ...] | None]:
        jobs = _jobs(workflow, BUILD)
        if self.build_list is None:
            return dict.fromkeys((job.name for job in jobs), None)
        known = {pair for job in jobs for pair in _buildable(job)}
        for build in self.build_list:
            if build.pair not in known:
                warnings.append(f"{build.service}/{build.module} is not built by workflow {workflow.key}")
        if self.build_list and not any(build.pair in known for build in self.build_list):
            raise NotStartable(warnings[0])
        return {
            job.name: wanted
            for job in jobs
            if (wanted := tuple(build for build in self.build_list if build.pair in _buildable(job)))
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
        warnings: list[str] = []
        builds: dict[str, tuple[ServiceBuild, ...]] = {}
        built: set[str] = set()
        for job in _jobs(workflow, BUILD):
            wanted = []
            for target in self.targets:
                for entry in _entries(job):
                    if text(entry.get("service_name")) == target.service:
                        wanted.append(_build_of(entry, target, catalogue, warnings))
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
        return chosen(workflow, plan, warnings)


def _build_of(entry: Mapping[str, Any], target: Target, catalogue: Catalogue, warnings: list[str]) -> ServiceBuild:
    """*entry* of a build job with the branches of *target*: a repository is meant by its name, the first one wins."""
    service, module = _pair(entry)
    base = catalogue.find("build", text(entry.get("build_name")))
    whole = configuration(catalogue, base.document, service, module) if base is not None else None
    configured = objects(whole.get("repo_info")) if whole is not None else []
    repos = []
    for choice in target.repos:
        found = next((repo for repo in configured if text(repo.get("repo_name")) == choice.name), None)
        if found is None:
            warnings.append(f"repository {choice.name} is not configured for {service}/{module}")
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


def chosen(workflow: Workflow, plan: Plan, warnings: Sequence[str] = ()) -> Chosen:
    """The inputs of the jobs that run. Raises: NotStartable: an image that no job distributes."""
    told = list(warnings)
    _check_releases(workflow, plan.releases)
    inputs = []
    for stage in workflow.stages:
        for job in stage.jobs:
            parameters = _parameters(workflow, job, plan, told)
            if parameters is not None:
                inputs.append(JobInput(job.name, job.type, parameters))
    return Chosen(tuple(inputs), tuple(dict.fromkeys(told)))


def _parameters(workflow: Workflow, job: Job, plan: Plan, told: list[str]) -> Mapping[str, Any] | None:
    """Of *job* in this run; None: it does not run."""
    match job.type:
        case "zadig-distribute-image":
            return _distribution(workflow, job, plan, told)
        case _ if plan.only_releases:
            return None
        case "zadig-build":
            if job.name not in plan.builds:
                return None
            wanted = plan.builds[job.name]
            return {} if wanted is None else {"service_list": [build.parameters() for build in wanted]}
        case "zadig-deploy":
            return _deployment(workflow, job, plan) if plan.deploys else None
        case _:
            return None if job.skipped or job.run_policy in _NOT_BY_ITSELF else {}


def _deployment(workflow: Workflow, job: Job, plan: Plan) -> Mapping[str, Any] | None:
    env = {"env_name": plan.env} if plan.env else {}
    images = [
        {"service_name": one.service, "service_module": one.module, "image_name": one.image}
        for one in plan.images
        if _deploys(workflow, job, one.pair)
    ]
    if job.spec.get("source") != "fromjob":
        built = _built(workflow, job, plan)
        if built or images:
            return {**env, "service_list": [*built, *images]}
        nothing_said = not plan.builds and not plan.images
        return env if nothing_said and stored_services(job.spec) else None
    origin = _origin(workflow, job)
    if origin is None or origin.type != BUILD:
        return {**env, "service_list": images} if images else env
    if origin.name not in plan.builds:
        return {**env, "service_list": images} if images else None
    if not images:
        return env
    made = _made(workflow, origin.name, plan.builds[origin.name])
    return {**env, "service_list": [*({"service_name": s, "service_module": m} for s, m in made), *images]}


def _deploys(workflow: Workflow, job: Job, pair: Pair) -> bool:
    """Whether *job* is the one to deploy *pair*: it names it, or none of the others does."""
    return pair in _named(job) or not any(pair in _named(other) for other in _jobs(workflow, DEPLOY))


def _built(workflow: Workflow, job: Job, plan: Plan) -> list[dict[str, Any]]:
    """What this run builds, for a deploy job that gets its images with the start: each is known when it is built."""
    named = _named(job)
    return [
        {
            "service_name": service,
            "service_module": module,
            "image_name": f"{{{{.job.{name}.{service}.{module}.output.IMAGE}}}}",
        }
        for name, wanted in plan.builds.items()
        for service, module in _made(workflow, name, wanted)
        if not named or (service, module) in named
    ]


def _distribution(workflow: Workflow, job: Job, plan: Plan, told: list[str]) -> Mapping[str, Any] | None:
    configured = {_pair(entry): entry for entry in objects(job.spec.get("targets"))}
    listed = [one for one in plan.releases if not configured or one.pair in configured]
    if listed:
        keys = ("target_tag", "update_tag")
        return {
            "target_list": [
                {
                    "service_name": one.service,
                    "service_module": one.module,
                    "source_image": one.image,
                    **{key: entry[key] for key in keys if entry.get(key)},
                }
                for one in listed
                for entry in (configured.get(one.pair, {}),)
            ]
        }
    if plan.only_releases or job.skipped or job.run_policy in _NOT_BY_ITSELF:
        return None
    if job.spec.get("source") == "fromjob":
        origin = _origin(workflow, job)
        runs = origin is None or origin.type != BUILD or origin.name in plan.builds
    else:
        runs = any(entry.get("source_image") or entry.get("source_tag") for entry in configured.values())
    if not runs:
        told.append(f"job {job.name}: there is no image to distribute, left out")
    return {} if runs else None


def _check_releases(workflow: Workflow, releases: Sequence[GivenImage]) -> None:
    jobs = _jobs(workflow, DISTRIBUTE)
    for one in releases:
        if not any(not (named := _named(job)) or one.pair in named for job in jobs):
            raise NotStartable("Invalid service module")


# -- what a definition says


def _jobs(workflow: Workflow, kind: str) -> list[Job]:
    return [job for stage in workflow.stages for job in stage.jobs if job.type == kind]


def _entries(job: Job) -> list[dict[str, Any]]:
    return objects(job.spec.get("service_and_builds_options")) or objects(job.spec.get("service_and_builds"))


def _buildable(job: Job) -> list[Pair]:
    return [_pair(entry) for entry in _entries(job)]


def _made(workflow: Workflow, name: str, wanted: tuple[ServiceBuild, ...] | None) -> list[Pair]:
    """What the build job *name* makes in this run."""
    if wanted is not None:
        return [build.pair for build in wanted]
    job = workflow.job(name)
    return stored_services(job.spec) if job is not None else []


def _named(job: Job) -> list[Pair]:
    """The modules that a deploy or distribute job names itself."""
    return stored_services(job.spec)


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
