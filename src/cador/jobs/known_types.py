"""The documented job types that need a cluster, a database, a container engine or another system.

Run-time input, fan-out, names and what the detail of a task shows follow the documents; carrying them out is for
servers that have what they need. Source: API documents, "Execute the Workflow" and "Get Workflow Task Details".
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field

from cador.domain.errors import NotStartable
from cador.domain.workflow import Job
from cador.jobs.base import Doc, Scope
from cador.jobs.unavailable import CLUSTER, Part, PerEntry, Unavailable
from cador.jobs.values import (
    Input,
    objects,
    parse,
    text,
)

Object = dict[str, Any]
_UNSUPPORTED: Final = "is not supported by this server"


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
