"""Answers that are streams: live logs as server-sent events, and long texts in pieces.

Raw ASGI: one ``send`` per chunk of lines. A stream holds an offset, never a queue: a slow reader gets larger chunks
later, and what it has not taken costs nothing here. When the client goes, everything the stream holds goes with it.
"""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from cador.domain.errors import NotFound, Unavailable
from cador.operations import job_logs
from cador.operations.context import Context
from cador.operations.job_logs import JobLog
from cador.operations.reading import in_reader
from cador.ports.logs import LogName

PIECE_BYTES: Final = 256 << 10
KEEP_ALIVE: Final = b":\n\n"
EVENT_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
    "Connection": "close",  # the end of the stream is the end of the connection
}
_DOCUMENTED: Final = b"event:message\ndata:"
Write = Callable[[bytes], Awaitable[None]]
SETTLE_S: Final = 15.0
"""How long a reader waits for a server that took a job over to have what the one before had shown."""


def sentence(error: Exception) -> bytes:
    """An error in the place of a log."""
    return f"[{time.strftime('%Y-%m-%d %H:%M:%S')}]   {error}\n".encode()


def documented_events(lines: bytes) -> bytes:
    """Whole lines as the documents frame them: ``event:message``, ``data:<line>``, no space after the colons.

    Lines are right-trimmed; a carriage return inside one makes it several events; a line that begins with a space gets
    one more, which every reader strips.
    """
    if not lines:
        return b""
    if lines.startswith(b" ") or any(rare in lines for rare in (b"\r", b"\n ", b" \n", b"\t\n", b"\v\n", b"\f\n")):
        parts = [part.rstrip() for line in lines[:-1].split(b"\n") for part in line.rstrip().split(b"\r")]
        return b"".join(_DOCUMENTED + (b" " if part.startswith(b" ") else b"") + part + b"\n\n" for part in parts)
    return _DOCUMENTED + lines[:-1].replace(b"\n", b"\n\n" + _DOCUMENTED) + b"\n\n"


def own_event(end: int, lines: bytes) -> bytes:
    """Whole lines as one event of the server's own stream; ``id`` is the offset to go on from."""
    text = lines[:-1].replace(b"\r", b"\n") if b"\r" in lines else lines[:-1]
    return b"id: %d\ndata: %b\n\n" % (end, text.replace(b"\n", b"\ndata: "))


def named_event(name: str, value: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(value))


class Stream(Response):
    """A body that *produce* writes while it comes to be. Ends when *produce* or *until* returns, or the client has
    gone."""

    def __init__(
        self,
        produce: Callable[[Write], Awaitable[None]],
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str,
        until: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._until = until
        self.status_code = status
        self.media_type = media_type
        self.background = None
        self._produce = produce
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] != "HEAD":

            async def write(data: bytes) -> None:
                await send({"type": "http.response.body", "body": data, "more_body": True})

            async with asyncio.TaskGroup() as group:
                work = group.create_task(_awaited(self._produce(write)))
                others = [group.create_task(_gone(receive))]
                if self._until is not None:
                    others.append(group.create_task(_awaited(self._until())))
                await asyncio.wait({work, *others}, return_when=asyncio.FIRST_COMPLETED)
                for child in (work, *others):
                    child.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _awaited(work: Awaitable[None]) -> None:
    await work


async def _gone(receive: Receive) -> None:
    message: Message = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await receive()


class LiveLog:
    """Follows one job task's log and writes it as events.

    *frame* makes bytes of the offset reached and whole lines. *start_wait_s*: how long to wait for the job to start;
    None: as long as it takes.
    """

    def __init__(
        self,
        ctx: Context,
        log: JobLog,
        workflow_key: str,
        number: int,
        frame: Callable[[int, bytes], bytes],
        *,
        keep_alive_s: float,
        start_wait_s: float | None,
        attempt: int | None = None,
    ) -> None:
        self._ctx, self.log = ctx, log
        self._key, self._number, self._attempt = workflow_key, number, attempt
        self._frame = frame
        self._keep_alive_s, self._start_wait_s = keep_alive_s, start_wait_s
        self._lock = asyncio.Lock()
        self._sent_at = time.monotonic()
        self._offset = 0

    async def started(self, write: Write) -> LogName | None:
        """Wait for the job; None: there is no log and will be none, or the wait was in vain."""
        deadline = None if self._start_wait_s is None else time.monotonic() + self._start_wait_s
        while self.log.waiting:
            left = self._keep_alive_s
            if deadline is not None:
                left = min(left, deadline - time.monotonic())
                if left <= 0:
                    return None
            if not await self._changed(left):
                await self._send(write, KEEP_ALIVE)
            await self._look()
        return self.log.name

    async def follow(self, write: Write, name: LogName, start: int) -> None:
        """Write everything from offset *start* until the log is complete, or the job is over without one."""
        async with asyncio.TaskGroup() as group:
            work = group.create_task(self._copy(write, name, start))
            watch = group.create_task(self._watch(write, name))
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
            watch.cancel()
        await self._look()

    async def next_attempt(self, write: Write, name: LogName) -> LogName | None:
        """After the log *name* is complete: the log of the attempt that follows it, None when the job is over."""
        while True:
            if self.log.name is not None and self.log.name.attempt > name.attempt:
                return self.log.name
            if self.log.ended or self._attempt is not None:
                return None
            if not await self._changed(self._keep_alive_s):
                await self._send(write, KEEP_ALIVE)
            await self._look()

    async def _copy(self, write: Write, name: LogName, start: int) -> None:
        self._offset = start
        try:
            async for chunk in self._ctx.logs.follow(name, start):
                if chunk.data:
                    await self._send(write, self._frame(chunk.end, chunk.data))
                    self._offset = chunk.end
        except Unavailable as error:  # it was written by a server that is gone
            await self._send(write, self._frame(self._offset, sentence(error)))

    async def _watch(self, write: Write, name: LogName) -> None:
        """Keep the connection alive; return when the job is over and its log at an end that nobody wrote."""
        while True:
            if self.log.ended and await self._abandoned(name):
                return
            silent = time.monotonic() - self._sent_at
            if silent >= self._keep_alive_s:
                await self._send(write, KEEP_ALIVE)
                silent = 0.0
            await self._changed(self._keep_alive_s - silent)
            if not self.log.ended:
                await self._look()

    async def _abandoned(self, name: LogName) -> bool:
        """Whether there is no log, or all of one is told that nobody writes and nobody completed."""
        try:
            state = await in_reader(self._ctx.logs.state, name)
        except Unavailable:
            return False  # who copies it hears of that, too
        return state is None or not (state.complete or state.written or self._offset < state.size)

    async def _changed(self, seconds: float) -> bool:
        changed = await self._ctx.engine.changed(self.log.task_id, seconds)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # a wait with a limit may end in the instant it is cancelled, and lose that in Python 3.11
            raise asyncio.CancelledError
        return changed

    async def _send(self, write: Write, data: bytes) -> None:
        async with self._lock:
            await write(data)
            self._sent_at = time.monotonic()

    async def _look(self) -> None:
        try:
            self.log = await job_logs.again(
                self._ctx, self._key, self._number, self.log.task_id, self.log.job_id, self._attempt
            )
        except NotFound:  # deleted meanwhile
            self.log = JobLog(self.log.task_id, self.log.job_id, None, False, True, self.log.status, self.log.attempt)


# -- whole texts


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """First offset and end (exclusive) of a ``Range`` header for *size* bytes; None: to be ignored (several ranges,
    another unit, nonsense). An end at or before the first offset: cannot be satisfied."""
    unit, equals, text = header.strip().partition("=")
    first, dash, last = text.strip().partition("-")
    if unit.strip().lower() != "bytes" or not equals or not dash or "," in text:
        return None
    first, last = first.strip(), last.strip()
    if any(part and not (part.isascii() and part.isdigit() and len(part) < 20) for part in (first, last)):
        return None
    if first:
        end = min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
        return int(first), end
    if not last:
        return None
    return max(0, size - int(last)), size if int(last) else 0


def wants_gzip(header: str) -> bool:
    """Whether an ``Accept-Encoding`` header asks for gzip."""
    for part in header.lower().split(","):
        name, _, parameters = part.partition(";")
        if name.strip() in ("gzip", "x-gzip"):
            return "".join(parameters.split()) not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def bytes_answer(
    read: Callable[[int, int], bytes],
    size: int,
    headers: Mapping[str, str],
    *,
    media_type: str,
    gzip: bool = True,
    extra: Mapping[str, str] | None = None,
) -> Stream:
    """*size* bytes in pieces, by ``Range`` or gzipped when *headers* (of the request) ask for it.

    ``read(start, limit)`` blocks and may return more or less than *limit*; nothing means the end. *extra*: headers of
    the answer.
    """
    own = {"Accept-Ranges": "bytes", "Vary": "Accept-Encoding", **(extra or {})}
    asked = byte_range(headers.get("range", ""), size)
    if asked is not None:
        start, end = asked
        if start >= end:
            own["Content-Range"] = f"bytes */{size}"
            return Stream(_nothing, status=416, headers={**own, "Content-Length": "0"}, media_type=media_type)
        own["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        own["Content-Length"] = str(end - start)
        return Stream(_pieces(read, start, end), status=206, headers=own, media_type=media_type)
    if gzip and size and wants_gzip(headers.get("accept-encoding", "")):
        own["Content-Encoding"] = "gzip"
        return Stream(_gzipped(read, size), headers=own, media_type=media_type)
    own["Content-Length"] = str(size)
    return Stream(_pieces(read, 0, size), headers=own, media_type=media_type)


async def _nothing(write: Write) -> None: ...


async def _read_all(read: Callable[[int, int], bytes], start: int, end: int) -> AsyncIterator[bytes]:
    at = start
    deadline = time.monotonic() + SETTLE_S
    while at < end:
        try:
            data = (await in_reader(read, at, PIECE_BYTES))[: end - at]
        except Unavailable:  # its server went in the middle: another one, or the store, may have it soon
            data = b""
        if data:
            at += len(data)
            deadline = time.monotonic() + SETTLE_S
            yield data
        elif time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        else:
            return


def _pieces(read: Callable[[int, int], bytes], start: int, end: int) -> Callable[[Write], Awaitable[None]]:
    async def produce(write: Write) -> None:
        async for data in _read_all(read, start, end):
            await write(data)

    return produce


def _gzipped(read: Callable[[int, int], bytes], size: int) -> Callable[[Write], Awaitable[None]]:
    async def produce(write: Write) -> None:
        packer = zlib.compressobj(5, wbits=31)
        async for data in _read_all(read, 0, size):
            packed = await asyncio.to_thread(packer.compress, data)
            if packed:
                await write(packed)
        await write(packer.flush())

    return produce
