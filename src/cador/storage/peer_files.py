"""Asks the other servers of the database for logs and blobs on their disks. See :mod:`cador.ports.wire`.

Only addresses of the servers' own rows are asked, and only answers are believed that prove to come from them.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec

from cador.ports.blobs import Blob
from cador.ports.logs import LogChunk, LogName, LogState
from cador.ports.wire import (
    BEAT_S,
    FRAME,
    HOME,
    LIMIT_BYTES,
    NONCE,
    PROOF,
    SIGNATURE,
    TIME,
    Key,
    Kind,
    PeerAway,
    Signed,
    log_query,
)

ANSWER_S: Final = 5.0
SILENT_S: Final = 3 * BEAT_S
_HEAD_BYTES: Final = 16 << 10


class _Missing(Exception):
    """The other server has no such thing."""


class PeerFiles:
    """What lies in the data folders of other servers. All but :meth:`follow` block; safe in any thread.

    Every method raises PeerAway. *address*: ``http://host:port``; *home*: the name of the data folder there.
    """

    def __init__(self, key: Key, *, clock: Callable[[], float], answer_s: float = ANSWER_S) -> None:
        self._key, self._clock, self._answer_s = key, clock, answer_s

    # -- logs

    def log_state(self, address: str, home: str, name: LogName) -> LogState | None:
        found = self._json(address, home, f"/log/state?{log_query(name)}")
        return LogState(**found) if found is not None else None

    def log_tail(self, address: str, home: str, name: LogName, lines: int) -> int | None:
        found = self._json(address, home, f"/log/tail?{log_query(name, lines=lines)}")
        return int(found["offset"]) if found is not None else None

    def log_read(self, address: str, home: str, name: LogName, start: int, limit: int) -> LogChunk | None:
        target = f"/log/read?{log_query(name, start=start, limit=min(limit, LIMIT_BYTES))}"
        kind, at, data = self._framed(address, home, target)
        if kind == Kind.LEFT:
            return None
        return LogChunk(at, at + len(data), data, last=kind == Kind.LAST)

    async def follow(
        self, address: str, home: str, name: LogName, start: int, *, chunk: int
    ) -> AsyncIterator[LogChunk]:
        """Chunks from *start* on; ends after the last one, or without one when the log is not written there now.

        A server that says nothing, not even that it is there, is away.
        """
        target = f"/log/follow?{log_query(name, start=start, chunk=chunk)}"
        host, port = _place(address)
        try:
            async with asyncio.timeout(self._answer_s):
                reader, writer = await asyncio.open_connection(host, port, limit=_HEAD_BYTES)
        except (OSError, ValueError) as error:
            raise PeerAway(f"{address}: {error or 'no answer'}") from error
        try:
            async with asyncio.timeout(self._answer_s):
                nonce, request = self._request(address, home, target)
                writer.write(request)
                await writer.drain()
                self._check(await reader.readuntil(b"\r\n\r\n"), nonce, home)
            body = _Body(reader)
            while True:
                async with asyncio.timeout(SILENT_S):
                    number, at, length = FRAME.unpack(await body.exactly(FRAME.size))
                    data = await body.exactly(length)
                kind = Kind(number)
                if kind is Kind.LEFT:
                    return
                if kind is not Kind.BEAT:
                    yield LogChunk(at, at + length, data, last=kind is Kind.LAST)
                if kind is Kind.LAST:
                    return
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise PeerAway(f"{address}: {error or 'no answer'}") from error
        finally:
            writer.transport.abort()

    # -- blobs

    def blob_size(self, address: str, home: str, key: str) -> int | None:
        found = self._json(address, home, f"/blob/size?{urlencode({'key': key})}")
        return int(found["size"]) if found is not None else None

    def blob_read(self, address: str, home: str, key: str, start: int, length: int) -> bytes | None:
        wanted = {"key": key, "start": start, "length": min(length, LIMIT_BYTES)}
        kind, _, data = self._framed(address, home, f"/blob/read?{urlencode(wanted)}")
        return None if kind == Kind.LEFT else data

    def blob_list(self, address: str, home: str, prefix: str) -> list[Blob]:
        found = self._json(address, home, f"/blob/list?{urlencode({'prefix': prefix})}") or []
        return [Blob(**one) for one in found]

    # -- inside

    def _request(self, address: str, home: str, target: str) -> tuple[str, bytes]:
        nonce = secrets.token_hex(16)
        signed = self._key.sign(target, home, nonce, self._clock())
        lines = [f"GET {target} HTTP/1.1", f"Host: {urlsplit(address).netloc}", "Connection: close", *_headers(signed)]
        return nonce, ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")

    def _check(self, head: bytes, nonce: str, home: str) -> None:
        status, *lines = head.decode("latin-1").split("\r\n")
        named = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        words = status.split(" ")
        if len(words) < 2 or words[1] != "200" or not self._key.proves(named.get(PROOF, ""), nonce, home):
            raise PeerAway(f"it is not {home} that answers, or it refuses: {' '.join(words[1:])[:50]}")

    def _ask(self, address: str, home: str, target: str) -> bytes:
        from http.client import HTTPConnection, HTTPException  # a server without others need not load it

        host, port = _place(address)
        nonce = secrets.token_hex(16)
        signed = self._key.sign(target, home, nonce, self._clock())
        connection = HTTPConnection(host, port, timeout=self._answer_s)
        try:
            connection.request("GET", target, headers=dict(line.split(": ", 1) for line in _headers(signed)))
            reply = connection.getresponse()
            body = reply.read()
            proven = self._key.proves(reply.getheader(PROOF, ""), nonce, home)
        except (OSError, HTTPException, ValueError) as error:
            raise PeerAway(f"{address}: {error}") from error
        finally:
            connection.close()
        if not proven or reply.status not in (200, 404):
            raise PeerAway(f"{address}: it is not {home} that answers, or it refuses: {reply.status}")
        if reply.status == 404:
            raise _Missing
        return body

    def _json(self, address: str, home: str, target: str) -> Any:
        try:
            return msgspec.json.decode(self._ask(address, home, target))
        except _Missing:
            return None
        except msgspec.MsgspecError as error:
            raise PeerAway(f"{address}: {error}") from error

    def _framed(self, address: str, home: str, target: str) -> tuple[int, int, bytes]:
        try:
            body = self._ask(address, home, target)
        except _Missing:
            return Kind.LEFT, 0, b""
        if len(body) < FRAME.size or FRAME.unpack_from(body)[2] != len(body) - FRAME.size:
            raise PeerAway(f"{address}: the answer was cut off")
        kind, at, _ = FRAME.unpack_from(body)
        return kind, at, body[FRAME.size :]


class _Body:
    """The body of an answer in chunks (RFC 9112, 7.1)."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader, self._held = reader, bytearray()

    async def exactly(self, length: int) -> bytes:
        """Raises: EOFError, ValueError: it was cut off, or is none."""
        while len(self._held) < length:
            size = int((await self._reader.readuntil(b"\r\n")).partition(b";")[0], 16)
            if size == 0:
                raise EOFError("the stream was cut off")
            self._held += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        data = bytes(self._held[:length])
        del self._held[:length]
        return data


def _headers(signed: Signed) -> list[str]:
    return [
        f"{TIME}: {signed.time}",
        f"{NONCE}: {signed.nonce}",
        f"{HOME}: {signed.home}",
        f"{SIGNATURE}: {signed.signature}",
    ]


def _place(address: str) -> tuple[str, int]:
    """Host and port. Raises: PeerAway: that is no address."""
    try:
        parts = urlsplit(address)
        if parts.scheme == "http" and parts.hostname and parts.port and parts.path in ("", "/"):
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise PeerAway(f"{address!r} is not an address like http://host:port")
