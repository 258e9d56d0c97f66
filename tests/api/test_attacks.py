"""What people try who may do little: to get more than they were given."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api.site import DEADLINE_S, Site, site
from cador.api.routing import Limits
from cador.ports.stores import User
from support.world import PROJECT

pytestmark = pytest.mark.anyio

PASSWORD = "Correct-horse-1"
OWN = {"projectKey": PROJECT}
EVERYWHERE = {"namespace": "*"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with site(tmp_path_factory.mktemp("attacks")) as made:
        yield made


async def ok(reply: Any) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()


async def uid_of(server: Site, account: str) -> str:
    return str((await ok(await server.get("/openapi/users", params={"account": account})))["users"][0]["uid"])


async def new_user(server: Site, account: str, **fields: Any) -> tuple[str, str]:
    """Id and a token of a session."""
    made = await ok(await server.post("/openapi/users", json={"account": account, "password": PASSWORD, **fields}))
    login = await ok(await server.post("/api/v1/login", None, json={"account": account, "password": PASSWORD}))
    return str(made["uid"]), str(login["token"])


def document(kind: str, name: str, spec: str) -> str:
    return f"apiVersion: cador.dev/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"


async def test_a_limited_token_makes_no_administrators(server: Site) -> None:
    """Nor does it set the password of one: either would be the way to a token without limits."""
    admin, eve = await uid_of(server, "admin"), await uid_of(server, "eve")
    path = f"/openapi/users/{admin}/tokens"
    token = (await ok(await server.post(path, json={"name": "people", "scopes": ["admin_system"]})))["token"]
    groups, bindings = "/openapi/user-groups", "/openapi/policy/role-bindings"
    plain = (await ok(await server.post(groups, token, json={"name": "plain", "uids": [eve]})))["id"]
    bosses = (await ok(await server.post(groups, json={"name": "bosses"})))["id"]
    await ok(await server.post(f"{bindings}/group/{bosses}", params=EVERYWHERE, json={"roles": ["admin"]}))
    admins = {"identities": [{"identity_type": "user", "uid": eve}], "role": "admin"}
    for method, where, options in (
        ("POST", "/openapi/users", {"json": {"account": "evil", "password": PASSWORD, "admin": True}}),
        ("PUT", f"/openapi/users/{eve}", {"json": {"admin": True}}),
        ("PUT", f"/openapi/users/{admin}", {"json": {"password": PASSWORD}}),
        ("POST", f"{bindings}/user/{eve}", {"params": EVERYWHERE, "json": {"roles": ["admin"]}}),
        ("POST", bindings, {"params": EVERYWHERE, "json": admins}),
        ("POST", f"{bindings}/group/{plain}", {"params": EVERYWHERE, "json": {"roles": ["admin"]}}),
        ("POST", f"{groups}/{bosses}/users", {"json": {"uids": [eve]}}),
        ("PUT", f"{groups}/{bosses}", {"json": {"uids": [eve]}}),
        ("PUT", f"{groups}/{bosses}", {"json": {"name": "others", "uids": [eve]}}),
    ):
        reply = await server.call(method, where, token, **options)
        assert (reply.status_code, reply.json()["description"]) == (403, "permission denied"), (where, reply.text)
    for text in (
        document("User", "evil", f"{{password: {PASSWORD}, admin: true}}"),
        document("User", "admin", f"{{password: {PASSWORD}, admin: true}}"),
        document("RoleBinding", "eve", "{roles: [admin]}"),
        document("RoleBinding", '"group:plain"', "{roles: [admin]}"),
        document("Group", "bosses", "{uids: [eve]}"),
    ):
        done = (await ok(await server.post("/openapi/apply", token, content=text)))["results"]
        assert [(one["action"], "permission denied" in one["error"]) for one in done] == [("error", True)], done
    assert (await server.get("/openapi/users", "stranger-token-0000")).status_code == 403
    # what leads nowhere is what the scope is for
    await ok(await server.post("/openapi/users", token, json={"account": "harmless", "password": PASSWORD}))
    await ok(await server.call("PUT", f"{groups}/{bosses}", token, json={"description": "who decide"}))


async def test_nobody_takes_the_address_of_somebody_else(server: Site) -> None:
    """Approval tickets let people in by their e-mail address."""
    uid, token = await new_user(server, "mallory", email="mallory@example.com")
    path = f"/openapi/users/{uid}"
    assert (await server.call("PUT", path, token, json={"email": "boss@example.com"})).status_code == 403
    await ok(await server.call("PUT", path, token, json={"email": "mallory@example.com", "name": "Mal"}))
    shown = await ok(await server.get(path, token))
    assert (shown["email"], shown["name"]) == ("mallory@example.com", "Mal")
    await ok(await server.call("PUT", path, json={"email": "mal@example.com"}))


async def test_who_was_deleted_and_comes_back_finds_nothing(server: Site) -> None:
    """An OpenID provider's people have the same id each time."""
    person = User("fixed-id", "back", "Back", identity_type="oidc")
    await server.world.db.write(lambda tx: tx.people.add_user(person))
    await server.create("shared")
    group = await ok(await server.post("/openapi/user-groups", json={"name": "team", "uids": ["fixed-id"]}))
    bindings = "/openapi/policy/role-bindings"
    space = {"namespace": PROJECT}
    await ok(await server.post(f"{bindings}/group/{group['id']}", params=space, json={"roles": ["project-admin"]}))
    mode = {"name": "m", "user_ids": ["fixed-id"], "workflows": [{"name": "shared", "verbs": ["run_workflow"]}]}
    await ok(await server.post("/openapi/collaborations", params=OWN, json=mode))
    await ok(await server.call("DELETE", "/openapi/users/fixed-id"))
    await server.world.db.write(lambda tx: tx.people.add_user(person))
    made = await ok(await server.post("/openapi/users/fixed-id/tokens", json={"name": "t"}))
    mine = await ok(await server.get("/api/v1/me/permissions", made["token"]))
    assert (mine["projects"], mine["system"]) == ({}, [])
    assert (await ok(await server.get(f"/openapi/user-groups/{group['id']}")))["users"] == []
    (shared,) = await ok(await server.get("/openapi/collaborations", params=OWN))
    assert shared["user_ids"] == []


async def test_who_decides_nothing_learns_nothing(server: Site) -> None:
    """Whether there is such a task, or such a job in it, is for those who may look."""
    await server.create("quiet", "exit 1")
    await server.done("quiet", await server.run("quiet"))
    body = {"ignore": True}

    async def said(token: str, path: str) -> tuple[int, str]:
        reply = await server.post(f"/api/v1/tasks/{path}/decision", token, json=body)
        return reply.status_code, reply.json()["detail"]

    stranger = "stranger-token-0000"
    replies = {await said(stranger, path) for path in ("quiet/1/jobs/say", "quiet/1/jobs/none", "quiet/9/jobs/say")}
    assert replies == {(403, "permission denied")}
    reader = "reader-token-000000"
    assert (await said(reader, "quiet/1/jobs/say"))[0] == 403
    assert (await said(reader, "quiet/1/jobs/none"))[0] == 404
    assert (await said(reader, "quiet/9/jobs/say"))[0] == 404


async def test_nothing_sealed_is_taken_from_outside(server: Site) -> None:
    """Whoever got hold of a sealed secret would have it opened by a job of their own."""
    params = [{"name": "P", "type": "string", "value": "x"}]
    await server.create("opens", "exit 1", params=params)
    token = server.world.ctx.sealer.seal("of somebody else", "workflow/other")
    body: dict[str, Any] = {"workflow_key": "opens", "project_key": PROJECT, "inputs": [{"job_name": "say"}]}
    said = "a sealed secret cannot be sent: send its value"
    for change in (
        {"parameters": [{"name": "P", "value": token}]},
        {"inputs": [{"job_name": "say", "parameters": {"kv": [{"key": "WHO", "value": token}]}}]},
    ):
        reply = await server.post("/openapi/workflows/custom/task", json={**body, **change})
        assert (reply.status_code, reply.json()["description"]) == (400, said), reply.text
    await server.done("opens", await server.run("opens"))
    reply = await server.post("/api/v1/tasks/opens/1/retry", json={"parameters": {"P": token}})
    assert (reply.status_code, reply.json()["detail"]) == (400, said)


@pytest.mark.parametrize("how", ["role", "token"])
@pytest.mark.parametrize(
    "path", ["/api/v1/tasks/long/1/jobs/say/log", "/openapi/logs/sse/v4/workflow/long/1/say/10"], ids=["own", "sse"]
)
async def test_who_may_no_more_reads_no_further(how: str, path: str, tmp_path: Path) -> None:
    async with site(tmp_path, limits=Limits(recheck_s=0.02)) as made:
        await made.create("long", "echo begun; sleep 300")
        await made.run("long")
        ann = await uid_of(made, "ann")
        token = "reader-token-000000"
        async with asyncio.timeout(DEADLINE_S):
            while "begun" not in (await made.get("/openapi/logs/log/v4/workflow/long/1/say")).text:
                await made.world.ctx.engine.changed(1, 0.05)
            reading = asyncio.ensure_future(made.get(path, token))
            await asyncio.wait({reading}, timeout=0.2)
            assert not reading.done()
            if how == "role":
                gone = f"/openapi/policy/role-bindings/user/{ann}"
                await ok(await made.call("DELETE", gone, params={"namespace": PROJECT}))
            else:
                (row,) = await ok(await made.get(f"/openapi/users/{ann}/tokens"))
                await ok(await made.call("DELETE", f"/openapi/users/{ann}/tokens/{row['id']}"))
            reply = await reading
        assert "begun" in reply.text
        assert "event: end" not in reply.text
        await made.call("DELETE", "/openapi/workflows/custom", params={**OWN, "workflowKey": "long"})


async def test_a_stored_secret_is_not_sent_elsewhere(server: Site) -> None:
    """By who may change a database or registry, and has never seen its password."""
    uid, token = await new_user(server, "dba")
    actions = ["edit_dbinstance_management", "edit_registry_management", "edit_s3storage_management"]
    await ok(await server.post("/openapi/policy/roles", params=EVERYWHERE, json={"name": "dba", "actions": actions}))
    path = f"/openapi/policy/role-bindings/user/{uid}"
    await ok(await server.post(path, params=EVERYWHERE, json={"roles": ["dba"]}))
    database = {"name": "d", "type": "mysql", "host": "db.example.com", "port": 3306, "username": "ci", "password": "p"}
    registry = {"name": "r", "address": "https://r.example.com", "provider": "harbor", "namespace": "n"}
    storage = {"name": "s", "endpoint": "https://s3.example.com", "bucket": "logs", "ak": "k", "sk": "secret-key"}
    for where, body, change, secret in (
        ("dbinstance", database, {"host": "evil.example.com"}, "password"),
        ("dbinstance", database, {"type": "postgresql"}, "password"),
        ("registry", {**registry, "secret_key": "secret-key"}, {"address": "https://evil.example.com"}, "secret_key"),
        ("storage", storage, {"endpoint": "https://evil.example.com"}, "sk"),
    ):
        one = f"/openapi/system/{where}/{body['name']}"
        if (await server.get(one)).status_code != 200:
            await ok(await server.post(f"/openapi/system/{where}", json=body))
        without = {key: value for key, value in body.items() if key != secret}
        for sent in ({**without, **change}, {**body, **change, secret: "********"}):
            reply = await server.call("PUT", one, token, json=sent)
            said = f"{next(iter(change))} changes: the stored {secret} does not go there, send it again"
            assert (reply.status_code, reply.json()["description"]) == (400, said), reply.text
        await ok(await server.call("PUT", one, token, json=without))  # where it is, it stays
        await ok(await server.call("PUT", one, token, json={**body, **change}))
        await ok(await server.call("PUT", one, json=without))  # an administrator may
