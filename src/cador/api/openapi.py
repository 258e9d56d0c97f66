"""``/openapi.json`` (OpenAPI 3.1) and ``/docs``, made from the registered routes and their models.

The page is plain HTML of our own: it needs no script and nothing from the network, so it works where the server does.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final, TypeGuard

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Router

from cador import __version__
from cador.api.errors import LEGACY_PREFIX, OWN_PREFIX
from cador.api.permissions import Where
from cador.api.routing import Route

_REF: Final = "#/components/schemas/{model}"
_PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_TYPES: Final = {"int": "integer", "bool": "boolean", "": "string"}


class StandardError(BaseModel):
    """An error of the documents' routes. ``code`` says which operation failed, ``description`` why."""

    code: int
    description: str
    extra: dict[str, Any]
    message: str
    type: str


class LegacyError(StandardError):
    """An error of the routes under ``/api/directory/``."""

    resultCode: int
    errorMsg: str


class Problem(BaseModel):
    """An error of the server's own routes (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: int | None = None


class Success(BaseModel):
    """The answer of routes that have nothing to return."""

    message: str


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI document of *routes*."""
    shown = [route for route in routes if not route.hidden]
    models: dict[type[BaseModel], None] = dict.fromkeys((StandardError, LegacyError, Problem, Success))
    for route in shown:
        for model in (route.body, route.reply):
            if model is not None and _is_model(model):
                models[model] = None
    names, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    refs = {model: names[model, "validation"] for model in models}
    paths: dict[str, dict[str, Any]] = {}
    for route in shown:
        paths.setdefault(route.paths[0], {})[route.method.lower()] = _operation(route, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cador",
            "version": __version__,
            "description": "CI/CD workflow server. Errors of the documents' routes: HTTP status, `code` and "
            "`description`; of `/api/v1`: problem details.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def describe(router: Router, routes: Sequence[Route]) -> None:
    """Add ``/openapi.json`` and ``/docs`` to *web*; both are made when first asked for."""
    made: dict[str, bytes] = {}

    async def openapi_json(request: Request) -> Response:
        if "json" not in made:
            made["json"] = msgspec.json.encode(document(routes))
        return Response(made["json"], media_type="application/json")

    async def docs(request: Request) -> Response:
        if "html" not in made:
            made["html"] = _page(document(routes)).encode()
        return HTMLResponse(made["html"], headers={"Content-Security-Policy": _PAGE_POLICY})

    router.add_route("/openapi.json", openapi_json, include_in_schema=False)
    router.add_route("/docs", docs, include_in_schema=False)


def _is_model(model: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _operation(route: Route, refs: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    parameters = [
        {"name": part[1:-1].split(":")[0], "in": "path", "required": True, "schema": {"type": "string"}}
        for part in route.paths[0].split("/")
        if part.startswith("{")
    ]
    for query in route.query:
        name, _, kind = query.rstrip("!").partition(":")
        parameters.append(
            {"name": name, "in": "query", "required": query.endswith("!"), "schema": {"type": _TYPES[kind]}}
        )
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.paths[0]}").strip("_"),
        "tags": [route.tag],
        "summary": route.summary,
        "description": f"Permission: {route.permission}.",
        "parameters": parameters,
        "responses": {"200": _reply(route, refs), **_errors(route, refs)},
    }
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": refs[route.body]}}}
    if route.permission.where is Where.NOBODY:
        operation["security"] = []
    return operation


def _reply(route: Route, refs: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    if _is_model(route.reply):
        schema: Any = refs[route.reply]
    elif isinstance(route.reply, Mapping):
        schema = route.reply
    elif route.reply_type != "application/json":
        schema = {"type": "string"}
    else:
        from_success = route.method != "GET"
        schema = {"$ref": _REF.format(model="Success")} if from_success else {}
    content: dict[str, Any] = {"schema": schema}
    if route.example is not None:
        content["example"] = route.example
    return {"description": "done", "content": {route.reply_type: content}}


def _errors(route: Route, refs: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    path = route.paths[0]
    if route.permission.where is Where.NOBODY and not path.startswith(OWN_PREFIX):
        return {}
    model: type[BaseModel] = StandardError
    kind = "application/json"
    if path.startswith(OWN_PREFIX):
        model, kind = Problem, "application/problem+json"
    elif path.startswith(LEGACY_PREFIX):
        model = LegacyError
    return {"default": {"description": "refused", "content": {kind: {"schema": refs[model]}}}}


def _page(doc: Mapping[str, Any]) -> str:
    """The documentation as one page."""
    out = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>cador API</title><style>"
        "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}"
        "code,pre{font:13px/1.4 ui-monospace,monospace;background:#f4f4f6;border-radius:3px;padding:.1em .3em}"
        "pre{padding:.8em;overflow:auto}summary{cursor:pointer;padding:.3em 0}h2{margin-top:2em}"
        "b{display:inline-block;min-width:4.5em}</style>"
        "<h1>cador API</h1><p>Machine-readable: <a href=/openapi.json>/openapi.json</a> (OpenAPI 3.1). "
        "Every request carries <code>Authorization: Bearer &lt;token&gt;</code>.</p>"
    ]
    by_tag: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, methods in doc["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    for tag, operations in by_tag.items():
        out.append(f"<h2>{escape(tag)}</h2>")
        for method, path, operation in operations:
            out.append(
                f"<details><summary><b>{method}</b> <code>{escape(path)}</code> {escape(operation['summary'])}"
                f"</summary><p>{escape(operation['description'])}</p>"
            )
            for parameter in operation["parameters"]:
                required = ", required" if parameter["required"] else ""
                out.append(
                    f"<div><code>{escape(parameter['name'])}</code> in {parameter['in']}, "
                    f"{parameter['schema']['type']}{required}</div>"
                )
            shown = {"request": operation.get("requestBody"), "reply": operation["responses"]["200"]}
            for what, part in shown.items():
                if part:
                    text = msgspec.json.format(msgspec.json.encode(part["content"]), indent=1).decode()
                    out.append(f"<p>{what}</p><pre>{escape(text)}</pre>")
            out.append("</details>")
    out.append("<h2>Schemas</h2>")
    for name, schema in doc["components"]["schemas"].items():
        text = msgspec.json.format(msgspec.json.encode(schema), indent=1).decode()
        out.append(f"<details><summary><code>{escape(name)}</code></summary><pre>{escape(text)}</pre></details>")
    return "".join(out)
