"""Job type ``tapd``: set the status of iterations of a TAPD project.

Source: API documents, "Execute the Workflow", "Tapd Task". A plan is ``{tapd_id, tapd_address, project_id,
project_name, status, iterations}``. Facts of an execution: ``{project_name, iterations}`` with the names and dates that
TAPD told, and the error of the one that failed.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field

from cador.domain.errors import Invalid, NotStartable
from cador.domain.workflow import Job
from cador.jobs.base import Doc, Run, Scope
from cador.jobs.server import ServerType
from cador.jobs.values import Input, mapping, objects, parse, text

Object = dict[str, Any]
FIELDS: Final = ("iteration_id", "iteration_name", "start_date", "end_date")
MOST_ITERATIONS: Final = 1_000


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


class Tapd(ServerType):
    """One job task. It is not repeatable: people may have changed the status again since."""

    name = "tapd"
    repeatable = False

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        """Both documented shapes: ``iteration_ids``, ``iterations``, or the union in that order."""
        given = parse(TapdInput, parameters)
        spec = dict(job.spec)
        for key in ("project_id", "project_name"):
            if value := getattr(given, key):
                if spec.get("source") == "fixed":
                    if value != spec.get(key):
                        scope.warn(f"job {job.name}: the project is fixed and {key} cannot be given, ignored")
                else:
                    spec[key] = value
        if given.status:
            spec["status"] = given.status
        named = {item.iteration_id: item.model_dump() for item in given.iterations}
        union = {ident: named.get(ident, {"iteration_id": ident}) for ident in [*given.iteration_ids, *named]}
        if union:
            spec["iterations"] = list(union.values())
        return spec

    def plan(self, job: Job, scope: Scope) -> Object:
        entries = [{key: text(entry.get(key)) for key in FIELDS} for entry in objects(job.spec.get("iterations"))]
        iterations = list({entry["iteration_id"]: entry for entry in reversed(entries)}.values())[::-1]
        if not iterations:
            raise NotStartable("no iteration specified")
        if len(iterations) > MOST_ITERATIONS:
            raise NotStartable(f"{len(iterations)} iterations are more than {MOST_ITERATIONS}")
        for entry in iterations:
            if not entry["iteration_id"] or "," in entry["iteration_id"]:
                raise NotStartable(f"{entry['iteration_id']!r} is not the id of an iteration")
        for key in ("project_id", "status"):
            if not text(job.spec.get(key)):
                raise NotStartable(f"{key} of the TAPD job cannot be empty")
        ident = text(job.spec.get("tapd_id"))
        found = scope.catalogue.by_id(KIND, ident) or scope.catalogue.find(KIND, ident)
        if found is None or found.document.get("type") != "tapd":
            raise NotStartable(_not_found(ident))
        plan: Object = {key: text(job.spec.get(key)) for key in ("project_id", "project_name", "status")}
        address = text(mapping(found.document.get("spec")).get("tapd_address"))
        return {"tapd_id": found.uid, "tapd_address": address, **plan, "iterations": iterations}

    def arguments(self, plan: Doc, run: Run) -> Object:
        found = run.resource(KIND, plan["tapd_id"])
        if found is None or found.document.get("type") != "tapd":
            raise Invalid(_not_found(plan["tapd_id"]))
        spec = mapping(found.document.get("spec"))
        return {
            "address": text(spec.get("tapd_address")),
            "client_id": text(spec.get("tapd_client_id")),
            "client_secret": run.open(text(spec.get("tapd_client_secret"))),
            **{key: plan[key] for key in ("project_id", "project_name", "status", "iterations")},
        }

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> Object:
        told = {entry["iteration_id"]: entry for entry in result.get("iterations") or ()}
        shown = {key: plan[key] for key in ("tapd_id", "tapd_address", "project_id", "project_name", "status")}
        iterations = [
            {**entry, "error": "", **told.get(entry["iteration_id"], {})} for entry in objects(plan.get("iterations"))
        ]
        return {**shown, "project_name": result.get("project_name") or shown["project_name"], "iterations": iterations}


def _not_found(ident: str) -> str:
    return f"failed to find TAPD integration {ident}".rstrip()


KIND: Final = "projectmanagement"
TAPD: Final = Tapd()
