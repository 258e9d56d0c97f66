"""Routes of projects. Source: API documents, "Projects"."""

from typing import Any, Final

from cador.api.catalogue import Operation
from cador.api.described import Described
from cador.api.errors import bad_request
from cador.api.params import PROJECT
from cador.api.permissions import LOGGED_IN, SYSTEM_ADMIN, in_query, in_system
from cador.api.routing import Call, Routes
from cador.domain.errors import AlreadyExists, Conflict, NotFound
from cador.operations import project_start, projects
from cador.operations.models.body import read_body
from cador.operations.models.project import GlobalVariables, ProjectBody, ProjectChange, ProjectInit

ROUTES: Final = Routes("projects")
PATH: Final = "/openapi/projects/project"


@ROUTES.post(
    PATH,
    in_system("create_project"),
    faults=dict.fromkeys((AlreadyExists, Conflict), Operation.CREATE_PROJECT),
    body=ProjectBody,
)
async def create(call: Call) -> None:
    """Create a project; who creates it becomes its administrator."""
    await projects.create(call.ctx, call.actor, await call.object())


@ROUTES.post(
    f"{PATH}/init/yaml",
    SYSTEM_ADMIN,
    faults=dict.fromkeys((AlreadyExists, Conflict), Operation.CREATE_PROJECT),
    body=ProjectInit,
)
async def create_whole(call: Call) -> None:
    """Create a project with its first services and environments: all of it, or nothing."""
    await project_start.create(call.ctx, call.actor, await call.object())


@ROUTES.get(
    f"{PATH}/globalVariable",
    in_query("get_project"),
    faults={NotFound: Operation.GET_PROJECT},
    query=("projectKey!",),
    reply=GlobalVariables,
)
async def variables(call: Call) -> dict[str, Any]:
    """The variables that all environments of a project share."""
    document = (await projects.find(call.ctx, call.need(PROJECT))).document
    return {key: document.get(key, []) for key in ("variables", "production_variables")}


@ROUTES.put(
    f"{PATH}/globalVariable",
    in_query("admin_project"),
    faults={NotFound: Operation.UPDATE_PROJECT},
    query=("projectKey!",),
    body=GlobalVariables,
)
async def change_variables(call: Call) -> None:
    """Replace the variables that all environments of a project share; what is absent stays."""
    asked = read_body(GlobalVariables, await call.object()).model_dump(exclude_none=True)
    await projects.change(call.ctx, call.actor, call.need(PROJECT), asked)


class ProjectLine(Described):
    project_name: str
    project_key: str
    description: str
    deploy_type: str


class ProjectList(Described):
    total: int
    projects: list[ProjectLine]


class ProjectShown(Described):
    """``weight``: only where it was given."""

    project_name: str
    project_key: str
    is_public: bool
    desc: str
    deploy_type: str
    create_time: int
    created_by: str
    weight: float | None = None


@ROUTES.get(PATH, LOGGED_IN, query=("pageNum", "pageSize"), reply=ProjectList)
async def list_projects(call: Call) -> dict[str, Any]:
    """The projects the caller may see."""
    page, size = call.page()
    found, total = await projects.list_projects(call.ctx, call.actor, page, size)
    return {
        "total": total,
        "projects": [
            {
                "project_name": project.document["project_name"],
                "project_key": project.name,
                "description": project.document["description"],
                "deploy_type": project.document["deploy_type"],
            }
            for project in found
        ],
    }


@ROUTES.get(
    f"{PATH}/detail",
    in_query("get_project"),
    faults={NotFound: Operation.GET_PROJECT},
    query=("projectKey!",),
    reply=ProjectShown,
)
async def detail(call: Call) -> dict[str, Any]:
    """One project."""
    project = await projects.find(call.ctx, call.need(PROJECT))
    return {
        "project_name": project.document["project_name"],
        "project_key": project.name,
        "is_public": project.document["is_public"],
        "desc": project.document["description"],
        "deploy_type": project.document["deploy_type"],
        "create_time": int(project.create_at),
        "created_by": project.created_by,
        # Not of the documents: shown where it was given.
        **({"weight": project.document["weight"]} if "weight" in project.document else {}),
    }


@ROUTES.put(
    PATH,
    in_query("admin_project"),
    faults={NotFound: Operation.UPDATE_PROJECT},
    query=("projectKey!",),
    body=ProjectChange,
)
async def change(call: Call) -> None:
    """Change name, description or visibility of a project."""
    await projects.change(call.ctx, call.actor, call.need(PROJECT), await call.object())


@ROUTES.delete(
    PATH,
    in_query("admin_project"),
    faults={NotFound: Operation.DELETE_PROJECT, Conflict: Operation.DELETE_PROJECT},
    query=("projectKey!", "isDelete!"),
)
async def delete(call: Call) -> None:
    """Delete a project with all that belongs to it; running tasks are cancelled."""
    if call.flag("isDelete") is None:
        raise bad_request("isDelete is required")
    await projects.delete(call.ctx, call.actor, call.need(PROJECT))
