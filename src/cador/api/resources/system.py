"""Routes of the system's own configuration: code hosts, registries, base images."""

from typing import Any, Final

from cador.api.catalogue import NO_DOCUMENTS, Operation
from cador.api.errors import Refusal, bad_request
from cador.api.permissions import LOGGED_IN, SYSTEM_ADMIN, in_system
from cador.api.routing import Call, Routes
from cador.domain.errors import AlreadyExists, Conflict, NotFound
from cador.operations import resources
from cador.operations.models.codehost import CodeHostBody
from cador.operations.models.registry import RegistryBody
from cador.operations.models.system import BaseImageBody
from cador.ports.stores import Resource

ROUTES: Final = Routes("system")
CODE_HOST: Final = "/openapi/system/codehost"
REGISTRY: Final = "/openapi/system/registry"
BASE_IMAGE: Final = "/openapi/system/baseimage"


def _no_documents(error: Exception) -> Refusal:
    return bad_request(NO_DOCUMENTS)


def _same_alias(error: Exception) -> Refusal:
    return bad_request("alias cannot have the same name")


_FAULTS: Final = {NotFound: _no_documents, AlreadyExists: _same_alias}


# -- code hosts


def _code_host(host: Resource) -> dict[str, Any]:
    """Secrets are left out; ``alias`` is the older word for ``name``."""
    hidden = CodeHostBody.secrets
    shown = {key: value for key, value in host.document.items() if key not in hidden}
    return {"id": host.id, "alias": host.name, **shown, "ready": "2", "updated_at": int(host.update_at)}


@ROUTES.get(CODE_HOST, SYSTEM_ADMIN)
async def list_code_hosts(call: Call) -> list[dict[str, Any]]:
    """All code hosts, without their secrets."""
    return [_code_host(host) for host in await resources.list_kind(call.ctx, "codehost")]


@ROUTES.get("/api/v1/codehosts", LOGGED_IN)
async def look_up_code_hosts(call: Call) -> list[dict[str, Any]]:
    """Ids and addresses of the code hosts, for scripts that write definitions."""
    return [
        {"id": host.id, "alias": host.name, "type": host.document["type"], "address": host.document["address"]}
        for host in await resources.list_kind(call.ctx, "codehost")
    ]


@ROUTES.post(CODE_HOST, SYSTEM_ADMIN, faults=_FAULTS, body=CodeHostBody)
async def create_code_host(call: Call) -> None:
    """Add a code host."""
    await resources.create(call.ctx, call.actor, "codehost", "", _renamed(await call.object()))


@ROUTES.post(f"{CODE_HOST}/validate", SYSTEM_ADMIN, faults=_FAULTS, body=CodeHostBody)
async def validate_code_host(call: Call) -> None:
    """Check a code host's settings without storing them."""
    await resources.check(call.ctx, "codehost", "", _renamed(await call.object()))


@ROUTES.get(f"{CODE_HOST}/{{id}}", SYSTEM_ADMIN, faults=_FAULTS)
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


@ROUTES.get(REGISTRY, LOGGED_IN)
async def list_registries(call: Call) -> list[dict[str, Any]]:
    """All image registries, without credentials."""
    return [_registry(registry) for registry in await resources.list_kind(call.ctx, "registry")]


@ROUTES.post(REGISTRY, in_system("create_registry_management"), body=RegistryBody)
async def create_registry(call: Call) -> None:
    """Add an image registry; the first becomes the default."""
    await resources.create(call.ctx, call.actor, "registry", "", await call.object())


@ROUTES.get(f"{REGISTRY}/{{id}}", in_system("get_registry_management"), faults={NotFound: Operation.FIND_REGISTRY})
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


# -- base images


def _base_image(image: Resource) -> dict[str, Any]:
    return {"id": image.uid, **image.document}


@ROUTES.get(BASE_IMAGE, LOGGED_IN)
async def list_base_images(call: Call) -> list[dict[str, Any]]:
    """The images jobs can run in."""
    return [_base_image(image) for image in await resources.list_kind(call.ctx, "baseimage")]


@ROUTES.post(BASE_IMAGE, SYSTEM_ADMIN, faults={AlreadyExists: Operation.CREATE_BASE_IMAGE}, body=BaseImageBody)
async def create_base_image(call: Call) -> None:
    """Add a base image."""
    await resources.create(call.ctx, call.actor, "baseimage", "", await call.object())


@ROUTES.get(f"{BASE_IMAGE}/{{name}}", SYSTEM_ADMIN, faults={NotFound: Operation.GET_BASE_IMAGE})
async def base_image(call: Call) -> dict[str, Any]:
    """One base image, by label or id."""
    return _base_image(await resources.find_by_id(call.ctx, "baseimage", call.path_value("name")))


@ROUTES.put(f"{BASE_IMAGE}/{{name}}", SYSTEM_ADMIN, faults={NotFound: Operation.UPDATE_BASE_IMAGE}, body=BaseImageBody)
async def change_base_image(call: Call) -> None:
    """Replace a base image."""
    await resources.replace_by_id(call.ctx, call.actor, "baseimage", call.path_value("name"), await call.object())


@ROUTES.delete(
    f"{BASE_IMAGE}/{{name}}",
    SYSTEM_ADMIN,
    faults={NotFound: Operation.DELETE_BASE_IMAGE, Conflict: Operation.DELETE_USED_BASE_IMAGE},
)
async def delete_base_image(call: Call) -> None:
    """Delete a base image that nothing uses."""
    await resources.delete_by_id(call.ctx, call.actor, "baseimage", call.path_value("name"))
