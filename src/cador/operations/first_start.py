"""What a server has from its first start: administrator, token, cluster, base images, its own id."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cador.domain.errors import Invalid
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.models.cluster import LOCAL, ClusterBody
from cador.operations.models.system import BaseImageBody, check_password
from cador.operations.resources import LOCAL_CLUSTER, Hand, put_new, put_over
from cador.operations.sessions import SHOWN_PREFIX, Sessions, new_token, token_hash
from cador.ports.stores import Token, Tx, User

ADMIN_ACCOUNT: Final = "admin"
TOKEN_NAME: Final = "first start"  # noqa: S105 - a name
GIVEN_TOKEN_NAME: Final = "CADOR_ADMIN_TOKEN"  # noqa: S105 - a name
SHORTEST_TOKEN: Final = 20
BASE_IMAGES: Final = (("ubuntu 20.04", "focal"), ("ubuntu 22.04", "jammy"), ("ubuntu 24.04", "noble"))
SERVER: Final = Actor(uid="", name="system", account="system", admin=True)


async def bootstrap_data(
    ctx: Context,
    *,
    admin_token: str | None = None,
    admin_password: str | None = None,
    keep: Callable[[str], None] = lambda token: None,
) -> str | None:
    """Make what is missing; may be called at every start. Returns the token made now, None when none was.

    *admin_token* (from the environment) is made to work, whatever tokens there are; then none is invented.
    *admin_password* is set when the administrator has another one. *keep* is given the invented token before it works:
    a server that dies in between must not lock everybody out. Nothing comes of it when another server was quicker.

    Raises: Invalid: the given token is too short or the password too weak.
    """
    if admin_token is not None and (len(admin_token) < SHORTEST_TOKEN or not admin_token.isprintable()):
        raise Invalid(f"the administrator's token must have at least {SHORTEST_TOKEN} printable characters")
    password_hash = ""
    if admin_password:
        check_password(admin_password)
        sessions = Sessions(ctx)
        known = await ctx.db.read(_password_hash)
        if not known or not await sessions.verify(known, admin_password):
            password_hash = await sessions.hash_password(admin_password)
    fresh = new_token()
    if admin_token is None and await ctx.db.read(_nobody_yet):
        keep(fresh)
    return await ctx.db.write(_make, Hand(SERVER, ctx.sealer), admin_token, fresh, password_hash)


def _nobody_yet(tx: Tx) -> bool:
    """Whether there has never been an administrator."""
    return tx.people.by_account(ADMIN_ACCOUNT) is None and tx.meta.get("administrator") is None


def _password_hash(tx: Tx) -> str:
    user = tx.people.by_account(ADMIN_ACCOUNT)
    return user.password_hash if user is not None else ""


def _make(tx: Tx, hand: Hand, given: str | None, fresh: str, password_hash: str) -> str | None:
    if tx.meta.get("installation") is None:
        tx.meta.set("installation", uuid.uuid4().hex)
    _cluster_and_images(tx, hand)
    admin = tx.people.by_account(ADMIN_ACCOUNT)
    made = _nobody_yet(tx)
    if made:
        admin = User(
            uid=str(uuid.uuid4()),
            account=ADMIN_ACCOUNT,
            name=ADMIN_ACCOUNT,
            admin=True,
            password_hash=password_hash,
            create_at=tx.now,
        )
        tx.people.add_user(admin)
        tx.meta.set("administrator", admin.uid)
        hand.audit(tx, "create_user", "", f"user/{ADMIN_ACCOUNT}")
    if admin is None:
        return None  # somebody deleted it on purpose: another administrator is there
    if password_hash and not made:
        tx.people.replace_user(replace(admin, password_hash=password_hash))
        tx.people.delete_sessions(admin.uid)  # whoever knew the old one is out
        hand.audit(tx, "edit_user", "", f"user/{ADMIN_ACCOUNT}", {"password_changed": True})
    if given is not None:
        _give_token(tx, hand, admin, given)
        return None
    if not made:
        return None
    _add_token(tx, hand, admin, fresh, TOKEN_NAME)
    return fresh


def _give_token(tx: Tx, hand: Hand, admin: User, text: str) -> None:
    """The given token works; one given at an earlier start no longer does, nor does what that text was good for
    before."""
    known = tx.people.by_token_hash(token_hash(text))
    if known is not None:
        token, user = known
        limited = token.scopes or token.projects or token.expires_at is not None
        if user.uid == admin.uid and not limited:
            return
        tx.people.delete_token(user.uid, token.id)
    for token in tx.people.tokens(admin.uid):
        if token.name == GIVEN_TOKEN_NAME:
            tx.people.delete_token(admin.uid, token.id)
    _add_token(tx, hand, admin, text, GIVEN_TOKEN_NAME)


def _add_token(tx: Tx, hand: Hand, admin: User, text: str, name: str) -> None:
    prefix = text[:SHOWN_PREFIX] if name == TOKEN_NAME else ""
    tx.people.add_token(Token(id=0, uid=admin.uid, name=name, hash=token_hash(text), prefix=prefix, create_at=tx.now))
    hand.audit(tx, "create_token", "", f"user/{admin.account}", {"name": name})


def _cluster_and_images(tx: Tx, hand: Hand) -> None:
    cluster = tx.resources.find("cluster", "", LOCAL)
    if cluster is None:
        body = ClusterBody(name=LOCAL, executor="process", description="this machine")
        put_new(tx, hand, "cluster", "", LOCAL, body.document(), uid=LOCAL_CLUSTER)
    elif "local" in cluster.document:  # of a server before clusters could be added
        put_over(tx, hand, cluster, ClusterBody.model_validate(cluster.document).document())
    if tx.meta.get("base_images") is None:
        for label, value in BASE_IMAGES:
            if tx.resources.find("baseimage", "", label) is None:
                image = BaseImageBody(label=label, value=value, image_from="koderover")
                put_new(tx, hand, "baseimage", "", label, image.document())
        tx.meta.set("base_images", "1")


async def installation_id(ctx: Context) -> str | None:
    """None before the first start."""

    def read(tx: Tx) -> str | None:
        return tx.meta.get("installation")

    return await ctx.db.read(read)


async def stored_settings(ctx: Context) -> dict[str, str]:
    """Settings kept by the server itself (``base_url``, ``language``), by name."""

    def read(tx: Tx) -> dict[str, str]:
        return {setting.name: str(setting.document["value"]) for setting in tx.resources.list_kind("setting", "")}

    return await ctx.db.read(read)
