"""Logs in files: ``<root>/<workflow>/<task>/<job>/<attempt>.log`` while they grow, ``.log.zst`` when complete.

Offsets count bytes of the text and stay the same when a log is sealed, so a reader may hold one as long as it likes.
"""

import asyncio
import shutil
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cador.ports.logs import LogChunk, LogName, LogState
from cador.storage.log_files import (
    Moved,
    Pair,
    Plain,
    Sealed,
    View,
    decode_name,
    folder,
    path_of,
    read_index,
    read_sealed,
    tail_offset,
    whole_lines,
    write_new,
)
from cador.storage.log_writer import CompleteLog, FileLogWriter

MAX_BYTES: Final = 256 << 20
LINE_LIMIT: Final = 64 << 10

_WARM_BYTES: Final = 1 << 20
"""What is read on the event loop at once: so much of a log's end is in memory or in the page cache."""
_FRAMES_KEPT: Final = 4
_TABLES_KEPT: Final = 256
_WAKE_S: Final = 0.01
_WAKE_PER_READER_S: Final = 20e-6


class FileLogs:
    """All logs of one server in a folder of their own. One process at a time may write there.

    All methods but :meth:`follow` are safe in any thread; ``open``, ``read`` and ``tail_offset`` of big logs read the
    disk, so the event loop calls them through a thread.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Callable[[], float],
        max_bytes: int = MAX_BYTES,
        line_limit: int = LINE_LIMIT,
        keep_output: bool = False,
    ) -> None:
        """*clock*: Unix seconds, for the stamps. *max_bytes*: limit of one log. *line_limit*: bytes of one line.
        *keep_output*: no output counts as safe here, because another server may have to read all of it again."""
        self._keep_bytes = 2 * max_bytes if keep_output else 0
        self._root, self._clock = root, clock
        self._max_bytes, self._line_limit = max_bytes, line_limit
        self._lock = threading.Lock()
        self._live: dict[LogName, FileLogWriter] = {}
        self._tables: OrderedDict[Path, Sealed] = OrderedDict()
        self._frames: OrderedDict[tuple[Path, int], bytes] = OrderedDict()
        self._wakes: dict[LogName, list[_Wake]] = {}

    # -- writing -------------------------------------------------------------------------------------------------------

    def open(self, name: LogName, secrets: tuple[str, ...] = (), run: int = 0) -> FileLogWriter | CompleteLog:
        """Create the log or go on with an unfinished one. A writer left open here before becomes stale; a log that is
        complete gives a writer that adds nothing.

        Raises: OSError.
        """
        earlier = self._live.get(name)
        if earlier is not None:
            earlier.drop(stale=True)
        path = path_of(self._root, name)
        sealed = self._sealed(path)
        if sealed is not None:
            for left_over in (path, path.with_suffix(".idx")):  # sealed, and then stopped before removing these
                with suppress(FileNotFoundError):
                    left_over.unlink()
            return CompleteLog(sealed.raw_end)
        writer = FileLogWriter(
            path,
            secrets,
            clock=self._clock,
            max_bytes=self._max_bytes,
            line_limit=self._line_limit,
            changed=lambda: self._changed(name),
            ended=lambda writer: self._ended(name, writer),
            run=run,
            keep_bytes=self._keep_bytes,
        )
        with self._lock:
            self._live[name] = writer
        self._changed(name)
        return writer

    def fetch(self, name: LogName) -> bool:
        """All there is is here."""
        return True

    def take_in(self, name: LogName, text: Iterable[bytes], pairs: Sequence[Pair]) -> None:
        """Put the unfinished log that another server wrote in the place of the one here. *pairs*: its index.

        Raises: OSError.
        """
        path = path_of(self._root, name)
        with suppress(FileNotFoundError):
            path.with_suffix(".idx").unlink()  # first: a log without an index counts for nothing
        write_new(path, text)
        write_new(path.with_suffix(".idx"), (pair.packed() for pair in pairs))

    def take_in_sealed(self, name: LogName, parts: Iterable[bytes]) -> None:
        """Put a complete log, as another server sealed it, here. Raises: OSError."""
        write_new(self.sealed_path(name), parts)

    def sealed_path(self, name: LogName) -> Path:
        """Where the log is once it is complete."""
        return path_of(self._root, name).with_suffix(".log.zst")

    def index(self, name: LogName) -> list[Pair]:
        """Places where the log may be cut and gone on with."""
        return read_index(path_of(self._root, name).with_suffix(".idx"))

    def left_over(self, before: float) -> Iterator[LogName]:
        """Unfinished logs that nobody writes here and that were not changed since *before* (Unix seconds)."""
        for path in self._root.glob("*/*/*/*.log"):
            workflow, job = decode_name(path.parts[-4]), decode_name(path.parts[-2])
            if workflow is None or job is None or not path.stem.isdecimal() or not path.parts[-3].isdecimal():
                continue
            name = LogName(workflow, int(path.parts[-3]), job, int(path.stem))
            with suppress(FileNotFoundError):
                if name not in self._live and path.stat().st_mtime < before:
                    yield name

    def discard(self, name: LogName) -> None:
        """Remove an unfinished log that nobody writes here."""
        with self._lock:
            if name in self._live:
                return
        path = path_of(self._root, name)
        for part in (path.with_suffix(".idx"), path):
            with suppress(FileNotFoundError):
                part.unlink()
        self._changed(name)

    def delete(self, workflow: str, task: int) -> None:
        """Remove all logs of one task; their writers drop what comes, their readers come to the end."""
        for name, writer in tuple(self._live.items()):
            if (name.workflow, name.task) == (workflow, task):
                writer.drop()
        place = folder(self._root, workflow, task)
        with suppress(FileNotFoundError):
            shutil.rmtree(place)
        with self._lock:
            for path in [path for path in self._tables if path.is_relative_to(place)]:
                del self._tables[path]
            for key in [key for key in self._frames if key[0].is_relative_to(place)]:
                del self._frames[key]
            watched = [name for name in self._wakes if (name.workflow, name.task) == (workflow, task)]
        for name in watched:
            self._changed(name)

    # -- reading -------------------------------------------------------------------------------------------------------

    def state(self, name: LogName) -> LogState | None:
        """How far the log is; None when there is none here."""
        while True:
            with suppress(Moved), self._view(name) as view:
                return LogState(view.size, view.complete, name in self._live) if view is not None else None

    def writer(self, name: LogName) -> FileLogWriter | None:
        """Who writes it now in this process."""
        return self._live.get(name)

    def size(self, name: LogName) -> int:
        """Bytes stored so far; 0 when there is no such log."""
        with self._view(name) as view:
            return view.size if view is not None else 0

    def exists(self, name: LogName) -> bool:
        path = path_of(self._root, name)
        return name in self._live or self._sealed(path) is not None or path.exists()

    def complete(self, name: LogName) -> bool:
        return name not in self._live and self._sealed(path_of(self._root, name)) is not None

    def tail_offset(self, name: LogName, lines: int) -> int:
        """Offset where the last *lines* lines begin (0: from the beginning when fewer). *lines* <= 0: offset 0."""
        while True:
            with suppress(Moved), self._view(name) as view:
                return tail_offset(view, lines) if view is not None else 0

    def read(self, name: LogName, start: int, limit: int) -> LogChunk:
        """At most about *limit* bytes of whole lines from *start*; a line longer than *limit* comes whole."""
        found = self._read(name, start, limit)
        return found[0] if found is not None else LogChunk(start, start, b"", last=False)

    async def follow(
        self, name: LogName, start: int, *, chunk: int = 65_536, written_here: bool = False
    ) -> AsyncIterator[LogChunk]:
        """Chunks from *start* until the log is complete, or deleted. Waits for the log to appear.

        *written_here*: come to an end, without a last chunk, as soon as all is told and nobody in this process writes
        the log: another one may have taken it over.

        Readers of one log share one wake-up, and what it brought; it comes at most every 10 ms, less often the more
        readers there are (2,000: 50 ms).
        """
        offset, seen = max(0, start), False
        with self._watch(name) as wake:
            while True:
                event = wake.event
                found = await self._read_warm(wake, name, offset, chunk)
                if found is None and seen:
                    yield LogChunk(offset, offset, b"", last=True)
                    return
                if found is not None:
                    seen = True
                    piece, size = found
                    if piece.data or piece.last:
                        offset = piece.end
                        yield piece
                        if piece.last:
                            return
                        if offset < size:
                            await asyncio.sleep(0)
                            continue
                if written_here and name not in self._live:
                    return
                await event.wait()

    # -- inside --------------------------------------------------------------------------------------------------------

    async def _read_warm(self, wake: "_Wake", name: LogName, start: int, limit: int) -> tuple[LogChunk, int] | None:
        live = self._live.get(name)
        if live is not None:
            size = live.size
            if size - start <= _WARM_BYTES:
                key = (live, size, start, limit)
                if wake.recent_key != key:
                    found = self._read(name, start, limit)
                    if found is None or found[1] != size:
                        return found
                    wake.recent_key, wake.recent = key, found
                return wake.recent
        elif self.size(name) <= _WARM_BYTES:
            return self._read(name, start, limit)
        return await asyncio.to_thread(self._read, name, start, limit)

    def _read(self, name: LogName, start: int, limit: int) -> tuple[LogChunk, int] | None:
        """The chunk, and the size of the log it was read from; None without a log."""
        while True:
            with suppress(Moved), self._view(name) as view:
                if view is None:
                    return None
                size = view.size
                data = whole_lines(view, start, max(1, limit), size)
                end = start + len(data)
                return LogChunk(start, end, data, last=view.complete and end >= size), size

    @contextmanager
    def _view(self, name: LogName) -> Iterator[View | None]:
        live = self._live.get(name)
        if live is not None:
            yield live
            return
        path = path_of(self._root, name)
        sealed = self._sealed(path)
        if sealed is not None:
            yield sealed
            return
        try:
            plain = Plain(path)
        except (FileNotFoundError, NotADirectoryError):
            yield None
            return
        try:
            yield plain
        finally:
            plain.close()

    def _sealed(self, growing: Path) -> Sealed | None:
        path = growing.with_suffix(".log.zst")
        with self._lock:
            known = self._tables.get(path)
            if known is not None:
                self._tables.move_to_end(path)
                return known
        found = read_sealed(path, self._frame)
        if found is not None:
            with self._lock:
                self._tables[path] = found
                while len(self._tables) > _TABLES_KEPT:
                    self._tables.popitem(last=False)
        return found

    def _frame(self, log: Sealed, number: int) -> bytes:
        key = (log.path, number)
        with self._lock:
            known = self._frames.get(key)
            if known is not None:
                self._frames.move_to_end(key)
                return known
        try:
            text = log.load(number)
        except Moved:
            with self._lock:
                self._tables.pop(log.path, None)
            raise
        with self._lock:
            self._frames[key] = text
            while len(self._frames) > _FRAMES_KEPT:
                self._frames.popitem(last=False)
        return text

    def _ended(self, name: LogName, writer: FileLogWriter) -> None:
        with self._lock:
            if self._live.get(name) is writer:
                del self._live[name]

    def _changed(self, name: LogName) -> None:
        for wake in tuple(self._wakes.get(name, ())):
            wake.notify()

    @contextmanager
    def _watch(self, name: LogName) -> Iterator["_Wake"]:
        loop = asyncio.get_running_loop()
        with self._lock:
            wakes = self._wakes.setdefault(name, [])
            wake = next((wake for wake in wakes if wake.loop is loop), None)
            if wake is None:
                wake = _Wake(loop)
                wakes.append(wake)
            wake.readers += 1
        try:
            yield wake
        finally:
            with self._lock:
                wake.readers -= 1
                if wake.readers == 0:
                    wake.cancel()
                    wakes.remove(wake)
                    if not wakes:
                        del self._wakes[name]


class _Wake:
    """Wakes all readers of one log on one event loop: one event per change, shared by them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.event = asyncio.Event()
        self.readers = 0
        self.recent_key: tuple[FileLogWriter, int, int, int] | None = None
        self.recent: tuple[LogChunk, int] | None = None
        self._pending = False
        self._timer: asyncio.TimerHandle | None = None
        self._earliest = 0.0

    def notify(self) -> None:
        """There is more to read. From any thread."""
        if self._pending:
            return
        self._pending = True
        try:
            here = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            here = False
        if here:
            self._plan()
        else:
            with suppress(RuntimeError):  # that loop has ended, and its readers with it
                self.loop.call_soon_threadsafe(self._plan)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _plan(self) -> None:
        if self.loop.time() >= self._earliest:
            self._fire()
        else:
            self._timer = self.loop.call_at(self._earliest, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._pending = False  # before the readers look: what comes after this wakes them again
        self._earliest = self.loop.time() + _WAKE_S + self.readers * _WAKE_PER_READER_S
        event, self.event = self.event, asyncio.Event()
        event.set()
