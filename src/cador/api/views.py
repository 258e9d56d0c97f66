"""Views of workflows. Source: API documents, workflow views."""

from typing import Any, Final

from cador.api.catalogue import NO_DOCUMENTS, Operation, Text
from cador.api.described import Described, DescribedRoot
from cador.api.errors import Refusal
from cador.api.params import PROJECT, text_of
from cador.api.permissions import in_body, in_query
from cador.api.routing import Call, Routes
from cador.domain import errors as domain
from cador.operations import views
from cador.operations.actions import ADMIN_PROJECT
from cador.operations.models.view import ViewChange, ViewMember

ROUTES: Final = Routes("views")

_PATH: Final = "/openapi/workflows/view"
_NO_VIEW: Final = Refusal(
    Operation.DELETE_VIEW,
    f"find workflow view error: {NO_DOCUMENTS}",
    message=Text(Operation.DELETE_VIEW.zh, f"delete workflow view error: {NO_DOCUMENTS}"),
)


class ShownMember(Described):
    workflow_key: str
    workflow_type: str


class ShownView(Described):
    name: str
    project_key: str
    workflows: list[ShownMember]
    update_time: int
    update_by: str


class ViewList(DescribedRoot[list[ShownView]]):
    pass


class NewView(Described):
    """All workflows that are listed are shown."""

    project_key: str
    name: str
    workflow_list: list[ViewMember]


@ROUTES.get(_PATH, in_query("get_workflow", shared=True), query=("projectKey!",), reply=ViewList)
async def list_views(call: Call) -> Any:
    """Views of a project, by name, descending: of those with a workflow that the caller may look at, with these."""
    project = call.need(PROJECT)
    return [
        {
            "name": view.resource.name,
            "project_key": project,
            "workflows": [{"workflow_key": row.key, "workflow_type": row.type} for row in view.workflows],
            "update_time": int(view.resource.update_at),
            "update_by": view.resource.updated_by,
        }
        for view in await views.list_views(call.ctx, call.actor, project)
    ]


@ROUTES.post(
    _PATH,
    in_body(ADMIN_PROJECT, required="projectKey cannot be empty"),
    faults={domain.AlreadyExists: Operation.CREATE_VIEW, domain.NotFound: Operation.CREATE_VIEW},
    body=NewView,
)
async def create_view(call: Call) -> None:
    """Create a view."""
    body = await call.object()
    await views.create_view(call.ctx, call.actor, text_of(PROJECT, call.query, body), body)


@ROUTES.put(
    f"{_PATH}/{{viewName}}",
    in_query(ADMIN_PROJECT),
    query=("projectKey!",),
    faults={views.NamedTwice: lambda error: Refusal(Operation.UPDATE_VIEW, str(error))},
    body=ViewChange,
)
async def change_view(call: Call) -> None:
    """Show and hide workflows in a view; those that are not listed stay as they are."""
    name, project = call.path_value("viewName"), call.need(PROJECT)
    try:
        await views.change_view(call.ctx, call.actor, project, name, await call.object())
    except domain.NotFound:
        raise Refusal(Operation.UPDATE_VIEW, f"failed to find workflow view {name} for project {project}") from None


@ROUTES.delete(
    f"{_PATH}/{{viewName}}",
    in_query(ADMIN_PROJECT),
    query=("projectKey!",),
    faults={domain.NotFound: lambda error: _NO_VIEW},
)
async def delete_view(call: Call) -> None:
    """Delete a view; its workflows stay."""
    await views.delete_view(call.ctx, call.actor, call.need(PROJECT), call.path_value("viewName"))
