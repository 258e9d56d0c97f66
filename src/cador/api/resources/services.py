"""Routes of YAML services, with twins for production ones. Source: API documents, "Services"."""

from typing import Any, Final

from cador.api.catalogue import Operation
from cador.api.described import Described
from cador.api.errors import bad_request
from cador.api.params import PROJECT
from cador.api.permissions import Permission, in_body, in_query, in_query_or_body
from cador.api.resources.kinds import list_of
from cador.api.resources.scripts import body_of
from cador.api.routing import Call, Routes
from cador.domain.errors import AlreadyExists, Forbidden, NotFound
from cador.operations import service_loading, services
from cador.operations.models.body import KV, read_body
from cador.operations.models.service import LoadBody, LoadFrom, ServiceBody, ServiceChange, VariableChange
from cador.operations.models.templates import LoadTemplate
from cador.operations.service_loading import CannotLoad

ROUTES: Final = Routes("services")


class Module(Described):
    """A container of one of the workloads. ``image_name``: of its image, without registry and tag."""

    name: str
    image: str
    image_name: str


class ServiceLine(Described):
    """``source``: `spock` (its own YAML), `repo` or `template`."""

    service_name: str
    source: str
    type: str
    containers: list[Module]


class ModuleShown(Module):
    """``type``: `init`, or empty."""

    type: str


class ServiceDetail(Described):
    service_name: str
    source: str
    type: str
    template_name: str
    auto_sync: bool
    created_by: str
    created_time: int
    revision: int
    yaml: str
    containers: list[ModuleShown]
    service_variable_kvs: list[KV]


_FAULTS: Final = {NotFound: Operation.GET_SERVICE, AlreadyExists: Operation.UPDATE_SERVICE}
_WRITE_FAULTS: Final = {NotFound: Operation.UPDATE_SERVICE, AlreadyExists: Operation.UPDATE_SERVICE}
_LOAD_FAULTS: Final = {NotFound: Operation.CREATE_TEMPLATE, AlreadyExists: Operation.CREATE_TEMPLATE}
_LOADER_FAULTS: Final = {NotFound: Operation.LOAD_SERVICE, CannotLoad: Operation.LOAD_SERVICE}
_TEMPLATE: Final = "/openapi/service/template"
_NO_PRODUCT: Final = "product name cannot be empty"
_QUERY: Final = ("projectKey!",)


def _allowed(verb: str, production: bool) -> Permission:
    return in_query(f"{verb}_{services.kind_of(production)}", required="projectKey cannot be empty")


def _register(base: str, *, production: bool) -> None:
    """The routes below *base*. Fixed paths come before those with a name."""

    @ROUTES.post(f"{base}/raw", _allowed("create", production), faults=_WRITE_FAULTS, query=_QUERY, body=ServiceBody)
    async def create(call: Call) -> None:
        """Create a service from its YAML."""
        await services.create(call.ctx, call.actor, call.need(PROJECT), await call.object(), production=production)

    @ROUTES.get(
        f"{base}/services", _allowed("get", production), faults=_FAULTS, query=_QUERY, reply=list_of(ServiceLine)
    )
    async def list_services(call: Call) -> list[dict[str, Any]]:
        """The services of a project with their modules."""
        found = await services.list_services(call.ctx, call.need(PROJECT), production=production)
        return [
            {
                "service_name": service.name,
                "source": service.document["source"],
                "type": service.document["type"],
                "containers": [
                    {key: container[key] for key in ("name", "image", "image_name")}
                    for container in service.document["containers"]
                ],
            }
            for service in found
        ]

    @ROUTES.put(
        f"{base}/{{name}}", _allowed("edit", production), faults=_WRITE_FAULTS, query=_QUERY, body=ServiceChange
    )
    async def change(call: Call) -> None:
        """Replace the YAML of a service: a new revision."""
        project, name = call.need(PROJECT), call.path_value("name")
        await services.change(call.ctx, call.actor, project, name, await call.object(), production=production)

    @ROUTES.put(
        f"{base}/{{name}}/variable",
        _allowed("edit", production),
        faults=_WRITE_FAULTS,
        query=_QUERY,
        body=VariableChange,
        also=("/openapi/service/production/{name}/variable",) if production else (),
    )
    async def change_variables(call: Call) -> None:
        """Replace the variables of a service: a new revision."""
        project, name = call.need(PROJECT), call.path_value("name")
        await services.change_variables(call.ctx, call.actor, project, name, await call.object(), production=production)

    @ROUTES.get(f"{base}/{{name}}", _allowed("get", production), faults=_FAULTS, query=_QUERY, reply=ServiceDetail)
    async def detail(call: Call) -> dict[str, Any]:
        """One service with its YAML, modules and variables."""
        service = await services.find(call.ctx, call.need(PROJECT), call.path_value("name"), production=production)
        return {
            "service_name": service.name,
            "source": service.document["source"],
            "type": service.document["type"],
            "template_name": service.document.get("template_name", ""),
            "auto_sync": service.document.get("auto_sync", False),
            "created_by": service.created_by,
            "created_time": int(service.create_at),
            "revision": service.revision,
            "yaml": service.document["yaml"],
            "containers": service.document["containers"],
            "service_variable_kvs": service.document["service_variable_kvs"],
        }

    @ROUTES.delete(f"{base}/{{name}}", _allowed("delete", production), faults=_WRITE_FAULTS, query=_QUERY)
    async def delete(call: Call) -> None:
        """Delete a service."""
        await services.delete(call.ctx, call.actor, call.need(PROJECT), call.path_value("name"), production=production)


@ROUTES.post(
    "/openapi/service/loader/load",
    in_body("create_service", "create_production_service", names=("product_name",), required=_NO_PRODUCT),
    faults=_LOADER_FAULTS,
    query=(
        "codehostName!",
        "repoName",
        "repoUUID",
        "branchName",
        "remoteName",
        "repoOwner!",
        "namespace",
        "production:bool",
    ),
    body=LoadBody,
)
async def load(call: Call) -> None:
    """Make services of manifests in a repository, or bring them up to date."""
    production = call.flag("production") or False
    body = await call.parsed(LoadBody)
    if not call.actor.may(f"create_{services.kind_of(production)}", body.product_name):
        raise Forbidden("create", project=body.product_name)
    values = {
        "codehost_name": _value(call, "codehostName", "codehostName cannot be empty"),
        "repo_name": call.value("repoName") or call.value("repoUUID"),
        "repo_owner": _value(call, "repoOwner", "repoOwner cannot be empty"),
        "repo_namespace": call.value("namespace"),
        "branch": call.value("branchName"),
    }
    if not values["repo_name"]:
        raise bad_request("repoName and repoUUID cannot be empty at the same time")
    if not values["branch"]:
        raise bad_request("branchName cannot be empty")
    where = read_body(LoadFrom, values)
    await service_loading.load(call.ctx, call.actor, where, await call.object(), production=production)


def _value(call: Call, name: str, required: str) -> str:
    value = call.value(name)
    if not value:
        raise bad_request(required)
    return value


def _register_template(path: str, *, production: bool) -> None:
    @ROUTES.post(
        path,
        in_query_or_body(f"create_{services.kind_of(production)}", required="project name cannot be empty"),
        summary=f"Make a {'production ' * production}service from a template.",
        faults=_LOAD_FAULTS,
        query=("projectKey",),
        body=LoadTemplate,
    )
    async def load_template(call: Call) -> None:
        if (await call.parsed(LoadTemplate)).production and not production:
            raise bad_request(f"production services are made at {_TEMPLATE}/production/load/yaml")
        project, body = await body_of(call)
        await services.load_template(call.ctx, call.actor, {**body, "project_key": project, "production": production})


_register("/openapi/service/yaml/production", production=True)
_register("/openapi/service/yaml", production=False)
_register_template(f"{_TEMPLATE}/production/load/yaml", production=True)
_register_template(f"{_TEMPLATE}/load/yaml", production=False)
