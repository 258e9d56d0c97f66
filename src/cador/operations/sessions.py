"""Who is behind a token, and logging in by password."""

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from cador.domain.errors import CadorError, Unavailable
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.models.system import check_password
from cador.operations.policy import Policies
from cador.ports.stores import Token, Tx, User, brief

TOKEN_PREFIX: Final = "cador_"  # noqa: S105 - the recognisable beginning of tokens, not one of them
SHOWN_PREFIX: Final = len(TOKEN_PREFIX) + 4
"""Characters of a token that lists may show."""
SESSION: Final = "session"
"""The kind of tokens that logging in makes."""
TOUCH_S: Final = 60.0
"""How often the last uses of tokens are written down, all of them at once."""
HASHES_AT_ONCE: Final = 2
"""Password hashes computed at the same time: each takes tens of milliseconds and 64 MiB."""
WINDOW_S: Final = 300.0
"""How long failed logins count, from the first of them."""
TRIES_HERE: Final = 5
"""Failed logins to one account from one address."""
TRIES_OF_ADDRESS: Final = 50
TRIES_OF_ACCOUNT: Final = 25
"""From all addresses together. Both do not bind who has logged in to that account from that address before."""
MOST_SESSIONS: Final = 100
"""Logins of one user at the same time; the next one ends the oldest."""
PLACE_S: Final = 90 * 86_400.0
"""How long it is remembered that somebody has logged in from an address."""


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


class Sessions:
    """Tokens and passwords of one server process. ``session_s``: how long a login lasts, seconds."""

    def __init__(self, ctx: Context, *, session_s: float = 12 * 3600.0, hasher: PasswordHasher | None = None) -> None:
        self._ctx = ctx
        self._session_s = session_s
        self._hasher = hasher or PasswordHasher()
        self._hashing = asyncio.Semaphore(HASHES_AT_ONCE)
        self._policies = Policies()
        self._used: dict[int, float] = {}
        self._written_at = float("-inf")
        self._nobody = ""

    async def actor(self, token: str) -> Actor:
        """The user behind *token*.

        Raises: NotAuthenticated: unknown or expired. Unavailable: the database is away.
        """
        now = self._ctx.clock.now()
        found = await self._ctx.db.read(_look_up, self._policies, token_hash(token))
        if found is None:
            raise NotAuthenticated("invalid token: token validation failed")
        actor, row = found
        if row.expires_at is not None and row.expires_at <= now:
            raise NotAuthenticated("invalid token: token validation failed")
        self._used[row.id] = now
        if now - self._written_at >= TOUCH_S:
            with suppress(Unavailable):  # reading still works: when it was used is not worth refusing the request
                await self.write_uses()
        return actor

    async def again(self, actor: Actor) -> Actor:
        """*actor* as the same token stands for it now. Raises: NotAuthenticated: no more; Unavailable."""
        found = await self._ctx.db.read(_look_again, self._policies, actor)
        if found is None:
            raise NotAuthenticated("invalid token: token validation failed")
        return found

    async def write_uses(self) -> None:
        """Write down when tokens were used last. Raises: Unavailable."""
        used, self._used, self._written_at = self._used, {}, self._ctx.clock.now()
        if used:
            await self._ctx.db.write(_touch, used)

    async def log_in(self, account: str, password: str, address: str = "") -> Login:
        """Check the password and make a token that ends by itself. *address*: of the client, for the rate limit.

        Raises: NotAuthenticated, TooManyAttempts, Unavailable.
        """
        # counted first and taken back below: attempts that are made at the same time count, too
        user = await self._ctx.db.write(_attempt, account, address)
        # an unknown account takes as long as a wrong password
        known = user.password_hash if user is not None and user.password_hash else await self._nobodys_hash()
        right = await self.verify(known, password)
        if user is None or not user.password_hash or not right:
            raise NotAuthenticated("account or password is wrong")
        return await self.open_session(user, address)

    async def open_session(self, user: User, address: str = "") -> Login:
        """Log in somebody whose identity is certain. Raises: NotAuthenticated: deleted meanwhile; Unavailable."""
        token = new_token()
        return await self._ctx.db.write(_logged_in, user, token, address, self._session_s)

    async def log_out(self, actor: Actor) -> None:
        """End the session that the request came with; an API token stays: it is deleted on purpose only.

        Raises: Unavailable.
        """
        await self._ctx.db.write(_logged_out, actor)

    async def hash_password(self, password: str) -> str:
        """What is stored of a password (argon2id). Raises: Invalid: too weak."""
        check_password(password)
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


@brief
def _look_up(tx: Tx, policies: Policies, digest: str) -> tuple[Actor, Token] | None:
    found = tx.people.caller(digest)
    if found is None:
        return None
    token, user, version, roles = found
    return policies.load(tx, version).actor(user, roles, token), token


def _look_again(tx: Tx, policies: Policies, actor: Actor) -> Actor | None:
    user = tx.people.user(actor.uid)
    token = next((one for one in tx.people.tokens(actor.uid) if one.id == actor.token_id), None)
    if user is None or token is None or (token.expires_at is not None and token.expires_at <= tx.now):
        return None
    return policies.load(tx, tx.resources.version()).actor(user, tx.people.roles(user.uid), token)


def _touch(tx: Tx, used: Mapping[int, float]) -> None:
    tx.people.touch_tokens(used)


def place_of(address: str) -> str:
    """What counts as one address: of IPv6 the network of 64 bits, in which a host may call itself as it likes."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv4Address):
        return address
    return str(found.ipv4_mapped or ip_network((int(found), 64), strict=False))


def _watched(account: str, address: str) -> tuple[str, str, str]:
    """Names under which failed logins are counted. Hashed: what people type by mistake is not kept, and is short."""
    address = place_of(address)
    return (
        _name("both", account, address),
        _name("account", account),
        _name("address", address),
    )


def _name(*parts: str) -> str:
    return parts[0] + ":" + hashlib.sha256("\0".join(parts[1:]).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _attempt(tx: Tx, account: str, address: str) -> User | None:
    """Count an attempt as failed; the user of that account. What is refused does not count: so a lock ends.

    Raises: TooManyAttempts.
    """
    since = tx.now - WINDOW_S
    both, of_account, of_address = _watched(account, address)
    user = tx.people.by_account(account) if account.isprintable() else None
    # Before it is looked how many there are: of those who guess at one moment, each sees the ones before.
    tx.people.fail((both, of_account, of_address), tx.now, since)
    failures = tx.people.failures((both, of_account, of_address), since)
    limits = {both: TRIES_HERE}
    if user is None or not tx.people.has_come_from(user.uid, place_of(address), tx.now - PLACE_S):
        limits |= {of_account: TRIES_OF_ACCOUNT, of_address: TRIES_OF_ADDRESS}
    waits = [failures[name][1] - since for name, most in limits.items() if failures[name][0] > most]
    if waits:
        raise TooManyAttempts(max(1.0, *waits))
    return user


def _logged_in(tx: Tx, user: User, token: str, address: str, session_s: float) -> Login:
    """Store the session's token, and drop those of the user that are over."""
    # Held to the end: nobody deletes the user in between, and no other change of the user is undone.
    if not tx.people.logged_in(user.uid, tx.now) or (stored := tx.people.user(user.uid)) is None:
        raise NotAuthenticated("account or password is wrong")
    both, of_account, of_address = _watched(user.account, address)
    tx.people.forgive((of_account, of_address), all_of=(both,))
    tx.people.came_from(user.uid, place_of(address), tx.now, tx.now - PLACE_S)
    tx.people.delete_sessions(user.uid, ended=tx.now)
    _make_room(tx, user.uid)
    row = Token(
        id=0,
        uid=user.uid,
        name="login",
        hash=token_hash(token),
        prefix=token[:SHOWN_PREFIX],
        create_at=tx.now,
        expires_at=tx.now + session_s,
        kind=SESSION,
    )
    token_id = tx.people.add_token(row)
    detail = {"token": token_id, "address": address}
    tx.audit.add(
        at=tx.now, actor=user.account, action="login", project="", target=f"user/{user.account}", detail=detail
    )
    return Login(token, tx.now + session_s, stored)


def _make_room(tx: Tx, uid: str) -> None:
    """End the oldest logins, if there are too many."""
    logins = sorted(token.id for token in tx.people.tokens(uid) if token.kind == SESSION)
    for token_id in logins[: max(0, len(logins) + 1 - MOST_SESSIONS)]:
        tx.people.delete_token(uid, token_id)


def _logged_out(tx: Tx, actor: Actor) -> None:
    token = next((one for one in tx.people.tokens(actor.uid) if one.id == actor.token_id), None)
    if token is None or token.kind != SESSION:
        return
    tx.people.delete_token(actor.uid, token.id)
    target, detail = f"user/{actor.account}", {"token": token.id}
    tx.audit.add(at=tx.now, actor=actor.account, action="logout", project="", target=target, detail=detail)
