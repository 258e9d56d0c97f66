"""Routes of the operation log and of what command lines ask first. Source: API documents, "System configuration"."""

from typing import Any, Final

import msgspec

from cador import __version__
from cador.api.catalogue import Operation
from cador.api.described import Described
from cador.api.params import DEFAULT_SIZE, LARGEST_SIZE, PROJECT
from cador.api.permissions import LOGGED_IN, in_system
from cador.api.routing import Call, Routes
from cador.domain.errors import Invalid
from cador.operations import operation_log
from cador.operations.audit import GET_LOG

ROUTES: Final = Routes("system")
_METHODS: Final = {"create": "新增", "add": "新增", "delete": "删除", "remove": "删除"}
_METHODS_EN: Final = {"新增": "create", "删除": "delete", "更新": "update"}


class OperationEntry(Described):
    """``function``: the action; ``request_body``: JSON of what was stored, secrets masked; ``status``: 200."""

    username: str
    project_key: str
    method: str
    function: str
    scene: str
    targets: list[str]
    detail: str
    request_body: str
    body_type: str
    status: int
    created_at: int


class OperationLog(Described):
    """``total``: counted up to 10,000."""

    operation_logs: list[OperationEntry]
    total: int


class CliUser(Described):
    uid: str
    name: str
    account: str
    email: str
    admin: bool


class CliContext(Described):
    user: CliUser
    edition: str
    license_status: str
    features: list[str]
    server_version: str
    request_id: str


@ROUTES.get(
    "/openapi/system/operation",
    in_system(GET_LOG),
    faults={Invalid: Operation.LIST_OPERATIONS},
    query=("searchType", "projectKey", "username", "function", "status:int", "perPage:int", "page:int"),
    reply=OperationLog,
)
async def list_operations(call: Call) -> dict[str, Any]:
    """Who did what, newest first; filters are exact."""
    size = call.number("perPage") or DEFAULT_SIZE
    found = await operation_log.list_operations(
        call.ctx,
        call.actor,
        page=max(call.number("page") or 1, 1),
        size=min(max(size, 1), LARGEST_SIZE),
        account=call.value("username"),
        project=call.text(PROJECT),
        action=call.value("function"),
        status=call.number("status"),
    )
    return {"operation_logs": [_entry(entry, call.language) for entry in found.entries], "total": found.total}


def _entry(entry: Any, language: str) -> dict[str, Any]:
    verb, _, noun = entry["action"].partition("_")
    method = _METHODS.get(verb, "更新")
    document = entry["detail"].get("document", entry["detail"])
    return {
        "username": entry["actor"],
        "project_key": entry["project"],
        "method": _METHODS_EN[method] if language == "en" else method,
        "function": entry["action"],
        "scene": noun,
        "targets": [entry["target"]] if entry["target"] else [],
        "detail": entry["target"],
        "request_body": msgspec.json.encode(document).decode() if document else "",
        "body_type": "json",
        "status": operation_log.DONE,
        "created_at": int(entry["at"]),
    }


@ROUTES.get("/openapi/system/cli/context", LOGGED_IN, reply=CliContext)
async def cli_context(call: Call) -> dict[str, Any]:
    """Who the caller is and what this server is, for command lines."""
    actor = call.actor
    return {
        "user": {
            "uid": actor.uid,
            "name": actor.name,
            "account": actor.account,
            "email": actor.email,
            "admin": actor.admin,
        },
        "edition": "cador",
        "license_status": "normal",
        "features": sorted(call.ctx.types),
        "server_version": __version__,
        "request_id": call.request_id,
    }
