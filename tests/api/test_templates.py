"""Services and builds that are made from templates, and projects that begin with them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.kinds import (
    IN_PROJECT,
    MANAGER,
    MANIFEST,
    MASK,
    READER,
    SCRIPT,
    TEMPLATES,
    kinds_site,
    ok,
    refused,
)
from api.site import PROJECT, Site

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with kinds_site(tmp_path_factory.mktemp("site")) as made:
        yield made


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
