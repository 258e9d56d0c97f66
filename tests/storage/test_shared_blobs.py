"""Artifacts in a shared store."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.domain.errors import Invalid, NotFound
from cador.storage.blobs import LocalBlobs
from cador.storage.objects import KEY_BYTES, CannotUseStore, Objects, StoreAway, StoreRefuses, open_objects
from cador.storage.shared_blobs import SharedBlobs, StoredBlobs, object_key
from cador.storage.uploads import Uploads
from support.object_store import *  # noqa: F403 - fixtures
from support.object_store import S3Server, drained, until

JOB = "tasks/shop/7/api-构建"


class Host:
    def __init__(self, folder: Path, objects: Objects) -> None:
        folder.mkdir(exist_ok=True)
        self.uploads = Uploads(objects, folder)
        self.local = LocalBlobs(folder / "blobs")
        self.blobs = SharedBlobs(self.local, self.uploads)


def test_what_is_put_is_copied_and_what_is_deleted_goes(tmp_path: Path, objects: Objects) -> None:
    host, stored = Host(tmp_path / "one", objects), StoredBlobs(objects)
    host.blobs.put_bytes(f"{JOB}/old", b"old")
    host.blobs.delete(JOB)
    host.blobs.put_bytes(f"{JOB}/archive/a %2F#?.tgz", b"0123456789")
    assert host.blobs.put_stream(f"{JOB}/archive/b\\c", iter([b"x" * 5_000_000] * 4)) == 20_000_000
    host.blobs.put_bytes("tasks/shop/77/api/keep", b"k")
    assert host.blobs.read(f"{JOB}/archive/a %2F#?.tgz") == b"0123456789"
    asyncio.run(drained(host.uploads))
    assert [(one.key, one.size) for one in stored.list(JOB)] == [
        (f"{JOB}/archive/a %2F#?.tgz", 10),
        (f"{JOB}/archive/b\\c", 20_000_000),
    ]
    assert stored.read(f"{JOB}/archive/a %2F#?.tgz", 3, 4) == b"3456"
    assert stored.read(f"{JOB}/archive/a %2F#?.tgz", 8, 100) == b"89"
    assert stored.read(f"{JOB}/archive/b\\c", 19_999_999, 100) == b"x"
    assert [one.key for one in stored.list(f"{JOB}/archive/b\\c")] == [f"{JOB}/archive/b\\c"]
    with pytest.raises(NotFound):
        stored.size(f"{JOB}/archive")
    host.blobs.delete("tasks/shop/7")
    asyncio.run(drained(host.uploads))
    assert [one.key for one in stored.list("")] == ["tasks/shop/77/api/keep"]
    assert [one.key for one in host.blobs.list("")] == ["tasks/shop/77/api/keep"]


def test_the_order_of_what_was_asked_survives_a_crash(tmp_path: Path, objects: Objects) -> None:
    for number in range(12):
        host = Host(tmp_path / "one", objects)
        host.blobs.delete(JOB)
        host.blobs.put_bytes(f"{JOB}/{number}", b"%d" % number)
    again = Host(tmp_path / "one", objects)
    assert again.uploads.figures().pending == 24
    asyncio.run(drained(again.uploads))
    assert [one.key for one in StoredBlobs(objects).list(JOB)] == [f"{JOB}/11"]
    assert list((tmp_path / "one" / "uploads").iterdir()) == []


def test_what_the_store_will_never_take_stops_nothing_else(tmp_path: Path, objects: Objects) -> None:
    host = Host(tmp_path / "one", objects)
    long = "/".join(["x" * 200] * 6)
    host.blobs.put_bytes(f"{JOB}/{long}", b"1")
    host.blobs.put_bytes(f"{JOB}/short", b"2")
    asyncio.run(drained(host.uploads))
    figures = host.uploads.figures()
    assert (figures.refused, figures.done, figures.error) == (1, 1, "")
    assert host.blobs.read(f"{JOB}/{long}") == b"1"
    with pytest.raises(StoreRefuses):
        asyncio.run(objects.put("x" * (KEY_BYTES + 1), b""))


def test_figures_tell_how_long_the_store_is_away(tmp_path: Path, s3_server: S3Server) -> None:
    async def play() -> None:
        objects = s3_server.open("s3://there-is-no-such-bucket")
        host = Host(tmp_path / "one", objects)
        for number in range(20):
            host.blobs.put_bytes(f"tasks/shop/{number}/a/b", b"x")
        work = asyncio.create_task(host.uploads.run())
        await until(lambda: host.uploads.figures().failures > 4)
        figures = host.uploads.figures()
        assert (figures.pending, figures.done) == (20, 0)
        assert "404" in figures.error or "not exist" in figures.error
        s3_server.bucket("there-is-no-such-bucket")
        await until(lambda: host.uploads.figures().pending == 0)
        assert host.uploads.figures().error == ""
        work.cancel()

    asyncio.run(play())


def test_a_share_that_is_gone_is_not_made_anew_on_the_disk_below(tmp_path: Path) -> None:
    share, elsewhere = tmp_path / "share", tmp_path / "elsewhere"
    share.mkdir()
    objects = open_objects(share.as_uri())
    asyncio.run(objects.put("a/b", b"x"))
    share.rename(elsewhere)
    for made in (False, True):
        if made:
            share.mkdir()  # the empty folder a share is mounted on
        with pytest.raises(StoreAway):
            asyncio.run(objects.put("a/c", b"x"))
        with pytest.raises(StoreAway):
            objects.get("a/b")
    share.rmdir()
    elsewhere.rename(share)
    assert objects.get("a/b") == b"x"


def test_nothing_deletes_everything(tmp_path: Path, objects: Objects) -> None:
    with pytest.raises(Invalid):
        Host(tmp_path / "one", objects).blobs.delete("")


@given(st.text(), st.text())
def test_different_keys_are_different_objects(one: str, other: str) -> None:
    assert (object_key(one) == object_key(other)) == (one == other)
    assert not any(ord(c) < 32 or c == "\\" for c in object_key(one))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "write s3://"),
        ("http://host/bucket", "write s3://"),
        ("s3://user:secret@bucket", "write s3://"),
        ("s3:///prefix", "bucket is missing"),
        ("file://host/folder", "file:///path"),
        ("file:///nowhere/at/all", "make it, or mount it"),
        ("s3://[", "write s3://"),
    ],
)
def test_wrong_urls_are_told(url: str, told: str) -> None:
    with pytest.raises(CannotUseStore, match=told) as caught:
        open_objects(url)
    assert "secret" not in str(caught.value)


def test_credentials_are_in_no_error(s3_server: S3Server) -> None:
    server = open_objects(
        "s3://secretless", endpoint=s3_server.endpoint, access_key_id="AKIDEXAMPLE", secret_access_key="hunter2hunter2"
    )
    with pytest.raises(OSError) as caught:  # noqa: PT011 - what it says is what is tested
        asyncio.run(server.put("x", b""))
    assert "hunter2" not in repr(caught.value)
    assert "AKID" not in repr(caught.value)
