"""Kinds of the system that all are kept the same way: one set of routes for each, made from a line of ``SYSTEM_KINDS``.

``GET`` list, ``POST``, and ``GET``, ``PUT``, ``DELETE`` below ``/{name}``, where the name is that of the object or its
id. Secrets are written only: shown as ``********``, and sent back like that (or left out) they stay.
"""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, RootModel, create_model

from cador.api.catalogue import Operation
from cador.api.permissions import LOGGED_IN, SYSTEM_ADMIN, Permission, in_system
from cador.api.routing import Call, Routes
from cador.domain.errors import AlreadyExists, Conflict, NotFound
from cador.operations import resources
from cador.operations.models.body import Body
from cador.ports.stores import Resource

ROUTES: Final = Routes("system")


@dataclass(frozen=True, slots=True)
class SystemKind:
    """``title``: what one is called, with its article. The operations: what fails where the object is the reason.
    ``read``: who may look, where not a role of
    the system says it."""

    kind: str
    path: str
    title: str
    get: Operation = Operation.BAD_REQUEST
    create: Operation = Operation.BAD_REQUEST
    update: Operation = Operation.BAD_REQUEST
    delete: Operation = Operation.BAD_REQUEST
    read: Permission | None = None
    also: str = ""
    """A second path to the same routes."""
    noun: str = ""
    """Of the actions that a role of the system may allow: ``create_<noun>`` and so on. Empty: administrators only."""

    def may(self, verb: str) -> Permission:
        return in_system(f"{verb}_{self.noun}") if self.noun else SYSTEM_ADMIN


def shown_model(model: type[Body], **extra: Any) -> type[Body]:
    """The reply of a kind: its body with what the server adds."""
    added = {"id": (str, ""), "update_by": (str, ""), "update_time": (int, 0), **extra}
    return create_model(f"{model.__name__.removesuffix('Body')}Shown", __base__=model, **added)


def list_of(model: type[BaseModel]) -> type[BaseModel]:
    """A reply that is a bare list."""
    return create_model(f"{model.__name__}List", __base__=RootModel[list[model]])  # type: ignore[valid-type]


def shown(resource: Resource) -> dict[str, Any]:
    return {
        "id": resource.uid,
        **resources.shown(resource),
        "update_by": resource.updated_by,
        "update_time": int(resource.update_at),
    }


def register(routes: Routes, one: SystemKind) -> None:
    model = resources.KINDS[one.kind].model
    reply = shown_model(model)
    read = one.read or one.may("get")

    def paths(rest: str = "") -> dict[str, Any]:
        return {"also": (one.also + rest,)} if one.also else {}

    @routes.get(one.path, read, summary=f"All objects: {one.title}.", reply=list_of(reply), **paths())
    async def listed(call: Call) -> list[dict[str, Any]]:
        return [shown(found) for found in await resources.list_kind(call.ctx, one.kind)]

    @routes.post(
        one.path,
        one.may("create"),
        summary=f"Add {one.title}.",
        faults={AlreadyExists: one.create},
        body=model,
        **paths(),
    )
    async def create(call: Call) -> None:
        await resources.create(call.ctx, call.actor, one.kind, "", await call.object())

    path, further = f"{one.path}/{{name}}", paths("/{name}")

    @routes.get(path, read, summary=f"Look at {one.title}.", faults={NotFound: one.get}, reply=reply, **further)
    async def detail(call: Call) -> dict[str, Any]:
        return shown(await resources.find_by_id(call.ctx, one.kind, call.path_value("name")))

    @routes.put(
        path,
        one.may("edit"),
        summary=f"Replace {one.title}; secrets that are absent or `********` stay.",
        faults={NotFound: one.update},
        body=model,
        **further,
    )
    async def change(call: Call) -> None:
        await resources.replace_by_id(call.ctx, call.actor, one.kind, call.path_value("name"), await call.object())

    @routes.delete(
        path,
        one.may("delete"),
        summary=f"Delete {one.title} that nothing uses.",
        faults={NotFound: one.delete, Conflict: one.delete},
        **further,
    )
    async def delete(call: Call) -> None:
        await resources.delete_by_id(call.ctx, call.actor, one.kind, call.path_value("name"))


_TEMPLATE: Final = (
    Operation.GET_TEMPLATE,
    Operation.CREATE_TEMPLATE,
    Operation.UPDATE_TEMPLATE,
    Operation.DELETE_TEMPLATE,
)

SYSTEM_KINDS: Final = (
    SystemKind("mail", "/openapi/system/mail", "a mail server"),
    SystemKind(
        "imapp",
        "/openapi/system/imapp",
        "an application of a messenger",
        Operation.GET_IM_APP,
        Operation.CREATE_IM_APP,
        Operation.UPDATE_IM_APP,
        Operation.DELETE_IM_APP,
    ),
    SystemKind(
        "proxy",
        "/openapi/system/proxy",
        "the proxy",
        Operation.GET_PROXY,
        Operation.CREATE_PROXY,
        Operation.UPDATE_PROXY,
        Operation.DELETE_PROXY,
    ),
    SystemKind(
        "tool",
        "/openapi/system/tool",
        "a tool package",
        Operation.GET_TOOL,
        Operation.CREATE_TOOL,
        Operation.UPDATE_TOOL,
        Operation.DELETE_TOOL,
        read=LOGGED_IN,
    ),
    SystemKind("sonar", "/openapi/system/sonar", "a SonarQube server", also="/api/aslan/system/sonar/integration"),
    SystemKind(
        "storage",
        "/openapi/system/storage",
        "a record of an object storage",
        Operation.FIND_STORAGE,
        Operation.STORAGE,
        Operation.FIND_STORAGE,
        Operation.FIND_STORAGE,
        also="/api/aslan/system/s3storage",
        noun="s3storage_management",
    ),
    SystemKind("setting", "/openapi/system/setting", "a setting"),
    SystemKind(
        "dockerfiletemplate",
        "/api/v1/templates/dockerfile",
        "a template of a Dockerfile",
        *_TEMPLATE,
        LOGGED_IN,
        noun="template",
    ),
    SystemKind(
        "buildtemplate", "/api/v1/templates/build", "a template of builds", *_TEMPLATE, LOGGED_IN, noun="template"
    ),
    SystemKind(
        "servicetemplate", "/api/v1/templates/service", "a template of services", *_TEMPLATE, LOGGED_IN, noun="template"
    ),
)

for _one in SYSTEM_KINDS:
    register(ROUTES, _one)
