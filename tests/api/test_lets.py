"""Who may look after what of the system, and which projects it is let to."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.kinds import (
    FIRST,
    KUBECONFIG,
    MANAGER,
    READER,
    SCRIPT,
    STRANGER,
    kinds_site,
    ok,
    refused,
    with_role,
)
from api.site import ADMIN, PROJECT, Site

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with kinds_site(tmp_path_factory.mktemp("site")) as made:
        yield made


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
        ("/openapi/system/registry", "registry_management",
         {"name": "kept", "address": "https://r.example.com", "provider": "native", "namespace": "n"}),
        ("/openapi/system/cluster", "cluster_management",
         {"name": "kept", "type": "kubeconfig", "kube_config": KUBECONFIG}),
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
        ("get", "GET", one),
        ("delete", "DELETE", one),
    )
    tokens = {verb: await with_role(server, f"{noun[:8]}-{verb}", "*", f"{verb}_{noun}") for verb, _, _ in steps}
    for verb, method, address in steps:
        for other, token in tokens.items():
            if other != verb and not (noun == "template" and method == "GET"):  # whoever is logged in sees those
                assert (await server.call(method, address, token, json=body)).status_code == 403, (verb, other)
        await ok(await server.call(method, address, tokens[verb], **({} if method == "GET" else {"json": body})))


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
