"""What holds for every kind of configuration object, each kind a row of a table; and what refers to what."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

from api.kinds import (
    ENVIRONMENT,
    IN_PROJECT,
    MANAGER,
    MASK,
    READER,
    ROWS,
    STRANGER,
    Row,
    at,
    changed,
    freestyle,
    kinds_site,
    listed,
    made,
    ok,
    place,
    refused,
    removed,
    stored,
    workflow_with,
)
from api.site import PROJECT, Site
from cador.operations.resources import KINDS

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with kinds_site(tmp_path_factory.mktemp("site")) as made:
        yield made


ELSEWHERE = {"view"}
"""Kinds with tests of their own."""


def all_rows() -> Any:
    return pytest.mark.parametrize("row", ROWS, ids=str)


def test_every_kind_has_a_row() -> None:
    assert set(KINDS) <= {row.kind for row in ROWS} | ELSEWHERE


@all_rows()
async def test_life(server: Site, row: Row) -> None:
    await made(server, row)
    refused(await server.post(row.path, params=row.query, json=row.body), row.codes[0])
    detail = await ok(await server.get(await place(server, row), params=row.query))
    if row.whole:
        secret = {path.split(".")[0] for path in row.secrets}
        assert {key: detail[key] for key in row.body if key not in secret} == {
            key: value for key, value in row.body.items() if key not in secret
        }
    key, value = row.change
    await ok(await changed(server, row, {**row.body, key: value}))
    kept = server.world.sealer
    document = (await stored(server, row)).document
    found = document[key]
    assert (kept.open(found) if kept.is_sealed(str(found)) else found) == value
    path = await place(server, row)
    await ok(await removed(server, row))
    assert await listed(server, row) == []
    refused(await server.get(path, params=row.query), row.codes[1])
    refused(
        await server.call("PUT", row.path if row.change_by_list else path, params=row.query, json=dict(row.body)),
        row.codes[2],
    )
    again = (
        await server.call("DELETE", row.path, params={**row.query, "name": row.name})
        if row.kind == "build"
        else await server.call("DELETE", path, params=row.query)
    )
    refused(again, row.codes[3])


@pytest.mark.parametrize("row", [row for row in ROWS if row.secrets], ids=str)
async def test_secrets_are_written_only(server: Site, row: Row) -> None:
    await made(server, row)
    path = await place(server, row)
    replies = [await server.get(row.path, params=row.query), await server.get(path, params=row.query)]
    replies.append(await server.get("/openapi/export", params=row.query))
    for reply in replies:
        assert reply.status_code == 200, reply.text
        assert "planted" not in reply.text
    audits = await server.world.db.read(lambda tx: tx.audit.list_entries(limit=500))
    assert "planted" not in repr(audits)
    detail = replies[1].json()
    sealer = server.world.sealer
    before = (await stored(server, row)).document
    for secret in row.secrets:
        assert sealer.is_sealed(at(before, secret))
        if row.shows:
            assert at(detail, secret) == MASK
        else:
            assert secret not in detail
    # The mask sent back, and nothing sent, leave the secret as it is.
    masked = {**row.body, **({row.change[0]: row.change[1]} if row.kind != "setting" else {})}
    for secret in row.secrets:
        top = secret.split(".")[0]
        masked[top] = MASK if top == secret else detail[top]
    await ok(await changed(server, row, masked))
    absent = {key: value for key, value in row.body.items() if key not in row.secrets}
    if row.kind != "setting":
        await ok(await changed(server, row, absent))
    after = (await stored(server, row)).document
    for secret in row.secrets:
        assert sealer.open(at(after, secret)) == sealer.open(at(before, secret)) == at(row.body, secret)


@all_rows()
async def test_unknown_fields_are_dropped_and_wrong_types_named(server: Site, row: Row) -> None:
    await made(server, row)
    await ok(await changed(server, row, {**row.body, "no_such_field": "x"}))
    assert "no_such_field" not in (await stored(server, row)).document
    key = row.named
    reply = await server.post(row.path, params=row.query, json={**row.body, key: {"an": "object"}})
    assert reply.status_code == 400, reply.text
    assert key in reply.text
    reply = await server.post(row.path, params=row.query, content=b'["not an object"]')
    refused(reply, 400, "request body must be a JSON object")


@all_rows()
async def test_who_may(server: Site, row: Row) -> None:
    await made(server, row)
    path = await place(server, row)
    reads, writes = (READER, MANAGER) if row.query else (None, None)
    for token in (STRANGER, READER, MANAGER):
        reply = await server.post(row.path, token, params=row.query, json={})
        assert reply.status_code == (400 if token == writes else 403), token
    for token in (STRANGER, READER):
        method = "PUT" if not row.change_by_list else "POST"
        reply = await server.call(method, path if method == "PUT" else row.path, token, params=row.query, json={})
        assert reply.status_code == 403
    if reads:
        assert (await server.get(path, reads, params=row.query)).status_code == 200
        assert (await server.get(path, STRANGER, params=row.query)).status_code == 403
    assert (await server.get(path, None, params=row.query)).status_code == 401
    assert (await server.get(row.path, None, params=row.query)).status_code == 401


FAULTS: Mapping[str, tuple[tuple[dict[str, Any], str], ...]] = {
    "cluster": (
        ({"name": ""}, "name cannot be empty"),
        ({"kube_config": ""}, "kube_config cannot be empty"),
        ({"type": "", "kube_config": ""}, "type must be one of agent, kubeconfig"),
        ({"type": "magic"}, "type must be one of agent, kubeconfig"),
        ({"kube_config": "- a list"}, "kube_config is no kubeconfig: it has no list of clusters"),
        ({"kube_config": "a: [planted"}, "kube_config is no YAML"),
        ({"kube_config": "[" * 5000}, "kube_config: nested too deep or with too many aliases"),
        ({"provider": 8}, "provider must be between 0 and 7"),
        ({"executor": "rocket"}, "executor must be one of kubernetes, container, process"),
        ({"executor": "process"}, "type and kube_config belong to the executor kubernetes, not to process"),
    ),
    "mail": (
        ({"host": ""}, "host cannot be empty"),
        ({"host": "https://x"}, "host must be a host name or an address, without scheme and port"),
        ({"port": 0}, "port must be between 1 and 65535"),
        ({"address": "nobody"}, "address must be a mail address"),
        ({"name": "a/b"},
         "name must be at most 128 characters without slashes, control characters and blanks around it"),
    ),
    "imapp": (
        ({"type": "irc"}, "type must be one of lark, lark_intl, dingtalk, workwx"),
        ({"app_secret": ""}, "app_secret cannot be empty"),
        ({"type": "dingtalk"}, "dingtalk_app_key cannot be empty"),
        ({"type": "workwx", "corp_id": "c", "agent_secret": "s"}, "agent_id cannot be empty"),
        ({"host": "ftp://x"}, "host needs to be a valid URL"),
        ({"lark_event_type": "x"}, "lark_event_type: Input should be '', 'sse' or 'callback'"),
    ),
    "proxy": (
        ({"port": 70000}, "port must be between 1 and 65535"),
        ({"address": "a b"}, "address must be a host name or an address, without scheme and port"),
        ({"username": ""}, "username cannot be empty"),
        ({"type": "socks"}, "type: Input should be 'http'"),
    ),
    "tool": (
        ({"name": "", "label": ""}, "name cannot be empty"),
        ({"label": "", "version": ""}, "version cannot be empty"),
        ({"label": "go 2"}, "label must be 'go 1.22.3'"),
        ({"env": ["NOVALUE"]}, "env[0] must be NAME=value"),
        ({"download_path": "file:///etc/passwd"}, "download_path needs to be a valid URL"),
    ),
    "setting": (
        ({"name": "colour"}, "unknown setting 'colour', known are: base_url, language, webhook_secret"),
        ({"name": "language", "value": "fr"}, "language is zh or en"),
        ({"value": ""}, "value cannot be empty"),
    ),
    "environment": (
        ({"env_key": ""}, "env key is required"),
        ({"cluster_id": ""}, "cluster_id is required"),
        ({"namespace": ""}, "namespace is required"),
        ({"namespace": "Not_One"}, "namespace consists of up to 63 lower-case letters, digits and hyphens"),
        ({"env_key": "production"}, "env key cannot be production"),
        ({"env_configs": [{"name": "c", "common_env_cfg_type": "ConfigMap", "yaml_data": "a: 1"}]},
         "env_configs cannot be given: this server does not connect to clusters yet"),
        ({"sub_env": {"enable": True, "base_env": "dev"}},
         "sub_env cannot be enabled: this server does not connect to clusters yet"),
        ({"global_variables": [{"key": "A"}, {"key": "A"}]}, 'global_variables[1] duplicates key "A"'),
        ({"services": [{"service_name": ""}]}, "service name cannot be empty"),
        ({"services": [{"service_name": "web", "deploy_strategy": "x"}]},
         "services[0].deploy_strategy: Input should be 'deploy', 'import' or 'draft'"),
    ),
    "production_environment": (
        ({"namespace": "kube-system"}, "a production environment cannot use the namespace kube-system"),
    ),
}  # fmt: skip


def _faults() -> Iterator[Any]:
    for row in ROWS:
        if not row.label:
            for change, text in FAULTS.get(row.kind, ()):
                yield pytest.param(row, change, text, id=f"{row.kind} {text}"[:80])


@pytest.mark.parametrize(("row", "change", "text"), [*_faults()])
async def test_faults(server: Site, row: Row, change: dict[str, Any], text: str) -> None:
    refused(await server.post(row.path, params=row.query, json={**row.body, row.named: "faulty", **change}
                              if row.named not in change and row.kind not in ("proxy", "tool", "setting")
                              else {**row.body, **change}), 400, text)  # fmt: skip


async def test_the_default_moves_on_when_it_is_deleted(server: Site) -> None:
    path = "/openapi/system/mail"
    for name in ("one", "two"):
        await ok(await server.post(path, json={"name": name, "host": "smtp.example.com", "is_default": True}))
    flags = {one["name"]: one["is_default"] for one in await ok(await server.get(path))}
    assert [name for name, flag in flags.items() if flag] == ["two"]
    await ok(await server.call("DELETE", f"{path}/two"))
    flags = {one["name"]: one["is_default"] for one in await ok(await server.get(path))}
    assert sum(flags.values()) == 1
    assert "two" not in flags


async def test_a_tool_that_is_installed_somewhere_stays(server: Site) -> None:
    path = "/openapi/system/tool"
    for version in ("1.0", "2.0"):
        await ok(await server.post(path, json={"name": "jq", "version": version}))
    scan = {"name": "with-jq", "project_key": PROJECT, "scanner_type": "other", "image_name": "ubuntu 22.04",
            "addons": [{"name": "jq", "version": "1.0"}]}  # fmt: skip
    await ok(await server.post("/openapi/quality/codescan", json=scan))
    refused(await server.call("DELETE", f"{path}/jq%201.0"), 6124,
            f"tool jq 1.0 is used by scan with-jq of project {PROJECT}")  # fmt: skip
    await ok(await server.call("DELETE", f"{path}/jq%202.0"))
    steps = [{"name": "tools", "type": "tools", "spec": {"installs": [{"name": "jq", "version": "1.0"}]}}]
    await server.create("with-jq", **workflow_with({"type": "freestyle", "spec": {"properties": {}, "steps": steps}}))
    await ok(await server.call("DELETE", "/openapi/quality/codescan/with-jq", params=IN_PROJECT))
    refused(await server.call("DELETE", f"{path}/jq%201.0"), 6124, "tool jq 1.0 is used by workflow with-jq")


@pytest.mark.parametrize("kind", ["build", "test"])
async def test_a_script_that_may_take_more_than_a_year_is_not_kept(server: Site, kind: str) -> None:
    row = next(row for row in ROWS if row.kind == kind)
    body = {**row.body, "name": "long", "advanced_settings": {"cluster_name": "local", "timeout": 366 * 24 * 60 + 1}}
    refused(await server.post(row.path, params=row.query, json=body), 400,
            "advanced_settings.timeout: Input should be less than or equal to 527040")  # fmt: skip


async def test_the_operation_log_says_who_did_what(server: Site) -> None:
    path = "/openapi/system/operation"
    body = {"name": "logged", "host": "smtp.example.com", "password": "planted-log"}
    await ok(await server.post("/openapi/system/mail", json=body))
    await ok(await server.call("DELETE", "/openapi/system/mail/logged"))
    reply = await server.get(path, params={"function": "create_mail", "perPage": 1, "username": "admin"})
    assert "planted" not in reply.text
    [entry] = reply.json()["operation_logs"]
    assert (entry["username"], entry["method"], entry["targets"], entry["status"]) == (
        "admin", "create", ["mail/logged"], 200,
    )  # fmt: skip
    assert '"host":"smtp.example.com"' in entry["request_body"]
    assert reply.json()["total"] >= 1
    two = await ok(await server.get(path, params={"perPage": 1, "page": 2, "function": "create_mail"}))
    assert two["operation_logs"] == [] or two["operation_logs"] != [entry]
    assert (await ok(await server.get(path, params={"status": 500})))["operation_logs"] == []
    assert (await ok(await server.get(path, params={"username": "nobody"}))) == {"operation_logs": [], "total": 0}
    newest = (await ok(await server.get(path, language="zh")))["operation_logs"][0]
    assert newest["method"] == "删除"
    refused(await server.get(path, params={"page": 1_000_000}), 6652,
            "pages reach the newest 10000 entries: use filters, or GET /api/v1/audit")  # fmt: skip
    assert (await server.get(path, MANAGER)).status_code == 403
    project = await ok(await server.get(path, params={"projectKey": PROJECT, "perPage": 3}))
    assert {one["project_key"] for one in project["operation_logs"]} == {PROJECT}


async def test_command_lines_learn_who_they_are(server: Site) -> None:
    found = await ok(await server.get("/openapi/system/cli/context", READER))
    assert (found["user"]["account"], found["user"]["admin"]) == ("ann", False)
    assert found["request_id"]


USERS: tuple[tuple[str, str, Any], ...] = (
    # path of what is used, body of it, who uses it: a workflow made of its id, or a path with its body
    ("/openapi/system/registry", "registry", lambda one: workflow_with(
        {"type": "zadig-build", "spec": {"docker_registry_id": one["registry_id"], "service_and_builds": []}})),
    ("/openapi/system/registry", "registry", lambda one: (
        "/openapi/environments", {**ENVIRONMENT, "env_key": "of-registry", "registry_id": one["registry_id"]},
        f"environment of-registry of project {PROJECT}")),
    ("/openapi/system/cluster", "cluster", lambda one: workflow_with(freestyle(cluster_id=one["cluster_id"]))),
    ("/openapi/system/cluster", "cluster", lambda one: (
        "/openapi/environments/production",
        {**ENVIRONMENT, "env_key": "of-cluster", "cluster_id": one["cluster_id"], "services": []},
        f"production environment of-cluster of project {PROJECT}")),
    ("/openapi/system/baseimage", "baseimage", lambda one: workflow_with(freestyle(image_id=one["id"]))),
    ("/openapi/system/codehost", "codehost", lambda one: workflow_with(
        {"type": "freestyle", "spec": {"properties": {"timeout": 5}, "steps": [
            {"name": "git", "type": "git", "spec": {"repos": [
                {"codehost_id": one["id"], "repo_owner": "a", "repo_name": "b", "branch": "main"}]}}]}})),
    ("/openapi/system/imapp", "imapp", lambda one: {
        **workflow_with(freestyle()),
        "notify_ctls": [{"enabled": True, "webhook_type": "feishu_app", "notify_type": ["passed"],
                         "lark_group_notification_config": {"app_id": one["id"],
                                                            "chat": {"chat_id": "oc", "chat_name": "c"}}}]}),
    ("/openapi/system/dbinstance", "database", lambda one: workflow_with(
        {"type": "sql", "spec": {"id": one["id"], "type": "mysql", "sql": "select 1;", "source": "runtime"}})),
    ("/openapi/build", "build", lambda one: workflow_with(
        {"type": "zadig-build", "spec": {"service_and_builds": [
            {"service_name": "web", "service_module": "web", "build_name": "row"}]}})),
    ("/openapi/quality/testing", "test", lambda one: workflow_with(
        {"type": "zadig-test", "spec": {"test_modules": [{"name": "row", "project_name": PROJECT}]}})),
    ("/openapi/environments", "environment", lambda one: workflow_with(
        {"type": "zadig-deploy", "spec": {"env": "row", "production": False, "deploy_contents": ["image"],
                                          "source": "runtime"}})),
)  # fmt: skip
MORE_BODIES = {
    "database": {"name": "used-db", "type": "mysql", "host": "db.example.com", "port": 3306, "username": "u",
                 "password": "p"},
}  # fmt: skip


@pytest.mark.parametrize(("path", "kind", "use"), USERS, ids=[f"{kind} {n}" for n, (_, kind, _) in enumerate(USERS)])
async def test_what_is_used_is_not_deleted(server: Site, path: str, kind: str, use: Any) -> None:
    row = next((row for row in ROWS if row.kind == kind), None)
    if row is None:
        row = Row(kind, path, MORE_BODIES[kind], ("", ""), one="/{id}")
    await made(server, row)
    [one] = await listed(server, row)
    user = use(one)
    if isinstance(user, tuple):
        user_path, body, said = user
        await ok(await server.post(user_path, json=body))
    else:
        said = "workflow uses-it"
        await server.create("uses-it", **user)
    reply = await removed(server, row)
    assert reply.status_code == 400, reply.text
    assert reply.json()["description"] == f"{kind} {row.name} is used by {said}"
    if isinstance(user, tuple):
        await ok(await server.call("DELETE", f"{user_path}/{body['env_key']}", params=IN_PROJECT))
    else:
        key = {"workflowKey": "uses-it", "projectKey": PROJECT}
        await ok(await server.call("DELETE", "/openapi/workflows/custom", params=key))
    await ok(await removed(server, row))


async def test_a_test_of_another_project_is_used_there(server: Site) -> None:
    row = next(row for row in ROWS if row.kind == "test")
    await made(server, row)
    other = {"project_name": "Other", "project_key": "other", "project_type": "yaml"}
    await ok(await server.post("/openapi/projects/project", json=other))
    for key, owner in (("theirs", "other"), ("ours", PROJECT)):
        job = {"type": "zadig-test", "spec": {"test_modules": [{"name": "row", "project_name": owner}]}}
        await server.create(key, **workflow_with(job), project="other")
    refused(await removed(server, row), 6533, "test row is used by workflow ours")
