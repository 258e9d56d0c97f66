"""Routes of environments, with twins for production ones. Source: API documents, "Environments"."""

from typing import Any, Final

from cador.api.catalogue import Operation
from cador.api.described import Described
from cador.api.errors import bad_request
from cador.api.params import PROJECT, Name, text_of
from cador.api.permissions import Permission, in_query, in_query_or_body
from cador.api.resources.kinds import list_of
from cador.api.routing import Call, Routes
from cador.domain.errors import AlreadyExists, Conflict, NotFound
from cador.operations import environments
from cador.operations.environments import NotUsable, OutOfReach
from cador.operations.models.body import read_body
from cador.operations.models.environment import (
    AddServices,
    ContainerBody,
    EnvironmentBody,
    EnvironmentChange,
    GlobalVariable,
    HelmEnvironmentBody,
    ImageBody,
    RemoveServices,
    ScaleBody,
    ServiceList,
    ServiceVariable,
    VariablesBody,
)
from cador.ports.stores import Resource

ROUTES: Final = Routes("environments")
PATH: Final = "/openapi/environments"
_QUERY: Final = ("projectKey!",)
_NO_PROJECT: Final = "project key is required"
_GET: Final = {NotFound: Operation.GET_ENVIRONMENT}
_CREATE: Final = dict.fromkeys((NotFound, AlreadyExists, NotUsable), Operation.CREATE_ENVIRONMENT)
_UPDATE: Final = dict.fromkeys((NotFound, NotUsable, Conflict), Operation.UPDATE_ENVIRONMENT)
_PRODUCT: Final = ("product_name", *PROJECT.body)
"""Where images are changed, the project is called so."""


class ServiceInEnvironment(Described):
    service_name: str
    deploy_strategy: str
    containers: list[ContainerBody]
    variable_kvs: list[ServiceVariable]
    revision: int
    status: str
    error: str
    type: str


class EnvironmentLine(Described):
    """``status``: ``unknown`` with the reason as long as this server does not look into clusters."""

    env_key: str
    envName: str
    cluster_id: str
    namespace: str
    production: bool
    registry_id: str
    status: str
    status_reason: str
    update_by: str
    update_time: int


class EnvironmentDetail(Described):
    project_key: str
    env_key: str
    update_by: str
    update_time: int
    cluster_id: str
    namespace: str
    registry_id: str
    env_name: str
    production: bool
    global_variables: list[GlobalVariable]
    chart_values: list[dict[str, Any]]
    services: list[ServiceInEnvironment]
    status: str
    status_reason: str


class ServiceState(Described):
    service_name: str
    variables: list[ServiceVariable]
    images: list[str]
    containers: list[ContainerBody]
    revision: int
    status: str
    type: str
    error: str
    deploy_strategy: str


class EnvironmentState(Described):
    """What became of an environment when services were added."""

    env_name: str
    status: str
    err_message: str


def _line(environment: Resource, reason: str) -> dict[str, Any]:
    doc = environment.document
    return {
        "env_key": environment.name,
        "envName": doc["env_name"],
        "cluster_id": doc["cluster_id"],
        "namespace": doc["namespace"],
        "production": environments.is_production(environment.kind),
        "registry_id": doc["registry_id"],
        "status": environments.STATUS,
        "status_reason": reason,
        "update_by": environment.updated_by,
        "update_time": int(environment.update_at),
    }


def _service(entry: dict[str, Any], reason: str) -> dict[str, Any]:
    keys = ("service_name", "deploy_strategy", "containers", "variable_kvs", "revision", "type")
    return {**{key: entry[key] for key in keys}, "status": environments.STATUS, "error": reason}


def _register(base: str, *, production: bool) -> None:
    """The routes below *base*. Fixed paths come before those with a name."""
    kind = environments.kind_of(production)

    def query(verb: str) -> Permission:
        return in_query(f"{verb}_{kind}")

    def body(verb: str, names: tuple[str, ...] = ()) -> Permission:
        return in_query_or_body(f"{verb}_{kind}", required=_NO_PROJECT, names=names)

    change_services = "edit" if production else "manage"

    async def project_of(call: Call, names: tuple[str, ...] = PROJECT.body) -> str:
        """The query wins over the body."""
        return call.text(PROJECT) or text_of(Name((), names), {}, await call.object_or_none())

    @ROUTES.get(base, query("get"), faults=_GET, query=_QUERY, reply=list_of(EnvironmentLine))
    async def list_environments(call: Call) -> list[dict[str, Any]]:
        """The environments of a project."""
        found = await environments.list_environments(call.ctx, kind, call.need(PROJECT))
        reasons = await environments.reasons(call.ctx, found)
        return [_line(one, reasons[one.name]) for one in found]

    @ROUTES.post(base, body("create"), faults=_CREATE, query=("projectKey",), body=EnvironmentBody)
    async def create(call: Call) -> None:
        """Create an environment."""
        await environments.create(call.ctx, call.actor, kind, await project_of(call), await call.object())

    @ROUTES.post(f"{base}/helm", body("create"), faults=_CREATE, query=("projectKey",), body=HelmEnvironmentBody)
    async def create_for_charts(call: Call) -> None:
        """Create an environment of a project of charts."""
        asked = read_body(HelmEnvironmentBody, await call.object())
        if asked.production and not production:
            raise bad_request(f"production environments are created at {PATH}/production/helm")
        await environments.create(call.ctx, call.actor, kind, await project_of(call), asked.plain())

    @ROUTES.post(
        f"{base}/service/yaml",
        body(change_services),
        faults=_UPDATE,
        query=("projectKey",),
        body=AddServices,
        reply=list_of(EnvironmentState),
    )
    async def add_services(call: Call) -> list[dict[str, Any]]:
        """Put services into an environment."""
        project, asked = await project_of(call), await call.object()
        found = await environments.add_services(call.ctx, call.actor, kind, project, asked)
        return [{"env_name": found.name, "status": environments.STATUS, "err_message": ""}]

    @ROUTES.delete(
        f"{base}/service/yaml", body(change_services), faults=_UPDATE, query=("projectKey",), body=RemoveServices
    )
    async def remove_services(call: Call) -> None:
        """Take services out of an environment."""
        await environments.remove_services(call.ctx, call.actor, kind, await project_of(call), await call.object())

    @ROUTES.post(
        f"{base}/scale",
        body("scale"),
        faults={NotFound: Operation.SCALE_SERVICE, OutOfReach: Operation.SCALE_SERVICE},
        query=("projectKey",),
        body=ScaleBody,
    )
    async def scale(call: Call) -> None:
        """Change how many pods of a workload run."""
        project = await project_of(call)
        asked = read_body(ScaleBody, {**await call.object(), "project_key": project})
        wish = f"{asked.workload_type} {asked.workload_name} cannot be scaled"
        await environments.ask_cluster(call.ctx, kind, project, asked.env_key, asked.service_name, wish)

    for workload in ("deployment", "statefulset", "job", "cronjob"):
        _register_image(f"{base}/image/{workload}/{{env}}", workload, kind, body("config", _PRODUCT))

    @ROUTES.get(f"{base}/{{env}}", query("get"), faults=_GET, query=_QUERY, reply=EnvironmentDetail)
    async def detail(call: Call) -> dict[str, Any]:
        """One environment with its services."""
        project = call.need(PROJECT)
        found, reason = await environments.find(call.ctx, kind, project, call.path_value("env"))
        line = _line(found, reason)
        return {
            "project_key": project,
            **{key: value for key, value in line.items() if key != "envName"},
            "env_name": found.document["env_name"],
            "global_variables": found.document["global_variables"],
            "chart_values": [],
            "services": [_service(entry, reason) for entry in found.document["services"]],
        }

    @ROUTES.put(f"{base}/{{env}}", query("config"), faults=_UPDATE, query=_QUERY, body=EnvironmentChange)
    async def change(call: Call) -> None:
        """Give an environment another registry or display name; what is absent stays."""
        project, env = call.need(PROJECT), call.path_value("env")
        await environments.change(call.ctx, call.actor, kind, project, env, await call.object())

    @ROUTES.delete(
        f"{base}/{{env}}",
        query("delete"),
        faults=dict.fromkeys((NotFound, Conflict), Operation.DELETE_ENVIRONMENT),
        query=("projectKey!", "isDelete"),
    )
    async def delete(call: Call) -> None:
        """Delete an environment that no workflow deploys to."""
        call.flag("isDelete")
        await environments.delete(call.ctx, call.actor, kind, call.need(PROJECT), call.path_value("env"))

    @ROUTES.put(f"{base}/{{env}}/services", query(change_services), faults=_UPDATE, query=_QUERY, body=ServiceList)
    async def update_services(call: Call) -> None:
        """Bring services of an environment to their newest revision and give them new values."""
        project, env = call.need(PROJECT), call.path_value("env")
        await environments.update_services(call.ctx, call.actor, kind, project, env, await call.object())

    @ROUTES.get(
        f"{base}/{{env}}/services/{{service}}",
        query("get"),
        faults={NotFound: Operation.GET_SERVICE},
        query=_QUERY,
        reply=ServiceState,
    )
    async def service(call: Call) -> dict[str, Any]:
        """One service of an environment."""
        project, env, name = call.need(PROJECT), call.path_value("env"), call.path_value("service")
        found, reason = await environments.find_service(call.ctx, kind, project, env, name)
        entry = _service(dict(found), reason)
        variables = entry.pop("variable_kvs")
        return {**entry, "variables": variables, "images": [one["image"] for one in entry["containers"]]}

    @ROUTES.get(f"{base}/{{env}}/variable", query("get"), faults=_GET, query=_QUERY, reply=VariablesBody)
    async def variables(call: Call) -> dict[str, Any]:
        """The variables that services of an environment share."""
        found, _ = await environments.find(call.ctx, kind, call.need(PROJECT), call.path_value("env"))
        return {"global_variables": found.document["global_variables"]}

    @ROUTES.put(f"{base}/{{env}}/variable", query("config"), faults=_UPDATE, query=_QUERY, body=VariablesBody)
    async def set_variables(call: Call) -> None:
        """Replace the variables that services of an environment share."""
        project, env = call.need(PROJECT), call.path_value("env")
        await environments.set_variables(call.ctx, call.actor, kind, project, env, await call.object())

    @ROUTES.post(
        f"{base}/{{env}}/service/{{service}}/restart",
        query("restart"),
        faults=dict.fromkeys((NotFound, OutOfReach), Operation.RESTART_SERVICE),
        query=_QUERY,
    )
    async def restart(call: Call) -> None:
        """Start the workloads of a service again."""
        env, name = call.path_value("env"), call.path_value("service")
        wish = f"service {name} cannot be restarted"
        await environments.ask_cluster(call.ctx, kind, call.need(PROJECT), env, name, wish)

    @ROUTES.get(
        f"{base}/{{env}}/service/{{service}}/pods",
        query("get"),
        faults=dict.fromkeys((NotFound, OutOfReach), Operation.LIST_PODS),
        query=_QUERY,
    )
    async def pods(call: Call) -> None:
        """The pods of a service."""
        env, name = call.path_value("env"), call.path_value("service")
        wish = f"pods of service {name} cannot be listed"
        await environments.ask_cluster(call.ctx, kind, call.need(PROJECT), env, name, wish)

    @ROUTES.post(
        f"{base}/{{env}}/pod/{{pod}}/restart",
        query("restart"),
        faults=dict.fromkeys((NotFound, OutOfReach), Operation.DELETE_POD),
        query=_QUERY,
    )
    async def restart_pod(call: Call) -> None:
        """Start a pod again."""
        wish = f"pod {call.path_value('pod')} cannot be restarted"
        await environments.ask_cluster(call.ctx, kind, call.need(PROJECT), call.path_value("env"), None, wish)


def _register_image(path: str, workload: str, kind: str, permission: Permission) -> None:
    @ROUTES.post(
        path,
        permission,
        faults=dict.fromkeys((NotFound, OutOfReach), Operation.UPDATE_IMAGE),
        summary=f"Give a container of a {workload} another image.",
        query=("projectKey",),
        body=ImageBody,
    )
    async def change_image(call: Call) -> None:
        asked = read_body(ImageBody, await call.object())
        env = call.path_value("env")
        if asked.env_name not in ("", env):
            raise bad_request("conflicting values for env_name")
        project = call.text(PROJECT) or text_of(Name((), _PRODUCT), {}, await call.object())
        wish = f"the image of {workload} {asked.name} cannot be changed"
        await environments.ask_cluster(call.ctx, kind, project, env, asked.service_name, wish)


_register(f"{PATH}/production", production=True)
_register(PATH, production=False)
