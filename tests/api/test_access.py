"""Who may do what: every route with every kind of caller, and what is said to those who may not."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.access_samples import HARMFUL, SAMPLES, Sample
from api.site import ADMIN, Site, definition, site
from cador.api import app as application
from cador.api.permissions import Permission, Where
from cador.api.routing import Route, Routes
from cador.operations.models.project import ProjectBody
from cador.operations.sessions import token_hash
from cador.ports.stores import Resource, Token, Tx, User
from support.world import PROJECT

pytestmark = pytest.mark.anyio

CREATE = "/api/aslan/workflow/v4"
TASK = "/openapi/workflows/custom/task"
OWN = {"projectKey": PROJECT}
NOTHING: frozenset[str] = frozenset()
READ = frozenset(
    {
        "get_project", "get_workflow", "get_environment", "get_production_environment", "get_service",
        "get_production_service", "get_build", "get_test", "get_scan", "get_delivery",
    }
)  # fmt: skip
"""What the role read-only allows, written down once more: nothing here asks the program what is right."""


@dataclass(frozen=True)
class Caller:
    """``actions``: what is allowed in the project; ``everything``: whatever it is, in the project. ``system``: also
    outside of projects. ``shared``: allowed with workflow ``w`` alone. ``limited``: the token is."""

    token: str | None
    actions: frozenset[str] = NOTHING
    everything: bool = False
    system: bool = False
    shared: frozenset[str] = NOTHING
    limited: bool = False
    refused: bool = False
    """401, whatever is asked."""
    elsewhere: bool = False
    """Everything in another project."""


CALLERS = {
    "none": Caller(None, refused=True),
    "bad": Caller("cador_no_such_token", refused=True),
    "expired": Caller("expired-token-00000", refused=True),
    "stranger": Caller("stranger-token-0000"),
    "sees": Caller("sees-token-00000000", frozenset({"get_project"})),
    "reader": Caller("reader-token-000000", READ),
    "grouped": Caller("grouped-token-00000", READ),
    "tester": Caller("tester-token-000000", frozenset({"get_project", "get_test", "run_test"})),
    "shared": Caller(
        "shared-token-000000", frozenset({"get_project"}), shared=frozenset({"get_workflow", "run_workflow"})
    ),
    "runner": Caller("runner-token-000000", frozenset({"get_workflow", "run_workflow"}), limited=True),
    "elsewhere": Caller("elsewhere-token-000", limited=True, elsewhere=True),
    "manager": Caller("manager-token-00000", everything=True),
    "admin": Caller(ADMIN, everything=True, system=True),
    "admin, limited": Caller("limited-token-00000", frozenset({"get_workflow"}), limited=True),
}
DEFAULTS = {"workflowKey": "w", "workflow": "w", "number": "1", "taskID": "1", "job": "say"}
"""Path parameters; all others lead nowhere."""


def routes_of(server: Site) -> list[Route]:
    """Out of the router that serves requests: what is reachable is in it, wherever it was registered."""
    mounted = [(route.path, getattr(route.endpoint, "__self__", None)) for route in server.app._router.routes]
    ours: dict[int, Route] = {id(route): route for _, route in mounted if isinstance(route, Route)}
    assert {path for path, route in mounted if not isinstance(route, Route)} == {"/openapi.json", "/docs"}
    return list(ours.values())


def allowed(route: Route, sample: Sample, caller: Caller) -> bool:
    """Whether *caller* must get past the permission check of *route*."""
    permission, where = route.permission, route.permission.where
    if where in (Where.NOBODY, Where.LOGGED_IN):
        return True
    if sample.everybody:
        return not caller.limited
    if (sample.unlimited or sample.listed) and caller.limited:
        return False
    if sample.anywhere and caller.elsewhere:
        return True
    actions = {sample.as_action} if sample.as_action else set(permission.actions)
    if actions & caller.actions:
        return True
    if actions <= {"admin_system"} or where is Where.SYSTEM:
        return caller.system
    if caller.everything:
        return True
    one = permission.workflow or permission.shared or (where is Where.OPERATION and not sample.whole)
    return bool(one and actions & caller.shared)


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
        await people(made)
        yield made


async def people(made: Site) -> None:
    """Who has their rights by other ways than a role of their own."""

    def fill(tx: Tx) -> None:
        tokens = {
            "expired-token-00000": ("ann", {"expires_at": 2.0}),
            "grouped-token-00000": ("gus", {}),
            "tester-token-000000": ("tess", {}),
            "shared-token-000000": ("sam", {}),
            "elsewhere-token-000": ("ben", {"projects": ("elsewhere",)}),
            "limited-token-00000": ("boss", {"scopes": ("get_workflow",)}),
        }
        for account in ("gus", "tess", "sam", "boss", "dora"):
            tx.people.add_user(User(account, account, account.title(), admin=account == "boss"))
        for text, (uid, fields) in tokens.items():
            token = Token(id=0, uid=uid, name=text, hash=token_hash(text), prefix="", create_at=1.0)
            tx.people.add_token(replace(token, **fields))
        for key in (PROJECT, "elsewhere"):
            document = ProjectBody(project_key=key, project_name=key.title(), project_type="yaml").document() | {
                "deploy_type": "k8s"
            }
            old = tx.resources.find("project", "", key)
            if old is None:
                tx.resources.add(Resource("project", "", key, document))
            else:
                tx.resources.replace(replace(old, document=document))

    await made.world.db.write(fill)
    role = {"name": "tester", "desc": "runs tests", "actions": ["get_test", "run_test"]}
    collaboration = {
        "name": "one",
        "user_ids": ["sam"],
        "workflows": [{"name": "w", "collaboration_type": "share", "verbs": ["get_workflow", "run_workflow"]}],
    }
    for path, query, body in (
        ("/openapi/policy/roles", {"namespace": PROJECT}, role),
        ("/openapi/policy/role-bindings/user/tess", {"namespace": PROJECT}, {"roles": ["tester"]}),
        ("/openapi/policy/role-bindings/user/ben", {"namespace": "elsewhere"}, {"roles": ["project-admin"]}),
        ("/openapi/collaborations", OWN, collaboration),
        (CREATE, {}, {**definition("secret-one"), "project": "elsewhere"}),
    ):
        reply = await made.post(path, params=query, json=body)
        assert reply.status_code == 200, reply.text
    gid = (await made.post("/openapi/user-groups", json={"name": "readers", "uids": ["gus"]})).json()["id"]
    path = f"/openapi/policy/role-bindings/group/{gid}"
    assert (await made.post(path, params={"namespace": PROJECT}, json={"roles": ["read-only"]})).status_code == 200


@pytest.mark.parametrize("name", CALLERS)
async def test_every_route_with_every_caller(server: Site, name: str) -> None:
    """What is reachable at all is tried: a new route whose project the operation finds needs a line in
    ``access_samples``, all others are called by what their permission says."""
    caller, wrong = CALLERS[name], []
    for route in routes_of(server):
        key = (route.method, route.paths[0])
        if not route.paths[0].startswith(("/api/", "/openapi/")):
            assert route.permission.where is Where.NOBODY
            continue
        if route.permission.where is Where.OPERATION:
            assert key in SAMPLES, f"{key}: say in tests/api/access_samples.py how to call it"
        sample = SAMPLES.get(key, Sample())
        past = allowed(route, sample, caller)
        open_to_all = route.permission.where is Where.NOBODY
        if past and key in HARMFUL and not caller.refused:
            continue
        reply = await ask(server, route, sample, caller.token)
        status = reply.status_code
        if caller.refused and not open_to_all:
            right = status == 401 and reply.headers["www-authenticate"] == "Bearer"
        elif past:
            unlisted = (sample.everybody or sample.listed) and "has no authority to approve" in reply.text
            right = (status not in (401, 403) and status < 500) or unlisted
        else:
            right = status == 403 and (reply.json().get("description") or reply.json()["detail"]) == "permission denied"
        if not right:
            wrong.append(f"{' '.join(key)}: {status} {reply.text[:160]}, allowed: {past}")
    assert not wrong, "\n".join(wrong)


async def ask(server: Site, route: Route, sample: Sample, token: str | None) -> httpx2.Response:
    path = re.sub(r"\{([^}]*)\}", lambda m: sample.path.get(m[1]) or DEFAULTS.get(m[1], "no-such"), route.paths[0])
    query, body = dict(sample.query), sample.body
    where = route.permission.where
    if where in (Where.QUERY, Where.QUERY_OR_BODY):
        query = {**OWN, **query}
    elif where is Where.PATH:
        path = route.paths[0].replace("{" + route.permission.path_name + "}", PROJECT)
    elif where is Where.BODY:
        names = route.permission.body_names or ("project_key",)
        body = {names[0]: PROJECT, "workflow_key": "w", "inputs": "none", **(body or {})}
    options: dict[str, Any] = {"params": query}
    if isinstance(body, str):
        options["content"] = body
    elif route.method != "GET":
        options["json"] = body if body is not None else {}
    return await server.call(route.method, path, token, **options)


async def test_parameters_of_the_project_come_between(server: Site) -> None:
    """401, then 400 for what names the project, then 403, then all else."""
    for route in routes_of(server):
        if route.permission.where not in (Where.QUERY, Where.BODY, Where.QUERY_OR_BODY):
            continue
        path = re.sub(r"\{([^}]*)\}", "no-such", route.paths[0])
        for token, status in ((None, 401), (CALLERS["stranger"].token, 400)):
            reply = await server.call(route.method, path, token, **({} if route.method == "GET" else {"json": {}}))
            assert reply.status_code == status, (route.method, path, reply.text)


async def test_no_object_of_another_project_is_told_of(server: Site) -> None:
    """Who may see one project asks in it for what another has: it is not there, as what is nowhere is not there."""
    for name in ("manager", "reader"):
        token = CALLERS[name].token
        for path in ("/openapi/workflows/custom/{}/detail", "/openapi/quality/testing/{}", "/openapi/build/{}/detail"):
            replies = [await server.get(path.format(key), token, params=OWN) for key in ("secret-one", "no-such")]
            assert replies[0].status_code == replies[1].status_code >= 400, path
            assert replies[0].text.replace("secret-one", "no-such") == replies[1].text, path
    reader = CALLERS["reader"].token
    for tail in ("", "/why", "/events", "/report", "/artifacts", "/jobs/say/log"):
        # whether that workflow has such a task or not
        assert (await server.get(f"/api/v1/tasks/secret-one/1{tail}", reader)).status_code == 403, tail
        assert (await server.get(f"/api/v1/tasks/no-such/1{tail}", reader)).status_code in (400, 404), tail


@pytest.mark.parametrize("caller", ["stranger", "sees", "reader", "runner"])
async def test_creating_and_deleting_is_for_managers(server: Site, caller: str) -> None:
    token = CALLERS[caller].token
    reply = await server.post(CREATE, token, json=definition("mine"))
    assert reply.status_code == 403
    reply = await server.call("DELETE", "/openapi/workflows/custom", token, params={**OWN, "workflowKey": "broken"})
    assert reply.status_code == 403
    reply = await server.call("DELETE", f"{CREATE}/broken", token)
    assert reply.status_code == 403


async def test_managers_create_and_delete(server: Site) -> None:
    token = CALLERS["manager"].token
    assert (await server.post(CREATE, token, json=definition("mine"))).status_code == 200
    reply = await server.call("DELETE", "/openapi/workflows/custom", token, params={**OWN, "workflowKey": "mine"})
    assert reply.status_code == 200
    elsewhere = {**definition("mine"), "project": "nowhere"}
    assert (await server.post(CREATE, token, json=elsewhere)).status_code == 403


async def test_a_stranger_learns_nothing(server: Site) -> None:
    """What exists and what does not look the same to who may not see the project."""
    stranger = CALLERS["stranger"].token
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
            assert reply.headers["allow"] == "POST"
        else:
            assert (reply.status_code, reply.text) == (404, f"Invalid path: {path}")
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (TASK, "DELETE, GET, HEAD, POST, PUT"),  # a workflow may be called task
        ("/openapi/workflows/view/v", "DELETE, PUT"),
        ("/openapi/workflows/custom/w/task/1", "POST, PUT"),
        ("/healthz", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_all_right_ones(server: Site, path: str, allowed: str) -> None:
    reply = await server.call("PATCH", path)
    assert (reply.status_code, reply.headers["allow"]) == (405, allowed)


async def test_the_oldest_edition_gets_its_keys(server: Site) -> None:
    reply = await server.get("/api/directory/workflowTask", None)
    assert reply.json() == {
        "code": 401, "description": "missing authorization header", "extra": {}, "message": "Unauthorized",
        "type": "error", "resultCode": 401, "errorMsg": "auth failed!",
    }  # fmt: skip


async def test_public_projects_are_open_to_read(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        await made.create("w")
        stranger = CALLERS["stranger"].token
        assert (await made.get("/openapi/workflows", stranger, params=OWN)).status_code == 403

        def publish(tx: Any) -> None:
            project = tx.resources.find("project", "", PROJECT) or tx.resources.find("project", PROJECT, PROJECT)
            document = {**project.document, "is_public": True}
            tx.resources.replace(type(project)(project.kind, project.project, project.name, document))

        await made.world.db.write(publish)
        assert (await made.get("/openapi/workflows", stranger, params=OWN)).status_code == 200
        reply = await made.post(TASK, stranger, json={"workflow_key": "w", "project_key": PROJECT})
        assert reply.status_code == 403


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
