"""Users."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cador.domain.errors import AlreadyExists, Conflict, Invalid, NotFound
from cador.operations.actor import ADMIN, EVERYWHERE, SYSTEM, Actor
from cador.operations.context import Context
from cador.operations.models.body import read_body
from cador.operations.models.system import UserBody, UserChange
from cador.operations.policy import COLLABORATION, GROUP, read_policy
from cador.operations.resources import Doc, Hand, change
from cador.operations.sessions import Sessions
from cador.ports.stores import Tx, User

# -- parts of transactions


def store_user(tx: Tx, hand: Hand, body: UserBody, password_hash: str, *, new: bool = False) -> tuple[User, bool]:
    """Add or replace a user by account; without a new password the old one stays.

    Raises: AlreadyExists: *new* and it is there. Conflict: the last administrator would be gone. Forbidden: see
    :func:`write_user`.
    """
    old = tx.people.by_account(body.account)
    if old is not None and new:
        raise AlreadyExists("user", body.account)
    if old is None:
        if body.admin:
            hand.actor.need_unlimited()
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
    """Raises: Conflict: the last administrator would be gone. Forbidden: a limited token makes an administrator or sets
    a password, either of which leads out of its limits; an e-mail address is changed by who does not administer the
    system: approval tickets let people in by it."""
    if user == old:
        return old, False
    if (user.admin and not old.admin) or user.password_hash != old.password_hash:
        hand.actor.need_unlimited()
    if user.email != old.email:
        hand.actor.need(SYSTEM)
    if old.admin and not user.admin:
        _keep_one_admin(tx, old)
    tx.people.replace_user(user)
    new_password = user.password_hash != old.password_hash
    if new_password:  # whoever knew the old one is out; who changes their own stays
        tx.people.delete_sessions(user.uid, but=hand.actor.token_id)
    hand.audit(tx, "edit_user", "", f"user/{user.account}", {**_told(user), "password_changed": new_password})
    return user, True


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
    _leave(tx, user.uid)
    tx.people.delete_user(user.uid)
    hand.audit(tx, "delete_user", "", f"user/{user.account}")


def _leave(tx: Tx, uid: str) -> None:
    """Take somebody out of groups and shared workflows. Who comes by an OpenID provider has the same id the next time,
    and must not find there what was taken away."""
    for kind, key in ((GROUP, "uids"), (COLLABORATION, "user_ids")):
        for found in tx.resources.list_kind(kind):
            if uid in found.document[key]:
                left = [other for other in found.document[key] if other != uid]
                tx.resources.replace(replace(found, document={**found.document, key: left}))


def get_user(tx: Tx, uid: str) -> User:
    """Raises: NotFound."""
    user = tx.people.user(uid)
    if user is None:
        raise NotFound("user", uid)
    return user


def all_users(tx: Tx) -> list[User]:
    return _all(lambda offset, limit: tx.people.users(offset=offset, limit=limit))


def _all(page: Callable[[int, int], tuple[list[User], int]]) -> list[User]:
    users: list[User] = []
    while True:
        found, total = page(len(users), 1000)
        users += found
        if not found or len(users) >= total:
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

    return await change(ctx, actor, lambda tx, hand: store_user(tx, hand, new, password_hash, new=True)[0])


async def change_user(ctx: Context, actor: Actor, uid: str, body: Doc, sessions: Sessions) -> None:
    """What is absent stays. Oneself may change all but ``admin`` and ``email``.

    Raises: Forbidden, Invalid, NotFound, Conflict.
    """
    if actor.uid != uid or body.get("admin") is not None:
        actor.need(SYSTEM)
    if actor.uid == uid or body.get("password") is not None or body.get("admin") is not None:
        actor.need_unlimited()  # a password or a right would lead out of the limits
    new = read_body(UserChange, body)
    password_hash = await sessions.hash_password(new.password) if new.password is not None else ""
    fields = {k: v for k, v in new.model_dump(exclude={"password"}).items() if v is not None}

    def write(tx: Tx, hand: Hand) -> None:
        old = get_user(tx, uid)
        write_user(tx, hand, old, replace(old, **fields, password_hash=password_hash or old.password_hash))

    await change(ctx, actor, write)


async def find_user(ctx: Context, actor: Actor, uid: str) -> User:
    """Raises: Forbidden: neither administrator nor oneself; NotFound."""
    if actor.uid != uid:
        actor.need(SYSTEM)
    return await ctx.db.read(get_user, uid)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which users a list shows; what is empty limits nothing. ``account``: exact; ``name``: contained; ``roles``: one
    of these, in ``project``, else in the system; without them who has any role in ``project``. Roles of groups
    count."""

    account: str = ""
    name: str = ""
    identity_type: str = ""
    roles: frozenset[str] = frozenset()
    project: str = ""


async def list_users(ctx: Context, wanted: Wanted, *, page: int, size: int) -> tuple[list[User], int]:
    """One page, by account, and how many there are."""
    return await ctx.db.read(_list, wanted, (page - 1) * size, size)


def _list(tx: Tx, wanted: Wanted, skip: int, size: int) -> tuple[list[User], int]:
    def page(offset: int, limit: int) -> tuple[list[User], int]:
        return tx.people.users(account=wanted.account, name=wanted.name, offset=offset, limit=limit)

    if not (wanted.identity_type or wanted.roles or wanted.project):
        return page(skip, size)
    fits = _holding(tx, wanted)
    found = [user for user in _all(page) if wanted.identity_type in ("", user.identity_type) and fits(user)]
    return found[skip : skip + size], len(found)


def _holding(tx: Tx, wanted: Wanted) -> Callable[[User], bool]:
    """Whether a user has one of the roles."""
    if not (wanted.roles or wanted.project):
        return lambda user: True
    namespace = wanted.project or EVERYWHERE
    policy, own = read_policy(tx, 0), tx.people.bindings(namespace)

    def holds(user: User) -> bool:
        roles = {*own.get(user.uid, ())}
        for group in policy.groups.get(user.uid, ()):
            roles |= {*policy.group_roles.get(group, {}).get(namespace, ())}
        if user.admin and namespace == EVERYWHERE:
            roles.add(ADMIN)
        return bool(roles & wanted.roles if wanted.roles else roles)

    return holds


async def delete_user(ctx: Context, actor: Actor, uid: str) -> None:
    """Raises: NotFound, Conflict."""
    await change(ctx, actor, lambda tx, hand: drop_user(tx, hand, get_user(tx, uid)))
