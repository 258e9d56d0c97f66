"""A small synchronous HTTP client for cador's own API: JSON in and out, one error for people, server-sent events.

The standard library's client: loading it costs a quarter of what the server's own HTTP library costs, and a command
is over in a few requests.
"""

import json
import os
import socket
import ssl
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from cador import __version__
from cador.cli.contexts import Place, find_place
from cador.cli.output import FAILED, NOT_ALLOWED, UNREACHABLE, USAGE, Failure

CALL_S: Final = 60.0
"""Longest silence of the server within one call."""
STREAM_S: Final = 45.0
"""Longest silence of a stream: three missed keep-alive lines."""


class Refused(Failure):
    """The server answered with an error. ``status``: of HTTP; ``body``: its JSON, as far as it is some."""

    def __init__(self, message: str, status: int, body: Any) -> None:
        super().__init__(message, NOT_ALLOWED if status in (401, 403) else FAILED)
        self.status, self.body = status, body


class Unreached(Failure):
    """The server did not answer."""

    def __init__(self, message: str) -> None:
        super().__init__(message, UNREACHABLE)


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


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event. ``data``: its lines joined by LF."""

    id: str
    event: str
    data: str


class Client:
    """Talks to one server. Each call has a connection of its own, so one client may serve several threads."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._streams: set[Exchange] = set()
        parts = urlsplit(place.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Failure(f"{place.url!r} ({place.source}) is not an http(s) address", USAGE)
        self._parts = parts
        self._headers = {
            "Accept": "application/json",
            "Accept-Language": language(os.environ),
            "User-Agent": f"cador/{__version__}",
        }
        if place.token:
            self._headers["Authorization"] = f"Bearer {place.token}"

    def get(self, path: str, **query: Any) -> Any:
        return self.call("GET", path, query)

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """One request. *body*: text is sent as it is, anything else as JSON. Returns the parsed JSON, or the text of
        another type. Raises: Unreached, Refused."""
        exchange = self._open(method, path, query, body, headers or {}, CALL_S)
        try:
            data = exchange.response.read()
        except (HTTPException, OSError) as error:
            raise Unreached(f"{self.place.url} broke off: {error}") from error
        finally:
            exchange.close()
        return _parsed(data, exchange.response.headers.get_content_type())

    def start(self, path: str, body: Any) -> Any:
        """A POST that must happen once: it carries a key, and is repeated with that key when its reply is lost."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        try:
            return self.call("POST", path, None, body, headers=headers)
        except Unreached:
            return self.call("POST", path, None, body, headers=headers)

    @contextmanager
    def download(self, path: str, *, accept: str = "") -> Iterator[HTTPResponse]:
        """The body of a reply, to be read in pieces. Raises: Unreached, Refused."""
        exchange = self._open("GET", path, None, None, {"Accept": accept} if accept else {}, CALL_S)
        try:
            yield exchange.response
        except (HTTPException, TimeoutError, ConnectionError) as error:
            raise Unreached(f"{self.place.url} broke off: {error}") from error
        finally:
            exchange.close()

    def events(self, path: str, query: Mapping[str, Any] | None = None, last_id: str = "") -> Iterator[Event]:
        """Server-sent events after *last_id*, until the connection ends. Raises: Unreached, Refused."""
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        exchange = self._open("GET", path, query, None, headers, STREAM_S)
        self._streams.add(exchange)
        try:
            yield from parse_events(exchange.response)
        except (HTTPException, OSError) as error:
            raise Unreached(f"{self.place.url} broke off: {error}") from error
        finally:
            self._streams.discard(exchange)
            exchange.close()

    def hang_up(self) -> None:
        """End all streams that other threads of this client read."""
        for exchange in tuple(self._streams):
            exchange.hang_up()

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> Exchange:
        """The reply has begun; errors of the server are raised. The caller closes it."""
        known = {key: value for key, value in (query or {}).items() if value not in (None, "")}
        target = self._parts.path.rstrip("/") + path + (f"?{urlencode(known)}" if known else "")
        sent = dict(self._headers) | dict(headers)
        data: bytes | None = None
        if isinstance(body, str):
            data, sent["Content-Type"] = body.encode(), "application/yaml; charset=utf-8"
        elif body is not None:
            data, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        connection = self._connect(timeout_s)
        try:
            connection.request(method, target, data, sent)
            wire = connection.sock
            response = connection.getresponse()
            if response.status < 400:
                return Exchange(response, connection, wire)
            text = response.read()
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise Unreached(f"{self.place.url}: its certificate is not trusted: {error.verify_message}") from error
        except (HTTPException, OSError) as error:
            connection.close()
            raise Unreached(self._unreached(error)) from error
        connection.close()
        parsed = _parsed(text, response.headers.get_content_type())
        raise Refused(_refusal(response.status, parsed, self.place), response.status, parsed)

    def _connect(self, timeout_s: float) -> HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        secure = self._parts.scheme == "https"
        kind = HTTPSConnection if secure else HTTPConnection
        if proxy := _proxy(self._parts.scheme, host):
            connection = kind(proxy[0], proxy[1], timeout=timeout_s)
            connection.set_tunnel(host, port or (443 if secure else 80))
            return connection
        return kind(host, port, timeout=timeout_s)

    def _unreached(self, error: Exception) -> str:
        where = f"{self.place.url} ({self.place.source})"
        if isinstance(error, socket.gaierror):
            return f"{where} is not reached: nobody knows the name {self._parts.hostname}"
        if isinstance(error, ConnectionRefusedError):
            return f"{where} is not reached: nothing listens there; is the server running?"
        if isinstance(error, TimeoutError):
            return f"{where} does not answer"
        return f"{where} is not reached: {str(error) or type(error).__name__}"


def connect() -> Client:
    """A client for the server that this command line means."""
    return Client(find_place())


def language(environ: Mapping[str, str]) -> str:
    """``zh`` or ``en``, from the locale as other programs read it."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environ.get(name):
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


def segment(text: str) -> str:
    """*text* as one segment of a path."""
    return quote(text, safe="")


def parse_events(lines: Iterator[bytes] | HTTPResponse) -> Iterator[Event]:
    """Events of a ``text/event-stream``. A cut-off last event is dropped: it comes again after reconnecting."""
    ident, event, data = "", "message", list[str]()
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\n").removesuffix("\r")
        if not line:
            if data or event != "message":
                yield Event(ident, event, "\n".join(data))
            event, data = "message", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            event = value
        elif name == "id":
            ident = value


def _parsed(data: bytes, content_type: str) -> Any:
    text = data.decode("utf-8", "replace")
    if content_type == "application/json" or content_type.endswith("+json"):
        try:
            return json.loads(text) if text else None
        except ValueError:
            return text
    return text


def _refusal(status: int, body: Any, place: Place) -> str:
    """What an error reply says, in one line, whatever of the API's forms it has."""
    if status == 401:
        return f"{place.url} does not know this token ({place.source}); use cador login, or set CADOR_TOKEN"
    if isinstance(body, dict):
        title = str(body.get("message") or body.get("title") or "").rstrip(": ")
        detail = str(body.get("description") or body.get("detail") or "")
        text = ": ".join(part for part in (title, detail) if part)
        if text:
            return text
    first = str(body).strip().partition("\n")[0][:200] if isinstance(body, str) else ""
    return f"the server answered {status}" + (f": {first}" if first else "")


def _proxy(scheme: str, host: str) -> tuple[str, int] | None:
    if not any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass

    address = getproxies().get(scheme) or getproxies().get("all")
    if not address or proxy_bypass(host) or host in ("localhost", "127.0.0.1", "::1"):
        return None
    parts = urlsplit(address if "://" in address else f"http://{address}")
    return (parts.hostname, parts.port or 8080) if parts.hostname else None
