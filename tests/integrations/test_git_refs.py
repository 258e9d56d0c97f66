"""Commits are asked for in bounded time, without prompts, and without credentials where others can see them."""

import asyncio
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cador.integrations.git_refs import GitRefs, reason, wanted_refs
from cador.jobs.steps.git import Remote
from cador.ports.code_hosts import CodeHostAccess, Resolved
from support.git_server import BareRepository, GitServer, git, ssh_serving

pytestmark = pytest.mark.real


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "srv").serving() as running:
        yield running


def repo(**changes: Any) -> dict[str, Any]:
    return {"source": "gitlab", "repo_namespace": "group", "repo_name": "hello", "branch": "main", **changes}


def ask(*repos: tuple[dict[str, Any], CodeHostAccess], within_s: float = 30.0, **bounds: int) -> list[Resolved]:
    return asyncio.run(GitRefs(**bounds)(repos, within_s))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files of the resolver lie."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_every_kind_of_ref(server: GitServer, temporary: Path) -> None:
    hello = server.repository("group/hello")
    first = hello.commit({"a": "1"}, "first", ref="refs/heads/other")
    main = hello.commit({"a": "2"}, "main\n\nwith two #A=1#\nlines\n", parent=first)
    request = hello.commit({"a": "3"}, "request", ref="refs/merge-requests/7/head")
    git(hello.path, "-c", "user.name=x", "-c", "user.email=x@y", "tag", "-a", "-m", "t", "v1", first)
    git(hello.path, "tag", "light", main)
    access = CodeHostAccess(1, "gitlab", server.address, token=server.token)
    message = "main\n\nwith two #A=1#\nlines"
    asked = [
        (repo(), main, message),
        (repo(branch=""), main, message),
        (repo(tag="v1"), first, "first"),
        (repo(tag="light"), main, message),
        (repo(prs=[1, 7]), request, "request"),
        (repo(merge_branches=["other"], prs=[7]), first, "first"),
        (repo(enable_commit=True, commit_id=first), first, "first"),
        (repo(enable_commit=True, commit_id=main[:9]), main[:9], message),
    ]
    found = ask(*[(given, access) for given, _, _ in asked])
    assert [one.problem for one in found] == [""] * len(asked)
    assert [one.facts for one in found] == [
        {"commit_id": commit, "author_name": "Ann Author", "commit_message": told} for _, commit, told in asked
    ]
    assert list(temporary.iterdir()) == []


def test_what_is_not_there_is_a_problem(server: GitServer) -> None:
    hello = server.repository("group/hello")
    first = hello.commit({"a": "1"}, "first")
    hello.commit({"a": "2"}, "second", parent=first)
    access = CodeHostAccess(1, "gitlab", server.address, token=server.token)
    gone, short = "f" * 40, first[:9]
    found = ask(
        (repo(branch="nope"), access),
        (repo(enable_commit=True, commit_id=gone), access),
        (repo(enable_commit=True, commit_id=short), access),
        (repo(enable_commit=True, commit_id="--output=x"), access),
    )
    assert [dict(one.facts) for one in found] == [{}, {"commit_id": gone}, {}, {}]
    assert found[0].problem == "repository group/hello: refs/heads/nope not found"
    assert found[1].problem.startswith("repository group/hello: author and message of ffffffff are not known: fatal:")
    assert f"not our ref {gone}" in found[1].problem
    assert f"commit {short} is abbreviated" in found[2].problem
    assert "'--output=x' is not valid" in found[3].problem


@pytest.mark.parametrize(
    ("settings", "fetches"),
    [
        ({"uploadpack.allowFilter": "true"}, 1),
        ({"uploadpack.allowFilter": "true", "uploadpackfilter.tree.allow": "false"}, 2),
        ({"uploadpack.allowFilter": "true", "uploadpackfilter.allow": "false"}, 3),
        ({}, 1),
    ],
)
def test_whatever_a_server_thinks_of_filters(server: GitServer, settings: dict[str, str], fetches: int) -> None:
    hello = server.repository("group/hello")
    for name, value in settings.items():
        hello.configure(name, value)
    commit = hello.commit({"big": "x" * 1000}, "small")
    access = CodeHostAccess(1, "gitlab", server.address, token=server.token)
    assert ask((repo(), access))[0] == Resolved(
        {"commit_id": commit, "author_name": "Ann Author", "commit_message": "small"}
    )
    asked = sum(path.endswith("git-upload-pack") for path in server.requests if "?" not in path)
    assert asked == 1 + fetches


def test_a_server_that_does_not_give_single_commits(server: GitServer) -> None:
    server.old = True
    hello = server.repository("group/hello")
    first = hello.commit({"a": "1"}, "first", ref="refs/heads/other")
    git(hello.path, "-c", "user.name=x", "-c", "user.email=x@y", "tag", "-a", "-m", "t", "v1", first)
    git(hello.path, "update-ref", "-d", "refs/heads/other")
    access = CodeHostAccess(1, "gitlab", server.address, token=server.token)
    found = ask((repo(tag="v1"), access))[0]
    assert found == Resolved({"commit_id": first, "author_name": "Ann Author", "commit_message": "first"})


def test_out_of_time_the_commit_is_told_as_far_as_it_is_known(server: GitServer, temporary: Path) -> None:
    commit = server.repository("group/hello").commit({"a": "1"}, "first")
    access = CodeHostAccess(1, "gitlab", server.address, token=server.token)
    server.fetches = threading.Event()
    try:
        found = ask((repo(), access), within_s=3.0)[0]
    finally:
        server.fetches.set()
    assert found.facts == {"commit_id": commit}
    assert found.problem == (
        f"repository group/hello: no answer within 3 s, author and message of {commit[:8]} are not known yet"
    )
    assert list(temporary.iterdir()) == []


def test_files_are_left_out_where_the_server_can(server: GitServer) -> None:
    """A file beyond what git may write here: only a fetch without files comes to its end."""
    hello = server.repository("group/hello")
    hello.configure("uploadpack.allowFilter", "true")
    big = git(hello.path, "hash-object", "-w", "--stdin", stdin=os.urandom(1 << 20))
    tree = git(hello.path, "mktree", stdin=f"100644 blob {big}\tbig\n".encode())
    git(hello.path, "update-ref", "refs/heads/main", git(hello.path, "commit-tree", tree, stdin=b"light"))
    access = CodeHostAccess(1, "gitlab", server.address, token=server.token)
    assert ask((repo(), access), file_kib=512)[0].facts["commit_message"] == "light"
    hello.configure("uploadpack.allowFilter", "false")
    found = ask((repo(), access), file_kib=512)[0]
    assert set(found.facts) == {"commit_id"}
    assert "author and message of" in found.problem


def test_a_commit_is_read_once(server: GitServer) -> None:
    hello = server.repository("group/hello")
    access = CodeHostAccess(1, "gitlab", server.address, token=server.token)
    resolver = GitRefs(remembered=1)

    def requests(**changes: Any) -> tuple[str, int]:
        """Message, and requests for content."""
        server.requests.clear()
        (found,) = asyncio.run(resolver([(repo(**changes), access)], 30.0))
        return found.facts["commit_message"], len(server.requests)

    first = hello.commit({"a": "1"}, "first")
    message, whole = requests()
    assert (message, requests()[0]) == ("first", "first")
    assert requests()[1] < whole
    assert requests(enable_commit=True, commit_id=first) == ("first", requests()[1])
    hello.commit({"a": "2"}, "second")
    assert requests() == ("second", whole)
    assert requests(enable_commit=True, commit_id=first) == ("first", whole)  # forgotten: only one is kept
    stranger = CodeHostAccess(1, "gitlab", server.address, token="wrong")
    (found,) = asyncio.run(resolver([(repo(), stranger)], 30.0))
    assert found.facts == {}  # what is remembered is for those who may read


def test_one_repository_of_many_jobs_is_asked_once(server: GitServer) -> None:
    server.repository("group/hello").commit({"a": "1"}, "first")
    access = CodeHostAccess(1, "gitlab", server.address, token=server.token)
    ask((repo(), access))
    alone = len(server.requests)
    server.requests.clear()
    found = ask(*[(repo(), access)] * 20)
    assert {one.facts["commit_message"] for one in found} == {"first"}
    assert len(server.requests) == alone


def test_a_message_is_bounded_and_text(server: GitServer) -> None:
    hello = server.repository("group/hello")
    hello.commit({"a": "1"}, "x" * 100_000)
    hello.configure("uploadpack.allowFilter", "true")
    latin = "encoding iso-8859-1\n\nGr\xfc\xdfe\n".encode("latin-1")
    tree = git(hello.path, "mktree")
    who = "\xd6rn <o@x> 1700000000 +0000".encode("latin-1")
    raw = b"tree " + tree.encode() + b"\nauthor " + who + b"\ncommitter " + who + b"\n" + latin
    commit = git(hello.path, "hash-object", "-t", "commit", "-w", "--stdin", stdin=raw)
    git(hello.path, "update-ref", "refs/heads/latin", commit)
    access = CodeHostAccess(1, "gitlab", server.address, token=server.token)
    long, latin1 = ask((repo(), access), (repo(branch="latin"), access))
    assert long.facts["commit_message"] == "x" * 16_384
    assert latin1.facts == {"commit_id": commit, "author_name": "Örn", "commit_message": "Grüße"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_repository_of_somebody_else_is_told_as_such(tmp_path: Path) -> None:
    repository = BareRepository(tmp_path / "group/hello.git")
    repository.commit({"a": "1"})
    shutil.chown(repository.path, "nobody")
    found = ask((repo(), CodeHostAccess(1, "other", str(tmp_path))))[0]
    assert found.facts == {}
    assert found.problem.startswith("repository group/hello: fatal: detected dubious ownership in repository at")


def test_a_branch_is_not_mistaken_for_another_that_ends_so(server: GitServer) -> None:
    hello = server.repository("group/hello")
    hello.commit({"a": "1"}, ref="refs/heads/x/main")
    access = CodeHostAccess(1, "gitlab", server.address, token=server.token)
    assert ask((repo(), access))[0].facts == {}


def test_what_cannot_be_asked_is_a_problem_without_credentials(server: GitServer) -> None:
    server.repository("group/hello").commit({"a": "1"})
    wrong = CodeHostAccess(1, "gitlab", server.address, token="wrong-token-value")
    found = ask((repo(), wrong), (repo(branch="--upload-pack=x"), wrong), (repo(), CodeHostAccess(1, "gitlab", "")))
    assert [one.facts for one in found] == [{}, {}, {}]
    assert "Authentication failed" in found[0].problem
    assert "is not a valid name" in found[1].problem
    assert "has no address" in found[2].problem
    assert "wrong-token" not in "".join(one.problem for one in found)


def test_a_server_that_never_answers_costs_the_time_given_and_no_more(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        port = silent.getsockname()[1]
        access = CodeHostAccess(1, "gitlab", f"http://127.0.0.1:{port}", token="t")
        found = ask(*[(repo(), access)] * 10, within_s=0.5)
    assert {one.problem for one in found} == {
        "repository group/hello: no answer within 0.5 s, the commit is not known yet"
    }


@pytest.mark.parametrize("to", ["", " >&2"])
def test_a_git_that_says_no_end_is_not_listened_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    git = tmp_path / "git"
    git.write_text(f"#!/bin/sh\nexec yes 'more and more'{to}\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = ask((repo(), CodeHostAccess(1, "gitlab", "http://127.0.0.1:9")))[0]
    assert found == Resolved({}, "repository group/hello: fatal: git said more than 4 MiB")


def test_ssh(tmp_path: Path) -> None:
    root = tmp_path / "repos"
    commit = BareRepository(root / "group/hello.git").commit({"a": "1"})
    try:
        with ssh_serving(root, tmp_path / "sshd") as ssh:
            access = CodeHostAccess(1, "other", ssh.address, ssh_key=ssh.key, auth_type="SSH")
            facts = {"commit_id": commit, "author_name": "Ann Author", "commit_message": "change"}
            assert ask((repo(source="other"), access))[0] == Resolved(facts)
            (root / "group/hello.git").rename(root / "group/other.git")
            problem = ask((repo(source="other"), access))[0].problem
            assert "does not appear to be a git repository" in problem
            stranger = CodeHostAccess(1, "other", ssh.address, auth_type="SSH")
            assert "Permission denied" in ask((repo(source="other"), stranger))[0].problem
    except FileNotFoundError as error:
        pytest.skip(f"no sshd on this machine: {error}")


def test_what_is_asked_for() -> None:
    assert wanted_refs({"tag": "v1", "branch": "main"}) == ["refs/tags/v1^{}", "refs/tags/v1"]
    assert wanted_refs({"source": "github", "prs": [2, 3]}) == ["refs/pull/3/head"]
    assert wanted_refs({}) == ["HEAD"]


@pytest.mark.parametrize(
    ("complaint", "told"),
    [
        (
            "warning: x\nfatal: dubious ownership\nfatal: Could not read from remote repository.\n\nPlease",
            "fatal: dubi",
        ),
        ("Warning: added\nremote: no such project\nfatal: Could not read from remote repository.", "remote: no such"),
        (
            "Warning: added\nme@h: Permission denied (publickey).\nfatal: Could not read from remote repository.",
            "me@h: Perm",
        ),
        ("fatal: Could not read from remote repository.", "fatal: Could not read"),
        ("", "git gave no reason"),
        ("fatal: me:s%20cret at https://me:s%20cret@h is wrong", "fatal: ******** at ******** is wrong"),
        ("fatal: it says s cret", "fatal: it says ********"),
    ],
)
def test_what_is_told_of_a_complaint(complaint: str, told: str) -> None:
    shown = reason(complaint, Remote("https://h/r.git", store="https://me:s%20cret@h"))
    assert shown.startswith(told)
    assert "cret" not in shown
