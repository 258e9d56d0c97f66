"""Logs that are copied to the shared store while they grow, so that another server can go on with them.

Of a growing log there are *pieces*, each with the place it ends at::

    logs/<workflow>/<task>/<job>/<attempt>/<start>-<end>-<writer>   an entry of the index, then the text, zstd

and of a complete one ``logs/<workflow>/<task>/<job>/<attempt>.log.zst``, as it is on disk. A piece never changes. Two
servers may have written pieces of one log - the second replayed the output after the first had gone, perhaps the first
came back - and any chain of pieces that fit together is the log: a replayed line has another time, never another
length.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

import structlog
import zstandard

from cador.ports.logs import LogChunk, LogName, LogState, LogWriter
from cador.storage.log_files import (
    ENTRY_BYTES,
    FRAME_BYTES,
    Moved,
    Pair,
    Sealed,
    View,
    encode_name,
    folder,
    read_pair,
    read_table,
    tail_offset,
    unpack_frame,
    whole_lines,
)
from cador.storage.log_writer import FULL, RUN_SHIFT, CompleteLog, FileLogWriter
from cador.storage.logs import MAX_BYTES, FileLogs
from cador.storage.objects import Objects, StoreAway, StoreRefuses
from cador.storage.uploads import Uploads

log = structlog.get_logger(__name__)

PIECE_BYTES: Final = 256 << 10
PIECE_AGE_S: Final = 5.0
LARGEST_PIECE_BYTES: Final = 4 << 20
TICK_S: Final = 0.5
SHIPPERS: Final = 4
_KEPT: Final = 8
"""Unpacked frames and pieces kept in memory for readers, of 1 to 4 MiB."""
_TABLES: Final = 256


@dataclass(frozen=True, slots=True)
class Piece:
    key: str
    start: int
    end: int


def sealed_key(name: LogName) -> str:
    return f"{_task_key(name.workflow, name.task)}/{encode_name(name.job)}/{int(name.attempt)}.log.zst"


def pieces_key(name: LogName) -> str:
    return f"{_task_key(name.workflow, name.task)}/{encode_name(name.job)}/{int(name.attempt)}"


def _task_key(workflow: str, task: int) -> str:
    return str(folder(Path("logs"), workflow, task))


def _group(name: LogName) -> str:
    """Orders about one task are carried out in order: its deletion comes after what was copied before."""
    return _task_key(name.workflow, name.task)


def chain(pieces: Sequence[Piece]) -> list[Piece]:
    """Pieces that fit together from 0 to as far as any do; of several ways, the one with the fewest."""
    best: dict[int, tuple[int, Piece | None]] = {0: (0, None)}
    for piece in sorted(pieces, key=lambda piece: (piece.start, piece.end)):
        reached = best.get(piece.start)
        if reached is None or piece.end <= piece.start:
            continue
        known = best.get(piece.end)
        if known is None or reached[0] + 1 < known[0]:
            best[piece.end] = (reached[0] + 1, piece)
    found: list[Piece] = []
    last = best[max(best)][1]
    while last is not None:
        found.append(last)
        last = best[last.start][1]
    return found[::-1]


class StoredLogs:
    """Reads logs in the shared store. Blocks; safe in any thread. Raises StoreAway."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._lock = Lock()
        self._texts: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._tables: OrderedDict[str, Sealed] = OrderedDict()
        self._damaged: set[str] = set()

    def pieces(self, name: LogName) -> list[Piece]:
        prefix = pieces_key(name)
        found = []
        for stored in self._objects.list(prefix):
            parts = stored.key.rpartition("/")[2].split("-")
            with suppress(ValueError, IndexError):
                piece = Piece(stored.key, int(parts[0], 16), int(parts[1], 16))
                if piece.key not in self._damaged:
                    found.append(piece)
        return chain(found)

    def piece(self, piece: Piece) -> tuple[Pair, bytes]:
        """The place a piece ends at, and its text. Raises: FileNotFoundError: it is gone, or damaged; its chain is to
        be asked for anew."""
        body = self._objects.get(piece.key)
        pair, packed, length = read_pair(body), body[ENTRY_BYTES:], piece.end - piece.start
        with suppress(zstandard.ZstdError):
            if pair is not None and pair.stored == piece.end and zstandard.frame_content_size(packed) == length:
                return pair, zstandard.ZstdDecompressor().decompress(packed)
        log.error("stored_piece_damaged", key=piece.key)
        self._damaged.add(piece.key)
        raise FileNotFoundError(piece.key)

    def sealed(self, name: LogName) -> Sealed | None:
        key = sealed_key(name)
        with self._lock:
            known = self._tables.get(key)
        if known is not None:
            return known
        try:
            size = self._objects.size(key)
            table = read_table(size, lambda length, start: self._objects.get_range(key, start, length))
        except FileNotFoundError:
            return None
        if table is None:
            return None
        found = Sealed(Path(key), *table, frame=self._frame)
        with self._lock:
            self._tables[key] = found
            while len(self._tables) > _TABLES:
                self._tables.popitem(last=False)
        return found

    def sealed_parts(self, name: LogName) -> Iterator[bytes]:
        """The object of a complete log as it is."""
        key = sealed_key(name)
        size = self._objects.size(key)
        for at in range(0, size, LARGEST_PIECE_BYTES):
            yield self._objects.get_range(key, at, min(LARGEST_PIECE_BYTES, size - at))

    def view(self, name: LogName) -> View | None:
        """What there is of a log: sealed, or as far as its pieces reach."""
        sealed = self.sealed(name)
        if sealed is not None:
            return sealed
        pieces = self.pieces(name)
        return _Pieces(pieces, self._text) if pieces else None

    def state(self, name: LogName) -> LogState | None:
        view = self.view(name)
        return LogState(view.size, view.complete, written=False) if view is not None else None

    def read(self, name: LogName, start: int, limit: int) -> LogChunk | None:
        while True:
            with suppress(Moved):
                view = self.view(name)
                if view is None:
                    return None
                data = whole_lines(view, start, max(1, limit), view.size)
                end = start + len(data)
                return LogChunk(start, end, data, last=view.complete and end >= view.size)

    def tail_offset(self, name: LogName, lines: int) -> int | None:
        while True:
            with suppress(Moved):
                view = self.view(name)
                return tail_offset(view, lines) if view is not None else None

    def forget(self, workflow: str, task: int) -> None:
        """Its objects are deleted: remember none of them."""
        prefix = _task_key(workflow, task) + "/"
        with self._lock:
            for key in [key for key in self._tables if key.startswith(prefix)]:
                del self._tables[key]
            for place in [place for place in self._texts if place[0].startswith(prefix)]:
                del self._texts[place]

    def _frame(self, log: Sealed, number: int) -> bytes:
        key = str(log.path)
        at, length = log.frames[number]

        def load() -> bytes:
            try:
                return unpack_frame(self._objects.get_range(key, at, length))
            except FileNotFoundError as error:
                with self._lock:
                    self._tables.pop(key, None)
                raise Moved from error

        return self._kept((key, number), load)

    def _text(self, piece: Piece) -> bytes:
        def load() -> bytes:
            try:
                return self.piece(piece)[1]
            except FileNotFoundError as error:  # replaced by a longer one, or by the sealed log
                raise Moved from error

        return self._kept((piece.key, 0), load)

    def _kept(self, key: tuple[str, int], load: Callable[[], bytes]) -> bytes:
        with self._lock:
            known = self._texts.get(key)
            if known is not None:
                self._texts.move_to_end(key)
                return known
        text = load()
        with self._lock:
            self._texts[key] = text
            while len(self._texts) > _KEPT:
                self._texts.popitem(last=False)
        return text


class _Pieces:
    """A growing log as far as its pieces in the store reach."""

    complete = False

    def __init__(self, pieces: Sequence[Piece], text: Callable[[Piece], bytes]) -> None:
        self._pieces, self._text = pieces, text
        self.size = pieces[-1].end

    def pread(self, start: int, length: int) -> bytes:
        end = min(start + length, self.size)
        return b"".join(
            self._text(piece)[max(0, start - piece.start) : end - piece.start]
            for piece in self._pieces
            if piece.start < end and start < piece.end
        )

    def line_marks(self) -> Sequence[tuple[int, int]]:
        return ()

    def line_count(self) -> int:
        return sum(self._text(piece).count(b"\n") for piece in self._pieces)


@dataclass(slots=True)
class _Growing:
    """A log that is written here. ``shipped``: how far it is in the store; ``open``: the last piece there, as long as
    it is small enough to be replaced by a longer one; ``since``: when something to ship was noticed; ``finished``: it
    was completed or deleted, the pieces are not wanted any more; ``alone``: it may not fit to the pieces in the store,
    only the complete log goes there."""

    name: LogName
    writer: FileLogWriter
    shipped: Pair
    open: Piece | None = None
    since: float | None = None
    busy: bool = False
    finished: bool = False
    alone: bool = False


class SharedLogs:
    """The logs of this server, copied to the shared store: for the engine. Implements ``ports.logs.LogStore``; reads
    what is here."""

    def __init__(
        self,
        local: FileLogs,
        objects: Objects,
        uploads: Uploads,
        *,
        max_bytes: int = MAX_BYTES,
        piece_bytes: int = PIECE_BYTES,
        piece_age_s: float = PIECE_AGE_S,
        tick_s: float = TICK_S,
    ) -> None:
        """*max_bytes*: limit of one log. A piece is copied as soon as there are *piece_bytes*, or something that was
        noticed *piece_age_s* ago; it is looked for every *tick_s*."""
        self._local, self._objects, self._uploads = local, objects, uploads
        self._max_bytes, self._piece_bytes = max_bytes, piece_bytes
        self._piece_age_s, self._tick_s = piece_age_s, tick_s
        self.stored = StoredLogs(objects)
        self._me = secrets.token_hex(4)
        self._lock = Lock()
        self._growing: dict[LogName, _Growing] = {}
        self._fetched: OrderedDict[LogName, tuple[Pair, bool]] = OrderedDict()

    # -- writing

    def fetch(self, name: LogName) -> bool:
        try:
            self._fetched[name] = (self._fetch(name), False)
        except StoreAway as error:
            # Its output is replayed from what is left of it. That may not fit to the pieces in the store.
            log.warning("log_not_fetched", log=pieces_key(name), error=str(error))
            self._fetched[name] = (Pair(0, 0, 0, 0), True)
            return False
        return True

    def _fetch(self, name: LogName) -> Pair:
        """Get the log if the store has more of it; returns how far it is there."""
        nothing = Pair(0, 0, 0, 0)
        state = self._local.state(name)
        if state is not None and state.complete:
            return nothing
        if self.stored.sealed(name) is not None:
            self._local.take_in_sealed(name, self.stored.sealed_parts(name))
            return nothing
        while True:
            pieces = self.stored.pieces(name)
            if not pieces:
                return nothing
            here = self._local.index(name)
            try:
                last, _ = self.stored.piece(pieces[-1])
                if here and here[-1].stored >= last.stored and here[-1].flags >> RUN_SHIFT >= last.flags >> RUN_SHIFT:
                    return last
                pairs: list[Pair] = []

                def texts(pieces: Sequence[Piece] = pieces, pairs: list[Pair] = pairs) -> Iterator[bytes]:
                    for piece in pieces:
                        pair, text = self.stored.piece(piece)
                        pairs.append(pair)
                        yield text

                self._local.take_in(name, texts(), pairs)
            except FileNotFoundError:
                continue  # its writer replaced a piece meanwhile
            return last

    def open(self, name: LogName, secrets: tuple[str, ...] = (), run: int = 0) -> LogWriter:
        writer = self._local.open(name, secrets, run)
        if isinstance(writer, CompleteLog):
            return _Complete(self, name, writer)
        shipped, alone = self._fetched.pop(name, (Pair(0, 0, 0, 0), False))
        growing = _Growing(name, writer, shipped, alone=alone)
        with self._lock:
            self._growing[name] = growing
        return _Shipped(self, growing)

    def finish(self, name: LogName) -> None:
        """The log is complete on the disk here. Raises: OSError."""
        path = self._local.sealed_path(name)
        if path.exists():  # not when it was deleted while it was closed
            about = (name.workflow, name.task, name.job, name.attempt)
            self._uploads.put(_group(name), sealed_key(name), path, instead=pieces_key(name), about=about)

    def forget(self, growing: _Growing, *, finished: bool) -> None:
        """Its writer is gone. When it is not *finished*, it may come again."""
        with self._lock:
            growing.finished = growing.finished or finished
            if self._growing.get(growing.name) is growing:
                del self._growing[growing.name]
                if not growing.finished:
                    self._fetched[growing.name] = (growing.shipped, growing.alone)
                    while len(self._fetched) > _TABLES:
                        self._fetched.popitem(last=False)

    def safe(self, growing: _Growing) -> int:
        """Up to where the raw output is not needed any more, whatever happens to this server."""
        durable, shipped = growing.writer.durable, growing.shipped
        if shipped.flags & FULL:
            return durable.raw
        same_run = shipped.flags >> RUN_SHIFT == durable.flags >> RUN_SHIFT
        raw = shipped.raw if same_run and shipped.stored else 0
        if durable.raw - raw > 2 * self._max_bytes:
            return durable.raw  # the store is away while the job floods its log: the disk counts for more
        return min(raw, durable.raw)

    # -- shipping

    async def run(self) -> None:
        """Copy what grows until cancelled."""
        room = asyncio.Semaphore(SHIPPERS)
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(max(self._tick_s, self._uploads.health.wait_s))
                now = asyncio.get_running_loop().time()
                with self._lock:
                    growing = list(self._growing.values())
                for one in growing:
                    if self._due(one, now):
                        one.busy = True
                        group.create_task(self._ship_one(one, room))

    async def flush(self) -> None:
        """Copy what grows as far as it is now, once: before this server goes."""
        with self._lock:
            growing = [one for one in self._growing.values() if not one.busy and not one.alone]
        for one in growing:
            one.busy = True
        room = asyncio.Semaphore(SHIPPERS)
        async with asyncio.TaskGroup() as group:
            for one in growing:
                group.create_task(self._ship_one(one, room))

    def _due(self, one: _Growing, now: float) -> bool:
        if one.busy or one.alone:
            return False
        if self._local.writer(one.name) is not one.writer:  # dropped
            self.forget(one, finished=False)
            return False
        unsent = one.writer.size - one.shipped.stored
        if unsent <= 0:
            one.since = None
            return False
        if one.since is None:
            one.since = now
        return unsent >= self._piece_bytes or now - one.since >= self._piece_age_s

    async def _ship_one(self, one: _Growing, room: asyncio.Semaphore) -> None:
        try:
            async with room:
                while await self._ship(one):
                    pass
        finally:
            one.busy = False

    async def _ship(self, one: _Growing) -> bool:
        """Copy a piece; True: there is so much more that it cannot wait."""
        try:
            await asyncio.to_thread(one.writer.sync)
            until = await asyncio.to_thread(self._until, one)
            if until.stored <= one.shipped.stored:
                return False
            start = one.open.start if one.open is not None else one.shipped.stored
            body = await asyncio.to_thread(_packed, one.writer, start, until)
            piece = Piece(f"{pieces_key(one.name)}/{start:012x}-{until.stored:012x}-{self._me}", start, until.stored)
            await self._objects.put(piece.key, body)
        except StoreAway as error:
            self._uploads.health.failed(error)
            return False
        except StoreRefuses as error:
            log.error("store_refuses", key=pieces_key(one.name), error=str(error))
            one.alone = True
            return False
        except (OSError, Moved):
            return False  # the disk is full, or the log was closed meanwhile: who writes it hears of that
        self._uploads.health.fine()
        replaced, one.shipped, one.since = one.open, until, None
        one.open = piece if piece.end - piece.start < self._piece_bytes else None
        if one.finished:  # meanwhile: perhaps the other pieces are removed already
            with suppress(OSError):
                self._uploads.delete(_group(one.name), piece.key)
            return False
        if replaced is not None:
            with suppress(StoreAway):  # what is left over does no harm, and goes with the others at the end
                await self._objects.delete((replaced.key,))
        return one.writer.size - until.stored >= self._piece_bytes

    def _until(self, one: _Growing) -> Pair:
        """Where the next piece ends: where everything is durable, or earlier when that is too much at once."""
        until = one.writer.durable
        if until.stored - one.shipped.stored <= LARGEST_PIECE_BYTES:
            return until
        for pair in self._local.index(one.name):
            if one.shipped.stored < pair.stored <= until.stored:
                last = pair
                if pair.stored - one.shipped.stored >= LARGEST_PIECE_BYTES // 2:
                    return last
        return until

    # -- reading: what is here

    def state(self, name: LogName) -> LogState | None:
        return self._local.state(name)

    def size(self, name: LogName) -> int:
        return self._local.size(name)

    def exists(self, name: LogName) -> bool:
        return self._local.exists(name)

    def complete(self, name: LogName) -> bool:
        return self._local.complete(name)

    def tail_offset(self, name: LogName, lines: int) -> int:
        return self._local.tail_offset(name, lines)

    def read(self, name: LogName, start: int, limit: int) -> LogChunk:
        return self._local.read(name, start, limit)

    def follow(self, name: LogName, start: int, *, chunk: int = 65_536) -> AsyncIterator[LogChunk]:
        return self._local.follow(name, start, chunk=chunk)

    def delete(self, workflow: str, task: int) -> None:
        """Here and in the store. Raises: OSError."""
        with self._lock:
            growing = [one for name, one in self._growing.items() if (name.workflow, name.task) == (workflow, task)]
        for one in growing:
            self.forget(one, finished=True)
        self._local.delete(workflow, task)
        self.stored.forget(workflow, task)
        self._uploads.delete(_task_key(workflow, task), _task_key(workflow, task))


class _Shipped:
    """A writer whose log is copied to the store. See :class:`cador.ports.logs.LogWriter`."""

    def __init__(self, logs: SharedLogs, growing: _Growing) -> None:
        self._logs, self._growing = logs, growing
        self._writer = growing.writer
        self.feed, self.line = self._writer.feed, self._writer.line

    @property
    def raw_offset(self) -> int:
        return self._writer.raw_offset

    def sync(self) -> int:
        """Make everything durable here; returns the raw offset that is safe in the store, too."""
        self._writer.sync()
        return self._logs.safe(self._growing)

    def close(self) -> None:
        self._writer.close()
        self._logs.forget(self._growing, finished=True)
        self._logs.finish(self._growing.name)

    def leave(self) -> None:
        self._logs.forget(self._growing, finished=False)
        self._writer.leave()


class _Complete:
    """A log that was complete before; perhaps the order to copy it was not written down any more."""

    def __init__(self, logs: SharedLogs, name: LogName, writer: CompleteLog) -> None:
        self._logs, self._name = logs, name
        self._writer = writer
        self.feed, self.line, self.sync, self.leave = writer.feed, writer.line, writer.sync, writer.leave

    @property
    def raw_offset(self) -> int:
        return self._writer.raw_offset

    def close(self) -> None:
        self._logs.finish(self._name)


def _packed(writer: FileLogWriter, start: int, until: Pair) -> bytes:
    """A piece as it is stored. Raises: Moved."""
    parts = []
    at = start
    while at < until.stored:
        data = writer.pread(at, min(FRAME_BYTES, until.stored - at))
        parts.append(data)
        at += len(data)
    return until.packed() + zstandard.ZstdCompressor(level=1).compress(b"".join(parts))
