"""What the other servers of the database are shown of this one's disk: logs and artifacts, on an address of its own.

Not part of the API: no user's token is looked at here, and without the signature of a server of the same database
every path answers the same. See :mod:`cador.ports.wire`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from cador.domain.errors import Invalid, NotFound
from cador.ports.blobs import BlobStore
from cador.ports.logs import LogChunk, LogName, LogState
from cador.ports.wire import BEAT_S, HOME, LIMIT_BYTES, NONCE, PROOF, SIGNATURE, TIME, Key, Kind, Signed, frame

log = structlog.get_logger(__name__)

CHUNK_BYTES: Final = 1 << 20


class Shown(Protocol):
    """The logs on this server's own disk."""

    def state(self, name: LogName) -> LogState | None: ...

    def tail_offset(self, name: LogName, lines: int) -> int: ...

    def read(self, name: LogName, start: int, limit: int) -> LogChunk: ...

    def follow(
        self, name: LogName, start: int, *, chunk: int = 65_536, written_here: bool = False
    ) -> AsyncIterator[LogChunk]: ...


class Internal:
    """The ASGI application."""

    def __init__(
        self, *, key: Key, home: str, clock: Callable[[], float], logs: Shown, blobs: BlobStore, beat_s: float = BEAT_S
    ) -> None:
        """*logs*, *blobs*: of this server's disk alone."""
        self._key, self._home, self._clock, self._beat_s = key, home, clock, beat_s
        self._logs, self._blobs = logs, blobs
        self._answers: Mapping[str, Callable[[Mapping[str, str]], bytes | None]] = {
            "/log/state": self._log_state,
            "/log/tail": self._log_tail,
            "/log/read": self._log_read,
            "/blob/size": self._blob_size,
            "/blob/read": self._blob_read,
            "/blob/list": self._blob_list,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        nonce = self._admitted(scope)
        if nonce is None:
            await _reply(send, 404, b"", {})
            return
        proof = {PROOF: self._key.prove(nonce, self._home)}
        try:
            asked = dict(parse_qsl(scope["query_string"].decode("ascii"), keep_blank_values=True, strict_parsing=True))
            if scope["path"] == "/log/follow":
                await self._follow(asked, proof, receive, send)
                return
            answer = self._answers.get(scope["path"])
            body = await asyncio.to_thread(answer, asked) if answer is not None else None
        except (ValueError, KeyError, Invalid):
            await _reply(send, 400, b"", proof)
            return
        except NotFound:
            body = None
        except OSError as error:
            log.warning("peer_not_answered", path=scope["path"], error=repr(error))
            await _reply(send, 503, b"", proof)
            return
        await _reply(send, 404 if body is None else 200, body or b"", proof)

    def _admitted(self, scope: Scope) -> str | None:
        """The nonce of a request that one of us sent, None for all others."""
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        signed = Signed(sent.get(TIME, ""), sent.get(NONCE, ""), sent.get(HOME, ""), sent.get(SIGNATURE, ""))
        target = scope["raw_path"].decode("latin-1").partition("?")[0] + "?" + scope["query_string"].decode("latin-1")
        admitted = scope["method"] == "GET" and self._key.accepts(target, signed, self._home, self._clock())
        return signed.nonce if admitted else None

    # -- logs

    def _log_state(self, asked: Mapping[str, str]) -> bytes | None:
        state = self._logs.state(_log(asked))
        return msgspec.json.encode(asdict(state)) if state is not None else None

    def _log_tail(self, asked: Mapping[str, str]) -> bytes | None:
        name = _log(asked)
        if self._logs.state(name) is None:
            return None
        return msgspec.json.encode({"offset": self._logs.tail_offset(name, int(asked["lines"]))})

    def _log_read(self, asked: Mapping[str, str]) -> bytes | None:
        name = _log(asked)
        if self._logs.state(name) is None:
            return None
        chunk = self._logs.read(name, max(0, int(asked["start"])), min(int(asked["limit"]), LIMIT_BYTES))
        return frame(Kind.LAST if chunk.last else Kind.DATA, chunk.start, chunk.data)

    async def _follow(self, asked: Mapping[str, str], headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        name, start = _log(asked), max(0, int(asked["start"]))
        chunk = max(1, min(int(asked["chunk"]), CHUNK_BYTES))
        await send(_start(200, headers, None))

        async def write(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async with asyncio.TaskGroup() as group:
            work = group.create_task(self._copy(write, name, start, chunk))
            gone = group.create_task(_gone(receive))
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
            gone.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _copy(self, write: Callable[[bytes], Awaitable[None]], name: LogName, start: int, limit: int) -> None:
        chunks = self._logs.follow(name, start, chunk=limit, written_here=True)
        at, waiting, complete = start, None, False
        try:
            while True:
                waiting = waiting or asyncio.ensure_future(anext(chunks, None))
                await asyncio.wait({waiting}, timeout=self._beat_s)
                if not waiting.done():
                    await write(frame(Kind.BEAT, at))
                    continue
                chunk, waiting = waiting.result(), None
                if chunk is None:
                    if not complete:
                        await write(frame(Kind.LEFT, at))
                    return
                at, complete = chunk.end, chunk.last
                await write(frame(Kind.LAST if chunk.last else Kind.DATA, chunk.start, chunk.data))
        finally:
            if waiting is not None:
                waiting.cancel()
                await asyncio.wait({waiting})

    # -- blobs

    def _blob_size(self, asked: Mapping[str, str]) -> bytes | None:
        return msgspec.json.encode({"size": self._blobs.size(asked["key"])})

    def _blob_read(self, asked: Mapping[str, str]) -> bytes | None:
        start, length = max(0, int(asked["start"])), min(int(asked["length"]), LIMIT_BYTES)
        return frame(Kind.DATA, start, self._blobs.read(asked["key"], start, length))

    def _blob_list(self, asked: Mapping[str, str]) -> bytes | None:
        return msgspec.json.encode([asdict(blob) for blob in self._blobs.list(asked["prefix"])])


def _log(asked: Mapping[str, str]) -> LogName:
    return LogName(asked["workflow"], int(asked["task"]), asked["job"], int(asked["attempt"]))


def _start(status: int, headers: Mapping[str, str], length: int | None) -> dict[str, Any]:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-type", b"application/octet-stream"))
    if length is not None:
        raw.append((b"content-length", b"%d" % length))
    return {"type": "http.response.start", "status": status, "headers": raw}


async def _reply(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    await send(_start(status, headers, len(body)))
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
