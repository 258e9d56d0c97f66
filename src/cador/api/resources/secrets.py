"""Routes of the secrets that declarative files name: ``valueFrom: {secret: <name>, key: <key>}``."""

from datetime import UTC, datetime
from typing import Any, Final

from cador.api.described import Described
from cador.api.params import PROJECT
from cador.api.permissions import by_operation
from cador.api.routing import Call, Routes
from cador.operations import keeping_secrets
from cador.operations.actor import SYSTEM
from cador.operations.models.stored_secret import SecretBody
from cador.ports.stores import Resource

ROUTES: Final = Routes("declarative")
PATH: Final = "/api/v1/secrets"
ONE: Final = f"{PATH}/{{name}}"
_MAY: Final = by_operation("admin_project")


class SecretShown(Described):
    """``data``: each value is ``********``."""

    name: str
    project_key: str
    description: str
    projects: list[str]
    data: dict[str, str]
    updated_by: str
    update_at: str


class SecretList(Described):
    items: list[SecretShown]


def _project(call: Call) -> str:
    """The project that is meant, empty: the system. Raises: Forbidden."""
    project = call.text(PROJECT)
    call.actor.need("admin_project" if project else SYSTEM, project)
    return project


def _shown(resource: Resource) -> dict[str, Any]:
    changed = datetime.fromtimestamp(resource.update_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        **resource.document,
        "project_key": resource.project,
        "updated_by": resource.updated_by,
        "update_at": changed,
    }


@ROUTES.get(PATH, _MAY, query=("projectKey",), reply=SecretList)
async def list_secrets(call: Call) -> dict[str, Any]:
    """Secrets of a project, or without one of the system; never their values."""
    return {"items": [_shown(one) for one in await keeping_secrets.list_secrets(call.ctx, _project(call))]}


@ROUTES.get(ONE, _MAY, query=("projectKey",), reply=SecretShown)
async def secret(call: Call) -> dict[str, Any]:
    """One secret; never its values."""
    return _shown(await keeping_secrets.find_secret(call.ctx, _project(call), call.path_value("name")))


@ROUTES.put(ONE, _MAY, query=("projectKey",), body=SecretBody, reply=SecretShown)
async def put_secret(call: Call) -> dict[str, Any]:
    """Add or replace a secret. A value ``********`` stays; what was applied with the old values gets the new ones."""
    project = _project(call)
    name, body = call.path_value("name"), await call.object()
    return _shown(await keeping_secrets.put_secret(call.ctx, call.actor, project, name, body))


@ROUTES.delete(ONE, _MAY, query=("projectKey",))
async def delete_secret(call: Call) -> None:
    """Delete a secret that nothing names."""
    await keeping_secrets.delete_secret(call.ctx, call.actor, _project(call), call.path_value("name"))
