"""The report of a task: one page to keep, to send, and to open without a server."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from starlette.responses import Response

from cador.api.own import TASK, named_task
from cador.api.permissions import by_operation
from cador.api.routing import Call, Routes
from cador.operations.report import task_report

ROUTES: Final = Routes("server")

_GUARD: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""The page repeats what jobs wrote: a browser must not take it for a page of ours."""


@ROUTES.get(f"{TASK}/report", by_operation("get_workflow"), reply_type="text/html")
async def report(call: Call) -> Response:
    """Everything about one task as one HTML page of at most 5 MB that needs nothing else."""
    key, number = named_task(call)
    page = await task_report(call.ctx, call.actor, key, number)
    name = quote(f"{key}-{number}.html", safe="")
    headers = {**_GUARD, "Content-Disposition": f"inline; filename*=UTF-8''{name}"}
    return Response(page, headers=headers, media_type="text/html")
