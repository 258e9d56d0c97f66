"""Commits are asked for in bounded time, without prompts, and without credentials where others can see them."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cador.integrations.git_refs import resolve_commits, wanted_refs
from cador.ports.code_hosts import CodeHostAccess, Resolved
from support.git_server import BareRepository, GitServer, git, ssh_serving

pytestmark = pytest.mark.real


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "srv").serving() as running:
        yield running


def repo(**changes: Any) -> dict[str, Any]:
    return {"source": "gitlab", "repo_namespace": "group", "repo_name": "hello", "branch": "main", **changes}


def ask(*repos: tuple[dict[str, Any], CodeHostAccess], within_s: float = 30.0) -> list[Resolved]:
    return asyncio.run(resolve_commits(repos, within_s))


def test_every_kind_of_ref(server: GitServer) -> None:
    hello = server.repository("group/hello")
    first = hello.commit({"a": "1"}, ref="refs/heads/other")
    main = hello.commit({"a": "2"})
    request = hello.commit({"a": "3"}, ref="refs/merge-requests/7/head")
    git(hello.path, "-c", "user.name=x", "-c", "user.email=x@y", "tag", "-a", "-m", "t", "v1", first)
    access = CodeHostAccess(1, "gitlab", server.address, token=server.token)
    found = ask(
        (repo(), access),
        (repo(branch=""), access),
        (repo(tag="v1"), access),
        (repo(prs=[1, 7]), access),
        (repo(merge_branches=["other"], prs=[7]), access),
        (repo(branch="nope"), access),
        (repo(enable_commit=True, commit_id="f" * 40), access),
    )
    assert [one.facts.get("commit_id") for one in found] == [main, main, first, request, first, None, None]
    assert [one.problem for one in found[-2:]] == ["repository group/hello: refs/heads/nope not found", ""]


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


def test_ssh(tmp_path: Path) -> None:
    root = tmp_path / "repos"
    commit = BareRepository(root / "group/hello.git").commit({"a": "1"})
    try:
        with ssh_serving(root, tmp_path / "sshd") as ssh:
            access = CodeHostAccess(1, "other", ssh.address, ssh_key=ssh.key, auth_type="SSH")
            assert ask((repo(source="other"), access))[0].facts == {"commit_id": commit}
    except FileNotFoundError as error:
        pytest.skip(f"no sshd on this machine: {error}")


def test_what_is_asked_for() -> None:
    assert wanted_refs({"tag": "v1", "branch": "main"}) == ["refs/tags/v1^{}", "refs/tags/v1"]
    assert wanted_refs({"source": "github", "prs": [2, 3]}) == ["refs/pull/3/head"]
    assert wanted_refs({}) == ["HEAD"]
