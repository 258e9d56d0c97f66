"""Routes of builds. Source: API documents, "Builds"."""

from collections.abc import Mapping
from typing import Any, Final

from cador.api.catalogue import Operation
from cador.api.described import Described
from cador.api.errors import bad_request
from cador.api.params import PROJECT
from cador.api.permissions import in_query, in_query_or_body
from cador.api.resources.scripts import NO_PROJECT, Line, Script, body_of, register
from cador.api.routing import Call, Routes
from cador.domain.errors import Conflict, NotFound
from cador.operations import builds, resources
from cador.operations.models.body import AdvancedSettings, Entry, ParameterBody
from cador.operations.models.builds import BuildBody, DockerBuild, PostBuild, TargetBody
from cador.ports.stores import Resource

ROUTES: Final = Routes("builds and tests")
PATH: Final = "/openapi/build"


class BuildLine(Line):
    source: str
    target_services: list[TargetBody]


class BuildRepository(Described):
    """``source``: the type of the code host."""

    source: str
    codehost_name: str
    repo_owner: str
    repo_namespace: str
    repo_name: str
    branch: str
    remote_name: str
    checkout_path: str
    submodules: bool
    hidden: bool


class BuildEnvironment(Described):
    basic_image_id: str
    basic_image_label: str
    installs: list[Entry]


class BuildOutput(Described):
    name: str


class PostBuildShown(PostBuild):
    docker_build: DockerBuild | None = None


class BuildDetail(Described):
    """``template_name``: the build template that everything but repositories and values is of; empty: none."""

    project_key: str
    name: str
    source: str
    target_services: list[TargetBody]
    template_name: str
    update_by: str
    update_time: int
    repos: list[BuildRepository]
    build_env: BuildEnvironment
    advanced_settings: AdvancedSettings
    build_script: str
    parameters: list[ParameterBody]
    outputs: list[BuildOutput]
    post_build: PostBuildShown


def _need_template(body: Mapping[str, Any]) -> None:
    if not body.get("template_name"):
        raise bad_request("template_name cannot be empty")


def _check(call: Call, body: Mapping[str, Any]) -> None:
    if call.value("source") == "template":
        _need_template(body)


def _own(build: Resource) -> dict[str, Any]:
    return {"source": "zadig", "target_services": build.document["services"]}


register(
    ROUTES,
    Script("build", PATH, "a build", "builds", BuildLine, _own, Operation.CREATE_BUILD, Operation.UPDATE_BUILD, _check),
)


@ROUTES.put(
    f"{PATH}/{{name}}/template",
    in_query_or_body("edit_build", required=NO_PROJECT),
    faults={NotFound: Operation.UPDATE_BUILD},
    query=("projectKey",),
    body=BuildBody,
)
async def change_template_build(call: Call) -> None:
    """Replace a build by one that is made from a template."""
    project, body = await body_of(call)
    _need_template(body)
    name = call.path_value("name")
    if body.get("name") not in (None, "", name):
        raise bad_request("name cannot be changed")
    await resources.replace_named(call.ctx, call.actor, "build", project, {**body, "name": name})


@ROUTES.get(
    f"{PATH}/{{name}}/detail",
    in_query("get_build", required=NO_PROJECT),
    faults={NotFound: Operation.GET_BUILD},
    query=("projectKey!", "serviceName", "serviceModule"),
    reply=BuildDetail,
)
async def build_detail(call: Call) -> dict[str, Any]:
    """One build; of one that is made from a template, what it is for the module of the query."""
    project = call.need(PROJECT)
    target = call.value("serviceName"), call.value("serviceModule")
    found = await builds.find(call.ctx, project, call.path_value("name"), *target)
    doc, image = found.document, found.image
    hosts = {host.name: host for host in await resources.list_kind(call.ctx, "codehost")}
    return {
        "project_key": project,
        "name": found.build.name,
        "source": "zadig",
        "target_services": [
            {key: target[key] for key in ("service_name", "service_module")}
            for target in found.build.document["services"]
        ],
        "template_name": found.build.document.get("template_name", ""),
        "update_by": found.build.updated_by,
        "update_time": int(found.build.update_at),
        "repos": [_repository(repo, hosts.get(repo["codehost_name"])) for repo in doc["repo_info"]],
        "build_env": {
            "basic_image_id": image.uid if image else "",
            "basic_image_label": doc["build_os"],
            "installs": doc["installs"],
        },
        "advanced_settings": doc["advanced_settings"],
        "build_script": doc["build_script"],
        "parameters": doc["parameters"],
        "outputs": [{"name": name} for name in doc["advanced_settings"]["outputs"]],
        "post_build": {
            **doc.get("post_build", {}),
            **({"docker_build": doc["docker_build_step"]} if "docker_build_step" in doc else {}),
        },
    }


def _repository(repo: dict[str, Any], host: Resource | None) -> dict[str, Any]:
    return {
        "source": host.document["type"] if host else "",
        "codehost_name": repo["codehost_name"],
        "repo_owner": repo["repo_namespace"],
        "repo_namespace": repo["repo_namespace"],
        **{key: repo[key] for key in ("repo_name", "branch", "remote_name", "checkout_path", "submodules", "hidden")},
    }


@ROUTES.delete(
    PATH,
    in_query("delete_build", required=NO_PROJECT),
    faults={NotFound: Operation.DELETE_BUILD, Conflict: Operation.DELETE_BUILD},
    query=("name!", "projectKey!"),
)
async def delete_build(call: Call) -> None:
    """Delete a build that no workflow uses."""
    name = call.value("name")
    if not name:
        raise bad_request("build name cannot be empty")
    await resources.delete(call.ctx, call.actor, "build", call.need(PROJECT), name)
