"""The audit record: what each writing route leaves in it, how it is listed, and that it shows tampering."""

import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from api.kinds import ENVIRONMENT, FIRST, MANIFEST, ROWS, changed, place, removed
from api.site import ADMIN, Site, definition, site
from api.test_access import routes_of
from cador.api.routing import Route
from cador.operations import audit
from support.world import PROJECT

pytestmark = pytest.mark.anyio

OWN = {"projectKey": PROJECT}
SPACE = {"namespace": PROJECT}
PASSWORD = "Correct-horse-1"
NEEDS_A_CLUSTER = re.compile(r"^/openapi/environments(/production)?/(scale|image|helm|\{env\}/(service/|pod/))")
"""Refused without one, so nothing changes; what they will change is in the record of the cluster's operations."""
ELSEWHERE = {
    ("POST", "/api/aslan/workflow/v4/lint"): "stores nothing",
    ("POST", "/openapi/system/codehost/validate"): "stores nothing",
    **{
        ("POST", f"/openapi/system/{kind}/validate"): "stores nothing"
        for kind in ("dbinstance", "imapp", "mail", "projectmanagement", "sonar", "storage")
    },
    ("POST", "/api/v1/auth/oidc/token"): "opens a session as a login does, and needs a provider",
    ("POST", "/api/directory/workflowTask/create"): "starts as the route for product workflows does",
    ("POST", "/openapi/quality/testing/task"): "starts as any workflow does",
    ("POST", "/openapi/service/loader/load"): "needs a code host; stores services as the other routes do",
    ("POST", "/openapi/quality/codescan/{name}/task"): "starts as any workflow does",
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with site(tmp_path_factory.mktemp("audit")) as made:
        yield made


class Scribe:
    """Calls a route and looks for the entry that it left."""

    def __init__(self, server: Site) -> None:
        self.server = server
        self.routes: list[tuple[re.Pattern[str], Route]] = []
        for route in routes_of(server):
            for path in route.paths:
                pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path))
                self.routes.append((re.compile(pattern), route))
        self.tried: set[tuple[str, str]] = set()
        self.wrong: list[str] = []

    def check(self) -> None:
        assert not self.wrong, "\n".join(self.wrong)

    async def newest(self) -> Mapping[str, Any] | None:
        found = await self.server.world.db.read(lambda tx: tx.audit.list_entries(limit=1))
        return found[0] if found else None

    async def __call__(
        self, method: str, path: str, json: Any = None, *, by: str = "admin", token: str | None = ADMIN, **options: Any
    ) -> httpx2.Response:
        before = await self.newest()
        if json is not None:
            options["json"] = json
        reply = await self.server.call(method, path, token, **options)
        self.judge(method, path, reply, before, await self.newest(), by)
        return reply

    def judge(self, method: str, path: str, reply: httpx2.Response, before: Any, after: Any, by: str = "admin") -> None:
        route = self.route(method, path)
        self.tried.add((route.method, route.paths[0]))
        if reply.status_code != 200:
            self.wrong.append(f"{method} {path}: {reply.status_code} {reply.text[:300]}")
        elif after is None or (before is not None and after["id"] == before["id"]):
            self.wrong.append(f"{method} {path}: nothing in the audit record")
        elif after["actor"] != by or not after["action"] or not after["target"]:
            self.wrong.append(f"{method} {path}: {after}")

    def route(self, method: str, path: str) -> Route:
        fitting = [one for pattern, one in self.routes if one.method == method and pattern.fullmatch(path)]
        return min(fitting, key=lambda route: route.paths[0].count("{"))


async def test_every_writing_route_leaves_an_entry(server: Site) -> None:
    """Whatever can be reached with another method than GET: a route that is new needs a step here."""
    write = Scribe(server)
    for path, body in FIRST:
        address, _, query = path.partition("?")
        await write("POST", address, body, params=dict(pair.split("=") for pair in query.split("&") if pair))
    for row in ROWS:
        if row.kind == "environment" or row.kind == "production_environment":
            continue
        await write("POST", row.path, dict(row.body), params=row.query)
        key, value = row.change if row.kind != "projectmanagement" else ("system_identity", "row")
        body = {**row.body, key: value}
        if row.kind == "projectmanagement":
            body["spec"] = {**row.body["spec"], "tapd_company_id": "8"}
            part = {"spec": {"tapd_company_id": "9"}}
            await write("PATCH", await place(server, row), part)
        before, path = await write.newest(), row.path if row.change_by_list else await place(server, row)
        write.judge("PUT", path, await changed(server, row, body), before, await write.newest())
        if row.kind in ("buildtemplate", "servicetemplate", "codehost"):
            continue
        before, path = await write.newest(), row.path if row.kind == "build" else await place(server, row)
        write.judge("DELETE", path, await removed(server, row), before, await write.newest())
    await _services(write)
    await _environments(write)
    await _templates(write)
    await _people(write)
    await _workflows(write)
    await _projects(write)
    for row in ROWS:
        if row.kind in ("buildtemplate", "servicetemplate", "codehost"):
            before, path = await write.newest(), await place(server, row)
            write.judge("DELETE", path, await removed(server, row), before, await write.newest())
    write.check()
    due = {(route.method, route.paths[0]) for route in routes_of(server) if route.method not in ("GET", "HEAD")}
    missing = {key for key in due - write.tried - set(ELSEWHERE) if not NEEDS_A_CLUSTER.match(key[1])}
    assert not missing, f"no step in this test calls {sorted(missing)}"


async def _services(write: Scribe) -> None:
    for path in ("/openapi/service/yaml", "/openapi/service/yaml/production"):
        await write("POST", f"{path}/raw", {"service_name": "extra", "yaml": MANIFEST}, params=OWN)
        await write("PUT", f"{path}/extra", {"type": "k8s", "yaml": MANIFEST + "# more"}, params=OWN)
        variables = {"service_variable_kvs": [{"key": "k", "value": "v", "type": "string"}]}
        await write("PUT", f"{path}/extra/variable", variables, params=OWN)
        await write("DELETE", f"{path}/extra", params=OWN)


async def _environments(write: Scribe) -> None:
    for path in ("/openapi/environments", "/openapi/environments/production"):
        await write("POST", path, {**ENVIRONMENT, "env_key": "aud", "namespace": "shop-aud"}, params=OWN)
        await write("PUT", f"{path}/aud", {"env_name": "Another"}, params=OWN)
        variables = {"global_variables": [{"key": "k", "value": "v"}]}
        await write("PUT", f"{path}/aud/variable", variables, params=OWN)
        await write("DELETE", f"{path}/service/yaml", {"env_key": "aud", "service_names": ["web"]}, params=OWN)
        await write("POST", f"{path}/service/yaml", {"env_key": "aud", "service_list": [{"service_name": "web"}]},
                    params=OWN)  # fmt: skip
        services = {"service_list": [{"service_name": "web", "variable_kvs": [{"key": "x", "value": "1"}]}]}
        await write("PUT", f"{path}/aud/services", services, params=OWN)
        await write("DELETE", f"{path}/aud", params={**OWN, "is_delete": "false"})


async def _templates(write: Scribe) -> None:
    for path in ("/openapi/service/template", "/openapi/service/template/production"):
        body = {"service_name": "loaded", "project_key": PROJECT, "template_name": "row", "variable_yaml": []}
        await write("POST", f"{path}/load/yaml", body)
    for path in ("/openapi/service/yaml", "/openapi/service/yaml/production"):
        await write("DELETE", f"{path}/loaded", params=OWN)
    build = next(row for row in ROWS if row.kind == "build")
    await write("POST", "/openapi/build", {**build.body, "name": "from"}, params=OWN)
    await write(
        "PUT",
        "/openapi/build/from/template",
        {"template_name": "row", "target_services": [{"service_name": "web", "service_module": "web"}]},
        params=OWN,
    )
    await write("DELETE", "/openapi/build", params={**OWN, "name": "from"})
    await write("PUT", "/api/v1/secrets/deploy", {"data": {"token": "planted"}}, params=OWN)
    await write("DELETE", "/api/v1/secrets/deploy", params=OWN)
    document = f"apiVersion: cador.dev/v1\nkind: RoleBinding\nmetadata: {{name: ann, project: {PROJECT}}}\n"
    await write("POST", "/openapi/apply", content=document + "spec: {roles: [read-project-only]}\n")
    await write("PUT", "/api/v1/settings", {"engine.max_running_tasks": 7})


async def _people(write: Scribe) -> None:
    users = "/openapi/users"
    reply = await write("POST", users, {"account": "new", "name": "New", "password": PASSWORD})
    uid = reply.json()["uid"]
    await write("PUT", f"{users}/{uid}", {"phone": "1"})
    token = (await write("POST", f"{users}/{uid}/tokens", {"name": "t"})).json()
    await write("POST", f"{users}/{uid}/tokens/{token['id']}/rotate")
    await write("DELETE", f"{users}/{uid}/tokens/{token['id']}")
    login = await write(
        "POST", "/api/v1/login", {"account": "new", "password": PASSWORD}, by="new", token=None
    )  # fmt: skip
    await write("POST", "/api/v1/logout", by="new", token=login.json()["token"])
    groups = "/openapi/user-groups"
    gid = (await write("POST", groups, {"name": "g", "uids": []})).json()["id"]
    await write("PUT", f"{groups}/{gid}", {"description": "d"})
    await write("POST", f"{groups}/{gid}/users", {"uids": [uid]})
    roles, bindings = "/openapi/policy/roles", "/openapi/policy/role-bindings"
    await write("POST", roles, {"name": "r", "actions": ["get_test"]}, params=SPACE)
    await write("PUT", f"{roles}/r", {"desc": "d"}, params=SPACE)
    await write("POST", bindings, {"role": "r", "identities": [{"uid": uid}]}, params=SPACE)
    await write("POST", f"{bindings}/user/{uid}", {"roles": ["read-only"]}, params=SPACE)
    await write("DELETE", f"{bindings}/user/{uid}", params=SPACE)
    await write("POST", f"{bindings}/group/{gid}", {"roles": ["r"]}, params=SPACE)
    await write("DELETE", f"{bindings}/group/{gid}", params=SPACE)
    await write("DELETE", f"{roles}/r", params=SPACE)
    shared = {"name": "c", "group_ids": [gid], "workflows": []}
    await write("POST", "/openapi/collaborations", shared, params=OWN)
    await write("PUT", "/openapi/collaborations/c", {**shared, "user_ids": [uid]}, params=OWN)
    await write("DELETE", "/openapi/collaborations/c", params=OWN)
    await write("DELETE", f"{groups}/{gid}/users/{uid}")
    await write("DELETE", f"{groups}/{gid}")
    await write("DELETE", f"{users}/{uid}")


async def _workflows(write: Scribe) -> None:
    server, v4, task = write.server, "/api/aslan/workflow/v4", "/openapi/workflows/custom/task"
    inputs = [{"job_name": "say", "job_type": "freestyle", "parameters": {}}]
    await write("POST", v4, definition("w", "exit 1"))
    await write("PUT", f"{v4}/w", definition("w", "exit 2"), params=OWN)
    run = {"workflow_key": "w", "project_key": PROJECT, "inputs": inputs}
    await write("POST", task, run)
    await server.done("w", 1)
    await write("PUT", "/openapi/workflows/custom/w/task/1", {"remark": "x"})
    await write("PUT", "/api/v1/tasks/w/1/remark", {"remark": "y"})
    for path, query in (
        ("/openapi/workflows/custom/w/task/1", OWN),
        ("/api/v1/tasks/w/1/retry", {}),
        ("/api/directory/workflowTask/id/1/pipelines/w/restart", {}),
    ):
        await write("POST", path, {} if "retry" in path else None, params=query)
        await server.done("w", 1)
    await write("DELETE", task, params={"taskId": "1", "workflowKey": "w"})
    await write("POST", "/api/directory/workflowTask/id/1/pipelines/w/cancel")
    waiting = {
        "name": "ask",
        "type": "approval",
        "spec": {
            "type": "native",
            "timeout": 60,
            "native_approval": {
                "needed_approvers": 1,
                "approve_users": [{"user_id": "ann", "user_name": "Ann", "type": "user"}],
            },
        },
    }
    body = definition("a")
    body["stages"] = [{"name": "s", "parallel": False, "jobs": [waiting]}]
    await write("POST", v4, body)
    await write(
        "POST",
        task,
        {
            "workflow_key": "a",
            "project_key": PROJECT,
            "inputs": [{"job_name": "ask", "job_type": "approval", "parameters": {}}],
        },
    )
    write.check()
    await server.world.until("a", 1, lambda task: task.row.status == "running")
    vote = {"task_id": 1, "workflow_key": "a", "stage_name": "s", "approve": True}
    await write("POST", f"{task}/approve", vote, by="ann", token="reader-token-000000")
    body = definition("m", "exit 1")
    body["stages"][0]["manual_exec"] = {"enabled": True}
    body["stages"][0]["jobs"][0]["error_policy"] = {
        "policy": "manual_check", "approval_users": [{"type": "user", "user_id": "ann", "user_name": "Ann"}],
    }  # fmt: skip
    await write("POST", v4, body)
    await write("POST", task, {**run, "workflow_key": "m"})
    manual = "/openapi/workflows/custom/m/task/1/manual-exec"
    await write("POST", manual, {"stage_name": "talk", "inputs": []}, params=OWN)
    write.check()
    asking = "wait_for_manual_error_handling"
    await server.world.until("m", 1, lambda task: task.stages[0].jobs[0].row.status == asking)
    await write("POST", "/api/v1/tasks/m/1/jobs/say/decision", {"ignore": True})
    await write("DELETE", "/openapi/workflows/custom", params={**OWN, "workflowKey": "a"})
    view, members = "/openapi/workflows/view", [{"workflow_key": "w", "workflow_type": "custom", "enabled": True}]
    await write("POST", view, {"project_key": PROJECT, "name": "mine", "workflow_list": members})
    hidden = [{**members[0], "enabled": False}]
    await write("PUT", f"{view}/mine", {"workflow_list": hidden}, params=OWN)
    await write("DELETE", f"{view}/mine", params=OWN)
    tickets, ticket = "/openapi/ticket/approval", {"project_key": PROJECT, "approval_id": "T-1", "status": 1}
    await write("POST", tickets, ticket)
    await write("PUT", tickets, {**ticket, "envs": ["dev"]})
    await write("PUT", f"{tickets}/T-1", {**ticket, "status": 0})
    await write("DELETE", f"{tickets}/T-1", params=OWN)
    run = {"workflow_key": "w", "project_key": PROJECT, "input": {}}
    await write("POST", "/openapi/workflows/product/task", run)
    await write("DELETE", "/openapi/workflows/product", params={**OWN, "workflowKey": "w"})
    await write("DELETE", f"{v4}/m")


async def _projects(write: Scribe) -> None:
    path, query = "/openapi/projects/project", {"projectKey": "new"}
    await write("POST", path, {"project_key": "new", "project_name": "New", "project_type": "yaml"})
    await write("PUT", path, {"description": "d"}, params=query)
    kvs = [{"key": "REGION", "value": "eu", "type": "string", "options": [], "desc": ""}]
    await write("PUT", f"{path}/globalVariable", {"variables": kvs}, params=query)
    whole = {"project_key": "whole", "project_name": "Whole", "project_type": "yaml"}
    services = [{"service_name": "web", "source": "yaml", "yaml": MANIFEST}]
    await write("POST", f"{path}/init/yaml", {**whole, "service_list": services})
    await write("DELETE", path, params={**query, "isDelete": "true"})


async def test_the_record_is_listed(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        for number in range(5):
            await made.create(f"w{number}")
        await made.post("/openapi/users", json={"account": "new", "name": "New", "password": PASSWORD})

        async def page(**query: Any) -> Any:
            reply = await made.get("/api/v1/audit", params=query)
            assert reply.status_code == 200, reply.text
            return reply.json()

        first = await page(limit=2, action="create_workflow")
        assert [entry["target"] for entry in first["entries"]] == ["workflow/w4", "workflow/w3"]
        entry = first["entries"][0]
        assert (entry["account"], entry["project"], entry["detail"]) == ("admin", PROJECT, {})
        assert entry["at"].endswith("Z")
        targets = []
        before = first["next_before"]
        while before is not None:
            found = await page(limit=2, action="create_workflow", before=before)
            targets += [entry["target"] for entry in found["entries"]]
            before = found["next_before"]
        assert targets == ["workflow/w2", "workflow/w1", "workflow/w0"]
        assert (await page(account="nobody"))["entries"] == []
        assert {entry["action"] for entry in (await page(project=PROJECT))["entries"]} == {"create_workflow"}
        new = (await page(action="create_user", limit=1))["entries"][0]
        assert new["target"] == "user/new"
        assert PASSWORD not in repr(new)


async def test_tampering_shows(tmp_path: Path) -> None:
    """Each way is tried on the database itself, over what the route says; what was noted before shows a record that
    was written anew as a whole."""
    async with site(tmp_path) as made:
        for number in range(6):
            await made.create(f"w{number}")

        async def verdict(**query: Any) -> Any:
            return (await made.get("/api/v1/audit/verify", params=query)).json()

        whole = await verdict()
        assert (whole["ok"], whole["broken"]) == (True, "")
        noted = {"known_id": whole["last_id"], "known_hash": whole["last_hash"]}
        await made.create("later")
        assert (await verdict(**noted))["ok"]
        assert "was noted" in (await verdict(known_id=whole["last_id"], known_hash="0" * 64))["broken"]
        entries = (await made.get("/api/v1/audit", params={"limit": 1000})).json()["entries"]
        ids = sorted(entry["id"] for entry in entries)
        victim, newest = ids[3], ids[-1]

        async def change(*statements: str) -> None:
            def do(tx: Any) -> None:
                for statement in statements:
                    tx.connection.execute(text(statement))

            await made.world.db.write(do)

        await change("CREATE TABLE kept AS SELECT * FROM audit")
        for statements, shown in (
            ((f"UPDATE audit SET actor = 'eve' WHERE id = {victim}",), victim),  # noqa: S608
            ((f"DELETE FROM audit WHERE id = {victim}",), ids[4]),  # noqa: S608
            (
                (
                    f"UPDATE audit SET id = -1 WHERE id = {victim}",  # noqa: S608
                    f"UPDATE audit SET id = {victim} WHERE id = {ids[4]}",  # noqa: S608
                    f"UPDATE audit SET id = {ids[4]} WHERE id = -1",  # noqa: S608
                ),
                victim,
            ),
            ((f"DELETE FROM audit WHERE id = {newest}",), 0),  # noqa: S608
        ):
            await change(*statements)
            found = await verdict()
            assert (found["ok"], found["broken_id"]) == (False, shown), (statements, found)
            assert found["broken"]
            await change("DELETE FROM audit", "INSERT INTO audit SELECT * FROM kept")
        assert (await verdict())["ok"]


async def test_the_chain_is_checked_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "STEP", 3)
    async with site(tmp_path) as made:
        notes = []
        for number in range(8):
            await made.create(f"w{number}")
            found = (await made.get("/api/v1/audit/verify")).json()
            assert found["ok"], found
            notes.append((found["entries"], found["last_id"], found["last_hash"]))
        for entries, last_id, last_hash in notes:
            found = (
                await made.get("/api/v1/audit/verify", params={"known_id": last_id, "known_hash": last_hash})
            ).json()
            assert (found["ok"], found["entries"]) == (True, notes[-1][0]), (entries, found)
        missing = (await made.get("/api/v1/audit/verify", params={"known_id": 10**6, "known_hash": "x"})).json()
        assert (missing["ok"], missing["broken"]) == (False, "entry 1000000 is missing")
