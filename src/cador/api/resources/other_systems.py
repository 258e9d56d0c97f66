"""Routes of databases, and what project management systems have besides those of ``kinds``."""

from typing import Any, Final

from cador.api import params
from cador.api.catalogue import NO_DOCUMENTS, Operation
from cador.api.errors import Refusal, bad_request
from cador.api.permissions import SYSTEM_ADMIN, in_query, in_system
from cador.api.resources.kinds import SystemKind, list_of, register, shown_model
from cador.api.routing import Call, Routes
from cador.domain.errors import AlreadyExists, NotFound
from cador.operations import other_systems, resources
from cador.operations.models.databases import DatabaseBody
from cador.operations.models.project_management import ProjectManagementBody
from cador.ports.probes import NotReached
from cador.ports.stores import Resource

ROUTES: Final = Routes("system")
DATABASE: Final = "/openapi/system/dbinstance"
DATABASE_TOO: Final = "/api/aslan/system/dbinstance"
MANAGEMENT: Final = "/openapi/system/projectmanagement"
MANAGEMENT_TOO: Final = "/api/aslan/system/project_management"


def _no_documents(error: Exception) -> Refusal:
    return bad_request(NO_DOCUMENTS)


def _said(error: Exception) -> Refusal:
    return bad_request(str(error))


_MISSING: Final = {NotFound: _no_documents}
_SHOWN: Final = shown_model(DatabaseBody, created_at=(int, 0), updated_at=(int, 0))
_BRIEF: Final = {"id": "6458f1d2c3b4a59687706152", "name": "mysql", "type": "mysql", "projects": ["demo"]}


def _database(found: Resource) -> dict[str, Any]:
    return {
        "id": found.uid,
        **resources.shown(found),
        "update_by": found.updated_by,
        "update_time": int(found.update_at),
        "created_at": int(found.create_at),
        "updated_at": int(found.update_at),
    }


def _brief(found: Resource) -> dict[str, Any]:
    return {"id": found.uid, **{key: found.document[key] for key in ("name", "type", "projects")}}


@ROUTES.get(
    f"{DATABASE}/detail",
    in_system("get_dbinstance_management"),
    also=(f"{DATABASE_TOO}/detail",),
    reply=list_of(_SHOWN),
)
async def databases_in_detail(call: Call) -> list[dict[str, Any]]:
    """All databases with where they are; passwords are shown as `********`."""
    return [_database(found) for found in await resources.list_kind(call.ctx, "database")]


@ROUTES.get(DATABASE, in_system("get_dbinstance_management"), also=(DATABASE_TOO,), reply=list_of(_SHOWN))
async def databases(call: Call) -> list[dict[str, Any]]:
    """All databases; passwords are shown as `********`."""
    return [_database(found) for found in await resources.list_kind(call.ctx, "database")]


@ROUTES.get(
    f"{DATABASE}/project",
    in_query("get_workflow"),
    also=(f"{DATABASE_TOO}/project",),
    query=("projectName",),
    example=[_BRIEF],
)
async def databases_of_project(call: Call) -> list[dict[str, Any]]:
    """The databases that a project may use: ids, names and types, for who writes its workflows."""
    found = await other_systems.databases_of(call.ctx, call.text(params.PROJECT))
    return [_brief(database) for database in found]


@ROUTES.post(
    f"{DATABASE}/validate",
    in_system("create_dbinstance_management"),
    also=(f"{DATABASE_TOO}/validate",),
    faults={NotReached: _said},
    body=DatabaseBody,
)
async def validate_database(call: Call) -> None:
    """Connect to a database without storing it; `********` is the password stored under its name for that address."""
    await other_systems.check_database(call.ctx, call.actor, await call.object())


@ROUTES.post(
    DATABASE,
    in_system("create_dbinstance_management"),
    also=(DATABASE_TOO,),
    faults={AlreadyExists: _said},
    body=DatabaseBody,
)
async def create_database(call: Call) -> None:
    """Add a database that `sql` jobs may use."""
    await resources.create(call.ctx, call.actor, "database", "", await call.object())


_ONE: Final = {"also": (f"{DATABASE_TOO}/{{id}}",), "faults": _MISSING}


@ROUTES.get(f"{DATABASE}/{{id}}", in_system("get_dbinstance_management"), reply=_SHOWN, **_ONE)
async def database(call: Call) -> dict[str, Any]:
    """One database, by id or name; the password is shown as `********`."""
    return _database(await resources.find_by_id(call.ctx, "database", call.path_value("id")))


@ROUTES.put(f"{DATABASE}/{{id}}", in_system("edit_dbinstance_management"), body=DatabaseBody, **_ONE)
async def change_database(call: Call) -> None:
    """Replace a database; a password that is absent or `********` stays."""
    await resources.replace_by_id(call.ctx, call.actor, "database", call.path_value("id"), await call.object())


@ROUTES.delete(f"{DATABASE}/{{id}}", in_system("delete_dbinstance_management"), **_ONE)
async def delete_database(call: Call) -> None:
    """Delete a database that no workflow names."""
    await resources.delete_by_id(call.ctx, call.actor, "database", call.path_value("id"))


@ROUTES.post(
    f"{MANAGEMENT}/validate",
    SYSTEM_ADMIN,
    also=(f"{MANAGEMENT_TOO}/validate",),
    faults={NotReached: _said},
    body=ProjectManagementBody,
)
async def validate_project_management(call: Call) -> None:
    """Log in to a project management system without storing it; `********` is the secret stored for that address."""
    await other_systems.check_project_management(call.ctx, call.actor, await call.object())


register(
    ROUTES,
    SystemKind(
        "projectmanagement",
        MANAGEMENT,
        "a project management system",
        Operation.GET_PROJECT_MANAGEMENT,
        Operation.CREATE_PROJECT_MANAGEMENT,
        Operation.UPDATE_PROJECT_MANAGEMENT,
        Operation.DELETE_PROJECT_MANAGEMENT,
        also=MANAGEMENT_TOO,
    ),
)
