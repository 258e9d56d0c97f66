"""API tokens: made, listed, renewed, ended. The text of a token is shown once; what is stored is its hash."""

from dataclasses import replace
from typing import Final

from cador.domain.errors import Conflict, Invalid, NotFound
from cador.operations.actions import TICKET
from cador.operations.actor import SYSTEM, Actor
from cador.operations.context import Context
from cador.operations.models.body import read_body
from cador.operations.models.tokens import TokenBody
from cador.operations.people import get_user
from cador.operations.resources import Doc, Hand, need_project
from cador.operations.sessions import SESSION, SHOWN_PREFIX, new_token, token_hash
from cador.ports.stores import Token, Tx, User

DAY_S: Final = 86_400
MOST: Final = 1_000
"""API tokens of one user."""


def _may_touch(actor: Actor, uid: str) -> None:
    """One's own, or all as system administrator; with a limited token neither. Raises: Forbidden."""
    actor.need_unlimited()
    if actor.uid != uid:
        actor.need(SYSTEM)


async def create_token(ctx: Context, actor: Actor, uid: str, body: Doc) -> tuple[str, Token]:
    """The token's text, shown this once, and its row. Administrators may make tokens for others.

    Raises: Forbidden, Invalid, NotFound; Conflict: there are too many.
    """
    _may_touch(actor, uid)
    new = read_body(TokenBody, body)
    if TICKET in new.scopes and not actor.admin:
        raise Invalid(f"only a system administrator gives the scope {TICKET}", place="scopes")
    text = new_token()

    def write(tx: Tx) -> Token:
        user = get_user(tx, uid)
        for project in new.projects:
            need_project(tx, project)
        if sum(token.kind != SESSION for token in tx.people.tokens(uid)) >= MOST:
            raise Conflict(f"a user has at most {MOST} API tokens: delete those that nobody uses")
        row = Token(
            id=0,
            uid=uid,
            name=new.name,
            hash=token_hash(text),
            prefix=text[:SHOWN_PREFIX],
            create_at=tx.now,
            expires_at=tx.now + new.expires_in_days * DAY_S if new.expires_in_days else None,
            scopes=tuple(new.scopes),
            projects=tuple(new.projects),
        )
        told = {"name": new.name, "scopes": new.scopes, "projects": new.projects, "days": new.expires_in_days}
        made = replace(row, id=tx.people.add_token(row))
        Hand(actor, ctx.sealer).audit(tx, "create_token", "", f"user/{user.account}", {"id": made.id, **told})
        return made

    return text, await ctx.db.write(write)


async def list_tokens(ctx: Context, actor: Actor, uid: str) -> list[Token]:
    """Those of one user, sessions included. Raises: Forbidden, NotFound."""
    if actor.uid != uid:
        actor.need(SYSTEM)

    def read(tx: Tx) -> list[Token]:
        get_user(tx, uid)
        return tx.people.tokens(uid)

    return await ctx.db.read(read)


async def all_tokens(
    ctx: Context, actor: Actor, *, prefix: str, before: int | None, limit: int
) -> list[tuple[Token, User]]:
    """Those of all users, newest first. *prefix*: how the text begins; a whole token found somewhere will do.

    Raises: Forbidden.
    """
    actor.need(SYSTEM)

    def read(tx: Tx) -> list[tuple[Token, User]]:
        return tx.people.all_tokens(prefix=prefix[:SHOWN_PREFIX], before=before, limit=limit)

    return await ctx.db.read(read)


async def rotate_token(ctx: Context, actor: Actor, uid: str, token_id: int) -> tuple[str, Token]:
    """Give an API token another text: the old one is refused from now on. It lives as long as it was to live at first.

    Raises: Forbidden, NotFound.
    """
    _may_touch(actor, uid)
    text = new_token()

    def write(tx: Tx) -> Token:
        user = get_user(tx, uid)
        old = next((one for one in tx.people.tokens(uid) if one.id == token_id and one.kind != SESSION), None)
        if old is None:
            raise NotFound("token", str(token_id))
        lives_s = None if old.expires_at is None else old.expires_at - old.create_at
        renewed = replace(
            old,
            hash=token_hash(text),
            prefix=text[:SHOWN_PREFIX],
            create_at=tx.now,
            expires_at=None if lives_s is None else tx.now + lives_s,
            last_used_at=None,
        )
        tx.people.replace_token(renewed)
        Hand(actor, ctx.sealer).audit(
            tx, "rotate_token", "", f"user/{user.account}", {"id": token_id, "name": old.name}
        )
        return renewed

    return text, await ctx.db.write(write)


async def delete_token(ctx: Context, actor: Actor, uid: str, token_id: int) -> None:
    """End an API token or a session. A limited token may end itself. Raises: Forbidden, NotFound."""
    if not (actor.uid == uid and actor.token_id == token_id):
        _may_touch(actor, uid)

    def write(tx: Tx) -> None:
        user = get_user(tx, uid)
        if not tx.people.delete_token(uid, token_id):
            raise NotFound("token", str(token_id))
        Hand(actor, ctx.sealer).audit(tx, "delete_token", "", f"user/{user.account}", {"id": token_id})

    await ctx.db.write(write)
