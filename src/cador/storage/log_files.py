"""What a log is on disk: its path, the index beside it while it grows, and its sealed form.

While it grows::

    <attempt>.log   lines, stamped and masked
    <attempt>.idx   32-byte entries: from which raw offset to go on when the log is cut to which length

Complete: ``<attempt>.log.zst`` alone, in the zstd seekable format (``zstd -d`` reads it): frames of 1 MiB of text, one
skippable frame of our own (lines per frame, raw offset of the end), the seek table. The file appears by a rename, so
it is there completely or not at all.
"""

import os
import re
import struct
import threading
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import zstandard

from cador.ports.logs import LogName

FRAME_BYTES: Final = 1 << 20
BLOCK_BYTES: Final = 1 << 16
INDEX_LINES: Final = 1_024
"""Lines between two entries of the index, at least."""

_KEPT: Final = re.compile(r"[A-Za-z0-9_.\-\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3]")
_LONGEST_NAME: Final = 200

_ENTRY: Final = struct.Struct("<QQQII")
_SKIPPABLE: Final = struct.Struct("<II")
_OWN_MAGIC: Final = 0x184D2A50
_OWN: Final = struct.Struct("<8sQQ")
_OWN_TAG: Final = b"cadorlog"
_TABLE_MAGIC: Final = 0x184D2A5E
_FOOTER: Final = struct.Struct("<IBI")
_FOOTER_MAGIC: Final = 0x8F92EAB1
_PAIR: Final = struct.Struct("<II")

_local = threading.local()


class Moved(Exception):
    """The log was sealed or removed while it was read: look again."""


def folder(root: Path, workflow: str, task: int) -> Path:
    """Where the logs of one task are."""
    return root / encode_name(workflow) / str(int(task))


def path_of(root: Path, name: LogName) -> Path:
    """The growing file of a log."""
    return folder(root, name.workflow, name.task) / encode_name(name.job) / f"{int(name.attempt)}.log"


def encode_name(name: str) -> str:
    """A file name for any text: different for different texts, never special, at most 255 bytes.

    Letters, digits, ``_ . -`` and East Asian letters stay; the rest, and a dot in front, become ``%XX``.
    """
    parts = [c if _KEPT.match(c) else "".join(f"%{b:02X}" for b in c.encode("utf-8", "surrogatepass")) for c in name]
    if parts and parts[0] == ".":
        parts[0] = "%2E"
    encoded = "".join(parts) or "%"
    if len(encoded.encode()) <= _LONGEST_NAME:
        return encoded
    kept, room = "", _LONGEST_NAME - 34
    for part in parts:
        room -= len(part.encode())
        if room < 0:
            break
        kept += part
    return f"{kept}%~{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def decode_name(encoded: str) -> str | None:
    """What :func:`encode_name` made *encoded* of; None when that cannot be told."""
    if "%~" in encoded:
        return None
    parts = re.split(r"%([0-9A-F]{2})", "" if encoded == "%" else encoded)
    data = b"".join(bytes.fromhex(part) if number % 2 else part.encode() for number, part in enumerate(parts))
    return data.decode("utf-8", "surrogatepass")


class Pair(NamedTuple):
    """An entry of the index: cut the log to *stored* bytes and *lines* lines, and go on from raw offset *raw*."""

    raw: int
    stored: int
    lines: int
    flags: int

    def packed(self) -> bytes:
        body = _ENTRY.pack(*self, 0)[:-4]
        return body + zlib.crc32(body).to_bytes(4, "little")


ENTRY_BYTES: Final = _ENTRY.size


def read_pair(data: bytes, at: int = 0) -> Pair | None:
    """The entry at *at* of an index; None when it is not intact."""
    if len(data) < at + ENTRY_BYTES:
        return None
    *fields, crc = _ENTRY.unpack_from(data, at)
    return Pair(*fields) if zlib.crc32(data[at : at + ENTRY_BYTES - 4]) == crc else None


def read_index(path: Path) -> list[Pair]:
    """The intact entries of an index, in order; none when there is no index."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    pairs = []
    for at in range(0, len(data) - ENTRY_BYTES + 1, ENTRY_BYTES):
        pair = read_pair(data, at)
        if pair is None:
            break
        pairs.append(pair)
    return pairs


def write_all(fd: int, data: bytes | bytearray | memoryview, at: int) -> None:
    """Write *data* at offset *at*. Raises OSError; then any part of it may be there, to be written again."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, at)
        view, at = view[done:], at + done


class View(Protocol):
    """A log to read from, whatever it is kept in."""

    @property
    def size(self) -> int:
        """Bytes of whole lines."""

    @property
    def complete(self) -> bool: ...

    def pread(self, start: int, length: int) -> bytes:
        """At most *length* bytes from *start*, and none past ``size``. Raises: Moved."""

    def line_marks(self) -> Sequence[tuple[int, int]]:
        """Some (number of lines before, offset), rising."""

    def line_count(self) -> int:
        """Lines up to ``size``."""


class Plain:
    """An unfinished log that nobody writes to now. Close it after use."""

    complete = False

    def __init__(self, path: Path) -> None:
        """Raises: FileNotFoundError."""
        self._index = path.with_suffix(".idx")
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = self._whole_lines(os.fstat(self._fd).st_size)

    def close(self) -> None:
        os.close(self._fd)

    def _whole_lines(self, end: int) -> int:
        """A write may have been torn: what follows the last newline does not count."""
        while end > 0:
            start = max(0, end - BLOCK_BYTES)
            cut = os.pread(self._fd, end - start, start).rfind(b"\n")
            if cut >= 0:
                return start + cut + 1
            end = start
        return 0

    def pread(self, start: int, length: int) -> bytes:
        return os.pread(self._fd, max(0, min(length, self.size - start)), start)

    def line_marks(self) -> Sequence[tuple[int, int]]:
        return [(pair.lines, pair.stored) for pair in read_index(self._index) if pair.stored <= self.size]

    def line_count(self) -> int:
        marks = self.line_marks()
        lines, at = marks[-1] if marks else (0, 0)
        while at < self.size:
            data = self.pread(at, BLOCK_BYTES)
            if not data:  # cut back by its new writer meanwhile
                raise Moved
            lines, at = lines + data.count(b"\n"), at + len(data)
        return lines


@dataclass(frozen=True)
class Sealed:
    """A complete log. ``frames``: where each begins in the file, and its length there; ``raw_end``: the raw offset
    that the log covers."""

    path: Path
    size: int
    raw_end: int
    lines: int
    frames: tuple[tuple[int, int], ...]
    marks: tuple[tuple[int, int], ...]
    frame: Callable[["Sealed", int], bytes]
    complete: bool = True

    def pread(self, start: int, length: int) -> bytes:
        end = min(start + length, self.size)
        parts = []
        while start < end:
            number, inside = divmod(start, FRAME_BYTES)
            part = self.frame(self, number)[inside : inside + end - start]
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def line_marks(self) -> Sequence[tuple[int, int]]:
        return self.marks

    def line_count(self) -> int:
        return self.lines

    def load(self, number: int) -> bytes:
        """Read and unpack one frame. Raises: Moved: the log was deleted."""
        at, length = self.frames[number]
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise Moved from error
        try:
            packed = os.pread(fd, length, at)
        finally:
            os.close(fd)
        return unpack_frame(packed)


class Table(NamedTuple):
    """What the end of a sealed log tells, with the fields of :class:`Sealed`."""

    size: int
    raw_end: int
    lines: int
    frames: tuple[tuple[int, int], ...]
    marks: tuple[tuple[int, int], ...]


def read_table(end: int, pread: Callable[[int, int], bytes]) -> Table | None:
    """The table of a sealed log of *end* bytes, read by ``pread(length, start)``; None when it is torn."""
    footer = pread(_FOOTER.size, max(0, end - _FOOTER.size))
    if len(footer) < _FOOTER.size:
        return None
    count, _, magic = _FOOTER.unpack(footer)
    frames = count - 1
    own_bytes = _SKIPPABLE.size + _OWN.size + 4 * frames
    tail_bytes = own_bytes + _SKIPPABLE.size + _PAIR.size * count + _FOOTER.size
    if magic != _FOOTER_MAGIC or frames < 0 or tail_bytes > end:
        return None
    tail = pread(tail_bytes, end - tail_bytes)
    own_magic, _ = _SKIPPABLE.unpack_from(tail)
    tag, raw_end, lines = _OWN.unpack_from(tail, _SKIPPABLE.size)
    if own_magic != _OWN_MAGIC or tag != _OWN_TAG:
        return None
    line_counts = struct.unpack_from(f"<{frames}I", tail, _SKIPPABLE.size + _OWN.size)
    sizes = list(_PAIR.iter_unpack(tail[own_bytes + _SKIPPABLE.size : -_FOOTER.size]))[:frames]
    starts = accumulate((packed for packed, _ in sizes), initial=0)
    marks = accumulate(line_counts, initial=0)
    return Table(
        size=sum(text for _, text in sizes),
        raw_end=raw_end,
        lines=lines,
        frames=tuple((start, packed) for start, (packed, _) in zip(starts, sizes, strict=False)),
        # a mark says how many lines began before an offset that may be inside a line: counting goes on from there
        marks=tuple((before, number * FRAME_BYTES) for number, before in zip(range(frames), marks, strict=False)),
    )


def unpack_frame(packed: bytes) -> bytes:
    """The text of one frame."""
    return _decompressor().decompress(packed, max_output_size=FRAME_BYTES)


def read_sealed(path: Path, frame: Callable[[Sealed, int], bytes]) -> Sealed | None:
    """Open a sealed log; None when there is none, or only a torn one (power was lost)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        table = read_table(os.fstat(fd).st_size, lambda length, start: os.pread(fd, length, start))
    finally:
        os.close(fd)
    return Sealed(path, *table, frame=frame) if table is not None else None


def seal(target: Path, blocks: Iterable[bytes], raw_end: int) -> None:
    """Write a log in its complete form. *blocks*: the whole text in any pieces. The content is durable when this
    returns, the name with what is made durable on that disk next: an embedded database's commit of the job's end.

    Raises: OSError: nothing changed.
    """
    partial = target.with_suffix(".tmp")
    fd = _create(partial)
    try:
        try:
            sizes: list[tuple[int, int]] = []
            line_counts: list[int] = []
            at = 0
            for text in _reblock(blocks):
                packed = _compressor().compress(text)
                write_all(fd, packed, at)
                at += len(packed)
                sizes.append((len(packed), len(text)))
                line_counts.append(text.count(b"\n"))
            own = _OWN.pack(_OWN_TAG, raw_end, sum(line_counts)) + struct.pack(f"<{len(line_counts)}I", *line_counts)
            sizes.append((_SKIPPABLE.size + len(own), 0))
            table = b"".join(_PAIR.pack(*pair) for pair in sizes) + _FOOTER.pack(len(sizes), 0, _FOOTER_MAGIC)
            head = _SKIPPABLE.pack(_OWN_MAGIC, len(own))
            write_all(fd, head + own + _SKIPPABLE.pack(_TABLE_MAGIC, len(table)) + table, at)
            os.fdatasync(fd)
        finally:
            os.close(fd)
        partial.rename(target)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def create(path: Path, flags: int) -> int:
    """Open a file of ours for writing, making its folders when they lack."""
    try:
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)


def write_new(path: Path, parts: Iterable[bytes]) -> None:
    """Put a file in the place of *path*: all of it or nothing, durable as with :func:`seal`. Raises: OSError."""
    partial = path.with_suffix(".tmp")
    fd = _create(partial)
    try:
        try:
            at = 0
            for part in parts:
                write_all(fd, part, at)
                at += len(part)
            os.fdatasync(fd)
        finally:
            os.close(fd)
        partial.rename(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def tail_offset(view: View, lines: int) -> int:
    """Where the last *lines* lines of *view* begin. Quick for few lines (from the end) and for many (by the marks)."""
    if lines <= 0:
        return 0
    missing, end = lines + 1, view.size  # the newline before the first wanted line is the one to find
    for _ in range(16):
        start = max(0, end - BLOCK_BYTES)
        data = view.pread(start, end - start)
        found = data.count(b"\n")
        if found >= missing:
            return start + _nth_from_end(data, missing) + 1
        if start == 0:
            return 0
        missing, end = missing - found, start
    wanted = view.line_count() - lines
    if wanted <= 0:
        return 0
    marks = view.line_marks()
    # lines before the mark are fewer than wanted, so the newline that ends line *wanted* comes after it
    place = bisect_right(marks, (wanted - 1, view.size)) - 1
    before, at = marks[place] if place >= 0 else (0, 0)
    while True:
        data = view.pread(at, BLOCK_BYTES)
        if not data:
            raise Moved
        found = data.count(b"\n")
        if before + found >= wanted:
            return at + _nth_from_end(data, found - (wanted - before) + 1) + 1
        before, at = before + found, at + len(data)


def whole_lines(view: View, start: int, limit: int, size: int) -> bytes:
    """About *limit* bytes of whole lines from *start*, of a log of *size* bytes. Raises: Moved."""
    if start >= size:
        return b""
    data = view.pread(start, min(limit, size - start))
    if start + len(data) >= size:
        return data
    cut = data.rfind(b"\n") + 1
    while not cut:
        more = view.pread(start + len(data), min(BLOCK_BYTES, size - start - len(data)))
        if not more:
            raise Moved
        end = more.find(b"\n") + 1
        data += more[: end or None]
        cut = len(data) if end or start + len(data) >= size else 0
    return data[:cut]


def _nth_from_end(data: bytes, n: int) -> int:
    at = len(data)
    for _ in range(n):
        at = data.rfind(b"\n", 0, at)
    return at


def _create(path: Path) -> int:
    return create(path, os.O_WRONLY | os.O_TRUNC)


def _reblock(blocks: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for block in blocks:
        held += block
        while len(held) >= FRAME_BYTES:
            yield bytes(held[:FRAME_BYTES])
            del held[:FRAME_BYTES]
    if held:
        yield bytes(held)


def _compressor() -> zstandard.ZstdCompressor:
    """One per thread: they may not be shared, and making one costs more than a small log."""
    if not hasattr(_local, "compressor"):
        _local.compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
    compressor: zstandard.ZstdCompressor = _local.compressor
    return compressor


def _decompressor() -> zstandard.ZstdDecompressor:
    if not hasattr(_local, "decompressor"):
        _local.decompressor = zstandard.ZstdDecompressor()
    decompressor: zstandard.ZstdDecompressor = _local.decompressor
    return decompressor
