"""A small real OpenID provider: discovery, keys, authorization, tokens, user info; and mistakes on demand."""

import base64
import contextlib
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT, SECRET = "cador", "s3cr3t & more"


@dataclass
class Grant:
    """What was asked for when somebody signed in."""

    redirect_uri: str
    nonce: str
    challenge: str
    claims: dict[str, Any]


@dataclass
class Provider:
    """``person``: whoever signs in next. ``twist``: changes the claims of an ID token. ``sign``: makes it."""

    issuer: str = ""
    person: dict[str, Any] = field(default_factory=lambda: dict(ANN))
    extra: dict[str, Any] = field(default_factory=dict)
    """Claims that only the user info endpoint tells."""
    twist: Callable[[dict[str, Any]], None] = lambda claims: None
    sign: Callable[["Provider", dict[str, Any]], str] | None = None
    document: dict[str, Any] = field(default_factory=dict)
    """Overrides of what discovery tells."""
    secret: str = SECRET
    keys: list[RSAKey] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    grants: dict[str, Grant] = field(default_factory=dict)
    access: dict[str, dict[str, Any]] = field(default_factory=dict)
    down: bool = False
    generous: bool = False
    """Takes a code any number of times."""

    def rotate(self) -> None:
        """A new key, and the old ones are gone."""
        self.keys = [RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig", "alg": "RS256"})]

    # -- endpoints

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize?tenant=main",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            **self.document,
        }

    def jwks(self) -> dict[str, Any]:
        odd = {"kty": "XYZ", "kid": "odd"}
        return {"keys": [odd, *(key.as_dict(private=False) for key in self.keys)]}

    def authorize(self, query: dict[str, str]) -> str:
        """The person agrees at once. Returns where the browser goes."""
        assert query["client_id"] == CLIENT
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        code = secrets.token_urlsafe(16)
        self.grants[code] = Grant(query["redirect_uri"], query["nonce"], query["code_challenge"], dict(self.person))
        return query["redirect_uri"] + "?" + urlencode({"code": code, "state": query["state"]})

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        if not self._is_client(form, authorization):
            return 401, {"error": "invalid_client"}
        code = form.get("code", "")
        grant = self.grants.get(code) if self.generous else self.grants.pop(code, None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (
            grant is None
            or form.get("grant_type") != "authorization_code"
            or grant.challenge != challenge
            or grant.redirect_uri != form.get("redirect_uri")
        ):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": grant.nonce, **grant.claims
        }  # fmt: skip
        self.twist(claims)
        access = secrets.token_urlsafe(16)
        self.access[access] = {"sub": grant.claims["sub"], **self.extra}
        token = (self.sign or Provider.signed)(self, claims)
        return 200, {"access_token": access, "token_type": "Bearer", "expires_in": 300, "id_token": token}

    def signed(self, claims: dict[str, Any]) -> str:
        key = self.keys[0]
        return jwt.encode({"alg": "RS256", "kid": key.kid}, claims, key)

    def _is_client(self, form: dict[str, str], authorization: str) -> bool:
        if authorization.startswith("Basic "):
            client, _, secret = base64.b64decode(authorization[6:]).decode().partition(":")
            return (unquote(client), unquote(secret)) == (CLIENT, self.secret)
        return (form.get("client_id"), form.get("client_secret", "")) == (CLIENT, self.secret)


ANN = {
    "sub": "248289761001", "preferred_username": "ann.corp", "name": "Ann 安", "email": "ann@corp.example",
    "email_verified": True, "groups": ["dev", "ops"],
}  # fmt: skip


def unsigned(provider: Provider, claims: dict[str, Any]) -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none'})}.{part(claims)}."


def with_the_public_key(provider: Provider, claims: dict[str, Any]) -> str:
    """Signed symmetrically with what everybody knows."""
    public = provider.keys[0].as_pem(private=False)
    with contextlib.suppress(Exception):  # the library itself finds that suspicious
        return jwt.encode({"alg": "HS256", "kid": provider.keys[0].kid}, claims, OctKey.import_key(public))
    return jwt.encode({"alg": "HS256", "kid": provider.keys[0].kid}, claims, OctKey.import_key(b"k" * 32))


def by_somebody_else(provider: Provider, claims: dict[str, Any]) -> str:
    key = RSAKey.generate_key(2048, {"kid": provider.keys[0].kid})
    return jwt.encode({"alg": "RS256", "kid": provider.keys[0].kid}, claims, key)


def _first(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text, keep_blank_values=True).items()}


@contextlib.contextmanager
def openid_provider() -> Iterator[Provider]:
    provider = Provider()
    provider.rotate()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            provider.asked.append(parts.path)
            if provider.down:
                self._say(503, {})
            elif parts.path == "/.well-known/openid-configuration":
                self._say(200, provider.discovery())
            elif parts.path == "/keys":
                self._say(200, provider.jwks())
            elif parts.path == "/authorize":
                self.send_response(302)
                self.send_header("Location", provider.authorize(_first(parts.query)))
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif parts.path == "/userinfo":
                found = provider.access.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
                self._say(200 if found else 401, found or {})
            else:
                self._say(404, {})

        def do_POST(self) -> None:
            provider.asked.append(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            self._say(*provider.token(_first(body), self.headers.get("Authorization", "")))

        def _say(self, status: int, document: dict[str, Any]) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
