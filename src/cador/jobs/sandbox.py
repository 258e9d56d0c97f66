"""What all jobs that run scripts have in common: the shape of their plan, its compilation, its end and its view.

A plan is ``{service_name, service_module, envs, predefined, steps, outputs, image, limits}``: ``envs`` are the user's
variables (normal form of ``values``), ``predefined`` those of the job type (name to text, sealed where secret),
``steps`` objects ``{name, type, spec}`` in the order they run, ``outputs`` declared names, ``image`` a full reference
or ``""``, ``limits`` ``{cpu_milli, memory_bytes}``.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from cador.domain.errors import Invalid, NotStartable
from cador.domain.naming import bare_host, primary_repo, repo_identifier
from cador.domain.workflow import Job, Workflow
from cador.jobs.base import CodeHostAccess, Collected, Conclusion, Doc, JobTaskPlan, Run, Scope
from cador.jobs.environment import environment
from cador.jobs.rules import check_timeout
from cador.jobs.steps.archive import compile_archive
from cador.jobs.steps.base import StepParts
from cador.jobs.steps.git import commits_found, compile_git
from cador.jobs.steps.shell import check_script_type, compile_shell, script_of
from cador.jobs.steps.sonar import compile_report, compile_scanner
from cador.jobs.steps.tar_archive import compile_tar_archive
from cador.jobs.steps.tools import compile_tools
from cador.jobs.values import (
    mapping,
    namespace_of,
    objects,
    repos_of_plan,
    shown_repos,
    shown_variables,
    text,
    with_input_told,
)
from cador.ports.executor import JobFolder, Limits

MINUTE_S: Final = 60.0
LONGEST_MIN: Final = 600
"""Minutes of a job whose timeout is 0 or less."""
USUAL_MIN: Final = 60
"""Minutes of a job whose definition names no timeout, where the documents give that default."""
DOCKER_REASON: Final = "building images needs a Docker executor, which this server does not have"
LACKS: Final = "lacks"
"""In a plan: what this server lacks to carry it out. The job fails with it when it is reached."""
_MIB: Final = 1024 * 1024
_LEVELS: Final[Mapping[str, tuple[int, int]]] = {
    "high": (16_000, 32_768),
    "medium": (8_000, 16_384),
    "low": (4_000, 8_192),
    "min": (2_000, 2_048),
}
"""Millicores and MiB by resource level; any other word means ``low``, none at all ``min``."""


def timeout_s(minutes: Any, usual_min: int = LONGEST_MIN) -> float:
    """Seconds of a timeout in minutes; *usual_min* when there is none, 600 minutes when it is 0 or less.

    Raises: NotStartable: more than a year.
    """
    if not isinstance(minutes, int) or isinstance(minutes, bool):
        return usual_min * MINUTE_S
    check_timeout(minutes)
    return (minutes if minutes > 0 else LONGEST_MIN) * MINUTE_S


def limits(level: Any, spec: Any) -> dict[str, int]:
    """``res_req`` and ``res_req_spec``. With ``define`` the numbers count, else the level does."""
    if level == "define":
        numbers = mapping(spec)
        milli, mib = (_count(numbers.get(key)) for key in ("cpu_limit", "memory_limit"))
    else:
        milli, mib = _LEVELS.get(text(level) or "min", _LEVELS["low"])
    return {"cpu_milli": milli, "memory_bytes": mib * _MIB}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def image(image_from: Any, image_id: Any, build_os: Any, scope: Scope, where: str) -> str:
    """Image reference or short name of an operating system. An id nobody knows warns: not every executor needs it."""
    name = text(build_os)
    if image_from == "custom" and name:
        return name
    if image_id:
        found = scope.catalogue.by_id("baseimage", text(image_id))
        if found is None:
            scope.warn(f"{where}: failed to find base image: {text(image_id)}")
            return name
        return text(found.document.get("value"))
    labelled = next((r for r in scope.catalogue.all("baseimage") if name and r.document.get("label") == name), None)
    return text(labelled.document.get("value")) if labelled else name


def output_names(declared: Any) -> list[str]:
    """Names of declared outputs: objects with a ``name``, or the names themselves."""
    items = declared if isinstance(declared, list) else []
    names = [text(item.get("name")) if isinstance(item, Mapping) else text(item) for item in items]
    return list(dict.fromkeys(filter(None, names)))


def check_steps(steps: list[dict[str, Any]]) -> str:
    """What this server lacks to run the steps, ``""`` for nothing. Raises: NotStartable: no server could."""
    lacks = ""
    for step in steps:
        match text(step.get("type")):
            case "tools" | "git" | "shell" | "archive" | "debug_before" | "debug_after":
                pass
            case "batch_file" | "powershell" as kind:
                check_script_type(kind)
            case "perforce":
                raise NotStartable("perforce is not supported")
            case "docker_build":
                lacks = DOCKER_REASON
            case kind:
                raise NotStartable(f"freestyle job step type {kind} not supported")
    return lacks


def git_paths(plan: Doc) -> tuple[str, ...]:
    """Where the lists of repositories of a plan are, as dotted paths."""
    return tuple(
        f"steps.{n}.spec.repos" for n, step in enumerate(objects(plan.get("steps"))) if step.get("type") == "git"
    )


def has_work(step: Mapping[str, Any]) -> bool:
    """Whether a step that is made from a configuration does anything."""
    spec = mapping(step.get("spec"))
    match step.get("type"):
        case "git":
            return bool(spec.get("repos"))
        case "tools":
            return bool(spec.get("installs"))
        case "shell":
            return bool(script_of(spec).strip())
        case _:
            return True


def variables_of(key: str, plan: Doc) -> dict[str, str]:
    """What other jobs may refer to from creation on, by full path: the job's variables, and facts of a service."""
    table = {f"job.{key}.{item['key']}": item["value"] for item in plan["envs"]}
    if plan["service_name"]:
        repo = primary_repo(repos_of_plan(plan)) or {}
        branches = ",".join([text(repo.get("branch")), *map(text, repo.get("merge_branches") or ())])
        facts = {
            "SERVICE_NAME": plan["service_name"],
            "SERVICE_MODULE": plan["service_module"],
            "BRANCH": text(repo.get("branch")),
            "COMMITID": text(repo.get("commit_id")),
            "GITURL": git_url(repo),
            "REPONAME": text(repo.get("repo_name")),
            "PRE_MEGRE_BRANCHES": branches,
            "PRE_MERGE_BRANCHES": branches,
        }
        table |= {f"job.{key}.{name}": value for name, value in facts.items() if value}
    return table


def git_url(repo: Mapping[str, Any]) -> str:
    parts = [text(repo.get("address")).rstrip("/"), namespace_of(repo), text(repo.get("repo_name"))]
    return "/".join(filter(None, parts)) if parts[2] else ""


def with_job_lists(job: str, plans: list[JobTaskPlan]) -> list[JobTaskPlan]:
    """Add the lists over all services of a job (``job.build.SERVICES``) to the first plan."""
    served = [plan.plan for plan in plans if plan.plan["service_name"]]
    if not served:
        return plans
    repos = [primary_repo(repos_of_plan(plan)) or {} for plan in served]
    lists = {
        "SERVICES": [f"{plan['service_module']}/{plan['service_name']}" for plan in served],
        "BRANCHES": [text(repo.get("branch")) for repo in repos],
        "GITURLS": [git_url(repo) for repo in repos],
    }
    joined = {f"job.{job}.{name}": ",".join(filter(None, values)) for name, values in lists.items()}
    return [replace(plans[0], variables={**joined, **plans[0].variables}), *plans[1:]]


class SandboxType:
    """Base of job types that run scripts. What differs is how a definition becomes plans."""

    name = ""
    kind = "sandbox"
    repeatable = True

    def check(self, job: Job, workflow: Workflow) -> None:
        return

    def update(self, job: Job, parameters: Doc, scope: Scope) -> Job:
        """Raises: Invalid: ``failed to update jobspec for job: <name>, err: <cause>``."""
        return with_input_told(job, lambda: self.updated(job, parameters, scope))

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> dict[str, Any]:
        """The new spec of *job*. Raises: Invalid."""
        return dict(job.spec)

    def renew(self, plan: Doc, local_time: str) -> dict[str, Any]:
        return dict(plan)

    def compile(self, plan: Doc, run: Run) -> JobFolder:
        if lacks := plan.get(LACKS):
            raise Invalid(lacks)
        variables = [{**item, "value": run.open(item["value"])} for item in plan["envs"]]
        predefined = {key: run.open(value) for key, value in plan["predefined"].items()}
        hosts: dict[int, CodeHostAccess] = {}

        def codehost(ident: int) -> CodeHostAccess | None:
            access = hosts.get(ident) or run.codehost(ident)
            if access is not None:
                hosts[ident] = access
            return access

        env = environment(run, variables, predefined, repos_of_plan(plan), codehost)
        parts = [*self._steps(plan, env, codehost), self.reports(plan, env)]
        keys = {secret for host in hosts.values() for secret in (host.token, host.password, host.ssh_key) if secret}
        secrets = dict.fromkeys([*run.secrets(), *(v["value"] for v in variables if v["is_credential"]), *sorted(keys)])
        return JobFolder(
            steps=tuple(step for part in parts for step in part.steps),
            env=env,
            secrets=tuple(secret for secret in secrets if secret),
            outputs=tuple(dict.fromkeys([*plan["outputs"], *(name for part in parts for name in part.outputs)])),
            files={path: content for part in parts for path, content in part.files.items()},
            keep=tuple(keep for part in parts for keep in part.keep),
            image=plan["image"],
            limits=Limits(**plan["limits"]),
        )

    def reports(self, plan: Doc, env: Mapping[str, str]) -> StepParts:
        """What is kept besides what the steps say."""
        return StepParts()

    def _steps(
        self, plan: Doc, env: Mapping[str, str], codehost: Callable[[int], CodeHostAccess | None]
    ) -> list[StepParts]:
        parts = []
        first_repo = 0
        for step in objects(plan["steps"]):
            name, kind, spec = text(step.get("name")), text(step.get("type")), mapping(step.get("spec"))
            match kind:
                case "tools":
                    parts.append(compile_tools(name, spec))
                case "git":
                    repos = objects(spec.get("repos"))
                    if repos:
                        parts.append(compile_git(name, repos, codehost, env, first_repo))
                    first_repo += len(repos)
                case "shell":
                    parts.append(compile_shell(name, spec, plan["outputs"]))
                case "archive":
                    parts.append(compile_archive(spec, env))
                case "tar_archive":
                    parts.append(compile_tar_archive(name, spec, env))
                case "sonar_scanner":
                    parts.append(compile_scanner(name, spec, env))
                case "sonar_get_metrics":
                    parts.append(compile_report(name, spec, env))
                case "debug_before" | "debug_after":
                    pass
                case _:
                    raise Invalid(f"step type: {kind} does not match any known type")
        return parts

    def conclude(self, plan: Doc, outputs: Mapping[str, str], passed: bool, collected: Collected) -> Conclusion:
        repos = commits_found(outputs)
        return Conclusion(result={"repos": repos} if repos else {})

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> dict[str, Any]:
        return {
            "repos": shown_repos(plan, result),
            "image": outputs.get("IMAGE", ""),
            "service_name": plan["service_name"],
            "service_module": plan["service_module"],
            "envs": shown_variables(plan["envs"]),
        }


def registry_variables(scope: Scope) -> dict[str, str]:
    """``<NAMESPACE>_REGISTRY_HOST``, ``_AK`` and ``_SK`` of every registry the project sees; keys stay sealed."""
    env: dict[str, str] = {}
    for resource in scope.catalogue.all("registry"):
        doc = resource.document
        name = repo_identifier(text(doc.get("namespace")).upper()).replace("/", "_")
        if name:
            env[f"{name}_REGISTRY_HOST"] = bare_host(text(doc.get("address")))
            env |= {f"{name}_REGISTRY_{short}": text(doc.get(key)) for short, key in _KEYS if doc.get(key)}
    return env


_KEYS: Final = (("AK", "access_key"), ("SK", "secret_key"))
