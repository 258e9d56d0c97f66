"""The web application: routes put together, and the one layer of middleware around them.

Starlette's router holds the routes; everything a request meets on its way is :class:`Shell`.
"""

import re
import secrets
import time
import traceback
from collections.abc import Sequence
from typing import Final

import structlog
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Router
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cador.api import (
    audit,
    definitions,
    health,
    job_logs,
    legacy,
    live_settings,
    login,
    oidc,
    own,
    product,
    task_actions,
    task_history,
    task_report,
    tasks,
    tickets,
    views,
    why,
)
from cador.api.auth import GUARDED, authenticate, without_token
from cador.api.errors import Refusal, bad_request, internal, language_of, refusal_of
from cador.api.health import Check
from cador.api.metrics import Metrics
from cador.api.openapi import describe
from cador.api.permissions import Permission, Where
from cador.api.resources import ROUTES as RESOURCE_ROUTES
from cador.api.routing import CALL, DEFAULT_LIMITS, Call, Limits, Route, Routes, error_response, too_large
from cador.domain.errors import CadorError
from cador.operations.context import Context
from cador.operations.sessions import Sessions

ROUTES: Final[tuple[Routes, ...]] = (
    tasks.ROUTES,
    job_logs.ROUTES,
    definitions.ROUTES,
    views.ROUTES,
    tickets.ROUTES,
    own.ROUTES,
    login.ROUTES,
    task_actions.ROUTES,
    product.ROUTES,
    legacy.ROUTES,
    task_history.ROUTES,
    task_report.ROUTES,
    why.ROUTES,
    live_settings.ROUTES,
    oidc.ROUTES,
    audit.ROUTES,
    *RESOURCE_ROUTES,
)
"""In order of matching: what is asked most comes first."""

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_UNMATCHED: Final = "(none)"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
"""What figures are kept by: clients may invent others."""


class RouteWithoutPermission(RuntimeError):
    """A programming error: a route that says not who may use it."""


class ContradictingRoutes(RuntimeError):
    """A programming error: two handlers for one method and path."""


def create_app(
    ctx: Context,
    *,
    sessions: Sessions | None = None,
    metrics: Metrics | None = None,
    checks: Sequence[Check] = (),
    limits: Limits = DEFAULT_LIMITS,
    routes: Sequence[Routes] = ROUTES,
    pages: Sequence[BaseRoute] = (),
    access_log: bool = True,
) -> ASGIApp:
    """Build the application for an ASGI server.

    *sessions*, *metrics*: made here when not given (the engine's meter is the metrics object, so a server hands one
    in). *checks*: what ``/readyz`` asks. *pages*: routes of the web pages, which follow all others and need no token.

    Raises: RouteWithoutPermission, ContradictingRoutes: programming errors, found at start.
    """
    sessions = sessions or Sessions(ctx)
    metrics = metrics or Metrics()
    router = Router(redirect_slashes=False)
    registered = [route for group in (health.routes(ctx, metrics, checks), *routes) for route in group.routes]
    taken: set[tuple[str, str]] = set()
    for route in registered:
        _register(router, route, taken)
    describe(router, registered)
    router.routes.extend(pages)
    free = frozenset(path for route in registered if route.permission.where is Where.NOBODY for path in route.paths)
    return Shell(router, ctx, sessions, metrics, limits, free, access_log=access_log)


def _printable(path: str) -> str:
    """*path* as it may stand in a log that somebody reads at a terminal: orders to that become text."""
    return path if path.isprintable() else ascii(path)[1:-1]


def _register(router: Router, route: Route, taken: set[tuple[str, str]]) -> None:
    if not isinstance(route.permission, Permission):
        raise RouteWithoutPermission(f"{route.method} {route.paths[0]}")
    methods = [route.method, "HEAD"] if route.head else [route.method]
    for path in route.paths:
        shape = re.sub(r"\{[^}:]*", "{", path)
        if (route.method, shape) in taken:
            raise ContradictingRoutes(f"{route.method} {path}")
        taken.add((route.method, shape))
        router.add_route(path, route.__call__, methods=methods, include_in_schema=False)


class Shell:
    """Around every request: token, size limit, language, errors nobody expected, figures and the access log."""

    def __init__(
        self,
        router: Router,
        ctx: Context,
        sessions: Sessions,
        metrics: Metrics,
        limits: Limits,
        free: frozenset[str],
        *,
        access_log: bool,
    ) -> None:
        """*free*: paths that need no token, wherever they are."""
        self._router = router
        self._ctx, self._sessions, self._metrics, self._limits = ctx, sessions, metrics, limits
        self._free = free
        self._log = structlog.get_logger("cador.http")
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # the router then raises what it does not find, and leaves the answer to us
        if scope["type"] == "lifespan":
            await self._router(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:  # no web sockets here
            await send({"type": "websocket.close", "code": 1000})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        options = self._ctx.options()
        call = Call(self._ctx, self._sessions, scope, receive, self._limits, options.language)
        accept = call.headers.get("accept-language")
        if accept:
            call.language = language_of(accept, options.language)
        sent_id = call.headers.get("x-request-id", "")
        call.request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else secrets.token_hex(8)
        scope[CALL] = call
        added = ((b"x-request-id", call.request_id.encode()), (b"x-content-type-options", b"nosniff"))
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        try:
            refused = await self._enter(call)
            if refused is None:
                try:
                    await self._router(scope, receive, answer)
                except HTTPException as error:
                    refused = self._no_route(call, error)
            if refused is not None:
                await refused(scope, receive, answer)
        except Exception as error:  # the one broad one: whatever a request runs into ends here
            self._log.error(
                "request_failed",
                method=call.method,
                path=_printable(call.path),
                request_id=call.request_id,
                traceback="".join(traceback.format_exception(error)),  # as text: never the values of variables
            )
            if status:
                raise  # an answer begun cannot be taken back: the server breaks the connection off
            failed = error_response(internal("unexpected failure"), call.path, call.language)
            await failed(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - began
            method = call.method if call.method in _METHODS else "OTHER"
            self._metrics.request(method, call.template or _UNMATCHED, status, seconds)
            if self._access_log:
                self._log.info(
                    "http",
                    method=call.method,
                    path=_printable(call.path),
                    query=without_token(scope["query_string"].decode("latin-1")),
                    status=status,
                    ms=round(seconds * 1000, 2),
                    user=call.known.account if call.known else "",
                    request_id=call.request_id,
                )

    async def _enter(self, call: Call) -> Response | None:
        """What comes before routing. An answer: the request goes no further."""
        try:
            if call.path.startswith(GUARDED) and call.path not in self._free:
                await authenticate(call)
            if "\x00" in call.path or b"%00" in call.scope["query_string"]:
                raise bad_request("a NUL character in the address")
            length = call.headers.get("content-length", "")
            if length.isascii() and length.isdigit() and int(length) > self._limits.body_bytes:
                raise too_large(self._limits)
        except Refusal as refusal:
            return error_response(refusal, call.path, call.language)
        except CadorError as error:
            return error_response(refusal_of(error, {}), call.path, call.language)
        return None

    def _no_route(self, call: Call, error: HTTPException) -> Response:
        if error.status_code == 405:
            headers = {"Allow": ", ".join(sorted(self._methods(call.scope)))}
            return PlainTextResponse(f"Method not allowed: {call.method} {call.path}", 405, headers)
        if error.status_code == 404:
            return PlainTextResponse(f"Invalid path: {call.path}", 404)
        return PlainTextResponse(error.detail, error.status_code, dict(error.headers or {}))

    def _methods(self, scope: Scope) -> set[str]:
        """What can be asked at the address of a request. The router tells of the first route there alone."""
        here = [
            route
            for route in self._router.routes
            if isinstance(route, StarletteRoute) and route.matches(scope)[0] is not Match.NONE
        ]
        return {method for route in here for method in route.methods or ()}
