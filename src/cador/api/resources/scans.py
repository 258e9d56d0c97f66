"""Routes of code scans. Source: API documents, "Scans"; changing, listing and deleting are ours."""

from typing import Any, Final

from pydantic import Field

from cador.api.catalogue import Operation
from cador.api.params import PROJECT, text_of
from cador.api.permissions import in_query, in_query_or_body
from cador.api.resources.kinds import shown_model
from cador.api.routing import Call, Routes
from cador.domain.errors import AlreadyExists, NotFound
from cador.operations import quality, resources
from cador.operations.models.body import Body
from cador.operations.models.scans import ScanBody
from cador.ports.stores import Resource

ROUTES: Final = Routes("scans")
NO_PROJECT: Final = "project key cannot be empty"
SCAN: Final = "/openapi/quality/codescan"


class ListedScan(Body):
    name: str = ""
    project_key: str = ""
    scanner_type: str = ""
    description: str = ""
    update_by: str = ""
    update_time: int = 0


class ScanList(Body):
    total: int = 0
    scans: list[ListedScan] = Field(default_factory=list)


async def _body(call: Call) -> tuple[str, dict[str, Any]]:
    """Project (the query wins over the body) and body."""
    body = await call.object()
    project = call.text(PROJECT) or text_of(PROJECT, {}, body)
    return project, {**body, "project_key": project}


@ROUTES.post(
    SCAN,
    in_query_or_body("create_scan", required=NO_PROJECT),
    faults={AlreadyExists: Operation.CREATE_SCAN, NotFound: Operation.CREATE_SCAN},
    query=("projectKey",),
    body=ScanBody,
)
async def create_scan(call: Call) -> None:
    """Create a code scan."""
    project, body = await _body(call)
    await resources.create(call.ctx, call.actor, "scan", project, body)


@ROUTES.put(
    SCAN,
    in_query_or_body("edit_scan", required=NO_PROJECT),
    faults={NotFound: Operation.UPDATE_SCAN},
    query=("projectKey",),
    body=ScanBody,
)
async def change_scan(call: Call) -> None:
    """Replace the code scan that the body names."""
    project, body = await _body(call)
    await resources.replace_named(call.ctx, call.actor, "scan", project, body)


@ROUTES.get(
    SCAN,
    in_query("get_scan", required=NO_PROJECT),
    query=("projectKey!", "pageNum", "pageSize"),
    reply=ScanList,
)
async def list_scans(call: Call) -> dict[str, Any]:
    """The code scans of a project."""
    found = await resources.list_kind(call.ctx, "scan", call.need(PROJECT))
    page, size = call.page()
    return {"total": len(found), "scans": [_listed(scan) for scan in found[(page - 1) * size : page * size]]}


def _listed(scan: Resource) -> dict[str, Any]:
    return {
        "name": scan.name,
        "project_key": scan.project,
        "scanner_type": scan.document["scanner_type"],
        "description": scan.document["description"],
        "update_by": scan.updated_by,
        "update_time": int(scan.update_at),
    }


@ROUTES.get(
    f"{SCAN}/{{name}}",
    in_query("get_scan", required=NO_PROJECT),
    faults={NotFound: Operation.BAD_REQUEST},
    query=("projectKey!",),
    reply=shown_model(ScanBody),
)
async def scan_detail(call: Call) -> dict[str, Any]:
    """One code scan."""
    scan = await resources.find(call.ctx, "scan", call.need(PROJECT), call.path_value("name"))
    return {
        "id": scan.uid,
        **resources.shown(scan),
        "update_by": scan.updated_by,
        "update_time": int(scan.update_at),
    }


@ROUTES.delete(
    f"{SCAN}/{{name}}",
    in_query("delete_scan", required=NO_PROJECT),
    faults={NotFound: Operation.BAD_REQUEST},
    query=("projectKey!",),
)
async def delete_scan(call: Call) -> None:
    """Delete a code scan that no workflow uses."""
    await quality.delete(call.ctx, call.actor, quality.SCAN, call.need(PROJECT), call.path_value("name"))
