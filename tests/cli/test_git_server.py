"""Snapshots of folders, served to a real git."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cador.cli.git_server import GitServer, git, snapshot
from cador.cli.output import Failure


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working tree with a commit, a change, a new file, an ignored one and a tracked one that is ignored."""
    place = tmp_path / "work"
    place.mkdir()
    git("init", "-q", cwd=place)
    (place / "old.txt").write_text("committed")
    (place / "kept.log").write_text("tracked although ignored")
    git("add", "-A", cwd=place)
    git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "one", cwd=place)
    (place / ".gitignore").write_text("*.log\n")
    (place / "old.txt").write_text("changed")
    (place / "new file.txt").write_text("new")
    (place / "noise.log").write_text("no")
    return place


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "git") as running:
        yield running


def address(server: GitServer, token: str, repository: str) -> str:
    return f"{server.url.replace('http://', f'http://oauth2:{token}@')}/{repository}.git"


def test_a_snapshot_is_the_folder_as_it_is(tmp_path: Path, folder: Path, server: GitServer) -> None:
    before = git("status", "--porcelain", cwd=folder)
    commit = snapshot(folder, tmp_path / "git" / "a" / "b.git", "now", ("main", "dev"))
    for branch in ("main", "dev"):
        target = tmp_path / branch
        git("clone", "-q", "--depth=1", "-b", branch, address(server, server.token, "a/b"), str(target))
        names = {path.name for path in target.iterdir()} - {".git"}
        assert names == {".gitignore", "old.txt", "new file.txt", "kept.log"}
        assert (target / "old.txt").read_text() == "changed"
        assert git("rev-parse", "HEAD", cwd=target).strip() == commit
    assert git("status", "--porcelain", cwd=folder) == before


def test_a_commit_can_be_fetched_by_its_id(tmp_path: Path, folder: Path, server: GitServer) -> None:
    commit = snapshot(folder, tmp_path / "git" / "a" / "b.git", "now")
    target = tmp_path / "clone"
    git("init", "-q", str(target))
    git("fetch", "-q", "--depth=1", address(server, server.token, "a/b"), commit, cwd=target)


def test_a_large_repository_comes_whole(tmp_path: Path, server: GitServer) -> None:
    """More than fits into a pipe, in both directions: git asks with a compressed body."""
    place = tmp_path / "large"
    place.mkdir()
    for number in range(300):
        (place / f"{number}.bin").write_bytes(number.to_bytes(2, "big") * 5_000 + bytes(range(256)))
    snapshot(place, tmp_path / "git" / "a" / "large.git", "large")
    git("clone", "-q", address(server, server.token, "a/large"), str(tmp_path / "clone"))
    assert len(list((tmp_path / "clone").glob("*.bin"))) == 300


@pytest.mark.parametrize("token", ["", "wrong", "x" * 40])
def test_nobody_reads_without_the_token(tmp_path: Path, folder: Path, server: GitServer, token: str) -> None:
    snapshot(folder, tmp_path / "git" / "a" / "b.git", "now")
    url = address(server, token, "a/b") if token else f"{server.url}/a/b.git"
    with pytest.raises(Failure):
        git("clone", "-q", url, str(tmp_path / "clone"), env={"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true"})


def test_nobody_writes(tmp_path: Path, folder: Path, server: GitServer) -> None:
    snapshot(folder, tmp_path / "git" / "a" / "b.git", "now")
    target = tmp_path / "clone"
    git("clone", "-q", address(server, server.token, "a/b"), str(target))
    with pytest.raises(Failure):
        git("push", "-q", "origin", "main:other", cwd=target)


def test_nothing_outside_the_root_is_served(tmp_path: Path, folder: Path, server: GitServer) -> None:
    snapshot(folder, tmp_path / "secret.git", "now")
    done = subprocess.run(
        ["curl", "-s", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", "-u", f"x:{server.token}",
         f"{server.url}/../secret.git/info/refs?service=git-upload-pack"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout in ("400", "403", "404", "500")


def test_an_empty_folder_is_a_repository(tmp_path: Path, server: GitServer) -> None:
    (tmp_path / "empty").mkdir()
    snapshot(tmp_path / "empty", tmp_path / "git" / "a" / "empty.git", "nothing")
    git("clone", "-q", address(server, server.token, "a/empty"), str(tmp_path / "clone"))
