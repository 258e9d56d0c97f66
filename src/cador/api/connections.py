"""Connections that hold out: clients that send a head byte by byte, or never, clients that never read, and clients that
go on sending when they have been answered.

The HTTP server limits neither the head of a request nor the time it takes, waits for ever for a client that does not
take its answer, and for the rest of a body that was answered before it was read. The body of a request has its limits
where it is read (:mod:`cador.api.routing`).
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
REST_S: Final = 15.0
"""Seconds a client may go on sending a body after its answer. What it sends then is dropped: who sends all before they
read would not find the answer if the connection were closed under them."""
REST_BYTES: Final = 64 << 20
"""And not more of it."""


class _Ending:
    """The transport as an answer sees it: closing it waits for the rest of the request."""

    def __init__(self, connection: "GuardedConnection") -> None:
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing
        self.close = connection.end


class GuardedConnection(HttpToolsProtocol):
    """One connection of uvicorn, with these limits. Costs nothing for a request that arrives in one piece."""

    head_s = HEAD_S
    stalled_s = STALLED_S
    rest_s = REST_S
    rest_bytes = REST_BYTES
    _rest: asyncio.TimerHandle | None = None
    """Runs while what comes is the rest of a body that was answered."""
    _dropped = 0
    _body_over = True
    _ends = False
    """No further request is answered: the connection closes as soon as the present one has come."""
    _patience: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._ending = _Ending(self)
        self._patience = self.loop.call_later(self.head_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_done()
        self._rest_is_over()
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
        self._unset_keepalive_if_required()
        self._in_head, self._head_bytes, self._body_over = True, 0, False

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_is_done()
        super().on_headers_complete()
        self.cycle.transport = self._ending  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self._rest is not None:
            self._dropped += len(body)
            if self._dropped > self.rest_bytes:
                self.transport.close()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._body_over = True
        if not self._rest_is_over():
            return
        if self._ends:
            self.transport.close()
        else:  # the data that came took the time for a next request back: it begins now
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def end(self) -> None:
        """Close, but not under a client that is still sending what was answered already."""
        if self._body_over or not self.cycle.response_complete:
            self.transport.close()
        else:
            self._ends = True

    def on_response_complete(self) -> None:
        if self._ends:
            self.server_state.total_requests += 1
            self.flow.resume_reading()
        else:
            super().on_response_complete()
        if not self._body_over and self.cycle.response_complete and not self.transport.is_closing():
            self._dropped = 0
            self._rest = self.loop.call_later(self.rest_s, self.transport.close)

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

    def _rest_is_over(self) -> bool:
        """Whether there was a rest to wait for."""
        if self._rest is None:
            return False
        self._rest.cancel()
        self._rest = None
        return True

    def _too_slow(self) -> None:
        self._patience = None
        if not self.transport.is_closing():
            self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete:  # not into the midst of another answer
            self.transport.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        self.transport.close()
