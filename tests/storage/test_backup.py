"""Backup and restore: what comes back is what was there, or nothing changes."""

import asyncio
import base64
import io
import tarfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from alembic import command
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData, Table, insert, select, text

from cador.domain.commands import Deliver
from cador.domain.errors import CadorError
from cador.domain.events import DeliveryTried
from cador.domain.replaying import Told, decoded
from cador.ports.deliveries import Delivery, Receiver
from cador.ports.logs import LogName
from cador.ports.stores import EventRow, Resource, Tx, User
from cador.ports.tickets import Ticket
from cador.storage import backup_tables, sqlite
from cador.storage.backup import Place, backup, restore, verify
from cador.storage.backup_archive import ArchiveWriter, BackupError, read_archive
from cador.storage.database import open_database
from cador.storage.deliveries import receiver_values
from cador.storage.folders import UNFINISHED
from cador.storage.log_files import path_of
from cador.storage.logs import FileLogs
from cador.storage.migrations import config_for
from cador.storage.sealing import AesSealer
from cador.storage.tables import metadata
from support.rows import start, workflow_row

KEPT = {"replica"}


def quiet(part: str, done: int) -> None: ...


def fill(tx: Tx) -> None:
    tx.people.add_user(User("u1", "ann", "Ann 安", admin=True))
    tx.resources.add(Resource("project", "", "p", {"project_key": "p", "text": "§ \u2028 \\ \" '"}))
    tx.workflows.add(workflow_row())
    for _ in range(3):
        start(tx)
    for number in ("CHG-1", "CHG-2"):
        assert tx.tickets.add(
            Ticket(uid=f"uid of {number}", project="p", approval_id=number, valid=True, envs=("dev",))
        )
    tx.tickets.use("uid of CHG-1", "w", 1)
    tx.meta.set("installation", "before")
    connection = tx.connection  # type: ignore[attr-defined]
    connection.execute(text("UPDATE job_task SET status = 'passed', attempt = 1 WHERE name = 'a'"))
    connection.execute(text("UPDATE job_task SET status = 'running', attempt = 1 WHERE name = 'b'"))
    connection.execute(text("UPDATE workflow_task SET status = 'running'"))
    connection.execute(text("UPDATE command SET owner = 'somebody'"))
    replica = metadata.tables["replica"]
    connection.execute(insert(replica).values({c.name: c.type.python_type() for c in replica.c}))
    # Ids of rows that were deleted are not to be used again.
    connection.execute(text("DELETE FROM workflow_task WHERE number = 3"))


async def _fill(url: str) -> None:
    database = await open_database(url, pool=1)
    await database.write(fill)
    await database.close()


def make(data: Path, url: str) -> Place:
    """A data folder with two tasks: a log that is complete, one that grows, an artifact."""
    data.mkdir(mode=0o700)
    asyncio.run(_fill(url))
    AesSealer.from_file(data / "key")
    logs = FileLogs(data / "logs", clock=lambda: 1.0)
    for number in (1, 2):
        done = logs.open(LogName("w", number, "a", 1))
        done.feed(b"all of it\n" * 5_000, 50_000)
        done.close()
        growing = logs.open(LogName("w", number, "b", 1))
        growing.feed(b"so far\nhalf a li", 16)
        growing.leave()
    folder = data / "blobs" / "tasks" / "w" / "1" / "a"
    folder.mkdir(parents=True)
    (folder / "büild.tar").write_bytes(b"\0\1\2" * 1_000)
    return Place(data, url)


def rows(url: str) -> dict[str, list[Any]]:
    with backup_tables.snapshot(url) as connection:
        return {
            one.name: sorted(map(tuple, connection.execute(select(*one.c))), key=repr)
            for one in metadata.sorted_tables
            if one.name not in KEPT
        }


def expected(before: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """What a restore makes of *before*: an id of its own, and nothing in the hands of servers that were."""
    owner = metadata.tables["command"].c.keys().index("owner")
    after = {**before, "command": [(*row[:owner], "", *row[owner + 1 :]) for row in before["command"]]}
    after["meta"] = sorted((name, value) for name, value in before["meta"] if name != "installation")
    return after


def put_back(place: Place, target: Path, file: Path) -> dict[str, list[Any]]:
    restore(place, file, quiet)
    after = rows(place.database)
    assert dict(after["meta"])["installation"] not in ("before", "")
    after["meta"] = sorted((name, value) for name, value in after["meta"] if name != "installation")
    assert not (target / UNFINISHED).exists()
    return after


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def target_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'target' / 'cador.db'}"
    return request.getfixturevalue("postgres_server").create("template0")


def test_what_comes_back_is_what_was_there(tmp_path: Path, database_url: str, target_url: str) -> None:
    """From either database into either."""
    source, target = tmp_path / "source", tmp_path / "target"
    place = make(source, database_url)
    file, manifest = backup(place, tmp_path, with_key=True, cador="1", progress=quiet)
    assert file.parent == tmp_path
    assert file.stat().st_mode & 0o777 == 0o600
    assert verify(file, quiet) == manifest
    assert manifest.tasks == 2
    after = put_back(Place(target, target_url), target, file)
    assert after == expected(rows(database_url))
    assert (target / "key").read_bytes() == (source / "key").read_bytes()
    assert (target / "key").stat().st_mode & 0o777 == 0o600
    logs = FileLogs(target / "logs", clock=lambda: 1.0)
    for number in (1, 2):
        name = LogName("w", number, "a", 1)
        assert logs.complete(name)
        sealed = path_of(Path("logs"), name).with_suffix(".log.zst")
        assert (target / sealed).read_bytes() == (source / sealed).read_bytes()
        running = LogName("w", number, "b", 1)
        assert logs.read(running, 0, 1 << 20).data.endswith(b"   so far\n")
        writer = logs.open(running)
        # Its execution is not here: whoever runs the job again begins with the first byte, below what was kept.
        assert writer.raw_offset == 0
        writer.feed(b"again\n", 6)
        writer.close()
        assert [line[24:] for line in logs.read(running, 0, 1 << 20).data.splitlines()] == [b"so far", b"again"]
    blob = Path("blobs/tasks/w/1/a/büild.tar")
    assert (target / blob).read_bytes() == (source / blob).read_bytes()
    # New rows get ids nobody ever had.
    asyncio.run(_adds_new_ids(target_url))


async def _adds_new_ids(url: str) -> None:
    database = await open_database(url, pool=1)
    assert await database.write(start) == 4
    await database.write(lambda tx: tx.people.add_user(User("u2", "ben", "Ben")))
    await database.close()


def test_a_log_that_was_completed_since_is_open_again(tmp_path: Path) -> None:
    """The tables are older than the logs: of a job that runs according to them the log is not complete."""
    place = make(tmp_path / "source", f"sqlite:///{tmp_path / 'source' / 'cador.db'}")
    logs = FileLogs(place.data / "logs", clock=lambda: 1.0)
    name = LogName("w", 1, "b", 1)
    lines = b"a line of some length, again and again\n" * 60_000  # more than two frames
    writer = logs.open(name)
    writer.feed(lines, writer.raw_offset + len(lines))
    writer.close()
    text_before = logs.read(name, 0, 1 << 24).data
    assert text_before.count(b"\n") == 60_001
    file, _ = backup(place, tmp_path / "b.tar.zst", with_key=False, cador="1", progress=quiet)
    target = tmp_path / "target"
    restore(Place(target, f"sqlite:///{target / 'cador.db'}"), file, quiet)
    restored = FileLogs(target / "logs", clock=lambda: 1.0)
    assert not restored.complete(name)
    assert restored.read(name, 0, 1 << 24).data == text_before
    assert restored.open(name).raw_offset == 0
    assert not (target / "key").exists()


def test_a_backup_of_older_tables_is_brought_up_to_date_by_the_next_start(tmp_path: Path, target_url: str) -> None:
    old = tmp_path / "old.db"
    engine = sqlite.engine_for(str(old))
    target = tmp_path / "target"
    with engine.connect() as connection:
        command.upgrade(config_for(connection), "0001")
        tables = MetaData()
        tables.reflect(connection)
        tables.remove(tables.tables["alembic_version"])
        workflow: Table = tables.tables["workflow"]
        values = {c.name: c.type.python_type() for c in workflow.c} | {"id": 7, "key": "kept"}
        connection.execute(insert(workflow).values(values))
        with ArchiveWriter(tmp_path / "old.tar.zst", quiet) as archive:
            archive.head("0", "then")
            facts = backup_tables.dump(connection, archive, tables.sorted_tables)
            archive.finish(
                cador="0", made_at="then", revision="0001", database="sqlite", key_id="", tasks=0, tables=tuple(facts),
                left_out={},
            )  # fmt: skip
    restore(Place(target, target_url), tmp_path / "old.tar.zst", quiet)

    async def started() -> str:
        database = await open_database(target_url, pool=1)
        row = await database.read(lambda tx: tx.workflows.find("kept"))
        await database.close()
        assert row is not None
        return row.key

    assert asyncio.run(started()) == "kept"


# -- nothing, rather than a part


def snapshot_of(folder: Path) -> dict[str, bytes]:
    if not folder.exists():
        return {}
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "lock"}


@pytest.fixture
def made(tmp_path: Path) -> tuple[Place, Path]:
    place = make(tmp_path / "source", f"sqlite:///{tmp_path / 'source' / 'cador.db'}")
    return place, backup(place, tmp_path / "b.tar.zst", with_key=True, cador="1", progress=quiet)[0]


def refuses(place: Place, file: Path, words: str) -> None:
    before = snapshot_of(place.data)
    with pytest.raises(CadorError) as refused:
        restore(place, file, quiet)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert snapshot_of(place.data) == before


def target_of(tmp_path: Path) -> Place:
    return Place(tmp_path / "target", f"sqlite:///{tmp_path / 'target' / 'cador.db'}")


@pytest.mark.parametrize("part", ["cut", "flipped", "garbage", "empty"])
def test_a_damaged_backup_changes_nothing(part: str, made: tuple[Place, Path], tmp_path: Path) -> None:
    file = made[1]
    data = file.read_bytes()
    bad = tmp_path / "bad.tar.zst"
    bad.write_bytes(
        {
            "cut": data[: len(data) * 2 // 3],
            "flipped": data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
            "garbage": b"no backup" * 100,
            "empty": b"",
        }[part]
    )
    place = target_of(tmp_path)
    refuses(place, bad, {"garbage": "is no backup", "empty": "is no backup"}.get(part, "damaged"))
    assert not place.data.exists()


@settings(max_examples=40, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_changed_content_goes_unnoticed(position: float, bit: int) -> None:
    file, data = _one_backup()
    at = int(position * len(data))
    file.write_bytes(data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :])
    try:
        verify(file, quiet)
    except BackupError:
        return
    assert unpacked(file.read_bytes()) == unpacked(data), "a bit that stands for the same content may pass"


def unpacked(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


_made: list[tuple[Path, bytes]] = []


def _one_backup() -> tuple[Path, bytes]:
    if not _made:
        import tempfile

        folder = Path(tempfile.mkdtemp())
        place = make(folder / "source", f"sqlite:///{folder / 'source' / 'cador.db'}")
        file, _ = backup(place, folder / "b.tar.zst", with_key=True, cador="1", progress=quiet)
        _made.append((file, file.read_bytes()))
    return _made[0]


def repacked(file: Path, change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes] | None]) -> Path:
    """The backup with its members changed, its zstd and tar whole."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(unpacked(file.read_bytes()))) as source,
        tarfile.open(fileobj=out, mode="w") as target,
    ):
        for entry in source:
            content = source.extractfile(entry)
            changed = change(entry, content.read() if content else b"")
            if changed is not None:
                changed[0].size = len(changed[1])
                target.addfile(changed[0], io.BytesIO(changed[1]))
    bad = file.with_name("repacked.tar.zst")
    bad.write_bytes(zstandard.ZstdCompressor().compress(out.getvalue()))
    return bad


@pytest.mark.parametrize(
    "name", ["logs/../../escaped", "/etc/escaped", "logs/./x", "other", "tables/../x", "key/x", "logs//x", "blobs"]
)
def test_a_name_that_leads_elsewhere_is_refused(name: str, made: tuple[Place, Path], tmp_path: Path) -> None:
    def rename(entry: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if entry.name == "key":
            entry.name = name
            entry.pax_headers = {}
        return entry, data

    refuses(target_of(tmp_path), repacked(made[1], rename), "does not belong into a backup")


def test_a_link_is_refused(made: tuple[Place, Path], tmp_path: Path) -> None:
    def link(entry: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if entry.name == "key":
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            return entry, b""
        return entry, data

    refuses(target_of(tmp_path), repacked(made[1], link), "does not belong into a backup")


@pytest.mark.parametrize("what", ["key", "tables/workflow/000001.jsonl", "logs/w/1/a/1.log.zst"])
@pytest.mark.parametrize("how", ["missing", "changed", "doubled"])
def test_what_is_not_as_listed_is_noticed(what: str, how: str, made: tuple[Place, Path], tmp_path: Path) -> None:
    def change(entry: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes] | None:
        if entry.name != what:
            return entry, data
        if how == "missing":
            return None
        return entry, data + data if how == "doubled" else bytes([data[0] ^ 1]) + data[1:]

    refuses(target_of(tmp_path), repacked(made[1], change), "is not what was written")


def test_a_restore_that_fails_on_the_way_leaves_nothing(
    made: tuple[Place, Path], tmp_path: Path, target_url: str
) -> None:
    """The file is what was written, and yet the database does not take it."""
    manifest = verify(made[1], quiet)
    bad = tmp_path / "bad.tar.zst"
    with ArchiveWriter(bad, quiet) as archive:
        archive.head("1", "then")
        for member in read_archive(made[1], quiet):
            data = member.whole()
            archive.add(member.name, data + data if member.name.startswith("tables/meta/") else data)
        facts = asdict(manifest)
        del facts["parts"]
        facts["tables"] = tuple(
            replace(one, rows=2 * one.rows) if one.name == "meta" else one for one in manifest.tables
        )
        archive.finish(**facts)
    verify(bad, quiet)
    place = Place(tmp_path / "target", target_url)
    refuses(place, bad, "database: ")
    assert not place.data.exists()
    restore(place, made[1], quiet)  # nothing is in the way of the right one


def test_only_an_empty_place_is_restored_into(made: tuple[Place, Path], tmp_path: Path) -> None:
    place, file = made
    refuses(place, file, "is not empty")
    target = target_of(tmp_path)
    target.data.mkdir()
    (target.data / "logs").mkdir()
    (target.data / "cador.toml").write_text("")  # settings may be there before
    (target.data / "stranger").write_text("mine")
    refuses(target, file, "is not empty (stranger)")
    (target.data / "stranger").unlink()
    (target.data / UNFINISHED).mkdir()
    refuses(target, file, "was broken off")
    (target.data / UNFINISHED).rmdir()
    AesSealer.from_file(target.data / "key")
    refuses(target, file, "belongs to the key")
    (target.data / "key").unlink()
    restore(target, file, quiet)


@pytest.mark.postgres
def test_a_database_with_tables_is_not_restored_into(made: tuple[Place, Path], tmp_path: Path, postgres_url: str):
    target = Place(tmp_path / "target", postgres_url)
    refuses(target, made[1], "the database is not empty")
    assert not target.data.exists()


def test_a_backup_never_replaces_a_file(made: tuple[Place, Path]) -> None:
    place, file = made
    data = file.read_bytes()
    with pytest.raises(BackupError, match="exists already"):
        backup(place, file, with_key=False, cador="1", progress=quiet)
    assert file.read_bytes() == data
    assert [path.name for path in file.parent.iterdir() if path.name.startswith(".")] == []


def test_without_what_it_needs_no_backup_is_made(tmp_path: Path) -> None:
    nothing = Place(tmp_path, f"sqlite:///{tmp_path / 'cador.db'}")
    with pytest.raises(BackupError, match="there is no database"):
        backup(nothing, tmp_path / "b.tar.zst", with_key=False, cador="1", progress=quiet)
    with pytest.raises(BackupError, match="no key file"):
        backup(nothing, tmp_path / "b.tar.zst", with_key=True, cador="1", progress=quiet)
    assert list(tmp_path.iterdir()) == []


def test_the_key_may_come_from_the_settings(tmp_path: Path) -> None:
    data = tmp_path / "source"
    text_of_key = base64.b64encode(b"k" * 32).decode()
    place = Place(data, f"sqlite:///{data / 'cador.db'}", text_of_key)
    data.mkdir()
    asyncio.run(_fill(place.database))
    file, manifest = backup(place, tmp_path / "b.tar.zst", with_key=False, cador="1", progress=quiet)
    assert manifest.key_id == AesSealer(b"k" * 32).key_id
    other = Place(
        tmp_path / "target", f"sqlite:///{tmp_path / 'target' / 'cador.db'}", base64.b64encode(b"x" * 32).decode()
    )
    refuses(other, file, "belongs to the key")


def test_an_archive_is_read_in_the_order_it_was_written(made: tuple[Place, Path]) -> None:
    names = [member.name for member in read_archive(made[1], quiet)]
    assert names.index("tables/workflow/000001.jsonl") < names.index("tables/workflow_task/000001.jsonl")
    assert names[-1] == "key"


def test_what_was_on_its_way_to_the_outside_is_not_said_again(tmp_path: Path) -> None:
    """Its server has long said it, or it is late; the events of the task say that nobody will."""
    source, target = tmp_path / "source", tmp_path / "target"
    place = make(source, f"sqlite:///{source / 'cador.db'}")

    def end(tx: Tx) -> None:
        receiver = Receiver("callback", "callback", ("passed",), "sealed")
        connection = tx.connection  # type: ignore[attr-defined]
        connection.execute(insert(metadata.tables["receiver"]).values(receiver_values(1, receiver)))
        tx.deliveries.add(Delivery(1, "callback", "passed", 0, "{}"))
        tx.commands.add(1, (Deliver("callback", "passed", 0),), 1.0)

    async def change() -> None:
        database = await open_database(place.database, pool=1)
        await database.write(end)
        await database.close()

    asyncio.run(change())
    file, _ = backup(place, tmp_path, with_key=True, cador="1", progress=quiet)
    after = put_back(Place(target, f"sqlite:///{target / 'cador.db'}"), target, file)
    assert not after["delivery"]
    assert len(after["receiver"]) == 1
    assert not [row for row in after["command"] if "deliver" in row]

    async def look() -> list[EventRow]:
        database = await open_database(f"sqlite:///{target / 'cador.db'}", pool=1)
        found = await database.read(lambda tx: tx.tasks.events(1))
        await database.close()
        return found

    (event,) = [event for event in asyncio.run(look()) if event.kind == "delivery_tried"]
    told = decoded(Told(event.id, event.at, event.kind, event.data))
    assert isinstance(told, DeliveryTried)
    assert (told.ok, told.again_at, told.reason) == (False, None, "this server was restored from a backup")
