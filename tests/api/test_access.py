"""Who may do what: every route with every kind of caller, and what is said to those who may not."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from api.site import ADMIN, Site, definition, site
from cador.api import app as application
from cador.api.permissions import Permission, Where
from cador.api.routing import Route, Routes
from cador.operations.sessions import token_hash
from cador.ports.stores import Token
from support.world import PROJECT

pytestmark = pytest.mark.anyio

CREATE = "/api/aslan/workflow/v4"
TASK = "/openapi/workflows/custom/task"
CALLERS = {
    "none": None,
    "bad": "cador_no_such_token",
    "stranger": "stranger-token-0000",
    "sees": "sees-token-00000000",
    "reader": "reader-token-000000",
    "runner": "runner-token-000000",
    "manager": "manager-token-00000",
    "admin": ADMIN,
}
READ = ("reader", "runner", "manager", "admin")
RUN = ("runner", "manager", "admin")
EDIT = ("manager", "admin")
ALL = ("stranger", "sees", *READ)

Call = tuple[str, str, Mapping[str, Any]]
NAMED = {"taskId": "1", "workflowKey": "w"}
OWN = {"projectKey": PROJECT}
SSE = "/openapi/logs/sse/v4/workflow/w/1/say/10"
LOG = "/openapi/logs/log/v4/workflow/w/1/say"

TABLE: list[tuple[Call, tuple[str, ...]]] = [
    (("GET", "/openapi/workflows", {"params": OWN}), READ),
    (("GET", "/openapi/workflows/custom/w/detail", {"params": OWN}), READ),
    (("GET", "/openapi/workflows/custom/w/tasks", {"params": OWN}), READ),
    (("GET", TASK, {"params": NAMED}), READ),
    (("GET", SSE, {}), READ),
    (("GET", LOG, {}), READ),
    (("HEAD", LOG, {}), READ),
    (("GET", "/api/v1/tasks/w/1", {}), READ),
    (("GET", "/api/v1/tasks/w/1/events", {}), READ),
    (("GET", "/api/v1/tasks/w/1/state", {"params": {"at": "1"}}), READ),
    (("GET", "/api/v1/tasks/w/1/why", {}), READ),
    (("GET", "/api/v1/tasks/w/1/report", {}), READ),
    (("GET", "/api/v1/tasks/w/1/artifacts", {}), READ),
    (("GET", "/api/v1/tasks/w/1/jobs/say/log", {}), READ),
    (("POST", f"{CREATE}/lint", {"json": definition("lint")}), READ),
    (("POST", TASK, {"json": {"workflow_key": "w", "project_key": PROJECT, "inputs": [{"job_name": "say"}]}}), RUN),
    (("POST", "/openapi/workflows/custom/w/task/2", {"params": OWN}), RUN),
    (("DELETE", TASK, {"params": {"taskId": "2", "workflowKey": "w"}}), RUN),
    (("PUT", "/openapi/workflows/custom/w/task/1", {"json": {"remark": "x"}}), RUN),
    (("PUT", "/api/v1/tasks/w/1/remark", {"json": {"remark": "x"}}), RUN),
    (("PUT", f"{CREATE}/w", {"params": OWN, "json": definition("w")}), EDIT),
    (("GET", "/api/v1/me", {}), ALL),
    (("GET", "/api/v1/settings", {}), ("admin",)),
    (("PUT", "/api/v1/settings", {"json": {}}), ("admin",)),
]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """One server for the whole table: workflow ``w`` with a passed task 1 and a failed task 2."""
    async with site(tmp_path_factory.mktemp("access")) as made:
        await made.create("w")
        await made.run("w")
        await made.done("w", 1)
        await made.create("broken", "exit 1")
        await made.call("PUT", f"{CREATE}/w", params=OWN, json=definition("w", "sleep 0.1; exit 1"))
        await made.run("w")
        await made.done("w", 2)
        yield made


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(("call", "allowed"), TABLE, ids=lambda value: " ".join(map(str, value[:2])))
async def test_every_route_with_every_caller(server: Site, call: Call, allowed: tuple[str, ...], caller: str) -> None:
    method, path, options = call
    reply = await server.call(method, path, CALLERS[caller], **options)
    if caller in ("none", "bad"):
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"] == "Bearer"
        return
    if caller in allowed:
        assert reply.status_code != 403, reply.text
        assert reply.status_code != 401
        if method == "POST" and "/task/" in path and reply.status_code == 200:
            await server.done("w", 2)  # retried: let it end before the next caller does the same
        return
    assert reply.status_code == 403
    if method != "HEAD":
        assert reply.json() in (
            {"code": 403, "description": "permission denied", "extra": {}, "message": "Forbidden", "type": "error"},
            {"type": "about:blank", "title": "Forbidden", "status": 403, "detail": "permission denied"},
        )


@pytest.mark.parametrize("caller", ["stranger", "sees", "reader", "runner"])
async def test_creating_and_deleting_is_for_managers(server: Site, caller: str) -> None:
    token = CALLERS[caller]
    reply = await server.post(CREATE, token, json=definition("mine"))
    assert reply.status_code == 403
    reply = await server.call("DELETE", "/openapi/workflows/custom", token, params={**OWN, "workflowKey": "broken"})
    assert reply.status_code == 403
    reply = await server.call("DELETE", f"{CREATE}/broken", token)
    assert reply.status_code == 403


async def test_managers_create_and_delete(server: Site) -> None:
    token = CALLERS["manager"]
    assert (await server.post(CREATE, token, json=definition("mine"))).status_code == 200
    reply = await server.call("DELETE", "/openapi/workflows/custom", token, params={**OWN, "workflowKey": "mine"})
    assert reply.status_code == 200
    elsewhere = {**definition("mine"), "project": "elsewhere"}
    assert (await server.post(CREATE, token, json=elsewhere)).status_code == 403


async def test_a_stranger_learns_nothing(server: Site) -> None:
    """What exists and what does not look the same to who may not see the project."""
    stranger = CALLERS["stranger"]
    for key in ("w", "no-such"):
        reply = await server.get(f"/openapi/workflows/custom/{key}/detail", stranger, params=OWN)
        assert reply.status_code == 403
        reply = await server.post(TASK, stranger, json={"workflow_key": key, "project_key": PROJECT, "inputs": []})
        assert reply.status_code == 403
        for number in (1, 99):
            for path in ("", "/why", "/events", "/report"):
                reply = await server.get(f"/api/v1/tasks/{key}/{number}{path}", stranger)
                assert reply.status_code == 403, (key, number, path)


@pytest.mark.parametrize(
    ("headers", "query", "said"),
    [
        ({}, {}, "missing authorization header"),
        ({"Authorization": ""}, {}, "missing authorization header"),
        ({"Authorization": ADMIN}, {}, "invalid token: token is malformed"),
        ({"Authorization": f"Basic {ADMIN}"}, {}, "invalid token: token is malformed"),
        ({"Authorization": f"Bearer {ADMIN} more"}, {}, "invalid token: token is malformed"),
        ({"Authorization": "Bearer nonsense"}, {}, "invalid token: token validation failed"),
        ({"Authorization": f"Bearer {ADMIN}"}, {"token": "nonsense"}, "invalid token: token validation failed"),
        ({"Authorization": f"Bearer {ADMIN}"}, {"token": ""}, ""),
        ({"Authorization": f"bEARER {ADMIN}"}, {}, ""),
        ({"Authorization": f"X-API-KEY {ADMIN}"}, {}, ""),
        ({"Authorization": f"x-api-key  {ADMIN}"}, {}, ""),
        ({"Authorization": "Bearer nonsense"}, {"token": ADMIN}, ""),
        ({}, {"token": ADMIN}, ""),
    ],
)
async def test_how_a_token_is_passed(server: Site, headers: dict[str, str], query: dict[str, str], said: str) -> None:
    reply = await server.get("/openapi/workflows", None, headers=headers, params={**OWN, **query})
    if not said:
        assert reply.status_code == 200
        return
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.json() == {
        "code": 401, "description": said, "extra": {}, "message": "Unauthorized", "type": "error",
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/api/nothing", "/openapi/nothing", "/openapi/workflows/", "/api/aslan/workflow/v4"])
async def test_tokens_come_before_routes_and_methods(server: Site, path: str) -> None:
    for method in ("GET", "PATCH"):
        assert (await server.call(method, path, None)).status_code == 401
        reply = await server.call(method, path)
        if path == "/api/aslan/workflow/v4":
            assert (reply.status_code, reply.text) == (405, f"Method not allowed: {method} {path}")
        else:
            assert (reply.status_code, reply.text) == (404, f"Invalid path: {path}")
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"


async def test_the_oldest_edition_gets_its_keys(server: Site) -> None:
    reply = await server.get("/api/directory/workflowTask", None)
    assert reply.json() == {
        "code": 401, "description": "missing authorization header", "extra": {}, "message": "Unauthorized",
        "type": "error", "resultCode": 401, "errorMsg": "auth failed!",
    }  # fmt: skip


async def test_expired_tokens(server: Site) -> None:
    text = "cador_short_lived_token"
    row = Token(id=0, uid="ann", name="short", hash=token_hash(text), prefix="", create_at=1.0, expires_at=2.0)
    await server.world.db.write(lambda tx: tx.people.add_token(row))
    reply = await server.get("/api/v1/me", text)
    assert reply.status_code == 401
    assert reply.json()["detail"] == "invalid token: token validation failed"


async def test_public_projects_are_open_to_read(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        await made.create("w")
        stranger = CALLERS["stranger"]
        assert (await made.get("/openapi/workflows", stranger, params=OWN)).status_code == 403

        def publish(tx: Any) -> None:
            project = tx.resources.find("project", "", PROJECT) or tx.resources.find("project", PROJECT, PROJECT)
            document = {**project.document, "is_public": True}
            tx.resources.replace(type(project)(project.kind, project.project, project.name, document))

        await made.world.db.write(publish)
        assert (await made.get("/openapi/workflows", stranger, params=OWN)).status_code == 200
        reply = await made.post(TASK, stranger, json={"workflow_key": "w", "project_key": PROJECT})
        assert reply.status_code == 403


MODULES = (
    application.tasks, application.job_logs, application.definitions, application.own, application.task_history,
    application.task_report, application.why, application.live_settings,
)  # fmt: skip


def test_every_documented_route_of_the_table_is_tested() -> None:
    """A route of this package that nobody tries with every caller is a hole."""
    tried = {(method, _template(path)) for (method, path, _), _ in TABLE}
    elsewhere = {
        ("POST", f"{TASK}/approve"),  # listed approvers
        ("POST", CREATE),
        ("DELETE", "/openapi/workflows/custom"),
        ("DELETE", f"{CREATE}/{{name}}"),
        ("POST", "/api/v1/login"),
        ("GET", "/api/v1/version"),
        ("GET", "/api/v1/tasks/{workflow}/{number}/artifacts/{path:path}"),
        ("POST", "/api/v1/tasks/{workflow}/{number}/jobs/{job}/decision"),
    }
    routes = {(route.method, route.paths[0]) for module in MODULES for route in module.ROUTES.routes}
    assert routes - elsewhere <= tried


def _template(path: str) -> str:
    found = [
        route.paths[0]
        for module in MODULES
        for route in module.ROUTES.routes
        if len(route.paths[0].split("/")) == len(path.split("/"))
        and all(
            part.startswith("{") or part == given
            for part, given in zip(route.paths[0].split("/"), path.split("/"), strict=True)
        )
    ]
    return sorted(found, key=lambda template: template.count("{"))[0]


async def test_a_route_without_permission_does_not_start(server: Site) -> None:
    async def handler(call: Any) -> None: ...

    careless = Routes("careless")
    careless.routes.append(Route("GET", ("/openapi/careless",), None, handler))  # type: ignore[arg-type]
    with pytest.raises(application.RouteWithoutPermission, match="GET /openapi/careless"):
        application.create_app(server.world.ctx, routes=(careless,))
    twice = Routes("twice")
    for path in ("/openapi/a/{x}", "/openapi/a/{y}"):
        twice.get(path, Permission(Where.LOGGED_IN))(handler)
    with pytest.raises(application.ContradictingRoutes):
        application.create_app(server.world.ctx, routes=(twice,))
