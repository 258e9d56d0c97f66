"""An OpenID provider: discovery, keys, codes and tokens."""

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

from cador.ports.identity import NotIdentified, ProviderAway
from cador.ports.outgoing import Outgoing, OutgoingError, Reply

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Of signatures that only the provider can make: none where we hold the same secret."""
FRESH_S: Final = 3600.0
"""How long what a provider says of itself, and its keys, are taken for true."""
AGAIN_S: Final = 10.0
"""Unknown keys make us ask for new ones no more often than that."""
AWAY_S: Final = 2.0
"""After a question without an answer the next one waits so long: who asks meanwhile is told at once, instead of waiting
one after the other for answers that do not come."""
LEEWAY_S: Final = 60
"""Between the provider's clock and ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIdSettings:
    """``issuer``: as in its tokens, to the letter. ``client_secret``: empty for a public client."""

    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ("openid", "profile", "email")


class OpenIdProvider:
    """Implements ``ports.identity.IdentityProvider``."""

    def __init__(self, settings: OpenIdSettings, call: Outgoing, now: Callable[[], float] = time.time) -> None:
        """*now*: Unix seconds, against which tokens are judged."""
        self._settings, self._call, self._now = settings, call, now
        self._known: Mapping[str, Any] = {}
        self._known_at = self._keys_at = self._away_at = float("-inf")
        self._away = ""
        self._keys: KeySet | None = None
        self._asking = asyncio.Lock()

    @property
    def issuer(self) -> str:
        return self._settings.issuer

    async def address(self, *, redirect_uri: str, state: str, nonce: str, challenge: str) -> str:
        known = await self._discovered()
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._settings.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = str(known["authorization_endpoint"])
        return endpoint + ("&" if urlsplit(endpoint).query else "?") + urlencode(query)

    async def identify(self, *, code: str, redirect_uri: str, nonce: str, verifier: str) -> Mapping[str, Any]:
        known = await self._discovered()
        tokens = await self._exchange(known, code, redirect_uri, verifier)
        claims = await self._claims(str(tokens["id_token"]), nonce, str(tokens.get("access_token") or ""))
        endpoint, access = known.get("userinfo_endpoint"), tokens.get("access_token")
        if isinstance(endpoint, str) and isinstance(access, str) and access:
            more = await self._userinfo(endpoint, access, str(claims["sub"]))
            # An address and whether it is verified are one word, from one place.
            apart = ("email", "email_verified") if "email" in claims else ()
            claims = {**{name: value for name, value in more.items() if name not in apart}, **claims}
        return claims

    # -- what the provider says of itself

    async def _discovered(self) -> Mapping[str, Any]:
        async with self._asking:
            if time.monotonic() - self._known_at >= FRESH_S:
                if time.monotonic() - self._away_at < AWAY_S:
                    raise ProviderAway(self._away)
                try:
                    self._known = await self._discover()
                except ProviderAway as error:
                    self._away, self._away_at = str(error), time.monotonic()
                    raise
                self._known_at = time.monotonic()
            return self._known

    async def _discover(self) -> Mapping[str, Any]:
        """Raises: ProviderAway."""
        url = self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        found = _object(await self._ask("GET", url), "describes itself")
        if found.get("issuer") != self._settings.issuer:
            raise ProviderAway(
                f"the OpenID provider calls itself {found.get('issuer')!r}, not {self._settings.issuer!r}"
                " (auth.oidc.issuer)"
            )
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            self._check_address(name, found.get(name))
        return found

    def _check_address(self, name: str, url: object) -> None:
        """What is to be kept from others does not go in clear where the issuer itself does not."""
        scheme = urlsplit(url).scheme if isinstance(url, str) else ""
        if scheme != "https" and scheme != urlsplit(self._settings.issuer).scheme:
            raise ProviderAway(f"the OpenID provider has no {name} that could be used")

    async def _key_set(self, *, anew: bool = False) -> "KeySet":
        """*anew*: a token is signed with a key that is not among those known."""
        known = await self._discovered()
        async with self._asking:
            age_s = time.monotonic() - self._keys_at
            if self._keys is None or age_s >= FRESH_S or (anew and age_s >= AGAIN_S):
                found = _object(await self._ask("GET", str(known["jwks_uri"])), "tells its keys")
                self._keys = _usable(found.get("keys"))
                self._keys_at = time.monotonic()
            return self._keys

    # -- tokens

    async def _exchange(
        self, known: Mapping[str, Any], code: str, redirect_uri: str, verifier: str
    ) -> Mapping[str, Any]:
        own = self._settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        headers = {"Accept": "application/json"}
        ways = known.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if own.client_secret and "client_secret_basic" in ways:
            pair = f"{quote(own.client_id, safe='')}:{quote(own.client_secret, safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form["client_id"] = own.client_id
            if own.client_secret:
                form["client_secret"] = own.client_secret
        reply = await self._ask("POST", str(known["token_endpoint"]), headers=headers, form=form)
        if reply.status in (400, 401, 403):
            raise NotIdentified(f"the OpenID provider refused the code{_told(reply)}")
        tokens = _object(reply, "gives tokens")
        if not isinstance(tokens.get("id_token"), str):
            raise NotIdentified("the OpenID provider gave no ID token: is openid among auth.oidc.scopes?")
        return tokens

    async def _claims(self, token: str, nonce: str, access_token: str) -> Mapping[str, Any]:
        from authlib.oidc.core.claims import CodeIDToken  # type: ignore[import-untyped]
        from joserfc import jwt
        from joserfc.errors import JoseError

        for anew in (False, True):
            keys = await self._key_set(anew=anew)
            try:
                decoded = jwt.decode(token, keys, algorithms=list(ALGORITHMS))
                break
            except (JoseError, ValueError) as error:
                failed = error
        else:
            raise NotIdentified(f"the ID token is not signed by the provider ({type(failed).__name__})") from failed
        own = self._settings
        options = {
            "iss": {"essential": True, "value": own.issuer},
            "aud": {"essential": True, "value": own.client_id},
            "sub": {"essential": True},
        }
        params = {"nonce": nonce, "client_id": own.client_id, "access_token": access_token}
        claims = CodeIDToken(decoded.claims, decoded.header, options, params)
        try:
            claims.validate(now=int(self._now()), leeway=LEEWAY_S)
        except (JoseError, ValueError, TypeError) as error:
            raise NotIdentified(f"the ID token does not hold: {error}") from error
        if not isinstance(decoded.claims.get("sub"), str) or not decoded.claims["sub"]:
            raise NotIdentified("the ID token names nobody (sub)")
        return dict(decoded.claims)

    async def _userinfo(self, endpoint: str, access_token: str, subject: str) -> Mapping[str, Any]:
        """More claims, where the provider keeps them apart. They count only for the very same person."""
        self._check_address("userinfo_endpoint", endpoint)
        reply = await self._ask("GET", endpoint, headers={"Authorization": f"Bearer {access_token}"})
        if not reply.ok or "jwt" in reply.headers.get("content-type", ""):
            return {}
        found = _object(reply, "tells of its users")
        return found if found.get("sub") == subject else {}

    async def _ask(self, method: str, url: str, **more: Any) -> Reply:
        """Raises: ProviderAway."""
        try:
            return await self._call(method, url, chosen_by="operator", **more)
        except OutgoingError as error:
            raise ProviderAway(f"the OpenID provider cannot be reached: {error}") from error


def _usable(keys: object) -> "KeySet":
    from joserfc.jwk import JWKRegistry, KeySet

    found = []
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, dict) or key.get("kty") not in ("RSA", "EC", "OKP") or key.get("use", "sig") != "sig":
            continue
        try:
            found.append(JWKRegistry.import_key(key))
        except (ValueError, KeyError, TypeError):  # a kind of key that we do not know; others may be there
            continue
    if not found:
        raise ProviderAway("the OpenID provider has no keys that could be used")
    return KeySet(found)


def _object(reply: Reply, does: str) -> Mapping[str, Any]:
    """Raises: ProviderAway."""
    if not reply.ok:
        raise ProviderAway(f"the OpenID provider answered {reply.status} where it {does}")
    try:
        found = reply.json()
    except OutgoingError as error:
        raise ProviderAway(f"the OpenID provider: {error}") from error
    if not isinstance(found, dict):
        raise ProviderAway(f"the OpenID provider answered no object where it {does}")
    return found


def _told(reply: Reply) -> str:
    """What the provider says of an error, short and printable."""
    try:
        word = reply.json().get("error")
    except (OutgoingError, AttributeError):
        return ""
    return f": {word[:60]}" if isinstance(word, str) and word.isprintable() else ""
