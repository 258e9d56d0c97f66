"""What a backup is on disk: a tar of the parts, compressed with zstd, whose last member says what all of it must be.

    cador-backup.json           format, program, when: the first member, so that a wrong file is told at once
    tables/<name>/<n>.jsonl     rows in pieces, a JSON list each
    logs/<path>  blobs/<path>   files as they are below the data folder
    key                         only when asked for
    manifest.json               last: what belongs to it, and for each part the number of files, bytes and a digest

The digest of a part is the SHA-256 over name, size and content of its members in order. Nothing grows with the number
of members: a backup of a million logs is written and checked in constant memory.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Protocol

import zstandard

from cador.domain.errors import CadorError

FORMAT: Final = 1
HEAD: Final = "cador-backup.json"
MANIFEST: Final = "manifest.json"
KEY: Final = "key"
SUFFIX: Final = ".tar.zst"

_SEGMENT: Final = r"(?!\.{1,2}(?:/|\Z))[^/\0]+"
_NAME: Final = re.compile(
    rf"tables/[a-z_]+/[0-9]{{6}}\.jsonl|(?:logs|blobs)(?:/{_SEGMENT})+|{KEY}|{re.escape(HEAD)}|{re.escape(MANIFEST)}"
)
_COPY_BYTES: Final = 1 << 20
_SMALL_BYTES: Final = 64 << 20
"""Largest member that is taken into memory: pieces of tables, head and manifest."""


class Source(Protocol):
    """What the content of a member is read from."""

    def read(self, size: int, /) -> bytes: ...


Progress = Callable[[str, int], None]
"""Called with a part and the bytes of it so far."""


class BackupError(CadorError):
    """A backup cannot be made, read or put back; the message says why and what to do."""


@dataclass(slots=True)
class Part:
    """``tables/<name>``, ``logs``, ``blobs`` or ``key``: what its members sum up to."""

    files: int = 0
    bytes: int = 0
    sha256: str = ""
    _digest: Any = field(default_factory=hashlib.sha256, repr=False, compare=False)

    def begin(self, name: str, size: int) -> None:
        self.files += 1
        self.bytes += size
        self._digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))

    def update(self, data: Any) -> None:
        self._digest.update(data)

    def end(self) -> None:
        self.sha256 = self._digest.hexdigest()

    def facts(self) -> dict[str, Any]:
        return {"files": self.files, "bytes": self.bytes, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table of a backup. ``binary``: columns whose values are base64. ``last_id``: the highest id ever handed out, 0
    where ids are not the database's to hand out."""

    name: str
    columns: tuple[str, ...]
    binary: tuple[str, ...]
    rows: int
    last_id: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """``revision``: of the tables. ``key_id``: of the key that secrets are sealed with, empty when it was not to be
    had. ``left_out``: what is named in the tables and not in the backup, by kind."""

    cador: str
    made_at: str
    revision: str
    database: str
    key_id: str
    tasks: int
    tables: tuple[TableFacts, ...]
    left_out: dict[str, int]
    parts: dict[str, dict[str, Any]]

    @property
    def has_key(self) -> bool:
        return KEY in self.parts

    @classmethod
    def parse(cls, text: bytes) -> "Manifest":
        """Raises: BackupError."""
        try:
            data = json.loads(text)
            if data.pop("format") != FORMAT:
                raise BackupError("the backup was made by a newer cador: restore it with that one")
            tables = tuple(
                TableFacts(one["name"], tuple(one["columns"]), tuple(one["binary"]), one["rows"], one["last_id"])
                for one in data.pop("tables")
            )
            return cls(tables=tables, **data)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BackupError("the list of contents of the backup cannot be read: the file is damaged") from None


def part_of(name: str) -> str:
    """The part a member belongs to."""
    return name.rpartition("/")[0] if name.startswith("tables/") else name.partition("/")[0]


class ArchiveWriter:
    """Writes ``path`` complete or not at all: ``with ArchiveWriter(path) as archive: ...; archive.finish(...)``.

    Raises: BackupError: there is a file of that name. OSError.
    """

    def __init__(self, path: Path, progress: Progress) -> None:
        self.path, self._progress = path, progress
        self._parts: dict[str, Part] = {}
        if path.exists():
            raise BackupError(f"{path} exists already: choose another name")
        self._partial = path.with_name(f".{path.name}.part")
        with contextlib.suppress(FileNotFoundError):
            self._partial.unlink()  # of a backup that was broken off
        # Hashes of passwords and sealed secrets are in it: nobody else's to read.
        descriptor = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._packer = zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(self._file, closefd=False)
        # The types of tarfile know neither such a file, nor the size, nor its members.
        opened: Any = tarfile.open
        self._tar: Any = opened(fileobj=self._packer, mode="w|", format=tarfile.PAX_FORMAT, copybufsize=_COPY_BYTES)

    def __enter__(self) -> "ArchiveWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # of a full disk, which was told already
            self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self._partial.unlink()

    def add(self, name: str, data: bytes) -> None:
        self.add_stream(name, len(data), io.BytesIO(data))

    def add_stream(self, name: str, size: int, source: "Source") -> None:
        """Add *size* bytes of *source*. Raises: BackupError: it has fewer."""
        part = self._parts.setdefault(part_of(name), Part())
        part.begin(name, size)
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o600
        self._tar.addfile(member, _Counted(source, size, name, part))
        self._tar.members.clear()  # it would keep every member in memory
        self._progress(part_of(name), part.bytes)

    def head(self, cador: str, made_at: str) -> None:
        self._plain(HEAD, {"format": FORMAT, "cador": cador, "made_at": made_at})

    def finish(self, **facts: Any) -> Manifest:
        """Write the manifest and let the file appear under its name; durable when this returns."""
        for part in self._parts.values():
            part.end()
        manifest = Manifest(parts={name: part.facts() for name, part in self._parts.items()}, **facts)
        self._plain(MANIFEST, {"format": FORMAT, **asdict(manifest)})
        self._tar.close()
        self._packer.close()  # type: ignore[no-untyped-call]
        self._file.flush()
        os.fsync(self._file.fileno())
        try:
            os.link(self._partial, self.path)  # unlike a rename never replaces one that appeared meanwhile
        except FileExistsError:
            raise BackupError(f"{self.path} exists already: choose another name") from None
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return manifest

    def _plain(self, name: str, value: dict[str, Any]) -> None:
        data = json.dumps(value, indent=1).encode()
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), 0o600
        self._tar.addfile(member, io.BytesIO(data))


class _Counted(io.RawIOBase):
    """What tar copies from: adds to the digest, and says plainly when a file became shorter."""

    def __init__(self, source: Source, size: int, name: str, part: Part) -> None:
        self._source, self._left, self._name, self._part = source, size, name, part

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(self._left if size < 0 else min(size, self._left))
        if not data and self._left:
            raise BackupError(f"{self._name} was cut while it was copied: make the backup again")
        self._left -= len(data)
        self._part.update(data)
        return data


@dataclass(slots=True)
class Member:
    """A member while it is read; ``chunks`` gives its content once."""

    name: str
    size: int
    chunks: Iterator[bytes]

    def whole(self) -> bytes:
        """Raises: BackupError: it is far larger than anything cador writes there."""
        if self.size > _SMALL_BYTES:
            raise BackupError(f"{self.name} has an impossible size: the file is damaged")
        return b"".join(self.chunks)


def read_archive(path: Path, progress: Progress) -> Generator[Member, None, Manifest]:
    """All members but head and manifest, in order; at the end everything was compared with the manifest.

    The generator returns the :class:`Manifest`. Raises: BackupError: no backup, damaged, or not complete.
    """
    parts: dict[str, Part] = {}
    manifest: Manifest | None = None
    try:
        with path.open("rb") as file:
            unpacker = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=False)
            with unpacker, tarfile.open(fileobj=unpacker, mode="r|", bufsize=_COPY_BYTES) as tar:
                first = True
                for entry in tar:
                    tar.members.clear()  # type: ignore[attr-defined]  # else it keeps what it has gone past
                    _check_name(entry)
                    if manifest is not None:
                        raise BackupError("something follows the list of contents: the file is damaged")
                    if first != (entry.name == HEAD):
                        raise BackupError(f"{path} is no backup of cador")
                    first = False
                    source = tar.extractfile(entry)
                    if source is None:
                        raise BackupError(f"{entry.name} cannot be read: the file is damaged")
                    if entry.name in (HEAD, MANIFEST):
                        text = Member(entry.name, entry.size, _chunks(source, None)).whole()
                        if entry.name == MANIFEST:
                            manifest = Manifest.parse(text)
                        else:
                            _check_head(text)
                        continue
                    part = parts.setdefault(part_of(entry.name), Part())
                    part.begin(entry.name, entry.size)
                    chunks = _chunks(source, part)
                    yield Member(entry.name, entry.size, chunks)
                    for _ in chunks:  # what the caller did not want counts as well
                        pass
                    progress(part_of(entry.name), part.bytes)
                while unpacker.read(_COPY_BYTES):  # to the checksum of the frame
                    pass
    except zstandard.ZstdError as error:
        read = parts or manifest is not None
        reason = f"is damaged ({error})" if read else "is no backup of cador, or damaged from its beginning on"
        raise BackupError(f"{path} {reason}") from None
    except (tarfile.TarError, EOFError) as error:
        reason = f"is cut off or damaged ({error})" if parts else "is no backup of cador, or cut off"
        raise BackupError(f"{path} {reason}") from None
    except UnicodeDecodeError:
        raise BackupError(f"{path} is damaged (a name of it cannot be read)") from None
    if manifest is None:
        raise BackupError(f"{path} is cut off: its list of contents is missing")
    for part in parts.values():
        part.end()
    found = {name: part.facts() for name, part in parts.items()}
    for name in sorted(found.keys() | manifest.parts.keys()):
        if found.get(name) != manifest.parts.get(name):
            raise BackupError(f"{path} is damaged: {name} is not what was written")
    return manifest


def _check_name(entry: tarfile.TarInfo) -> None:
    if not entry.isfile() or not _NAME.fullmatch(entry.name):
        raise BackupError(f"{entry.name!r} does not belong into a backup of cador: do not use this file")


def _check_head(text: bytes) -> None:
    try:
        made_by = json.loads(text)["format"]
    except (ValueError, KeyError, TypeError):
        raise BackupError("the beginning of the backup cannot be read: the file is damaged") from None
    if made_by != FORMAT:
        raise BackupError("the backup was made by a newer cador: restore it with that one")


def _chunks(source: IO[bytes], part: Part | None) -> Iterator[bytes]:
    while data := source.read(_COPY_BYTES):
        if part is not None:
            part.update(data)
        yield data
