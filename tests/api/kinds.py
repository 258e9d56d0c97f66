"""Every kind of configuration object as a row, and what tests do with one."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api.site import PROJECT, Site, site
from cador.operations.resources import LOCAL_CLUSTER
from cador.operations.sessions import token_hash
from cador.ports.stores import Token, Tx, User
from openapi.conformity import as_described

MANAGER, READER, STRANGER = "manager-token-00000", "reader-token-000000", "stranger-token-0000"
MASK = "********"
KUBECONFIG = "apiVersion: v1\nclusters: [{name: c}]\nusers: [{name: u, user: {token: planted-kube}}]\n"
MANIFEST = """\
kind: Deployment
metadata: { name: web, namespace: $Namespace$ }
spec: { template: { spec: { containers: [{ name: web, image: "x/web:1" }, { name: side, image: "y" }] } } }
"""
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
    Row("scan", "/openapi/quality/codescan",
        {"name": "row", "project_key": PROJECT, "scanner_type": "other", "image_name": "ubuntu 22.04", "script": "true",
         "repo_info": SCRIPT["repo_info"], "parameters": SCRIPT["parameters"]},
        ("script", "false"), secrets=("parameters.0.default_value",), codes=(6535, 400, 6536, 400), query=IN_PROJECT,
        change_by_list=True, whole=False),
    Row("sonar", "/openapi/system/sonar",
        {"system_identity": "row", "server_address": "https://sonar.example.com", "token": "planted-sonar"},
        ("server_address", "https://sonar2.example.com"), named="system_identity", secrets=("token",)),
    Row("storage", "/openapi/system/storage",
        {"name": "row", "endpoint": "https://s3.example.com", "bucket": "bucket", "ak": "a", "sk": "planted-sk"},
        ("bucket", "other"), secrets=("sk",), codes=(6632, 6634, 6634, 6634)),
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


def workflow_with(job: dict[str, Any], **stage: Any) -> dict[str, Any]:
    return {"stages": [{"name": "s", "jobs": [{"name": "j", **job}], **stage}]}


def freestyle(**properties: Any) -> dict[str, Any]:
    steps = [{"name": "shell", "type": "shell", "spec": {"script": "true"}}]
    return {"type": "freestyle", "spec": {"properties": {"timeout": 5, **properties}, "steps": steps}}


@contextlib.asynccontextmanager
async def kinds_site(folder: Path) -> AsyncIterator[Site]:
    """A server that holds what is in :data:`FIRST`; every reply must be as it is described."""
    async with site(folder) as made_site:
        made_site.client.event_hooks = {"response": [as_described]}
        for path, body in FIRST:
            await ok(await made_site.post(path, json=body))
        yield made_site
