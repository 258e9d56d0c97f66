"""Users, their tokens and their roles in projects."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cador.domain.errors import AlreadyExists, Conflict, Invalid, NotFound
from cador.operations.actor import PROJECT_ADMIN, ROLE_ACTIONS, SYSTEM, Actor
from cador.operations.context import Context
from cador.operations.models.body import read_body
from cador.operations.models.system import TokenBody, UserBody, UserChange
from cador.operations.resources import Doc, Hand, need_project
from cador.operations.sessions import SHOWN_PREFIX, Sessions, new_token, token_hash
from cador.ports.stores import Token, Tx, User

SYSTEM_NAMESPACE: Final = "*"
ADMIN_ROLE: Final = "admin"
DAY_S: Final = 86_400
TICKET_SCOPE: Final = "ticket"
SCOPES: Final = frozenset({SYSTEM, TICKET_SCOPE}.union(*ROLE_ACTIONS.values()))
"""What a token may be limited to."""


@dataclass(frozen=True, slots=True)
class Binding:
    """Roles of one user in one project (or ``*``)."""

    user: User
    roles: tuple[str, ...]


def may_manage(actor: Actor, namespace: str) -> None:
    """Members are changed by the project's administrators, those of the system by its own. Raises: Forbidden."""
    if namespace == SYSTEM_NAMESPACE:
        actor.need(SYSTEM)
    else:
        actor.need("admin_project", namespace)


# -- parts of transactions


def store_user(tx: Tx, hand: Hand, body: UserBody, password_hash: str, *, new: bool = False) -> tuple[User, bool]:
    """Add or replace a user by account; without a new password the old one stays.

    Raises: AlreadyExists: *new* and it is there. Conflict: the last administrator would be gone.
    """
    old = tx.people.by_account(body.account)
    if old is not None and new:
        raise AlreadyExists("user", body.account)
    if old is None:
        user = User(
            uid=str(uuid.uuid4()),
            account=body.account,
            name=body.name,
            email=body.email,
            phone=body.phone,
            admin=body.admin,
            password_hash=password_hash,
            create_at=tx.now,
        )
        tx.people.add_user(user)
        hand.audit(tx, "create_user", "", f"user/{user.account}", _told(user))
        return user, True
    return write_user(
        tx,
        hand,
        old,
        replace(
            old,
            name=body.name,
            email=body.email,
            phone=body.phone,
            admin=body.admin,
            password_hash=password_hash or old.password_hash,
        ),
    )


def write_user(tx: Tx, hand: Hand, old: User, user: User) -> tuple[User, bool]:
    """Raises: Conflict: the last administrator would be gone."""
    if user == old:
        return old, False
    if old.admin and not user.admin:
        _keep_one_admin(tx, old)
    tx.people.replace_user(user)
    changed = {"password_changed": user.password_hash != old.password_hash}
    hand.audit(tx, "edit_user", "", f"user/{user.account}", {**_told(user), **changed})
    return user, True


def store_roles(tx: Tx, hand: Hand, user: User, namespace: str, roles: Sequence[str]) -> bool:
    """Set all roles of a user in a project; False when they were so. Raises: Invalid: unknown role; NotFound."""
    wanted = tuple(dict.fromkeys(roles))
    if namespace == SYSTEM_NAMESPACE:
        if unknown := [role for role in wanted if role != ADMIN_ROLE]:
            raise Invalid(f"role {unknown[0]} not found", place="roles")
        return write_user(tx, hand, user, replace(user, admin=ADMIN_ROLE in wanted))[1]
    need_project(tx, namespace)
    if unknown := [role for role in wanted if role not in ROLE_ACTIONS]:
        raise Invalid(f"role {unknown[0]} not found", place="roles")
    if set(tx.people.roles(user.uid).get(namespace, ())) == set(wanted):
        return False
    tx.people.set_roles(user.uid, namespace, wanted)
    hand.audit(tx, "set_roles", namespace, f"user/{user.account}", {"roles": list(wanted)})
    return True


def drop_user(tx: Tx, hand: Hand, user: User) -> None:
    """Raises: Conflict: the last administrator, or oneself."""
    if user.uid == hand.actor.uid:
        raise Conflict("you cannot delete yourself")
    if user.admin:
        _keep_one_admin(tx, user)
    for project in tx.people.roles(user.uid):
        tx.people.set_roles(user.uid, project, ())
    for token in tx.people.tokens(user.uid):
        tx.people.delete_token(user.uid, token.id)
    tx.people.delete_user(user.uid)
    hand.audit(tx, "delete_user", "", f"user/{user.account}")


def get_user(tx: Tx, uid: str) -> User:
    """Raises: NotFound."""
    user = tx.people.user(uid)
    if user is None:
        raise NotFound("user", uid)
    return user


def all_users(tx: Tx) -> list[User]:
    users: list[User] = []
    while True:
        page, total = tx.people.users(offset=len(users), limit=1000)
        users += page
        if not page or len(users) >= total:
            return users


def _keep_one_admin(tx: Tx, leaving: User) -> None:
    if not any(user.admin and user.uid != leaving.uid for user in all_users(tx)):
        raise Conflict("the last system administrator must stay one")


def _told(user: User) -> dict[str, Any]:
    return {"account": user.account, "name": user.name, "email": user.email, "phone": user.phone, "admin": user.admin}


# -- users


async def create_user(ctx: Context, actor: Actor, body: Doc, sessions: Sessions) -> User:
    """A password is needed here. Raises: Invalid, AlreadyExists."""
    new = read_body(UserBody, body)
    if not new.password:
        raise Invalid("password cannot be empty", place="password")
    password_hash = await sessions.hash_password(new.password)

    def write(tx: Tx) -> User:
        return store_user(tx, Hand(actor, ctx.sealer), new, password_hash, new=True)[0]

    return await ctx.db.write(write)


async def change_user(ctx: Context, actor: Actor, uid: str, body: Doc, sessions: Sessions) -> None:
    """What is absent stays. Oneself may change all but ``admin``. Raises: Forbidden, Invalid, NotFound, Conflict."""
    new = read_body(UserChange, body)
    if actor.uid != uid or new.admin is not None:
        actor.need(SYSTEM)
    password_hash = await sessions.hash_password(new.password) if new.password is not None else ""
    fields = {k: v for k, v in new.model_dump(exclude={"password"}).items() if v is not None}

    def write(tx: Tx) -> None:
        old = get_user(tx, uid)
        write_user(
            tx,
            Hand(actor, ctx.sealer),
            old,
            replace(old, **fields, password_hash=password_hash or old.password_hash),
        )

    await ctx.db.write(write)


async def find_user(ctx: Context, actor: Actor, uid: str) -> User:
    """Raises: Forbidden: neither administrator nor oneself; NotFound."""
    if actor.uid != uid:
        actor.need(SYSTEM)
    return await ctx.db.read(get_user, uid)


async def list_users(ctx: Context, *, account: str, name: str, page: int, size: int) -> tuple[list[User], int]:
    def read(tx: Tx) -> tuple[list[User], int]:
        return tx.people.users(account=account, name=name, offset=(page - 1) * size, limit=size)

    return await ctx.db.read(read)


async def delete_user(ctx: Context, actor: Actor, uid: str) -> None:
    """Raises: NotFound, Conflict."""

    def write(tx: Tx) -> None:
        drop_user(tx, Hand(actor, ctx.sealer), get_user(tx, uid))

    await ctx.db.write(write)


# -- tokens


async def create_token(ctx: Context, actor: Actor, uid: str, body: Doc) -> tuple[str, Token]:
    """The token's text, shown this once, and its row. Administrators may make tokens for others.

    Raises: Forbidden, Invalid, NotFound.
    """
    new = read_body(TokenBody, body)
    if actor.uid != uid:
        actor.need(SYSTEM)
    if unknown := sorted(set(new.scopes) - SCOPES):
        raise Invalid(f"unknown scope {unknown[0]}", place="scopes")
    if actor.scopes and not (new.scopes and set(new.scopes) <= set(actor.scopes)):
        raise Invalid("a limited token cannot make one that may do more", place="scopes")
    text = new_token()

    def write(tx: Tx) -> Token:
        user = get_user(tx, uid)
        row = Token(
            id=0,
            uid=uid,
            name=new.name,
            hash=token_hash(text),
            prefix=text[:SHOWN_PREFIX],
            create_at=tx.now,
            expires_at=tx.now + new.expires_in_days * DAY_S if new.expires_in_days else None,
            scopes=tuple(new.scopes),
        )
        Hand(actor, ctx.sealer).audit(
            tx, "create_token", "", f"user/{user.account}", {"name": new.name, "scopes": new.scopes}
        )
        return replace(row, id=tx.people.add_token(row))

    return text, await ctx.db.write(write)


async def list_tokens(ctx: Context, actor: Actor, uid: str) -> list[Token]:
    """Raises: Forbidden, NotFound."""
    if actor.uid != uid:
        actor.need(SYSTEM)

    def read(tx: Tx) -> list[Token]:
        get_user(tx, uid)
        return tx.people.tokens(uid)

    return await ctx.db.read(read)


async def delete_token(ctx: Context, actor: Actor, uid: str, token_id: int) -> None:
    """Raises: Forbidden, NotFound."""
    if actor.uid != uid:
        actor.need(SYSTEM)

    def write(tx: Tx) -> None:
        user = get_user(tx, uid)
        if not tx.people.delete_token(uid, token_id):
            raise NotFound("token", str(token_id))
        Hand(actor, ctx.sealer).audit(tx, "delete_token", "", f"user/{user.account}", {"id": token_id})

    await ctx.db.write(write)


# -- roles


async def list_bindings(ctx: Context, actor: Actor, namespace: str) -> list[Binding]:
    """Raises: Forbidden, NotFound."""
    may_manage(actor, namespace)

    def read(tx: Tx) -> list[Binding]:
        if namespace == SYSTEM_NAMESPACE:
            return [Binding(user, (ADMIN_ROLE,)) for user in all_users(tx) if user.admin]
        need_project(tx, namespace)
        return bindings_of(tx, namespace)

    return await ctx.db.read(read)


def bindings_of(tx: Tx, project: str) -> list[Binding]:
    """By account; bindings of users who are gone are left out."""
    found = [(tx.people.user(uid), roles) for uid, roles in tx.people.bindings(project).items()]
    return sorted(
        (Binding(user, tuple(roles)) for user, roles in found if user is not None), key=lambda b: b.user.account
    )


async def add_bindings(ctx: Context, actor: Actor, namespace: str, uids: Sequence[str], role: str) -> None:
    """Give *role* to each user, beside what they have. Raises: Forbidden, Invalid, NotFound."""
    may_manage(actor, namespace)

    def write(tx: Tx) -> None:
        hand = Hand(actor, ctx.sealer)
        for uid in uids:
            user = get_user(tx, uid)
            have = _roles(tx, user, namespace)
            store_roles(tx, hand, user, namespace, [*have, role])

    await ctx.db.write(write)


async def set_roles(ctx: Context, actor: Actor, namespace: str, uid: str, roles: Sequence[str]) -> None:
    """Replace all roles of a user; none removes the user from the project. Raises: Forbidden, Invalid, NotFound."""
    may_manage(actor, namespace)

    def write(tx: Tx) -> None:
        store_roles(tx, Hand(actor, ctx.sealer), get_user(tx, uid), namespace, roles)

    await ctx.db.write(write)


def _roles(tx: Tx, user: User, namespace: str) -> tuple[str, ...]:
    if namespace == SYSTEM_NAMESPACE:
        return (ADMIN_ROLE,) if user.admin else ()
    return tuple(tx.people.roles(user.uid).get(namespace, ()))


ROLE_TEXTS: Final[Mapping[str, str]] = {
    PROJECT_ADMIN: "everything in the project",
    "read-only": "look at everything in the project",
    "read-project-only": "see the project",
}
