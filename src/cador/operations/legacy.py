"""What the oldest editions of the API ask: tasks of a commit, a start by services, a task as targets and images."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from cador.domain.errors import Invalid, NotFound
from cador.domain.naming import pull_requests
from cador.domain.task import TaskStatus
from cador.jobs.base import Catalogue
from cador.jobs.values import repos_of_plan, text
from cador.operations.actor import Actor
from cador.operations.built_images import BuiltImage, images_of
from cador.operations.context import Context
from cador.operations.finding import find_task
from cador.operations.product import BUILD, DEPLOY, ByTargets, RepoChoice
from cador.operations.seeing import visible_places
from cador.operations.task_values import Started, StartRequest
from cador.operations.tasks import start_task
from cador.ports.stores import JobRow, TaskFilter, TaskRow, Tx

MOST_TASKS: Final = 100
"""Of one commit."""
MOST_LOOKED_AT: Final = 1_000
"""Of one commit, where only some of the workflows of a project may be seen."""
MOST_COUNTED: Final = 200
"""Unfinished tasks that are looked at to find the environment with the fewest."""
TEST: Final = "zadig-test"
ENVIRONMENTS: Final = ("environment", "production_environment")
_UNFINISHED: Final = (TaskStatus.WAITING, TaskStatus.RUNNING, TaskStatus.PAUSE)


class NoEnvironment(NotFound):
    """The environment to deploy to does not exist. ``name``, ``project``."""

    def __init__(self, name: str, project: str) -> None:
        super().__init__("environment", name)
        self.project = project


# -- tasks of a commit


async def tasks_of_commit(ctx: Context, actor: Actor, commit: str) -> list[TaskRow]:
    """Tasks whose repositories are at a commit that begins so, newest first: those *actor* may look at."""

    def read(tx: Tx) -> list[TaskRow]:
        if actor.may("get_workflow"):
            return list(tx.commits.tasks_of(commit, None, MOST_TASKS))
        whole, some = visible_places(tx, actor)
        rows = tx.commits.tasks_of(commit, whole | set(some), MOST_LOOKED_AT if some else MOST_TASKS)
        seen = [row for row in rows if row.project in whole or row.workflow_key in some[row.project]]
        return seen[:MOST_TASKS]

    return await ctx.db.read(read)


# -- start


async def project_to_run(ctx: Context, actor: Actor, key: str) -> str:
    """The project of workflow *key*, if *actor* may run it.

    Raises: NotFound("workflow"), Forbidden: who may run nothing anywhere is not told what there is.
    """
    row = await ctx.db.read(lambda tx: tx.workflows.find(key))
    if row is not None:
        actor.need("run_workflow", row.project, workflow=key)
        return row.project
    if not actor.anywhere("run_workflow"):
        actor.need("run_workflow")
    raise NotFound("workflow", key)


async def start_by_targets(ctx: Context, actor: Actor, request: StartRequest, wanted: ByTargets) -> Started:
    """Build and deploy services, distribute images. Several environments, separated by commas: the one with the fewest
    unfinished tasks.

    Raises: NotFound("workflow"), NoEnvironment, Invalid, NotStartable, Forbidden.
    """
    if not wanted.targets and not wanted.releases:
        raise Invalid("target and release_images cannot be empty at the same time")
    if wanted.targets:
        env = await ctx.db.read(_environment, ctx, wanted.env, request.project_key)
        wanted = replace(wanted, env=env)
    return await start_task(ctx, actor, replace(request, choose=wanted))


def _environment(tx: Tx, ctx: Context, names: str, project: str) -> str:
    """Raises: NoEnvironment, Invalid."""
    catalogue = ctx.catalogues.load(tx, project)
    wanted = list(dict.fromkeys(filter(None, (name.strip() for name in names.split(",")))))
    if not wanted:
        raise Invalid("env_name is required", place="env_name")
    for name in wanted:
        if not any(catalogue.find(kind, name) for kind in ENVIRONMENTS):
            raise NoEnvironment(name, project)
    if len(wanted) == 1:
        return wanted[0]
    used = dict.fromkeys(wanted, 0)
    where = TaskFilter(project=project, statuses=tuple(status.value for status in _UNFINISHED), limit=MOST_COUNTED)
    for task in tx.tasks.list_tasks(where):
        if (env := _env_of(tx.tasks.jobs(task.id))) in used:
            used[env] += 1
    return min(wanted, key=lambda name: used[name])


# -- detail


@dataclass(frozen=True, slots=True)
class BuiltTarget:
    """A module that is built. ``service_type``: ``k8s`` or ``helm``."""

    service: str
    service_type: str
    repos: tuple[RepoChoice, ...]


@dataclass(frozen=True, slots=True)
class TestReport:
    """``facts``: counts of cases, see ``jobs.junit``."""

    __test__ = False  # not one of pytest's

    test: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TargetsDetail:
    row: TaskRow
    env: str
    targets: tuple[BuiltTarget, ...]
    images: tuple[BuiltImage, ...]
    reports: tuple[TestReport, ...]


async def targets_detail(ctx: Context, actor: Actor, key: str, number: int) -> TargetsDetail:
    """What a task builds, has built and has tested. Raises: NotFound("task"), Forbidden."""
    task_id = await find_task(ctx, actor, "get_workflow", key, number)

    def read(tx: Tx) -> TargetsDetail:
        row, jobs = tx.tasks.row(task_id), tx.tasks.jobs(task_id)
        catalogue = ctx.catalogues.load(tx, row.project)
        return TargetsDetail(
            row,
            _env_of(jobs),
            tuple(_target(job, row.project, catalogue) for job in jobs if job.type == BUILD),
            images_of(jobs),
            tuple(
                TestReport(text(_spec(job).get("test_name")), job.result["junit"])
                for job in jobs
                if job.type == TEST and "junit" in job.result
            ),
        )

    return await ctx.db.read(read)


def _spec(job: JobRow) -> Mapping[str, Any]:
    spec: Mapping[str, Any] = job.plan.get("spec", {})
    return spec


def _env_of(jobs: list[JobRow]) -> str:
    """Where the first deploy job goes; empty without one."""
    return next((text(_spec(job).get("env")) for job in jobs if job.type == DEPLOY), "")


def _target(job: JobRow, project: str, catalogue: Catalogue) -> BuiltTarget:
    spec = _spec(job)
    service = text(spec.get("service_name"))
    repos = tuple(
        RepoChoice(text(repo.get("repo_name")), text(repo.get("branch")), next(iter(pull_requests(repo)), 0))
        for repo in repos_of_plan(spec)
    )
    return BuiltTarget(service, _service_type(service, project, catalogue), repos)


def _service_type(service: str, project: str, catalogue: Catalogue) -> str:
    """As the service says, else as its project does."""
    found = (catalogue.find("service", service), catalogue.find("project", project))
    words = [text(one.document.get(key)) for one, key in zip(found, ("type", "project_type"), strict=True) if one]
    return "helm" if next(filter(None, words), "") == "helm" else "k8s"
