"""Code scans and what they need, through the whole application."""

from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from api.site import PROJECT, Site, definition, site
from cador.domain.errors import Unavailable
from cador.integrations.sonar import Sonar
from cador.operations import quality
from cador.ports.stores import Tx
from openapi.conformity import as_described
from support.sonar import TOKEN as SONAR_TOKEN
from support.sonar import sonarqube

pytestmark = pytest.mark.anyio

READER, MANAGER, STRANGER = "reader-token-000000", "manager-token-00000", "stranger-token-0000"
SCAN = "/openapi/quality/codescan"
SONAR = {"system_identity": "sq", "server_address": "https://sonar.example.com/", "token": "squ_hidden-token"}
STORAGE = {"endpoint": "s3.example.com", "bucket": "kept", "ak": "key-id", "sk": "hidden-storage-key"}
OF_PROJECT = {"projectKey": PROJECT}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with site(tmp_path_factory.mktemp("scans")) as made:
        made.client.event_hooks = {"response": [as_described]}
        reply = await made.post("/openapi/system/sonar", json=SONAR)
        assert reply.status_code == 200, reply.text
        yield made


def scan(name: str = "lint", **fields: Any) -> dict[str, Any]:
    base = {"name": name, "project_key": PROJECT, "scanner_type": "other", "image_name": "ubuntu 22.04"}
    return {**base, "script": "echo scanned", **fields}


def job(name: str) -> dict[str, Any]:
    spec = {"scanning_type": "", "scannings": [{"name": name, "project_name": PROJECT}]}
    return {"name": "check", "type": "zadig-scanning", "spec": spec}


async def test_a_scan_from_creation_to_deletion(server: Site) -> None:
    secret = {"key": "TOKEN", "default_value": "hidden-in-scan", "is_credential": True}
    body = scan(parameters=[secret], description="first")
    assert (await server.post(SCAN, MANAGER, json=body)).json() == {"message": "success"}
    again = await server.post(SCAN, MANAGER, json=body)
    assert (again.status_code, again.json()["code"]) == (400, 6535)
    listed = (await server.get(SCAN, READER, params=OF_PROJECT)).json()
    assert [(one["name"], one["scanner_type"]) for one in listed["scans"]] == [("lint", "other")]
    assert listed["total"] == 1
    detail = await server.get(f"{SCAN}/lint", READER, params=OF_PROJECT)
    assert detail.json()["parameters"][0]["default_value"] == "********"
    changed = {**body, "script": "echo new", "parameters": [{**secret, "default_value": "********"}]}
    assert (await server.call("PUT", SCAN, MANAGER, json=changed)).status_code == 200
    stored = await server.world.db.read(lambda tx: tx.resources.find("scan", PROJECT, "lint"))
    assert stored is not None
    assert server.world.sealer.open(stored.document["parameters"][0]["default_value"]) == "hidden-in-scan"
    assert stored.document["script"] == "echo new"
    missing = await server.call("PUT", SCAN, MANAGER, json=scan("none"))
    assert (missing.status_code, missing.json()["code"]) == (400, 6536)
    stages = [{"name": "one", "jobs": [job("lint")]}]
    await server.create("uses-lint", stages=stages)
    refused = await server.call("DELETE", f"{SCAN}/lint", MANAGER, params=OF_PROJECT)
    assert (refused.status_code, refused.json()["description"]) == (400, "scan lint is used by workflow uses-lint")
    gone = {"workflowKey": "uses-lint", "projectKey": PROJECT}
    assert (await server.call("DELETE", "/openapi/workflows/custom", params=gone)).status_code == 200
    assert (await server.call("DELETE", f"{SCAN}/lint", MANAGER, params=OF_PROJECT)).status_code == 200
    assert (await server.get(f"{SCAN}/lint", params=OF_PROJECT)).status_code == 400


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": ""}, "scanning name cannot be empty"),
        ({"name": "a/b"}, "scanning name should match regex: ^[a-zA-Z0-9-_]+$"),
        ({"scanner_type": "sonar"}, "scanner_type can only be sonarQube or other"),
        ({"image_name": ""}, "image name cannot be empty"),
        (
            {"image_name": "beos"},
            "failed to find the basic image of name: beos, error is: mongo: no documents in result",
        ),
        ({"scanner_type": "sonarQube"}, "sonar_system cannot be empty"),
        (
            {"scanner_type": "sonarQube", "sonar_system": "sq"},
            "sonar_parameter cannot be empty when the scanner is run",
        ),
        (
            {"scanner_type": "sonarQube", "sonar_system": "no", "enable_scanner": False},
            "failed to find sonar system with name: no, error is: mongo: no documents in result",
        ),
        ({"advanced_settings": {}}, "cluster_name cannot be empty"),
        ({"advanced_settings": {"cluster_name": "local", "concurrency_limit": -2}},
         "advanced_settings.concurrency_limit: Input should be greater than or equal to -1"),
        ({"artifact_paths": "out"}, "artifact_paths: must be a list"),
    ],
)  # fmt: skip
async def test_scans_that_are_refused(server: Site, fields: dict[str, Any], reason: str) -> None:
    reply = await server.post(SCAN, json=scan(**fields))
    assert (reply.status_code, reply.json()["code"], reply.json()["description"]) == (400, 400, reason)


async def test_who_may(server: Site) -> None:
    for method, path in (("POST", SCAN), ("PUT", SCAN)):
        assert (await server.call(method, path, READER, json=scan())).status_code == 403
    for path in (SCAN, f"{SCAN}/lint"):
        assert (await server.get(path, STRANGER, params=OF_PROJECT)).status_code == 403
    empty = await server.get(SCAN)
    assert (empty.status_code, empty.json()["description"]) == (400, "project key cannot be empty")
    assert (await server.post("/openapi/system/sonar", MANAGER, json=SONAR)).status_code == 403
    assert (await server.get("/openapi/system/storage", MANAGER)).status_code == 403


async def test_sonar_servers_hide_their_tokens(server: Site) -> None:
    for path in ("/openapi/system/sonar", "/api/aslan/system/sonar/integration"):
        [shown] = (await server.get(path)).json()
        assert (shown["system_identity"], shown["server_address"]) == ("sq", "https://sonar.example.com")
        assert shown["token"] == "********"
    kept = {**SONAR, "server_address": "https://new.example.com", "token": "********"}
    assert (await server.call("PUT", "/openapi/system/sonar/sq", json=kept)).status_code == 200
    stored = await server.world.db.read(lambda tx: tx.resources.find("sonar", "", "sq"))
    assert stored is not None
    assert server.world.sealer.open(stored.document["token"]) == "squ_hidden-token"
    body = scan("quality", scanner_type="sonarQube", sonar_system="sq", sonar_parameter="sonar.projectKey=x")
    assert (await server.post(SCAN, json=body)).status_code == 200
    used = await server.call("DELETE", "/openapi/system/sonar/sq")
    assert used.json()["description"] == f"sonar sq is used by scan quality of project {PROJECT}"
    for change, reason in (
        ({"server_address": "ftp://x"}, "server_address needs to be a valid URL"),
        ({"server_address": "https://me:pw@x"}, "server_address must not hold user names or passwords"),
        ({"token": ""}, "token cannot be empty"),
        ({"token": "a\nb"}, "token cannot hold blanks or control characters"),
    ):
        wrong = await server.post("/openapi/system/sonar", json={**SONAR, "system_identity": "other", **change})
        assert (wrong.status_code, wrong.json()["description"]) == (400, reason)


async def test_records_of_object_storages(server: Site) -> None:
    path = "/openapi/system/storage"
    assert (await server.post(path, json=STORAGE)).status_code == 200
    assert (await server.post(path, json={**STORAGE, "name": "second", "is_default": True})).status_code == 200
    shown = {one["name"]: one for one in (await server.get("/api/aslan/system/s3storage")).json()}
    assert {name: one["is_default"] for name, one in shown.items()} == {"s3.example.com-kept": False, "second": True}
    assert {one["sk"] for one in shown.values()} == {"********"}
    ident = shown["second"]["id"]
    assert (await server.get(f"{path}/{ident}")).json()["bucket"] == "kept"
    again = await server.post(path, json=STORAGE)
    assert (again.status_code, again.json()["code"]) == (400, 6632)
    assert (await server.get(f"{path}/none")).json()["code"] == 6634
    for change, reason in (
        ({"bucket": "a/b"}, "bucket consists of letters, digits, dots, hyphens and underscores"),
        ({"endpoint": "no where"}, "endpoint needs to be a valid URL"),
        ({"subfolder": "../up"}, "subfolder must stay inside the bucket"),
        ({"sk": ""}, "sk cannot be empty"),
    ):
        wrong = await server.post(path, json={**STORAGE, "name": "x", **change})
        assert wrong.json()["description"] == reason
    assert (await server.call("DELETE", f"{path}/second")).status_code == 200
    assert (await server.get(f"{path}/s3.example.com-kept")).json()["is_default"] is True


async def test_a_scan_runs_and_shows_what_it_left(server: Site) -> None:
    body = scan("real", script="mkdir out; echo found >out/report; echo done", artifact_paths=["out"])
    assert (await server.post(SCAN, json=body)).status_code == 200
    await server.create("scans", stages=[{"name": "one", "jobs": [job("real")]}])
    number = await server.run("scans", "check")
    detail = await server.done("scans", number)
    [shown] = detail["stages"][0]["jobs"]
    assert (shown["name"], shown["status"], shown["error"]) == ("real-check", "passed", "")
    assert shown["spec"]["is_has_artifact"] is True
    assert shown["spec"]["scanning_name"] == "real"
    assert shown["spec"]["sonar_metrics"] is None
    found = await server.get(f"/api/v1/tasks/scans/{number}/artifacts")
    assert "scanning-result/artifactResultOut.tar.gz" in found.text


async def test_what_sonarqube_says_of_a_scan(server: Site) -> None:
    """From the definition over real processes and a real server to the detail of the task and its log."""
    left = "mkdir .scannerwork; printf 'projectKey=shop:api\\nceTaskId=AX-1\\n' >.scannerwork/report-task.txt"
    with sonarqube() as sonar:
        server.world.actions["sonar"] = Sonar(server.world.outgoing).run
        reply = await server.post(
            "/openapi/system/sonar", json={"system_identity": "near", "server_address": sonar.url, "token": SONAR_TOKEN}
        )
        assert reply.status_code == 200, reply.text
        fields = {"scanner_type": "sonarQube", "sonar_system": "near", "enable_scanner": False}
        body = scan("gated", **fields, enable_quality_gate=True, prelaunch_script=f'{left}; echo "has $SONAR_TOKEN"')
        assert (await server.post(SCAN, json=body)).status_code == 200
        await server.create("gates", stages=[{"name": "one", "jobs": [job("gated")]}])
        number = await server.run("gates", "check")
        [shown] = (await server.done("gates", number))["stages"][0]["jobs"]
        assert (shown["status"], shown["error"]) == ("passed", "")
        assert shown["spec"]["sonar_metrics"]["Coverage"] == "81.5"
        assert shown["spec"]["link_url"] == f"{sonar.url}/dashboard?id=shop%3Aapi"
        log = (await server.get(f"/openapi/logs/log/v4/workflow/gates/{number}/gated-check")).text
        assert "sonar: quality gate OK" in log
        assert "has ********" in log
        failed = {"status": "ERROR", "metricKey": "bugs", "comparator": "GT", "errorThreshold": "0", "actualValue": "2"}
        sonar.gate = {"status": "ERROR", "conditions": [failed]}
        number = await server.run("gates", "check")
        [shown] = (await server.done("gates", number))["stages"][0]["jobs"]
        assert (shown["status"], shown["error"]) == ("failed", "quality gate: ERROR; bugs 2 fails GT 0")


async def test_a_run_is_of_the_project_that_was_asked_for(server: Site) -> None:
    """Whoever may run tests of one project names no other one beside it."""
    await server.post(
        "/openapi/projects/project", json={"project_key": "apart", "project_name": "Apart", "project_type": "yaml"}
    )
    test = {"name": "theirs", "project_key": "apart", "build_os": "ubuntu 22.04",
            "script": "true", "advanced_settings": {"cluster_name": "local"}}  # fmt: skip
    made = await server.post("/openapi/quality/testing", json=test)
    assert made.status_code == 200, made.text
    run = {"test_name": "theirs", "projectKey": PROJECT, "project": "apart"}
    refused = await server.post("/openapi/quality/testing/task", MANAGER, json=run)
    assert (refused.status_code, refused.json()["code"]) == (400, 6160)
    assert await server.world.db.read(lambda tx: tx.workflows.list_workflows("apart", implicit=True)) == []


async def test_nobody_makes_or_changes_the_workflow_of_a_scan(server: Site) -> None:
    await server.post(SCAN, MANAGER, json=scan("own"))
    found = await server.world.db.read(lambda tx: tx.resources.find("scan", PROJECT, "own"))
    key = f"scanning-{found.uid}"
    body = definition(key)
    taken = await server.post("/openapi/workflows/custom", MANAGER, json=body)
    assert (taken.status_code, taken.json()["description"]) == (400, f"workflow key {key} is kept for a test or scan")
    started = await server.post(f"{SCAN}/own/task", MANAGER, params=OF_PROJECT, json={})
    assert (started.status_code, started.json()) == (200, {"task_id": 1, "workflow_key": key})
    changed = await server.call("PUT", f"/openapi/workflows/custom/{key}", MANAGER, params=OF_PROJECT, json=body)
    assert changed.status_code == 400, changed.text
    row = await server.world.db.read(lambda tx: tx.workflows.find(key))
    assert (row.type, row.revision) == ("scanning", 1)


async def test_nothing_of_the_secrets_is_shown(server: Site) -> None:
    await server.post("/openapi/system/storage", json={**STORAGE, "name": "audited"})
    audit = await server.world.db.read(lambda tx: tx.audit.list_entries(limit=200))
    seen = repr(audit)
    for path in ("/openapi/system/sonar", "/openapi/system/storage"):
        seen += (await server.get(path)).text
    assert "sonar" in seen
    assert "hidden-storage-key" not in seen
    assert "squ_hidden-token" not in seen


FILE = """\
version: "1"
project: { key: declared, name: Declared }
system:
  sonar: { declared-sonar: { address: "https://sonar.example.com", token: "${SONAR_TOKEN}" } }
  storage: { declared-storage: { endpoint: s3.example.com, bucket: kept, ak: me, sk: "${SK}", region: eu-1 } }
scans:
  lint:
    repos: []
    script: make lint
    artifacts: [out]
    timeout: 30m
    concurrency: 2
    parameters: { K: v, S: { secret: true, value: "${S}" } }
  quality:
    type: sonarQube
    sonar: declared-sonar
    properties: "sonar.projectKey=x"
    scanner: true
    quality_gate: true
    before: echo hi
workflows:
  scan-it:
    stages:
      - name: one
        jobs:
          - { name: all, type: zadig-scanning, scans: [lint, quality] }
          - { name: each, type: zadig-scanning, scans: [lint], services: [api/api] }
"""


async def test_the_declarative_forms(server: Site) -> None:
    """Applied, exported and applied again: nothing changes, and no secret is in the export."""
    text = FILE.replace("${SONAR_TOKEN}", "squ_declared").replace("${SK}", "sk-declared").replace("${S}", "s-declared")
    reply = await server.post("/openapi/apply", content=text, headers={"Content-Type": "application/yaml"})
    assert reply.status_code == 200, reply.text
    found = await server.get(f"{SCAN}/lint", params={"projectKey": "declared"})
    settings = found.json()["advanced_settings"]
    assert (settings["timeout"], settings["concurrency_limit"]) == (30, 2)
    assert found.json()["image_name"] == "ubuntu 22.04"
    stored = await server.world.db.read(lambda tx: tx.workflows.find("scan-it"))
    assert stored is not None
    assert '"project_name":"declared"' in stored.definition.replace(" ", "")
    for query in ({"projectKey": "declared"}, {}):
        export = await server.get("/openapi/export", params=query)
        assert export.status_code == 200, export.text
        assert "declared-sonar" in export.text
        for secret in ("squ_declared", "sk-declared", "s-declared"):
            assert secret not in export.text
        again = await server.post(
            "/openapi/apply", content=export.content, headers={"Content-Type": "application/yaml"}
        )
        assert again.status_code == 200, again.text
        assert {result["action"] for result in again.json()["results"]} == {"unchanged"}, again.json()


async def test_scans_run_by_themselves(server: Site) -> None:
    body = scan("alone", script='echo "level $LEVEL"; sleep 0', parameters=[{"key": "LEVEL", "default_value": "low"}])
    body["advanced_settings"] = {"cluster_name": "local", "concurrency_limit": 1}
    assert (await server.post(SCAN, json=body)).status_code == 200
    started = await server.post(
        f"{SCAN}/alone/task", MANAGER, params=OF_PROJECT, json={"scan_kvs": [{"key": "LEVEL", "value": "high"}]}
    )
    assert started.status_code == 200, started.text
    number, key = started.json()["task_id"], started.json()["workflow_key"]
    await server.world.done(key, number)
    shown = (await server.get(f"{SCAN}/alone/task/{number}", READER, params=OF_PROJECT)).json()
    assert (shown["scan_name"], shown["task_id"], shown["status"]) == ("alone", number, "passed")
    assert (shown["result_link"], shown["repo_info"], shown["creator"]) == ("", [], "Ben")
    assert "level high" in server.world.log(key, number, "alone-scan")
    stored = await server.world.db.read(lambda tx: tx.workflows.find(key))
    assert stored is not None
    assert (stored.concurrency_limit, stored.type) == (1, "scanning")
    listed = await server.get("/openapi/workflows", params=OF_PROJECT)
    assert key not in listed.text
    changed = {**body, "advanced_settings": {"cluster_name": "local"}}
    assert (await server.call("PUT", SCAN, json=changed)).status_code == 200
    again = await server.post(f"{SCAN}/alone/task", params=OF_PROJECT, json={})
    assert again.json()["task_id"] == number + 1
    stored = await server.world.db.read(lambda tx: tx.workflows.find(key))
    assert stored is not None
    assert stored.concurrency_limit == -1
    await server.world.done(key, number + 1)
    for path, params, reply in (
        (f"{SCAN}/alone/task", {}, (400, "project key cannot be empty")),
        (f"{SCAN}/none/task", OF_PROJECT, (400, "mongo: no documents in result")),
    ):
        refused = await server.post(path, params=params, json={})
        assert (refused.status_code, refused.json()["description"]) == reply
    for wrong, reason in (
        ({"scan_repos": [{"codehost_name": "x"}]}, "branch cannot be empty"),
        ({"scan_repos": "x"}, "scan_repos must be a list of objects"),
        ({"scan_kvs": [{"key": ""}]}, "scan_kvs[0] key cannot be empty"),
        ({"scan_kvs": [{"key": "K"}, {"key": "K"}]}, 'scan_kvs[1] duplicates key "K"'),
    ):
        refused = await server.post(f"{SCAN}/alone/task", params=OF_PROJECT, json=wrong)
        assert (refused.status_code, refused.json()["description"]) == (400, reason)
    assert (await server.post(f"{SCAN}/alone/task", READER, params=OF_PROJECT, json={})).status_code == 403
    assert (await server.get(f"{SCAN}/alone/task/x", params=OF_PROJECT)).json()[
        "description"
    ] == "id must be an integer"
    assert (await server.get(f"{SCAN}/alone/task/99", params=OF_PROJECT)).json()["code"] == 6161
    assert (await server.call("DELETE", f"{SCAN}/alone", params=OF_PROJECT)).status_code == 200
    assert await server.world.db.read(lambda tx: tx.workflows.find(key)) is None


async def test_tests_run_by_themselves(server: Site) -> None:
    xml = '<testsuite><testcase name="a"/><testcase name="b"><failure message="no"/></testcase></testsuite>'
    body = {
        "name": "unit", "project_key": PROJECT, "build_os": "ubuntu 22.04", "report_path": "report", "pass_rate": 50,
        "script": f"mkdir report; echo '{xml}' >report/a.xml",
    }  # fmt: skip
    path = "/openapi/quality/testing"
    assert (await server.post(path, json=body)).status_code == 200
    run = {"project_key": PROJECT, "test_name": "unit"}
    started = await server.post(f"{path}/task", MANAGER, json=run)
    assert started.status_code == 200, started.text
    number, key = started.json()["task_id"], started.json()["workflow_key"]
    await server.world.done(key, number)
    shown = (await server.get(f"{path}/unit/task/{number}", READER, params=OF_PROJECT)).json()
    assert (shown["test_name"], shown["status"]) == ("unit", "passed")
    report = shown["test_report"]
    assert [report[key] for key in ("test_total", "success_total", "failure_total", "skiped_total")] == [2, 1, 1, 0]
    assert [(case["name"], case["failure"]) for case in report["test_cases"]] == [("a", ""), ("b", "no")]
    repo = {"codehost_name": "git", "repo_namespace": "o", "repo_name": "r"}
    for wrong, reason in (
        ({"project_key": ""}, "project key cannot be empty"),
        ({"test_name": ""}, "test name cannot be empty"),
        ({"repo_info": [{}]}, "repo_info[0] codehost_name, repo_namespace and repo_name cannot be empty"),
        ({"repo_info": [repo]}, "repo_info[0] branch cannot be empty when enable_commit is false"),
        (
            {"repo_info": [{**repo, "enable_commit": True}]},
            "repo_info[0] commit_id cannot be empty when enable_commit is true",
        ),
        ({"repo_info": [{**repo, "branch": "b"}] * 2}, "repo_info[1] duplicates repository o/r"),
        ({"inputs": [{"value": "x"}]}, "inputs[0] key cannot be empty"),
        ({"inputs": [{"key": "K"}] * 2}, 'inputs[1] duplicates key "K"'),
    ):
        refused = await server.post(f"{path}/task", json={**run, **wrong})
        assert (refused.status_code, refused.json()["description"]) == (400, reason)
    assert (await server.call("DELETE", f"{path}/unit", params=OF_PROJECT)).status_code == 200
    assert await server.world.db.read(lambda tx: tx.workflows.find(key)) is None


async def test_a_test_goes_with_its_runs_or_stays_with_them(server: Site) -> None:
    """One transaction: a server that ends in the middle leaves no workflow that nobody sees."""

    class Away:
        async def transact(self, *args: Any, **more: Any) -> Any:
            raise Unavailable("the server ends")

    path, body = "/openapi/quality/testing", {"name": "whole", "project_key": PROJECT, "build_os": "ubuntu 22.04"}
    assert (await server.post(path, json={**body, "script": "true"})).status_code == 200
    started = await server.post(f"{path}/task", json={"project_key": PROJECT, "test_name": "whole"})
    key = started.json()["workflow_key"]
    await server.world.done(key, 1)
    actor = server.world.actor()
    away = replace(server.world.ctx, engine=Away())  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        await quality.delete(away, actor, quality.TEST, PROJECT, "whole")

    def left(tx: Tx) -> tuple[bool, bool]:
        return tx.resources.find("test", PROJECT, "whole") is not None, tx.workflows.find(key) is not None

    assert await server.world.db.read(left) == (True, True)
    await quality.delete(server.world.ctx, actor, quality.TEST, PROJECT, "whole")
    assert await server.world.db.read(left) == (False, False)


@pytest.mark.parametrize("query", [{"delete": "true"}, {"prune": "true", "set": "gone"}])
async def test_a_file_takes_the_runs_along_too(server: Site, query: dict[str, str]) -> None:
    project = "apiVersion: cador.dev/v1\nkind: Project\nmetadata: {name: filed}\n"
    project += "spec: {project_name: F, project_type: yaml}\n"
    test = "---\napiVersion: cador.dev/v1\nkind: Test\nmetadata: {name: unit, project: filed}\n"
    test += "spec: {build_os: ubuntu 22.04, script: 'true'}\n"
    headers = {"Content-Type": "application/yaml"}
    named = {"set": query["set"]} if "set" in query else {}
    reply = await server.post("/openapi/apply", content=project + test, params=named, headers=headers)
    assert reply.status_code == 200, reply.text
    run = {"project_key": "filed", "test_name": "unit"}
    started = await server.post("/openapi/quality/testing/task", json=run)
    key = started.json()["workflow_key"]
    await server.world.done(key, 1)
    content = project if "prune" in query else test
    reply = await server.post("/openapi/apply", content=content, params=query, headers=headers)
    assert reply.status_code == 200, reply.text
    assert await server.world.db.read(lambda tx: tx.resources.find("project", "", "filed")) is not None
    assert await server.world.db.read(lambda tx: tx.resources.find("test", "filed", "unit")) is None, reply.text
    assert await server.world.db.read(lambda tx: tx.workflows.find(key)) is None


async def test_a_run_shows_what_was_checked_out_and_where(server: Site) -> None:
    host = {"name": "near", "type": "other", "address": "file:///no/such/folder"}
    assert (await server.post("/openapi/system/codehost", json=host)).status_code == 200
    repo = {"codehost_name": "near", "repo_namespace": "group", "repo_name": "lib", "branch": "main",
            "checkout_path": "src/lib", "submodules": True}  # fmt: skip
    assert (await server.post(SCAN, json=scan("placed", repo_info=[repo]))).status_code == 200
    started = (await server.post(f"{SCAN}/placed/task", params=OF_PROJECT, json={})).json()
    await server.world.done(started["workflow_key"], 1)
    [shown] = (await server.get(f"{SCAN}/placed/task/1", READER, params=OF_PROJECT)).json()["repo_info"]
    keys = ("source", "address", "repo_owner", "repo_name", "remote_name", "branch", "checkout_path", "submodules",
            "hidden")  # fmt: skip
    assert [shown[key] for key in keys] == [
        "other", "file:///no/such/folder", "group", "lib", "origin", "main", "src/lib", True, False,
    ]  # fmt: skip


async def test_of_a_large_report_the_first_cases_are_read(server: Site) -> None:
    cases = "".join(f'<testcase name="c{number}" time="0.5"/>' for number in range(quality.SHOWN_CASES + 500))
    server.world.blobs.put_bytes(key := "tasks/testing-x/1/unit/junit/merged.xml", f"<testsuite>{cases}".encode())
    job = SimpleNamespace(name="unit", result={"junit": {}})
    run: Any = SimpleNamespace(job=job, task=SimpleNamespace(workflow_key="testing-x", number=1))
    found = await quality.cases_of(server.world.ctx, run)
    assert (len(found), found[-1]["name"]) == (quality.SHOWN_CASES, f"c{quality.SHOWN_CASES - 1}")
    server.world.blobs.put_bytes(key, b'<testsuite><testcase name="whole"/><testcase name="cut')
    assert [case["name"] for case in await quality.cases_of(server.world.ctx, run)] == ["whole"]
