"""Calls to the outside over HTTP: one way out, with limits on where, how long and how much."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

from cador.domain.errors import CadorError

ChosenBy: TypeAlias = Literal["user", "operator"]
"""Who wrote the address. ``user``: anybody who may start a task or write a workflow: only public addresses and those
that the settings allow. ``operator``: a system administrator, in an integration or a setting: private networks, too.
Link-local and metadata addresses are for neither unless the settings allow them by name."""

MAX_REPLY_BYTES: Final = 1 << 20


class OutgoingError(CadorError):
    """A call brought no answer. The message names the address by scheme, host and its last four characters only.
    ``final``: trying again changes nothing."""

    final = False


class RefusedAddress(OutgoingError):
    """This server does not call that address."""

    final = True


class NoAnswer(OutgoingError):
    """Not reached, not in time, or not HTTP."""


class AnswerTooLarge(OutgoingError):
    """The answer was longer than the caller takes. ``status``: its status."""

    final = True

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what)
        self.status = status


class NotJson(OutgoingError):
    """An answer that should be JSON is not."""

    final = True


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whatever its status. ``headers``: names in lower case, the last value of each. ``url``: as it may be
    shown."""

    status: int
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Raises: NotJson."""
        try:
            found = json.loads(self.body, parse_constant=_no_number)
            if b"\\u" in self.body:
                json.dumps(found, ensure_ascii=False).encode()  # half a character could be stored nowhere
            return found
        except (ValueError, RecursionError):
            raise NotJson(f"{self.url} answered {self.status} with something that is not JSON") from None

    def text(self) -> str:
        """The body as UTF-8; what is not becomes a replacement character."""
        return self.body.decode("utf-8", "replace")


class Outgoing(Protocol):
    """Safe to use from any number of coroutines of one event loop."""

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        chosen_by: ChosenBy = "user",
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        body: bytes | None = None,
        within_s: float | None = None,
        max_bytes: int = MAX_REPLY_BYTES,
    ) -> Reply:
        """One request and its whole answer. At most one of *json*, *form* and *body*.

        *params* are added to the query of *url*; a user and password in it become HTTP Basic. *within_s*: for
        everything, from looking up the name to the last byte; None: as the settings say. Redirects are followed on the
        same host alone, each as carefully as the first address; a method other than GET and HEAD is repeated only by
        307 and 308. Nothing of the server itself - no cookie, credential or proxy of its environment - goes along.

        Raises: RefusedAddress, NoAnswer, AnswerTooLarge. Never for a status.
        """


def _no_number(text: str) -> Any:
    raise ValueError(text)


def shown(url: str) -> str:
    """*url* as it may stand in a log or an event: such addresses are often secrets themselves."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "an address that is none"
    host = f"[{host}]" if ":" in host else host
    place = f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
    rest = url.split("#", 1)[0].partition("://")[2].partition("/")[2]
    return place if not rest else f"{place}/...{rest[-4:]}" if len(rest) > 12 else f"{place}/..."
