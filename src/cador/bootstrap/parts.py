"""Parts of a server that follow from its settings, and what must be true of its database."""

import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cador import __version__
from cador.bootstrap.machine import CannotStart
from cador.engine.alone import Alone
from cador.engine.engine import Engine
from cador.engine.housekeeping import Retention
from cador.engine.room import Limits
from cador.executors.process import ProcessExecutor
from cador.integrations.addresses import Rules
from cador.integrations.openid import OpenIdProvider, OpenIdSettings
from cador.integrations.outgoing import HttpOutgoing, OutgoingLimits
from cador.operations.oidc import Admission, Identities
from cador.ports.clock import SystemClock
from cador.ports.peers import Peers
from cador.ports.stores import Tx
from cador.settings import EngineSettings, OidcSettings, Settings, StoreSettings
from cador.storage.database import OpenDatabase, kind_of
from cador.storage.objects import Objects, open_objects
from cador.storage.sealing import AesSealer

STALLED_S: Final = 30.0


def identities_of(own: OidcSettings, outgoing: HttpOutgoing) -> Identities | None:
    """The OpenID provider that the settings name. Raises: CannotStart: they do not fit together."""
    if not own.issuer:
        return None
    if urlsplit(own.issuer).scheme not in ("http", "https") or not urlsplit(own.issuer).hostname:
        raise CannotStart("auth.oidc.issuer: the value is not an http or https URL")
    if not own.client_id:
        raise CannotStart("auth.oidc.client_id: tell by which name the provider knows this server")
    if "openid" not in own.scopes:
        raise CannotStart("auth.oidc.scopes: openid must be among them")
    secret = own.client_secret
    if own.client_secret_file:
        try:
            secret = Path(own.client_secret_file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            place = f"auth.oidc.client_secret_file: {own.client_secret_file}"
            raise CannotStart(f"{place} cannot be read: {error}") from None
    roles = []
    for entry in own.default_roles:
        project, slash, role = entry.rpartition("/")
        if not slash or not project or not role:
            raise CannotStart(f"auth.oidc.default_roles: {entry!r} is not a project and a role, like shop/read-only")
        roles.append((project, role))
    provider = OpenIdSettings(issuer=own.issuer, client_id=own.client_id, client_secret=secret, scopes=own.scopes)
    admission = Admission(
        account_claim=own.account_claim,
        groups_claim=own.groups_claim,
        allowed_domains=tuple(domain.lower().lstrip("@") for domain in own.allowed_domains),
        allowed_groups=own.allowed_groups,
        auto_create=own.auto_create,
        link_existing=own.link_existing,
        default_roles=tuple(roles),
    )
    return Identities(OpenIdProvider(provider, outgoing), admission)


def outgoing_of(settings: Settings) -> HttpOutgoing:
    """Raises: Invalid: a setting does not fit."""
    own = settings.outgoing
    return HttpOutgoing(
        Rules.parse(own.allow, own.deny),
        OutgoingLimits(timeout_s=own.timeout_s, proxy=own.proxy, ca_file=own.ca_file),
        user_agent=f"cador/{__version__}",
    )


def peers_of(settings: Settings, database: OpenDatabase, executor: ProcessExecutor, address: str, home: str) -> Peers:
    """On PostgreSQL any number of servers work on a database; a file has one."""
    if kind_of(settings.database or "sqlite://") == "sqlite":
        return Alone(database)
    from cador.storage.peers import PostgresPeers

    return PostgresPeers(
        settings.database,
        place=executor.place,
        address=address,
        home=home,
        timeout_s=settings.engine.replica_timeout_s,
    )


def shared_store_of(store: StoreSettings) -> Objects | None:
    """Raises: CannotUseStore."""
    if not store.url:
        return None
    return open_objects(
        store.url,
        endpoint=store.endpoint,
        region=store.region,
        access_key_id=store.access_key_id,
        secret_access_key=store.secret_access_key,
    )


def retention_of(settings: Settings) -> Retention:
    wished = settings.retention
    return Retention(wished.max_days, wished.max_items_per_workflow, wished.purge_days)


def engine_limits(engine: EngineSettings) -> Limits:
    return Limits(
        max_running_tasks=engine.max_running_tasks,
        max_jobs=engine.max_jobs,
        max_per_project=engine.max_running_per_project,
        max_per_user=engine.max_running_per_user,
    )


def same_key(tx: Tx, sealer: AesSealer) -> None:
    """Credentials of this database are sealed with one key. Raises: CannotStart: with another than ours."""
    known = tx.meta.get("key_check")
    if known is None:
        tx.meta.set("key_check", sealer.key_id)
    elif sealer.key_id not in known:  # a token of that key in databases of older servers
        raise CannotStart(
            "the credentials of this database are sealed with another key: give this server the key of the first one "
            "(its file `key`, or the setting key)"
        )


def installation_of(tx: Tx) -> str:
    """The id that all names outside carry; made once."""
    known = tx.meta.get("installation")
    if known is None:
        known = uuid.uuid4().hex[:12]
        tx.meta.set("installation", known)
    return known


def engine_turns(engine: Engine, clock: SystemClock) -> Callable[[], Awaitable[str | None]]:
    async def ask() -> str | None:
        stalled = clock.now() - engine.turned_at
        return f"the engine has not turned for {stalled:.0f} s" if stalled > STALLED_S else None

    return ask
