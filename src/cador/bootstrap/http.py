"""The HTTP server."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn

from cador.api.connections import GuardedConnection

GRACE_S: Final = 3
"""How long open requests have at shutdown; log streams are cut then and resumed by their readers."""


class Http(uvicorn.Server):
    """The HTTP server: tells when it answers, and takes signals only when it is a process of its own."""

    def __init__(self, app: object, listener: socket.socket, *, signals: bool) -> None:
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]  # an ASGI application, whatever its class
                http=GuardedConnection,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
                timeout_keep_alive=75,
                backlog=4096,
            )
        )
        self._listener, self._signals = listener, signals
        self.answers = asyncio.Event()
        self.closed = asyncio.Event()
        self.hurried = asyncio.Event()

    async def run_until_told(self) -> None:
        """Answer until ``should_exit``."""
        await self.serve(sockets=[self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().serve(sockets)
        finally:
            self.answers.set()
            self.closed.set()

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        """Who runs the server hears them, for longer than it serves."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def told_by_signals(self) -> Iterator[None]:
        """SIGTERM or SIGINT: stop accepting, let requests end. A second one: at once (``hurried``)."""
        if not self._signals:
            yield
            return
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if self.should_exit:
                self.force_exit = True
                self.hurried.set()
            self.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
