"""Connections that hold out: clients that send a head byte by byte, or never, and clients that never read.

The HTTP server limits neither the head of a request nor the time it takes, and waits for ever for a client that does
not take its answer. The body of a request has its limits where it is read (:mod:`cador.api.routing`).
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S: Final = 20.0
"""Seconds a client may take for the head of a request, from its connection or from its first byte."""
HEAD_BYTES: Final = 128 << 10
STALLED_S: Final = 300.0
"""Seconds without anything being read of an answer before the connection is broken off. Followers of logs come back
and go on where they were."""


class GuardedConnection(HttpToolsProtocol):
    """One connection of uvicorn, with these limits. Costs nothing for a request that arrives in one piece."""

    head_s = HEAD_S
    stalled_s = STALLED_S
    _patience: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._patience = self.loop.call_later(self.head_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_done()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._in_head
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        if before:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(b"431 Request Header Fields Too Large")
                return
        if self._patience is None:
            self._patience = self.loop.call_later(self.head_s, self._too_slow)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_is_done()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(self.stalled_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _head_is_done(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _too_slow(self) -> None:
        self._patience = None
        if not self.transport.is_closing():
            self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete:  # not into the midst of another answer
            self.transport.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        self.transport.close()
