"""Rules that hold for every route: the order of refusals, addresses nobody serves, bodies, spellings of query values.

The table is the application's own list of routes, so that a route that is added is tested, too. What a single route
does with good values is tested elsewhere.
"""

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final

import httpx2
import pytest
from pydantic import BaseModel

from api.site import Site, site
from cador.api import app as application
from cador.api import params
from cador.api.auth import GUARDED
from cador.api.permissions import Where
from cador.api.routing import Route
from openapi.conformity import reply_faults

pytestmark = pytest.mark.anyio

PROJECT: Final = "real"
LEGACY: Final = "/api/directory/"
OWN: Final = "/api/v1/"
STANDARD: Final = frozenset({"code", "description", "extra", "message", "type"})
INTERNAL: Final = frozenset({"code", "description", "message"})
LEGACY_KEYS: Final = frozenset({"resultCode", "errorMsg"})
PROBLEM: Final = frozenset({"type", "title", "status", "detail"})
NOT_JSON: Final = ("{", "[1, 2]", "[" * 500, '{"a": "\\ud800"}')
NAMES: Final = {
    name.canonical: name
    for name in vars(params).values()
    if isinstance(name, params.Name) and len(name.query) > 1
}  # fmt: skip
PLACES: Final = {
    "workflowKey": "w",
    "workflow_id": "w",
    "workflow": "w",
    "pipelineName": "w",
    "projectKey": PROJECT,
    "project": PROJECT,
    "job": "say",
    "workflow_job_task_id": "say",
}
"""Of path parameters; all others are 1."""
FALLBACK: Final = {  # values are looked for in a JSON body, too, whatever the method
    ("GET", "/openapi/workflows/custom/task"),
    ("DELETE", "/openapi/workflows/custom/task"),
    ("POST", "/openapi/workflows/custom/task/approve"),
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with site(tmp_path_factory.mktemp("dialects")) as made:
        project = {"project_name": "The shop", "project_key": PROJECT, "is_public": False, "project_type": "yaml"}
        assert (await made.post("/openapi/projects/project", json=project)).status_code == 200
        await made.create("w", project=PROJECT)
        body = {"workflow_key": "w", "project_key": PROJECT, "inputs": [{"job_name": "say"}]}
        assert (await made.post("/openapi/workflows/custom/task", json=body)).status_code == 200
        await made.done("w", 1)
        yield made


def routes() -> Iterator[tuple[Route, str]]:
    """Every route with an address of its own."""
    for group in application.ROUTES:
        for route in group.routes:
            yield route, _address(route.paths[0])


def _address(template: str) -> str:
    """*template* with something in every segment that varies: what is there where a test needs it, else nothing."""
    filled = template
    for name, value in PLACES.items():
        filled = filled.replace(f"{{{name}}}", value)
    return re.sub(r"\{[^}]*\}", "1", filled)


def wrong_shape(reply: httpx2.Response, path: str) -> str:
    """What is wrong with the body of an error answer to a request for *path*; ``""`` when it is of its dialect."""
    body = reply.json()
    if path.startswith(OWN):
        good = body.keys() >= PROBLEM and body["status"] == reply.status_code
        return "" if good and reply.headers["content-type"] == "application/problem+json" else reply.text
    wanted = INTERNAL if reply.status_code == 500 else STANDARD
    if path.startswith(LEGACY):
        wanted |= LEGACY_KEYS
    good = body.keys() == wanted and reply.headers["content-type"] == "application/json; charset=utf-8"
    return "" if good else reply.text


async def test_nothing_comes_before_the_token(server: Site) -> None:
    """Not even that a path or a method does not exist."""
    wrong = []
    for route, path in routes():
        if route.permission.where is Where.NOBODY or not path.startswith(GUARDED):
            continue
        for method, token, said in (
            (route.method, None, "missing authorization header"),
            ("PATCH", "no", "token validation failed"),
        ):
            reply = await server.call(method, path, token)
            told = reply.json().get("description", reply.json().get("detail"))
            if reply.status_code != 401 or said not in told or wrong_shape(reply, path):
                wrong.append((method, path, reply.status_code, reply.text))
            if reply.headers.get("www-authenticate") != "Bearer":
                wrong.append((method, path, "no challenge", ""))
    assert wrong == []
    for prefix in GUARDED:
        assert (await server.get(f"{prefix}no/such/path", None)).status_code == 401


async def test_addresses_nobody_serves(server: Site) -> None:
    """A slash at the end is another address; a method that no route has there is told with the address."""
    wrong = []
    deep = {route.paths[0].rpartition("/")[0] for route, _ in routes() if route.paths[0].endswith(":path}")}
    for route, path in routes():
        if route.paths[0] not in deep and not route.paths[0].endswith(":path}"):
            reply = await server.call(route.method, f"{path}/")
            if (reply.status_code, reply.text) != (404, f"Invalid path: {path}/"):
                wrong.append((route.method, f"{path}/", reply.status_code, reply.text))
        reply = await server.call("TRACE", path)
        if (reply.status_code, reply.text) != (405, f"Method not allowed: TRACE {path}"):
            wrong.append(("TRACE", path, reply.status_code, reply.text))
        if not reply.headers["content-type"].startswith("text/plain"):
            wrong.append(("TRACE", path, 0, reply.headers["content-type"]))
    assert wrong == []


async def test_bodies_that_are_no_objects(server: Site) -> None:
    """Refused with 400 in the words of the route's dialect, wherever a body is read."""
    wrong = []
    for route, path in routes():
        if route.body is None and (route.method, route.paths[0]) not in FALLBACK:
            continue
        for text in NOT_JSON:
            reply = await server.call(route.method, path, params={"projectKey": PROJECT}, content=text)
            if reply.status_code >= 500 or (reply.status_code >= 400 and wrong_shape(reply, path)):
                wrong.append((route.method, path, text[:20], reply.status_code, reply.text[:200]))
            elif reply.status_code == 200:
                wrong.append((route.method, path, text[:20], 200, reply.text[:200]))
    assert wrong == []


def _kinds(schema: dict[str, Any]) -> tuple[str | None, ...]:
    kind = schema.get("type")
    return tuple(kind) if isinstance(kind, list) else (kind,)


def _mistaken(model: type[BaseModel]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Bodies with one member of a type that it cannot have."""
    schema = model.model_json_schema()
    for name, found in schema.get("properties", {}).items():
        kinds = {kind for option in (found, *found.get("anyOf", ())) for kind in _kinds(option)}
        if "$ref" in found or any("$ref" in option for option in (*found.get("anyOf", ()), *found.get("allOf", ()))):
            kinds.add("object")
        if kinds == {None}:
            continue  # anything goes
        for kind, value in (("object", {"x": {}}), ("array", [[]]), ("string", "x"), ("boolean", True), ("integer", 7)):
            if kind not in kinds and not (kind == "integer" and "number" in kinds):
                yield name, {name: value}
                break


async def test_members_of_another_type(server: Site) -> None:
    """A value of the wrong JSON type is the caller's mistake: never stored, never a failure of the server."""
    wrong = []
    for route, path in routes():
        if route.body is None:
            continue
        for name, body in _mistaken(route.body):
            reply = await server.call(route.method, path, params={"projectKey": PROJECT}, json=body)
            if not 400 <= reply.status_code < 500 or wrong_shape(reply, path):
                wrong.append((route.method, path, name, reply.status_code, reply.text[:200]))
    assert wrong == []


async def test_every_spelling_and_what_contradicts_itself(server: Site) -> None:
    """Values under two spellings must be equal; an empty one counts as absent."""
    wrong = []
    for route, path in routes():
        for entry in route.query:
            name = NAMES.get(entry.rstrip("!").partition(":")[0])
            if name is None or path.startswith(OWN) or route.body is not None:
                continue
            first, second, *_ = name.query
            fine = {other.canonical: _value(other) for other in _needed(route)}
            reply = await server.call(route.method, path, params={**fine, first: "8", second: "9"})
            said = reply.json().get("description", "") if reply.status_code == 400 else reply.text
            if said != f"conflicting values for {name.canonical}":
                wrong.append((route.method, path, entry, reply.status_code, said))
            for spelling in name.query:
                reply = await server.call(
                    route.method, path, params={**fine, first: "", second: "", spelling: _value(name)}
                )
                if reply.status_code == 400 and "is required" in reply.text and name.canonical in reply.text:
                    wrong.append((route.method, path, spelling, reply.status_code, reply.text))
    assert wrong == []


def _needed(route: Route) -> list[params.Name]:
    return [NAMES[found] for entry in route.query if (found := entry.rstrip("!").partition(":")[0]) in NAMES]


def _value(name: params.Name) -> str:
    return {"projectKey": PROJECT, "workflowKey": "no-such-workflow"}.get(name.canonical, "7")


@pytest.mark.parametrize(
    ("kind", "values"),
    [("int", ("x", "1.5", "9223372036854775808", "1e3", "٣")), ("bool", ("yes", "2", "tRUE"))],
)
async def test_numbers_and_booleans_of_queries(server: Site, kind: str, values: tuple[str, ...]) -> None:
    wrong = []
    for route, path in routes():
        for entry in route.query:
            name, _, typed = entry.rstrip("!").partition(":")
            if typed != kind or (route.body is not None and kind == "bool"):
                continue
            fine: Mapping[str, str] = {other.canonical: _value(other) for other in _needed(route)}
            for value in values:
                reply = await server.call(route.method, path, params={**fine, name: value})
                if reply.status_code != 400 or wrong_shape(reply, path):
                    wrong.append((route.method, path, name, value, reply.status_code, reply.text[:200]))
    assert wrong == []


async def test_pages_behind_the_last_one(server: Site) -> None:
    """As far behind as a number can say: an empty list."""
    wrong = []
    for route, path in routes():
        if not any(entry.startswith("pageNum") for entry in route.query):
            continue
        fine = {other.canonical: _value(other) for other in _needed(route)}
        query = {**fine, "pageNum": str(2**63 - 1), "pageSize": "1000"}
        reply = await server.call(route.method, path, params=query)
        found = reply.json() if reply.status_code == 200 else None
        lists = [value for value in found.values() if isinstance(value, list)] if isinstance(found, dict) else [found]
        if lists != [[]]:
            wrong.append((path, reply.status_code, reply.text[:200]))
    assert wrong == []


async def test_replies_are_what_the_documentation_says(server: Site) -> None:
    """Of everything that can be looked at, there or not there: above all, empty lists are ``[]``."""
    wrong, seen = [], 0
    for route, path in routes():
        if route.method != "GET" or route.hidden:
            continue
        reply = await server.get(path, params={"projectKey": PROJECT, "projectName": PROJECT, "namespace": PROJECT})
        kind = reply.headers.get("content-type", "")
        body = reply.json() if kind.partition(";")[0].endswith("json") else None
        wrong += [(path, told) for told in reply_faults("GET", path, reply.status_code, kind, body)]
        seen += reply.status_code == 200
        if reply.text == "null":
            wrong.append((path, "null"))
    assert wrong == []
    assert seen > 50


@pytest.mark.parametrize(
    ("accept", "message"),
    [
        ("zh", "列出"),
        ("en;q=0.1, zh;q=0.9", "列出"),
        ("fr, en-GB;q=0.2", "List"),
        ("*", "列出"),
        ("de", "列出"),
        ("zh;q=0, en;q=0.5", "List"),
    ],
)
async def test_the_language_of_an_answer(server: Site, accept: str, message: str) -> None:
    """By weight, any region; what names neither leaves it to the server, whose default is Chinese."""
    reply = await server.get("/openapi/workflows/custom/w/tasks", language=accept)
    assert reply.json()["message"] == "Bad Request"
    query = {"taskId": "7", "workflowKey": "w"}
    reply = await server.call("DELETE", "/openapi/workflows/custom/task", params=query, language=accept)
    assert reply.json()["message"].startswith("Cancel" if message == "List" else "取消")
    assert reply.json()["description"] == "mongo: no documents in result"
