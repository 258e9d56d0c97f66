"""What a client raises."""

from typing import Any


class ClientError(Exception):
    """Base of all errors of a client."""


class Unreachable(ClientError):
    """The server did not answer, or broke off. ``reason``: what the network said, where it said something.

    ``sent``: the request may have reached the server. ``silent``: nothing came for as long as the client waits, so it
    is not asked again.
    """

    def __init__(
        self, message: str, reason: Exception | None = None, *, sent: bool = True, silent: bool = False
    ) -> None:
        super().__init__(message)
        self.reason, self.sent, self.silent = reason, sent, silent


class OddReply(ClientError):
    """Somebody answered who is no cador server: a web page, an address that leads elsewhere. ``kind``: of the reply."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class TimedOut(ClientError):
    """What was waited for did not come in time. ``last``: how it stood then."""

    def __init__(self, message: str, last: Any = None) -> None:
        super().__init__(message)
        self.last = last


class ApiError(ClientError):
    """The server refused.

    ``status``: of HTTP. ``code``: which operation failed (6160: a start), the status where there is none.
    ``message``: of the code, in the client's language. ``description``: what is wrong. ``body``: the reply as it came.
    """

    def __init__(self, status: int, body: Any) -> None:
        found = body if isinstance(body, dict) else {}
        self.status, self.body = status, body
        code = found.get("code")
        self.code: int = code if isinstance(code, int) else status
        self.message = str(found.get("message") or found.get("title") or "").rstrip(": ")
        self.description = str(found.get("description") or found.get("detail") or "")
        if isinstance(body, str):
            self.description = body.strip().partition("\n")[0][:200]
        text = ": ".join(part for part in (self.message, self.description) if part)
        super().__init__(text or f"the server answered {status}")
