"""Routes of builds and tests. Source: API documents, "Builds", "Tests"; creating tests is ours."""

from typing import Any, Final

from cador.api.catalogue import Operation
from cador.api.errors import bad_request
from cador.api.params import PROJECT, text_of
from cador.api.permissions import in_query, in_query_or_body
from cador.api.routing import Call, Routes
from cador.domain.errors import AlreadyExists, Conflict, NotFound
from cador.operations import builds, quality, resources
from cador.operations.models.builds import BuildBody, TestBody
from cador.ports.stores import Resource

ROUTES: Final = Routes("builds and tests")
NO_PROJECT: Final = "project key cannot be empty"
BUILD: Final = "/openapi/build"
TEST: Final = "/openapi/quality/testing"


async def _body(call: Call) -> tuple[str, dict[str, Any]]:
    """Project (the query wins over the body) and body."""
    body = await call.object()
    project = call.text(PROJECT) or text_of(PROJECT, {}, body)
    return project, {**body, "project_key": project}


def _page(call: Call, found: list[Resource]) -> list[Resource]:
    page, size = call.page()
    return found[(page - 1) * size : page * size]


@ROUTES.post(
    BUILD,
    in_query_or_body("create_build", required=NO_PROJECT),
    faults={AlreadyExists: Operation.CREATE_BUILD, NotFound: Operation.CREATE_BUILD},
    query=("projectKey",),
    body=BuildBody,
)
async def create_build(call: Call) -> None:
    """Create a build."""
    project, body = await _body(call)
    if call.value("source") == "template":
        _need_template(body)
    await resources.create(call.ctx, call.actor, "build", project, body)


def _need_template(body: dict[str, Any]) -> None:
    if not body.get("template_name"):
        raise bad_request("template_name cannot be empty")


@ROUTES.put(
    f"{BUILD}/{{name}}/template",
    in_query_or_body("edit_build", required=NO_PROJECT),
    faults={NotFound: Operation.UPDATE_BUILD},
    query=("projectKey",),
    body=BuildBody,
)
async def change_template_build(call: Call) -> None:
    """Replace a build by one that is made from a template."""
    project, body = await _body(call)
    _need_template(body)
    name = call.path_value("name")
    if body.get("name") not in (None, "", name):
        raise bad_request("name cannot be changed")
    await resources.replace_named(call.ctx, call.actor, "build", project, {**body, "name": name})


@ROUTES.put(
    BUILD,
    in_query_or_body("edit_build", required=NO_PROJECT),
    faults={NotFound: Operation.UPDATE_BUILD},
    query=("projectKey",),
    body=BuildBody,
)
async def change_build(call: Call) -> None:
    """Replace the build that the body names."""
    project, body = await _body(call)
    await resources.replace_named(call.ctx, call.actor, "build", project, body)


@ROUTES.get(BUILD, in_query("get_build", required=NO_PROJECT), query=("projectKey!", "pageNum", "pageSize"))
async def list_builds(call: Call) -> dict[str, Any]:
    """The builds of a project."""
    project = call.need(PROJECT)
    found = await resources.list_kind(call.ctx, "build", project)
    return {
        "total": len(found),
        "builds": [
            {
                "name": build.name,
                "project_key": project,
                "source": "zadig",
                "update_by": build.updated_by,
                "update_time": int(build.update_at),
                "target_services": build.document["services"],
            }
            for build in _page(call, found)
        ],
    }


@ROUTES.get(
    f"{BUILD}/{{name}}/detail",
    in_query("get_build", required=NO_PROJECT),
    faults={NotFound: Operation.GET_BUILD},
    query=("projectKey!", "serviceName", "serviceModule"),
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
    BUILD,
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


@ROUTES.post(
    TEST,
    in_query_or_body("create_test", required=NO_PROJECT),
    faults={AlreadyExists: Operation.CREATE_TEST, NotFound: Operation.CREATE_TEST},
    query=("projectKey",),
    body=TestBody,
)
async def create_test(call: Call) -> None:
    """Create a test."""
    project, body = await _body(call)
    await resources.create(call.ctx, call.actor, "test", project, body)


@ROUTES.put(
    TEST,
    in_query_or_body("edit_test", required=NO_PROJECT),
    faults={NotFound: Operation.UPDATE_TEST},
    query=("projectKey",),
    body=TestBody,
)
async def change_test(call: Call) -> None:
    """Replace the test that the body names."""
    project, body = await _body(call)
    await resources.replace_named(call.ctx, call.actor, "test", project, body)


@ROUTES.get(TEST, in_query("get_test", required=NO_PROJECT), query=("projectKey!", "pageNum", "pageSize"))
async def list_tests(call: Call) -> dict[str, Any]:
    """The tests of a project."""
    project = call.need(PROJECT)
    found = await resources.list_kind(call.ctx, "test", project)
    return {
        "total": len(found),
        "testings": [
            {
                "name": test.name,
                "project_key": project,
                "description": test.document["description"],
                "update_by": test.updated_by,
                "update_time": int(test.update_at),
            }
            for test in _page(call, found)
        ],
    }


@ROUTES.get(
    f"{TEST}/{{name}}",
    in_query("get_test", required=NO_PROJECT),
    faults={NotFound: Operation.GET_TEST},
    query=("projectKey!",),
)
async def test_detail(call: Call) -> dict[str, Any]:
    """One test: its variables as the documents show them, and the whole configuration."""
    project = call.need(PROJECT)
    test = await resources.find(call.ctx, "test", project, call.path_value("name"))
    doc = resources.shown(test)
    return {
        **doc,
        "test_name": test.name,
        "update_by": test.updated_by,
        "update_time": int(test.update_at),
        "inputs": [
            {
                "key": parameter["key"],
                "value": parameter["default_value"],
                "type": parameter["type"],
                "choice_option": parameter["choice_option"],
                "required": False,
                "is_credential": parameter["is_credential"],
                "has_value": bool(parameter["default_value"]),
                "description": parameter["description"],
            }
            for parameter in doc["parameters"]
        ],
    }


@ROUTES.delete(
    f"{TEST}/{{name}}",
    in_query("delete_test", required=NO_PROJECT),
    faults={NotFound: Operation.DELETE_TEST, Conflict: Operation.DELETE_TEST},
    query=("projectKey!",),
)
async def delete_test(call: Call) -> None:
    """Delete a test that no workflow uses."""
    await quality.delete(call.ctx, call.actor, quality.TEST, call.need(PROJECT), call.path_value("name"))
