"""Job type ``zadig-deploy``: bring services of an environment up to date.

Run-time input, fan-out, names and what the detail of a task shows follow the documents; carrying it out is for servers
that are connected to a cluster. Source: API documents, "Execute the Workflow" and "Get Workflow Task Details".
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from cador.domain.errors import NotStartable
from cador.domain.variables import references
from cador.domain.workflow import Job
from cador.jobs.base import Doc, Scope
from cador.jobs.rules import reference
from cador.jobs.sources import referred_services
from cador.jobs.unavailable import CLUSTER, Part, Unavailable
from cador.jobs.values import Input, mapping, objects, parse, text, texts

Object = dict[str, Any]
_SETTINGS: Final = ("variable_kvs", "variable_yaml", "update_config", "value_merge_strategy")
"""Of a service: a given one replaces the stored one."""
_REUSE: Final = "reuse-values"


class DeployedService(Input):
    service_name: str
    service_module: str = ""
    image_name: str = ""
    image: str = ""
    value_merge_strategy: Literal["", "reuse-values", "override"] = ""
    variable_kvs: list[dict[str, Any]] | None = None
    variable_yaml: str | None = None
    update_config: bool | None = None


class DeployInput(Input):
    env_name: str = ""
    service_list: list[DeployedService] | None = None


class Deploy(Unavailable):
    """One job task per service."""

    names_first = True

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        given = parse(DeployInput, parameters)
        spec = dict(job.spec)
        fixed = text(spec.get("env_source")) in ("fixed", "reference") or text(spec.get("env")).endswith("<+fixed>")
        if given.env_name and not fixed:
            spec["env"] = given.env_name
        if given.service_list and spec.get("source") != "fixed":
            spec["services"] = _by_service(given.service_list, objects(spec.get("services")))
            spec["service_and_images"] = []
            spec["chosen"] = True
        return spec

    def parts(self, job: Job, scope: Scope) -> list[Part]:
        env = text(job.spec.get("env")).removesuffix("<+fixed>")
        kind = "production_environment" if job.spec.get("production") is True else "environment"
        if scope.catalogue.find(kind, env) is None:
            raise NotStartable(f"environment {env} not found")
        services = self._services(job, scope)
        if not services:
            raise NotStartable(f"deploy service is empty for env {env}")
        contents = _contents(job.spec)
        settings = {text(entry.get("service_name")): entry for entry in objects(job.spec.get("services"))}
        parts = []
        for service, modules in services.items():
            if not modules and contents == ["image"]:
                continue
            own = settings.get(service, {})
            plan = {
                "env": env,
                "env_alias": "",
                "production": job.spec.get("production") is True,
                "service_type": _service_type(service, scope),
                "skip_check_run_status": job.spec.get("skip_check_run_status") is True,
                "deploy_contents": contents,
                "variable_kvs": objects(own.get("variable_kvs")),
                "update_config": own.get("update_config") is True,
                "yaml_content": "",
                "user_supplied_value": text(own.get("variable_yaml")),
                "value_merge_strategy": text(own.get("value_merge_strategy"))
                or text(job.spec.get("value_merge_strategy"))
                or _REUSE,
                "service_and_images": [
                    {"service_name": service, "service_module": module, "image": image}
                    for module, image in modules.items()
                ],
            }
            single = tuple(modules) if len(modules) == 1 else ()
            known = {f"job.{job.name}.{service}.{module}.IMAGE": image for module, image in modules.items()}
            parts.append(
                Part(plan, (service, *single), (service,), service=service, module="".join(single), variables=known)
            )
        if not parts:
            raise NotStartable(f"deploy service is empty for env {env}")
        return [_with_lists(job.name, env, parts, services), *parts[1:]]

    def _services(self, job: Job, scope: Scope) -> dict[str, dict[str, str]]:
        """Images by service and module. From a job: what that job makes, restricted to what was asked for.

        Raises: NotStartable: a module without an image."""
        listed = _images(objects(job.spec.get("services"))) or _images(objects(job.spec.get("service_and_images")))
        if job.spec.get("source") != "fromjob":
            for service, modules in listed.items():
                for module, image in modules.items():
                    if not image and "image" in _contents(job.spec):
                        raise NotStartable(f"image of {service}/{module} is empty")
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
            if not modules and service in made:
                chosen[service] = dict(made[service])
            for module, image in modules.items() or ([("", "")] if service not in made else ()):
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


def _contents(spec: Doc) -> list[str]:
    """What a deployment brings up to date: ``image`` when nothing is named."""
    return texts(spec.get("deploy_contents")) or ["image"]


def _service_type(service: str, scope: Scope) -> str:
    for kind in ("service", "production_service"):
        if found := scope.catalogue.find(kind, service):
            return text(found.document.get("type")) or "k8s"
    return "k8s"


def _with_lists(job: str, env: str, parts: Sequence[Part], services: Mapping[str, Mapping[str, str]]) -> Part:
    """The first of *parts* with what later jobs may ask of the whole job: environment, services, images."""
    modules = [(service, module, image) for service, found in services.items() for module, image in found.items()]
    lists = {
        f"job.{job}.envName": env,
        f"job.{job}.SERVICES": ",".join(f"{module}/{service}" for service, module, _ in modules),
        f"job.{job}.IMAGES": ",".join(image for _, _, image in modules if image),
    }
    first = parts[0]
    return Part(
        first.plan,
        first.names,
        first.key,
        service=first.service,
        module=first.module,
        variables={**first.variables, **lists},
    )


def _by_service(given: Sequence[DeployedService], stored: Sequence[Object]) -> list[Object]:
    """Entries grouped by service in order of first appearance; the last setting of a service counts."""
    known = {text(service.get("service_name")): service for service in stored}
    services: dict[str, Object] = {}
    for item in given:
        entry = services.setdefault(
            item.service_name,
            {**known.get(item.service_name, {}), "service_name": item.service_name, "modules": []},
        )
        if item.service_module:
            image = item.image_name or item.image
            entry["modules"].append({"service_module": item.service_module, "image": image})
        entry.update({name: value for name in _SETTINGS if (value := getattr(item, name)) not in (None, "")})
    return list(services.values())


def _images(entries: Sequence[Object]) -> dict[str, dict[str, str]]:
    services: dict[str, dict[str, str]] = {}
    for entry in entries:
        modules = services.setdefault(text(entry.get("service_name")), {})
        for module in objects(entry.get("modules")) or [entry]:
            if name := text(mapping(module).get("service_module")):
                modules[name] = text(module.get("image"))
    return services


DEPLOY: Final = Deploy("zadig-deploy", CLUSTER)
