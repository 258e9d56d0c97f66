"""What users write into repositories never becomes program text, an option or a way out of the workspace."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cador.domain.errors import Invalid
from cador.jobs.base import CodeHostAccess
from cador.jobs.steps.base import workspace_path
from cador.jobs.steps.git import commits_found, compile_git, pull_request_ref, ref_name, remote
from cador.ports.executor import JobFolder
from jobs.running import run_folder


def access(**changes: Any) -> CodeHostAccess:
    base: dict[str, Any] = {"id": 4, "type": "gitlab", "address": "https://git.example.com", "token": "s3cret-token"}
    return CodeHostAccess(**{**base, **changes})


def repo(**changes: Any) -> dict[str, Any]:
    return {"codehost_id": 4, "source": "gitlab", "repo_namespace": "ns", "repo_name": "r", "branch": "main", **changes}


def compiled(**changes: Any) -> str:
    return compile_git("git", [repo(**changes)], lambda ident: access(), {}).steps[0].text


BAD_REFS = [
    *("--upload-pack=x", "-b", "a b", "a..b", "a\nb", "a:b", "@", "a.lock", "/a", "a/", "~a", "a^", "x@{1}", "a\\b"),
    *("a//b", ".a", "a/.b", "a.", "\x7f", "a*", "a?", "a["),
]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("branch", bad) for bad in BAD_REFS),
        *(("remote_name", bad) for bad in ("--mirror", "a b", "../x", "-o")),
        *(("repo_name", bad) for bad in ("..", "a/b", "", "-x", "a\nb", "a?b", "a#b")),
        *(("repo_namespace", bad) for bad in ("../..", "a//b", "-x", "a/../b", "a\rb")),
        *(("checkout_path", bad) for bad in ("/etc", "../x", "a/../../x", "-rf", "a\nb", "a\x00")),
        ("merge_branches", ["ok", "--abort"]),
        ("prs", [-1]),
        ("prs", ["1; rm -rf /"]),
    ],
)
def test_refused(field: str, value: Any) -> None:
    with pytest.raises(Invalid):
        compiled(**{field: value})


@pytest.mark.parametrize("commit", ["--all", "HEAD", "abc", "g" * 40, "a" * 65, "a" * 40 + "\n"])
def test_refused_commit_ids(commit: str) -> None:
    with pytest.raises(Invalid):
        compiled(enable_commit=True, commit_id=commit)


@pytest.mark.parametrize("value", ["$(touch owned)", "`touch owned`", "'; touch owned; '", "x';touch${IFS}owned;'"])
def test_shell_text_in_names_runs_nothing(tmp_path: Path, value: str) -> None:
    """Names git would take stay data: they are looked for and not found."""
    (tmp_path / "srv/ns").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "srv/ns/r.git")], check=True)
    local = CodeHostAccess(4, "other", str(tmp_path / "srv"))
    for number, changes in enumerate(
        (
            {"branch": value.replace(" ", "\u00a0")},
            {"checkout_path": value},
            {"repo_name": value},
            {"repo_namespace": value},
        )
    ):
        parts = compile_git("git", [repo(source="other", **changes)], {4: local}.get, {})
        ended = run_folder(JobFolder(steps=parts.steps, files=parts.files), tmp_path / f"jobs{number}")
        assert ended.exit_code != 0
        assert not list(tmp_path.rglob("owned"))


@settings(max_examples=300)
@given(st.text(min_size=1, max_size=30))
def test_refs_that_are_taken_are_refs_for_git(value: str) -> None:
    try:
        name = ref_name(value, "branch")
    except Invalid:
        return
    assert name == value
    assert not name.startswith("-")
    assert not any(c in name for c in "\n\r\0 ~^:?*[\\")


def test_taken_names_are_legal_for_git_itself() -> None:
    names = ["main", "feat/x", "v1.0", "修复", "a-b_c", "+a", "a'b", 'a"b', "$HOME", "a&b", "@x", "a@b"]
    for name in names:
        assert ref_name(name, "branch") == name
        subprocess.run(["git", "check-ref-format", "--branch", name], check=True, capture_output=True)


@given(st.text(max_size=30))
def test_paths_stay_below_the_workspace(path: str) -> None:
    try:
        inside = workspace_path(path, "path")
    except Invalid:
        return
    assert not inside.startswith(("/", "-"))
    assert ".." not in inside.split("/")


def test_paths_of_the_workspace_itself() -> None:
    for path in ("", ".", "./", "/workspace", "$WORKSPACE/", "${WORKSPACE}"):
        assert workspace_path(path, "path") == "."
    assert workspace_path("/workspace/a//b/", "path") == "a/b"
    assert workspace_path("$WORKSPACE/a", "path") == "a"


@pytest.mark.parametrize(
    ("host", "url", "store"),
    [
        (access(), "https://git.example.com/ns/sub/r.git", "https://oauth2:s3cret-token@git.example.com"),
        (
            access(address="http://git.example.com:8443/base/path/", token="a/b@c:d"),
            "http://git.example.com:8443/base/path/ns/sub/r.git",
            "http://oauth2:a%2Fb%40c%3Ad@git.example.com:8443",
        ),
        (
            access(type="github", address="github.com"),
            "https://github.com/ns/sub/r.git",
            "https://x-access-token:s3cret-token@github.com",
        ),
        (
            access(type="gerrit", username="me", password="pw", token=""),
            "https://git.example.com/a/ns/sub/r",
            "https://me:pw@git.example.com",
        ),
        (
            access(address="https://u:p%40w@git.example.com", token=""),
            "https://git.example.com/ns/sub/r.git",
            "https://u:p%40w@git.example.com",
        ),
        (access(token=""), "https://git.example.com/ns/sub/r.git", ""),
        (access(type="other", address="/srv/git", token=""), "/srv/git/ns/sub/r.git", ""),
        (access(type="other", address="file:///srv/git", token=""), "file:///srv/git/ns/sub/r.git", ""),
        (
            access(type="other", address="git@git.example.com", auth_type="SSH", token=""),
            "git@git.example.com:ns/sub/r.git",
            "",
        ),
        (
            access(type="other", address="ssh://git@git.example.com:2222", auth_type="SSH", token=""),
            "ssh://git@git.example.com:2222/ns/sub/r.git",
            "",
        ),
        (access(type="other", address="git@git.example.com", token=""), "git@git.example.com:ns/sub/r.git", ""),
        (access(type="other", address="git@git.example.com:team"), "git@git.example.com:team/ns/sub/r.git", ""),
        (
            access(type="other", address="git://git.example.com:9418/base"),
            "git://git.example.com:9418/base/ns/sub/r.git",
            "",
        ),
    ],
)
def test_addresses(host: CodeHostAccess, url: str, store: str) -> None:
    where = remote(repo(repo_namespace="ns/sub"), host)
    assert (where.url, where.store) == (url, store)


@pytest.mark.parametrize("address", ["", "ext::sh -c x", "ftp://x", "-oProxyCommand=x", "https://a\nb"])
def test_refused_addresses(address: str) -> None:
    with pytest.raises(Invalid):
        remote(repo(), access(address=address))


@pytest.mark.parametrize("address", ["-oProxyCommand=x", "a b@c", "$(x)@h", "ssh://-oProxyCommand=x/", "ext::sh@x"])
def test_refused_ssh_addresses(address: str) -> None:
    with pytest.raises(Invalid):
        remote(repo(), access(address=address, auth_type="SSH"))


def test_credentials_are_in_files_only() -> None:
    parts = compile_git("git", [repo()], lambda ident: access(), {})
    assert "s3cret" not in parts.steps[0].text
    assert parts.files == {"git/0/store": b"https://oauth2:s3cret-token@git.example.com\n"}


def test_unknown_code_host() -> None:
    with pytest.raises(Invalid, match=r"^repository ns/r: code host 4 not found$"):
        compile_git("git", [repo()], lambda ident: None, {})


def test_where_pull_requests_are() -> None:
    assert pull_request_ref({"source": "GitLab"}, 3) == "refs/merge-requests/3/head"
    assert pull_request_ref({"source": "gerrit", "checkout_ref": "refs/changes/45/12345/2"}, 12345) == (
        "refs/changes/45/12345/2"
    )
    with pytest.raises(Invalid):
        pull_request_ref({"source": "gerrit"}, 12345)


def test_facts_that_are_no_commit_are_not_believed() -> None:
    assert commits_found({"cador.repo.0": "not a commit\nx", "cador.repo.99999999": "a" * 40, "other": "x"}) == [{}]
