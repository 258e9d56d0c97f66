"""What holds for every kind of configuration object, each kind a row of a table; and what only some have."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from api.site import ADMIN, PROJECT, Site, site
from cador.operations.resources import KINDS, LOCAL_CLUSTER
from cador.operations.sessions import token_hash
from cador.ports.stores import Token, Tx, User
from openapi.conformity import as_described

pytestmark = pytest.mark.anyio

MANAGER, READER, STRANGER = "manager-token-00000", "reader-token-000000", "stranger-token-0000"
MASK = "********"
KUBECONFIG = "apiVersion: v1\nclusters: [{name: c}]\nusers: [{name: u, user: {token: planted-kube}}]\n"
MANIFEST = """\
kind: Deployment
metadata: { name: web, namespace: $Namespace$ }
spec: { template: { spec: { containers: [{ name: web, image: "x/web:1" }, { name: side, image: "y" }] } } }
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with site(tmp_path_factory.mktemp("site")) as made:
        made.client.event_hooks = {"response": [as_described]}
        for path, body in FIRST:
            reply = await made.post(path, json=body)
            assert reply.status_code == 200, reply.text
        yield made


FIRST: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "/openapi/system/codehost",
        {"name": "git", "type": "gitlab", "address": "https://git.example.com", "access_token": "planted-first"},
    ),
    ("/openapi/system/registry", {"address": "https://hub.example.com", "provider": "harbor", "namespace": "first"}),
    (f"/openapi/service/yaml/raw?projectKey={PROJECT}", {"service_name": "web", "yaml": MANIFEST}),
    (f"/openapi/service/yaml/production/raw?projectKey={PROJECT}", {"service_name": "web", "yaml": MANIFEST}),
)


@dataclass(frozen=True)
class Row:
    """``path``: of the list and of creating; ``one``: below it, of a single one, with ``{id}`` or ``{name}``.
    ``change``: another value for one field. ``secrets``: fields that hold ``planted-...``. ``codes``: of a second one
    of the name, and of one that is not there when it is looked at, changed and deleted. ``shows``: masks, not nothing.
    ``whole``: the reply holds the fields of the body."""

    kind: str
    path: str
    body: Mapping[str, Any]
    change: tuple[str, Any]
    one: str = "/{name}"
    named: str = "name"
    secrets: tuple[str, ...] = ()
    codes: tuple[int, int, int, int] = (400, 400, 400, 400)
    query: Mapping[str, str] = field(default_factory=dict)
    shows: bool = True
    change_by_list: bool = False
    whole: bool = True
    label: str = ""

    def __str__(self) -> str:
        return self.label or self.kind

    @property
    def name(self) -> str:
        return str(self.body[self.named])


IN_PROJECT = {"projectKey": PROJECT}
SCRIPT = {
    "project_key": PROJECT,
    "build_os": "ubuntu 22.04",
    "repo_info": [{"codehost_name": "git", "repo_namespace": "shop", "repo_name": "web", "branch": "main"}],
    "parameters": [{"key": "TOKEN", "type": "string", "default_value": "planted-parameter", "is_credential": True}],
}
ENVIRONMENT = {
    "project_key": PROJECT,
    "env_key": "row",
    "cluster_id": LOCAL_CLUSTER,
    "namespace": "shop-row",
    "services": [{"service_name": "web", "containers": [{"name": "web", "image": "x/web:2"}]}],
}

ROWS = (
    Row("baseimage", "/openapi/system/baseimage", {"label": "own 1", "value": "x:1"}, ("value", "x:2"),
        named="label", codes=(6672, 6671, 6673, 6675)),
    Row("codehost", "/openapi/system/codehost",
        {"name": "row-host", "type": "other", "address": "git@git.example.com", "auth_type": "SSH",
         "ssh_key": "planted-ssh-key"},
        ("address", "git@git2.example.com"), one="/{id}", secrets=("ssh_key",), shows=False),
    Row("registry", "/openapi/system/registry",
        {"name": "row", "address": "https://r.example.com", "provider": "harbor", "namespace": "n", "access_key": "ci",
         "secret_key": "planted-registry-key"},
        ("region", "eu"), one="/{id}", secrets=("secret_key",), codes=(400, 6281, 6281, 6281), shows=False,
        whole=False),
    Row("cluster", "/openapi/system/cluster",
        {"name": "row", "type": "kubeconfig", "kube_config": KUBECONFIG, "provider": 4, "project_names": [PROJECT]},
        ("description", "another"), one="/{id}", secrets=("kube_config",), codes=(6641, 6643, 6643, 6643), shows=False,
        whole=False),
    Row("mail", "/openapi/system/mail",
        {"name": "row", "host": "smtp.example.com", "port": 465, "username": "ci", "password": "planted-mail",
         "isTLS": True, "address": "ci@example.com"},
        ("port", 2525), secrets=("password",)),
    Row("imapp", "/openapi/system/imapp",
        {"name": "row", "type": "lark", "app_id": "cli_1", "app_secret": "planted-lark", "encrypt_key": "planted-key"},
        ("app_id", "cli_2"), secrets=("app_secret", "encrypt_key"), codes=(6930, 6933, 6931, 6934)),
    Row("imapp", "/openapi/system/imapp",
        {"name": "row-ding", "type": "dingtalk", "dingtalk_app_key": "k", "dingtalk_app_secret": "planted-ding",
         "dingtalk_aes_key": "planted-aes", "dingtalk_token": "planted-token"},
        ("dingtalk_app_key", "k2"), secrets=("dingtalk_app_secret", "dingtalk_aes_key", "dingtalk_token"),
        codes=(6930, 6933, 6931, 6934), label="imapp dingtalk"),
    Row("imapp", "/openapi/system/imapp",
        {"name": "row-wx", "type": "workwx", "corp_id": "c", "agent_id": 7, "agent_secret": "planted-wx",
         "workwx_token": "planted-token", "workwx_aes_key": "planted-aes"},
        ("agent_id", 8), secrets=("agent_secret", "workwx_token", "workwx_aes_key"), codes=(6930, 6933, 6931, 6934),
        label="imapp workwx"),
    Row("proxy", "/openapi/system/proxy",
        {"type": "http", "address": "proxy.example.com", "port": 3128, "need_password": True, "username": "u",
         "password": "planted-proxy", "enable_repo_proxy": True},
        ("port", 8080), named="type", secrets=("password",), codes=(6802, 6801, 6803, 6805)),
    Row("tool", "/openapi/system/tool",
        {"label": "go 1.22.3", "name": "go", "version": "1.22.3", "scripts": ["tar xf ${FILEPATH}"],
         "env": ["GOROOT=/opt/go"], "bin_path": "/opt/go/bin", "download_path": "https://go.example.com/go.tgz"},
        ("enabled", False), named="label", codes=(6121, 6120, 6122, 6124)),
    Row("database", "/openapi/system/dbinstance",
        {"name": "row", "type": "mysql", "projects": ["demo"], "host": "db.example.com", "port": "3306",
         "username": "ci", "password": "planted-db", "database": ""},
        ("host", "db2.example.com"), one="/{id}", secrets=("password",)),
    Row("projectmanagement", "/openapi/system/projectmanagement",
        {"system_identity": "row", "type": "tapd",
         "spec": {"tapd_address": "https://tapd.example.com", "tapd_client_id": "me",
                  "tapd_client_secret": "planted-tapd", "tapd_company_id": "7"}},
        ("type", "tapd"), named="system_identity", secrets=("spec.tapd_client_secret",),
        codes=(6950, 6953, 6951, 6954)),
    Row("setting", "/openapi/system/setting", {"name": "webhook_secret", "value": "planted-webhook"},
        ("value", "planted-other"), secrets=("value",)),
    Row("build", "/openapi/build",
        {**SCRIPT, "name": "row", "build_script": "make",
         "services": [{"service_name": "web", "service_module": "web"}]},
        ("build_script", "make all"), one="/{name}/detail", secrets=("parameters.0.default_value",),
        codes=(6520, 6523, 6521, 6524), query=IN_PROJECT, change_by_list=True, whole=False),
    Row("test", "/openapi/quality/testing", {**SCRIPT, "name": "row", "script": "make test", "report_path": "report"},
        ("pass_rate", 90), secrets=("parameters.0.default_value",), codes=(6529, 6532, 6530, 6533), query=IN_PROJECT,
        change_by_list=True, whole=False),
    Row("environment", "/openapi/environments", ENVIRONMENT, ("env_name", "Another"), named="env_key",
        codes=(6074, 6078, 6076, 6077), query=IN_PROJECT, whole=False),
    Row("production_environment", "/openapi/environments/production", {**ENVIRONMENT, "namespace": "prod"},
        ("env_name", "Another"), named="env_key", codes=(6074, 6078, 6076, 6077), query=IN_PROJECT, whole=False),
)  # fmt: skip
TEMPLATES = "/api/v1/templates"
ROWS += (
    Row("plugin", "/api/v1/plugins", {"name": "row", "version": "1", "cmds": ["true"], "category": "test"},
        ("version", "2"), codes=(409, 404, 404, 404)),
    Row("dockerfiletemplate", f"{TEMPLATES}/dockerfile", {"name": "row", "dockerfile_text": "FROM scratch"},
        ("dockerfile_text", "FROM x"), codes=(6040, 6043, 6041, 6044)),
    Row("buildtemplate", f"{TEMPLATES}/build",
        {"name": "row", "build_os": "ubuntu 22.04", "build_script": "make", "parameters": SCRIPT["parameters"]},
        ("build_script", "make all"), secrets=("parameters.0.default_value",), codes=(6040, 6043, 6041, 6044),
        whole=False),
    Row("servicetemplate", f"{TEMPLATES}/service", {"name": "row", "yaml": MANIFEST},
        ("yaml", MANIFEST + "# more"), codes=(6040, 6043, 6041, 6044)),
)  # fmt: skip
ELSEWHERE = {"scan", "sonar", "storage", "view"}
"""Kinds with tests of their own."""


def all_rows() -> Any:
    return pytest.mark.parametrize("row", ROWS, ids=str)


async def ok(reply: Any) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()


def refused(reply: Any, code: int, description: str | None = None) -> None:
    body = reply.json()
    if reply.headers["content-type"] == "application/problem+json":
        assert reply.status_code in (400, 404, 409)
        body = {"code": body.get("code", reply.status_code), "description": body["detail"]}
    else:
        assert reply.status_code == 400, reply.text
    assert body["code"] == code, reply.text
    if description is not None:
        assert body["description"] == description


def at(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value[int(part)] if part.isdigit() else value[part]
    return value


async def listed(server: Site, row: Row) -> list[Mapping[str, Any]]:
    found = await ok(await server.get(row.path, params=row.query))
    if isinstance(found, dict):
        found = next(value for value in found.values() if isinstance(value, list))
    return [one for one in found if one.get(row.named, one.get("name")) == row.name]


async def place(server: Site, row: Row, name: str = "") -> str:
    """The address of the single one."""
    if "{id}" not in row.one:
        return row.path + row.one.format(name=name or row.name)
    found = (await listed(server, row))[0] if not name else {"id": name}
    ident = found.get("id", found.get("registry_id", found.get("cluster_id")))
    return row.path + row.one.format(id=ident)


async def made(server: Site, row: Row) -> None:
    if not await listed(server, row):
        await ok(await server.post(row.path, params=row.query, json=row.body))


async def removed(server: Site, row: Row) -> Any:
    if row.kind == "build":
        return await server.call("DELETE", row.path, params={**row.query, "name": row.name})
    return await server.call("DELETE", await place(server, row), params=row.query)


async def changed(server: Site, row: Row, body: Mapping[str, Any]) -> Any:
    path = row.path if row.change_by_list else await place(server, row)
    return await server.call("PUT", path, params=row.query, json=dict(body))


async def stored(server: Site, row: Row) -> Any:
    project = PROJECT if row.query else ""
    return await server.world.db.read(lambda tx: tx.resources.find(row.kind, project, row.name))


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


# -- what a row does not say

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


async def test_an_environment_refers_to_what_is_there(server: Site) -> None:
    path, base = "/openapi/environments", {**ENVIRONMENT, "env_key": "refers"}
    refused(await server.post(path, json={**base, "services": [{"service_name": "nope"}]}), 6074,
            f"service nope not found in project {PROJECT}")  # fmt: skip
    refused(await server.post(path, json={**base, "cluster_id": "0" * 24}), 6074,
            f"failed to find a cluster with name: {'0' * 24}")  # fmt: skip
    refused(await server.post(path, json={**base, "registry_id": "nope"}), 6074, "image registry nope not found")
    refused(await server.post(path, json={**base, "project_key": ""}), 400, "project key is required")
    cluster = {"name": "closed", "type": "kubeconfig", "kube_config": KUBECONFIG, "project_names": ["other"]}
    await ok(await server.post("/openapi/system/cluster", json=cluster))
    refused(await server.post(path, json={**base, "cluster_id": "", "cluster_name": "closed"}), 6074,
            f"cluster closed is not open to project {PROJECT}")  # fmt: skip
    build = {**SCRIPT, "name": "closed", "advanced_settings": {"cluster_name": "closed"}}
    refused(await server.post("/openapi/build", json=build), 400, f"cluster closed is not open to project {PROJECT}")
    names = [one["name"] for one in await ok(await server.get("/openapi/system/cluster", MANAGER))]
    assert "closed" not in names
    assert "local" in names


async def test_services_of_an_environment(server: Site) -> None:
    query = IN_PROJECT
    base = "/openapi/environments"
    service = "/openapi/service/yaml"
    variables = [{"key": "replicas", "value": "1", "type": "string"}]
    await ok(await server.post(f"{service}/raw", params=query,
                               json={"service_name": "api", "yaml": MANIFEST, "variable_yaml": variables}))  # fmt: skip
    await ok(await server.post(base, json={**ENVIRONMENT, "env_key": "dev", "services": []}))
    added = {"env_key": "dev", "service_list": [{"service_name": "api", "variable_kvs": [{"key": "replicas",
                                                                                         "value": "2"}]}]}  # fmt: skip
    reply = await ok(await server.post(f"{base}/service/yaml", params=query, json=added))
    assert reply == [{"env_name": "dev", "status": "unknown", "err_message": ""}]
    refused(await server.post(f"{base}/service/yaml", params=query, json=added), 6076,
            "service api is in environment dev already")  # fmt: skip
    one = await ok(await server.get(f"{base}/dev/services/api", READER, params=query))
    assert (one["images"], one["variables"][0]["value"], one["status"]) == (["x/web:1", "y"], "2", "unknown")
    assert one["error"] == "cluster local runs jobs (process), no services"
    # a new revision is taken when it is asked for, and what was set stays
    newer = MANIFEST.replace("y", "z:9") + "# newer\n"
    await ok(await server.call("PUT", f"{service}/api", params=query, json={"type": "k8s", "yaml": newer}))
    assert (await ok(await server.get(f"{base}/dev/services/api", params=query)))["revision"] == 1
    await ok(await server.call("PUT", f"{base}/dev/services", params=query,
                               json={"service_list": [{"service_name": "api"}]}))  # fmt: skip
    one = await ok(await server.get(f"{base}/dev/services/api", params=query))
    assert (one["revision"], one["variables"][0]["value"]) == (2, "2")
    # the environment outlives the service
    await ok(await server.call("DELETE", f"{service}/api", params=query))
    detail = await ok(await server.get(f"{base}/dev", params=query))
    assert [entry["service_name"] for entry in detail["services"]] == ["api"]
    await ok(await server.call("PUT", f"{base}/dev/services", params=query,
                               json={"service_list": [{"service_name": "api"}]}))  # fmt: skip
    removal = {"env_key": "dev", "service_names": ["api"], "not_delete_resource": True}
    await ok(await server.call("DELETE", f"{base}/service/yaml", params=query, json=removal))
    refused(await server.call("DELETE", f"{base}/service/yaml", params=query, json=removal), 6076)
    refused(await server.get(f"{base}/dev/services/api", params=query), 6083)
    kvs = {"global_variables": [{"key": "G", "value": "1", "related_services": ["api"]}]}
    await ok(await server.call("PUT", f"{base}/dev/variable", params=query, json=kvs))
    found = await ok(await server.get(f"{base}/dev/variable", params=query))
    assert found["global_variables"][0]["related_services"] == ["api"]


@pytest.mark.parametrize("base", ["/openapi/environments", "/openapi/environments/production"])
async def test_what_only_a_cluster_knows_is_refused_with_the_reason(server: Site, base: str) -> None:
    await ok(await server.post(base, json={**ENVIRONMENT, "env_key": "far", "namespace": "far"}))
    reason = "cluster local runs jobs (process), no services"
    scale = {"project_key": PROJECT, "env_key": "far", "service_name": "web", "workload_name": "w",
             "workload_type": "Deployment", "target_replicas": 2}  # fmt: skip
    image = {"product_name": PROJECT, "env_name": "far", "service_name": "web", "name": "w", "container_name": "web",
             "image": "x:3"}  # fmt: skip
    cases: tuple[tuple[str, str, Any, int, str], ...] = (
        ("POST", "/scale", scale, 6081, "Deployment w cannot be scaled"),
        ("POST", "/far/service/web/restart", None, 6080, "service web cannot be restarted"),
        ("GET", "/far/service/web/pods", None, 6085, "pods of service web cannot be listed"),
        ("POST", "/far/pod/web-1/restart", None, 6086, "pod web-1 cannot be restarted"),
        *(("POST", f"/image/{kind}/far", image, 6082, f"the image of {kind} w cannot be changed")
          for kind in ("deployment", "statefulset", "job", "cronjob")),
    )  # fmt: skip
    for method, path, body, code, wish in cases:
        options = {} if body is None else {"json": body}
        query = IN_PROJECT if body is None else {}
        reply = await server.call(method, base + path, params=query, **options)
        refused(reply, code, f"environment far: {wish}: {reason}")
    for change, text in (
        ({"workload_type": "Pod"}, "unsupported workload type: Pod"),
        ({"target_replicas": -1}, "target_replicas must be greater than or equal to 0"),
        ({"workload_name": ""}, "workload_name is required"),
    ):
        refused(await server.post(f"{base}/scale", json={**scale, **change}), 400, text)
    refused(await server.post(f"{base}/scale", json={**scale, "service_name": "nope"}), 6081)


async def test_an_environment_of_charts(server: Site) -> None:
    body = {"project_key": PROJECT, "env_name": "charts", "cluster_id": LOCAL_CLUSTER, "namespace": "charts",
            "alias": "Charts", "production": False}  # fmt: skip
    await ok(await server.post("/openapi/environments/helm", json=body))
    found = await ok(await server.get("/openapi/environments", params=IN_PROJECT))
    assert [one["envName"] for one in found if one["env_key"] == "charts"] == ["Charts"]


async def test_clusters_have_their_own_shape(server: Site) -> None:
    body = {"name": "shape", "type": "kubeconfig", "kube_config": KUBECONFIG, "production": True, "provider": 3}
    made = await ok(await server.post("/openapi/system/cluster", json=body))
    cluster = made["cluster"]
    assert made["agent_cmd"] == ""
    assert (cluster["provider"], cluster["provider_name"], cluster["project_names"]) == (
        3, "Huawei CCE", ["<all_projects>"],
    )  # fmt: skip
    assert (cluster["status"], cluster["local"], cluster["executor"]) == ("unknown", False, "kubernetes")
    path = f"/openapi/system/cluster/{cluster['cluster_id']}"
    await ok(await server.call("PUT", path, json={"name": "shaped", "project_names": [PROJECT]}))
    found = await ok(await server.get(path))
    assert (found["name"], found["cluster_id"], found["production"]) == ("shaped", cluster["cluster_id"], True)
    refused(await server.call("PUT", path, json={"name": "local"}), 6642, "mongo duplicate key error")
    await ok(await server.post("/openapi/build", json={**SCRIPT, "name": "on-shaped",
                                                       "advanced_settings": {"cluster_name": "shaped"}}))  # fmt: skip
    refused(await server.call("PUT", path, json={"name": "other"}), 6642,
            f"cluster shaped is used by build on-shaped of project {PROJECT}, which knows it by this name")  # fmt: skip
    refused(await server.call("DELETE", path), 6644, f"cluster shaped is used by build on-shaped of project {PROJECT}")
    local = f"/openapi/system/cluster/{LOCAL_CLUSTER}"
    refused(await server.call("DELETE", local), 6644, "cluster local always exists")
    refused(await server.call("PUT", local, json={"name": "x"}), 6642, "cluster local keeps its name")
    assert [c["name"] for c in await ok(await server.get("/openapi/system/cluster?projectName=elsewhere"))] == ["local"]


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


async def with_role(server: Site, account: str, namespace: str, *actions: str) -> str:
    """The token of a new user whose one role allows *actions*."""
    token = f"{account}-token-of-the-tests"

    def add(tx: Tx) -> None:
        tx.people.add_user(User(account, account, account.title()))
        tx.people.add_token(Token(id=0, uid=account, name="t", hash=token_hash(token), prefix="", create_at=1.0))

    await server.world.db.write(add)
    role, space = {"name": f"role-{account}", "actions": list(actions)}, {"namespace": namespace}
    await ok(await server.post("/openapi/policy/roles", params=space, json=role))
    path = f"/openapi/policy/role-bindings/user/{account}"
    await ok(await server.post(path, params=space, json={"roles": [role["name"]]}))
    return token


async def test_who_looks_after_clusters_sees_them_all(server: Site) -> None:
    path = "/openapi/system/cluster"
    cluster = {"name": "apart", "type": "kubeconfig", "kube_config": KUBECONFIG, "project_names": ["nowhere"]}
    await ok(await server.post(path, json=cluster))
    keeper = await with_role(server, "keeper", "*", "get_cluster_management")
    for token, sees in ((keeper, True), (MANAGER, False), (STRANGER, False)):
        names = [one["name"] for one in await ok(await server.get(path, token))]
        assert ("apart" in names) is sees, token


@pytest.mark.parametrize(
    ("path", "noun", "body"),
    [
        ("/openapi/system/storage", "s3storage_management",
         {"name": "kept", "endpoint": "s3.example.com", "bucket": "kept", "ak": "a", "sk": "planted-sk"}),
        ("/api/v1/templates/dockerfile", "template", {"name": "kept", "dockerfile_text": "FROM scratch"}),
        ("/openapi/system/dbinstance", "dbinstance_management",
         {"name": "kept", "type": "mysql", "host": "db.example.com", "port": 1, "username": "u", "password": "p"}),
    ],
)  # fmt: skip
async def test_roles_of_the_system_are_heeded_by_these_routes(
    server: Site, path: str, noun: str, body: dict[str, Any]
) -> None:
    """Each action opens its routes and no other."""
    one = f"{path}/kept"
    steps = (
        ("create", "POST", path),
        ("edit", "PUT", one),
        ("get", "GET", one if noun == "dbinstance_management" else path),
        ("delete", "DELETE", one),
    )
    tokens = {verb: await with_role(server, f"{noun[:8]}-{verb}", "*", f"{verb}_{noun}") for verb, _, _ in steps}
    for verb, method, address in steps:
        for other, token in tokens.items():
            if other != verb and not (noun == "template" and method == "GET"):  # whoever is logged in sees those
                assert (await server.call(method, address, token, json=body)).status_code == 403, (verb, other)
        await ok(await server.call(method, address, tokens[verb], **({} if method == "GET" else {"json": body})))


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


async def test_a_code_host_of_some_projects_is_none_of_the_others(server: Site) -> None:
    path, host = "/openapi/system/codehost", {**FIRST[0][1], "name": "theirs", "projects": ["other"]}
    await ok(await server.post(path, json=host))
    repo = {**SCRIPT["repo_info"][0], "codehost_name": "theirs"}
    build = {**SCRIPT, "name": "on-theirs", "repo_info": [repo]}
    refused(await server.post("/openapi/build", json=build), 400, f"codehost theirs is not open to project {PROJECT}")
    query = {"codehostName": "theirs", "repoName": "r", "repoOwner": "o", "branchName": "main"}
    load = {"product_name": PROJECT, "service_paths": [{"service_name": "s", "path": "p"}]}
    reply = await server.post("/openapi/service/loader/load", params=query, json=load)
    refused(reply, 6055, "failed to find codehost with name [theirs]")
    # a definition may name it, and does not start
    ident = next(one["id"] for one in await ok(await server.get(path)) if one["name"] == "theirs")
    checkout = {"codehost_id": ident, "repo_owner": "o", "repo_name": "r", "branch": "main"}
    steps = [{"name": "git", "type": "git", "spec": {"repos": [checkout]}}]
    job = {"name": "say", "type": "freestyle", "spec": {"properties": {"timeout": 5}, "steps": steps}}
    await server.create("on-theirs", stages=[{"name": "s", "jobs": [job]}])
    run = {"workflow_key": "on-theirs", "project_key": PROJECT, "inputs": [{"job_name": "say"}]}
    reply = await server.post("/openapi/workflows/custom/task", json=run)
    refused(reply, 6160)
    assert f"code host {ident} not found" in reply.text
    for token, sees in ((MANAGER, False), (STRANGER, False), (ADMIN, True)):
        known = [one["alias"] for one in await ok(await server.get("/api/v1/codehosts", token))]
        assert ("git" in known, "theirs" in known) == (True, sees)
    await ok(await server.call("PUT", f"{path}/{ident}", json={**host, "projects": ["other", PROJECT]}))
    assert "theirs" in (await server.get("/api/v1/codehosts", READER)).text
    assert "theirs" not in (await server.get("/api/v1/codehosts", STRANGER)).text
    await ok(await server.post("/openapi/build", json=build))


# -- templates


async def test_a_service_follows_its_template(server: Site) -> None:
    template = {
        "name": "web-service",
        "yaml": MANIFEST.replace("name: web,", "name: $T-Service$, app: $T-Project$,"),
        "variable_yaml": [{"key": "replicas", "value": "1", "type": "string"}],
    }
    await ok(await server.post(f"{TEMPLATES}/service", json=template))
    load = {"service_name": "follower", "project_key": PROJECT, "template_name": "web-service", "auto_sync": True,
            "variable_yaml": [{"key": "replicas", "value": "3"}]}  # fmt: skip
    path = "/openapi/service/template/load/yaml"
    refused(await server.post(path, json={**load, "template_name": "nope"}), 400,
            "failed to find service template with name: nope")  # fmt: skip
    refused(await server.post(path, json={**load, "project_key": ""}), 400, "project name cannot be empty")
    await ok(await server.post(path, json=load))
    refused(await server.post(path, json=load), 6040)
    await ok(await server.post("/openapi/service/template/production/load/yaml", json={**load, "auto_sync": False}))
    base = "/openapi/service/yaml"
    one = await ok(await server.get(f"{base}/follower", params=IN_PROJECT))
    assert (one["source"], one["template_name"]) == ("template", "web-service")
    assert f"name: follower, app: {PROJECT}," in one["yaml"]
    assert [(kv["key"], kv["value"]) for kv in one["service_variable_kvs"]] == [("replicas", "3")]
    newer = {
        **template,
        "yaml": template["yaml"].replace("x/web:1", "x/web:2"),  # type: ignore[attr-defined]
        "variable_yaml": [*template["variable_yaml"], {"key": "port", "value": "80", "type": "string"}],  # type: ignore[misc]
    }
    await ok(await server.call("PUT", f"{TEMPLATES}/service/web-service", json=newer))
    one = await ok(await server.get(f"{base}/follower", params=IN_PROJECT))
    assert one["containers"][0]["image"] == "x/web:2"
    assert [(kv["key"], kv["value"]) for kv in one["service_variable_kvs"]] == [("replicas", "3"), ("port", "80")]
    production = await ok(await server.get(f"{base}/production/follower", params=IN_PROJECT))
    assert production["containers"][0]["image"] == "x/web:1", "it does not follow"
    reply = await server.call("DELETE", f"{TEMPLATES}/service/web-service")
    assert reply.status_code == 409
    assert f"is used by service follower of project {PROJECT}" in reply.json()["detail"]
    # a manifest of its own ends it
    await ok(await server.call("PUT", f"{base}/follower", params=IN_PROJECT, json={"type": "k8s", "yaml": MANIFEST}))
    one = await ok(await server.get(f"{base}/follower", params=IN_PROJECT))
    assert (one["source"], one["template_name"]) == ("spock", "")


async def test_a_build_from_a_template(server: Site) -> None:
    template = {
        "name": "make",
        "build_os": "ubuntu 22.04",
        "build_script": "make $GOAL",
        "parameters": [
            {"key": "GOAL", "type": "string", "default_value": "all"},
            {"key": "KEY", "type": "string", "default_value": "planted-default", "is_credential": True},
        ],
        "advanced_settings": {"cluster_name": "local", "timeout": 7},
    }
    await ok(await server.post(f"{TEMPLATES}/build", json=template))
    target = {"service_name": "web", "service_module": "web", "repo_info": SCRIPT["repo_info"],
              "inputs": [{"key": "GOAL", "value": "web"}, {"key": "KEY", "value": "planted-input"}]}  # fmt: skip
    body = {"name": "templated", "project_key": PROJECT, "template_name": "make", "target_services": [target]}
    path, query = "/openapi/build", {"source": "template", **IN_PROJECT}
    for change, text in (
        ({"target_services": []}, "target_service must have at least one item in it"),
        ({"template_name": ""}, "template_name cannot be empty"),
        ({"template_name": "no"},
         "failed to find build template with name: no, error is: mongo: no documents in result"),
        ({"target_services": [{**target, "inputs": [{"key": "NO", "value": "x"}]}]},
         "build template make has no variable NO"),
        ({"target_services": [{**target, "service_module": ""}]},
         "services[0] service_name and service_module cannot be empty"),
    ):  # fmt: skip
        refused(await server.post(path, params=query, json={**body, **change}), 400, text)
    await ok(await server.post(path, params=query, json=body))
    detail_path = f"{path}/templated/detail"
    reply = await server.get(detail_path, READER, params={**IN_PROJECT, "serviceName": "web", "serviceModule": "web"})
    assert "planted" not in reply.text
    detail = reply.json()
    assert (detail["template_name"], detail["build_script"], detail["advanced_settings"]["timeout"]) == (
        "make", "make $GOAL", 7,
    )  # fmt: skip
    assert [(p["key"], p["default_value"]) for p in detail["parameters"]] == [("GOAL", "web"), ("KEY", MASK)]
    assert [repo["repo_name"] for repo in detail["repos"]] == ["web"]
    assert detail["target_services"] == [{"service_name": "web", "service_module": "web"}]
    found = await server.world.db.read(lambda tx: tx.resources.find("build", PROJECT, "templated"))
    assert "planted" not in repr(found.document)
    # a masked value stays
    target["inputs"] = [{"key": "KEY", "value": MASK}]
    await ok(await server.call("PUT", f"{path}/templated/template", params=IN_PROJECT, json=body))
    found = await server.world.db.read(lambda tx: tx.resources.find("build", PROJECT, "templated"))
    sealed = found.document["target_services"][0]["inputs"][0]["value"]
    assert server.world.sealer.open(sealed) == "planted-input"
    refused(await server.call("PUT", f"{path}/nope/template", params=IN_PROJECT, json={**body, "name": ""}), 6521)
    assert (await server.call("DELETE", f"{TEMPLATES}/build/make")).status_code == 409
    reply = await server.get("/openapi/build", params=IN_PROJECT)
    assert "templated" in [build["name"] for build in reply.json()["builds"]]


# -- projects


async def test_a_project_begins_with_services_and_environments_or_not_at_all(server: Site) -> None:
    path = "/openapi/projects/project"
    await ok(await server.post(f"{TEMPLATES}/service", json={"name": "first", "yaml": MANIFEST}))
    service = {"source": "yaml", "service_name": "api", "yaml": MANIFEST}
    body: dict[str, Any] = {
        "project_name": "Whole", "project_key": "whole", "project_type": "yaml",
        "service_list": [service, {"source": "template", "service_name": "web", "template_name": "first"}],
        "env_list": [{"env_key": "dev", "cluster_name": "local", "namespace": "whole-dev"}],
    }  # fmt: skip
    for change, code, text in (
        ({"service_list": []}, 400, "initializing a project with no services is not allowed"),
        ({"service_list": [{**service, "service_name": ""}]}, 400, "service_name cannot be empty"),
        ({"service_list": [{**service, "source": "x"}]}, 400, "source must be template or yaml"),
        ({"service_list": [service, service]}, 6060, "mongo duplicate key error"),
        ({"service_list": [{**service, "yaml": "a: ["}]}, 400, None),
        ({"env_list": [{"env_key": "dev", "cluster_name": "nope", "namespace": "n"}]}, 6060,
         "failed to find a cluster with name: nope to create env: dev"),
        ({"env_list": [{"env_key": "dev", "cluster_name": "local"}]}, 400, "namespace is required"),
    ):  # fmt: skip
        refused(await server.post(f"{path}/init/yaml", json={**body, **change}), code, text)
        refused(await server.get(f"{path}/detail", params={"projectKey": "whole"}), 6073)
    assert (await server.post(f"{path}/init/yaml", MANAGER, json=body)).status_code == 403
    await ok(await server.post(f"{path}/init/yaml", json=body))
    query = {"projectKey": "whole"}
    found = await ok(await server.get("/openapi/service/yaml/services", params=query))
    assert [one["service_name"] for one in found] == ["api", "web"]
    detail = await ok(await server.get("/openapi/environments/dev", params=query))
    assert [one["service_name"] for one in detail["services"]] == ["api", "web"]
    refused(await server.post(f"{path}/init/yaml", json=body), 6060, "mongo duplicate key error")
    # variables of all environments stay when something else is changed
    kvs = [{"key": "REGION", "value": "eu", "type": "string", "options": [], "desc": ""}]
    await ok(await server.call("PUT", f"{path}/globalVariable", params=query, json={"variables": kvs}))
    await ok(await server.call("PUT", path, params=query, json={"description": "d"}))
    assert await ok(await server.get(f"{path}/globalVariable", params=query)) == {
        "variables": kvs, "production_variables": [],
    }  # fmt: skip
    twice = {"variables": [*kvs, *kvs]}
    refused(await server.call("PUT", f"{path}/globalVariable", params=query, json=twice), 400,
            'variable_yaml[1] duplicates key "REGION"')  # fmt: skip
    await ok(await server.call("DELETE", path, params={**query, "isDelete": "true"}))
    left = await server.world.db.read(lambda tx: [one.name for one in tx.resources.of_project("whole") if one.project])
    assert left == []


async def test_nobody_takes_over_what_was_let_to_a_project_that_is_gone(server: Site) -> None:
    maker = await with_role(server, "maker", "*", "create_project")
    path, query = "/openapi/projects/project", {"projectKey": "vault", "isDelete": "true"}
    body = {"project_name": "Vault", "project_key": "vault", "project_type": "yaml"}
    await ok(await server.post(path, json=body))
    database = {"name": "vault", "type": "mysql", "host": "db.example.com", "port": 1, "username": "u", "password": "p",
                "projects": ["vault"]}  # fmt: skip
    await ok(await server.post("/openapi/system/dbinstance", json=database))
    await ok(await server.call("DELETE", path, params=query))
    refused(await server.post(path, maker, json=body), 6060,
            "something of the system is let to project vault: its administrators may create it")  # fmt: skip
    await ok(await server.post(path, maker, json={**body, "project_key": "free", "project_name": "Free"}))
    await ok(await server.post(path, json=body))


# -- the operation log


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


# -- what refers to something keeps it


def workflow_with(job: dict[str, Any], **stage: Any) -> dict[str, Any]:
    return {"stages": [{"name": "s", "jobs": [{"name": "j", **job}], **stage}]}


def freestyle(**properties: Any) -> dict[str, Any]:
    steps = [{"name": "shell", "type": "shell", "spec": {"script": "true"}}]
    return {"type": "freestyle", "spec": {"properties": {"timeout": 5, **properties}, "steps": steps}}


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
