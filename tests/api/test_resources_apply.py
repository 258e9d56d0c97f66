"""Applying and exporting, through the whole application."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api.site import PROJECT, Site, site
from cador.operations.declarative.pipeline import Source, dump_all, prepare, to_wire

pytestmark = pytest.mark.anyio

MANAGER, READER = "manager-token-00000", "reader-token-000000"
FILE = """\
project: { key: demo, name: Demo shop }
system:
  codehosts:
    git: { type: gitlab, address: "https://gitlab.example.com", access_token: "${TOKEN}" }
  registries:
    harbor: { provider: harbor, address: "https://harbor.example.com", namespace: test, secret_key: "${KEY}" }
  users:
    zoe: { name: Zoe, email: zoe@example.com, password: "${PASSWORD}" }
members:
  zoe: [project-admin]
services:
  api:
    yaml: |
      kind: Deployment
      spec: { template: { spec: { containers: [{ name: api, image: x/api:1 }, { name: side, image: y }] } } }
builds:
  api-build:
    for: [api]
    repos: [{ codehost: git, repo: shop/api, branch: main }]
    parameters: { TOKEN: { secret: true, value: "${TOKEN}" }, FLAGS: "$x" }
    script: echo ${HOME}
    timeout: 20m
tests:
  unit: { repos: [{ codehost: git, repo: shop/api, branch: main }], script: make test, report: report/ }
workflows:
  release:
    concurrency: 1
    params: { CHANNEL: { options: [a, b], default: a } }
    stages:
      - name: build
        jobs: [{ name: build, type: zadig-build, registry: harbor, services: [api] }]
      - name: test
        jobs: [{ name: unit, type: zadig-test, tests: [unit] }]
      - name: release
        approval: { users: [zoe], timeout: 30m }
        jobs:
          - name: publish
            type: freestyle
            os: ubuntu 22.04
            script: echo {{.job.build.api.api.output.IMAGE}}
            env: { S: { value: "${TOKEN}", secret: true } }
            repos: [{ codehost: git, repo: shop/api, branch: main }]
"""
VALUES = {"TOKEN": "tok${en}$$1", "KEY": "k3y-value", "PASSWORD": "Replace-me-1"}


def wire(text: str) -> str:
    """As the command sends it."""
    prepared = prepare([Source("cador.yaml", text)], environment=VALUES)
    assert not prepared.faults, [str(fault) for fault in prepared.faults]
    return to_wire(prepared.documents)


async def apply(server: Site, text: str, token: str | None = None, **query: str) -> list[dict[str, Any]]:
    options: dict[str, Any] = {"content": text.encode(), "params": query}
    reply = await (
        server.post("/openapi/apply", token, **options) if token else server.post("/openapi/apply", **options)
    )
    assert reply.status_code == 200, reply.text
    assert "tok${en}" not in reply.text
    results: list[dict[str, Any]] = reply.json()["results"]
    return results


def actions(results: list[dict[str, Any]]) -> set[str]:
    assert [result["error"] for result in results if result["error"] and "not applied" not in result["error"]] == []
    return {result["action"] for result in results}


async def export(server: Site, project: str = "demo") -> str:
    reply = await server.get("/openapi/export", params={"projectKey": project})
    assert reply.status_code == 200, reply.text
    return reply.text


async def test_apply_twice_and_export(server: Site) -> None:
    assert actions(await apply(server, wire(FILE), dryRun="true")) == {"created"}
    assert actions(await apply(server, wire(FILE))) == {"created"}, "the dry run left nothing"
    version = await server.world.db.read(lambda tx: tx.resources.version())
    assert actions(await apply(server, wire(FILE))) == {"unchanged"}
    assert await server.world.db.read(lambda tx: tx.resources.version()) == version

    row = await server.world.db.read(lambda tx: tx.workflows.find("release"))
    assert (row.revision, row.project, row.concurrency_limit) == (1, "demo", 1)
    detail = (await server.get("/openapi/workflows/custom/release/detail", params={"projectKey": "demo"})).json()
    build, publish = detail["stages"][0]["jobs"][0]["spec"], detail["stages"][2]["jobs"][0]["spec"]
    registry = (await server.get("/openapi/system/registry")).json()[0]
    assert build["docker_registry_id"] == registry["registry_id"]
    assert [(b["service_module"], b["build_name"]) for b in build["service_and_builds"]] == [
        ("api", "api-build"),
        ("side", "api-build"),
    ]
    repo = publish["steps"][0]["spec"]["repos"][0]
    host = (await server.get("/api/v1/codehosts")).json()[0]
    assert (repo["codehost_id"], repo["source"], repo["repo_owner"]) == (host["id"], "gitlab", "shop")
    zoe = (await server.get("/openapi/users", params={"account": "zoe"})).json()["users"][0]
    approvers = detail["stages"][2]["approval"]["native_approval"]["approve_users"]
    assert [(user["user_id"], user["user_name"]) for user in approvers] == [(zoe["uid"], "Zoe")]
    assert publish["properties"]["image_id"]
    found = await server.world.db.read(lambda tx: tx.resources.find("build", "demo", "api-build"))
    assert server.world.sealer.open(found.document["parameters"][0]["default_value"]) == VALUES["TOKEN"]
    assert found.document["parameters"][1]["default_value"] == "$x"

    text = await export(server)
    assert "tok$" not in text
    assert "${API_BUILD_TOKEN}" in text
    assert "codehost_name: git" in text
    assert actions(await apply(server, text)) == {"unchanged"}
    assert await server.world.db.read(lambda tx: tx.workflows.find("release")) == row
    assert actions(await apply(server, await export(server, ""))) == {"unchanged"}
    login = await server.post("/api/v1/login", None, json={"account": "zoe", "password": "Replace-me-1"})
    assert login.status_code == 200


async def test_three_way_merge(server: Site) -> None:
    await apply(server, wire(FILE))
    detail = (await server.get("/openapi/build/api-build/detail", params={"projectKey": "demo"})).json()
    assert detail["advanced_settings"]["timeout"] == 20
    # somebody sets another key by hand; then ours disappears from the file
    body = await server.world.db.read(lambda tx: dict(tx.resources.find("build", "demo", "api-build").document))
    body = {**body, "description": "by hand", "parameters": detail["parameters"]}
    assert (await server.call("PUT", "/openapi/build", json=body)).status_code == 200
    results = await apply(server, wire(FILE.replace("    timeout: 20m\n", "")), diff="true")
    changed = [result for result in results if result["action"] != "unchanged"]
    assert [(result["kind"], result["action"]) for result in changed] == [("Build", "updated")]
    assert "-  timeout: 20\n" in changed[0]["diff"]
    assert "+  timeout: 60\n" in changed[0]["diff"]
    found = await server.world.db.read(lambda tx: tx.resources.find("build", "demo", "api-build"))
    assert (found.document["description"], found.document["advanced_settings"]["timeout"]) == ("by hand", 60)


async def test_all_or_nothing(server: Site) -> None:
    broken = FILE.replace(
        "codehost: git, repo: shop/api, branch: main }], script", "codehost: gone, repo: a/b, branch: m }], script"
    )
    results = await apply(server, wire(broken))
    errors = {result["kind"]: result["error"] for result in results if "not applied" not in result["error"]}
    assert errors["Test"].partition(": ")[2] == (
        "failed to find codehost with name [gone], error is: mongo: no documents in result"
    )
    assert errors["Workflow"].partition(": ")[2] == "test 'unit' is not known"
    assert set(errors) == {"Test", "Workflow"}
    assert {result["action"] for result in results} == {"error"}
    reply = await server.get("/openapi/projects/project/detail", params={"projectKey": "demo"})
    assert reply.json()["code"] == 6073
    assert await server.world.db.read(lambda tx: tx.resources.list_kind("applied")) == []


async def test_prune_and_delete(server: Site) -> None:
    await apply(server, wire(FILE))
    by_hand = {"service_name": "hand", "yaml": "a: 1"}
    await server.post("/openapi/service/yaml/raw", params={"projectKey": "demo"}, json=by_hand)
    loaded = yaml.safe_load(FILE)
    del loaded["tests"], loaded["workflows"]
    smaller = wire(yaml.safe_dump(loaded, sort_keys=False))
    results = await apply(server, smaller, diff="true")
    assert actions(results) == {"unchanged"}, results
    assert actions(await apply(server, smaller, prune="true", set="another")) == {"unchanged"}
    # a token for services alone may not prune what else there is
    zoe = (await server.get("/openapi/users", params={"account": "zoe"})).json()["users"][0]["uid"]
    scopes = ["create_service", "edit_service", "delete_service", "admin_project"]
    made = await server.post(f"/openapi/users/{zoe}/tokens", json={"name": "s", "scopes": scopes})
    services = "project: { key: demo, name: Demo shop }\n" + FILE[FILE.index("services:") : FILE.index("builds:")]
    results = await apply(server, wire(services), made.json()["token"], prune="true")
    assert "permission denied" in {result["error"] for result in results}
    # what was in the larger file still belongs to the first set
    results = await apply(server, smaller, prune="true")
    assert [(r["kind"], r["name"]) for r in results if r["action"] == "deleted"] == [
        ("Workflow", "release"),
        ("Test", "unit"),
    ]
    listed = await server.get("/openapi/service/yaml/services", params={"projectKey": "demo"})
    assert {service["service_name"] for service in listed.json()} == {"api", "hand"}
    results = await apply(server, smaller, delete="true")
    assert actions(results) == {"deleted"}
    assert (await server.get("/openapi/system/registry")).json() == []
    assert actions(await apply(server, smaller, delete="true")) == {"unchanged"}


async def test_an_export_holds_what_one_may_look_at(server: Site) -> None:
    mine = f"project: {{ key: {PROJECT}, name: Mine }}\nservices: {{ s: {{ yaml: 'a: 1' }} }}\n"
    assert {result["error"] for result in await apply(server, mine)} == {""}
    secret = {"data": {"KEY": "planted-value"}}
    reply = await server.call("PUT", "/api/v1/secrets/own", json=secret, params={"projectKey": PROJECT})
    assert reply.status_code == 200, reply.text

    def kinds(text: str) -> set[str]:
        return {document["kind"] for document in yaml.safe_load_all(text)}

    everything = kinds(await export(server, PROJECT))
    assert everything >= {"Project", "Service", "RoleBinding", "Secret"}
    reader = await server.get("/openapi/export", READER, params={"projectKey": PROJECT})
    assert kinds(reader.text) == everything - {"RoleBinding", "Secret"}


async def test_permissions(server: Site) -> None:
    mine = f"project: {{ key: {PROJECT}, name: Mine }}\nservices: {{ s: {{ yaml: 'a: 1' }} }}\n"
    reply = await server.post("/openapi/apply", READER, content=mine.encode())
    assert reply.status_code == 403
    results = await apply(server, mine, MANAGER)
    assert {result["action"] for result in results} <= {"created", "updated"}, results
    reply = await server.post("/openapi/apply", MANAGER, content=wire(FILE).encode())
    assert reply.status_code == 403, "the system is not a project administrator's"
    assert (await server.get("/openapi/export", READER, params={"projectKey": PROJECT})).status_code == 200
    assert (await server.get("/openapi/export", MANAGER)).status_code == 403
    # another project's workflow cannot be taken over by its name
    await server.create("theirs")
    await apply(server, "project: { key: other, name: Other }")
    stolen = "project: { key: other }\nworkflows: { theirs: { stages: [] } }"
    results = await apply(server, stolen)
    assert any("workflow theirs is in another project" in result["error"] for result in results)


async def test_unset_secrets_and_bad_bodies(server: Site) -> None:
    raw = 'system: { codehosts: { git: { type: gitlab, address: "https://g.example.com", access_token: "${TOKEN}" } } }'
    (result,) = await apply(server, raw)
    assert "******** keeps a stored secret, but none is stored" in result["error"]
    reply = await server.post("/openapi/apply", content=raw.replace("https://g.example.com", "${ADDRESS}").encode())
    assert reply.json()["description"] == "line 1, column 54: address: variable ADDRESS is not set"
    for body, text in (
        (b"", "request body is required"),
        (b"\xff", "the body is not UTF-8 at byte 0"),
        (b"a: [", "this is not YAML"),
        (b"project: {key: x}\nnope: 1", "unknown key 'nope'"),
    ):
        reply = await server.post("/openapi/apply", content=body)
        assert (reply.status_code, reply.json()["code"]) == (400, 400)
        assert text in reply.json()["description"]
    reply = await server.post("/openapi/apply", content=b"a: " + b"x" * (10 << 20))
    assert reply.status_code == 413


NAMES = st.text("abcXYZ019-_", min_size=1, max_size=8)
TEXTS = st.text("abc ${}'\"#:\n-é{.x}", max_size=30)
SCRIPTS = st.fixed_dictionaries(
    {"build_os": st.sampled_from(["ubuntu 20.04", "ubuntu 22.04"])},
    optional={
        "description": TEXTS,
        "build_script": TEXTS,
        "parameters": st.lists(
            st.fixed_dictionaries({"key": NAMES, "default_value": TEXTS, "is_credential": st.booleans()}),
            max_size=3,
            unique_by=lambda p: p["key"],
        ),
        "installs": st.lists(st.fixed_dictionaries({"name": NAMES, "version": TEXTS}), max_size=2),
        "advanced_settings": st.fixed_dictionaries(
            {"cluster_name": st.just("local"), "timeout": st.integers(0, 500)},
            optional={"privileged_mode": st.booleans(), "outputs": st.lists(st.just("A"), max_size=1)},
        ),
        "services": st.lists(st.fixed_dictionaries({"service_name": NAMES, "service_module": NAMES}), max_size=2),
    },
)


@given(st.dictionaries(NAMES, SCRIPTS, min_size=1, max_size=3))
# each example is a server of its own: shrinking would take minutes
@settings(
    max_examples=10, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)
def test_what_is_exported_is_what_is_there(builds: dict[str, dict[str, Any]]) -> None:
    documents = [
        {"apiVersion": "cador.dev/v1", "kind": "Build", "metadata": {"name": name, "project": "own"}, "spec": spec}
        for name, spec in builds.items()
    ]

    async def check() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with site(Path(folder)) as server:
                await apply(server, "project: { key: own }")
                text = to_wire(prepare([Source("", dump_all(_escaped(documents)))]).documents)
                assert actions(await apply(server, text)) == {"created"}
                exported = await export(server, "own")
                results = await apply(server, exported)
                assert {r["action"] for r in results if r["kind"] == "Build"} == {"unchanged"}, results

    asyncio.run(check())


def _escaped(value: Any) -> Any:
    from cador.operations.declarative.substitution import escape

    return escape(value)
