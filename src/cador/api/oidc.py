"""Routes of logging in by an OpenID provider."""

from typing import Any, Final

from pydantic import Field
from starlette.responses import RedirectResponse, Response

from cador.api.catalogue import Operation
from cador.api.described import Described
from cador.api.errors import Refusal, bad_request
from cador.api.login import LoginReply
from cador.api.own import time
from cador.api.permissions import NOBODY
from cador.api.routing import Call, Routes, json_response
from cador.domain.errors import CadorError, NotFound
from cador.operations import oidc
from cador.operations.sessions import Login, NotAuthenticated
from cador.ports.identity import NotIdentified, ProviderAway

ROUTES: Final = Routes("login")
_PATH: Final = "/api/v1/auth/oidc"
_SECRET: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


class CodeBody(Described):
    """``code``: as it came to the loopback address. ``verifier``: what the challenge was made of."""

    code: str = Field(max_length=4096)
    verifier: str = Field(max_length=200)


def _unknown(error: CadorError) -> Refusal:
    return Refusal(Operation.UNAUTHORIZED, str(error))


def _refused(error: CadorError) -> Refusal:
    return Refusal(Operation.FORBIDDEN, str(error))


def _away(error: CadorError) -> Refusal:
    return Refusal(Operation.UNAVAILABLE, str(error), headers={"Retry-After": "10"})


def _none(error: NotFound) -> Refusal:
    return Refusal(Operation.NOT_FOUND, "this server has no OpenID provider")


_FAULTS: Final = {
    NotFound: _none,
    NotAuthenticated: _unknown,
    NotIdentified: _unknown,
    oidc.IdentityRefused: _refused,
    ProviderAway: _away,
}


@ROUTES.get(f"{_PATH}/login", NOBODY, faults=_FAULTS, query=("cli_port:int", "cli_challenge"), reply_type="text/html")
async def begin(call: Call) -> Response:
    """Send a browser to the OpenID provider.

    ``cli_port``, ``cli_challenge``: a command line waits on that port of the loopback address; the challenge is the
    SHA-256 of a word of its own, in URL-safe base64 without padding.
    """
    begun = await oidc.begin(call.ctx, cli_port=call.number("cli_port"), cli_challenge=call.value("cli_challenge"))
    reply = RedirectResponse(begun.url, 302, _SECRET)
    reply.set_cookie(
        begun.name,
        begun.cookie,
        max_age=int(oidc.BEGUN_S),
        path=_PATH,
        secure=call.ctx.options().base_url.startswith("https://"),
        httponly=True,
        samesite="lax",
    )
    return reply


@ROUTES.get(f"{_PATH}/callback", NOBODY, faults=_FAULTS, query=("code", "state", "error"), reply=LoginReply)
async def end(call: Call) -> Response:
    """Where the OpenID provider sends a browser back to: a token, or a redirect to the command line that waits."""
    state, code, error = call.value("state"), call.value("code"), call.value("error")
    if error:
        told = error[:60] if error.isprintable() else "error"
        raise Refusal(Operation.UNAUTHORIZED, f"the OpenID provider logged nobody in: {told}")
    if not state or not code:
        raise bad_request("code and state are required")
    name = oidc.cookie_name(state)
    ended = await oidc.end(
        call.ctx, call.sessions, state=state, code=code, cookie=_cookie(call, name), address=call.address
    )
    if ended.login is None:
        reply: Response = RedirectResponse(ended.url, 302, _SECRET)
    else:
        reply = json_response(_login(ended.login), headers=_SECRET)
    reply.delete_cookie(name, path=_PATH, httponly=True, samesite="lax")
    return reply


@ROUTES.post(f"{_PATH}/token", NOBODY, faults=_FAULTS, body=CodeBody, reply=LoginReply)
async def redeem(call: Call) -> Response:
    """Give a command line whose browser has logged in its token."""
    body = await call.parsed(CodeBody)
    login = await oidc.redeem(call.ctx, call.sessions, code=body.code, verifier=body.verifier, address=call.address)
    return json_response(_login(login), headers=_SECRET)


def _login(login: Login) -> dict[str, Any]:
    user = {"uid": login.user.uid, "account": login.user.account, "name": login.user.name}
    return {"token": login.token, "expires_at": time(login.expires_at), "user": user}


def _cookie(call: Call, name: str) -> str:
    for part in call.headers.get("cookie", "").split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return ""
