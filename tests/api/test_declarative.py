"""Secrets of the server, pruning, places and the schema for editors, through the whole application."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from api.site import PROJECT, Site
from cador.operations.declarative.nodes import plain, read_stream
from cador.operations.declarative.pipeline import Source, prepare, to_wire
from cador.operations.declarative.schema import schema

pytestmark = pytest.mark.anyio

MANAGER, READER = "manager-token-00000", "reader-token-000000"
SECRETS = "/api/v1/secrets"
FILE = f"""\
project: {{ key: {PROJECT}, name: Shop }}
builds:
  b:
    parameters: {{ TOKEN: {{ valueFrom: {{ secret: git, key: TOKEN }} }} }}
    script: make
workflows:
  w:
    stages:
      - name: s
        jobs:
          - name: say
            type: freestyle
            env: {{ T: {{ secret: true, valueFrom: {{ secret: git, key: TOKEN }} }} }}
            script: "true"
"""


async def applied(server: Site, text: str, token: str = MANAGER, **query: str) -> dict[str, Any]:
    prepared = prepare([Source("cador.yaml", text)])
    assert not prepared.faults, [str(fault) for fault in prepared.faults]
    content = to_wire(prepared.documents).encode()
    reply = await server.post("/openapi/apply", token, content=content, params=query)
    assert reply.status_code == 200, reply.text
    assert "in-clear" not in reply.text
    found: dict[str, Any] = reply.json()
    return found


def errors(reply: dict[str, Any]) -> list[str]:
    return [one["error"] for one in reply["results"] if one["error"] and "not applied" not in one["error"]]


async def stored(server: Site) -> tuple[str, str]:
    """The value as the build and as the workflow hold it."""
    build = await server.world.db.read(lambda tx: tx.resources.find("build", PROJECT, "b"))
    row = await server.world.db.read(lambda tx: tx.workflows.find("w"))
    env = json.loads(row.definition)["stages"][0]["jobs"][0]["spec"]["properties"]["envs"][0]
    open_ = server.world.sealer.open
    return open_(build.document["parameters"][0]["default_value"]), open_(env["value"])


async def put(server: Site, name: str, data: dict[str, str], token: str = MANAGER, project: str = PROJECT) -> Any:
    query = {"projectKey": project} if project else {}
    return await server.call("PUT", f"{SECRETS}/{name}", token, params=query, json={"data": data})


async def test_a_secret_reaches_what_names_it_and_follows_its_changes(server: Site) -> None:
    reply = await applied(server, FILE)
    assert errors(reply) == [f"cador.yaml:{line}: secret 'git' is not known here" for line in ("4:5", "8:5")], (
        "each by its line in the user's own file"
    )
    made = await put(server, "git", {"TOKEN": "first-in-clear", "OTHER": "other-in-clear"})
    assert (made.status_code, made.json()["data"]) == (200, {"TOKEN": "********", "OTHER": "********"})
    assert errors(await applied(server, FILE)) == []
    assert await stored(server) == ("first-in-clear", "first-in-clear")

    revision = (await server.world.db.read(lambda tx: tx.workflows.find("w"))).revision
    assert (await put(server, "git", {"TOKEN": "second-in-clear", "OTHER": "********"})).status_code == 200
    assert await stored(server) == ("second-in-clear", "second-in-clear")
    assert (await server.world.db.read(lambda tx: tx.workflows.find("w"))).revision == revision + 1
    assert {one["action"] for one in (await applied(server, FILE))["results"]} == {"unchanged"}
    # what somebody has set since stays theirs
    body = await server.world.db.read(lambda tx: dict(tx.resources.find("build", PROJECT, "b").document))
    mine = [{"key": "TOKEN", "default_value": "mine-in-clear", "is_credential": True}]
    assert (await server.call("PUT", "/openapi/build", json={**body, "parameters": mine})).status_code == 200
    assert (await put(server, "git", {"TOKEN": "third-in-clear", "OTHER": "********"})).status_code == 200
    assert await stored(server) == ("mine-in-clear", "third-in-clear")
    exported = (await server.get("/openapi/export", params={"projectKey": PROJECT})).text
    assert exported.count("valueFrom") == 1
    assert "#   B_TOKEN: Build/b parameters[0].default_value\n" in exported

    refused = await put(server, "git", {"OTHER": "********"})
    assert (refused.status_code, "key TOKEN of secret git is used by " in refused.text) == (409, True)
    gone = await server.call("DELETE", f"{SECRETS}/git", MANAGER, params={"projectKey": PROJECT})
    assert (gone.status_code, "secret git is used by" in gone.text) == (409, True)
    assert await stored(server) == ("mine-in-clear", "third-in-clear"), "nothing of a refused change is left"
    await applied(server, FILE, delete="true")
    assert await server.world.db.read(lambda tx: tx.resources.list_kind("secret")) == [], "gone with its project"
    audit = repr(await server.world.db.read(lambda tx: tx.audit.list_entries(limit=100)))
    assert "create_secret" in audit
    assert "in-clear" not in audit


async def test_who_may_see_and_name_secrets(server: Site) -> None:
    assert (await put(server, "git", {"TOKEN": "a-in-clear"}, token=READER)).status_code == 403
    assert (await put(server, "shared", {"TOKEN": "b-in-clear"}, project="")).status_code == 403
    wide = {"projectKey": ""}
    for projects, expected in (([], 2), ([PROJECT], 0), (["<all_projects>"], 0), (["other"], 2)):
        body = {"data": {"TOKEN": "b-in-clear"}, "projects": projects}
        made = await server.call("PUT", f"{SECRETS}/git", params=wide, json=body)
        assert made.status_code == 200, made.text
        assert len(errors(await applied(server, FILE, dryRun="true"))) == expected, projects
    for token, code in ((READER, 403), (MANAGER, 200)):
        assert (await server.get(SECRETS, token, params={"projectKey": PROJECT})).status_code == code
    assert (await server.get(SECRETS, MANAGER)).status_code == 403
    listed = await server.get(SECRETS)
    assert [(one["name"], one["data"]) for one in listed.json()["items"]] == [("git", {"TOKEN": "********"})]
    assert (await server.get(f"{SECRETS}/gone")).status_code == 404
    for body in ({"data": {}}, {"data": {"a b": "x"}}, {"data": {"A": ""}}, {"data": {"A": "********"}}, {"data": 1}):
        bad = await server.call("PUT", f"{SECRETS}/new", params={"projectKey": PROJECT}, json=body)
        assert bad.status_code == 400, bad.text


async def test_a_secret_stands_only_where_it_is_hidden(server: Site) -> None:
    await put(server, "git", {"TOKEN": "a-in-clear"})
    shown = FILE.replace("script: make", "description: { valueFrom: { secret: git, key: TOKEN } }")
    assert errors(await applied(server, shown))[0].endswith(
        "description is shown to readers: a secret cannot stand there"
    )
    unknown = FILE.replace("key: TOKEN", "key: NOPE")
    assert errors(await applied(server, unknown))[0].endswith("secret 'git' has no key 'NOPE'")
    for text, fault in (
        ("secret: git", "'key' must be letters, digits and . _ -"),
        ("secret: git, key: A, name: x", "unknown key 'name'"),
        ("secret: ../x, key: A", "'secret' must be letters"),
    ):
        found = prepare([Source("", FILE.replace("secret: git, key: TOKEN", text))]).faults
        assert any(fault in str(one) for one in found), [str(one) for one in found]


async def test_what_others_use_is_kept_when_pruned(server: Site) -> None:
    one, two = (f'{{ type: other, address: "file:///{name}" }}' for name in "ab")
    hosts = f"system: {{ codehosts: {{ one: {one}, two: {two} }} }}"
    project = "project: { key: mine }\nservices: { s: { yaml: 'a: 1' } }\n"
    admin = "cador_admin_token_of_the_tests"
    assert errors(await applied(server, f"{hosts}\n{project}", admin, set="all")) == []
    await applied(
        server,
        f"project: {{ key: {PROJECT} }}\nbuilds: {{ b: {{ repos: [{{ codehost: one, repo: a/b, branch: m }}] }} }}",
        admin,
    )
    await server.post(
        "/openapi/service/yaml/raw", params={"projectKey": "mine"}, json={"service_name": "hand", "yaml": "a: 1"}
    )
    reply = await applied(server, "system: { settings: { language: en } }", admin, set="all", prune="true")
    told = {f"{one['kind']}/{one['name']}": (one["action"], one["error"]) for one in reply["results"]}
    assert told["Service/s"] == ("deleted", "")
    assert told["Project/mine"] == ("kept", "project mine still holds service hand")
    assert told["CodeHost/one"] == ("kept", f"codehost one is used by build b of project {PROJECT}")
    assert told["CodeHost/two"] == ("deleted", "")
    # it is still of the set: when nobody uses it any more, it goes
    await server.call("DELETE", "/openapi/build", params={"projectKey": PROJECT, "name": "b"})
    reply = await applied(
        server, "system: { settings: { language: en } }", admin, set="all", prune="true", dryRun="true"
    )
    assert ("CodeHost", "one", "deleted") in [(one["kind"], one["name"], one["action"]) for one in reply["results"]]


async def test_editors_get_a_schema(server: Site) -> None:
    reply = await server.get("/api/v1/schema/cador.yaml.json", None)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/schema+json")
    assert reply.json() == json.loads(json.dumps(schema()))
    Draft202012Validator.check_schema(reply.json())


def problems(text: str) -> list[str]:
    validator = Draft202012Validator(schema())
    return [error.message for node in read_stream(text) for error in validator.iter_errors(plain(node))]


def test_the_schema_fits_our_examples() -> None:
    top = Path(__file__).parents[2]
    assert problems((top / "examples" / "shop" / "cador.yaml").read_text()) == []
    page = (top / "docs" / "declarative.md").read_text()
    blocks = [block.replace("?:", ":") for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    short, job, *others = blocks
    lines = "\n".join(f"          {line}" for line in job.splitlines())
    assert problems(short.replace("        jobs: []", f"        jobs:\n{lines}")) == []
    for text in others:
        assert problems(text) == []
    assert problems(FILE) == []


@pytest.mark.parametrize(
    "text",
    [
        "project: { key: x, nmae: y }",
        "project: { key: x }\nbuild: {}",
        "project: { key: x, public: maybe }",
        "project: {key: x}\nworkflows: { w: { stages: [{name: s, jobs: [{name: j, type: freestyle, scrpt: x}]}] } }",
        "project: { key: x }\nworkflows: { w: { notify: [{ type: mail, on: [never], users: [a] }] } }",
        "{ apiVersion: cador.dev/v1, kind: Build, metadata: { name: b, project: p }, spec: { build_scrip: x } }",
        "{ apiVersion: cador.dev/v1, kind: Buidl, metadata: { name: b }, spec: {} }",
        "{ apiVersion: cador.dev/v1, kind: Registry, metadata: { name: b, project: p }, spec: {} }",
    ],
)
def test_the_schema_finds_mistakes(text: str) -> None:
    assert problems(text)


async def test_plugins_have_routes(server: Site) -> None:
    body = {"name": "greet", "cmds": ["echo"], "args": ["$(inputs.WHO)"], "inputs": [{"name": "WHO", "default": "you"}]}
    assert (await server.post("/api/v1/plugins", MANAGER, json=body)).status_code == 403
    assert (await server.post("/api/v1/plugins", json=body)).status_code == 200
    twice = await server.post("/api/v1/plugins", json=body)
    assert (twice.status_code, "already exists" in twice.text) == (409, True)
    for path in ("/api/v1/plugins", "/api/aslan/workflow/plugin/template"):
        (found,) = (await server.get(path, READER)).json()
        assert (found["name"], found["cmds"], found["inputs"][0]["default"]) == ("greet", ["echo"], "you")
    changed = await server.call("PUT", "/api/v1/plugins/greet", json={**body, "version": "2"})
    assert changed.status_code == 200, changed.text
    assert (await server.get("/api/v1/plugins/greet")).json()["version"] == "2"
    bad = await server.call("PUT", "/api/v1/plugins/greet", json={**body, "cmds": []})
    assert (bad.status_code, "image and cmds cannot both be empty" in bad.text) == (400, True)
    assert (await server.call("DELETE", "/api/v1/plugins/greet")).status_code == 200
    assert (await server.get("/api/v1/plugins")).json() == []
