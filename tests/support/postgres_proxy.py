"""A proxy before PostgreSQL that loses what it is told to lose: the message COMMIT, its reply, or everything."""

import contextlib
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import make_url

_COMMIT = b"COMMIT\x00"


class PostgresProxy:
    """Listens on a Unix socket of its own and forwards to the server of *url*. Threads, closed by :meth:`close`.

    ``lose_next_commit``: the message never arrives, the connection breaks. ``lose_next_reply``: the server commits,
    the connection breaks before it can say so. ``down``: connections break and new ones are refused.
    """

    def __init__(self, url: str) -> None:
        parts = make_url(url)
        host = parts.query["host"]
        assert isinstance(host, str)
        port = parts.port or 5432
        self._target = str(Path(host) / f".s.PGSQL.{port}")
        self._folder = tempfile.TemporaryDirectory(prefix="cador-proxy-")
        self.url = parts.set(query={"host": self._folder.name}, port=port).render_as_string(hide_password=False)
        self.lose_next_commit = False
        self.lose_next_reply = False
        self.down = False
        self.down_after_loss = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(Path(self._folder.name) / f".s.PGSQL.{port}"))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        """Break every connection there is."""
        with self._lock:
            broken, self._open = self._open, set()
        for side in broken:
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()
        self._folder.cleanup()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.down:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            with self._lock:
                self._open |= {client, server}
            lost = threading.Event()
            for pump in (self._to_server, self._to_client):
                thread = threading.Thread(target=pump, args=(client, server, lost), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _to_server(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        for data in _received(client):
            if _COMMIT in data and self.lose_next_commit:
                self.lose_next_commit = False
                self.down = self.down_after_loss
                break
            if _COMMIT in data and self.lose_next_reply:
                self.lose_next_reply = False
                lost.set()
            with contextlib.suppress(OSError):
                server.sendall(data)
        _end(client, server)

    def _to_client(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        for data in _received(server):
            if lost.is_set():
                self.down = self.down_after_loss
                break
            with contextlib.suppress(OSError):
                client.sendall(data)
        _end(client, server)
        with self._lock:
            self._open -= {client, server}
        server.close()
        client.close()


def _received(side: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            data = side.recv(65_536)
        except OSError:
            return
        if not data:
            return
        yield data


def _end(*sides: socket.socket) -> None:
    for side in sides:
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)
