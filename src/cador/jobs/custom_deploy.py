"""Job type ``custom-deploy``: change the image of containers of any workload in a namespace.

Input, fan-out and detail follow the documents; carrying it out is for servers that are connected to a cluster. Source:
API documents, "Execute the Workflow" and "Get Workflow Task Details".
"""

from typing import Any, Final

from pydantic import Field

from cador.domain.errors import Invalid, InvalidDefinition
from cador.domain.workflow import Job, Workflow
from cador.jobs.base import Doc, Scope
from cador.jobs.unavailable import CLUSTER, Part, Unavailable
from cador.jobs.values import Input, objects, parse, text

Object = dict[str, Any]
_WORKLOADS: Final = {word.lower(): word for word in ("Deployment", "StatefulSet", "CronJob")}


class CustomTarget(Input):
    workload_type: str
    workload_name: str
    container_name: str
    image_name: str = ""


class CustomInput(Input):
    target_list: list[CustomTarget] = Field(default_factory=list)


class CustomDeploy(Unavailable):
    """One job task per container."""

    def check(self, job: Job, workflow: Workflow) -> None:
        for entry in objects(job.spec.get("targets")):
            target = text(entry.get("target"))
            if target and len(list(filter(None, target.split("/")))) != 3:
                raise InvalidDefinition(f"target string: {target} wrong format")

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        given = parse(CustomInput, parameters).target_list
        for item in given:
            if item.workload_type.lower() not in _WORKLOADS:
                raise Invalid(f"workload type: {item.workload_type} not supported")
            for value in (item.workload_name, item.container_name):
                if not value or "/" in value:
                    raise Invalid(f"target string: {_target(item)} wrong format")
        if not given or job.spec.get("source") == "fixed":
            return dict(job.spec)
        return {**job.spec, "targets": [{"target": _target(item), "image": item.image_name} for item in given]}

    def parts(self, job: Job, scope: Scope) -> list[Part]:
        cluster = text(job.spec.get("cluster_id"))
        found = scope.catalogue.by_id("cluster", cluster) if cluster else None
        if cluster and found is None:
            scope.note(f"job {job.name}: cluster {cluster} is not known")
        parts = []
        for entry in objects(job.spec.get("targets")):
            target = text(entry.get("target"))
            plan = {
                "target": target,
                "image": text(entry.get("image")),
                "cluster_name": text(found.document.get("name")) if found is not None else "",
                "cluster_id": cluster,
                "namespace": text(job.spec.get("namespace")),
                "skip_check_run_status": job.spec.get("skip_check_run_status") is True,
            }
            parts.append(Part(plan, tuple(filter(None, target.split("/")))))
        return parts


def _target(item: CustomTarget) -> str:
    kind = _WORKLOADS.get(item.workload_type.lower(), item.workload_type)
    return f"{kind}/{item.workload_name}/{item.container_name}"


CUSTOM_DEPLOY: Final = CustomDeploy("custom-deploy", CLUSTER)
