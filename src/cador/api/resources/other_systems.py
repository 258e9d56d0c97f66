"""Routes that project management systems have besides those of ``kinds``: what TAPD holds, and changes in part."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from cador.api.catalogue import Operation
from cador.api.described import Described
from cador.api.permissions import SYSTEM_ADMIN, by_operation
from cador.api.resources.kinds import list_of, said
from cador.api.routing import Call, Routes
from cador.domain.errors import NotFound
from cador.operations import other_systems, resources
from cador.operations.models.project_management import ProjectManagementChange
from cador.ports.probes import NotReached

ROUTES: Final = Routes("system")
MANAGEMENT: Final = "/openapi/system/projectmanagement"
MANAGEMENT_TOO: Final = "/api/aslan/system/project_management"
TAPD: Final = "/api/aslan/system/tapd/{id}/projects"
_WRITERS: Final = by_operation(*other_systems.WRITES)
_FAULTS: Final = {NotFound: Operation.GET_PROJECT_MANAGEMENT, NotReached: said}


class TapdProject(Described):
    """As TAPD tells it; empty what it does not."""

    id: str
    name: str
    status: str
    category: str
    parent_id: str
    begin_date: str
    end_date: str
    creator: str
    created: str


class TapdIteration(Described):
    """As TAPD tells it; empty what it does not. ``id`` is what jobs name in ``iteration_ids``."""

    id: str
    name: str
    workspace_id: str
    description: str
    startdate: str
    enddate: str
    status: str
    creator: str
    created: str
    modified: str
    completed: str


def _as(model: type[BaseModel], found: Mapping[str, Any]) -> dict[str, str]:
    return {key: "" if found.get(key) is None else str(found[key]) for key in model.model_fields}


@ROUTES.add(
    "PATCH",
    f"{MANAGEMENT}/{{name}}",
    SYSTEM_ADMIN,
    also=(f"{MANAGEMENT_TOO}/{{name}}",),
    faults={NotFound: Operation.UPDATE_PROJECT_MANAGEMENT},
    body=ProjectManagementChange,
)
async def change(call: Call) -> None:
    """Change a project management system; what is absent stays, in `spec` too, secrets also when they are masked."""
    await resources.change_by_id(
        call.ctx, call.actor, other_systems.MANAGEMENT, call.path_value("name"), await call.object()
    )


@ROUTES.get(TAPD, _WRITERS, faults=_FAULTS, reply=list_of(TapdProject))
async def tapd_projects(call: Call) -> list[dict[str, str]]:
    """Projects of a TAPD integration's company, for who writes workflows."""
    found = await other_systems.tapd_projects(call.ctx, call.actor, call.path_value("id"))
    return [_as(TapdProject, one) for one in found]


@ROUTES.get(
    f"{TAPD}/{{projectID}}/iterations", _WRITERS, faults=_FAULTS, query=("status",), reply=list_of(TapdIteration)
)
async def tapd_iterations(call: Call) -> list[dict[str, str]]:
    """Iterations of a project in TAPD, newest first; ``status``: only those, as `open`."""
    ident, project = call.path_value("id"), call.path_value("projectID")
    found = await other_systems.tapd_iterations(call.ctx, call.actor, ident, project, call.value("status"))
    return [_as(TapdIteration, one) for one in found]
