"""Requests and replies as values: what both clients share. Nothing here reads or writes a network.

A call is a generator of :class:`Request` and :class:`Pause`: it is sent what each brought (the parsed reply, or an
error raised at that place) and returns the call's result. The synchronous and the asynchronous client each run such
generators in their own way.
"""

import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from cador import __version__
from cador.client.errors import ApiError, OddReply, Unreachable

T = TypeVar("T")

CALL_S: Final = 60.0
"""Longest silence of the server within one call."""
STREAM_S: Final = 45.0
"""Longest silence of a stream: three missed keep-alive lines."""
ATTEMPTS: Final = 3
"""How often what may be repeated is sent when no reply comes."""
RETRY_S: Final = 0.3
"""Seconds before the first repetition; each further one waits twice as long."""
USER_AGENT: Final = f"cador-client/{__version__}"
PAGE: Final = 200
"""Elements that lists are read by."""
_SAFE: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Head:
    """Where a server is, and what goes with every request to it."""

    address: SplitResult
    headers: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, url: str, token: str, language: str, user_agent: str) -> "Head":
        """Raises: ValueError: *url* is not an http(s) address, or *token* is not one word; it is not shown."""
        try:
            address = urlsplit(url)
            well = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        except ValueError:  # a port that is none
            well = False
        if not well:
            raise ValueError(f"{url!r} is not an http(s) address")
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            raise ValueError("that is no token: it is one word of letters, digits and signs")
        headers = {"Accept": "application/json", "Accept-Language": language, "User-Agent": user_agent}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return cls(address, headers)


@dataclass(frozen=True, slots=True)
class Request:
    """``query``: values that are None or empty are left out. ``body``: text is sent as YAML, anything else as JSON,
    None not at all. ``repeatable``: sending it twice does the same as once. ``text``: the reply may be other than
    JSON."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False
    text: bool = False

    def again_after(self, error: Unreachable, attempt: int) -> bool:
        """Whether it is sent once more when *error* came in place of a reply, for the *attempt*-th time."""
        may = self.repeatable or self.method in _SAFE
        return may and error.sent and not error.silent and attempt < ATTEMPTS

    def target(self, prefix: str = "") -> str:
        """Path and query. *prefix*: path of the server's address."""
        known = {name: _text(value) for name, value in self.query.items() if value not in (None, "")}
        return prefix.rstrip("/") + self.path + (f"?{urlencode(known, doseq=True)}" if known else "")

    def content(self) -> tuple[bytes | None, dict[str, str]]:
        """The body as bytes, and all headers of this request."""
        headers = dict(self.headers)
        if self.body is None:
            return None, headers
        if isinstance(self.body, str):
            headers.setdefault("Content-Type", "application/yaml; charset=utf-8")
            return self.body.encode(), headers
        headers.setdefault("Content-Type", "application/json")
        return json.dumps(self.body).encode(), headers


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


Steps: TypeAlias = Generator[Request | Pause, Any, T]
"""A call in steps; returns its result."""


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event. ``data``: its lines joined by LF."""

    id: str
    event: str
    data: str


class Source:
    """A stream of events that goes on where it broke off.

    ``request``: of the first connection. ``ends``: names of the events after which nothing comes. ``attempts``:
    connections in a row that may bring nothing.
    """

    def __init__(self, request: Request, ends: tuple[str, ...] = ("end",), attempts: int = 6) -> None:
        self._request, self._ends, self._attempts = request, ends, attempts
        self._failed = 0
        self.last_id = ""
        self.ended = False

    def request(self) -> Request:
        """Of the next connection: after what has been seen."""
        headers = {**self._request.headers, "Accept": "text/event-stream"}
        if self.last_id:
            headers["Last-Event-ID"] = self.last_id
        return Request("GET", self._request.path, self._request.query, headers=headers)

    def saw(self, event: Event) -> None:
        self._failed = 0
        self.last_id = event.id or self.last_id
        self.ended = self.ended or event.event in self._ends

    def lost(self, error: Exception | None) -> float:
        """Seconds to wait before connecting again. Raises: *error*, when that was tried often enough."""
        self._failed += 1
        if self._failed >= self._attempts and error is not None:
            raise error
        return float(min(RETRY_S * 2 ** (self._failed - 1), 5.0))


class EventLines:
    """Makes events of the lines of a ``text/event-stream``. A cut-off last event is dropped: it comes again after
    reconnecting."""

    def __init__(self) -> None:
        self._id, self._event, self._data = "", "message", list[str]()

    def feed(self, line: str) -> Event | None:
        """*line* without its end."""
        if not line:
            done = (
                Event(self._id, self._event, "\n".join(self._data)) if self._data or self._event != "message" else None
            )
            self._event, self._data = "message", []
            return done
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id":
            self._id = value
        return None


def parse_events(lines: Iterable[bytes]) -> Iterator[Event]:
    """Events of a ``text/event-stream``, line by line."""
    events = EventLines()
    for raw in lines:
        if (event := events.feed(raw.decode("utf-8", "replace").rstrip("\n").removesuffix("\r"))) is not None:
            yield event


def parsed(data: bytes, content_type: str) -> Any:
    """The JSON of a reply, or the text of another type."""
    text = data.decode("utf-8", "replace")
    if content_type == "application/json" or content_type.endswith("+json"):
        try:
            return json.loads(text) if text else None
        except ValueError:
            return text
    return text


def answer(request: Request, status: int, data: bytes, content_type: str) -> Any:
    """What a call brings. Raises: ApiError, OddReply."""
    body = parsed(data, content_type)
    if status >= 400:
        raise ApiError(status, body)
    if status >= 300:
        raise OddReply("it sends elsewhere: is that the address of a cador server?", content_type)
    if isinstance(body, str) and body and not request.text:
        what = "a web page" if content_type == "text/html" else content_type or "something"
        raise OddReply(f"it answers with {what}: is that the address of a cador server?", content_type)
    return body


def pages(path: str, query: Mapping[str, Any], rows: str, total: str = "total") -> Steps[list[Any]]:
    """All elements of a list that is told in pages: those under *rows*, as many as *total* says."""
    found: list[Any] = []
    page = 1
    while True:
        reply = yield Request("GET", path, {**query, "pageNum": page, "pageSize": PAGE})
        found += reply[rows]
        if len(found) >= reply[total] or not reply[rows]:
            return found
        page += 1


def given(**fields: Any) -> dict[str, Any]:
    """A body of those that are not None."""
    return {key: value for key, value in fields.items() if value is not None}


def segment(text: str | int) -> str:
    """*text* as one segment of a path."""
    return quote(str(text), safe="")


def _text(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
