"""Routes of configuration, through the whole application."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api.site import PROJECT, Site, site
from openapi.conformity import as_described

pytestmark = pytest.mark.anyio

READER, MANAGER, STRANGER, RUNNER = (
    "reader-token-000000",
    "manager-token-00000",
    "stranger-token-0000",
    "runner-token-000000",
)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        made.client.event_hooks = {"response": [as_described]}
        yield made


MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: $Namespace$ }
spec:
  replicas: {{.replicas}}
  template:
    spec:
      initContainers:
        - { name: migrate, image: "registry.example.com/shop/migrate:{{.tag}}" }
      containers:
        - name: web
          image: registry.example.com:5000/shop/web-server:1.0@sha256:abc
        - name: side
          image: $side-image$
---
{{- if .cron }}
apiVersion: batch/v1
kind: CronJob
spec: { jobTemplate: { spec: { template: { spec: { containers: [{ name: nightly, image: busybox }] } } } } }
{{- end }}
---
kind: Service
spec: { ports: [{ port: {{.port}} }] }
"""
CODE_HOST = {"name": "git", "type": "gitlab", "address": "https://git.example.com/", "access_token": "glpat-secret-1"}


def build(**fields: Any) -> dict[str, Any]:
    return {
        "name": "web-build",
        "project_key": PROJECT,
        "services": [{"service_name": "web", "service_module": "web"}],
        "infrastructure": "kubernetes",
        "build_os": "ubuntu 22.04",
        "installs": [{"name": "go", "version": "1.20"}],
        "repo_info": [
            {"codehost_name": "git", "repo_namespace": "shop", "repo_name": "web", "branch": "main"},
        ],
        "parameters": [{"key": "TOKEN", "type": "string", "default_value": "hidden-value", "is_credential": True}],
        "script_type": "shell",
        "build_script": "make",
        **fields,
    }


async def ok(reply: Any) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()


def refused(reply: Any, code: int, description: str) -> None:
    body = reply.json()
    assert (reply.status_code, body["code"], body["description"]) == (400, code, description)


async def code_host(server: Site) -> int:
    await ok(await server.post("/openapi/system/codehost", json=CODE_HOST))
    return int((await ok(await server.get("/api/v1/codehosts")))[0]["id"])


async def test_project_life(server: Site) -> None:
    path = "/openapi/projects/project"
    body = {"project_name": "New one", "project_key": "new-1", "project_type": "helm", "description": "d"}
    await ok(await server.post(path, json=body))
    refused(await server.post(path, json=body), 6060, "mongo duplicate key error")
    found = await ok(await server.get(f"{path}/detail", params={"projectKey": "new-1"}))
    assert (found["project_name"], found["desc"], found["deploy_type"], found["is_public"]) == (
        "New one",
        "d",
        "helm",
        False,
    )
    await ok(await server.call("PUT", path, params={"projectKey": "new-1"}, json={"is_public": True}))
    listed = await ok(await server.get(path, STRANGER))
    assert [project["project_key"] for project in listed["projects"]] == ["new-1"]
    admin = (await ok(await server.get("/openapi/users", params={"account": "admin"})))["users"][0]
    bindings = await ok(await server.get("/openapi/policy/role-bindings", params={"namespace": "new-1"}))
    assert [(b["user_info"]["uid"], b["roles"]) for b in bindings] == [(admin["uid"], ["project-admin"])]
    refused(await server.call("DELETE", path, params={"projectKey": "new-1"}), 400, "isDelete is required")
    await ok(await server.call("DELETE", path, params={"projectKey": "new-1", "isDelete": "true"}))
    refused(await server.get(f"{path}/detail", params={"projectKey": "new-1"}), 6073, "mongo: no documents in result")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"project_name": ""}, "project_name cannot be empty"),
        ({"project_key": "../x"}, r"project key should match regex: ^[a-z-\d]+$"),
        ({"project_key": "abc\n"}, r"project key should match regex: ^[a-z-\d]+$"),
        ({"project_key": "Abc"}, r"project key should match regex: ^[a-z-\d]+$"),
        ({"project_type": "other"}, "unsupported project type"),
        ({"project_name": 5}, "project_name: must be a string"),
    ],
)
async def test_project_faults(server: Site, change: dict[str, Any], text: str) -> None:
    body = {"project_name": "n", "project_key": "n", "project_type": "yaml", **change}
    refused(await server.post("/openapi/projects/project", json=body), 400, text)


async def test_deleting_a_project_takes_its_workflows_along(server: Site) -> None:
    await server.create("gone")
    await ok(
        await server.call("DELETE", "/openapi/projects/project", params={"projectKey": PROJECT, "isDelete": "false"})
    )
    reply = await server.get("/openapi/workflows/custom/gone/detail", params={"projectKey": PROJECT})
    assert reply.status_code == 500


async def test_service_modules_and_revisions(server: Site) -> None:
    query = {"projectKey": PROJECT}
    base = "/openapi/service/yaml"
    await ok(await server.post(f"{base}/raw", params=query, json={"service_name": "web", "yaml": MANIFEST}))
    listed = await ok(await server.get(f"{base}/services", READER, params=query))
    assert listed[0]["containers"] == [
        {"name": "migrate", "image": "registry.example.com/shop/migrate:{{.tag}}", "image_name": "migrate"},
        {
            "name": "web",
            "image": "registry.example.com:5000/shop/web-server:1.0@sha256:abc",
            "image_name": "web-server",
        },
        {"name": "side", "image": "$side-image$", "image_name": "side"},
        {"name": "nightly", "image": "busybox", "image_name": "busybox"},
    ]
    detail = await ok(await server.get(f"{base}/web", params=query))
    assert (detail["yaml"], detail["revision"]) == (MANIFEST, 1)
    await ok(await server.call("PUT", f"{base}/web", params=query, json={"type": "k8s", "yaml": MANIFEST + "# new\n"}))
    variables = {"service_variable_kvs": [{"key": "replicas", "value": "2", "type": "string"}]}
    await ok(await server.call("PUT", f"{base}/web/variable", params=query, json=variables))
    detail = await ok(await server.get(f"{base}/web", params=query))
    assert (detail["revision"], detail["service_variable_kvs"][0]["value"]) == (3, "2")
    # the production set is another one
    assert await ok(await server.get(f"{base}/production/services", params=query)) == []
    await ok(await server.post(f"{base}/production/raw", params=query, json={"service_name": "web", "yaml": "a: 1"}))
    await ok(await server.call("DELETE", f"{base}/web", params=query))
    assert len(await ok(await server.get(f"{base}/production/services", params=query))) == 1
    refused(await server.get(f"{base}/web", params=query), 6083, "mongo: no documents in result")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"yaml": "a: 1"}, "service name cannot be empty"),
        ({"service_name": "x"}, "yaml cannot be empty"),
        ({"service_name": "a/b", "yaml": "a: 1"}, "service name should match regex: ^[a-zA-Z0-9-_]+$"),
        ({"service_name": "x", "yaml": "a: [1,\nb: }"}, "yaml: line 2, column 4: did not find expected node content"),
        ({"service_name": "x", "yaml": "[" * 500}, "yaml: nested too deep or with too many aliases"),
        ({"service_name": "x", "yaml": "- a\n" * 200_001}, "yaml: more than 200000 values"),
        (
            {"service_name": "x", "yaml": "a: &a {" + "x: 1, y: [1], " * 150 + "}\nb: [" + "*a, " * 900 + "]\n"},
            "yaml: nested too deep or with too many aliases",
        ),
    ],
)
async def test_service_faults(server: Site, body: dict[str, Any], text: str) -> None:
    refused(await server.post("/openapi/service/yaml/raw", params={"projectKey": PROJECT}, json=body), 400, text)
    refused(await server.post("/openapi/service/yaml/raw", json=body), 400, "projectKey cannot be empty")


async def test_code_host_keeps_its_secrets_to_itself(server: Site) -> None:
    ident = await code_host(server)
    refused(await server.post("/openapi/system/codehost", json=CODE_HOST), 400, "alias cannot have the same name")
    path = f"/openapi/system/codehost/{ident}"
    shown = await ok(await server.get(path))
    assert "access_token" not in shown
    assert (shown["alias"], shown["address"]) == ("git", "https://git.example.com")
    for text in ((await server.get(path)).text, (await server.get("/api/v1/codehosts")).text):
        assert "glpat" not in text
    await ok(await server.call("PUT", path, json={"type": "gitlab", "address": "https://other.example.com"}))

    def stored(tx: Any) -> Any:
        return tx.resources.by_id("codehost", str(ident)).document

    document = await server.world.db.read(stored)
    sealer = server.world.sealer
    assert sealer.is_sealed(document["access_token"])
    assert sealer.open(document["access_token"]) == "glpat-secret-1"
    audits = await server.world.db.read(lambda tx: tx.audit.list_entries(limit=10))
    assert "glpat" not in repr(audits)
    assert "edit_codehost" in {entry["action"] for entry in audits}
    # a sealed value cannot be moved from one place to another
    body = {**CODE_HOST, "name": "thief", "access_token": document["access_token"]}
    refused(
        await server.post("/openapi/system/codehost", json=body), 400, "a sealed secret cannot be sent: send its value"
    )
    masked = {**CODE_HOST, "name": "new", "access_token": "********"}
    reply = await server.post("/openapi/system/codehost", json=masked)
    refused(reply, 400, "access_token: ******** keeps a stored secret, but none is stored")
    assert (await server.get("/openapi/system/codehost", MANAGER)).status_code == 403


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": ""}, "name cannot be empty"),
        ({"address": "ftp://x"}, "address needs to be a valid URL"),
        ({"address": "https://u:p@x"}, "address must not hold user names or passwords"),
        ({"type": "other", "address": "ssh://git:pw@x"}, "address must not hold user names or passwords"),
        ({"access_token": ""}, "access_token, or application_id and client_secret, cannot be empty"),
        ({"type": "gerrit"}, "username and password cannot be empty"),
        ({"type": "other", "auth_type": "SSH"}, "ssh_key cannot be empty"),
        ({"type": "other", "auth_type": "PrivateAccessToken"}, "private_access_token cannot be empty"),
        ({"type": "other", "auth_type": "x"}, "auth_type can only be SSH or PrivateAccessToken"),
    ],
)
async def test_code_host_faults(server: Site, change: dict[str, Any], text: str) -> None:
    for path in ("/openapi/system/codehost", "/openapi/system/codehost/validate"):
        refused(await server.post(path, json={**CODE_HOST, **change}), 400, text)


async def test_default_registry_moves(server: Site) -> None:
    def body(namespace: str, **more: Any) -> dict[str, Any]:
        return {
            "address": "https://harbor.example.com",
            "provider": "harbor",
            "namespace": namespace,
            "secret_key": "s3cret-key",
            **more,
        }

    path = "/openapi/system/registry"
    await ok(await server.post(path, json=body("one")))
    await ok(await server.post(path, json=body("two")))
    listed = await ok(await server.get(path))
    assert [(r["namespace"], r["is_default"]) for r in listed] == [("one", True), ("two", False)]
    second = f"{path}/{listed[1]['registry_id']}"
    await ok(await server.call("PUT", second, json={"is_default": True}))
    listed = await ok(await server.get(path))
    assert [(r["namespace"], r["is_default"]) for r in listed] == [("one", False), ("two", True)]
    assert "s3cret" not in (await server.get(path)).text
    await ok(await server.call("PUT", second, json={"namespace": "three"}))
    # the credentials of the documents' update stay
    found = await server.world.db.read(lambda tx: tx.resources.by_id("registry", listed[1]["registry_id"]))
    assert server.world.sealer.open(found.document["secret_key"]) == "s3cret-key"
    await server.create(
        "uses",
        stages=[
            {
                "name": "s",
                "jobs": [
                    {
                        "name": "b",
                        "type": "zadig-build",
                        "spec": {"docker_registry_id": listed[0]["registry_id"], "service_and_builds": []},
                    }
                ],
            }
        ],
    )
    reply = await server.call("DELETE", f"{path}/{listed[0]['registry_id']}")
    refused(reply, 400, f"registry {listed[0]['name']} is used by workflow uses")
    await ok(await server.call("DELETE", second))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"address": ""}, "address cannot be empty"),
        ({"address": "harbor"}, "address needs to be a valid URL"),
        ({"provider": "x"}, "unsupported registry provider"),
        ({"namespace": ""}, "namespace cannot be empty"),
        ({"provider": "ecr"}, "region is a required field for ECR provider"),
    ],
)
async def test_registry_faults(server: Site, change: dict[str, Any], text: str) -> None:
    body = {"address": "https://x", "provider": "harbor", "namespace": "n", **change}
    refused(await server.post("/openapi/system/registry", json=body), 400, text)


async def test_build_life(server: Site) -> None:
    query = {"projectKey": PROJECT}
    missing = "failed to find codehost with name [git], error is: mongo: no documents in result"
    refused(await server.post("/openapi/build", MANAGER, json=build()), 400, missing)
    ident = await code_host(server)
    await ok(await server.post("/openapi/build", MANAGER, json=build()))
    refused(await server.post("/openapi/build", json=build()), 6520, "mongo duplicate key error")
    detail = await ok(
        await server.get("/openapi/build/web-build/detail", READER, params={**query, "serviceName": "web"})
    )
    assert detail["parameters"][0]["default_value"] == "********"
    assert detail["repos"][0]["source"] == "gitlab"
    assert detail["build_env"]["basic_image_label"] == "ubuntu 22.04"
    # what was masked comes back
    await ok(await server.call("PUT", "/openapi/build", json=build(build_script="x", parameters=detail["parameters"])))
    found = await server.world.db.read(lambda tx: tx.resources.find("build", PROJECT, "web-build"))
    assert found.revision == 2
    assert server.world.sealer.open(found.document["parameters"][0]["default_value"]) == "hidden-value"
    listed = await ok(await server.get("/openapi/build", READER, params=query))
    assert (listed["total"], listed["builds"][0]["target_services"]) == (1, build()["services"])
    reply = await server.call("DELETE", f"/openapi/system/codehost/{ident}")
    refused(reply, 400, f"codehost git is used by build web-build of project {PROJECT}")
    await ok(await server.call("DELETE", "/openapi/build", params={**query, "name": "web-build"}))
    reply = await server.call("DELETE", "/openapi/build", params={**query, "name": "web-build"})
    refused(reply, 6524, "mongo: no documents in result")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": ""}, "build name cannot be empty"),
        ({"name": "a/../b"}, "build name should match regex: ^[a-zA-Z0-9-_]+$"),
        (
            {"build_os": "beos"},
            "failed to find the basic image of name: beos, error is: mongo: no documents in result",
        ),
        (
            {"docker_build_step": {"dockerfile_source": "x"}},
            "unsupported dockerfile type, it can only be local or template",
        ),
        ({"advanced_settings": {"timeout": 5}}, "cluster_name cannot be empty"),
        ({"parameters": [{"key": "A"}, {"key": "A"}]}, 'parameters[1] duplicates key "A"'),
        (
            {"repo_info": [{"codehost_name": "git"}]},
            "repo_info[0] codehost_name, repo_namespace and repo_name cannot be empty",
        ),
        ({"installs": {}}, "installs: must be a list"),
    ],
)
async def test_build_faults(server: Site, change: dict[str, Any], text: str) -> None:
    await code_host(server)
    refused(await server.post("/openapi/build", json=build(**change)), 400, text)


async def test_build_permissions(server: Site) -> None:
    await code_host(server)
    for token in (READER, STRANGER, RUNNER):
        assert (await server.post("/openapi/build", token, json=build())).status_code == 403
    # the query names the project that counts, for the permission and for the build
    reply = await server.post("/openapi/build", MANAGER, params={"projectKey": "elsewhere"}, json=build())
    assert reply.status_code == 403
    no_project = build()
    del no_project["project_key"]
    refused(await server.post("/openapi/build", json=no_project), 400, "project key cannot be empty")


async def test_testing_life(server: Site) -> None:
    await code_host(server)
    path, query = "/openapi/quality/testing", {"projectKey": PROJECT}
    body = {**build(name="unit"), "script": "go test", "report_path": "report/", "pass_rate": 90}
    for key in ("services", "build_script"):
        del body[key]
    await ok(await server.post(path, params=query, json=body))
    refused(await server.post(path, params=query, json={**body, "name": "x", "pass_rate": 101}), 400,
            "pass_rate must be between 0 and 100")  # fmt: skip
    detail = await ok(await server.get(f"{path}/unit", params=query))
    assert (detail["script"], detail["report_path"], detail["inputs"][0]["value"]) == ("go test", "report/", "********")
    assert (await ok(await server.get(path, params=query)))["testings"][0]["name"] == "unit"
    await ok(await server.call("DELETE", f"{path}/unit", params=query))


async def test_base_images_and_cluster_are_there_from_the_start(server: Site) -> None:
    images = await ok(await server.get("/openapi/system/baseimage", STRANGER))
    assert {"ubuntu 20.04", "ubuntu 22.04"} <= {image["label"] for image in images}
    clusters = await ok(await server.get("/openapi/system/cluster", STRANGER))
    assert [(c["cluster_id"], c["name"], c["executor"]) for c in clusters] == [
        ("0123456789abcdef12345678", "local", "process")
    ]
    await ok(await server.post("/openapi/system/baseimage", json={"label": "own 1", "value": "example.com/x:1"}))
    await ok(await server.call("DELETE", "/openapi/system/baseimage/own%201"))
    refused(
        await server.post("/openapi/system/baseimage", json={"label": "a/b", "value": "x"}),
        400,
        "label must be at most 128 characters without slashes, control characters and blanks around it",
    )


async def test_people(server: Site) -> None:
    body = {"account": "zoe", "name": "Zoe", "email": "zoe@example.com", "password": "Replace-me-1"}
    made = await ok(await server.post("/openapi/users", json=body))
    uid = made["uid"]
    assert "password" not in made
    refused(await server.post("/openapi/users", json=body), 6000, "mongo duplicate key error")
    alias = await server.post("/api/v1/users", json=body)
    assert (alias.status_code, alias.json()["code"]) == (409, 6000)
    reply = await server.post("/openapi/users", json={**body, "account": "weak", "password": "short"})
    assert (reply.status_code, reply.json()["code"]) == (400, 6000)
    token = await ok(await server.post(f"/openapi/users/{uid}/tokens", json={"name": "ci"}))
    text = token["token"]
    me = await ok(await server.get(f"/openapi/users/{uid}", text))
    assert (me["account"], me["email"]) == ("zoe", "zoe@example.com")
    assert (await server.get("/openapi/users", text)).status_code == 403
    assert (await server.call("PUT", f"/openapi/users/{uid}", text, json={"admin": True})).status_code == 403
    assert text not in (await server.get(f"/openapi/users/{uid}/tokens")).text
    login = await server.post("/api/v1/login", None, json={"account": "zoe", "password": "Replace-me-1"})
    assert login.status_code == 200
    # roles
    bindings = "/openapi/policy/role-bindings"
    assert (await server.get("/openapi/build", text, params={"projectKey": PROJECT})).status_code == 403
    assert (await server.post(f"{bindings}/user/{uid}", text, params={"namespace": PROJECT},
                              json={"roles": ["project-admin"]})).status_code == 403  # fmt: skip
    await ok(await server.post(f"{bindings}/user/{uid}", MANAGER, params={"namespace": PROJECT},
                               json={"roles": ["read-only"]}))  # fmt: skip
    await ok(await server.get("/openapi/build", text, params={"projectKey": PROJECT}))
    refused(await server.get(bindings), 400, "namespace is empty")
    refused(
        await server.post(f"{bindings}/user/{uid}", params={"namespace": PROJECT}, json={"roles": ["boss"]}),
        400,
        "role boss not found",
    )
    await ok(await server.call("DELETE", f"{bindings}/user/{uid}", params={"namespace": PROJECT}))
    assert (await server.get("/openapi/build", text, params={"projectKey": PROJECT})).status_code == 403
    await ok(await server.call("DELETE", f"/openapi/users/{uid}/tokens/{token['id']}"))
    assert (await server.get(f"/openapi/users/{uid}", text)).status_code == 401
    await ok(await server.call("DELETE", f"/openapi/users/{uid}"))
    refused(await server.get(f"/openapi/users/{uid}"), 6002, "mongo: no documents in result")


async def test_the_last_administrator_stays(server: Site) -> None:
    admin = (await ok(await server.get("/openapi/users", params={"account": "admin"})))["users"][0]["uid"]
    reply = await server.call("PUT", f"/openapi/users/{admin}", json={"admin": False})
    refused(reply, 6001, "the last system administrator must stay one")
    refused(await server.call("DELETE", f"/openapi/users/{admin}"), 400, "you cannot delete yourself")
