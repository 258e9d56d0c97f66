"""Kinds of the system that all are kept the same way: one set of routes for each, made from a line of ``SYSTEM_KINDS``.

``GET`` list, ``POST``, and ``GET``, ``PUT``, ``DELETE`` below ``/{name}``, where the name is that of the object or its
id; ``POST`` to ``/validate`` where it can be tried out, ``GET`` of ``/project`` for who writes workflows of a project.
Secrets are written only: shown as ``********``, and sent back like that (or left out) they stay.
"""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, create_model

from cador.api.catalogue import Operation
from cador.api.described import Described, DescribedRoot
from cador.api.errors import Refusal, bad_request
from cador.api.params import PROJECT
from cador.api.permissions import LOGGED_IN, SYSTEM_ADMIN, Permission, in_query, in_system
from cador.api.routing import Call, Routes
from cador.domain.errors import AlreadyExists, Conflict, NotFound
from cador.operations import other_systems, resources
from cador.operations.models.body import Body
from cador.ports.probes import NotReached
from cador.ports.stores import Resource

ROUTES: Final = Routes("system")


@dataclass(frozen=True, slots=True)
class SystemKind:
    """``title``: what one is called, with its article. The operations: what fails where the object is the reason;
    ``in_use``: where something names it that is to be deleted. ``read``: who may look, where not a role of the system
    says it. ``also``: a second path to the same routes, ``also_...``: further ones to single
    routes. ``noun``: of the actions that a role of the system may allow,
    ``create_<noun>`` and so on; empty: administrators only. ``brief``: fields that ``/project`` shows to who writes
    workflows of a project; empty: there is no such route."""

    kind: str
    path: str
    title: str
    get: Operation = Operation.BAD_REQUEST
    create: Operation = Operation.BAD_REQUEST
    update: Operation = Operation.BAD_REQUEST
    delete: Operation = Operation.BAD_REQUEST
    in_use: Operation | None = None
    read: Permission | None = None
    also: str = ""
    also_lists: tuple[str, ...] = ()
    also_validate: str = ""
    noun: str = ""
    brief: tuple[str, ...] = ()

    def may(self, verb: str) -> Permission:
        return in_system(f"{verb}_{self.noun}") if self.noun else SYSTEM_ADMIN


def shown_model(model: type[Body], **extra: Any) -> type[Body]:
    """The reply of a kind: its body with what the server adds."""
    added = {
        "id": (str, ""),
        "update_by": (str, ""),
        "update_time": (int, 0),
        "created_at": (int, 0),
        "updated_at": (int, 0),
        **extra,
    }
    return create_model(f"{model.__name__.removesuffix('Body')}Shown", __base__=model, **added)


def list_of(model: type[BaseModel]) -> type[BaseModel]:
    """A reply that is a bare list."""
    return create_model(f"{model.__name__}List", __base__=DescribedRoot[list[model]])  # type: ignore[valid-type]


def shown(resource: Resource) -> dict[str, Any]:
    changed = int(resource.update_at)
    return {
        "id": resource.uid,
        **resources.shown(resource),
        "update_by": resource.updated_by,
        "update_time": changed,
        "created_at": int(resource.create_at),
        "updated_at": changed,
    }


def said(error: Exception) -> Refusal:
    """A refusal in the words of *error*."""
    return bad_request(str(error))


def register(routes: Routes, one: SystemKind) -> None:
    model = resources.KINDS[one.kind].model
    reply = shown_model(model)
    read = one.read or one.may("get")

    def paths(rest: str = "", *more: str) -> dict[str, Any]:
        return {"also": (*([one.also + rest] if one.also else ()), *filter(None, more))}

    @routes.get(
        one.path, read, summary=f"All objects: {one.title}.", reply=list_of(reply), **paths("", *one.also_lists)
    )
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

    if one.kind in other_systems.TRIALS:

        @routes.post(
            f"{one.path}/validate",
            one.may("create"),
            summary=f"Try out {one.title} without storing it; `********` is the secret stored for that address.",
            faults={NotReached: said},
            body=model,
            **paths("/validate", one.also_validate),
        )
        async def validate(call: Call) -> None:
            await other_systems.check(call.ctx, call.actor, one.kind, await call.object())

    if one.brief:
        fields = {"id": (str, ...), **{name: (model.model_fields[name].annotation, ...) for name in one.brief}}
        line = create_model(f"{model.__name__.removesuffix('Body')}Brief", __base__=Described, **fields)  # type: ignore[call-overload]

        @routes.get(
            f"{one.path}/project",
            in_query("get_workflow"),
            summary=f"What a project may use: {one.title}, for who writes its workflows.",
            query=("projectName!",),
            reply=list_of(line),
            **paths("/project"),
        )
        async def of_project(call: Call) -> list[dict[str, Any]]:
            found = await other_systems.usable_by(call.ctx, one.kind, call.text(PROJECT))
            return [{"id": each.uid, **{name: each.document[name] for name in one.brief}} for each in found]

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
        faults={NotFound: one.delete, Conflict: one.in_use or one.delete},
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
    SystemKind(
        "baseimage",
        "/openapi/system/baseimage",
        "a base image",
        Operation.GET_BASE_IMAGE,
        Operation.CREATE_BASE_IMAGE,
        Operation.UPDATE_BASE_IMAGE,
        Operation.DELETE_BASE_IMAGE,
        Operation.DELETE_USED_BASE_IMAGE,
        read=LOGGED_IN,
    ),
    SystemKind(
        "database",
        "/openapi/system/dbinstance",
        "a database",
        also="/api/aslan/system/dbinstance",
        also_lists=("/openapi/system/dbinstance/detail", "/api/aslan/system/dbinstance/detail"),
        noun="dbinstance_management",
        brief=("name", "type", "projects"),
    ),
    SystemKind(
        "projectmanagement",
        "/openapi/system/projectmanagement",
        "a project management system",
        Operation.GET_PROJECT_MANAGEMENT,
        Operation.CREATE_PROJECT_MANAGEMENT,
        Operation.UPDATE_PROJECT_MANAGEMENT,
        Operation.DELETE_PROJECT_MANAGEMENT,
        also="/api/aslan/system/project_management",
        brief=("system_identity", "type"),
    ),
    SystemKind("mail", "/openapi/system/mail", "a mail server"),
    SystemKind(
        "imapp",
        "/openapi/system/imapp",
        "an application of a messenger",
        Operation.GET_IM_APP,
        Operation.CREATE_IM_APP,
        Operation.UPDATE_IM_APP,
        Operation.DELETE_IM_APP,
        also="/api/aslan/system/im_app",
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
    SystemKind(
        "sonar",
        "/openapi/system/sonar",
        "a SonarQube server",
        also="/api/aslan/system/sonar/integration",
        also_validate="/api/aslan/system/sonar/validate",
    ),
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
        brief=("name", "endpoint", "bucket", "is_default", "projects"),
    ),
    SystemKind("setting", "/openapi/system/setting", "a setting"),
    SystemKind(
        "plugin",
        "/api/v1/plugins",
        "a plugin",
        also_lists=("/api/aslan/workflow/plugin/template",),
        read=LOGGED_IN,
    ),
    SystemKind(
        "dockerfiletemplate",
        "/api/v1/templates/dockerfile",
        "a template of a Dockerfile",
        *_TEMPLATE,
        read=LOGGED_IN,
        noun="template",
    ),
    SystemKind(
        "buildtemplate", "/api/v1/templates/build", "a template of builds", *_TEMPLATE, read=LOGGED_IN, noun="template"
    ),
    SystemKind(
        "servicetemplate",
        "/api/v1/templates/service",
        "a template of services",
        *_TEMPLATE,
        read=LOGGED_IN,
        noun="template",
    ),
)

for _one in SYSTEM_KINDS:
    register(ROUTES, _one)
