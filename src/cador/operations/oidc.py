"""Logging in by an OpenID provider.

A login begins in a browser and ends in the same one: what it must know then goes along in a cookie, sealed, so that any
server can end it. Who comes back is known by issuer and subject, whatever name they choose for themselves.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cador.domain.errors import CadorError, Invalid, NotFound
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.sessions import Login, NotAuthenticated, Sessions
from cador.ports.identity import IdentityProvider
from cador.ports.stores import Tx, User

CALLBACK: Final = "/api/v1/auth/oidc/callback"
BEGUN_S: Final = 600.0
"""How long somebody may take to sign in at the provider."""
CODE_S: Final = 60.0
"""How long a command line may take to fetch its token."""
IDENTITY_TYPE: Final = "oidc"
_PEOPLE: Final = uuid.UUID("b0c06d6e-9c0b-4f3e-8f1b-3b1a6f0f6a52")
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_STATE: Final = re.compile(r"[A-Za-z0-9_-]{20,100}\Z")
_BEGUN, _CODE = "oidc/begun", "oidc/code"
_NOT_BEGUN: Final = "this browser has begun no such login, or too long ago: begin again"
_NO_CODE: Final = "the code is wrong, too old or used: log in again"


class IdentityRefused(CadorError):
    """The provider says who it is, and that is nobody who may come in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Who may come in, and as whom.

    ``account_claim``: names the account. ``allowed_domains``: of verified e-mail addresses; ``allowed_groups``: one of
    them is enough; each empty for any. ``auto_create``: unknown people get a user. ``link_existing``: somebody whose
    account is that of a user here is that user: only for providers whose people cannot choose that name.
    ``default_roles``: ``project/role`` or ``*/role`` for users that are made here.
    """

    account_claim: str = "preferred_username"
    groups_claim: str = "groups"
    allowed_domains: tuple[str, ...] = ()
    allowed_groups: tuple[str, ...] = ()
    auto_create: bool = True
    link_existing: bool = False
    default_roles: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Identities:
    """The provider of this server, and who of its people may come in."""

    provider: IdentityProvider
    admission: Admission


@dataclass(frozen=True, slots=True)
class Begun:
    """``url``: where the browser goes; ``name``, ``cookie``: what it must bring back."""

    url: str
    name: str
    cookie: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Either ``login``, or ``url``: where a command line waits for the browser."""

    login: Login | None = None
    url: str = ""


def _identities(ctx: Context) -> Identities:
    if ctx.identities is None:
        raise NotFound("OpenID provider", "(auth.oidc.issuer is not set)")
    return ctx.identities


def cookie_name(state: str) -> str:
    """Each login that is under way has its own, so that two of them do not get into each other's way."""
    return f"cador_oidc_{hashlib.sha256(state.encode()).hexdigest()[:12]}"


async def begin(ctx: Context, *, cli_port: int | None = None, cli_challenge: str = "") -> Begun:
    """Begin a login. *cli_port*: of the loopback address on which a command line waits; *cli_challenge*: S256 of what
    only that one knows.

    Raises: NotFound: no provider is configured. Invalid. ProviderAway.
    """
    identities = _identities(ctx)
    if (cli_port is None) != (not cli_challenge):
        raise Invalid("cli_port and cli_challenge belong together", place="cli_port")
    if cli_port is not None and not 1024 <= cli_port <= 65535:
        raise Invalid("cli_port must be 1024 to 65535", place="cli_port")
    if cli_challenge and not _CHALLENGE.match(cli_challenge):
        raise Invalid("cli_challenge must be a SHA-256 in URL-safe base64", place="cli_challenge")
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    url = await identities.provider.address(
        redirect_uri=_redirect_uri(ctx), state=state, nonce=nonce, challenge=challenge_of(verifier)
    )
    kept = {"state": state, "nonce": nonce, "verifier": verifier, "until": ctx.clock.now() + BEGUN_S}
    if cli_port is not None:
        kept |= {"port": cli_port, "challenge": cli_challenge}
    return Begun(url, cookie_name(state), _seal(ctx, kept, _BEGUN))


async def end(ctx: Context, sessions: Sessions, *, state: str, code: str, cookie: str, address: str) -> Ended:
    """Who comes back from the provider with *code*. *address*: of the client.

    Raises: NotFound; NotAuthenticated: this browser has begun no such login, or too long ago; ProviderAway,
    NotIdentified, IdentityRefused, Unavailable.
    """
    identities = _identities(ctx)
    kept = _open(ctx, cookie, _BEGUN) if _STATE.match(state) else {}
    if not kept or not hmac.compare_digest(str(kept["state"]), state) or kept["until"] < ctx.clock.now():
        raise NotAuthenticated(_NOT_BEGUN)
    claims = await identities.provider.identify(
        code=code, redirect_uri=_redirect_uri(ctx), nonce=str(kept["nonce"]), verifier=str(kept["verifier"])
    )
    wanted = _admitted(claims, identities.admission)
    user = await ctx.db.write(_come_back, _digest(_BEGUN, state), kept["until"], identities, claims, wanted)
    if "port" not in kept:
        return Ended(await sessions.open_session(user, address))
    # Its own name, for its text can be written in several ways.
    one = secrets.token_urlsafe(16)
    ticket = {"id": one, "uid": user.uid, "challenge": kept["challenge"], "until": ctx.clock.now() + CODE_S}
    return Ended(url=f"http://127.0.0.1:{kept['port']}/?code={_seal(ctx, ticket, _CODE)}")


async def redeem(ctx: Context, sessions: Sessions, *, code: str, verifier: str, address: str) -> Login:
    """The token for a command line whose browser has logged in. Good once, for whoever knows *verifier*, for a minute.

    Raises: NotAuthenticated, Unavailable.
    """
    _identities(ctx)
    ticket = _open(ctx, code, _CODE)
    right = ticket and hmac.compare_digest(str(ticket["challenge"]), challenge_of(verifier))
    if not right or ticket["until"] < ctx.clock.now():
        raise NotAuthenticated(_NO_CODE)
    user = await ctx.db.write(_take, _digest(_CODE, str(ticket["id"])), ticket["until"], str(ticket["uid"]))
    if user is None:
        raise NotAuthenticated(_NO_CODE)
    return await sessions.open_session(user, address)


def challenge_of(verifier: str) -> str:
    """S256 of RFC 7636."""
    digest = hashlib.sha256(verifier.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


# -- who it is


@dataclass(frozen=True, slots=True)
class _Wanted:
    account: str
    name: str
    email: str


def _admitted(claims: Mapping[str, Any], admission: Admission) -> _Wanted:
    """Whom *claims* are about. Raises: IdentityRefused."""
    email = claims.get("email")
    # What nobody has verified could be anybody's.
    email = email if isinstance(email, str) and claims.get("email_verified") is True else ""
    if admission.allowed_domains:
        domain = email.rpartition("@")[2].lower()
        if not domain or domain not in admission.allowed_domains:
            raise IdentityRefused("your e-mail address is not verified, or not of a domain that may log in here")
    if admission.allowed_groups:
        groups = claims.get(admission.groups_claim)
        groups = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        if not any(group in admission.allowed_groups for group in groups):
            raise IdentityRefused("you are in no group that may log in here")
    account = email if admission.account_claim == "email" else claims.get(admission.account_claim)
    if not isinstance(account, str) or not account.strip() or not account.isprintable() or len(account) > 200:
        raise IdentityRefused(f"the provider tells no account that could be used (claim {admission.account_claim})")
    name = claims.get("name")
    usable = isinstance(name, str) and name.strip() and name.isprintable() and len(name) <= 200
    return _Wanted(account.strip(), str(name).strip() if usable else account.strip(), email)


def _come_back(
    tx: Tx, digest: str, until: float, identities: Identities, claims: Mapping[str, Any], wanted: _Wanted
) -> User:
    """Whoever logs in, made here if need be. Raises: IdentityRefused; NotAuthenticated: this login has ended once."""
    if not tx.people.spend(digest, until, tx.now):
        raise NotAuthenticated(_NOT_BEGUN)
    return _user(tx, identities, claims, wanted)


def _take(tx: Tx, digest: str, until: float, uid: str) -> User | None:
    """None: the code was used, or the user is gone."""
    return tx.people.user(uid) if tx.people.spend(digest, until, tx.now) else None


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _user(tx: Tx, identities: Identities, claims: Mapping[str, Any], wanted: _Wanted) -> User:
    """Raises: IdentityRefused."""
    admission = identities.admission
    uid = str(uuid.uuid5(_PEOPLE, f"{identities.provider.issuer}\n{claims['sub']}"))
    known = tx.people.user(uid)
    if known is not None:
        return known
    other = tx.people.by_account(wanted.account)
    if other is not None:
        if admission.link_existing:
            return other
        raise IdentityRefused(f"the account {wanted.account} is somebody else's here: ask an administrator")
    if not admission.auto_create:
        raise IdentityRefused("you have no user here: ask an administrator")
    user = User(
        uid=uid,
        account=wanted.account,
        name=wanted.name,
        email=wanted.email,
        identity_type=IDENTITY_TYPE,
        create_at=tx.now,
    )
    tx.people.add_user(user)
    roles: dict[str, list[str]] = {}
    for project, role in admission.default_roles:
        roles.setdefault(project, []).append(role)
    for project, names in roles.items():
        tx.people.set_roles(uid, project, names)
    actor = Actor(uid, user.name, user.account)
    detail = {"account": user.account, "name": user.name, "email": user.email, "roles": roles, "by": IDENTITY_TYPE}
    tx.audit.add(
        at=tx.now, actor=actor.account, action="create_user", project="", target=f"user/{user.account}", detail=detail
    )
    return user


# -- what goes along


def _redirect_uri(ctx: Context) -> str:
    return ctx.options().base_url + CALLBACK


def _seal(ctx: Context, kept: Mapping[str, Any], label: str) -> str:
    """As text that is good in a URL and in a cookie."""
    token = ctx.sealer.seal(json.dumps(kept), label)
    return base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode()


def _open(ctx: Context, text: str, label: str) -> Mapping[str, Any]:
    """Empty when it is none of ours, or made for something else."""
    try:
        token = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        if ctx.sealer.label(token) != label:
            return {}
        kept = json.loads(ctx.sealer.open(token))
    except (CadorError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}
