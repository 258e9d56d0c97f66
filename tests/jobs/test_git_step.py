"""Step ``git`` against real servers: what is checked out, with which credentials, and what is refused."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cador.jobs.base import CodeHostAccess
from cador.jobs.steps.git import commits_found, compile_git
from cador.ports.executor import FolderStep, JobFolder
from jobs.running import Ended, run_folder
from support.git_server import BareRepository, GitServer, ssh_serving

HOST = 4
pytestmark = pytest.mark.real


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "srv").serving() as running:
        yield running


@pytest.fixture
def access(server: GitServer) -> CodeHostAccess:
    return CodeHostAccess(HOST, "gitlab", server.address, token=server.token)


@pytest.fixture
def hello(server: GitServer) -> BareRepository:
    return server.repository("group/sub/hello")


def repo(**changes: Any) -> dict[str, Any]:
    base = {"codehost_id": HOST, "source": "gitlab", "repo_namespace": "group/sub", "repo_name": "hello"}
    return {**base, "remote_name": "origin", "branch": "main", **changes}


def check_out(tmp_path: Path, access: CodeHostAccess, *repos: dict[str, Any], more: str = "") -> Ended:
    parts = compile_git("git", repos, {HOST: access}.get, {"SERVICE": "web"})
    steps = (*parts.steps, FolderStep("look", "shell", more)) if more else parts.steps
    folder = JobFolder(steps=steps, files=parts.files, outputs=parts.outputs, secrets=(access.token,))
    assert access.token == "" or access.token not in "".join(step.text for step in steps)
    ended = run_folder(folder, tmp_path / "jobs")
    for path in (tmp_path / "jobs").rglob("*"):
        if path.is_file() and "/job-1/files/" not in str(path):
            assert access.token == "" or access.token.encode() not in path.read_bytes(), path
    return ended


def test_branch(tmp_path: Path, access: CodeHostAccess, hello: BareRepository) -> None:
    hello.commit({"a.txt": "old"})
    commit = hello.commit({"a.txt": "new", "b/c.txt": "x"}, "Say hello\n\nLong text\n#ENV_X=1#")
    ended = check_out(tmp_path, access, repo())
    assert ended.exit_code == 0, ended.log
    assert ended.files["hello/a.txt"] == "new"
    assert commits_found(ended.outputs) == [
        {"commit_id": commit, "author_name": "Ann Author", "commit_message": "Say hello\n\nLong text\n#ENV_X=1#"}
    ]
    assert "+ git fetch --depth=1 origin +refs/heads/main:refs/remotes/origin/main" in ended.log
    assert f"{commit[:7]} Say hello" in ended.log


def test_tag_goes_before_commit_and_branch(tmp_path: Path, access: CodeHostAccess, hello: BareRepository) -> None:
    first = hello.commit({"a.txt": "tagged"})
    subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@y", "tag", "-a", "-m", "t", "v1.0", first],
        cwd=hello.path, check=True,
    )  # fmt: skip
    second = hello.commit({"a.txt": "later"}, parent=first)
    ended = check_out(tmp_path, access, repo(tag="v1.0", enable_commit=True, commit_id=second))
    assert ended.exit_code == 0, ended.log
    assert ended.files["hello/a.txt"] == "tagged"
    assert commits_found(ended.outputs)[0]["commit_id"] == first


@pytest.mark.parametrize("allowed", ["true", "false"])
@pytest.mark.parametrize("branch", ["main", ""])
def test_commit_even_when_the_server_refuses_single_ones(
    tmp_path: Path, access: CodeHostAccess, hello: BareRepository, allowed: str, branch: str
) -> None:
    hello.configure("uploadpack.allowAnySHA1InWant", allowed)
    hello.configure("uploadpack.allowReachableSHA1InWant", allowed)
    hello.configure("protocol.version", "0")
    first = hello.commit({"a.txt": "first"})
    hello.commit({"a.txt": "second"}, parent=first)
    for commit in (first, first[:9]):
        ended = check_out(tmp_path / commit, access, repo(enable_commit=True, commit_id=commit, branch=branch))
        assert ended.exit_code == 0, ended.log
        assert ended.files["hello/a.txt"] == "first"
        assert commits_found(ended.outputs)[0]["commit_id"] == first


def test_commit_of_another_branch(tmp_path: Path, access: CodeHostAccess, hello: BareRepository) -> None:
    hello.commit({"a.txt": "main"})
    other = hello.commit({"a.txt": "other"}, ref="refs/heads/other")
    ended = check_out(tmp_path, access, repo(enable_commit=True, commit_id=other[:12]))
    assert ended.files["hello/a.txt"] == "other", ended.log


def test_a_commit_id_counts_only_when_enabled(tmp_path: Path, access: CodeHostAccess, hello: BareRepository) -> None:
    first = hello.commit({"a.txt": "first"})
    hello.commit({"a.txt": "second"}, parent=first)
    assert check_out(tmp_path, access, repo(commit_id=first)).files["hello/a.txt"] == "second"


def test_unknown_refs_fail(tmp_path: Path, access: CodeHostAccess, hello: BareRepository) -> None:
    hello.commit({"a.txt": "x"})
    for number, change in enumerate(
        ({"branch": "nope"}, {"tag": "nope"}, {"enable_commit": True, "commit_id": "f" * 40})
    ):
        ended = check_out(tmp_path / str(number), access, repo(**change))
        assert ended.exit_code != 0
        assert commits_found(ended.outputs) == []


def diverged(hello: BareRepository, ref: str) -> tuple[str, str]:
    """A main branch and a change that touch different files of a common ancestor."""
    base = hello.commit({"a.txt": "a", "b.txt": "b"}, "base")
    change = hello.commit({"a.txt": "a", "b.txt": "changed"}, "Change b", ref=ref, parent=base)
    hello.commit({"a.txt": "newer", "b.txt": "b"}, "newer", parent=base)
    return base, change


@pytest.mark.parametrize(
    ("kind", "ref"),
    [
        ("gitlab", "refs/merge-requests/3/head"),
        ("github", "refs/pull/3/head"),
        ("gitee", "refs/pull/3/head"),
        ("other", "refs/pull/3/head"),
        ("other", "refs/merge-requests/3/head"),
    ],
)
def test_pull_requests_are_merged(
    tmp_path: Path, server: GitServer, hello: BareRepository, kind: str, ref: str
) -> None:
    user = {"github": "x-access-token"}.get(kind, "oauth2")
    server.user = user
    _, change = diverged(hello, ref)
    access = CodeHostAccess(HOST, kind, server.address, token=server.token)
    ended = check_out(tmp_path, access, repo(source=kind, prs=[3]))
    assert ended.exit_code == 0, ended.log
    assert (ended.files["hello/a.txt"], ended.files["hello/b.txt"]) == ("newer", "changed")
    assert commits_found(ended.outputs)[0]["commit_id"] == change


def test_a_pull_request_alone(tmp_path: Path, access: CodeHostAccess, hello: BareRepository) -> None:
    diverged(hello, "refs/merge-requests/3/head")
    ended = check_out(tmp_path, access, repo(branch="", pr=3))
    assert (ended.files["hello/a.txt"], ended.files["hello/b.txt"]) == ("a", "changed"), ended.log


def test_several_pull_requests_alone(tmp_path: Path, access: CodeHostAccess, hello: BareRepository) -> None:
    base, _ = diverged(hello, "refs/merge-requests/3/head")
    last = hello.commit({"a.txt": "a", "b.txt": "b", "c.txt": "c"}, ref="refs/merge-requests/9/head", parent=base)
    ended = check_out(tmp_path, access, repo(branch="", prs=[3, 9]))
    assert ended.exit_code == 0, ended.log
    assert (ended.files["hello/b.txt"], ended.files["hello/c.txt"]) == ("changed", "c")
    assert commits_found(ended.outputs)[0]["commit_id"] == last


def test_branches_are_merged_instead_of_pull_requests(
    tmp_path: Path, access: CodeHostAccess, hello: BareRepository
) -> None:
    base, _ = diverged(hello, "refs/heads/feature/x")
    hello.commit({"a.txt": "a", "b.txt": "b", "pr": "1"}, ref="refs/merge-requests/3/head", parent=base)
    ended = check_out(tmp_path, access, repo(merge_branches=["feature/x"], prs=[3]))
    assert ended.exit_code == 0, ended.log
    assert (ended.files["hello/a.txt"], ended.files["hello/b.txt"]) == ("newer", "changed")
    assert "hello/pr" not in ended.files


def test_a_conflict_fails_and_names_the_pull_request(
    tmp_path: Path, access: CodeHostAccess, hello: BareRepository
) -> None:
    base = hello.commit({"a.txt": "a"})
    hello.commit({"a.txt": "theirs"}, ref="refs/merge-requests/12/head", parent=base)
    hello.commit({"a.txt": "ours"}, parent=base)
    ended = check_out(tmp_path, access, repo(prs=[12]))
    assert ended.exit_code == 1
    assert "merge of pull request 12 failed" in ended.log
    assert "a.txt" in ended.log


def test_history_deeper_than_the_first_fetch(tmp_path: Path, access: CodeHostAccess, hello: BareRepository) -> None:
    base = hello.commit({"a.txt": "a", "b.txt": "b"})
    hello.commit({"a.txt": "a", "b.txt": "changed"}, ref="refs/merge-requests/3/head", parent=base)
    stream = "".join(
        f"commit refs/heads/main\ncommitter x <x@y> {1_700_000_000 + n} +0000\ndata 1\n{n % 10}\n"
        + (f"from {base}\n" if n == 0 else "")
        + "M 100644 inline a.txt\ndata 4\nnew"
        + f"{n % 10}\n"
        for n in range(510)
    )
    subprocess.run(["git", "fast-import", "--quiet", "--force"], cwd=hello.path, input=stream.encode(), check=True)
    ended = check_out(tmp_path, access, repo(prs=[3]))
    assert ended.exit_code == 0, ended.log
    assert (ended.files["hello/a.txt"], ended.files["hello/b.txt"]) == ("new9", "changed")


def test_submodules_use_the_same_credentials(
    tmp_path: Path, access: CodeHostAccess, server: GitServer, hello: BareRepository
) -> None:
    inner = server.repository("group/inner").commit({"inner.txt": "inside"})
    modules = f'[submodule "lib"]\n\tpath = lib\n\turl = {server.address}/group/inner.git\n'
    hello.commit({".gitmodules": modules}, submodules={"lib": inner})
    ended = check_out(tmp_path, access, repo(submodules=True))
    assert ended.exit_code == 0, ended.log
    assert ended.files["hello/lib/inner.txt"] == "inside"
    assert "hello/lib/inner.txt" not in check_out(tmp_path / "without", access, repo()).files


def test_several_repositories_of_several_hosts(
    tmp_path: Path, access: CodeHostAccess, server: GitServer, hello: BareRepository
) -> None:
    hello.commit({"a.txt": "1"})
    local = BareRepository(tmp_path / "plain/team/tools.git")
    local.commit({"t.txt": "2"})
    other = CodeHostAccess(5, "other", str(tmp_path / "plain"))
    repos = [
        repo(checkout_path="src/$SERVICE"),
        repo(codehost_id=5, source="other", repo_namespace="team", repo_name="tools", branch=""),
    ]
    parts = compile_git("git", repos, {HOST: access, 5: other}.get, {"SERVICE": "web"}, first=3)
    folder = JobFolder(steps=parts.steps, files=parts.files, outputs=parts.outputs)
    ended = run_folder(folder, tmp_path / "jobs")
    assert ended.exit_code == 0, ended.log
    assert (ended.files["src/web/a.txt"], ended.files["tools/t.txt"]) == ("1", "2")
    assert [bool(found) for found in commits_found(ended.outputs)] == [False, False, False, True, True]


def test_checking_out_again_moves_on(tmp_path: Path, access: CodeHostAccess, hello: BareRepository) -> None:
    first = hello.commit({"a.txt": "1"})
    parts = compile_git("git", [repo()], {HOST: access}.get, {})
    twice = compile_git("git", [repo()], {HOST: access}.get, {}, first=1)
    hello.commit({"a.txt": "2"}, parent=first)
    files = {**parts.files, **twice.files}
    ended = run_folder(JobFolder(steps=(*parts.steps, *twice.steps), files=files), tmp_path / "jobs")
    assert ended.exit_code == 0, ended.log
    assert ended.files["hello/a.txt"] == "2"


def test_wrong_credentials_end_at_once_and_are_not_told(
    tmp_path: Path, server: GitServer, hello: BareRepository
) -> None:
    hello.commit({"a.txt": "1"})
    wrong = CodeHostAccess(HOST, "gitlab", server.address, token="wrong-token-value")
    ended = check_out(tmp_path, wrong, repo())
    assert ended.exit_code != 0
    assert "wrong-token-value" not in ended.log
    assert re.search(r"Authentication failed|could not read Username", ended.log)
    nothing = check_out(tmp_path / "2", CodeHostAccess(HOST, "gitlab", server.address), repo())
    assert nothing.exit_code != 0
    assert "terminal prompts disabled" in nothing.log


def test_credentials_are_gone_when_the_users_script_runs(
    tmp_path: Path, access: CodeHostAccess, hello: BareRepository
) -> None:
    hello.commit({"a.txt": "1"})
    look = 'find "$CADOR_JOB_DIR/files" "$TMPDIR" -type f; env; cat hello/.git/config; git -C hello remote -v; set'
    ended = check_out(tmp_path, access, repo(), more=look)
    assert ended.exit_code == 0, ended.log
    assert access.token not in ended.log
    assert "git/0/store" not in ended.log
    assert "tok%26n" not in ended.log


def test_ssh(tmp_path: Path) -> None:
    root = tmp_path / "repos"
    hello = BareRepository(root / "group/hello.git")
    commit = hello.commit({"a.txt": "by ssh"})
    try:
        serving = ssh_serving(root, tmp_path / "sshd")
        with serving as ssh:
            wanted = repo(source="other", repo_namespace="group")
            access = CodeHostAccess(HOST, "other", ssh.address, ssh_key=ssh.key, auth_type="SSH")
            ended = check_out(tmp_path / "1", access, wanted)
            assert ended.exit_code == 0, ended.log
            assert commits_found(ended.outputs)[0]["commit_id"] == commit
            known = CodeHostAccess(HOST, "other", ssh.address, ssh_key=ssh.key, known_hosts=ssh.host_key)
            assert check_out(tmp_path / "2", known, wanted).exit_code == 0
            forged = CodeHostAccess(HOST, "other", ssh.address, ssh_key=ssh.key, known_hosts=ssh.wrong_host_key)
            refused = check_out(tmp_path / "3", forged, wanted)
            assert refused.exit_code != 0
            assert "Host key verification failed" in refused.log
            locked_out = CodeHostAccess(HOST, "other", ssh.address, auth_type="SSH")
            refused = check_out(tmp_path / "4", locked_out, wanted)
            assert refused.exit_code != 0
            assert "Permission denied" in refused.log
    except FileNotFoundError as error:
        pytest.skip(f"no sshd on this machine: {error}")
