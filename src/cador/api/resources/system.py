"""Routes of code hosts and image registries, which have replies of their own."""

from typing import Any, Final

from cador.api.catalogue import NO_DOCUMENTS, Operation
from cador.api.described import Described
from cador.api.errors import Refusal, bad_request
from cador.api.permissions import LOGGED_IN, SYSTEM_ADMIN, in_system
from cador.api.resources.kinds import list_of
from cador.api.routing import Call, Routes
from cador.domain.errors import AlreadyExists, NotFound
from cador.operations import other_systems, resources
from cador.operations.models.codehost import CodeHostBody
from cador.operations.models.registry import RegistryBody
from cador.ports.stores import Resource

ROUTES: Final = Routes("system")
CODE_HOST: Final = "/openapi/system/codehost"
REGISTRY: Final = "/openapi/system/registry"


def _no_documents(error: Exception) -> Refusal:
    return bad_request(NO_DOCUMENTS)


def _same_alias(error: Exception) -> Refusal:
    return bad_request("alias cannot have the same name")


_FAULTS: Final = {NotFound: _no_documents, AlreadyExists: _same_alias}


class CodeHost(Described):
    """Secrets are left out; ``alias`` is the older word for ``name``; ``ready``: always `2`."""

    id: int
    alias: str
    name: str
    type: str
    address: str
    application_id: str
    username: str
    auth_type: str
    known_hosts: str
    namespace: str
    enable_proxy: bool
    disable_ssl: bool
    projects: list[str]
    ready: str
    updated_at: int


class CodeHostBrief(Described):
    id: int
    alias: str
    type: str
    address: str


class Registry(Described):
    """``region``: of ECR. ``is_default``: what environments take that name none."""

    registry_id: str
    name: str
    address: str
    provider: str
    region: str
    namespace: str
    is_default: bool


# -- code hosts


def _code_host(host: Resource) -> dict[str, Any]:
    hidden = CodeHostBody.secrets
    shown = {key: value for key, value in host.document.items() if key not in hidden}
    return {"id": host.id, "alias": host.name, **shown, "ready": "2", "updated_at": int(host.update_at)}


@ROUTES.get(CODE_HOST, SYSTEM_ADMIN, reply=list_of(CodeHost))
async def list_code_hosts(call: Call) -> list[dict[str, Any]]:
    """All code hosts, without their secrets."""
    return [_code_host(host) for host in await resources.list_kind(call.ctx, "codehost")]


@ROUTES.get("/api/v1/codehosts", LOGGED_IN, reply=list_of(CodeHostBrief))
async def look_up_code_hosts(call: Call) -> list[dict[str, Any]]:
    """Ids and addresses of the code hosts that the caller's projects may use, for scripts that write definitions."""
    return [
        {"id": host.id, "alias": host.name, "type": host.document["type"], "address": host.document["address"]}
        for host in await other_systems.known_to(call.ctx, call.actor, "codehost")
    ]


@ROUTES.post(CODE_HOST, SYSTEM_ADMIN, faults=_FAULTS, body=CodeHostBody)
async def create_code_host(call: Call) -> None:
    """Add a code host."""
    await resources.create(call.ctx, call.actor, "codehost", "", _renamed(await call.object()))


@ROUTES.post(f"{CODE_HOST}/validate", SYSTEM_ADMIN, faults=_FAULTS, body=CodeHostBody)
async def validate_code_host(call: Call) -> None:
    """Check a code host's settings without storing them."""
    await resources.check(call.ctx, "codehost", "", _renamed(await call.object()))


@ROUTES.get(f"{CODE_HOST}/{{id}}", SYSTEM_ADMIN, faults=_FAULTS, reply=CodeHost)
async def code_host(call: Call) -> dict[str, Any]:
    """One code host, without its secrets."""
    return _code_host(await resources.find_by_id(call.ctx, "codehost", call.path_value("id")))


@ROUTES.put(f"{CODE_HOST}/{{id}}", SYSTEM_ADMIN, faults=_FAULTS, body=CodeHostBody)
async def change_code_host(call: Call) -> None:
    """Replace a code host; secrets that are absent or ``********`` stay."""
    body = _renamed(await call.object())
    await resources.replace_by_id(call.ctx, call.actor, "codehost", call.path_value("id"), body)


@ROUTES.delete(f"{CODE_HOST}/{{id}}", SYSTEM_ADMIN, faults=_FAULTS)
async def delete_code_host(call: Call) -> None:
    """Delete a code host that nothing uses."""
    await resources.delete_by_id(call.ctx, call.actor, "codehost", call.path_value("id"))


def _renamed(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "name": body["alias"]} if "alias" in body and "name" not in body else body


# -- registries


def _registry(registry: Resource) -> dict[str, Any]:
    keys = ("address", "provider", "region", "namespace", "is_default")
    return {"registry_id": registry.uid, "name": registry.name, **{key: registry.document[key] for key in keys}}


@ROUTES.get(REGISTRY, LOGGED_IN, reply=list_of(Registry))
async def list_registries(call: Call) -> list[dict[str, Any]]:
    """All image registries, without credentials."""
    return [_registry(registry) for registry in await resources.list_kind(call.ctx, "registry")]


@ROUTES.post(REGISTRY, in_system("create_registry_management"), body=RegistryBody)
async def create_registry(call: Call) -> None:
    """Add an image registry; the first becomes the default."""
    await resources.create(call.ctx, call.actor, "registry", "", await call.object())


@ROUTES.get(
    f"{REGISTRY}/{{id}}",
    in_system("get_registry_management"),
    faults={NotFound: Operation.FIND_REGISTRY},
    reply=Registry,
)
async def registry(call: Call) -> dict[str, Any]:
    """One image registry, without credentials."""
    return _registry(await resources.find_by_id(call.ctx, "registry", call.path_value("id")))


@ROUTES.put(
    f"{REGISTRY}/{{id}}",
    in_system("edit_registry_management"),
    faults={NotFound: Operation.FIND_REGISTRY},
    body=RegistryBody,
)
async def change_registry(call: Call) -> None:
    """Change an image registry; what is absent stays."""
    body = await call.object()
    await resources.replace_by_id(call.ctx, call.actor, "registry", call.path_value("id"), body)


@ROUTES.delete(
    f"{REGISTRY}/{{id}}", in_system("delete_registry_management"), faults={NotFound: Operation.FIND_REGISTRY}
)
async def delete_registry(call: Call) -> None:
    """Delete an image registry that nothing uses."""
    await resources.delete_by_id(call.ctx, call.actor, "registry", call.path_value("id"))
