"""The writer of a growing log: raw output in, stamped and masked lines out, and what readers see of them meanwhile."""

import codecs
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from cador.domain.masking import Masker
from cador.storage.log_files import (
    BLOCK_BYTES,
    ENTRY_BYTES,
    FRAME_BYTES,
    INDEX_LINES,
    Moved,
    Pair,
    create,
    read_index,
    seal,
    write_all,
)

_SKIPPING: Final = 1
"""Flag of a pair: the rest of an over-long line is being skipped."""
FULL: Final = 2
"""Flag of a pair: the limit is reached, output is dropped."""
RUN_SHIFT: Final = 8
"""The flags of a pair from this bit on: which run of the attempt the raw offset belongs to."""
_OWN_RESERVE: Final = 64 * 1024
"""Bytes that lines of the server's own may take past the limit: how the job ended must be told."""


class StaleWriter(Exception):
    """Another writer was opened for this log; this one must not go on."""


class FileLogWriter:
    """Writes one log and serves its readers.

    Threads: ``feed`` and ``line`` are called from one thread at a time (the event loop) and never wait for the disk to
    make anything durable. ``sync``, ``close`` and ``leave`` wait for the disk and may be called from any other thread,
    also while ``feed`` runs: the lock is not held during ``fdatasync`` and sealing. Readers may be in any thread.

    Lines wait in memory, visible to readers, until 64 KiB have come together or ``sync`` is called; a log that ends
    before is written once, in its sealed form.
    """

    complete = False

    def __init__(
        self,
        path: Path,
        secrets: Sequence[str],
        *,
        clock: Callable[[], float],
        max_bytes: int,
        line_limit: int,
        changed: Callable[[], None],
        ended: Callable[["FileLogWriter"], None],
        run: int = 0,
        keep_bytes: int = 0,
    ) -> None:
        """*run*: how often the attempt was begun anew before; each run has an output of its own, from offset 0, and the
        log goes on with it. *keep_bytes*: so much output is never told to be safe. *changed* is called when readers
        can see more, *ended* when this object serves no readers
        any more."""
        self._path, self._index_path = path, path.with_suffix(".idx")
        self._masker = Masker(secrets)
        self._clock, self._changed, self._ended = clock, changed, ended
        self._max_bytes, self._line_limit = max_bytes, line_limit
        self._lock = threading.Lock()
        self._closing = threading.Lock()
        self._fd = self._index_fd = -1
        self._index_bytes = 0
        self._written = 0
        self._waiting = bytearray()
        self._lines = 0
        self._raw = 0
        self._open_line = bytearray()
        self._run, self._keep_bytes = run, keep_bytes
        self._flags = run << RUN_SHIFT
        self._pair = self._durable = Pair(0, 0, 0, 0)
        self._marks: list[tuple[int, int]] = []
        self._stamp_second, self._stamp = -1, b""
        self._over = self._moved = self._stale = False
        self.size = 0
        self._resume()

    # -- writing -------------------------------------------------------------------------------------------------------

    @property
    def raw_offset(self) -> int:
        """Offset in the executor's output that the stored log covers; follow from here."""
        return self._raw - len(self._open_line)

    @property
    def durable(self) -> Pair:
        """Up to where everything is on the disk: what the last :meth:`sync` reached."""
        return self._durable

    def feed(self, data: bytes, raw_end: int) -> None:
        """Append raw output that ends at *raw_end*. What was fed before is recognised and left out.

        Raises: OSError: the disk refuses; feed the same again later. StaleWriter.
        """
        with self._lock:
            if self._over:
                self._refuse_stale()
                return
            known = self._raw - (raw_end - len(data))
            if known >= len(data):
                return
            if known < 0:  # output was lost outside: the open line cannot be completed
                self._end_open_line(hold_secrets=False)
                self._raw -= known
            before = self.size
            rest = memoryview(data)[max(0, known) :]
            while rest:
                self._make_room()
                piece = bytes(rest[: self._line_limit])
                self._take(piece)
                self._raw += len(piece)
                rest = rest[len(piece) :]
            grown = self.size != before
        if grown:
            self._changed()

    def line(self, text: str) -> None:
        """Append a line of the server's own, after what came of an open line; of that, the end that may be the
        beginning of a secret stays open."""
        with self._lock:
            if self._over:
                self._refuse_stale()
                return
            self._make_room()
            self._end_open_line(hold_secrets=True)
            for line in text.removesuffix("\n").split("\n"):
                self._store_line(line.encode("utf-8", "replace"), reserve=_OWN_RESERVE)
        self._changed()

    def sync(self) -> int:
        """Make everything so far durable; returns the raw offset that is now safe."""
        with self._closing:
            with self._lock:
                if self._moved:
                    return self._safe(self._durable)
                self._flush(mark=True)
                pair = self._pair
                if pair == self._durable or self._fd < 0:
                    return self._safe(pair)
            # only close, leave and sync close or replace these, and they wait for self._closing
            os.fdatasync(self._fd)
            os.fdatasync(self._index_fd)
            self._durable = pair
            return self._safe(pair)

    def _safe(self, pair: Pair) -> int:
        return pair.raw if pair.raw > self._keep_bytes else 0

    def close(self) -> None:
        """Flush an open last line and seal. May be repeated after an OSError."""
        with self._closing:
            with self._lock:
                if self._moved:
                    return
                self._over = True
                self._end_open_line(hold_secrets=False)
                plain = self._fd >= 0
                if plain:
                    self._flush(mark=True)
            seal(self._path.with_suffix(".log.zst"), self._blocks(), self._raw)
            # from here on the sealed file is the log; the plain one is only in the way
            self._let_go()
            for path in (self._index_path, self._path) if plain else ():
                with suppress(FileNotFoundError):
                    path.unlink()

    def leave(self) -> None:
        """Let go without completing: what is stored is durable, an open line comes again from the executor."""
        try:
            self.sync()
        finally:
            self.drop()

    def drop(self, *, stale: bool = False) -> None:
        """Stop at once and write nothing more: the log was deleted, or (*stale*) another writer took it over."""
        with self._closing:
            with self._lock:
                self._over, self._stale = True, stale
            self._let_go()

    # -- reading -------------------------------------------------------------------------------------------------------

    def pread(self, start: int, length: int) -> bytes:
        """At most *length* bytes from *start*. Raises: Moved."""
        with self._lock:
            if self._moved:
                raise Moved
            inside = start - self._written
            if inside >= 0:
                return bytes(self._waiting[inside : inside + length])
            data = os.pread(self._fd, min(length, -inside), start)
            return data + self._waiting[: length - len(data)] if len(data) == -inside else data

    def line_marks(self) -> Sequence[tuple[int, int]]:
        return self._marks

    def line_count(self) -> int:
        return self._lines

    # -- inside, under the lock ----------------------------------------------------------------------------------------

    def _resume(self) -> None:
        """Cut an unfinished log back to the last pair of its index."""
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        there = os.fstat(self._fd).st_size
        pairs = read_index(self._index_path)
        while pairs and not self._fits(pairs[-1], there):
            pairs.pop()
        pair = pairs[-1] if pairs else Pair(0, 0, 0, 0)
        os.ftruncate(self._fd, pair.stored)
        self._index_fd = create(self._index_path, os.O_WRONLY)
        self._index_bytes = len(pairs) * ENTRY_BYTES
        os.ftruncate(self._index_fd, self._index_bytes)
        self._pair = pair
        self._raw, self._written, self._lines, self._flags = pair
        self.size = pair.stored
        if pair.flags >> RUN_SHIFT < self._run:
            self._raw, self._flags = 0, self._run << RUN_SHIFT | pair.flags & FULL
        for earlier in pairs:
            self._mark(earlier)

    def _fits(self, pair: Pair, there: int) -> bool:
        return pair.stored <= there and (pair.stored == 0 or os.pread(self._fd, 1, pair.stored - 1) == b"\n")

    def _refuse_stale(self) -> None:
        if self._stale:
            raise StaleWriter(f"{self._path} has another writer")

    def _make_room(self) -> None:
        if len(self._waiting) >= BLOCK_BYTES:
            self._flush(mark=False)

    def _take(self, piece: bytes) -> None:
        """Store the whole lines of *piece*, at most the line limit long; keep the open rest."""
        if self._flags & FULL:
            return
        if self._flags & _SKIPPING:
            cut = piece.find(b"\n")
            if cut < 0:
                return
            piece = piece[cut + 1 :]
            self._flags &= ~_SKIPPING
        cut = piece.rfind(b"\n") + 1
        if cut:
            block = bytes(self._open_line) + piece[:cut]
            self._open_line[:] = piece[cut:]
            if block.find(b"\n") > self._line_limit:  # only the first line can be that long
                first, _, block = block.partition(b"\n")
                self._store_line(first)
            if block:
                self._store_block(block)
        else:
            self._open_line += piece
        if len(self._open_line) > self._line_limit + self._masker.reach:
            self._store_line(bytes(self._open_line))
            self._open_line.clear()
            self._flags |= _SKIPPING

    def _end_open_line(self, *, hold_secrets: bool) -> None:
        text = bytes(self._open_line)
        held = self._masker.open_tail(text) if hold_secrets and text else 0
        shown = text[: len(text) - held]
        self._open_line[:] = text[len(shown) :]
        if shown:
            self._store_line(shown)

    def _store_line(self, line: bytes, *, reserve: int = 0) -> None:
        """Store one line without its newline; a line over the limit is cut."""
        shown = self._masker.mask(line, self._line_limit)
        if len(line) > self._line_limit:
            # the limit may be inside a character: its beginning is left out, what else is no UTF-8 is replaced
            shown = codecs.getincrementaldecoder("utf-8")("replace").decode(shown).encode()
            shown += f" ... [line cut after {self._line_limit} bytes]".encode()
        self._append(_valid(shown) + b"\n", reserve=reserve)

    def _store_block(self, block: bytes) -> None:
        """Store whole lines, none over the limit."""
        if not self._masker.clean(block):
            block = b"\n".join(map(self._masker.mask, block.split(b"\n")))
        self._append(_valid(block))

    def _append(self, block: bytes, *, reserve: int = 0) -> None:
        """Stamp and keep whole lines, as far as the limit allows."""
        if self._flags & FULL and not reserve:
            return
        stamp = self._stamp_now()
        stamped = stamp + block[:-1].replace(b"\n", b"\n" + stamp) + b"\n"
        room = self._max_bytes + reserve - self.size
        if len(stamped) > room:
            stamped = stamped[: stamped.rfind(b"\n", 0, max(0, room)) + 1]
            if not self._flags & FULL:
                self._flags |= FULL
                self._open_line.clear()
                stamped += stamp + f"[log limit of {_amount(self._max_bytes)} reached, output is dropped]\n".encode()
        self._waiting += stamped
        self._lines += stamped.count(b"\n")
        self.size += len(stamped)

    def _stamp_now(self) -> bytes:
        second = int(self._clock())
        if second != self._stamp_second:
            self._stamp_second = second
            self._stamp = time.strftime("[%Y-%m-%d %H:%M:%S]   ", time.localtime(second)).encode()
        return self._stamp

    def _flush(self, *, mark: bool) -> None:
        """Hand waiting lines to the operating system; then an entry of the index, when one is due or *mark*."""
        if self._waiting:
            if self._fd < 0:
                self._fd = create(self._path, os.O_RDWR | os.O_TRUNC)
            if self._index_fd < 0:
                self._index_fd = create(self._index_path, os.O_WRONLY | os.O_TRUNC)
            write_all(self._fd, self._waiting, self._written)
            self._written += len(self._waiting)
            self._waiting.clear()
        pair = Pair(self.raw_offset, self._written, self._lines, self._flags)
        due = mark or pair.lines - self._pair.lines >= INDEX_LINES
        if due and pair != self._pair and self._index_fd >= 0:
            write_all(self._index_fd, pair.packed(), self._index_bytes)
            self._index_bytes += ENTRY_BYTES
            self._pair = pair
            self._mark(pair)

    def _mark(self, pair: Pair) -> None:
        if pair.lines - (self._marks[-1][0] if self._marks else 0) >= INDEX_LINES:
            self._marks.append((pair.lines, pair.stored))

    def _blocks(self) -> Iterator[bytes]:
        """The whole text, when nothing is appended any more."""
        at = 0
        while at < self.size:
            block = self.pread(at, FRAME_BYTES)
            yield block
            at += len(block)

    def _let_go(self) -> None:
        """Serve no readers any more; whoever is about to read is sent elsewhere."""
        if self._moved:
            return
        self._ended(self)
        with self._lock:
            self._moved = True
            for fd in (self._fd, self._index_fd):
                if fd >= 0:
                    os.close(fd)
            self._fd = self._index_fd = -1
        self._changed()


class CompleteLog:
    """What :meth:`open` gives for a log that is complete already: all was stored, nothing is added."""

    def __init__(self, raw_end: int) -> None:
        self.raw_offset = raw_end

    def feed(self, data: bytes, raw_end: int) -> None:
        """Output heard again."""

    def line(self, text: str) -> None:
        """Told before."""

    def sync(self) -> int:
        return self.raw_offset

    def close(self) -> None:
        """Done before."""

    def leave(self) -> None:
        """Nothing is held."""


def _valid(text: bytes) -> bytes:
    """*text* as UTF-8, what is not replaced; the number of lines stays."""
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError:
            return text.decode("utf-8", "replace").encode()
    return text


def _amount(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"
