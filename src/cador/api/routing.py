"""Routes and calls: the one way a handler gets onto the server, and what it gets to see.

::

    BUILDS = Routes("builds")

    @BUILDS.get("/openapi/build", in_query("get_build"), faults={NotFound: Operation.GET_BUILD}, reply=BuildList)
    async def list_builds(call: Call) -> Any:
        project = call.need(PROJECT)
        return await builds.list_builds(call.ctx, call.actor, project)

The permission is a required argument; see :mod:`cador.api.permissions`. A handler returns a ``Response``, or anything
msgspec can encode as JSON; ``None`` is ``{"message":"success"}``. It raises domain errors, which ``faults`` turn into
codes (what is not named there has a default), or a :class:`Refusal`.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from cador.api import bodies, params
from cador.api.catalogue import Operation
from cador.api.errors import OWN_PREFIX, Faults, Refusal, bad_request, body_of, refusal_of
from cador.api.permissions import Permission, Where, allow
from cador.domain.errors import CadorError
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.sessions import Sessions

SUCCESS: Final = b'{"message":"success"}'
JSON_TYPE: Final = "application/json; charset=utf-8"
MOST_PARAMETERS: Final = 200
CALL: Final = "cador.call"
"""Where the call lives in an ASGI scope."""

_encode = msgspec.json.Encoder().encode
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Limits:
    """``body_bytes``: largest request body; ``body_s``: seconds a client may take to send it. Of live logs:
    ``keep_alive_s``: seconds of silence before a comment keeps proxies from closing; ``start_wait_s``: how long the
    documented stream waits for a job to start; ``recheck_s``: how often it is looked whether who follows still may."""

    body_bytes: int = 10 << 20
    body_s: float = 60.0
    keep_alive_s: float = 15.0
    start_wait_s: float = 300.0
    recheck_s: float = 30.0


DEFAULT_LIMITS: Final = Limits()


class Call:
    """One request: who asks, what was sent. Parsed on demand, each part once."""

    __slots__ = (
        "_actor",
        "_body",
        "_object",
        "_query",
        "ctx",
        "headers",
        "language",
        "limits",
        "method",
        "path",
        "path_values",
        "receive",
        "request_id",
        "scheme",
        "scope",
        "sessions",
        "template",
    )

    def __init__(
        self, ctx: Context, sessions: Sessions, scope: Scope, receive: Receive, limits: Limits, language: str
    ) -> None:
        self.ctx, self.sessions = ctx, sessions
        self.scope, self.receive, self.limits = scope, receive, limits
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            self.headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
        self.language = language
        self.request_id = ""
        self.template = ""
        self.scheme = ""
        """How the token came: ``bearer``, ``x-api-key``, ``query``; empty without one."""
        self.path_values: Mapping[str, str] = {}
        self._actor: Actor | None = None
        self._body: bytes | None = None
        self._object: dict[str, Any] | None = None
        self._query: dict[str, list[str]] | None = None

    # -- who

    @property
    def actor(self) -> Actor:
        if self._actor is None:
            raise RuntimeError(f"{self.template} serves callers without a token and asked for one")
        return self._actor

    @actor.setter
    def actor(self, actor: Actor) -> None:
        self._actor = actor

    @property
    def known(self) -> Actor | None:
        """The actor, or None on a route that needs no token."""
        return self._actor

    @property
    def address(self) -> str:
        """Of the client, as the connection says; empty when unknown."""
        client = self.scope.get("client")
        return client[0] if client else ""

    # -- what

    @property
    def query(self) -> dict[str, list[str]]:
        """Query parameters: all values by name. Raises: Refusal."""
        if self._query is None:
            self._query = {}
            try:
                pairs = parse_qsl(
                    self.scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=MOST_PARAMETERS
                )
            except ValueError:
                raise bad_request("too many query parameters") from None
            for name, value in pairs:
                self._query.setdefault(name, []).append(value)
        return self._query

    def value(self, name: str) -> str:
        """A query parameter that has one spelling; ``""`` when absent. Raises: Refusal: given twice, differently."""
        return params.text_of(params.Name((name,)), self.query)

    def text(self, name: params.Name) -> str:
        """A query parameter under any spelling, ``""`` when absent."""
        return params.text_of(name, self.query)

    def need(self, name: params.Name) -> str:
        """The same, required. Raises: Refusal: ``projectKey is required``."""
        value = params.text_of(name, self.query)
        if not value:
            raise bad_request(f"{name.canonical} is required")
        return value

    def flag(self, name: str) -> bool | None:
        """A boolean query parameter. Raises: Refusal."""
        return params.bool_of(params.Name((name,)), self.query)

    def number(self, name: str) -> int | None:
        """An integer query parameter. Raises: Refusal."""
        return params.int_of(params.Name((name,)), self.query)

    def page(self) -> tuple[int, int]:
        """Page number from 1, page size 1 to 1000."""
        return params.page_of(self.query)

    def path_value(self, name: str) -> str:
        """A path parameter, percent-decoded; ``""`` where the segment is empty."""
        return self.path_values.get(name, "")

    async def body(self) -> bytes:
        """The whole body. Raises: Refusal: too large (413), too slow or broken off (400)."""
        if self._body is None:
            parts: list[bytes] = []
            size = 0
            try:
                async with asyncio.timeout(self.limits.body_s):
                    while True:
                        message = await self.receive()
                        if message["type"] != "http.request":
                            raise bad_request("the request was broken off")
                        part = message.get("body", b"")
                        size += len(part)
                        if size > self.limits.body_bytes:
                            raise too_large(self.limits)
                        parts.append(part)
                        if not message.get("more_body", False):
                            break
            except TimeoutError:
                raise Refusal(
                    Operation.BAD_REQUEST, "the request body took too long", headers={"Connection": "close"}
                ) from None
            self._body = parts[0] if len(parts) == 1 else b"".join(parts)
        return self._body

    async def object(self) -> dict[str, Any]:
        """The body as a JSON object, parsed once: not to be changed. Raises: Refusal (400)."""
        if self._object is None:
            self._object = bodies.parse_object(await self.body())
        return self._object

    async def object_or_none(self) -> dict[str, Any] | None:
        """The body as a JSON object, None when there is none."""
        return await self.object() if (await self.body()).strip() else None

    async def parsed(self, model: type[Model]) -> Model:
        """The body as *model*. Raises: Refusal (400) that names every fault with its place."""
        return bodies.validate(model, await self.object())


def too_large(limits: Limits) -> Refusal:
    return Refusal(
        Operation.TOO_LARGE,
        f"request body is larger than {limits.body_bytes} bytes",
        headers={"Connection": "close"},
    )


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """A registered route. ``paths``: the first is the documented one, the others lead to the same handler.

    ``body``, ``reply``: pydantic models for ``/openapi.json``; ``query``: parameters shown there (``name!`` is
    required); ``example``: of the reply. ``hidden``: not shown there.
    """

    method: str
    paths: tuple[str, ...]
    permission: Permission
    handler: Handler
    faults: Faults = field(default_factory=dict)
    summary: str = ""
    about: str = ""
    """What else there is to say, for the documentation."""
    tag: str = ""
    query: tuple[str, ...] = ()
    body: type[BaseModel] | None = None
    reply: Any = None
    reply_type: str = "application/json"
    example: Any = None
    hidden: bool = False
    head: bool = False
    """HEAD is answered, too."""
    body_types: tuple[str, ...] = ("application/json",)
    """Content types of the body, for the documentation."""
    body_optional: bool = False
    """The same may stand in the query, or there are defaults for everything; for the documentation."""
    idempotent: bool = False
    """``Idempotency-Key`` is heeded; for the documentation."""

    async def __call__(self, request: Request) -> Response:
        """Check the permission, call the handler, shape what it returns or raises."""
        call: Call = request.scope[CALL]
        call.template = self.paths[0]
        call.path_values = request.path_params
        try:
            await self.check(call)
            result = await self.handler(call)
        except CadorError as error:
            own = call.path.startswith(OWN_PREFIX)
            return error_response(refusal_of(error, self.faults, own=own), call.path, call.language)
        except Refusal as refusal:
            return error_response(refusal, call.path, call.language)
        if isinstance(result, Response):
            return result
        return json_response(result)

    async def check(self, call: Call) -> None:
        """Raises: Refusal (400): the project is not named; (403): not allowed there."""
        where, actions = self.permission.where, self.permission.actions
        if where in _UNCHECKED:
            return
        project = ""
        if where is not Where.SYSTEM:
            project = await self._project(call)
        workflow = await self._workflow(call)
        if not await allow(call.ctx, call.actor, actions, project, workflow=workflow, shared=self.permission.shared):
            raise Refusal(Operation.FORBIDDEN, "permission denied")

    async def _workflow(self, call: Call) -> str:
        """The workflow that is meant, for whom it may be shared with; empty: none is, or nothing is shared."""
        name = self.permission.workflow
        if not name or not call.actor.shared:
            return ""
        if name != "*":
            return call.path_value(name)
        try:
            body = await call.object_or_none()
            return params.text_of(params.WORKFLOW, call.query, body)
        except Refusal:
            return ""  # the handler says what is wrong with it

    async def _project(self, call: Call) -> str:
        where, required = self.permission.where, self.permission.required
        if where is Where.PATH:
            return call.path_value(self.permission.path_name)
        name = params.PROJECT
        if self.permission.body_names:
            name = params.Name(name.query, self.permission.body_names)
        project = params.text_of(name, call.query) if where is not Where.BODY else ""
        if not project and where is not Where.QUERY:
            body = await call.object()
            try:
                project = params.text_of(params.Name((), name.body), {}, body)
            except Refusal:
                if self.body is not None:  # of a wrong type: then name every fault at once
                    try:
                        self.body.model_validate(body)
                    except ValidationError as error:
                        raise bad_request(bodies.faults_of(error)) from None
                raise
        if not project:
            spelling = name.body[0] if where is Where.BODY else name.query[0]
            raise bad_request(required or f"{spelling} is required")
        return project


_UNCHECKED: Final = frozenset({Where.NOBODY, Where.LOGGED_IN, Where.OPERATION})


class Routes:
    """A collection of routes under one heading of the documentation."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.routes: list[Route] = []

    def add(
        self,
        method: str,
        path: str,
        permission: Permission,
        *,
        also: tuple[str, ...] = (),
        faults: Faults | None = None,
        summary: str = "",
        query: tuple[str, ...] = (),
        body: type[BaseModel] | None = None,
        reply: Any = None,
        reply_type: str = "application/json",
        example: Any = None,
        hidden: bool = False,
        head: bool = False,
        body_types: tuple[str, ...] = ("application/json",),
        body_optional: bool = False,
        idempotent: bool = False,
    ) -> Callable[[Handler], Handler]:
        """Register the decorated handler. *also*: further paths to it. See :class:`Route` for the rest."""

        def register(handler: Handler) -> Handler:
            first, _, rest = inspect.cleandoc(handler.__doc__ or "").partition("\n")
            self.routes.append(
                Route(
                    method=method,
                    paths=(path, *also),
                    permission=permission,
                    handler=handler,
                    faults=dict(faults or {}),
                    summary=summary or first or handler.__name__.replace("_", " "),
                    about="" if summary else rest.strip(),
                    tag=self.tag,
                    query=query,
                    body=body,
                    reply=reply,
                    reply_type=reply_type,
                    example=example,
                    hidden=hidden,
                    head=head,
                    body_types=body_types,
                    body_optional=body_optional,
                    idempotent=idempotent,
                )
            )
            return handler

        return register

    def get(self, path: str, permission: Permission, **options: Any) -> Callable[[Handler], Handler]:
        return self.add("GET", path, permission, **options)

    def post(self, path: str, permission: Permission, **options: Any) -> Callable[[Handler], Handler]:
        return self.add("POST", path, permission, **options)

    def put(self, path: str, permission: Permission, **options: Any) -> Callable[[Handler], Handler]:
        return self.add("PUT", path, permission, **options)

    def delete(self, path: str, permission: Permission, **options: Any) -> Callable[[Handler], Handler]:
        return self.add("DELETE", path, permission, **options)


def json_response(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """*value* as JSON; None is the success message."""
    content = SUCCESS if value is None else _encode(value)
    return Response(content, status, dict(headers or {}), media_type=JSON_TYPE)


def error_response(refusal: Refusal, path: str, language: str) -> Response:
    content_type, content = body_of(refusal, path, language)
    headers = dict(refusal.headers)
    if refusal.status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    return Response(content, refusal.status, headers, media_type=content_type)
