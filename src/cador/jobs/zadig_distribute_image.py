"""Job type ``zadig-distribute-image``: copy images from one registry to another.

Input, fan-out and detail follow the documents; carrying it out is for servers that can move images. Source: API
documents, "Execute the Workflow" and "Get Workflow Task Details".
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cador.domain.errors import NotStartable
from cador.domain.naming import image_name, tag_of
from cador.domain.variables import references
from cador.domain.workflow import Job
from cador.jobs.base import Doc, Scope
from cador.jobs.rules import reference
from cador.jobs.sources import referred_services
from cador.jobs.unavailable import CONTAINER, Part, Unavailable
from cador.jobs.values import Input, objects, pair, parse, text
from cador.ports.stores import Resource

Object = dict[str, Any]
_SHOWN: Final = ("source_image", "target_image", "target_tag", "service_name", "service_module")
_TAG_OF_SOURCE: Final = ("{{.workflow.input.imageTag}}", "{{.job.preBuild.imageTag}}", "{{.job.preJob.imageTag}}")
"""What people write in a tag rule for the tag of the source image."""
_SOURCE_TAG: Final = "\ue000tag\ue000"
"""Stands for it in a plan, where rendering leaves it alone."""


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
    """One job task for all targets."""

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        given = parse(DistributeInput, parameters).target_list
        if given is None:
            return dict(job.spec)
        names = {pair(entry): text(entry.get("image_name")) for entry in objects(job.spec.get("targets"))}
        targets = [
            {
                **item.model_dump(),
                "image_name": names.get((item.service_name, item.service_module), ""),
                "given": bool(item.source_image),
            }
            for item in given
        ]
        return {**job.spec, "targets": targets}

    def parts(self, job: Job, scope: Scope) -> list[Part]:
        """Raises: NotStartable: a registry that is not known, or nothing to distribute."""
        source = _registry(text(job.spec.get("source_registry_id")), scope)
        target = _registry(text(job.spec.get("target_registry_id")), scope)
        targets = objects(job.spec.get("targets"))
        if job.spec.get("source") == "fromjob":
            targets = self._referred(job, targets, scope)
        else:
            targets = [{**entry, "source_image": _source_image(entry, source)} for entry in targets]
        if not targets:
            raise NotStartable(f"job {job.name}: there is no image to distribute")
        rule = text(job.spec.get("target_image_tag_rule")) if job.spec.get("enable_target_image_tag_rule") else ""
        for name in _TAG_OF_SOURCE:
            rule = rule.replace(name, _SOURCE_TAG)
        registries = {key: text(job.spec.get(key)) for key in ("source_registry_id", "target_registry_id")}
        shown: list[Object] = [
            {
                **{key: text(entry.get(key)) for key in _SHOWN},
                "update_tag": entry.get("update_tag") is True or bool(rule),
                "rule": rule,
            }
            for entry in targets
        ]
        return [Part({**registries, "registry": _place(target), "targets": shown})]

    def _referred(self, job: Job, targets: Sequence[Object], scope: Scope) -> list[Object]:
        quoted = reference(job.spec)
        made = {module.pair: module for module in referred_services(job, scope)}
        kept = []
        for entry in targets or [{"service_name": service, "service_module": name} for service, name in made]:
            service, module = pair(entry)
            if entry.get("given") is True:
                kept.append(entry)  # an image of this request, whatever the other job makes
                continue
            if (service, module) not in made:
                scope.warn(f"job {job.name}: {service}/{module} is not made by job {quoted}, left out")
                continue
            image = f"{{{{.job.{quoted}.{service}.{module}.output.IMAGE}}}}"
            kept.append({**entry, "source_image": image})
        return kept

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> Object:
        targets = [_shown(entry, plan["registry"]) for entry in objects(plan.get("targets"))]
        registries = {key: plan[key] for key in ("source_registry_id", "target_registry_id")}
        return {**registries, "distribute_target": targets}


def _shown(entry: Object, registry: Mapping[str, str]) -> Object:
    """A target with its images as far as they are known: the source may only be known when the job is reached."""
    source = "" if references(entry["source_image"]) else text(entry["source_image"])
    tag = tag_of(source)
    new_tag = text(entry["rule"]).replace(_SOURCE_TAG, tag) or text(entry["target_tag"]) or tag
    target_tag = new_tag if entry["update_tag"] else tag
    target = text(entry["target_image"])
    if not target and source:
        base = source.partition("@")[0].rpartition("/")[2].partition(":")[0]
        target = image_name(registry["address"], registry["namespace"], base, target_tag)
    kept = {key: value for key, value in entry.items() if key != "rule"}
    return {**kept, "source_image": source, "target_image": target, "target_tag": target_tag}


def _source_image(entry: Object, registry: Resource | None) -> str:
    given = text(entry.get("source_image"))
    name, tag = text(entry.get("image_name")) or text(entry.get("service_module")), text(entry.get("source_tag"))
    if given or not tag:
        return given
    place = _place(registry)
    return image_name(place["address"], place["namespace"], name, tag)


def _registry(ident: str, scope: Scope) -> Resource | None:
    if not ident:
        return None
    found = scope.catalogue.by_id("registry", ident) or scope.catalogue.find("registry", ident)
    if found is None:
        raise NotStartable(f"failed to find docker registry: {ident}")
    return found


def _place(registry: Resource | None) -> dict[str, str]:
    document = registry.document if registry is not None else {}
    return {key: text(document.get(key)) for key in ("address", "namespace")}


DISTRIBUTE: Final = Distribute("zadig-distribute-image", CONTAINER)
