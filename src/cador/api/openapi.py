"""``/openapi.json`` (OpenAPI 3.1) and ``/docs``, made from the registered routes, their models and the examples of the
API documents.

The page is plain HTML of our own: it needs no script and nothing from the network, so it works where the server does.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeGuard

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Router

from cador import __version__
from cador.api import openapi_jobs, params
from cador.api.catalogue import Operation
from cador.api.described import Described
from cador.api.errors import DEFAULT_FAULTS, LEGACY_PREFIX, OWN_PREFIX
from cador.api.examples import Example, load_examples
from cador.api.openapi_page import page
from cador.api.permissions import Where
from cador.api.routing import Route

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
_EVENT: Final[Mapping[str, Any]] = {
    "description": "One event of the stream.",
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}, "id": {"type": "string"}},
    "required": ["data"],
}
"""Tools that read this version of the format look at streams event by event."""
_REF: Final = "#/components/schemas/{model}"
_PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_TYPES: Final = {"int": "integer", "bool": "boolean", "": "string"}
_QUERY: Final[Mapping[str, str]] = {
    "strict": "true: names that mean nothing refuse the start (6160); false: they are named in `warnings`; absent: as "
    "the server's setting says.",
    "viewName": "Only what this view shows.",
    "pageNum": "From 1; a page behind the last one is empty.",
    "pageSize": "1 to 1000, 50 when it is absent.",
    "commitId": "A whole commit id, or what it begins with.",
    "taskId": "Number of the task in its workflow.",
    "approve": "Absent is a rejection.",
    "after": "Id of an event: only later ones.",
    "at": "RFC 3339 with its zone, or Unix seconds.",
    "tail": "Begin with so many last lines; 0: from the beginning.",
    "from": "Byte offset to go on from, as an event's id tells it.",
    "attempt": "From 1; absent: the newest.",
}
"""What there is to say of query parameters, by name."""
_NUMBERS: Final = frozenset({"number", "taskID", "workflow_task_id", "tail_lines"})
"""Path parameters that are numbers wherever they stand."""

TAGS: Final[Mapping[str, str]] = {
    "workflows": "Definitions: list, look at, create, replace, delete.",
    "workflow tasks": "Start, look at, cancel, retry and approve.",
    "views": "Named selections of a project's workflows.",
    "tickets": "Approvals given in another system.",
    "logs": "What jobs wrote, live and afterwards.",
    "product workflows": "Started by services instead of jobs.",
    "workflows, oldest editions": "The routes below /api/directory/.",
    "task actions": "Further actions on a task, its stages and jobs.",
    "projects": "Projects and their global variables.",
    "services": "Services and their templates.",
    "environments": "Environments and what runs in them.",
    "builds and tests": "How modules are built and tested.",
    "scans": "Code scans.",
    "runs of tests and scans": "Start a test or a scan by itself.",
    "people": "Users and their API tokens.",
    "groups": "Groups of users.",
    "roles": "Roles, who has them, and collaboration modes.",
    "system": "What the administrators of the server set up.",
    "declarative": "The whole configuration in one file.",
    "login": "Logging in with an identity provider.",
    "audit": "Who changed what.",
    "server": "The server's own routes.",
    "health": "For probes and collectors.",
}
"""In the order of the API documents; groups that are not named follow."""

_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    spelling: (name.query or name.body)
    for name in vars(params).values()
    if isinstance(name, params.Name)
    for spelling in (name.query or name.body)
}
_INTEGERS: Final = frozenset(spelling for name in (params.TASK, params.PAGE, params.SIZE) for spelling in name.query)

_FURTHER: Final[Mapping[str, Mapping[str, str]]] = {
    "/api/v1/auth/oidc/login": {"302": "to the identity provider"},
    "/api/v1/auth/oidc/callback": {"302": "logged in: to where the login began"},
    "/api/v1/tasks/{workflow}/{number}/artifacts/{path}": {
        "206": "the part that Range asks for",
        "416": "no such part",
    },
    "/openapi/logs/log/v4/workflow/{workflow_id}/{workflow_task_id}/{workflow_job_task_id}": {
        "206": "the part that Range asks for",
        "416": "no such part",
    },
    "/api/v1/tasks/{workflow}/{number}/jobs/{job}/log": {"206": "the part that Range asks for", "416": "no such part"},
    "/readyz": {"503": "not ready, with what is missing"},
}
"""Answers beside 200 and errors."""


class ContradictingModels(RuntimeError):
    """A programming error: two models of one name."""


class StandardError(Described):
    """An error of the documents' routes. ``code`` says which operation failed, ``description`` why."""

    code: int
    description: str
    extra: dict[str, Any]
    message: str
    type: str


class InternalError(Described):
    """An error without a code of its own: what is not there, and failures of the server."""

    code: int
    description: str
    message: str


class LegacyError(StandardError):
    """An error of the routes under ``/api/directory/``."""

    resultCode: int
    errorMsg: str


class LegacyInternalError(InternalError):
    """An error without a code of its own, under ``/api/directory/``."""

    resultCode: int
    errorMsg: str


class Problem(Described):
    """An error of the server's own routes (RFC 9457). ``code``: as the documents' routes say it, where there is one."""

    type: str
    title: str
    status: int
    detail: str
    code: int | None = None


class Success(Described):
    """The answer of routes that have nothing to return."""

    message: str


_ANSWERS: Final = (StandardError, InternalError, LegacyError, LegacyInternalError, Problem, Success)


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI document of *routes*."""
    shown = [route for route in routes if not route.hidden]
    order = {tag: place for place, tag in enumerate(TAGS)}
    shown.sort(key=lambda route: order.get(route.tag, len(order)))
    models: dict[type[BaseModel], None] = dict.fromkeys(_ANSWERS)
    for route in shown:
        for model in (route.body, route.reply):
            if model is not None and _is_model(model):
                models[model] = None
    names, made = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    schemas = made.get("$defs", {})
    jobs = openapi_jobs.schemas(_REF)
    if twice := schemas.keys() & jobs.keys():
        raise ContradictingModels(", ".join(sorted(twice)))
    schemas |= jobs
    schemas["StageBody"]["properties"]["jobs"]["items"] = {"$ref": _REF.format(model="Job")}
    schemas["RunBody"]["properties"]["inputs"]["items"] = {"$ref": _REF.format(model="JobInput")}
    refs = {model: names[model, "validation"] for model in models}
    examples = load_examples()
    paths: dict[str, dict[str, Any]] = {}
    for route in shown:
        operation = _operation(route, refs, examples.get((route.method, route.paths[0]), ()))
        for path in route.paths:
            if "//" in path:
                continue  # an empty name: there to say that one is missing
            here = _template(path)
            method = route.method.lower()
            answers = {**operation["responses"], **_errors(route, path, refs)}
            one = {**operation, "responses": answers, "operationId": re.sub(r"\W+", "_", f"{method}{here}").strip("_")}
            if path != route.paths[0]:
                one["description"] += f" Another address of {route.method} {_template(route.paths[0])}."
            paths.setdefault(here, {})[method] = one
    used = dict.fromkeys(route.tag for route in shown)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "cador",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "CI/CD workflow server. Errors of the documents' routes: HTTP status, `code` and "
            "`description`; of `/api/v1`: problem details. Messages follow `Accept-Language` (`zh`, `en`).",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": TAGS.get(tag, tag)} for tag in used],
        "security": [{"bearer": []}, {"api_key": []}, {"query_token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": _common(refs),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer <token>`"},
                "api_key": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`Authorization: X-API-KEY <token>`, as clients of the oldest edition send it",
                },
                "query_token": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "token",
                    "description": "`?token=<token>`, for callers that cannot set a header; wins over the header",
                },
            },
        },
    }


def describe(router: Router, routes: Sequence[Route]) -> None:
    """Add ``/openapi.json`` and ``/docs`` to *web*; both are made when first asked for."""
    made: dict[str, bytes] = {}

    async def openapi_json(request: Request) -> Response:
        if "json" not in made:
            made["json"] = msgspec.json.encode(document(routes))
        return Response(made["json"], media_type=JSON)

    async def docs(request: Request) -> Response:
        if "html" not in made:
            made["html"] = page(document(routes)).encode()
        return HTMLResponse(made["html"], headers={"Content-Security-Policy": _PAGE_POLICY})

    router.add_route("/openapi.json", openapi_json, include_in_schema=False)
    router.add_route("/docs", docs, include_in_schema=False)


def _template(path: str) -> str:
    """*path* without the router's converters."""
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)


def _is_model(model: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _operation(route: Route, refs: Mapping[Any, Mapping[str, Any]], examples: Sequence[Example]) -> dict[str, Any]:
    nobody = route.permission.where is Where.NOBODY
    operation: dict[str, Any] = {
        "tags": [route.tag],
        "summary": route.summary,
        "description": "\n\n".join(filter(None, (route.about, f"Permission: {route.permission}."))),
        "parameters": list(_parameters(route)),
        "responses": {
            "200": _reply(route, refs, examples),
            **_further(route),
        },
    }
    if route.body is not None:
        content: dict[str, Any] = {"schema": refs[route.body]}
        requests = {one.name: one.request for one in examples if one.request is not None}
        if requests:
            content["examples"] = _shown(examples, requests)
        types = {kind: content if kind == JSON else {"schema": refs[route.body]} for kind in route.body_types}
        operation["requestBody"] = {"required": not route.body_optional, "content": types}
    if nobody:
        operation["security"] = []
    return operation


def _shown(examples: Sequence[Example], values: Mapping[str, Any]) -> dict[str, Any]:
    return {one.name: {"summary": one.title, "value": values[one.name]} for one in examples if one.name in values}


def _parameters(route: Route) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"\{(\w+)\}", _template(route.paths[0])):
        kind = "integer" if name in _NUMBERS else "string"
        schema: dict[str, Any] = {"type": kind} if kind == "integer" else {"type": kind, "minLength": 1}
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    for query in route.query:
        name, _, kind = query.rstrip("!").partition(":")
        number = kind == "int" or name in _INTEGERS
        parameter: dict[str, Any] = {
            "name": name,
            "in": "query",
            "required": query.endswith("!"),
            "schema": {"type": "integer"} if number else {"type": _TYPES[kind]},
        }
        about = [_QUERY[name]] if name in _QUERY else []
        others = [spelling for spelling in _ALIASES.get(name, ()) if spelling != name]
        if others:
            about.append("Deprecated spellings: " + ", ".join(f"`{other}`" for other in others) + ".")
            parameter["x-deprecated-aliases"] = others
        if about:
            parameter["description"] = " ".join(about)
        yield parameter
    if route.body is not None and route.idempotent:
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "maxLength": 255, "pattern": "^[!-~]+$"},
            "description": "the same request sent again with it starts nothing twice",
        }


def _reply(route: Route, refs: Mapping[Any, Mapping[str, Any]], examples: Sequence[Example]) -> dict[str, Any]:
    if _is_model(route.reply):
        schema: Any = refs[route.reply]
    elif isinstance(route.reply, Mapping):
        schema = route.reply
    elif route.reply_type == EVENTS:
        schema = _EVENT
    elif route.reply_type != JSON:
        schema = {"type": "string"}
    else:
        schema = refs[Success]
    content: dict[str, Any] = {"schema": schema}
    replies = {one.name: one.reply for one in examples if one.reply is not None}
    if replies:
        content["examples"] = _shown(examples, replies)
    elif route.example is not None:
        content["example"] = route.example
    return {"description": "done", "content": {route.reply_type: content}}


def _further(route: Route) -> dict[str, Any]:
    return {status: {"description": text} for status, text in _FURTHER.get(_template(route.paths[0]), {}).items()}


def _errors(route: Route, path: str, refs: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    """Every status a route can refuse with at *path*, the codes behind it and what each looks like."""
    if not path.startswith(("/api/", "/openapi/")):
        return {}
    own, legacy = path.startswith(OWN_PREFIX), path.startswith(LEGACY_PREFIX)
    codes = sorted(
        {answer for answer in (*route.faults.values(), Operation.BAD_REQUEST) if isinstance(answer, Operation)}
        | {answer for answer in DEFAULT_FAULTS.values() if isinstance(answer, Operation) and answer.status == 400},
        key=lambda operation: operation.code,
    )
    bad = [one for one in codes if one.status == 400 and one is not Operation.BAD_REQUEST]
    family = "own" if own else "legacy" if legacy else "standard"
    found: dict[str, Any] = {"400": _refused((Operation.BAD_REQUEST, *bad), family, refs)}
    nobody = route.permission.where is Where.NOBODY
    common = [Operation.TOO_LARGE, Operation.INTERNAL, Operation.UNAVAILABLE]
    if not nobody or own:
        common.append(Operation.UNAUTHORIZED)
    if not nobody:
        common.append(Operation.FORBIDDEN)
    if own:
        common.append(Operation.TOO_MANY)
    if "{" in path or own:
        common.append(Operation.NOT_FOUND)
    for operation in common:
        found[str(operation.status)] = {"$ref": f"#/components/responses/{family}{operation.status}"}
    if own:
        found["409"] = {"$ref": "#/components/responses/own409"}
    if "{" in path:
        found["405"] = {"$ref": "#/components/responses/other_route"}
    return dict(sorted(found.items()))


def _common(refs: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    """The answers that many routes have."""
    plain = {"text/plain": {"schema": {"type": "string"}}}
    found: dict[str, Any] = {"other_route": {"description": "the path belongs to another route", "content": plain}}
    for family in ("standard", "legacy", "own"):
        for operation in Operation:
            if operation.code < 1000 and operation is not Operation.BAD_REQUEST:
                found[f"{family}{operation.status}"] = _refused((operation,), family, refs)
        found[f"{family}404"]["content"] |= plain
    problem = {"application/problem+json": {"schema": refs[Problem]}}
    found["own409"] = {"description": "does not fit what is there", "content": problem}
    return found


def _refused(operations: Sequence[Operation], family: str, refs: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    """The answer with the codes of *operations*, which have one status."""
    internal = Operation.INTERNAL in operations
    model: type[BaseModel] = InternalError if internal else StandardError
    if family == "own":
        model = Problem
    elif family == "legacy":
        model = LegacyInternalError if internal else LegacyError
    content: dict[str, Any] = {"schema": refs[model]}
    if model is StandardError:
        content["examples"] = {
            str(one.code): {
                "value": {
                    "code": one.code,
                    "description": "what is wrong",
                    "extra": {},
                    "message": one.en,
                    "type": "error",
                }
            }
            for one in operations
        }
    words = "; ".join(f"{one.code} {one.en.rstrip(': ')}" for one in operations)
    return {"description": words, "content": {"application/problem+json" if family == "own" else JSON: content}}
