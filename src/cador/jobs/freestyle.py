"""Job type ``freestyle`` ("general task"): the user's own steps. Source: API documents, "Create a Workflow".

Two shapes are accepted: that of the documents (``properties`` and ``steps``) and the newer one (``script``, ``repos``,
``runtime``, ``advanced_setting``), which is turned into the first. A job runs once, or once per service module.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import Field

from cador.domain.naming import norm
from cador.domain.variables import for_service
from cador.domain.workflow import Job
from cador.jobs.base import Doc, JobTaskPlan, Scope
from cador.jobs.sandbox import (
    LACKS,
    USUAL_MIN,
    SandboxType,
    check_steps,
    git_paths,
    has_work,
    image,
    limits,
    output_names,
    registry_variables,
    timeout_s,
    variables_of,
    with_job_lists,
)
from cador.jobs.sources import ServiceModule, referred_services
from cador.jobs.values import (
    Input,
    KeyInput,
    RepoInput,
    ServiceInput,
    configured_repos,
    mapping,
    objects,
    overlay_refs,
    overlay_values,
    pair,
    parse,
    replaced_repos,
    require_values,
    sealed_values,
    set_values,
    text,
    variables,
)

Object = dict[str, Any]
_BY_SERVICE: Final = "service_freestyle"


class FreestyleInput(Input):
    """``kv`` and ``repo_info`` of a job that runs once, ``services`` of one that runs per service module."""

    kv: list[KeyInput] = Field(default_factory=list)
    repo_info: list[RepoInput] = Field(default_factory=list)
    services: list[ServiceInput] | None = None


class Freestyle(SandboxType):
    name = "freestyle"

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        given = parse(FreestyleInput, parameters)
        spec = dict(job.spec)
        kind = text(spec.get("freestyle_type"))
        where = f"job {job.name}"
        if given.services is not None and (kind == _BY_SERVICE or (not kind and "steps" in spec)):
            spec["freestyle_type"] = _BY_SERVICE
            spec["services"] = self._services(spec, given.services, scope, where)
            spec.pop("default_services", None)  # they are chosen where a start says nothing, not where it says none
            return spec
        if kind == _BY_SERVICE:
            return spec
        spec = _set_envs(spec, set_values(_envs(spec), given.kv, scope, where))
        if given.repo_info:
            spec = _set_repos(spec, replaced_repos(_repos(spec), given.repo_info, scope))
        return spec

    def _services(self, spec: Doc, given: Sequence[ServiceInput], scope: Scope, where: str) -> list[Object]:
        stored = {pair(entry): entry for entry in objects(spec.get("services"))}
        services = []
        for item in given:
            before = stored.get(item.pair, {})
            repos = objects(before.get("repos")) or _repos(spec)
            services.append(
                {
                    **before,
                    "service_name": item.service_name,
                    "service_module": item.service_module,
                    "key_vals": set_values(_service_envs(spec, before), item.inputs, scope, where),
                    "repos": replaced_repos(repos, item.repo_info, scope) if item.repo_info else repos,
                }
            )
        return services

    def expand(self, job: Job, scope: Scope) -> list[JobTaskPlan]:
        where = f"job {job.name}"
        spec = dict(job.spec)
        if text(spec.get("freestyle_type")) != _BY_SERVICE:
            plan = self._plan(job.name, spec, _envs(spec), _repos(spec), scope, where)
            return [self._task(job.name, job.name, job.name, plan, spec, {"job_name": job.name})]
        listed = objects(spec.get("services")) or objects(spec.get("default_services"))
        entries = {pair(entry): entry for entry in listed}
        plans = []
        for module in self._modules(job, entries, scope):
            entry = entries.get(module.pair, {})
            repos = objects(entry.get("repos")) or _repos(spec)
            plan = self._plan(job.name, spec, _service_envs(spec, entry), repos, scope, where)
            if spec.get("ref_repos") is True:
                plan = _with_refs(plan, module.repos)
            plan |= {"service_name": module.service, "service_module": module.module}
            plan["predefined"] |= {"SERVICE_NAME": module.service, "SERVICE_MODULE": module.module}
            plan = for_service(plan, module.service, module.module)
            plans.append(
                self._task(
                    norm(module.service, module.module, job.name),
                    f"{job.name}.{module.service}.{module.module}",
                    f"{job.name}-{module.service}-{module.module}",
                    plan,
                    spec,
                    {"job_name": job.name, "service_name": module.service, "service_module": module.module},
                )
            )
        return with_job_lists(job.name, plans)

    def _modules(self, job: Job, entries: Mapping[tuple[str, str], Doc], scope: Scope) -> list[ServiceModule]:
        if job.spec.get("source") != "fromjob":
            return [ServiceModule(*pair) for pair in entries]
        modules = referred_services(job, scope)
        made = {module.pair for module in modules}
        for service, name in entries:
            if (service, name) not in made:
                scope.warn(f"job {job.name}: {service}/{name} is not made by the job it refers to, left out")
        return modules

    def _plan(self, job: str, spec: Doc, envs: list[Object], repos: list[Object], scope: Scope, where: str) -> Object:
        require_values(envs, where)
        envs = sealed_values(envs, scope)
        properties = _properties(spec)
        steps = _steps(job, spec, configured_repos(repos, scope, where), scope, where)
        lacks = check_steps(steps)
        if lacks:
            scope.note(f"{where}: {lacks}")
        return {
            **({LACKS: lacks} if lacks else {}),
            "service_name": "",
            "service_module": "",
            "envs": envs,
            "predefined": registry_variables(scope),
            "steps": steps,
            "outputs": output_names(spec.get("outputs") or mapping(spec.get("advanced_setting")).get("outputs")),
            "image": image(
                properties.get("image_from"), properties.get("image_id"), properties.get("build_os"), scope, where
            ),
            "limits": limits(properties.get("res_req"), properties.get("res_req_spec")),
        }

    def _task(
        self, name: str, key: str, display_name: str, plan: Object, spec: Doc, info: Mapping[str, str]
    ) -> JobTaskPlan:
        minutes = _properties(spec).get("timeout")
        return JobTaskPlan(
            name=name,
            key=key,
            display_name=display_name,
            timeout_s=timeout_s(minutes, USUAL_MIN),
            plan=plan,
            info=info,
            variables=variables_of(key, plan),
            repos=git_paths(plan),
        )


def _properties(spec: Doc) -> Mapping[str, Any]:
    """``properties`` of the documents; of the newer shape, ``runtime`` and ``advanced_setting`` together."""
    if isinstance(spec.get("properties"), Mapping):
        return mapping(spec["properties"])
    return {**mapping(spec.get("runtime")), **mapping(spec.get("advanced_setting"))}


def _envs(spec: Doc) -> list[Object]:
    return variables(spec["envs"] if "envs" in spec else _properties(spec).get("envs"))


def _set_envs(spec: Object, envs: list[Object]) -> Object:
    if "envs" in spec or not isinstance(spec.get("properties"), Mapping):
        return {**spec, "envs": envs}
    return {**spec, "properties": {**spec["properties"], "envs": envs}}


def _service_envs(spec: Doc, entry: Doc) -> list[Object]:
    """Variables of one service: the job's, with the values this service has of its own, and those only it has."""
    own, of_job = variables(entry.get("key_vals")), _envs(spec)
    known = {item["key"] for item in of_job}
    return [*overlay_values(of_job, own), *(item for item in own if item["key"] not in known)]


def _repos(spec: Doc) -> list[Object]:
    """Repositories a start request may replace: of the documents' shape those of the first git step."""
    if "steps" not in spec:
        return objects(spec.get("repos"))
    return next((objects(mapping(s.get("spec")).get("repos")) for s in _git_steps(spec)), [])


def _git_steps(spec: Doc) -> list[Object]:
    return [step for step in objects(spec.get("steps")) if step.get("type") == "git"]


def _set_repos(spec: Object, repos: list[Object]) -> Object:
    if "steps" not in spec:
        return {**spec, "repos": repos}
    steps = objects(spec["steps"])
    at = next((n for n, step in enumerate(steps) if step.get("type") == "git"), None)
    if at is None:
        return {**spec, "steps": [{"name": "git", "type": "git", "spec": {"repos": repos}}, *steps]}
    steps[at] = {**steps[at], "spec": {**mapping(steps[at].get("spec")), "repos": repos}}
    return {**spec, "steps": steps}


def _steps(job: str, spec: Doc, repos: list[Object], scope: Scope, where: str) -> list[Object]:
    """Steps in the order they run, repositories complete. *repos*: for the first git step."""
    if "steps" not in spec:
        runtime, upload = mapping(spec.get("runtime")), mapping(spec.get("object_storage_upload"))
        kind = text(spec.get("script_type")) or "shell"
        steps = [
            {"name": f"{job}-tool-install", "type": "tools", "spec": {"installs": objects(runtime.get("installs"))}},
            {"name": f"{job}-git", "type": "git", "spec": {"repos": repos}},
            {"name": f"{job}-{kind}", "type": kind, "spec": {"script": text(spec.get("script"))}},
        ]
        if upload.get("enabled"):
            steps.append({"name": f"{job}-object-storage", "type": "archive", "spec": dict(upload)})
        return [step for step in steps if has_work(step)]
    steps = []
    first = True
    for step in objects(_set_repos(dict(spec), repos)["steps"] if repos else spec["steps"]):
        body = dict(mapping(step.get("spec")))
        if step.get("type") == "git":
            body["repos"] = repos if first else configured_repos(body.get("repos"), scope, where)
            first = False
        kind = text(step.get("type"))
        steps.append({"name": text(step.get("name")) or kind, "type": kind, "spec": body})
    return steps


def _with_refs(plan: Object, repos: Sequence[Mapping[str, Any]]) -> Object:
    """``ref_repos``: what the referred job checks out of the same repositories."""
    steps = [
        {**step, "spec": {**step["spec"], "repos": overlay_refs(step["spec"]["repos"], [dict(r) for r in repos])}}
        if step["type"] == "git"
        else step
        for step in plan["steps"]
    ]
    return {**plan, "steps": steps}


FREESTYLE: Final = Freestyle()
