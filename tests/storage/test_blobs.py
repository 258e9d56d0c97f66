import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.domain.errors import Invalid, NotFound
from cador.ports.blobs import BlobStore
from cador.ports.executor import Keep
from cador.storage.artifacts import Collected, collect
from cador.storage.blobs import LocalBlobs


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    path = tmp_path / "workspace"
    path.mkdir()
    return path


def keys(blobs: BlobStore, prefix: str = "") -> list[str]:
    return [blob.key for blob in blobs.list(prefix)]


# -- the store ---------------------------------------------------------------------------------------------------------


def test_put_and_read(blobs: LocalBlobs) -> None:
    blobs.put_bytes("a/b/one", b"0123456789")
    assert blobs.put_stream("a/b/two", (b"x" * 100_000 for _ in range(3))) == 300_000
    assert blobs.read("a/b/one") == b"0123456789"
    assert blobs.read("a/b/one", 3, 4) == b"3456"
    assert blobs.read("a/b/one", 8, 100) == b"89"
    assert blobs.read("a/b/one", 50) == b""
    assert [len(part) for part in blobs.stream("a/b/two", 10, 100_000, chunk=60_000)] == [60_000, 40_000]
    assert (blobs.size("a/b/two"), blobs.exists("a/b/two"), blobs.exists("a/b")) == (300_000, True, False)
    stored = list(blobs.list("a"))
    assert [(blob.key, blob.size) for blob in stored] == [("a/b/one", 10), ("a/b/two", 300_000)]
    assert abs(stored[0].stored_at - time.time()) < 3_600


def test_a_blob_is_replaced_as_a_whole_and_old_readers_read_on(blobs: LocalBlobs) -> None:
    blobs.put_bytes("k", b"old" * 100_000)
    stream = blobs.stream("k")
    first = next(stream)
    blobs.put_bytes("k", b"new")
    assert first + b"".join(stream) == b"old" * 100_000
    assert blobs.read("k") == b"new"


def test_a_broken_write_leaves_nothing(blobs: LocalBlobs, tmp_path: Path) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("broken")

    blobs.put_bytes("k", b"before")
    with pytest.raises(ValueError, match="broken"):
        blobs.put_stream("k", breaking())
    assert blobs.read("k") == b"before"
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == [tmp_path / "blobs" / "k"]
    left = tmp_path / "blobs" / ".partial" / "left-by-a-crash"
    left.write_bytes(b"x")
    blobs.remove_partial(time.time() - 3_600)
    assert left.exists()
    blobs.remove_partial(time.time() + 3_600)
    assert not left.exists()
    LocalBlobs(tmp_path / "never").remove_partial(0)


def test_lists_and_deletes_whole_segments(blobs: LocalBlobs) -> None:
    everything = ["a", "b/c", "b/c2", "b/d/e", "b-x", "bb/c", "文/件"]
    for key in everything:
        blobs.put_bytes(key, b"")
    assert keys(blobs) == sorted(everything)
    assert keys(blobs, "b") == ["b/c", "b/c2", "b/d/e"]
    assert keys(blobs, "b/c") == ["b/c"]
    assert keys(blobs, "nothing/there") == keys(blobs, "a/below") == []
    blobs.delete("b")
    blobs.delete("a")
    blobs.delete("nothing/there")
    blobs.delete("文/件/below")
    assert keys(blobs) == ["b-x", "bb/c", "文/件"]


def test_missing_blobs(blobs: LocalBlobs) -> None:
    blobs.put_bytes("a/b", b"")
    for key in ("x", "a", "a/b/c"):
        assert not blobs.exists(key)
        for call in (blobs.size, blobs.read, blobs.stream):
            with pytest.raises(NotFound):
                call(key)


def test_a_blob_and_a_folder_cannot_share_a_key(blobs: LocalBlobs) -> None:
    blobs.put_bytes("a/b", b"1")
    for key in ("a", "a/b/c", "a/b/c/d"):
        with pytest.raises(Invalid, match="in the way"):
            blobs.put_bytes(key, b"2")
    assert keys(blobs) == ["a/b"]
    assert blobs.read("a/b") == b"1"


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "/a", "a/", "a//b", "..", "a/../b", ".", "a/./b", "../../etc/passwd", "a\0b", "x" * 256, "\udcff"),
        *(".partial", ".partial/x"),
    ],
)
def test_bad_keys_are_refused_everywhere(blobs: LocalBlobs, key: str) -> None:
    calls = [blobs.size, blobs.exists, blobs.read, blobs.stream, lambda key: blobs.put_bytes(key, b"")]
    for call in [*calls, blobs.delete] + ([lambda key: list(blobs.list(key))] if key else []):
        with pytest.raises(Invalid):
            call(key)


@given(key=st.text(max_size=40))
def test_no_key_leaves_the_folder(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    base = tmp_path_factory.mktemp("blobs")
    blobs = LocalBlobs(base / "inside")
    try:
        blobs.put_bytes(key, b"content")
    except Invalid:
        return
    assert blobs.read(key) == b"content"
    assert keys(blobs) == [key]
    assert [path.name for path in base.iterdir()] == ["inside"]
    assert "/" not in key or (base / "inside" / key).exists()


# -- collecting --------------------------------------------------------------------------------------------------------


def take(workspace: Path, blobs: BlobStore, *keeps: Keep, most: int = 1 << 20, files: int = 1_000) -> Collected:
    return collect(workspace, keeps, "shop/7/job", most, blobs=blobs, max_files=files)


def test_files_and_folders_keep_their_names(workspace: Path, blobs: LocalBlobs) -> None:
    (workspace / "dist/deep/er").mkdir(parents=True)
    (workspace / "dist/app.tgz").write_bytes(b"x" * 3_000_000)
    (workspace / "dist/deep/er/说明.txt").write_text("text")
    (workspace / "dist/.hidden").write_text("")
    (workspace / "one.xml").write_text("<x/>")
    done = take(
        workspace,
        blobs,
        Keep("dist/", "archive", required=True),
        Keep("one.xml", "junit/"),
        Keep("./dist/deep", ""),
        Keep("missing", "x"),
        most=10_000_000,
    )
    assert done == Collected(
        (
            ("shop/7/job/archive/.hidden", 0),
            ("shop/7/job/archive/app.tgz", 3_000_000),
            ("shop/7/job/archive/deep/er/说明.txt", 4),
            ("shop/7/job/junit/one.xml", 4),
            ("shop/7/job/er/说明.txt", 4),
        ),
        (),
        failed=False,
    )
    assert blobs.read("shop/7/job/archive/app.tgz") == b"x" * 3_000_000
    everything = take(workspace, blobs, Keep("", "all"), most=10_000_000)
    assert len(everything.keys) == 4


@pytest.mark.parametrize("path", ["missing", "missing/below", "one/below", "empty", "one/"])
def test_what_is_required_and_not_there_fails_the_job(workspace: Path, blobs: LocalBlobs, path: str) -> None:
    (workspace / "one").touch()
    (workspace / "empty").mkdir()
    done = take(workspace, blobs, Keep(path, "x", required=True), Keep("one", "y"))
    assert done.failed
    assert [problem.split(":")[0] for problem in done.problems] == [path]
    assert done.keys == (("shop/7/job/y/one", 0),)


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "a/../../outside", ".."])
def test_paths_that_lead_out_are_refused(workspace: Path, blobs: LocalBlobs, path: str) -> None:
    (workspace.parent / "outside").write_text("secret")
    (workspace / "a").mkdir()
    done = take(workspace, blobs, Keep(path, "x"))
    assert done.keys == ()
    assert done.problems == (f"{path}: not inside the workspace",)


def test_links_devices_and_pipes_are_refused(workspace: Path, blobs: LocalBlobs) -> None:
    outside = workspace.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (workspace / "d").mkdir()
    (workspace / "d/real").write_text("real")
    (workspace / "d/file-link").symlink_to(outside / "secret")
    (workspace / "d/dir-link").symlink_to(outside)
    (workspace / "d/inner-link").symlink_to("real")
    os.mkfifo(workspace / "d/pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        folder = os.open(workspace / "d", os.O_PATH)  # the address of a socket must be short
        try:
            listening.bind(f"/proc/self/fd/{folder}/socket")
        finally:
            os.close(folder)
        done = take(
            workspace,
            blobs,
            Keep("d", "x"),
            Keep("d/file-link", "y"),
            Keep("d/dir-link/secret", "y"),
            Keep("d/dir-link/", "y"),
            Keep("d/pipe", "y", required=True),
        )
    assert done.keys == (("shop/7/job/x/real", 4),)
    assert set(done.problems) >= {"d/file-link: links are not taken", "d/dir-link/secret: links are not taken"}
    assert len(done.problems) == 9
    assert done.failed
    assert keys(blobs) == ["shop/7/job/x/real"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make files of another user: run the tests as root")
def test_the_workspace_of_another_user(workspace: Path, blobs: LocalBlobs) -> None:
    (workspace / "mine").write_text("job's")
    secret = workspace.parent / "secret"
    secret.write_text("the server's")
    os.link(secret, workspace / "stolen")
    (workspace / "twice").write_text("job's")
    os.link(workspace / "twice", workspace / "again")
    for name in ("", "mine", "twice"):
        os.chown(workspace / name, 12_345, 12_345)
    (workspace / "mine").chmod(0)
    workspace.chmod(0o700)
    done = take(workspace, blobs, Keep("", ""))
    assert [key for key, _ in done.keys] == ["shop/7/job/again", "shop/7/job/mine", "shop/7/job/twice"]
    assert done.problems == ("stolen: a hard link to a file of somebody else",)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make a device: run the tests as root")
def test_devices_are_refused(workspace: Path, blobs: LocalBlobs) -> None:
    try:
        os.mknod(workspace / "zero", 0o20600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this container may not make devices: run the tests outside of it")
    assert take(workspace, blobs, Keep("zero", "")).problems == ("zero: not a regular file",)


def test_the_sizes_and_numbers_are_limited(workspace: Path, blobs: LocalBlobs) -> None:
    for number in range(10):
        (workspace / f"{number}").write_bytes(b"x" * 100)
    done = take(workspace, blobs, Keep("", ""), most=550)
    assert (len(done.keys), done.failed) == (5, True)
    assert done.problems == ("artifacts are larger than 550 bytes",)
    assert len(take(workspace, blobs, Keep("", ""), most=1_000).keys) == 10
    done = take(workspace, blobs, Keep("", ""), files=3)
    assert (len(done.keys), done.failed, done.problems) == (3, True, ("more than 3 artifacts",))
    assert not take(workspace, blobs, Keep("", ""), files=10).failed


def test_deep_and_oddly_named_files(workspace: Path, blobs: LocalBlobs) -> None:
    (workspace / "a" / "/".join(["d"] * 80)).mkdir(parents=True)
    (workspace / "a/new\nline").write_text("x")
    with open(os.fsencode(workspace / "a") + b"/bad\xff", "wb"):
        pass
    done = take(workspace, blobs, Keep("a", ""))
    assert [key for key, _ in done.keys] == ["shop/7/job/new\nline"]
    assert len(done.problems) == 2
    assert all(problem.isprintable() and problem.isascii() for problem in done.problems)


def test_many_problems_are_counted(workspace: Path, blobs: LocalBlobs) -> None:
    for number in range(50):
        (workspace / f"{number:02}").symlink_to("x")
    done = take(workspace, blobs, Keep("", ""))
    assert len(done.problems) == 21
    assert done.problems[-1] == "... and 30 more"


def test_a_folder_swapped_for_a_link_meanwhile_gives_nothing_away(workspace: Path, blobs: LocalBlobs) -> None:
    outside = workspace.parent / "outside"
    outside.mkdir()
    (outside / "f").write_text("secret")
    (workspace / "d").mkdir()
    (workspace / "d/f").write_text("public")
    (workspace / "link").symlink_to(outside)
    stop = threading.Event()

    def swapping() -> None:
        while not stop.is_set():
            os.rename(workspace / "d", workspace / "d2")
            os.rename(workspace / "link", workspace / "d")
            os.rename(workspace / "d", workspace / "link")
            os.rename(workspace / "d2", workspace / "d")

    thread = threading.Thread(target=swapping)
    thread.start()
    try:
        for _ in range(300):
            for key, _size in take(workspace, blobs, Keep("d/f", ""), Keep("d", "x")).keys:
                assert blobs.read(key) == b"public"
    finally:
        stop.set()
        thread.join()


def test_a_store_that_fails_is_no_problem_of_the_job(workspace: Path, tmp_path: Path) -> None:
    (workspace / "f").touch()
    (tmp_path / "in-the-way").touch()
    with pytest.raises(OSError, match="in-the-way"):
        take(workspace, LocalBlobs(tmp_path / "in-the-way"), Keep("f", ""))
