"""Services whose manifests are read from a real git server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.site import PROJECT, Site
from support.git_server import GitServer

pytestmark = [pytest.mark.anyio, pytest.mark.real]
PATH = "/openapi/service/loader/load"
POD = "{kind: Deployment, spec: {template: {spec: {containers: [{name: %s, image: x/%s:1}]}}}}\n"


@pytest.fixture
def code(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "code").serving() as running:
        yield running


def query(**changes: str) -> dict[str, str]:
    return {"codehostName": "git", "repoName": "shop", "repoOwner": "group", "branchName": "main", **changes}


def body(**paths: str) -> dict[str, Any]:
    entries = [{"service_name": name, "path": path, "is_dir": True} for name, path in paths.items()]
    return {"product_name": PROJECT, "service_paths": entries}


async def modules(server: Site, name: str) -> list[str]:
    reply = await server.get(f"/openapi/service/yaml/{name}", params={"projectKey": PROJECT})
    assert reply.status_code == 200, reply.text
    return [one["name"] for one in reply.json()["containers"]]


async def test_services_are_loaded_and_brought_up_to_date(server: Site, code: GitServer) -> None:
    shop = code.repository("group/shop")
    first = shop.commit(
        {
            "k8s/api.yaml": POD % ("api", "api"),
            "k8s/web/b.yml": POD % ("b", "b"),
            "k8s/web/a.yaml": POD % ("a", "a"),
            "k8s/web/README": "no manifest",
            "k8s/web/deeper/c.yaml": POD % ("c", "c"),
            "broken/x.yaml": "a: [",
        }
    )
    host = {"name": "git", "type": "gitlab", "address": code.address, "access_token": code.token}
    assert (await server.post("/openapi/system/codehost", json=host)).status_code == 200
    reply = await server.post(PATH, params=query(), json=body(api="k8s/api.yaml", web="k8s/web/"))
    assert reply.status_code == 200, reply.text
    assert await modules(server, "api") == ["api"]
    assert await modules(server, "web") == ["a", "b"]
    variables = {"service_variable_kvs": [{"key": "replicas", "value": "2"}]}
    path = "/openapi/service/yaml/api"
    await server.call("PUT", f"{path}/variable", params={"projectKey": PROJECT}, json=variables)
    shop.commit({"k8s/api.yaml": POD % ("newer", "api")}, parent=first)
    assert (await server.post(PATH, params=query(), json=body(api="k8s/api.yaml"))).status_code == 200
    assert await modules(server, "api") == ["newer"]
    detail = (await server.get(path, params={"projectKey": PROJECT})).json()
    assert (detail["source"], detail["service_variable_kvs"][0]["value"]) == ("repo", "2")

    refusals: tuple[tuple[dict[str, str], dict[str, Any], int, str], ...] = (
        ({"codehostName": ""}, body(a="k8s"), 400, "codehostName cannot be empty"),
        ({"repoName": ""}, body(a="k8s"), 400, "repoName and repoUUID cannot be empty at the same time"),
        ({"repoOwner": ""}, body(a="k8s"), 400, "repoOwner cannot be empty"),
        ({}, {**body(a="k8s"), "product_name": ""}, 400, "product name cannot be empty"),
        ({}, body(), 400, "service paths cannot be empty"),
        ({"codehostName": "nope"}, body(a="k8s"), 6055, "failed to find codehost with name [nope]"),
        ({}, body(a="nowhere"), 6055, "path nowhere: there is no YAML file"),
        ({}, body(a="../../etc/passwd"), 6055, "path ../../etc/passwd must stay inside the repository"),
        ({}, body(a=":(top)k8s/web"), 6055, "path :(top)k8s/web: there is no YAML file"),
        ({"branchName": "--upload-pack=x"}, body(a="k8s"), 6055, "branch"),
        ({"repoName": "absent"}, body(a="k8s"), 6055, "repository absent: "),
    )
    for change, sent, number, text in refusals:
        reply = await server.post(PATH, params=query(**change), json=sent)
        found = reply.json()
        assert (reply.status_code, found["code"]) == (400, number), reply.text
        assert found["description"].startswith(text), reply.text
        assert code.token not in reply.text
    # all of them, or none
    shop.commit({"ok.yaml": POD % ("ok", "ok"), "broken.yaml": "a: ["})
    reply = await server.post(PATH, params=query(), json=body(fine="ok.yaml", broken="broken.yaml"))
    assert "service broken: yaml: line 2, column 1: " in reply.json()["description"]
    assert (await server.get("/openapi/service/yaml/fine", params={"projectKey": PROJECT})).status_code == 400
    # who may only make services changes none
    space = {"namespace": PROJECT}
    maker = {"name": "maker", "actions": ["create_service"]}
    assert (await server.post("/openapi/policy/roles", params=space, json=maker)).status_code == 200
    binding = "/openapi/policy/role-bindings/user/eve"
    assert (await server.post(binding, params=space, json={"roles": ["maker"]})).status_code == 200
    for sent, status in ((body(api="ok.yaml"), 403), (body(fresh="ok.yaml"), 200)):
        reply = await server.post(PATH, "stranger-token-0000", params=query(), json=sent)
        assert reply.status_code == status, reply.text
    assert await modules(server, "api") == ["newer"]
    assert (await server.post(binding, params=space, json={"roles": []})).status_code == 200
    for token in ("reader-token-000000", "stranger-token-0000"):
        assert (await server.post(PATH, token, params=query(), json=body(a="k8s"))).status_code == 403
