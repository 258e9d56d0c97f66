"""Who asks: the token of a request. Source: API documents, "How a token is passed"."""

import re
from typing import Final
from urllib.parse import unquote_plus

from cador.api.catalogue import Operation
from cador.api.errors import Refusal
from cador.api.routing import Call
from cador.operations.sessions import SHOWN_PREFIX, TOKEN_PREFIX, NotAuthenticated

GUARDED: Final = ("/api/", "/openapi/")
"""Below these every request needs a token, before anything else is looked at."""
MASK: Final = "********"
_SECRETS: Final = ("token", "code", "state")
"""Query parameters that are kept out of the log."""
_TOKEN: Final = re.compile(rf"({TOKEN_PREFIX}[A-Za-z0-9_-]{{{SHOWN_PREFIX - len(TOKEN_PREFIX)}}})[A-Za-z0-9_-]{{12,}}")


async def authenticate(call: Call) -> None:
    """Set the call's actor. The query's ``token`` wins over the header.

    Raises: Refusal: 401.
    """
    token, scheme = _presented(call)
    try:
        call.actor = await call.sessions.actor(token)
    except NotAuthenticated as error:
        raise unauthorized(str(error)) from None
    call.scheme = scheme


def _presented(call: Call) -> tuple[str, str]:
    in_query = next((text for text in call.query.get("token", ()) if text), "")
    if in_query:
        return in_query, "query"
    header = call.headers.get("authorization", "")
    if not header.strip():
        raise unauthorized("missing authorization header")
    parts = header.split()
    if len(parts) != 2 or parts[0].lower() not in ("bearer", "x-api-key"):
        raise unauthorized("invalid token: token is malformed")
    return parts[1], parts[0].lower()


def unauthorized(description: str) -> Refusal:
    return Refusal(Operation.UNAUTHORIZED, description, headers={"WWW-Authenticate": "Bearer"})


def without_token(query: str) -> str:
    """A query string as it may be logged: the value of every ``token`` masked, percent-encoded spellings included, and
    what an OpenID provider sends. Of a token that is asked about stays how it begins."""
    query = _TOKEN.sub(rf"\1{MASK}", query)
    if not any(name in query.lower() for name in (*_SECRETS, "%")):
        return query
    masked = []
    for part in query.split("&"):
        name, equals, _ = part.partition("=")
        is_token = equals and unquote_plus(name).strip().lower() in _SECRETS
        masked.append(f"{name}={MASK}" if is_token else part)
    return "&".join(masked)
