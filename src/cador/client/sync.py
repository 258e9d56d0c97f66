"""The synchronous client, on the standard library's HTTP: loading it costs a quarter of what another library costs,
and a command is over in a few requests."""

import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from cador.client.errors import Unreachable
from cador.client.groups import Groups
from cador.client.methods import Sync
from cador.client.wire import (
    ATTEMPTS,
    CALL_S,
    RETRY_S,
    STREAM_S,
    USER_AGENT,
    Event,
    Head,
    Pause,
    Request,
    Source,
    Steps,
    answer,
    parse_events,
)

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Exchange:
    """A request whose reply has begun. ``wire``: its socket, which the reply alone holds once the server closes."""

    response: HTTPResponse
    connection: HTTPConnection
    wire: socket.socket | None

    def close(self) -> None:
        self.response.close()
        self.connection.close()

    def hang_up(self) -> None:
        """End it from another thread: whoever reads sees the end at once."""
        if self.wire is not None:
            with suppress(OSError):
                self.wire.shutdown(socket.SHUT_RDWR)


class Client(Groups[Sync]):
    """Talks to one server. May be used by several threads; connections are kept and used again.

    *url*: of the server. *token*: an API token; empty: only what needs none. *language*: of messages, ``en`` or
    ``zh``. *timeout_s*: longest silence within one call. *context*: for TLS, by default the system's authorities.
    *keep*: connections kept for further calls.

    Raises: ValueError: *url* is not an http(s) address, *token* is not one word.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        language: str = "en",
        timeout_s: float = CALL_S,
        context: ssl.SSLContext | None = None,
        user_agent: str = USER_AGENT,
        keep: int = 8,
    ) -> None:
        head = Head.of(url, token, language, user_agent)
        super().__init__(self)
        self.url, self.host = url, head.address.hostname or ""
        self._keep = keep
        self._parts, self._timeout_s, self._context = head.address, timeout_s, context
        self._headers = head.headers
        self._idle: list[HTTPConnection] = []
        self._streams: set[Exchange] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close kept connections and end streams that other threads read."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        self.hang_up()

    def run(self, steps: Steps[T]) -> T:
        """Carry out a call. Raises: ApiError, Unreachable, and what the call raises."""
        bring: Any = None
        failed: Exception | None = None
        while True:
            try:
                step = steps.throw(failed) if failed is not None else steps.send(bring)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            bring = failed = None
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                continue
            try:
                bring = self.send(step)
            except Exception as error:
                failed = error

    def send(self, request: Request) -> Any:
        """One request; what may be repeated is, when no reply comes. Returns the parsed JSON, or the text of another
        type. Raises: ApiError, OddReply, Unreachable."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                exchange = self.open(request, self._timeout_s)
                return answer(request, exchange.response.status, self._whole(exchange), _kind(exchange.response))
            except Unreachable as error:
                if not request.again_after(error, attempt):
                    raise
                time.sleep(RETRY_S * 2 ** (attempt - 1))
        raise AssertionError("unreachable")

    def follow(self, source: Source) -> Iterator[Event]:
        """Events until the last one; a broken connection is made again. Raises: ApiError, Unreachable."""
        while not source.ended:
            lost: Exception | None = None
            try:
                for event in self.events(source.request()):
                    source.saw(event)
                    yield event
                    if source.ended:
                        return
            except Unreachable as error:
                lost = error
            time.sleep(source.lost(lost))

    def events(self, request: Request) -> Iterator[Event]:
        """Events of one connection, until it ends. Raises: ApiError, Unreachable."""
        exchange = self._begun(request, STREAM_S)
        with self._lock:
            self._streams.add(exchange)
        try:
            yield from parse_events(exchange.response)
        except (HTTPException, OSError) as error:
            raise Unreachable(f"{self.url} broke off: {error}", error) from error
        finally:
            with self._lock:
                self._streams.discard(exchange)
            exchange.close()

    @contextmanager
    def download(
        self, path: str, query: Mapping[str, Any] | None = None, *, accept: str = ""
    ) -> Iterator[HTTPResponse]:
        """The body of a reply, to be read in pieces. Raises: ApiError, Unreachable."""
        headers = {"Accept": accept} if accept else {}
        exchange = self._begun(Request("GET", path, query or {}, headers=headers), self._timeout_s)
        try:
            yield exchange.response
        except (HTTPException, TimeoutError, ConnectionError) as error:
            raise Unreachable(f"{self.url} broke off: {error}", error) from error
        finally:
            exchange.close()

    def hang_up(self) -> None:
        """End all streams that other threads of this client read."""
        with self._lock:
            streams = tuple(self._streams)
        for exchange in streams:
            exchange.hang_up()

    def _begun(self, request: Request, timeout_s: float) -> Exchange:
        """A reply that is no error. Raises: ApiError, Unreachable."""
        exchange = self.open(request, timeout_s)
        if exchange.response.status >= 300:
            answer(request, exchange.response.status, self._whole(exchange), _kind(exchange.response))
        return exchange

    def _whole(self, exchange: Exchange) -> bytes:
        """All of the reply; the connection is kept where the server keeps it."""
        try:
            data = exchange.response.read()
        except (HTTPException, OSError) as error:
            exchange.close()
            silent = isinstance(error, TimeoutError)
            raise Unreachable(f"{self.url} broke off: {error}", error, silent=silent) from error
        if exchange.response.will_close:
            exchange.close()
            return data
        with self._lock:
            if len(self._idle) < self._keep:
                self._idle.append(exchange.connection)
                return data
        exchange.close()
        return data

    def open(self, request: Request, timeout_s: float) -> Exchange:
        """The reply has begun, whatever it says. The caller closes it. Raises: Unreachable."""
        data, headers = request.content()
        connection = self._connection(timeout_s)
        try:
            if connection.sock is None:
                connection.connect()
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise Unreachable(f"its certificate is not trusted: {error.verify_message}", error, sent=False) from error
        except (HTTPException, OSError) as error:
            connection.close()
            raise Unreachable(str(error) or type(error).__name__, error, sent=False) from error
        try:
            connection.request(request.method, request.target(self._parts.path), data, {**self._headers, **headers})
            wire = connection.sock
            return Exchange(connection.getresponse(), connection, wire)
        except (HTTPException, OSError) as error:
            connection.close()
            silent = isinstance(error, TimeoutError)
            raise Unreachable(str(error) or type(error).__name__, error, silent=silent) from error

    def _connection(self, timeout_s: float) -> HTTPConnection:
        """A kept connection that the server has not closed meanwhile, or a new one."""
        while True:
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            if kept is None:
                return self._connect(timeout_s)
            if kept.sock is not None and not _readable(kept.sock):
                kept.sock.settimeout(timeout_s)
                return kept
            kept.close()

    def _connect(self, timeout_s: float) -> HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        secure = self._parts.scheme == "https"

        def to(where: str, there: int | None) -> HTTPConnection:
            if secure:
                return HTTPSConnection(where, there, timeout=timeout_s, context=self._context)
            return HTTPConnection(where, there, timeout=timeout_s)

        if proxy := _proxy(self._parts.scheme, host):
            connection = to(*proxy)
            connection.set_tunnel(host, port or (443 if secure else 80))
            return connection
        return to(host, port)


def _readable(wire: socket.socket) -> bool:
    """Something came on a connection on which nothing is asked: its end."""
    try:
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(wire, select.POLLIN)
            return bool(poll.poll(0))
        return bool(select.select([wire], [], [], 0)[0])
    except (OSError, ValueError):
        return True


def _kind(response: HTTPResponse) -> str:
    return response.headers.get_content_type()


def _proxy(scheme: str, host: str) -> tuple[str, int] | None:
    if not any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass

    address = getproxies().get(scheme) or getproxies().get("all")
    if not address or proxy_bypass(host) or host in ("localhost", "127.0.0.1", "::1"):
        return None
    parts = urlsplit(address if "://" in address else f"http://{address}")
    return (parts.hostname, parts.port or 8080) if parts.hostname else None
