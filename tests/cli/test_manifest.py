"""Files as the command line reads them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cador.cli.apply import convert, delete, validate
from cador.cli.manifest import read_documents, variables_from
from cador.cli.output import Failure
from support.http_peer import Asked, peer, reply

PROJECT = "project: { key: shop }\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_files_folders_and_texts_beside_them(tmp_path: Path) -> None:
    write(tmp_path, "sub/build.sh", "make $HOME\n")
    main = write(tmp_path, "a.yaml", PROJECT + "builds:\n  b: { scriptFile: sub/build.sh, repos: [] }\n")
    folder = tmp_path / "more"
    write(folder, "users.yaml", "system: { users: { alice: { name: Alice } } }\n")
    write(folder, "notes.txt", "not: read")
    documents = read_documents([main, folder], {})
    assert {(one.kind, one.name) for one in documents} == {("Project", "shop"), ("Build", "b"), ("User", "alice")}
    build = next(one for one in documents if one.kind == "Build")
    assert build.spec["build_script"] == "make $HOME\n"


def test_files_lie_below_the_folder_or_beside_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "secret.txt", "outside\n")
    write(tmp_path, "work/up.sh", "echo up\n")
    (tmp_path / "work/link.sh").symlink_to(tmp_path / "secret.txt")
    os.mkfifo(tmp_path / "work/pipe.sh")
    monkeypatch.chdir(tmp_path / "work")
    for path, told in (
        ("../../secret.txt", "it lies outside of"),
        (str(tmp_path / "secret.txt"), "it lies outside of"),
        ("/etc/passwd", "it lies outside of"),
        ("../link.sh", "it lies outside of"),
        ("../pipe.sh", "it is no ordinary file"),
        ("..", "it is no ordinary file"),
        ("gone.sh", "there is no such file"),
    ):
        main = write(tmp_path, "work/sub/a.yaml", PROJECT + f"builds:\n  b: {{ scriptFile: {json.dumps(path)} }}\n")
        with pytest.raises(Failure, match="1 mistake"):
            read_documents([main], {})
        assert told in capsys.readouterr().err
        write(tmp_path, "work/sub/a.yaml", PROJECT + f"include: [{json.dumps(path)}]\n")
        with pytest.raises(Failure, match="1 mistake"):
            read_documents([main], {})
        assert told in capsys.readouterr().err
    main = write(tmp_path, "work/sub/a.yaml", PROJECT + "builds:\n  b: { scriptFile: ../up.sh }\n")
    assert [one.spec.get("build_script") for one in read_documents([main], {})] == [None, "echo up\n"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("project: { key: shop, nmae: x }\n", "a.yaml:1:"),
        ("project: { key: shop, nmae: x }\n", "did you mean 'name'"),
        (PROJECT + "builds:\n  b: { scriptFile: gone.sh }\n", "gone.sh"),
        (PROJECT + "members:\n  x: [\n", "a.yaml:"),
        (PROJECT + "system: { users: { a: { password: plain } } }\n", "NAME"),
        ("project: { key: '${NOT_SET}' }\n", "NOT_SET"),
    ],
)
def test_mistakes_are_told_with_their_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    with pytest.raises(Failure, match="mistake"):
        read_documents([write(tmp_path, "a.yaml", text)], {})
    assert told in capsys.readouterr().err


def test_variables_the_later_wins(tmp_path: Path) -> None:
    env_file = write(tmp_path, ".env", "# a comment\nA=file\nexport B='quoted'\nC = \"x\"\nD=a=b\n\n")
    known = variables_from(env_file, ["E=set=1", "A=set"], {"C": "environment", "F": "f"})
    assert known == {"A": "set", "B": "quoted", "C": "environment", "D": "a=b", "E": "set=1", "F": "f"}


def test_a_file_that_can_be_read_once(capsys: pytest.CaptureFixture[str]) -> None:
    """What a shell makes of ``-f <(...)``."""
    reading, writing = os.pipe()
    os.write(writing, PROJECT.encode())
    os.close(writing)
    try:
        assert validate(file=[Path(f"/dev/fd/{reading}")]) == 0
    finally:
        os.close(reading)
    assert capsys.readouterr().out == "valid: 1 Project\n"


def test_what_stands_in_for_a_password_is_a_good_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "system: { users: { alice: { password: '${NOBODY_SET_THIS}' } } }\n"
    assert validate(file=[write(tmp_path, "a.yaml", text)]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("valid: 1 User\n", "note: not set: NOBODY_SET_THIS\n")


@pytest.mark.parametrize("line", ["nothing", "a-b=1", "=1"])
def test_an_env_file_that_is_none(tmp_path: Path, line: str) -> None:
    with pytest.raises(Failure, match=r"\.env:2"):
        variables_from(write(tmp_path, ".env", f"A=1\n{line}\n"), [], {})


def test_validate_needs_no_variable_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOST_URL", raising=False)
    text = "system:\n  codehosts:\n    h: { type: gitlab, address: '${HOST_URL:?}', access_token: '${TOKEN}' }\n"
    assert validate(file=[write(tmp_path, "a.yaml", text)]) == 0
    told = capsys.readouterr()
    assert told.out == "valid: 1 CodeHost\n"
    assert told.err == "note: not set: HOST_URL, TOKEN\n"


def test_validate_checks_references(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        PROJECT + "workflows:\n  w:\n    stages: [{ name: s, jobs: [{ name: t, type: zadig-test, tests: [gone] }] }]\n"
    )
    with pytest.raises(Failure):
        validate(file=[write(tmp_path, "a.yaml", text)])
    assert "gone" in capsys.readouterr().err


def test_convert_keeps_references_and_can_be_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        PROJECT
        + "system:\n  codehosts:\n    h: { type: gitlab, address: '${URL:-http://x}', access_token: '${TOKEN}' }\n"
    )
    first = write(tmp_path, "a.yaml", text)
    convert(file=[first])
    long = capsys.readouterr().out
    assert "${TOKEN}" in long
    assert "${URL:-http://x}" in long
    known = {"TOKEN": "t"}
    second = read_documents([write(tmp_path, "b.yaml", long)], known)
    assert [one.wire() for one in second] == [one.wire() for one in read_documents([first], known)]
    convert(file=[first], json=True)
    assert [one["kind"] for one in json.loads(capsys.readouterr().out)] == ["CodeHost", "Project"]


def test_an_empty_file_describes_nothing(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="describe nothing"):
        read_documents([write(tmp_path, "a.yaml", "# nothing\n")], {})


def test_secrets_that_are_not_set_may_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = "system: { codehosts: { g: { type: gitlab, address: 'https://g.example.com', access_token: '${T}' } } }\n"
    main = write(tmp_path, "a.yaml", host)
    (kept,) = read_documents([main], {}, keep_secrets=True)
    assert kept.spec["access_token"] == "********"
    assert read_documents([main], {"T": "given"}, keep_secrets=True)[0].spec["access_token"] == "given"
    with pytest.raises(Failure, match="1 mistake"):
        read_documents([main], {})
    with pytest.raises(Failure, match="1 mistake"):
        read_documents(
            [write(tmp_path, "b.yaml", host.replace("https://g.example.com", "${A}"))], {}, keep_secrets=True
        )
    assert "variable A is not set" in capsys.readouterr().err


LIMITED = (
    PROJECT
    + """\
workflows:
  w:
    concurrency: ${LIMIT}
    disabled: ${OFF}
    task_timeout: ${LONG}
    stages:
      - name: s
        jobs:
          - { name: j, type: freestyle, script: "true", timeout: "${LONG}", resources: { cpu: "${C}", memory: "${M}" } }
"""
)


def test_numbers_and_switches_from_variables_can_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = write(tmp_path, "a.yaml", LIMITED)
    assert validate(file=[main]) == 0
    assert capsys.readouterr().err == "note: not set: C, LIMIT, LONG, M, OFF\n"
    assert validate(file=[main], json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["not_set"] == ["C", "LIMIT", "LONG", "M", "OFF"]
    assert [one["kind"] for one in told["objects"]] == ["Project", "Workflow"]
    assert validate(file=[write(tmp_path, "b.yaml", "project: { kye: x }\n")], json=True) == 1
    assert "did you mean 'key'" in json.loads(capsys.readouterr().out)["errors"][0]
    with pytest.raises(Failure, match="1 mistake"):
        convert(file=[main])  # what it prints would say something else


def test_what_cannot_be_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(Failure, match=r"bad\.yaml is not UTF-8 text"):
        read_documents([tmp_path / "bad.yaml"], {})
    with pytest.raises(Failure, match="/dev/zero is larger than 10 MiB"):
        read_documents([Path("/dev/zero")], {})
    with pytest.raises(Failure, match="Is a directory"):
        variables_from(tmp_path, [], {})


def test_what_is_deleted_is_named_by_the_same_variables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOST", raising=False)
    head = "apiVersion: cador.dev/v1\nkind: CodeHost\nmetadata: { name: 'x-${HOST}' }\n"
    main = write(tmp_path, "b.yaml", f"{head}spec: {{ type: other, address: '${{URL}}' }}\n")
    with pytest.raises(Failure) as caught:
        delete(file=[main], yes=True)
    assert "HOST" in capsys.readouterr().err + caught.value.message

    def answer(asked: Asked, handler: Any) -> None:
        one = {"kind": "CodeHost", "name": "x-git", "project": "", "action": "deleted", "error": ""}
        reply(handler, 200, {"results": [one], "warnings": []})

    with peer(answer) as server:
        monkeypatch.setenv("CADOR_URL", server.url)
        monkeypatch.setenv("CADOR_TOKEN", "t")
        assert delete(file=[main], set_=["HOST=git"], yes=True) == 0
    assert capsys.readouterr().out == "codehost/x-git deleted\n"
    (asked,) = server.asked
    assert asked.path == "/openapi/apply?delete=true"
    assert json.loads(asked.body)[0]["metadata"]["name"] == "x-git"
