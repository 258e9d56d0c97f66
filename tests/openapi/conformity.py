"""Whether a reply is what ``/openapi.json`` says of its route."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import httpx2
from jsonschema import Draft202012Validator

from cador.api.app import ROUTES
from cador.api.openapi import document


@cache
def described() -> Mapping[str, Any]:
    return document([route for group in ROUTES for route in group.routes])


def resolved(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """*part* itself, or the component it refers to."""
    while "$ref" in part:
        found: Any = described()
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        part = found
    return part


def faults(schema: Mapping[str, Any], value: Any) -> list[str]:
    """What of *value* does not fit *schema*, with its place."""
    whole = {"allOf": [schema], "components": described()["components"]}
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(whole).iter_errors(value)]


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Fixed paths come before those with parameters."""
    paths = sorted(described()["paths"], key=lambda path: path.count("{"))
    return tuple((re.compile(re.sub(r"\\?\{\w+\\?\}", "[^/]+", re.escape(path))), path) for path in paths)


def reply_faults(method: str, path: str, status: int, content_type: str, body: Any) -> list[str]:
    """What of a reply is not as described. *body*: parsed, of a JSON reply."""
    path = path.replace("//", "/-/")  # an empty name is refused by the route that it is empty for
    for pattern, template in _patterns():
        operation = described()["paths"][template].get(method.lower())
        if operation is not None and pattern.fullmatch(path):
            break
    else:
        return [f"{method} {path} is not described"]
    answer = operation["responses"].get(str(status))
    if answer is None:
        return [f"{method} {template}: status {status} is not described"]
    kind = content_type.partition(";")[0]
    content = resolved(answer).get("content", {}).get(kind)
    if content is None:
        return [f"{method} {template}: {kind} is not described for {status}"]
    return faults(content["schema"], body) if kind.endswith("json") else []


async def as_described(reply: httpx2.Response) -> None:
    """A hook of a client: every JSON reply must be what ``/openapi.json`` says of its route."""
    kind = reply.headers.get("content-type", "")
    if kind.partition(";")[0].endswith("json") and reply.request.url.path != "/openapi.json":
        await reply.aread()
        asked = reply.request
        found = reply_faults(asked.method, asked.url.path, reply.status_code, kind, reply.json())
        assert found == [], reply.text
