"""The job types of releases that take input at a start: blue-green, canary, gray, patches of resources, hosts.

Nothing of them is carried out by this server; what they were asked to do is stored and shown.
"""

from collections.abc import Sequence
from typing import Any, Final

from pydantic import Field

from cador.domain.errors import Invalid
from cador.domain.workflow import Job
from cador.jobs.base import Doc, Scope
from cador.jobs.unavailable import CLUSTER, PerEntry, Unavailable
from cador.jobs.values import Input, KeyInput, objects, parse, text

Object = dict[str, Any]


class ServiceImage(Input):
    service_name: str
    image_name: str = ""


class ServiceImages(Input):
    service_list: list[ServiceImage] = Field(default_factory=list)


class WorkloadImage(Input):
    workload_name: str
    workload_type: str = ""
    container_name: str = ""
    image_name: str = ""


class WorkloadImages(Input):
    target_list: list[WorkloadImage] = Field(default_factory=list)


class ResourceValues(Input):
    resource_name: str
    resource_kind: str = ""
    resource_group: str = ""
    resource_version: str = ""
    inputs: list[KeyInput] = Field(default_factory=list)


class Patches(Input):
    target_list: list[ResourceValues] = Field(default_factory=list)


class Package(Input):
    service_name: str
    file_name: str = ""


class Packages(Input):
    env_name: str = ""
    service_list: list[Package] = Field(default_factory=list)


class ByService(PerEntry):
    """Images by the name of a Kubernetes service."""

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        images = {item.service_name: item.image_name for item in parse(ServiceImages, parameters).service_list}
        entries = []
        for entry in objects(job.spec.get(self.entries)):
            image = images.pop(text(entry.get("k8s_service_name")), "")
            entries.append({**entry, "image": image} if image else entry)
        _tell(images, job, scope)
        return {**job.spec, self.entries: entries}


class ByWorkload(PerEntry):
    """Only the workloads that are listed, with their images."""

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        given = {item.workload_name: item for item in parse(WorkloadImages, parameters).target_list}
        if not given:
            return dict(job.spec)
        kept = []
        for entry in objects(job.spec.get(self.entries)):
            item = given.pop(text(entry.get("workload_name")), None)
            if item is not None:
                kept.append({**entry, "image": item.image_name} if item.image_name else entry)
        _tell(given, job, scope)
        return {**job.spec, self.entries: kept}


class ResourcePatch(Unavailable):
    """Only the patches of resources that are listed, with the values of their variables."""

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        given = {_resource(item.model_dump()): item for item in parse(Patches, parameters).target_list}
        if not given:
            return dict(job.spec)
        kept = []
        for entry in objects(job.spec.get("patch_items")):
            item = given.pop(_resource(entry), None)
            if item is not None:
                kept.append({**entry, "params": _with_values(objects(entry.get("params")), item, job, scope)})
        _tell([name for name, *_ in given], job, scope)
        return {**job.spec, "patch_items": kept}


class HostDeploy(PerEntry):
    """The packages to bring to hosts."""

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        given = parse(Packages, parameters)
        spec = dict(job.spec)
        if given.env_name:
            spec["env"] = given.env_name
        if given.service_list:
            files = {item.service_name: item.file_name for item in given.service_list}
            if len(files) < len(given.service_list):
                raise Invalid("cannot deploy 2 same service")
            kept = []
            for entry in objects(spec.get(self.entries)):
                if (name := text(entry.get("service_name"))) in files:
                    kept.append({**entry, "file_name": files.pop(name)})
            _tell(files, job, scope)
            spec[self.entries] = kept
        return spec


def _resource(entry: Doc) -> tuple[str, ...]:
    return tuple(text(entry.get(f"resource_{part}")) for part in ("name", "kind", "group", "version"))


def _with_values(params: list[Object], item: ResourceValues, job: Job, scope: Scope) -> list[Object]:
    values = {given.key: given.value for given in item.inputs}
    result = []
    for param in params:
        value = values.pop(text(param.get("name") or param.get("key")), None)
        if value is not None and param.get("is_credential") is True:
            value = scope.seal(value)
        result.append(param if value is None else {**param, "value": value})
    for name in values:
        scope.warn(f"job {job.name}: {item.resource_name} has no variable {name}")
    return result


def _tell(names: Sequence[str] | dict[str, Any], job: Job, scope: Scope) -> None:
    for name in names:
        scope.warn(f"job {job.name}: {name} is not configured, ignored")


_SERVICE: Final = ("k8s_service_name",)
_WORKLOAD: Final = ("workload_name",)
_NOT_SERVED: Final = "is not supported by this server"


RELEASES: Final[tuple[Unavailable, ...]] = (
    ByService("k8s-blue-green-deploy", CLUSTER, "services", _SERVICE, first=False),
    ByService("k8s-canary-deploy", CLUSTER, "targets", _SERVICE, first=False),
    PerEntry("k8s-blue-green-release", CLUSTER, "targets", _SERVICE, first=False),
    PerEntry("k8s-canary-release", CLUSTER, "targets", _SERVICE, first=False),
    ByWorkload("k8s-gray-release", CLUSTER, "targets", _WORKLOAD, first=False),
    ByWorkload("k8s-gray-rollback", CLUSTER, "targets", _WORKLOAD, first=False),
    ResourcePatch("k8s-resource-patch", CLUSTER),
    HostDeploy(
        "zadig-vm-deploy", _NOT_SERVED, "service_and_vm_deploys", ("service_name", "service_module"), first=True
    ),
)
