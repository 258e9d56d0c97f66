"""Backup and restore of a whole server: tables, logs, artifacts and, if wanted, the key.

A backup is taken while the server works. The tables are one snapshot; then the logs and artifacts of the tasks in it
are copied, which are there by then: the server completes a log before it writes that its job has ended. What was still
being written is cut to whole lines. A restore reads the whole backup first, then puts it into an empty folder and an
empty database: all of it, or nothing.
"""

import contextlib
import fcntl
import io
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec
from sqlalchemy import Connection, and_, select

from cador.ports.logs import LogName
from cador.storage import backup_tables, log_files, sqlite
from cador.storage.backup_archive import (
    KEY,
    SUFFIX,
    ArchiveWriter,
    BackupError,
    Manifest,
    Member,
    Progress,
    part_of,
    read_archive,
)
from cador.storage.database import kind_of
from cador.storage.folders import UNFINISHED
from cador.storage.log_files import Moved, Pair, Sealed, read_index, read_sealed
from cador.storage.sealing import AesSealer, decode_key, read_key
from cador.storage.tables import REVISION, TASK_LIVES, job_task, workflow_task

_KEPT: Final = frozenset({"lock", "lost+found", "cador.toml", KEY})
_TOOK_AWAY: Final = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server keeps what it has. ``database``: its URL. ``key``: base64, when it is no file of the folder."""

    data: Path
    database: str
    key: str = ""


def backup(place: Place, target: Path, *, with_key: bool, cador: str, progress: Progress) -> tuple[Path, Manifest]:
    """Write a backup to the file *target*, or into the folder *target* under a name made of the time.

    Raises: BackupError, UnreadableKey, Unavailable, OSError.
    """
    made = time.gmtime()
    made_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", made)
    if target.is_dir():
        target = target / time.strftime(f"cador-%Y-%m-%dT%H%M%SZ{SUFFIX}", made)
    key, key_id = _key_of(place)
    if with_key and not key:
        raise BackupError(f"there is no key file {place.data / KEY}: leave out --with-key")
    # The file must not appear beneath what is being copied.
    for name in ("logs", "blobs"):
        if target.resolve().is_relative_to((place.data / name).resolve()):
            raise BackupError(f"{target} is inside of what is backed up: choose another folder")
    with ArchiveWriter(target, progress) as archive, tempfile.TemporaryFile(dir=target.parent) as list_of_tasks:
        archive.head(cador, made_at)
        with backup_tables.snapshot(place.database) as connection:
            tables = backup_tables.dump(connection, archive)
            tasks = _list_tasks(connection, list_of_tasks)
            kind = connection.dialect.name
        left_out = _add_files(archive, place.data, list_of_tasks)
        if with_key:
            archive.add(KEY, key)
        manifest = archive.finish(
            cador=cador, made_at=made_at, revision=REVISION, database=kind, key_id=key_id, tasks=tasks,
            tables=tuple(tables), left_out=left_out,
        )  # fmt: skip
    return target, manifest


def verify(path: Path, progress: Progress) -> Manifest:
    """Read a whole backup and compare it with its own list. Raises: BackupError, OSError."""
    rows: dict[str, int] = {}
    members = read_archive(path, progress)
    while True:
        try:
            member = next(members)
        except StopIteration as end:
            manifest: Manifest = end.value
            break
        if member.name.startswith("tables/"):
            name = part_of(member.name).removeprefix("tables/")
            rows[name] = rows.get(name, 0) + member.whole().count(b"\n")
    for one in manifest.tables:
        if rows.get(one.name) != one.rows:
            raise BackupError(f"{path} is damaged: {one.name} has {rows.get(one.name, 0)} rows instead of {one.rows}")
    return manifest


def restore(place: Place, path: Path, progress: Progress) -> Manifest:
    """Put a backup into an empty data folder and an empty database: all of it, or nothing.

    Raises: BackupError: not empty, in use, damaged, or the key there is another one. UnreadableKey, Unavailable,
    OSError.
    """
    manifest = verify(path, progress)
    made = not place.data.exists()
    place.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with _locked(place.data):
            _check_empty(place, manifest)
            _restore(place, path, manifest, progress)
    except BaseException:
        if made:
            (place.data / "lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                place.data.rmdir()
        raise
    return manifest


# -- out


def _key_of(place: Place) -> tuple[bytes, str]:
    """The key and its id, both empty when there is none."""
    if place.key:
        key = decode_key(place.key)
    else:
        try:
            key = read_key(place.data / KEY)
        except FileNotFoundError:
            return b"", ""
    return key, AesSealer(key).key_id


def _list_tasks(connection: Connection, into: IO[bytes]) -> int:
    """Write a line per task: workflow, number, and [job, attempt] of the jobs that are running. Returns how many."""
    running: dict[int, list[tuple[str, int]]] = {}
    found = select(job_task.c.task_id, job_task.c.name, job_task.c.attempt).where(
        and_(
            job_task.c.task_id.in_(select(workflow_task.c.id).where(TASK_LIVES)),
            job_task.c.status.in_(("prepare", "running")),
        )
    )
    for row in connection.execute(found):
        running.setdefault(row.task_id, []).append((row.name, row.attempt))
    count = 0
    t = workflow_task.c
    tasks = select(t.id, t.workflow_key, t.number).order_by(t.id).execution_options(yield_per=1_000)
    for row in connection.execute(tasks):
        into.write(msgspec.json.encode((row.workflow_key, row.number, running.get(row.id, ()))) + b"\n")
        count += 1
    into.seek(0)
    return count


def _add_files(archive: ArchiveWriter, data: Path, list_of_tasks: IO[bytes]) -> dict[str, int]:
    """Add the logs and artifacts of the listed tasks. Returns what was taken away meanwhile, by kind."""
    left_out: dict[str, int] = {}
    for line in list_of_tasks:
        workflow, number, running = msgspec.json.decode(line)
        growing = {log_files.path_of(data / "logs", LogName(workflow, number, job, n)) for job, n in running}
        before = None
        for name in _files(log_files.folder(data / "logs", workflow, number)):
            path = Path(name.removesuffix(".zst"))
            if path.suffix != ".log" or path == before:  # of one that is just completed there are both forms
                continue
            before = path
            if not _add_log(archive, data, path, unfinished=path in growing):
                left_out["logs"] = left_out.get("logs", 0) + 1
    list_of_tasks.seek(0)
    for line in list_of_tasks:
        workflow, number, _ = msgspec.json.decode(line)
        for name in _files(data / "blobs" / "tasks" / workflow / str(number)):
            if not _add_file(archive, data, Path(name)):
                left_out["blobs"] = left_out.get("blobs", 0) + 1
    return left_out


def _files(folder: Path) -> Iterator[str]:
    """Regular files below *folder*, in order; links are neither followed nor taken."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield entry.path


def _add_file(archive: ArchiveWriter, data: Path, path: Path) -> bool:
    """False: it was taken away meanwhile. What is there was renamed into place and does not change."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return False
    with file:
        archive.add_stream(_name(data, path), os.fstat(file.fileno()).st_size, file)
    return True


def _add_log(archive: ArchiveWriter, data: Path, path: Path, *, unfinished: bool) -> bool:
    """Add a log in whatever form it is. *unfinished*: its job was running when the tables were read; the log then says
    where it ended, and whoever runs that job again goes on below."""
    for _ in range(_TOOK_AWAY):
        sealed_path = path.with_suffix(".log.zst")
        sealed = read_sealed(sealed_path, Sealed.load)
        if sealed is not None:
            if not unfinished:
                return _add_file(archive, data, sealed_path)
            archive.add_stream(_name(data, path), sealed.size, _Text(sealed))
            end = Pair(0, sealed.size, sealed.lines, 0)
            archive.add(_name(data, path.with_suffix(".idx")), end.packed())
            return True
        try:
            file = path.open("rb")
        except FileNotFoundError:
            if sealed_path.exists():
                continue  # completed in between
            return False
        with file:
            pairs = [pair for pair in read_index(path.with_suffix(".idx")) if pair.stored <= _size(file)]
            last = pairs[-1] if pairs else Pair(0, 0, 0, 0)
            if unfinished:
                pairs = [Pair(0, last.stored, last.lines, 0)]
            archive.add_stream(_name(data, path), last.stored, file)
            archive.add(_name(data, path.with_suffix(".idx")), b"".join(pair.packed() for pair in pairs))
        return True
    return False


class _Text(io.RawIOBase):
    """The text of a complete log as something to read from."""

    def __init__(self, log: Sealed) -> None:
        self._log, self._number, self._frame = log, 0, b""

    def read(self, size: int = -1) -> bytes:
        if not self._frame and self._number < len(self._log.frames):
            try:
                self._frame = self._log.load(self._number)
            except Moved:
                raise BackupError(f"{self._log.path} was removed while it was copied: make the backup again") from None
            self._number += 1
        size = len(self._frame) if size < 0 else size
        data, self._frame = self._frame[:size], self._frame[size:]
        return data


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _name(data: Path, path: Path) -> str:
    return path.relative_to(data).as_posix()


# -- in


@contextlib.contextmanager
def _locked(data: Path) -> Iterator[None]:
    descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"a server uses the data folder {data}: restore into another one") from None
        yield
    finally:
        os.close(descriptor)


def _check_empty(place: Place, manifest: Manifest) -> None:
    if (place.data / UNFINISHED).exists():
        raise BackupError(f"a restore into {place.data} was broken off: empty that folder and the database first")
    there = sorted(path.name for path in place.data.iterdir() if path.name not in _KEPT and not _empty_folder(path))
    if there:
        raise BackupError(f"{place.data} is not empty ({', '.join(there[:3])}): restore into an empty data folder")
    key, key_id = _key_of(place)
    if key and manifest.key_id and key_id != manifest.key_id:
        raise BackupError(
            f"the backup belongs to the key {manifest.key_id}, here is the key {key_id}: put the right one there first"
        )


def _empty_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def _restore(place: Place, path: Path, manifest: Manifest, progress: Progress) -> None:
    stage = place.data / UNFINISHED
    moved: list[Path] = []
    url, database, partial = place.database, None, None
    if kind_of(url) == "sqlite":
        database = Path(sqlite.path_of(url))
        if database.exists():
            raise BackupError(f"there is a database {database} already: restore into a new one")
        partial = database.with_name(f".{database.name}{UNFINISHED}")
        url = f"sqlite:///{partial}"
    try:
        stage.mkdir(mode=0o700)
        with backup_tables.empty_database(url, manifest.revision) as connection:
            loader = backup_tables.Loader(connection, manifest.tables)
            for member in _again(path, manifest, progress):
                if member.name.startswith("tables/"):
                    loader.add(part_of(member.name).removeprefix("tables/"), member.whole())
                else:
                    _write(stage, member)
            loader.finish(uuid.uuid4().hex[:12])
            os.sync()
            for name in ("logs", "blobs", KEY):
                _move(stage / name, place.data / name, moved)
        if database is not None and partial is not None:
            _move(partial, database, moved)
        _sync(place.data)
    except BaseException:
        for one in (*reversed(moved), stage):
            if one.is_dir():
                shutil.rmtree(one)
            else:
                one.unlink(missing_ok=True)
        if partial is not None:
            for end in ("", "-wal", "-shm"):
                partial.with_name(partial.name + end).unlink(missing_ok=True)
        raise
    shutil.rmtree(stage)  # until here a server would have refused to start
    _sync(place.data)


def _move(source: Path, target: Path, moved: list[Path]) -> None:
    if not source.exists() or (target.name == KEY and target.exists()):  # that it is the right one was seen
        return
    if target.is_dir():
        target.rmdir()  # an empty one
    source.rename(target)
    moved.append(target)


def _again(path: Path, manifest: Manifest, progress: Progress) -> Generator[Member, None, None]:
    """The members of a backup that was verified; it must still be the same one."""
    second = yield from read_archive(path, progress)
    if second != manifest:
        raise BackupError(f"{path} was changed while it was read")


def _write(stage: Path, member: Member) -> None:
    target = stage / member.name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        for chunk in member.chunks:
            file.write(chunk)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
