"""cador's client as commands use it: the server they mean, errors as one line with an exit status."""

import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any, TypeVar

from cador import __version__
from cador.cli.contexts import Place, find_place
from cador.cli.output import FAILED, NOT_ALLOWED, UNREACHABLE, USAGE, Failure
from cador.client.errors import ApiError, OddReply, Unreachable
from cador.client.groups import Groups
from cador.client.methods import Sync
from cador.client.sync import Client as ApiClient
from cador.client.wire import Event, Request, Source, Steps, parse_events, segment

T = TypeVar("T")

__all__ = ["Client", "Event", "NoServer", "Refused", "Unreached", "connect", "language", "parse_events", "segment"]


class Refused(Failure):
    """The server answered with an error. ``status``: of HTTP; ``body``: its JSON, as far as it is some."""

    def __init__(self, message: str, status: int, body: Any) -> None:
        super().__init__(message, NOT_ALLOWED if status in (401, 403) else FAILED)
        self.status, self.body = status, body


class Unreached(Failure):
    """The server did not answer."""

    def __init__(self, message: str) -> None:
        super().__init__(message, UNREACHABLE)


class NoServer(Failure):
    """Something answered that is no cador server, or not that route of one."""


class Client(Groups[Sync]):
    """Talks to one server: all groups of calls of :class:`cador.client.Client`, their errors as failures of a command.
    One client may serve several threads."""

    def __init__(self, place: Place) -> None:
        super().__init__(self)
        self.place = place
        try:
            self.api = ApiClient(
                place.url,
                place.token,
                language=language(os.environ),
                user_agent=f"cador/{__version__}",
                keep=0,  # a command is over in a few requests, and closes nothing
            )
        except ValueError as error:
            raise Failure(f"{place.source}: {error}", USAGE) from None

    def run(self, steps: Steps[T]) -> T:
        """Carry out a call of a group. Raises: Unreached, Refused, Failure: it is no cador server."""
        with self._failing():
            return self.api.run(steps)

    def follow(self, source: Source) -> Iterator[Event]:
        with self._failing():
            yield from self.api.follow(source)

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
        """One request. *body*: text is sent as YAML, anything else as JSON. Returns the parsed JSON.

        Raises: Unreached, Refused, Failure: it is no cador server."""
        with self._failing():
            return self.api.send(Request(method, path, query or {}, body, headers or {}))

    @contextmanager
    def download(self, path: str, *, accept: str = "") -> Iterator[HTTPResponse]:
        """The body of a reply, to be read in pieces. Raises: Unreached, Refused."""
        with self._failing(), self.api.download(path, accept=accept) as response:
            yield response

    def events(self, path: str, query: Mapping[str, Any] | None = None, last_id: str = "") -> Iterator[Event]:
        """Server-sent events after *last_id*, until the connection ends. Raises: Unreached, Refused."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        with self._failing():
            yield from self.api.events(Request("GET", path, query or {}, headers=headers))

    def hang_up(self) -> None:
        """End all streams that other threads of this client read."""
        self.api.hang_up()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except ApiError as error:
            raise Refused(_refusal(error, self.place), error.status, error.body) from error
        except OddReply as error:
            raise NoServer(f"{self.place.url} ({self.place.source}): {error}") from error
        except Unreachable as error:
            raise Unreached(self._unreached(error)) from error

    def _unreached(self, error: Unreachable) -> str:
        reason = error.reason
        if isinstance(reason, ssl.SSLCertVerificationError) or "broke off" in str(error):
            text = str(error)
            return text if text.startswith(self.place.url) else f"{self.place.url}: {text}"
        where = f"{self.place.url} ({self.place.source})"
        if isinstance(reason, socket.gaierror):
            return f"{where} is not reached: nobody knows the name {self.api.host}"
        if isinstance(reason, ConnectionRefusedError):
            return f"{where} is not reached: nothing listens there; is the server running?"
        if isinstance(reason, TimeoutError):
            return f"{where} does not answer"
        return f"{where} is not reached: {error}"


def connect() -> Client:
    """A client for the server that this command line means."""
    return Client(find_place())


def language(environ: Mapping[str, str]) -> str:
    """``zh`` or ``en``, from the locale as other programs read it."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environ.get(name):
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


def _refusal(error: ApiError, place: Place) -> str:
    """What an error reply says, in one line, whatever of the API's forms it has."""
    if error.status == 401:
        return f"{place.url} does not know this token ({place.source}); use cador login, or set CADOR_TOKEN"
    if error.message or not error.description:
        return str(error)
    return f"the server answered {error.status}: {error.description}"
