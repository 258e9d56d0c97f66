"""What an import reads of a Zadig, and that a fresh server runs it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cador.cli.app import run
from cador.operations.apply import apply
from cador.operations.declarative.pipeline import Source, prepare, validate
from cador.operations.first_start import bootstrap_data
from cli.zadig import PROJECT, TOKEN, Zadig, zadig
from support.world import World


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zadig]:
    monkeypatch.delenv("ZADIG_TOKEN", raising=False)
    with zadig() as made:
        yield made


def values(text: str) -> dict[str, str]:
    """What somebody sets for the secrets that a file asks for."""
    needed = re.findall(r"^#   ([A-Z0-9_]+)=", text, re.MULTILINE)
    return {name: "clusters: []" if "KUBE" in name else "Given-by-hand-1" for name in needed}


def imported(server: Zadig, target: Path, *words: str, token: str = TOKEN) -> int:
    return run(["import", "zadig", "--url", server.peer.url, "--token", token, "-o", str(target), *words])


def test_everything_is_taken_and_told(server: Zadig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "cador.yaml"
    assert imported(server, target) == 0
    told = capsys.readouterr().err
    text = target.read_text()
    assert "in-clear" not in text
    assert (
        f"project {PROJECT}: 1 services, 1 builds, 1 tests, 1 scans, 2 environments, 2 workflows, 1 views, 1 members"
        in told
    )

    given = values(text)
    assert not [name for name in given if "OAUTH" in name], "what a run fills in is nobody's to set"
    assert {
        "TALK_HOOK_ADDRESS",
        "OPENAPI_BUILD_TOKEN",
        "TALK_TALK_SAY_KEY",
        "MAIN_GITEE_ACCESS_TOKEN",
        "PROD_KUBE_CONFIG",
    } <= set(given)
    prepared = validate(prepare([Source("x", text)], environment=given))
    assert [str(fault) for fault in prepared.faults] == []
    found = {(one.kind, one.name): one.spec for one in prepared.documents}
    build = found["Build", "openapi-build"]
    assert build["build_os"] == "ubuntu 20.04"
    assert build["build_script"] == "#!/bin/bash\nmake ${X} $$\n\necho done"
    assert build["repo_info"][0]["codehost_name"] == "main gitee"
    assert build["parameters"][0] == {
        "key": "TOKEN", "type": "string", "is_credential": True, "default_value": "Given-by-hand-1"
    }  # fmt: skip
    assert build["advanced_settings"]["resource_spec"] == {"cpu_limit": 2000, "memory_limit": 1024}
    assert found["Test", "smoke-test"]["build_os"] == "ubuntu 22.04"
    say = found["Workflow", "talk"]["stages"][0]["jobs"][0]["spec"]
    assert say["properties"]["build_os"] == "ubuntu 20.04"
    assert say["properties"]["envs"][0]["value"] == "$USER"
    later = found["Workflow", "talk"]["stages"][1]
    assert later["approval"]["native_approval"]["approve_users"] == [{"type": "user", "user_name": "lilian"}]
    assert later["jobs"][0]["spec"]["id"] == "orders"
    documented = found["Workflow", "build-deploy"]
    assert documented["params"][0]["repo"]["codehost_name"] == "main gitee"
    assert documented["stages"][0]["jobs"][0]["spec"]["docker_registry_id"] == "registry.example.com-ci"
    assert found["WorkflowView", "test-view"]["workflow_list"] == [
        {"workflow_key": "xiaxianfuwu", "workflow_type": "custom"}
    ]
    assert found["Environment", "live"]["cluster_name"] == "prod"
    assert found["Environment", "dev"]["registry_id"] == "registry.example.com-ci"
    assert found["RoleBinding", "lilian"] == {"roles": ["project-admin"]}

    for note in (
        "code host old: its type perforce is not known here",
        "roles own of lilian",
        "workflow old: product workflows",
        "workflow just-deploy: this server has no such route or object",
        "Workflow/talk: its hooks are left out",
        "Test/smoke-test: its hook_ctl is left out",
        "repository picture has no branch: main is put in",
        "user groups: this server has no such route or object",
    ):
        assert note in told
        assert note in text


def test_the_same_is_written_again_and_nothing_else_is_replaced(
    server: Zadig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "cador.yaml"
    assert imported(server, target, "--project", PROJECT) == 0
    first = target.read_text()
    server.routes["/openapi/users"]["users"].reverse()
    server.routes["/openapi/workflows"]["workflows"].reverse()
    assert imported(server, target, "--project", PROJECT) == 0
    assert target.read_text() == first
    assert imported(server, target) == 0
    target.write_text("project: { key: mine }\n")
    assert imported(server, target) == 2
    assert "no import wrote it" in capsys.readouterr().err
    assert target.read_text() == "project: { key: mine }\n"
    assert imported(server, target, "--force") == 0
    assert target.read_text() == first
    assert imported(server, tmp_path / "no" / "such" / "folder.yaml") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["cador.yaml"]


def test_pages_busy_servers_and_errors(server: Zadig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "cador.yaml"
    many = [{"uid": f"u{n}", "account": f"user{n:03}", "name": f"User {n}"} for n in range(250)]
    server.routes["/openapi/users"] = {"users": many, "total_count": 250}
    server.busy = 2
    assert imported(server, target) == 0
    assert target.read_text().count("kind: User\n") == 250
    capsys.readouterr()

    assert imported(server, target, token="wrong-token") == 4
    assert "does not know this token (--token)" in capsys.readouterr().err
    assert imported(server, target, "--project", "gone") == 2
    assert "there is no project gone there" in capsys.readouterr().err
    server.busy = 100
    assert imported(server, target) == 4
    assert "projects: the server answered 503" in capsys.readouterr().err
    assert run(["import", "zadig", "--url", server.peer.url]) == 2
    assert "a token is needed" in capsys.readouterr().err
    assert run(["import", "zadig", "--url", "http://127.0.0.1:9", "--token", "x", "-o", str(target)]) == 3
    assert "not reached" in capsys.readouterr().err
    assert "wrong-token" not in target.read_text()


def test_nobody_there_writes_into_the_file(server: Zadig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Members of a project there name roles as they like; an administrator applies the file here."""
    evil = "own\n---\nsystem: { users: { eve: { password: Given-by-hand-1, roles: [admin] } } }\n\x1b[2J#"
    for binding in server.routes["/openapi/policy/role-bindings"]:
        binding["roles"] = [evil]
    server.routes["/api/v1/codehosts"].append({"id": 9, "type": evil, "alias": "new", "address": "x"})
    target = tmp_path / "cador.yaml"
    assert imported(server, target) == 0
    prepared = prepare([Source("x", target.read_text())], environment=values(target.read_text()))
    assert not [one for one in prepared.documents if one.name == "eve"]
    assert "\x1b" not in capsys.readouterr().err + target.read_text()


def test_a_page_for_people_is_no_route(server: Zadig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What serves the pages of a Zadig answers to paths that it does not know with the first of them."""
    server.pages = {"/api/aslan/testing/test", "/api/aslan/build/build/openapi-build"}
    target = tmp_path / "cador.yaml"
    imported(server, target)
    said = capsys.readouterr().err
    assert f"{PROJECT}: tests: there is a page for people and no such route" in said
    text = target.read_text()
    assert "kind: Workflow" in text
    assert "kind: Test\n" not in text
    server.pages = {"/openapi/projects/project"}
    assert imported(server, tmp_path / "other.yaml") == 4
    assert "projects: there is a page for people" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"pre_build": ["x"]},
        {"pre_build": {"installs": "x", "envs": 7}},
        {"timeout": "soon"},
        {"repos": [1]},
        {"targets": {"a": 1}},
        {"post_build": "x"},
        {"advanced_settings": {"res_req_spec": []}},
    ],
)
def test_what_is_not_understood_is_left_out_and_told(
    server: Zadig, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object]
) -> None:
    (path,) = [path for path in server.routes if path.startswith("/api/aslan/build/build/")]
    server.routes[path].update(change)
    target = tmp_path / "cador.yaml"
    code = imported(server, target)
    said = capsys.readouterr().err
    assert code in (0, 1), said
    assert "Traceback" not in said
    assert "kind: Workflow" in target.read_text(), "everything else is there"


@pytest.mark.anyio
async def test_a_fresh_server_runs_what_was_imported(server: Zadig, tmp_path: Path) -> None:
    target = tmp_path / "cador.yaml"
    assert imported(server, target) == 0
    text = target.read_text()
    world = await World.real(tmp_path, "")
    await world.boot()
    try:
        await bootstrap_data(world.ctx)
        prepared = prepare([Source("x", text)], environment=values(text))
        done = await apply(world.ctx, world.actor(), prepared)
        assert [one.error for one in done.results if one.error] == []
        again = await apply(world.ctx, world.actor(), prepared)
        assert {one.action for one in again.results} == {"unchanged"}
        number = await world.start("talk", jobs=["say"])
        detail = await world.done("talk", number)
        assert detail.row.status == "passed"
        assert "hello from $USER" in world.log("talk", number, "say")
    finally:
        await world.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
