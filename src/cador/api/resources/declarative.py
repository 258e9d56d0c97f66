"""Routes of the declarative form: apply and export."""

import asyncio
import functools
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from starlette.responses import Response

from cador.api.catalogue import NO_DOCUMENTS
from cador.api.described import Described, DescribedRoot
from cador.api.errors import Refusal, bad_request
from cador.api.params import PROJECT
from cador.api.permissions import NOBODY, by_operation
from cador.api.routing import Call, Routes
from cador.domain.errors import NotFound
from cador.operations.apply import DEFAULT_SET, Order, apply, read_text
from cador.operations.declarative.schema import schema
from cador.operations.exporting import export

ROUTES: Final = Routes("declarative")
_READERS: Final = ThreadPoolExecutor(2, thread_name_prefix="reader")
"""A large text takes seconds and some 200 MB to read: no more than two at once, whoever sends how many."""
YAML_TYPE: Final = "application/yaml; charset=utf-8"


def _no_documents(error: Exception) -> Refusal:
    return bad_request(NO_DOCUMENTS)


class Declaration(DescribedRoot[dict[str, Any]]):
    """A document of ``cador.yaml``; the YAML form may hold several."""


class Applied(Described):
    """``action``: created, updated, unchanged, deleted, kept (``error`` says what uses it, so it was not pruned) or
    error. ``diff``: where asked for."""

    kind: str
    name: str
    project: str
    action: str
    error: str
    diff: Any = None


class ApplyReply(Described):
    results: list[Applied]
    warnings: list[str]


@ROUTES.post(
    "/openapi/apply",
    by_operation("admin_project"),
    query=("dryRun:bool", "prune:bool", "delete:bool", "diff:bool", "set"),
    body=Declaration,
    body_types=("application/yaml", "application/json"),
    reply=ApplyReply,
)
async def apply_documents(call: Call) -> dict[str, Any]:
    """Make the server say what the YAML or JSON documents of the body say: all of them, or none."""
    try:
        text = (await call.body()).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad_request(f"the body is not UTF-8 at byte {error.start}") from None
    if not text.strip():
        raise bad_request("request body is required")
    order = Order(
        dry_run=call.flag("dryRun") or False,
        prune=call.flag("prune") or False,
        delete=call.flag("delete") or False,
        set_name=call.value("set") or DEFAULT_SET,
        with_diff=call.flag("diff") or False,
    )
    prepared = await asyncio.get_running_loop().run_in_executor(_READERS, read_text, text)
    done = await apply(call.ctx, call.actor, prepared, order, sessions=call.sessions)
    return {
        "results": [
            {
                "kind": result.kind,
                "name": result.name,
                "project": result.project,
                "action": result.action,
                "error": result.error,
                **({"diff": result.diff} if order.with_diff else {}),
            }
            for result in done.results
        ],
        "warnings": list(done.warnings),
    }


@ROUTES.get("/api/v1/schema/cador.yaml.json", NOBODY, reply={"type": "object"}, reply_type="application/schema+json")
async def editor_schema(call: Call) -> Response:
    """JSON Schema of ``cador.yaml``, for editors: they ask without a token, and it tells nothing of this server."""
    return Response(_schema(), media_type="application/schema+json", headers={"Cache-Control": "max-age=3600"})


@functools.cache
def _schema() -> bytes:
    return json.dumps(schema()).encode()


@ROUTES.get(
    "/openapi/export",
    by_operation("get_project"),
    query=("projectKey", "withIds:bool"),
    faults={NotFound: _no_documents},
    reply_type="application/yaml",
)
async def export_documents(call: Call) -> Response:
    """A project (or without one the system) as YAML that can be applied again; secrets are ``${NAME}``."""
    text = await export(call.ctx, call.actor, call.text(PROJECT), with_ids=call.flag("withIds") or False)
    return Response(text.encode(), media_type=YAML_TYPE)
