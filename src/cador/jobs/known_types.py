"""The documented job types that need a cluster, a database, a container engine or another system.

Run-time input, fan-out, names and what the detail of a task shows follow the documents; carrying them out is for
servers that have what they need. Source: API documents, "Execute the Workflow" and "Get Workflow Task Details".
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import Field

from cador.domain.errors import InvalidDefinition, NotStartable
from cador.domain.naming import tag_of
from cador.domain.variables import references
from cador.domain.workflow import Job, Workflow
from cador.jobs.base import Doc, Scope
from cador.jobs.definition import reference
from cador.jobs.sources import referred_services
from cador.jobs.unavailable import Part, PerEntry, Unavailable
from cador.jobs.values import (
    Input,
    objects,
    parse,
    text,
)

Object = dict[str, Any]
_CLUSTER: Final = "needs a Kubernetes cluster, which this server does not have"
_CONTAINER: Final = "needs a container executor, which this server does not have"
_UNSUPPORTED: Final = "is not supported by this server"


# -- zadig-deploy


class DeployedService(Input):
    service_name: str
    service_module: str = ""
    image_name: str = ""
    image: str = ""
    value_merge_strategy: str = ""


class DeployInput(Input):
    env_name: str = ""
    service_list: list[DeployedService] | None = None


class Deploy(Unavailable):
    """``zadig-deploy``: one job task per service."""

    names_first = True

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        given = parse(DeployInput, parameters)
        spec = dict(job.spec)
        fixed = text(spec.get("env_source")) in ("fixed", "reference") or text(spec.get("env")).endswith("<+fixed>")
        if given.env_name and not fixed:
            spec["env"] = given.env_name
        if given.service_list:
            spec["services"] = _by_service(given.service_list, objects(spec.get("services")))
            spec["service_and_images"] = []
            spec["chosen"] = True
        return spec

    def parts(self, job: Job, scope: Scope) -> list[Part]:
        env = text(job.spec.get("env")).removesuffix("<+fixed>")
        services = self._services(job, scope)
        if not services:
            raise NotStartable(f"deploy service is empty for env {env}")
        parts = []
        for service, modules in services.items():
            plan = {
                "env": env,
                "production": job.spec.get("production") is True,
                "skip_check_run_status": job.spec.get("skip_check_run_status") is True,
                "deploy_contents": job.spec.get("deploy_contents") or ["image"],
                "service_and_images": [
                    {"service_name": service, "service_module": module, "image": image}
                    for module, image in modules.items()
                ],
            }
            single = tuple(modules) if len(modules) == 1 else ()
            parts.append(Part(plan, (service, *single), (service,), service=service, module="".join(single)))
        return parts

    def _services(self, job: Job, scope: Scope) -> dict[str, dict[str, str]]:
        """Images by service and module. From a job: what that job makes, restricted to what was asked for."""
        listed = _images(objects(job.spec.get("services"))) or _images(objects(job.spec.get("service_and_images")))
        if job.spec.get("source") != "fromjob":
            return listed
        quoted = reference(job.spec)
        made: dict[str, dict[str, str]] = {}
        for one in referred_services(job, scope):
            image = f"{{{{.job.{quoted}.{one.service}.{one.module}.output.IMAGE}}}}"
            made.setdefault(one.service, {})[one.module] = image
        if job.spec.get("chosen") is not True:
            return made
        chosen: dict[str, dict[str, str]] = {}
        for service, modules in listed.items():
            for module, image in modules.items() or [("", "")]:
                if image or module in made.get(service, {}):
                    chosen.setdefault(service, {})[module] = image or made[service][module]
                else:
                    scope.warn(f"job {job.name}: {service}/{module} is not made by job {quoted}, left out")
        return chosen

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> Object:
        images = [
            {**entry, "image": "" if references(text(entry.get("image"))) else text(entry.get("image"))}
            for entry in objects(plan.get("service_and_images"))
        ]
        return {**plan, "service_and_images": images}


def _by_service(given: Sequence[DeployedService], stored: Sequence[Object]) -> list[Object]:
    """Entries grouped by service in order of first appearance; the last merge strategy of a service counts."""
    settings = {text(service.get("service_name")): service for service in stored}
    services: dict[str, Object] = {}
    for item in given:
        entry = services.setdefault(
            item.service_name,
            {**settings.get(item.service_name, {}), "service_name": item.service_name, "modules": []},
        )
        if item.service_module:
            image = item.image_name or item.image
            entry["modules"].append({"service_module": item.service_module, "image": image})
        if item.value_merge_strategy:
            entry["value_merge_strategy"] = item.value_merge_strategy
    return list(services.values())


def _images(entries: Sequence[Object]) -> dict[str, dict[str, str]]:
    services: dict[str, dict[str, str]] = {}
    for entry in entries:
        modules = services.setdefault(text(entry.get("service_name")), {})
        for module in objects(entry.get("modules")) or [entry]:
            if name := text(module.get("service_module")):
                modules[name] = text(module.get("image"))
    return services


# -- custom-deploy


class CustomTarget(Input):
    workload_type: str
    workload_name: str
    container_name: str
    image_name: str = ""


class CustomInput(Input):
    target_list: list[CustomTarget] = Field(default_factory=list)


class CustomDeploy(Unavailable):
    """``custom-deploy``: one job task per container."""

    def check(self, job: Job, workflow: Workflow) -> None:
        for entry in objects(job.spec.get("targets")):
            target = text(entry.get("target"))
            if target and len(list(filter(None, target.split("/")))) != 3:
                raise InvalidDefinition(f"target string: {target} wrong format")

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        given = parse(CustomInput, parameters).target_list
        if not given or job.spec.get("source") == "fixed":
            return dict(job.spec)
        targets = [
            {"target": f"{t.workload_type}/{t.workload_name}/{t.container_name}", "image": t.image_name} for t in given
        ]
        return {**job.spec, "targets": targets}

    def parts(self, job: Job, scope: Scope) -> list[Part]:
        parts = []
        for entry in objects(job.spec.get("targets")):
            target = text(entry.get("target"))
            plan = {
                "target": target,
                "image": text(entry.get("image")),
                "cluster_name": "",
                "cluster_id": text(job.spec.get("cluster_id")),
                "namespace": text(job.spec.get("namespace")),
                "skip_check_run_status": job.spec.get("skip_check_run_status") is True,
            }
            parts.append(Part(plan, tuple(filter(None, target.split("/")))))
        return parts


# -- zadig-distribute-image


class DistributedTarget(Input):
    service_name: str
    service_module: str
    source_tag: str = ""
    source_image: str = ""
    target_tag: str = ""
    update_tag: bool = False


class DistributeInput(Input):
    target_list: list[DistributedTarget] | None = None


class Distribute(Unavailable):
    """``zadig-distribute-image``: one job task for all targets."""

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        given = parse(DistributeInput, parameters).target_list
        if given is None:
            return dict(job.spec)
        names = {_pair(entry): text(entry.get("image_name")) for entry in objects(job.spec.get("targets"))}
        targets = [
            {**item.model_dump(), "image_name": names.get((item.service_name, item.service_module), "")}
            for item in given
        ]
        return {**job.spec, "targets": targets}

    def parts(self, job: Job, scope: Scope) -> list[Part]:
        targets = objects(job.spec.get("targets"))
        if job.spec.get("source") == "fromjob":
            targets = self._referred(job, targets, scope)
        if not targets:
            raise NotStartable(f"job {job.name}: there is no image to distribute")
        keys = ("source_image", "target_image", "target_tag", "service_name", "service_module")
        shown: list[Object] = [
            {**{key: text(entry.get(key)) for key in keys}, "update_tag": entry.get("update_tag") is True}
            for entry in targets
        ]
        registries = {key: text(job.spec.get(key)) for key in ("source_registry_id", "target_registry_id")}
        return [Part({**registries, "targets": shown})]

    def _referred(self, job: Job, targets: list[Object], scope: Scope) -> list[Object]:
        quoted = reference(job.spec)
        made = {module.pair: module for module in referred_services(job, scope)}
        kept = []
        for entry in targets or [{"service_name": pair[0], "service_module": pair[1]} for pair in made]:
            service, module = _pair(entry)
            if (service, module) not in made:
                scope.warn(f"job {job.name}: {service}/{module} is not made by job {quoted}, left out")
                continue
            image = f"{{{{.job.{quoted}.{service}.{module}.output.IMAGE}}}}"
            kept.append({**entry, "source_image": image})
        return kept

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> Object:
        targets = []
        for entry in objects(plan.get("targets")):
            source = "" if references(entry["source_image"]) else entry["source_image"]
            targets.append({**entry, "source_image": source, "target_tag": entry["target_tag"] or tag_of(source)})
        registries = {key: plan[key] for key in ("source_registry_id", "target_registry_id")}
        return {**registries, "distribute_target": targets}


def _pair(entry: Doc) -> tuple[str, str]:
    return text(entry.get("service_name")), text(entry.get("service_module"))


# -- sql, tapd


class SqlInput(Input):
    database_name: str = ""
    sql: str = ""


class Sql(Unavailable):
    """``sql``: statements against a registered database."""

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        given = parse(SqlInput, parameters)
        spec = dict(job.spec)
        if given.database_name and spec.get("source") != "fixed":
            spec["database_name"] = given.database_name
        if given.sql:
            spec["sql"] = given.sql
        return spec

    def parts(self, job: Job, scope: Scope) -> list[Part]:
        if not text(job.spec.get("sql")).strip():
            raise NotStartable("SQL is empty")
        return [Part({key: text(job.spec.get(key)) for key in ("id", "type", "sql", "database_name")})]

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> Object:
        return {"id": plan["id"], "type": plan["type"], "sql": plan["sql"], "results": []}


class Iteration(Input):
    iteration_id: str
    iteration_name: str = ""
    start_date: str = ""
    end_date: str = ""


class TapdInput(Input):
    project_id: str = ""
    project_name: str = ""
    status: str = ""
    iteration_ids: list[str] = Field(default_factory=list)
    iterations: list[Iteration] = Field(default_factory=list)


class Tapd(Unavailable):
    """``tapd``: change the status of iterations."""

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        given = parse(TapdInput, parameters)
        spec = dict(job.spec)
        for key in ("project_id", "project_name"):
            if getattr(given, key) and spec.get("source") != "fixed":
                spec[key] = getattr(given, key)
        if given.status:
            spec["status"] = given.status
        named = {item.iteration_id: item.model_dump() for item in given.iterations}
        union = {ident: named.get(ident, {"iteration_id": ident}) for ident in [*given.iteration_ids, *named]}
        if union:
            spec["iterations"] = list(union.values())
        return spec

    def parts(self, job: Job, scope: Scope) -> list[Part]:
        keys = ("iteration_id", "iteration_name", "start_date", "end_date")
        iterations = [{key: text(entry.get(key)) for key in keys} for entry in objects(job.spec.get("iterations"))]
        if not iterations:
            raise NotStartable("no iteration specified")
        plan: Object = {key: text(job.spec.get(key)) for key in ("tapd_id", "project_id", "project_name", "status")}
        return [Part({**plan, "iterations": iterations})]

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> Object:
        iterations = [{**entry, "error": ""} for entry in plan["iterations"]]
        return {**{k: plan[k] for k in ("project_id", "project_name", "status")}, "iterations": iterations}


_SERVICE: Final = ("service_name", "service_module")

KNOWN: Final[tuple[Unavailable, ...]] = (
    Deploy("zadig-deploy", _CLUSTER),
    CustomDeploy("custom-deploy", _CLUSTER),
    Distribute("zadig-distribute-image", _CONTAINER),
    Sql("sql", "needs a database driver, which this server does not have"),
    Tapd("tapd", "needs a connection to TAPD, which this server does not have"),
    PerEntry("zadig-vm-deploy", _UNSUPPORTED, "service_and_vm_deploys", _SERVICE, first=True),
    PerEntry("k8s-blue-green-deploy", _CLUSTER, "services", ("k8s_service_name",), first=False),
    PerEntry("k8s-canary-deploy", _CLUSTER, "targets", ("k8s_service_name",), first=False),
    PerEntry("k8s-blue-green-release", _CLUSTER, "targets", ("k8s_service_name",), first=False),
    PerEntry("k8s-canary-release", _CLUSTER, "targets", ("k8s_service_name",), first=False),
    PerEntry("k8s-gray-release", _CLUSTER, "targets", ("workload_name",), first=False),
    PerEntry("k8s-gray-rollback", _CLUSTER, "targets", ("workload_name",), first=False),
    Unavailable("k8s-resource-patch", _CLUSTER),
    Unavailable("ai-task", _UNSUPPORTED),
    Unavailable("ai-release-specialist", _UNSUPPORTED),
    # no start request can name these
    PerEntry("zadig-restart", _CLUSTER, "services", ("service_name",), first=True, runnable=False),
    PerEntry("zadig-helm-chart-deploy", _CLUSTER, "deploy_helm_charts", ("release_name",), first=True, runnable=False),
    PerEntry("istio-release", _CLUSTER, "targets", ("workload_name",), first=False, runnable=False),
    PerEntry("istio-rollback", _CLUSTER, "targets", ("workload_name",), first=False, runnable=False),
    PerEntry("jenkins", _UNSUPPORTED, "jobs", ("job_name",), first=False, runnable=False),
    *(
        Unavailable(name, _UNSUPPORTED, runnable=False)
        for name in (
            "apisix",
            "apollo",
            "blueking",
            "build",
            "deploy",
            "dms",
            "grafana",
            "guanceyun-check",
            "jira",
            "meego-transition",
            "mse-gray-offline",
            "mse-gray-release",
            "nacos",
            "notification",
            "offline-service",
            "pingcode",
            "sae-deploy",
            "update-env-istio-config",
            "workflow-trigger",
        )
    ),
)
"""Every type the documents or the product know and this server does not carry out."""
