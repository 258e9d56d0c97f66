"""From what went wrong to what is answered: status, body, headers.

Three families of bodies: the documents' (standard, and the three-key one for internal failures), the documents' with
the two keys of the oldest edition under ``/api/directory/``, and problem details (RFC 9457) under ``/api/v1/``.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from cador.api.catalogue import (
    DUPLICATE_KEY,
    LEGACY_MESSAGES,
    NO_DOCUMENTS,
    PLAIN_INTERNAL,
    Operation,
    Text,
    say,
)
from cador.domain import errors as domain

LEGACY_PREFIX: Final = "/api/directory/"
OWN_PREFIX: Final = "/api/v1/"
RETRY_AFTER_S: Final = 2

_TITLES: Final[Mapping[int, str]] = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    413: "Content Too Large",
    416: "Range Not Satisfiable",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Refusal(Exception):
    """An answer that is an error. ``status``: of the answer; 0: as the operation's code says.

    ``headers``: added to the answer. ``message``: replaces the catalogue's (one route has its own wording).
    """

    def __init__(
        self,
        operation: Operation,
        description: str | Text = "",
        *,
        status: int = 0,
        headers: Mapping[str, str] | None = None,
        message: str | Text | None = None,
    ) -> None:
        super().__init__(f"{operation.code} {say(description, 'en')}")
        self.operation, self.description = operation, description
        self.status = status or operation.status
        self.headers = dict(headers or {})
        self.message = message


def bad_request(description: str | Text) -> Refusal:
    """Code 400."""
    return Refusal(Operation.BAD_REQUEST, description)


Answer = Operation | Callable[[Any], Refusal]
Faults = Mapping[type[domain.CadorError], Answer]
"""What a route answers to each kind of error. An operation of the catalogue stands for this code and the usual words:
not found and exists already have the documents' fixed texts, every other error its own."""

DEFAULT_FAULTS: Final[Faults] = {
    domain.InvalidDefinition: Operation.LINT_WORKFLOW,
    domain.Invalid: Operation.BAD_REQUEST,
    domain.NotFound: Operation.INTERNAL,
    domain.AlreadyExists: Operation.BAD_REQUEST,
    domain.Conflict: Operation.BAD_REQUEST,
    domain.WrongStatus: Operation.BAD_REQUEST,
    domain.NotStartable: Operation.CREATE_TASK,
    domain.NothingToApprove: Operation.APPROVE_TASK,
    domain.NotAnApprover: Operation.APPROVE_TASK,
    domain.VotedAlready: Operation.APPROVE_TASK,
    domain.StageNotExecutable: Operation.APPROVE_TASK,
    domain.NotAnExecutor: Operation.APPROVE_TASK,
    domain.Forbidden: Operation.FORBIDDEN,
    domain.Unavailable: lambda error: unavailable(str(error)),
}
_STATUSES: Final[Mapping[type[domain.CadorError], int]] = {
    domain.NotFound: 404,
    domain.AlreadyExists: 409,
    domain.Conflict: 409,
    domain.WrongStatus: 409,
    domain.NothingToApprove: 409,
    domain.VotedAlready: 409,
    domain.NotAnApprover: 403,
    domain.StageNotExecutable: 409,
    domain.NotAnExecutor: 403,
    domain.Forbidden: 403,
}
"""HTTP statuses of the server's own routes, where they differ from the code's."""


def unavailable(description: str) -> Refusal:
    return Refusal(Operation.UNAVAILABLE, description, headers={"Retry-After": str(RETRY_AFTER_S)})


def internal(description: str) -> Refusal:
    return Refusal(Operation.INTERNAL, description)


def refusal_of(error: domain.CadorError, faults: Faults, *, own: bool = False) -> Refusal:
    """The answer to *error* on a route with *faults*; the nearest class of the error decides. *own*: the route is one
    of the server's own, which speak plainly and have real statuses.

    Raises: *error* itself, when no table knows it: then it is a failure of the server.
    """
    for table in (faults, DEFAULT_FAULTS):
        for kind in type(error).__mro__:
            answer = table.get(kind)
            if answer is None:
                continue
            if not isinstance(answer, Operation):
                return answer(error)
            if own:
                status = next((s for k in type(error).__mro__ if (s := _STATUSES.get(k))), answer.status)
                return Refusal(answer, _words(error, plain=True), status=status)
            return Refusal(answer, _words(error, plain=False))
    raise error


def _words(error: domain.CadorError, *, plain: bool) -> str:
    if not plain and isinstance(error, domain.NotFound):
        return NO_DOCUMENTS
    if not plain and isinstance(error, domain.AlreadyExists):
        return DUPLICATE_KEY
    place = getattr(error, "place", "") if plain else ""  # the documents' texts are exact
    text = str(error)
    return text if not place or text.startswith(place) else f"{place}: {text}"


def body_of(refusal: Refusal, path: str, language: str) -> tuple[str, bytes]:
    """Content type and body of an error answer for a request to *path*."""
    operation = refusal.operation
    description = say(refusal.description, language)
    if path.startswith(OWN_PREFIX):
        problem: dict[str, Any] = {
            "type": "about:blank",
            "title": _TITLES.get(refusal.status, "Error"),
            "status": refusal.status,
            "detail": description,
        }
        if operation.status != operation.code:
            problem["code"] = operation.code
        return "application/problem+json", msgspec.json.encode(problem)
    message = operation.message(language) if refusal.message is None else say(refusal.message, language)
    body: dict[str, Any]
    if operation is Operation.INTERNAL:
        message = message.rstrip(": ") if path in PLAIN_INTERNAL else message
        body = {"code": operation.code, "description": description, "message": message}
    else:
        body = {
            "code": operation.code,
            "description": description,
            "extra": {},
            "message": message,
            "type": "error",
        }
    if path.startswith(LEGACY_PREFIX):
        body["resultCode"] = refusal.status
        body["errorMsg"] = LEGACY_MESSAGES.get(refusal.status, "fail")
    return "application/json; charset=utf-8", msgspec.json.encode(body)


def language_of(accept: str, default: str) -> str:
    """``zh`` or ``en``: the best match of an ``Accept-Language`` header, by q; *default* when it names neither."""
    best, best_q = default, 0.0
    for part in accept.split(","):
        tag, _, parameters = part.strip().partition(";")
        primary = tag.strip().lower().split("-")[0]
        if primary not in ("zh", "en"):
            continue
        q = 1.0
        for parameter in parameters.split(";"):
            name, _, value = parameter.strip().partition("=")
            if name.strip().lower() == "q":
                try:
                    q = float(value)
                except ValueError:
                    q = 0.0
        if best_q < q <= 1.0:
            best, best_q = primary, q
    return best
