"""The documented job types that need a cluster, a database, a container engine or another system.

Run-time input, fan-out, names and what the detail of a task shows follow the documents; carrying them out is for
servers that have what they need. Source: API documents, "Execute the Workflow" and "Get Workflow Task Details".
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field

from cador.domain.errors import NotStartable
from cador.domain.variables import for_service
from cador.domain.workflow import Job
from cador.jobs.base import Doc, Scope
from cador.jobs.sources import referred_services
from cador.jobs.unavailable import CLUSTER, Part, PerEntry, Unavailable
from cador.jobs.values import (
    Input,
    KeyInput,
    RepoInput,
    ServiceInput,
    configured_repos,
    objects,
    parse,
    set_refs,
    set_values,
    shown_repos,
    shown_variables,
    text,
    variables,
)

Object = dict[str, Any]
_UNSUPPORTED: Final = "is not supported by this server"


# -- zadig-scanning


class ScanInput(Input):
    scanning_name: str
    repo_info: list[RepoInput] = Field(default_factory=list)
    inputs: list[KeyInput] = Field(default_factory=list)


class ScanningInput(Input):
    scanning_list: list[ScanInput] = Field(default_factory=list)
    service_list: list[ServiceInput] | None = None


class Scanning(Unavailable):
    """``zadig-scanning``: one job task per scan, or per service module and scan."""

    names_first = True

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        given = parse(ScanningInput, parameters)
        where = f"job {job.name}"
        if job.spec.get("scanning_type") != "service_scanning":
            by_name = {item.scanning_name: item for item in given.scanning_list}
            scans = [_with_input(scan, by_name.get(text(scan.get("name"))), scope, where) for scan in _scans(job.spec)]
            return {**job.spec, "scannings": scans}
        if given.service_list is None:
            return dict(job.spec)
        by_pair = {item.pair: item for item in given.service_list}
        chosen = [
            _with_input(scan, by_pair[_pair(scan)], scope, where)
            for scan in objects(job.spec.get("service_and_scannings"))
            if _pair(scan) in by_pair
        ]
        return {**job.spec, "service_and_scannings": chosen, "target_services": []}

    def parts(self, job: Job, scope: Scope) -> list[Part]:
        where = f"job {job.name}"
        if job.spec.get("scanning_type") != "service_scanning":
            return [Part(self._plan("", scan, scope, where), (text(scan.get("name")),)) for scan in _scans(job.spec)]
        wanted = None
        if job.spec.get("source") == "fromjob":
            wanted = {module.pair for module in referred_services(job, scope)}
        parts = []
        for scan in objects(job.spec.get("service_and_scannings")):
            service, module = _pair(scan)
            if wanted is None or (service, module) in wanted:
                plan = for_service(self._plan("service_scanning", scan, scope, where), service, module)
                parts.append(Part(plan, (service, module), service=service, module=module))
        return parts

    def _plan(self, kind: str, scan: Object, scope: Scope, where: str) -> Object:
        service, module = _pair(scan)
        repos = configured_repos(scan.get("repos"), scope, where)
        return {
            "scanning_type": kind,
            "scanning_name": text(scan.get("name")),
            "service_name": service,
            "service_module": module,
            "envs": variables(scan.get("key_vals")),
            "steps": [{"name": "git", "type": "git", "spec": {"repos": repos}}] if repos else [],
        }

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> Object:
        return {
            "scanning_type": plan["scanning_type"],
            "scanning_name": plan["scanning_name"],
            "service_name": plan["service_name"],
            "service_module": plan["service_module"],
            "repos": shown_repos(plan, result),
            "link_url": "",
            "is_has_artifact": False,
            "sonar_metrics": None,
            "envs": shown_variables(plan["envs"]),
        }


def _scans(spec: Doc) -> list[Object]:
    return objects(spec.get("scannings")) or objects(spec.get("scanning_options"))


def _pair(entry: Doc) -> tuple[str, str]:
    return text(entry.get("service_name")), text(entry.get("service_module"))


def _with_input(entry: Object, given: ScanInput | ServiceInput | None, scope: Scope, where: str) -> Object:
    if given is None:
        return entry
    return {
        **entry,
        "repos": set_refs(objects(entry.get("repos")), given.repo_info, scope, where),
        "key_vals": set_values(variables(entry.get("key_vals")), given.inputs, scope, where),
    }


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


KNOWN: Final[tuple[Unavailable, ...]] = (
    Scanning("zadig-scanning", _UNSUPPORTED),
    Sql("sql", "needs a database driver, which this server does not have"),
    Tapd("tapd", "needs a connection to TAPD, which this server does not have"),
    Unavailable("ai-task", _UNSUPPORTED),
    Unavailable("ai-release-specialist", _UNSUPPORTED),
    # no start request can name these
    PerEntry("zadig-restart", CLUSTER, "services", ("service_name",), first=True, runnable=False),
    PerEntry("zadig-helm-chart-deploy", CLUSTER, "deploy_helm_charts", ("release_name",), first=True, runnable=False),
    PerEntry("istio-release", CLUSTER, "targets", ("workload_name",), first=False, runnable=False),
    PerEntry("istio-rollback", CLUSTER, "targets", ("workload_name",), first=False, runnable=False),
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
