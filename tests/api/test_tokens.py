"""Tokens, logging in and out, roles that users make, shared workflows: over HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api.site import ADMIN, Site, definition, site
from cador.operations import sessions as module
from cador.operations.sessions import TOUCH_S, Sessions
from cador.ports.stores import User
from support.world import PROJECT

pytestmark = pytest.mark.anyio

PASSWORD = "Correct-horse-1"
SPACE = {"namespace": PROJECT}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


async def ok(reply: Any) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()


async def uid_of(server: Site, account: str) -> str:
    found = await ok(await server.get("/openapi/users", params={"account": account}))
    return str(found["users"][0]["uid"])


async def test_tokens_are_limited_rotated_and_ended(server: Site) -> None:
    await server.create("w")
    ben = await uid_of(server, "ben")
    path = f"/openapi/users/{ben}/tokens"
    manager = "manager-token-00000"
    made = await ok(
        await server.post(
            path, manager, json={"name": "ci", "scopes": ["get_workflow"], "projects": [PROJECT], "expires_in_days": 30}
        )
    )
    text = made["token"]
    assert text.startswith(made["prefix"])
    assert made["expire_time"] - made["create_time"] == 30 * 86_400
    detail = f"/openapi/workflows/custom/w/detail?projectKey={PROJECT}"
    await ok(await server.get(detail, text))
    body = {"workflow_key": "w", "project_key": PROJECT, "inputs": []}
    assert (await server.post("/openapi/workflows/custom/task", text, json=body)).status_code == 403
    # what would lead out of the limits
    for method, where, sent in (
        ("POST", path, {"name": "more"}), ("PUT", f"/openapi/users/{ben}", {"password": PASSWORD}),
        ("POST", f"{path}/{made['id']}/rotate", None), ("POST", path, {"scopes": ["get_workflow"]}),
    ):  # fmt: skip
        assert (await server.call(method, where, text, json=sent or {})).status_code == 403, where
    for bad, said in (
        ({"projects": ["no-such"]}, "project no-such not found"), ({"scopes": ["fly"]}, "unknown scope fly"),
        ({"scopes": ["ticket"]}, "only a system administrator gives the scope ticket"),
    ):  # fmt: skip
        reply = await server.post(path, manager, json=bad)
        assert reply.status_code == 400
        if "project" not in said:
            assert reply.json()["description"] == said
    rotated = await ok(await server.post(f"{path}/{made['id']}/rotate", manager))
    assert rotated["id"] == made["id"]
    assert rotated["scopes"] == ["get_workflow"]
    assert (await server.get(detail, text)).status_code == 401
    await ok(await server.get(detail, rotated["token"]))
    found = (await ok(await server.get("/api/v1/tokens", params={"prefix": rotated["token"]})))["tokens"]
    assert [(one["id"], one["account"]) for one in found] == [(made["id"], "ben")]
    assert rotated["token"] not in repr(found)
    # a limited token ends itself, and nothing else
    assert (await server.call("DELETE", f"{path}/1", rotated["token"])).status_code == 403
    await ok(await server.call("DELETE", f"{path}/{made['id']}", rotated["token"]))
    assert (await server.get(detail, rotated["token"])).status_code == 401


async def test_the_scope_ticket(server: Site) -> None:
    """It is given by a system administrator, and allows tickets alone, also to who has no role in the project."""
    eve = await uid_of(server, "eve")
    made = await ok(await server.post(f"/openapi/users/{eve}/tokens", json={"name": "t", "scopes": ["ticket"]}))
    limited = Sessions(server.world.ctx)
    actor = await limited.actor(made["token"])
    assert actor.may("ticket", PROJECT)
    assert not actor.may("admin_project", PROJECT)
    assert not (await limited.actor("stranger-token-0000")).may("ticket", PROJECT)
    assert (await limited.actor("manager-token-00000")).may("ticket", PROJECT)
    assert not (await limited.actor("runner-token-000000")).may("ticket", PROJECT)


async def test_the_last_use_is_written_together(server: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests do not write: all uses go into one transaction a minute, and when somebody looks."""
    written: list[dict[int, float]] = []
    real = module._touch

    def touch(tx: Any, used: dict[int, float]) -> None:
        written.append(dict(used))
        real(tx, used)

    monkeypatch.setattr(module, "_touch", touch)
    ben = await uid_of(server, "ben")
    for _ in range(3):
        for token in ("manager-token-00000", "runner-token-000000", "reader-token-000000"):
            await ok(await server.get("/api/v1/me", token))
    assert len(written) == 1  # the very first request
    listed = {one["name"]: one for one in await ok(await server.get(f"/openapi/users/{ben}/tokens"))}
    assert len(written) == 2
    assert len(written[1]) == 4
    assert listed["runner-token-000000"]["last_used_time"] > 0
    assert TOUCH_S == 60.0


async def test_a_login_ends(server: Site) -> None:
    await ok(await server.post("/openapi/users", json={"account": "new", "name": "New", "password": PASSWORD}))
    uid = await uid_of(server, "new")

    async def log_in(password: str = PASSWORD) -> str:
        body = {"account": "new", "password": password}
        return str((await ok(await server.post("/api/v1/login", None, json=body)))["token"])

    async def alive(token: str) -> bool:
        return bool((await server.get("/api/v1/me", token)).status_code == 200)

    first, second = await log_in(), await log_in()
    api = (await ok(await server.post(f"/openapi/users/{uid}/tokens", first, json={"name": "api"})))["token"]
    kinds = [one["kind"] for one in await ok(await server.get(f"/openapi/users/{uid}/tokens", api))]
    assert kinds == ["session", "session", "api"]
    await ok(await server.post("/api/v1/logout", first))
    assert [await alive(token) for token in (first, second, api)] == [False, True, True]
    await ok(await server.post("/api/v1/logout", api))  # an API token is not a session
    assert await alive(api)
    third = await log_in()
    await ok(await server.call("PUT", f"/openapi/users/{uid}", third, json={"password": "Other-horse-2"}))
    assert [await alive(token) for token in (second, third, api)] == [False, True, True]
    await ok(await server.call("PUT", f"/openapi/users/{uid}", json={"password": PASSWORD}))  # by the administrator
    assert [await alive(token) for token in (third, api)] == [False, True]


async def test_roles_of_ones_own(server: Site) -> None:
    await server.create("w")
    reader, manager = "reader-token-000000", "manager-token-00000"
    roles, bindings = "/openapi/policy/roles", "/openapi/policy/role-bindings"
    eve = await uid_of(server, "eve")

    async def mine() -> Any:
        return (await ok(await server.get("/api/v1/me/permissions", "stranger-token-0000")))["projects"].get(
            PROJECT, {}
        )

    assert await mine() == {}
    body = {"name": "runner", "desc": "runs", "actions": ["run_workflow", "get_workflow"]}
    await ok(await server.post(roles, manager, params=SPACE, json=body))
    assert (await server.post(roles, manager, params=SPACE, json=body)).status_code == 400
    assert (await server.post(roles, manager, params={"namespace": "*"}, json=body)).status_code == 403
    for bad in ({"actions": ["fly"]}, {"actions": []}, {"name": ""}, {"actions": ["create_project"]},
                {"name": "read-only"}):  # fmt: skip
        assert (await server.post(roles, manager, params=SPACE, json={**body, **bad})).status_code == 400, bad
    await ok(await server.post(f"{bindings}/user/{eve}", manager, params=SPACE, json={"roles": ["runner"]}))
    assert (await mine())["actions"] == ["get_project", "get_workflow", "run_workflow"]
    assert (await server.call("DELETE", f"{roles}/runner", manager, params=SPACE)).status_code == 400
    await ok(await server.call("PUT", f"{roles}/runner", manager, params=SPACE, json={"actions": ["get_workflow"]}))
    assert (await mine())["actions"] == ["get_project", "get_workflow"]
    found = await ok(await server.get(f"{roles}/runner", reader, params=SPACE))
    assert (found["type"], found["desc"], found["rules"]) == (
        "custom", "runs", [{"resource": "workflow", "verbs": ["get_workflow"]}],
    )  # fmt: skip
    assert [one["name"] for one in await ok(await server.get(roles, reader, params=SPACE))][-1] == "runner"
    await ok(await server.call("DELETE", f"{bindings}/user/{eve}", manager, params=SPACE))
    assert await mine() == {}
    # by a group, and out of it again
    group = await ok(await server.post("/openapi/user-groups", json={"name": "g", "uids": [eve]}))
    await ok(await server.post(f"{bindings}/group/{group['id']}", manager, params=SPACE, json={"roles": ["runner"]}))
    assert (await mine())["roles"] == ["runner"]
    shown = [
        one for one in await ok(await server.get(bindings, manager, params=SPACE)) if one["binding_type"] == "group"
    ]
    assert [(one["group_info"]["name"], one["roles"]) for one in shown] == [("g", ["runner"])]
    await ok(await server.call("DELETE", f"/openapi/user-groups/{group['id']}/users/{eve}"))
    assert await mine() == {}
    await ok(await server.post(f"/openapi/user-groups/{group['id']}/users", json={"uids": [eve]}))
    await ok(await server.call("DELETE", f"/openapi/user-groups/{group['id']}"))
    assert await mine() == {}
    await ok(await server.call("DELETE", f"{roles}/runner", manager, params=SPACE))
    # of the system: by a group as well
    space = {"namespace": "*"}
    await ok(await server.post(roles, params=space, json={"name": "auditor", "actions": ["get_log_operation"]}))
    await ok(await server.post(f"{bindings}/user/{eve}", params=space, json={"roles": ["auditor"]}))
    assert (await server.get("/api/v1/audit", "stranger-token-0000")).status_code == 200
    registry = {"address": "https://hub.example.com", "provider": "harbor", "namespace": "n"}
    assert (await server.post("/openapi/system/registry", "stranger-token-0000", json=registry)).status_code == 403
    more = {"actions": ["get_log_operation", "create_registry_management"]}
    await ok(await server.call("PUT", f"{roles}/auditor", params=space, json=more))
    await ok(await server.post("/openapi/system/registry", "stranger-token-0000", json=registry))
    assert (await server.get("/openapi/users", "stranger-token-0000")).status_code == 403
    boss = await ok(await server.post("/openapi/user-groups", json={"name": "bosses", "uids": [eve]}))
    await ok(await server.post(f"{bindings}/group/{boss['id']}", params=space, json={"roles": ["admin"]}))
    assert (await server.get("/openapi/users", "stranger-token-0000")).status_code == 200
    reply = await server.post(f"{bindings}/user/{eve}", params=space, json={"roles": ["no-such"]})
    assert (reply.status_code, reply.json()["description"]) == (400, "role no-such not found")


async def test_a_workflow_is_shared(server: Site) -> None:
    for key in ("mine", "other"):
        await server.create(key)
    await server.run("mine")
    await server.done("mine", 1)
    await server.run("other")
    await server.done("other", 1)
    stranger, own = "stranger-token-0000", {"projectKey": PROJECT}
    eve = await uid_of(server, "eve")
    path = "/openapi/collaborations"
    mode = {"name": "m", "user_ids": [eve], "workflows": [{"name": "mine", "verbs": ["get_workflow", "run_workflow"]}]}
    for bad, said in (
        ({"workflows": [{"name": "none", "verbs": []}]}, "workflow none not found"),
        ({"workflows": [{"name": "mine", "verbs": ["delete_workflow"]}]}, "cannot be shared"),
        ({"user_ids": ["x"]}, "user x not found"), ({"envs": [{"name": "dev"}]}, "environments cannot be shared"),
        ({"user_ids": []}, "cannot both be empty"),
    ):  # fmt: skip
        reply = await server.post(path, params=own, json={**mode, **bad})
        assert (reply.status_code, said in reply.text) == (400, True), reply.text
    await ok(await server.post(path, params=own, json=mode))
    listed = await ok(await server.get("/openapi/workflows", stranger, params=own))
    assert [one["workflow_key"] for one in listed["workflows"]] == ["mine"]
    for key, status in (("mine", 200), ("other", 403)):
        assert (await server.get(f"/openapi/workflows/custom/{key}/detail", stranger, params=own)).status_code == status
        assert (await server.get(f"/openapi/workflows/custom/{key}/tasks", stranger, params=own)).status_code == status
        assert (await server.get(f"/api/v1/tasks/{key}/1", stranger)).status_code == status
        body = {"workflow_key": key, "project_key": PROJECT, "inputs": [{"job_name": "say", "parameters": {}}]}
        assert (await server.post("/openapi/workflows/custom/task", stranger, json=body)).status_code == status
    changed = await server.call("PUT", "/api/aslan/workflow/v4/mine", stranger, params=own, json=definition("mine"))
    assert changed.status_code == 403
    assert (await server.get("/openapi/build", stranger, params=own)).status_code == 403
    await ok(await server.call("DELETE", f"{path}/m", params=own))
    assert (await server.get("/api/v1/tasks/mine/1", stranger)).status_code == 403
    await ok(await server.call("GET", "/api/v1/tasks/mine/1", ADMIN))


async def test_users_are_listed_by_what_they_are_and_may(server: Site) -> None:
    await server.world.db.write(lambda tx: tx.people.add_user(User("o", "olga", "Olga", identity_type="oidc")))
    group = await ok(await server.post("/openapi/user-groups", json={"name": "g", "uids": ["o"]}))
    bindings = "/openapi/policy/role-bindings"
    await ok(await server.post(f"{bindings}/group/{group['id']}", params=SPACE, json={"roles": ["read-only"]}))
    role = {"name": "auditor", "actions": ["get_log_operation"]}
    await ok(await server.post("/openapi/policy/roles", params={"namespace": "*"}, json=role))
    eve = await uid_of(server, "eve")
    await ok(await server.post(f"{bindings}/user/{eve}", params={"namespace": "*"}, json={"roles": ["auditor"]}))

    async def found(**query: Any) -> list[str]:
        reply = await ok(await server.get("/openapi/users", params=query))
        assert reply["total_count"] >= len(reply["users"])
        return [one["account"] for one in reply["users"]]

    assert await found(identity_type="oidc") == ["olga"]
    assert "olga" not in await found(identity_type="system")
    assert await found(account="olga") == ["olga"]
    assert await found(account="olga", identity_type="system") == []
    assert await found(roles="admin") == ["admin"]
    assert await found(roles="admin,auditor") == ["admin", "eve"]
    assert await found(roles=["admin", "auditor"], name="ev") == ["eve"]
    assert await found(projectName=PROJECT, roles="read-only") == ["ann", "olga"]
    assert await found(projectName=PROJECT) == ["ann", "ben", "cid", "olga"]
    assert await found(projectName=PROJECT, pageNum=2, pageSize=3) == ["olga"]
    assert await found(projectName="nowhere") == []
    assert await found(roles="no-such") == []
