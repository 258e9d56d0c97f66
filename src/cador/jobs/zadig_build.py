"""Job type ``zadig-build``: build service modules. Source: API documents, "Execute the Workflow", ``zadig-build``.

A build configuration (kind ``build``) names repositories, variables and a script; the workflow chooses modules and
overrides values; one job task per module.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field

from cador.domain.errors import Invalid, InvalidDefinition, NotStartable
from cador.domain.naming import (
    TAG_LIMIT,
    bare_host,
    custom_rule,
    image_name,
    image_tag,
    norm,
    package_name,
    primary_repo,
    pull_requests,
    tag_of,
)
from cador.domain.variables import for_service
from cador.domain.workflow import Job, Workflow
from cador.jobs.base import NUMBER, Collected, Conclusion, Doc, JobTaskPlan, Scope
from cador.jobs.build_templates import configuration
from cador.jobs.configured import USUAL_RESOURCES, Repos, envs_of, made_by_another, repos_of, with_input
from cador.jobs.sandbox import (
    DOCKER_REASON,
    LACKS,
    USUAL_MIN,
    SandboxType,
    git_paths,
    has_work,
    image,
    limits,
    output_names,
    timeout_s,
    variables_of,
    with_job_lists,
)
from cador.jobs.steps.archive import ARCHIVE
from cador.jobs.steps.shell import check_script_type
from cador.jobs.values import (
    Input,
    ServiceInput,
    mapping,
    objects,
    pair,
    parse,
    repos_of_plan,
    text,
)
from cador.ports.stores import Resource

Object = dict[str, Any]
_IMAGE: Final = "IMAGE"
_PACKAGE: Final = "PKG_FILE"
_NOT_IN_TAG: Final = re.compile(r"[^A-Za-z0-9_.-]")
_RULES: Final = {"custom_image_rule": _IMAGE, "custom_tar_rule": _PACKAGE}


class BuildInput(Input):
    registry: str = ""
    service_list: list[ServiceInput] | None = Field(None)


class Build(SandboxType):
    name = "zadig-build"

    def check(self, job: Job, workflow: Workflow) -> None:
        seen: set[tuple[str, str]] = set()
        for one in map(pair, _candidates(job.spec)):
            if one in seen:
                raise InvalidDefinition(f"{'/'.join(one)} is more than once in the service build list of {job.name}")
            seen.add(one)

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        given = parse(BuildInput, parameters)
        spec = dict(job.spec)
        if given.registry:
            spec["docker_registry_id"] = _registry_at(given.registry, scope).uid
        if given.service_list is None:
            return spec
        where = f"job {job.name}"
        asked = {item.pair: item for item in given.service_list}
        kept = []
        for entry in _candidates(spec):
            item = asked.pop(pair(entry), None)
            if item is None:
                continue
            kept.append(with_input(entry, _configuration(entry, scope), item, scope, where))
        for service, module in asked:
            scope.warn(f"{where}: {service}/{module} is not in the configured service build list")
        for key in ("service_and_builds_options", "default_service_and_builds"):
            spec.pop(key, None)
        return {**spec, "service_and_builds": kept}

    def expand(self, job: Job, scope: Scope) -> list[JobTaskPlan]:
        registry = _registry(text(job.spec.get("docker_registry_id")), scope)
        entries = objects(job.spec.get("default_service_and_builds")) or objects(job.spec.get("service_and_builds"))
        refs: Mapping[tuple[str, str], Repos] = {}
        if job.spec.get("source") == "fromjob":
            entries, refs = made_by_another(job, _candidates(job.spec), scope, "build here")
        plans = [self._task(job, entry, refs.get(pair(entry), ()), registry, scope) for entry in entries]
        return with_job_lists(job.name, plans)

    def _task(self, job: Job, entry: Object, refs: Repos, registry: Resource | None, scope: Scope) -> JobTaskPlan:
        service, module = pair(entry)
        where = f"job {job.name} service {service}/{module}"
        base = _configuration(entry, scope)
        needs_docker = base.get("docker_build_step") or mapping(base.get("post_build")).get("docker_build")
        if needs_docker:
            scope.note(f"{where}: {DOCKER_REASON}")
        check_script_type(text(base.get("script_type")))
        settings = mapping(base.get("advanced_settings"))
        repos = repos_of(base, entry, refs, scope, where)
        plan: Object = {
            "service_name": service,
            "service_module": module,
            "envs": envs_of(base, entry, scope, where),
            "predefined": {"SERVICE": service, "SERVICE_NAME": service, "SERVICE_MODULE": module}
            | _registry_variables(registry),
            "steps": _steps(service, base, repos),
            "outputs": list(dict.fromkeys([_IMAGE, "imageTag", _PACKAGE, *output_names(settings.get("outputs"))])),
            "image": image(base.get("image_from"), base.get("image_id"), base.get("build_os"), scope, where),
            **({LACKS: DOCKER_REASON} if needs_docker else {}),
            "limits": limits("define", settings.get("resource_spec") or USUAL_RESOURCES),
            "naming": {
                "host": text(registry.document.get("address")) if registry else "",
                "namespace": text(registry.document.get("namespace")) if registry else "",
                "name": text(entry.get("image_name")) or _image_name(service, module, scope),
                "number": NUMBER,
                "project": scope.workflow.project,
                "rules": _project_rules(scope),
            },
        }
        plan = for_service(plan, service, module)
        plan["predefined"] |= _names(plan, scope.local_time)
        key = f"{job.name}.{service}.{module}"
        return JobTaskPlan(
            name=norm(service, module, job.name),
            key=key,
            display_name=f"{job.name}-{service}-{module}",
            timeout_s=timeout_s(settings.get("timeout"), USUAL_MIN),
            plan=plan,
            info={"job_name": job.name, "service_name": service, "service_module": module},
            variables=variables_of(key, plan),
            repos=git_paths(plan),
        )

    def renew(self, plan: Doc, local_time: str) -> Object:
        return {**plan, "predefined": {**plan["predefined"], **_names(plan, local_time)}}

    def conclude(self, plan: Doc, outputs: Mapping[str, str], passed: bool, collected: Collected) -> Conclusion:
        base = super().conclude(plan, outputs, passed, collected)
        made = {name: outputs[name] for name in (_IMAGE, _PACKAGE) if outputs.get(name)}
        if passed:
            made = {_IMAGE: plan["predefined"][_IMAGE], _PACKAGE: plan["predefined"][_PACKAGE], **made}
        if made.get(_IMAGE):
            made["imageTag"] = tag_of(made[_IMAGE])
        packages = [name for name in collected.names(ARCHIVE) if made.get(_PACKAGE) == name.rpartition("/")[2]]
        result = {**base.result, **({"package": packages[0]} if packages else {})}
        return Conclusion(result=result, outputs=made)

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> Object:
        shown = super().view(plan, outputs, result, final)
        planned = plan["predefined"]
        package = outputs.get(_PACKAGE) or planned[_PACKAGE] if _keeps_package(plan) else ""
        return {**shown, "image": outputs.get(_IMAGE) or planned[_IMAGE], "package": package}


def _candidates(spec: Doc) -> list[Object]:
    """What the job can build: the options list of the newer shape, else the list of the documents."""
    return objects(spec.get("service_and_builds_options")) or objects(spec.get("service_and_builds"))


def _configuration(entry: Doc, scope: Scope) -> Mapping[str, Any]:
    """Raises: NotStartable."""
    name = text(entry.get("build_name"))
    found = scope.catalogue.find("build", name)
    if found is None:
        raise NotStartable(f"find build: {name} error: not found in project {scope.workflow.project}")
    whole = configuration(scope.catalogue, found.document, *pair(entry))
    if whole is None:
        template = found.document.get("template_name")
        raise NotStartable(f"find build: {name} error: its template {template} is not there")
    return whole


def _steps(service: str, base: Doc, repos: list[Object]) -> list[Object]:
    post = mapping(base.get("post_build"))
    steps: list[Object] = [
        {"name": f"{service}-tool-install", "type": "tools", "spec": {"installs": objects(base.get("installs"))}},
        {"name": f"{service}-git", "type": "git", "spec": {"repos": repos}},
        {"name": f"{service}-shell", "type": "shell", "spec": {"script": text(base.get("build_script"))}},
    ]
    if location := text(mapping(post.get("file_archive")).get("file_location")):
        upload = [{"file_path": f"{location.rstrip('/')}/${_PACKAGE}", "dest_path": "", "is_file_archive": True}]
        steps.append({"name": f"{service}-pkgfile-archive", "type": "archive", "spec": {"upload_detail": upload}})
    storage = mapping(post.get("object_storage_upload") or base.get("object_storage_upload"))
    if storage.get("enabled"):
        spec = {"upload_detail": objects(storage.get("upload_detail"))}
        steps.append({"name": f"{service}-object-storage", "type": "archive", "spec": spec})
    steps.append({"name": f"{service}-post-shell", "type": "shell", "spec": {"script": text(post.get("scripts"))}})
    return [step for step in steps if has_work(step)]


def _keeps_package(plan: Doc) -> bool:
    return any(
        detail.get("is_file_archive")
        for step in objects(plan.get("steps"))
        for detail in objects(mapping(step.get("spec")).get("upload_detail"))
    )


# -- registries and names


def _registry(ident: str, scope: Scope) -> Resource | None:
    """The registry of that id; without an id the default one, None when there is no registry at all.

    Raises: NotStartable: unknown id."""
    if ident:
        found = scope.catalogue.by_id("registry", ident) or scope.catalogue.find("registry", ident)
        if found is None:
            raise NotStartable(f"failed to find docker registry: {ident}")
        return found
    registries = scope.catalogue.all("registry")
    return next((r for r in registries if r.document.get("is_default") is True), next(iter(registries), None))


def _registry_at(address: str, scope: Scope) -> Resource:
    """The registry a start request names by ``<address>/<namespace>``; scheme, slashes and the host's case aside."""
    wanted = _location(address)
    for resource in scope.catalogue.all("registry"):
        doc = resource.document
        if _location(f"{text(doc.get('address')).rstrip('/')}/{text(doc.get('namespace'))}") == wanted:
            return resource
    raise Invalid("didn't find the specified image registry")


def _location(address: str) -> str:
    host, slash, path = bare_host(address).partition("/")
    return (host.lower() + slash + path).strip("/")


def _registry_variables(registry: Resource | None) -> dict[str, str]:
    if registry is None:
        return {}
    doc = registry.document
    return {
        "DOCKER_REGISTRY_HOST": bare_host(text(doc.get("address"))),
        "DOCKER_REGISTRY_NAMESPACE": text(doc.get("namespace")),
        "DOCKER_REGISTRY_AK": text(doc.get("access_key")),
        "DOCKER_REGISTRY_SK": text(doc.get("secret_key")),
    }


def _image_name(service: str, module: str, scope: Scope) -> str:
    """Name of the module's image as its service says, else the module's own name."""
    found = scope.catalogue.find("service", service)
    containers = objects(found.document.get("containers")) if found else []
    names = (text(c.get("image_name")) for c in containers if c.get("name") == module)
    return next(filter(None, names), module)


def _project_rules(scope: Scope) -> Object:
    project = scope.catalogue.find("project", scope.workflow.project)
    return {key: dict(mapping(project.document.get(key))) for key in _RULES} if project else {}


def _names(plan: Doc, local_time: str) -> dict[str, str]:
    """IMAGE and PKG_FILE of a build at *local_time* (``YYYYMMDDhhmmss``)."""
    naming = plan["naming"]
    repo = primary_repo(repos_of_plan(plan))
    tag = image_tag(local_time, naming["number"], repo)
    names = {
        _IMAGE: image_name(naming["host"], naming["namespace"], naming["name"], tag),
        _PACKAGE: package_name(naming["name"], tag),
    }
    for key, variable in _RULES.items():
        rule = _rule(mapping(mapping(naming.get("rules")).get(key)), repo)
        if not rule:
            continue
        made = custom_rule(rule, _facts(plan, repo, local_time))
        name, _, own_tag = made.partition(":")
        if variable == _IMAGE:
            names[_IMAGE] = image_name(naming["host"], naming["namespace"], name, _fitting(own_tag) or tag)
        else:
            names[_PACKAGE] = f"{made.replace(':', '-')}.tar.gz"
    return names


def _fitting(tag: str) -> str:
    """*tag* as long as one may be, without half of the placeholder of the number."""
    cut = tag[:TAG_LIMIT]
    mark = NUMBER[0]
    return cut.rpartition(mark)[0] if cut.count(mark) % 2 else cut


def _rule(rules: Doc, repo: Doc | None) -> str:
    if repo is None:
        return ""
    if repo.get("tag"):
        return text(rules.get("tag_rule"))
    if repo.get("branch"):
        return text(rules.get("pr_and_branch_rule" if pull_requests(repo) else "branch_rule"))
    return text(rules.get("pr_rule")) if pull_requests(repo) else ""


def _facts(plan: Doc, repo: Doc | None, local_time: str) -> dict[str, str]:
    repo = repo or {}
    return {
        "SERVICE": plan["service_name"],
        "IMAGE_NAME": plan["naming"]["name"],
        "TIMESTAMP": local_time,
        "TASK_ID": plan["naming"]["number"],
        "REPO_COMMIT_ID": text(repo.get("commit_id"))[:8],
        "PROJECT": plan["naming"]["project"],
        "ENV_NAME": "",
        "REPO_TAG": _NOT_IN_TAG.sub("-", text(repo.get("tag"))),
        "REPO_BRANCH": _NOT_IN_TAG.sub("-", text(repo.get("branch"))),
        "REPO_PR": "-".join(map(str, pull_requests(repo))),
    }


BUILD: Final = Build()
