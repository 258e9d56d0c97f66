"""What builds, tests and code scans have alike: routes to add, replace and list them, made from a line for each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import create_model

from cador.api.catalogue import Operation
from cador.api.described import Described
from cador.api.params import PROJECT, text_of
from cador.api.permissions import in_query, in_query_or_body
from cador.api.routing import Call, Routes
from cador.domain.errors import AlreadyExists, NotFound
from cador.operations import resources
from cador.ports.stores import Resource

NO_PROJECT: Final = "project key cannot be empty"


class Line(Described):
    """What a list says of each."""

    name: str
    project_key: str
    update_by: str
    update_time: int


@dataclass(frozen=True, slots=True)
class Script:
    """``title``: what one is called, with its article. ``listed``: key of the list in a page; ``line``: what it says
    of each, ``own`` gives what lines of all kinds do not have. ``create``, ``update``: what fails where the object is
    the reason. ``check``: looks at a body that is to be added; raises ``Refusal``."""

    kind: str
    path: str
    title: str
    listed: str
    line: type[Line]
    own: Callable[[Resource], dict[str, Any]]
    create: Operation
    update: Operation
    check: Callable[[Call, Mapping[str, Any]], None] = lambda call, body: None


async def body_of(call: Call) -> tuple[str, dict[str, Any]]:
    """Project (the query wins over the body) and body."""
    body = await call.object()
    project = call.text(PROJECT) or text_of(PROJECT, {}, body)
    return project, {**body, "project_key": project}


def register(routes: Routes, one: Script) -> None:
    model = resources.KINDS[one.kind].model
    fields: dict[str, Any] = {"total": (int, ...), one.listed: (list[one.line], ...)}  # type: ignore[name-defined]
    page_model = create_model(f"{one.line.__name__}s", __base__=Described, **fields)

    @routes.post(
        one.path,
        in_query_or_body(f"create_{one.kind}", required=NO_PROJECT),
        summary=f"Create {one.title}.",
        faults=dict.fromkeys((AlreadyExists, NotFound), one.create),
        query=("projectKey",),
        body=model,
    )
    async def create(call: Call) -> None:
        project, body = await body_of(call)
        one.check(call, body)
        await resources.create(call.ctx, call.actor, one.kind, project, body)

    @routes.put(
        one.path,
        in_query_or_body(f"edit_{one.kind}", required=NO_PROJECT),
        summary=f"Replace {one.title}, which the body names.",
        faults={NotFound: one.update},
        query=("projectKey",),
        body=model,
    )
    async def change(call: Call) -> None:
        project, body = await body_of(call)
        await resources.replace_named(call.ctx, call.actor, one.kind, project, body)

    @routes.get(
        one.path,
        in_query(f"get_{one.kind}", required=NO_PROJECT),
        summary=f"All of a project, by name: {one.title}.",
        query=("projectKey!", "pageNum", "pageSize"),
        reply=page_model,
    )
    async def listed(call: Call) -> dict[str, Any]:
        project = call.need(PROJECT)
        found = await resources.list_kind(call.ctx, one.kind, project)
        page, size = call.page()
        lines = [
            {
                "name": resource.name,
                "project_key": project,
                **one.own(resource),
                "update_by": resource.updated_by,
                "update_time": int(resource.update_at),
            }
            for resource in found[(page - 1) * size : page * size]
        ]
        return {"total": len(found), one.listed: lines}
