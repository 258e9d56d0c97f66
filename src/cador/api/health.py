"""Is it alive, is it ready, and how is it doing: ``/healthz``, ``/readyz``, ``/metrics``. No token needed."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import PlainTextResponse, Response

from cador.api.metrics import Metrics
from cador.api.own_models import Readiness
from cador.api.permissions import NOBODY
from cador.api.routing import Call, Routes, json_response
from cador.domain.errors import CadorError
from cador.operations.context import Context
from cador.ports.stores import Tx

CHECK_S: Final = 2.0
"""Seconds a single check may take before it counts as failed."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the server needs, or (not *needed*) can do without for a while. ``ask`` returns None when all is well,
    else one line saying what is not."""

    name: str
    ask: Callable[[], Awaitable[str | None]]
    needed: bool = True


def database_check(ctx: Context) -> Check:
    """The database answers."""

    async def ask() -> str | None:
        await ctx.db.read(_ping)
        return None

    return Check("database", ask)


def routes(ctx: Context, metrics: Metrics, checks: Sequence[Check]) -> Routes:
    """The three routes, bound to what they look at."""
    group = Routes("health")

    @group.get("/healthz", NOBODY, reply_type="text/plain")
    async def alive(call: Call) -> Response:
        """The process is alive."""
        return PlainTextResponse("ok\n")

    @group.get("/readyz", NOBODY, reply=Readiness)
    async def ready(call: Call) -> Response:
        """Whether requests can be served now; 503 with the reasons if not."""
        answers = await asyncio.gather(*(_asked(check) for check in checks))
        found = dict(zip((check.name for check in checks), answers, strict=True))
        bad = [check.name for check in checks if check.needed and found[check.name]]
        body: dict[str, Any] = {"ready": not bad, "checks": {name: reason or "ok" for name, reason in found.items()}}
        return json_response(body, status=503 if bad else 200)

    @group.get("/metrics", NOBODY, reply_type="text/plain")
    async def figures(call: Call) -> Response:
        """Prometheus figures."""
        try:
            async with asyncio.timeout(CHECK_S):
                queue = await ctx.db.read(_queue_figures)
        except (CadorError, TimeoutError):
            queue = {}  # the others are worth having while the database is away
        return Response(metrics.text(queue), media_type=metrics.content_type)

    return group


async def _asked(check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_S):
            return await check.ask()
    except TimeoutError:
        return f"no answer within {CHECK_S:g} s"
    except (CadorError, OSError) as error:
        return str(error) or type(error).__name__


def _ping(tx: Tx) -> None:
    tx.meta.get("installation")


def _queue_figures(tx: Tx) -> Mapping[str, float]:
    return tx.tasks.queue_figures(tx.now)
