"""Environments and clusters: records of what runs where."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.kinds import (
    ENVIRONMENT,
    IN_PROJECT,
    KUBECONFIG,
    MANAGER,
    MANIFEST,
    READER,
    SCRIPT,
    kinds_site,
    ok,
    refused,
)
from api.site import PROJECT, Site
from cador.operations.resources import LOCAL_CLUSTER

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with kinds_site(tmp_path_factory.mktemp("site")) as made:
        yield made


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
