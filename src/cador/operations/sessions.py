"""Who is behind a token, and logging in by password."""

import asyncio
import hashlib
import re
import secrets
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from cador.domain.errors import CadorError, Invalid, Unavailable
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.ports.stores import Token, Tx, User, brief

TOKEN_PREFIX: Final = "cador_"  # noqa: S105 - the recognisable beginning of tokens, not one of them
SHOWN_PREFIX: Final = len(TOKEN_PREFIX) + 4
"""Characters of a token that lists may show."""
TOUCH_S: Final = 60.0
"""How often the last use of one token is written down."""
HASHES_AT_ONCE: Final = 2
"""Password hashes computed at the same time: each takes tens of milliseconds and 64 MiB."""
ATTEMPTS: Final = 5
WINDOW_S: Final = 300.0
_WATCHED: Final = 10_000
"""Accounts and addresses whose failed attempts are remembered."""


class NotAuthenticated(CadorError):
    """No valid token; ``str()`` is the reason for the client."""


class TooManyAttempts(CadorError):
    """Too many failed logins; ``retry_after_s``: seconds to wait."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("too many failed attempts, try again later")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Login:
    """``token``: shown this once. ``expires_at``: Unix seconds."""

    token: str
    expires_at: float
    user: User


def new_token() -> str:
    """A fresh API token: prefix and 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """What is stored of a token: SHA-256, hex. Tokens are random, so nothing slower is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def strong_enough(password: str) -> bool:
    """At least eight characters with an upper-case letter, a lower-case letter and a digit."""
    return len(password) >= 8 and all(re.search(kind, password) for kind in ("[A-Z]", "[a-z]", "[0-9]"))


class Sessions:
    """Tokens and passwords of one server process. ``session_s``: how long a login lasts, seconds."""

    def __init__(self, ctx: Context, *, session_s: float = 12 * 3600.0, hasher: PasswordHasher | None = None) -> None:
        self._ctx = ctx
        self._session_s = session_s
        self._hasher = hasher or PasswordHasher()
        self._hashing = asyncio.Semaphore(HASHES_AT_ONCE)
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        self._nobody = ""

    async def actor(self, token: str) -> Actor:
        """The user behind *token*.

        Raises: NotAuthenticated: unknown or expired. Unavailable: the database is away.
        """
        now = self._ctx.clock.now()
        digest = token_hash(token)
        found = await self._ctx.db.read(_look_up, digest)
        if found is None:
            raise NotAuthenticated("invalid token: token validation failed")
        actor, row = found
        if row.expires_at is not None and row.expires_at <= now:
            raise NotAuthenticated("invalid token: token validation failed")
        if row.last_used_at is None or now - row.last_used_at >= TOUCH_S:
            with suppress(Unavailable):  # reading still works: when it was used is not worth refusing the request
                await self._ctx.db.write(_touch, digest, now)
        return actor

    async def log_in(self, account: str, password: str, address: str = "") -> Login:
        """Check the password and make a token that ends by itself. *address*: of the client, for the rate limit.

        Raises: NotAuthenticated, TooManyAttempts, Unavailable.
        """
        now = self._ctx.clock.now()
        watched = [f"account:{account}", f"address:{address}"]
        for name, allowed in zip(watched, (ATTEMPTS, ATTEMPTS * 10), strict=True):
            recent = [at for at in self._failures.get(name, ()) if now - at < WINDOW_S]
            if len(recent) >= allowed:
                raise TooManyAttempts(max(1.0, WINDOW_S - (now - recent[-allowed])))
        for name in watched:
            self._failed(name, now)  # taken back below: attempts made at the same time count, too
        user = await self._ctx.db.read(_by_account, account)
        # an unknown account takes as long as a wrong password
        known = user.password_hash if user is not None and user.password_hash else await self._nobodys_hash()
        right = await self.verify(known, password)
        if user is None or not user.password_hash or not right:
            raise NotAuthenticated("account or password is wrong")
        self._failures.pop(watched[0], None)
        with suppress(KeyError, ValueError):
            self._failures[watched[1]].remove(now)
        token = new_token()
        expires_at = now + self._session_s
        row = Token(
            id=0,
            uid=user.uid,
            name="login",
            hash=token_hash(token),
            prefix=token[:SHOWN_PREFIX],
            create_at=now,
            expires_at=expires_at,
        )
        await self._ctx.db.write(_logged_in, row, now)
        return Login(token, expires_at, user)

    async def hash_password(self, password: str) -> str:
        """What is stored of a password (argon2id). Raises: Invalid: too weak."""
        if not strong_enough(password):
            raise Invalid(
                "password must have at least 8 characters with upper-case and lower-case letters and digits",
                place="password",
            )
        return await self._hash(password)

    async def verify(self, password_hash: str, password: str) -> bool:
        """Whether *password* belongs to *password_hash*."""
        async with self._hashing:
            return await asyncio.to_thread(self._fits, password_hash, password)

    async def _hash(self, password: str) -> str:
        async with self._hashing:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def _nobodys_hash(self) -> str:
        if not self._nobody:
            self._nobody = await self._hash(secrets.token_urlsafe(16))
        return self._nobody

    def _fits(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    def _failed(self, name: str, now: float) -> None:
        recent = [at for at in self._failures.pop(name, ()) if now - at < WINDOW_S]
        self._failures[name] = [*recent, now]
        while len(self._failures) > _WATCHED:
            self._failures.popitem(last=False)


def actor_of(tx: Tx, user: User, scopes: tuple[str, ...] = ()) -> Actor:
    """*user* with all roles."""
    return Actor(
        uid=user.uid,
        name=user.name,
        account=user.account,
        email=user.email,
        admin=user.admin,
        roles=dict(tx.people.roles(user.uid)),
        scopes=scopes,
    )


@brief
def _look_up(tx: Tx, digest: str) -> tuple[Actor, Token] | None:
    found = tx.people.by_token_hash(digest)
    if found is None:
        return None
    token, user = found
    return actor_of(tx, user, token.scopes), token


@brief
def _touch(tx: Tx, digest: str, at: float) -> None:
    found = tx.people.by_token_hash(digest)
    if found is not None:
        tx.people.touch_token(found[0].id, at)


def _by_account(tx: Tx, account: str) -> User | None:
    return tx.people.by_account(account)


def _logged_in(tx: Tx, token: Token, at: float) -> None:
    """Store the session's token, and drop those of the user that are over."""
    user = tx.people.user(token.uid)
    if user is None:
        raise NotAuthenticated("account or password is wrong")
    for old in tx.people.tokens(token.uid):
        if old.name == "login" and old.expires_at is not None and old.expires_at <= at:
            tx.people.delete_token(token.uid, old.id)
    tx.people.add_token(token)
    tx.people.replace_user(replace(user, last_login_at=at))
    tx.audit.add(at=at, actor=user.account, action="login", project="", target=user.account, detail={})
