"""Databases and project management systems over HTTP and in files, and jobs that use them."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from api.site import PROJECT, Site, definition, site
from openapi.conformity import as_described
from support.http_peer import peer, reply
from support.mariadb import PASSWORD, MariaDB, mariadb  # noqa: F401 - a fixture
from support.smtp import PASSWORD as MAIL_PASSWORD
from support.smtp import USER, MailServer, mail_server
from support.sonar import TOKEN as SONAR_TOKEN
from support.sonar import sonarqube
from support.tapd import PROJECT as TAPD_PROJECT
from support.tapd import SECRET, FakeTapd, serving

pytestmark = pytest.mark.anyio

MASK = "********"
DATABASES, MANAGEMENT = "/openapi/system/dbinstance", "/openapi/system/projectmanagement"
OLD_MANAGEMENT = "/api/aslan/system/project_management"
DATABASE = {
    "name": "main",
    "type": "mysql",
    "projects": [],
    "host": "db.example.com",
    "port": 3306,
    "username": "ci",
    "password": "planted-database",
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with site(tmp_path_factory.mktemp("site")) as made:
        made.client.event_hooks = {"response": [as_described]}
        yield made


@pytest.fixture(scope="module")
def tapd() -> Iterator[FakeTapd]:
    with serving() as fake:
        yield fake


async def ok(reply: Any) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()


async def described(reply: Any) -> str:
    assert reply.status_code == 400, reply.text
    found: str = reply.json()["description"]
    return found


async def stored(server: Site, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Add one; returns it as shown."""
    named = "name" if path == DATABASES else "system_identity"
    await ok(await server.post(path, json=body))
    return next(one for one in await ok(await server.get(path)) if one[named] == body[named])


def job(kind: str, spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": "one", "jobs": [{"name": "job", "type": kind, "spec": spec}]}]


async def run(server: Site, key: str, kind: str, parameters: dict[str, Any]) -> Any:
    inputs = [{"job_name": "job", "job_type": kind, "parameters": parameters}]
    body = {"workflow_key": key, "project_key": PROJECT, "inputs": inputs}
    return await server.post("/openapi/workflows/custom/task", json=body)


async def test_both_paths_and_both_shapes_of_a_port(server: Site) -> None:
    shown = await stored(server, DATABASES, {**DATABASE, "name": "paths"})
    assert (shown["port"], shown["password"]) == ("3306", MASK)
    other = "/api/aslan/system/dbinstance"
    assert await ok(await server.get(f"{other}/{shown['id']}")) == shown
    assert shown in await ok(await server.get(f"{other}/detail"))
    await ok(await server.call("PUT", f"{other}/paths", json={**DATABASE, "name": "paths", "port": "3307"}))
    assert (await ok(await server.get(f"{DATABASES}/{shown['id']}")))["port"] == "3307"
    await ok(await server.call("DELETE", f"{other}/{shown['id']}"))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"type": "oracle"}, "type must be one of mysql, mariadb, postgresql"),
        ({"host": ""}, "host cannot be empty"),
        ({"host": "mysql://db"}, "host must be a host name or an address, without scheme and port"),
        ({"port": "many"}, "port must be between 1 and 65535"),
        ({"port": 70000}, "port must be between 1 and 65535"),
        ({"port": ""}, "port must be between 1 and 65535"),
        ({"port": True}, "port"),
        ({"username": ""}, "username cannot be empty"),
        ({"name": "a/b"}, "name must be at most 128 characters"),
        ({"password": MASK}, "password: ******** keeps a stored secret, but none is stored"),
    ],
)
async def test_faults_of_databases(server: Site, change: dict[str, Any], text: str) -> None:
    assert text in await described(await server.post(DATABASES, json={**DATABASE, "name": "faulty", **change}))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"type": "trello"}, "type must be one of jira, meego, pingcode, tapd"),
        ({"system_identity": ""}, "system_identity cannot be empty"),
        ({"spec": {}}, "spec.tapd_address cannot be empty"),
        ({"spec": {"tapd_address": "x", "tapd_client_id": "a", "tapd_client_secret": "b"}}, "needs to be a valid URL"),
        ({"spec": {"tapd_address": "https://x", "tapd_client_id": "a"}}, "spec.tapd_client_secret cannot be empty"),
        ({"spec": {"tapd_address": ["https://x"]}}, "tapd_address"),
        ({"type": "jira", "spec": {}}, "spec.jira_host cannot be empty"),
    ],
)  # fmt: skip
async def test_faults_of_project_management(server: Site, change: dict[str, Any], text: str) -> None:
    body = {"system_identity": "faulty", "type": "tapd", "spec": {}}
    assert text in await described(await server.post(MANAGEMENT, json={**body, **change}))


async def test_a_nested_secret_stays_when_it_is_left_out(server: Site, tapd: FakeTapd) -> None:
    await stored(server, MANAGEMENT, {"system_identity": "nested", "type": "tapd", "spec": tapd.spec})
    spec = {key: value for key, value in tapd.spec.items() if key != "tapd_client_secret"}
    await ok(await server.call("PUT", f"{MANAGEMENT}/nested", json={"type": "tapd", "spec": spec}))
    found = await server.world.db.read(lambda tx: tx.resources.find("projectmanagement", "", "nested"))
    assert server.world.sealer.open(found.document["spec"]["tapd_client_secret"]) == SECRET
    assert SECRET not in (await server.get(f"{MANAGEMENT}/nested")).text


async def test_a_project_is_shown_what_it_may_use(server: Site) -> None:
    for name, projects in (("all", ["<all_projects>"]), ("star", ["*"]), ("ours", [PROJECT]), ("theirs", ["other"])):
        await stored(server, DATABASES, {**DATABASE, "name": name, "projects": projects})
    path = f"{DATABASES}/project"
    found = await ok(await server.get(path, "reader-token-000000", params={"projectName": PROJECT}))
    assert {one["name"] for one in found} >= {"all", "star", "ours"}
    assert "theirs" not in {one["name"] for one in found}
    assert set(found[0]) == {"id", "name", "type", "projects"}
    assert (await server.get(path, "stranger-token-0000", params={"projectName": PROJECT})).status_code == 403
    assert (await server.get(f"{DATABASES}/detail", "manager-token-00000")).status_code == 403
    assert (await server.post(f"{DATABASES}/validate", "manager-token-00000", json=DATABASE)).status_code == 403


async def test_what_a_workflow_names_is_not_deleted(server: Site) -> None:
    shown = await stored(server, DATABASES, {**DATABASE, "name": "used"})
    spec = {"id": shown["id"], "type": "mysql", "sql": "select 1;", "source": "fixed"}
    await ok(await server.post("/api/aslan/workflow/v4", json=definition("uses", stages=job("sql", spec))))
    reply = await server.call("DELETE", f"{DATABASES}/{shown['id']}")
    assert reply.status_code in (400, 409)
    assert "is used by workflow uses" in reply.text


async def test_a_start_says_what_it_cannot_find(server: Site) -> None:
    shown = await stored(server, DATABASES, {**DATABASE, "name": "hidden", "projects": ["other"]})
    spec = {"id": shown["id"], "type": "mysql", "sql": "select 1;", "source": "runtime"}
    await ok(await server.post("/api/aslan/workflow/v4", json=definition("lost", stages=job("sql", spec))))
    assert await described(await run(server, "lost", "sql", {})) == f"failed to find database instance {shown['id']}"
    assert "failed to find database instance nowhere" in await described(
        await run(server, "lost", "sql", {"database_name": "nowhere"})
    )


async def test_tapd_from_the_request_to_the_detail(server: Site, tapd: FakeTapd) -> None:
    body = {"system_identity": "team", "type": "tapd", "spec": tapd.spec}
    await ok(await server.post(f"{MANAGEMENT}/validate", json=body))
    shown = await stored(server, MANAGEMENT, body)
    spec = {"tapd_id": shown["id"], "source": "runtime", "type": "iteration", "project_id": "", "iterations": []}
    await ok(await server.post("/api/aslan/workflow/v4", json=definition("tapd", stages=job("tapd", spec))))
    parameters = {"project_id": TAPD_PROJECT, "project_name": "", "status": "done", "iteration_ids": tapd.ids[:2]}
    number = (await ok(await run(server, "tapd", "tapd", parameters)))["task_id"]
    detail = await server.done("tapd", number)
    assert detail["status"] == "passed", detail
    [done] = detail["stages"][0]["jobs"]
    assert done["spec"]["tapd_address"] == tapd.spec["tapd_address"]
    assert [one["iteration_name"] for one in done["spec"]["iterations"]] == ["Iteration 1", "Iteration 2"]
    assert tapd.changes[-2:] == [(ident, "done") for ident in tapd.ids[:2]]
    number = (await ok(await run(server, "tapd", "tapd", {**parameters, "iteration_ids": ["77"]})))["task_id"]
    detail = await server.done("tapd", number)
    [failed] = detail["stages"][0]["jobs"]
    assert (detail["status"], failed["status"]) == ("failed", "failed")
    assert (
        failed["error"]
        == failed["spec"]["iterations"][0]["error"]
        == f"iteration 77 not found in project {TAPD_PROJECT}"
    )
    assert SECRET not in str(detail)


async def test_trying_out_uses_a_stored_secret_for_its_own_address_alone(server: Site, tapd: FakeTapd) -> None:
    body = {"system_identity": "tried", "type": "tapd", "spec": tapd.spec}
    await stored(server, MANAGEMENT, body)
    masked = {**tapd.spec, "tapd_client_secret": MASK}
    await ok(await server.post(f"{MANAGEMENT}/validate", json={**body, "spec": masked}))
    elsewhere = {**masked, "tapd_address": "http://127.0.0.1:1"}
    text = await described(await server.post(f"{MANAGEMENT}/validate", json={**body, "spec": elsewhere}))
    assert text == "******** stands for a stored secret, and none is stored for this address"
    wrong = {**tapd.spec, "tapd_client_secret": "not-it"}
    text = await described(await server.post(f"{MANAGEMENT}/validate", json={**body, "spec": wrong}))
    assert text == "TAPD does not log in: invalid client"
    jira = {"type": "jira", "system_identity": "j", "spec": {"jira_host": "https://jira.example.com"}}
    text = await described(await server.post(f"{MANAGEMENT}/validate", json=jira))
    assert text == "this server does not call systems of type jira"
    unreached = {**DATABASE, "host": "127.0.0.1", "port": 1}
    text = await described(await server.post(f"{DATABASES}/validate", json=unreached))
    assert text.startswith("cannot connect to database main (127.0.0.1:1): ")


async def test_tapd_is_asked_for_what_a_workflow_may_name(server: Site, tapd: FakeTapd) -> None:
    shown = await stored(server, MANAGEMENT, {"system_identity": "asked", "type": "tapd", "spec": tapd.spec})
    path, manager = f"/api/aslan/system/tapd/{shown['id']}/projects", "manager-token-00000"
    [project] = await ok(await server.get(path, manager))
    assert (project["id"], project["status"], project["begin_date"]) == (TAPD_PROJECT, "normal", "")
    found = await ok(await server.get(f"{path}/{TAPD_PROJECT}/iterations", manager))
    assert [one["id"] for one in found] == tapd.ids
    assert found[0].keys() >= {"name", "startdate", "status"}
    assert await ok(await server.get(f"{path}/{TAPD_PROJECT}/iterations", params={"status": "closed"})) == []
    for token in ("reader-token-000000", "stranger-token-0000"):
        assert (await server.get(path, token)).status_code == 403
    unknown = await server.get("/api/aslan/system/tapd/none/projects", manager)
    assert unknown.json()["code"] == 6953
    jira = await stored(
        server, MANAGEMENT, {"system_identity": "a jira", "type": "jira", "spec": {"jira_host": "https://j"}}
    )
    text = await described(await server.get(f"/api/aslan/system/tapd/{jira['id']}/projects"))
    assert text == "this server does not call systems of type jira"
    # what a project is shown of them
    listed = await ok(await server.get(f"{OLD_MANAGEMENT}/project", manager, params={"projectName": PROJECT}))
    assert {"id": shown["id"], "system_identity": "asked", "type": "tapd"} in listed
    assert (await server.get(f"{OLD_MANAGEMENT}/project", manager)).status_code == 400
    strange = await server.get(f"{OLD_MANAGEMENT}/project", "stranger-token-0000", params={"projectName": PROJECT})
    assert strange.status_code == 403


async def test_a_part_is_changed_and_the_rest_stays(server: Site, tapd: FakeTapd) -> None:
    shown = await stored(server, MANAGEMENT, {"system_identity": "part", "type": "tapd", "spec": tapd.spec})
    one = f"{OLD_MANAGEMENT}/{shown['id']}"
    await ok(await server.call("PATCH", one, json={"spec": {"tapd_company_id": "9", "tapd_client_secret": MASK}}))
    found = await server.world.db.read(lambda tx: tx.resources.find("projectmanagement", "", "part").document["spec"])
    assert server.world.sealer.open(found.pop("tapd_client_secret")) == SECRET
    assert found == {**{key: value for key, value in tapd.spec.items() if key in found}, "tapd_company_id": "9"}
    for part, said in (
        ({"system_identity": "other"}, "system_identity cannot be changed"),
        ({"spec": {"tapd_address": "x"}}, "spec.tapd_address needs to be a valid URL"),
        ({"spec": []}, "spec: must be an object"),
        ({"type": "jira"}, "spec.jira_host cannot be empty"),
    ):
        assert await described(await server.call("PATCH", one, json=part)) == said
    jira = {"type": "jira", "spec": {"jira_host": "https://jira.example.com", "jira_token": "planted-jira"}}
    await ok(await server.call("PATCH", one, json=jira))
    spec = (await ok(await server.get(f"{MANAGEMENT}/part")))["spec"]
    assert (spec["jira_token"], "tapd_address" in spec) == (MASK, False)
    missing = await server.call("PATCH", f"{MANAGEMENT}/none", json={})
    assert missing.json()["code"] == 6951


async def test_systems_are_tried_out_before_they_are_stored(server: Site) -> None:
    """Each kind over its own routes, its stored secret used for its own address alone."""
    with sonarqube() as sonar:
        body = {"system_identity": "tried", "server_address": sonar.url, "token": SONAR_TOKEN}
        for path in ("/openapi/system/sonar", "/api/aslan/system/sonar", "/api/aslan/system/sonar/integration"):
            await ok(await server.post(f"{path}/validate", json=body))
        text = await described(await server.post("/openapi/system/sonar/validate", json={**body, "token": "wrong"}))
        assert text == "SonarQube does not know the token"
        await ok(await server.post("/openapi/system/sonar", json=body))
        await ok(await server.post("/openapi/system/sonar/validate", json={**body, "token": MASK}))
    async with mail_server(MailServer()) as listening:
        body = {
            "name": "tried",
            "host": "127.0.0.1",
            "port": listening.port,
            "username": USER,
            "password": MAIL_PASSWORD,
        }
        await ok(await server.post("/openapi/system/mail/validate", json=body))
        await ok(await server.post("/openapi/system/mail", json=body))
        await ok(await server.post("/openapi/system/mail/validate", json={**body, "password": MASK}))
        text = await described(await server.post("/openapi/system/mail/validate", json={**body, "password": "no"}))
        assert "does not log ci in" in text
    with peer(lambda asked, handler: reply(handler, 200, {"code": 1, "msg": "unknown app"})) as messenger:
        app = {"name": "tried", "type": "lark", "app_id": "a", "app_secret": "planted-app", "host": messenger.url}
        for path in ("/openapi/system/imapp", "/api/aslan/system/im_app"):
            text = await described(await server.post(f"{path}/validate", json=app))
            assert text == "the messenger does not log in: unknown app"
        moved = {**app, "app_secret": MASK, "host": "http://127.0.0.1:1"}
        await ok(await server.post("/openapi/system/imapp", json=app))
        asked = len(messenger.asked)
        text = await described(await server.post("/openapi/system/imapp/validate", json=moved))
        assert text == "******** stands for a stored secret, and none is stored for this address"
        assert len(messenger.asked) == asked
    with peer(lambda asked, handler: reply(handler, 200, b"<ListBucketResult/>", "application/xml")) as store:
        bucket = {"endpoint": store.url, "bucket": "kept", "ak": "a", "sk": "planted-sk"}
        for path in ("/openapi/system/storage", "/api/aslan/system/s3storage"):
            await ok(await server.post(f"{path}/validate", json=bucket))
        await ok(await server.post("/openapi/system/storage", json=bucket))
        await ok(await server.post("/openapi/system/storage/validate", json={**bucket, "sk": MASK}))
    listed = await ok(
        await server.get("/api/aslan/system/s3storage/project", "reader-token-000000", params={"projectName": PROJECT})
    )
    [brief] = [one for one in listed if one["bucket"] == "kept"]
    assert set(brief) == {"id", "name", "endpoint", "bucket", "is_default", "projects"}
    for kind in ("sonar", "mail", "imapp", "storage"):
        refused = await server.post(f"/openapi/system/{kind}/validate", "manager-token-00000", json={})
        assert refused.status_code == 403
    faulty = await server.post("/openapi/system/mail/validate", json={"name": "x", "host": ""})
    assert await described(faulty) == "host cannot be empty"


FILE = """
version: "1"
project: {key: filed, name: Filed}
system:
  databases:
    filed-db: {type: postgresql, host: db.example.com, port: 5432, username: ci, password: "${DB}"}
  projectmanagement:
    filed-tapd: {type: tapd, tapd_address: "https://tapd.example.com", tapd_client_id: a, tapd_client_secret: "${T}"}
workflows:
  filed:
    stages:
      - name: one
        jobs:
          - {name: sql, type: sql, spec: {id: filed-db, type: postgresql, sql: "select 1;", source: fixed}}
          - {name: tapd, type: tapd, spec: {tapd_id: filed-tapd, project_id: "7", status: open, iterations: []}}
"""


async def test_they_stand_in_a_file_and_workflows_name_them(server: Site) -> None:
    text = FILE.replace("${DB}", "planted-db").replace("${T}", "planted-tapd")
    params = {"allowPlainSecrets": "true"}
    reply = await server.post("/openapi/apply", content=text.encode(), params=params)
    actions = {f"{one['kind']}/{one['name']}": one["action"] for one in (await ok(reply))["results"]}
    assert actions["Database/filed-db"] == actions["ProjectManagement/filed-tapd"] == "created"
    again = await server.post("/openapi/apply", content=text.encode(), params=params)
    assert {one["action"] for one in (await ok(again))["results"]} == {"unchanged"}
    row = await server.world.db.read(lambda tx: tx.workflows.find("filed"))
    database = await server.world.db.read(lambda tx: tx.resources.find("database", "", "filed-db"))
    tapd = await server.world.db.read(lambda tx: tx.resources.find("projectmanagement", "", "filed-tapd"))
    assert database.uid in row.definition
    assert tapd.uid in row.definition
    exported = (await server.get("/openapi/export", params={"projectKey": "filed"})).text
    assert "filed-db" in exported
    assert "planted" not in exported


@pytest.mark.real
async def test_sql_from_the_request_to_the_detail(server: Site, mariadb: MariaDB) -> None:  # noqa: F811 - the fixture
    where = {key: mariadb.arguments[key] for key in ("type", "host", "port", "username", "password")}
    body = {"name": "real", "projects": [PROJECT], **where}
    await ok(await server.post(f"{DATABASES}/validate", json=body))
    text = await described(await server.post(f"{DATABASES}/validate", json={**body, "password": "not-the-password"}))
    assert "denied" in text
    assert "not-the-password" not in text
    shown = await stored(server, DATABASES, body)
    spec = {"id": shown["id"], "type": "mariadb", "sql": "show databases;", "source": "runtime"}
    await ok(await server.post("/api/aslan/workflow/v4", json=definition("sql", stages=job("sql", spec))))
    sql = "create table ci.api (a int); insert into ci.api values (1), (2); select * from ci.nothing; select 3;"
    number = (await ok(await run(server, "sql", "sql", {"database_name": "real", "sql": sql})))["task_id"]
    detail = await server.done("sql", number)
    [failed] = detail["stages"][0]["jobs"]
    assert failed["status"] == "failed"
    assert failed["error"].startswith('exec SQL "select * from ci.nothing;" error: Error 1146 (42S02): ')
    assert (failed["spec"]["type"], failed["spec"]["sql"]) == ("mariadb", sql)
    results = [(one["status"], one["rows_affected"]) for one in failed["spec"]["results"]]
    assert results == [("success", 0), ("success", 2), ("failed", 0), ("not_exec", 0)]
    assert PASSWORD not in str(detail)
    assert PASSWORD not in server.world.log("sql", number, "job")
    number = (await ok(await run(server, "sql", "sql", {"sql": "select sleep(60);"})))["task_id"]
    await server.world.until(
        "sql", number, lambda d: "statement 1 of 1" in server.world.log("sql", number, "job"), within_s=20
    )
    cancelled = await server.call(
        "DELETE", "/openapi/workflows/custom/task", params={"taskId": number, "workflowKey": "sql"}
    )
    await ok(cancelled)
    detail = await server.done("sql", number)
    [stopped] = detail["stages"][0]["jobs"]
    assert (detail["status"], stopped["status"]) == ("cancelled", "cancelled")
    assert [one["status"] for one in stopped["spec"]["results"]] == ["failed"]


@pytest.mark.real
async def test_a_server_that_is_stopped_lets_statements_end_or_says_why(
    tmp_path: Any,
    mariadb: MariaDB,  # noqa: F811 - the fixture
) -> None:
    async with site(tmp_path) as server:
        where = {key: mariadb.arguments[key] for key in ("type", "host", "port", "username", "password")}
        shown = await stored(server, DATABASES, {"name": "real", **where})
        spec = {"id": shown["id"], "type": "mariadb", "sql": "select 1;", "source": "fixed"}
        await ok(await server.post("/api/aslan/workflow/v4", json=definition("sql", stages=job("sql", spec))))
        numbers = {}
        for sql in ("select sleep(1);", "select sleep(300);"):
            numbers[sql] = (await ok(await run(server, "sql", "sql", {"sql": sql})))["task_id"]
            number = numbers[sql]
            await server.world.until(
                "sql", number, lambda d, n=number: "statement 1 of 1" in server.world.log("sql", n, "job"), within_s=20
            )
        await server.world.server.drain(3.0)
        ended = {sql: await server.done("sql", number) for sql, number in numbers.items()}
        [[short], [long]] = ([job for job in one["stages"][0]["jobs"]] for one in ended.values())
        assert short["status"] == "passed"
        assert (long["status"], long["error"]) == ("failed", "the server was stopped before the job ended")
        assert [one["status"] for one in long["spec"]["results"]] == ["failed"]
