"""User groups: people whom definitions name together, as approvers and deciders.

Who is in a group is read when a task is created; later changes of the group do not change who may vote on that task.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cador.domain.errors import AlreadyExists, Invalid, NotFound
from cador.operations.actor import ADMIN, EVERYWHERE, Actor
from cador.operations.context import Context
from cador.operations.models.body import read_body
from cador.operations.models.groups import GroupBody, GroupChange, MembersBody
from cador.operations.policy import GROUP
from cador.operations.resources import Doc, Hand, by_id, change, drop, get, put_new, put_over
from cador.operations.roles import forget_group, group_roles
from cador.ports.stores import Resource, Tx, User

KIND: Final = GROUP


@dataclass(frozen=True, slots=True)
class Group:
    """``members``: those of them who are still users, by account."""

    uid: str
    name: str
    description: str
    members: tuple[User, ...]


# -- whom a definition means


def members(tx: Tx, ident: str, name: str) -> tuple[User, ...] | None:
    """The users in the group of that id or, where there is none, of that name; None: there is no such group."""
    found = tx.resources.by_id(KIND, ident) if ident else None
    if found is None and name:
        found = tx.resources.find(KIND, "", name)
    return _group(tx, found).members if found is not None else None


def people_named(
    tx: Tx, entries: Iterable[Mapping[str, Any]]
) -> tuple[Mapping[str, User], Mapping[str, tuple[User, ...]]]:
    """Whom *entries* (see :func:`entries_of`) mean: users by id and by account, and the members of groups by id and by
    name. Who is not known is left out."""
    users: dict[str, User] = {}
    groups: dict[str, tuple[User, ...]] = {}
    for entry in entries:
        ident, name = str(entry.get("group_id") or ""), str(entry.get("group_name") or "")
        if entry.get("type") == "group":
            found = members(tx, ident, name)
            if found is not None:
                groups |= {key: found for key in (ident, name) if key}
            continue
        for key, look in (("user_id", tx.people.user), ("user_name", tx.people.by_account)):
            text = str(entry.get(key) or "")
            user = look(text) if text and text not in users else None
            if user is not None:
                users[user.uid] = users[user.account] = user
    return users, groups


def entries_of(node: Any) -> Iterator[Mapping[str, Any]]:
    """The entries of a definition that name approvers, executors and deciders."""
    if isinstance(node, Mapping):
        if node.get("user_id") or node.get("user_name") or node.get("type") == "group":
            yield node
        for value in node.values():
            yield from entries_of(value)
    elif isinstance(node, (list, tuple)):
        for element in node:
            yield from entries_of(element)


# -- parts of transactions


def store(tx: Tx, hand: Hand, body: GroupBody) -> bool:
    """Add or replace a group by its name; False when it says what is stored. Raises: Invalid: a member nobody knows."""
    old = tx.resources.find(KIND, "", body.name)
    known = old.document["uids"] if old is not None else ()
    _check_members(tx, [uid for uid in body.uids if uid not in known])
    if old is not None:
        _guard(tx, hand, old, body.uids)
        return put_over(tx, hand, old, body.document())
    put_new(tx, hand, KIND, "", body.name, body.document(), uid=str(uuid.uuid4()))
    return True


# -- what administrators ask


async def list_groups(ctx: Context, *, name: str, page: int, size: int) -> tuple[list[Group], int]:
    """By name; *name*: contained in it, without regard to case. Page and total."""

    def read(tx: Tx) -> tuple[list[Group], int]:
        found = [one for one in tx.resources.list_kind(KIND, "") if name.casefold() in one.name.casefold()]
        return [_group(tx, one) for one in found[(page - 1) * size : page * size]], len(found)

    return await ctx.db.read(read)


async def find_group(ctx: Context, ident: str) -> Group:
    """Raises: NotFound."""

    def read(tx: Tx) -> Group:
        return _group(tx, by_id(tx, KIND, ident))

    return await ctx.db.read(read)


async def create_group(ctx: Context, actor: Actor, body: Doc) -> Group:
    """Raises: Invalid: also a member nobody knows; AlreadyExists."""
    new = read_body(GroupBody, body)

    def write(tx: Tx, hand: Hand) -> Group:
        if tx.resources.find(KIND, "", new.name) is not None:
            raise AlreadyExists(KIND, new.name)
        _check_members(tx, new.uids)
        return _group(tx, put_new(tx, hand, KIND, "", new.name, new.document(), uid=str(uuid.uuid4())))

    return await change(ctx, actor, write)


async def change_group(ctx: Context, actor: Actor, ident: str, body: Doc) -> Group:
    """What is absent stays. Raises: Invalid, NotFound; AlreadyExists: the new name is another group's."""
    given = read_body(GroupChange, body)
    fields = {key: value for key, value in given.model_dump().items() if value is not None}
    return await _change(ctx, actor, ident, lambda document: {**document, **fields})


async def add_members(ctx: Context, actor: Actor, ident: str, body: Doc) -> Group:
    """Raises: Invalid, NotFound."""
    added = read_body(MembersBody, body).uids
    return await _change(ctx, actor, ident, lambda document: {**document, "uids": [*document["uids"], *added]})


async def remove_member(ctx: Context, actor: Actor, ident: str, uid: str) -> Group:
    """Raises: NotFound: the group, or it has no such member."""

    def without(document: Doc) -> Doc:
        if uid not in document["uids"]:
            raise NotFound("member", uid)
        return {**document, "uids": [other for other in document["uids"] if other != uid]}

    return await _change(ctx, actor, ident, without)


async def delete_group(ctx: Context, actor: Actor, ident: str) -> None:
    """Raises: NotFound; Conflict: a workflow names it."""
    await change(ctx, actor, lambda tx, hand: drop_group(tx, hand, by_id(tx, KIND, ident)))


def drop_group(tx: Tx, hand: Hand, group: Resource) -> None:
    """Delete it with its roles. Raises: Conflict: a workflow names it, or is shared with it."""
    forget_group(tx, hand, group)
    drop(tx, hand, group)


async def _change(ctx: Context, actor: Actor, ident: str, changed: Callable[[Doc], Doc]) -> Group:
    def write(tx: Tx, hand: Hand) -> Group:
        old = by_id(tx, KIND, ident)
        document = read_body(GroupBody, changed(old.document)).document()
        _check_members(tx, [uid for uid in document["uids"] if uid not in old.document["uids"]])
        _guard(tx, hand, old, document["uids"])
        if document["name"] == old.name:
            put_over(tx, hand, old, document)
            return _group(tx, get(tx, KIND, "", old.name))
        if tx.resources.find(KIND, "", document["name"]) is not None:
            raise AlreadyExists(KIND, document["name"])
        # Definitions name it by its id, which stays.
        tx.resources.delete(KIND, "", old.name)
        renamed = tx.resources.add(
            replace(old, name=document["name"], document=document, updated_by=actor.name, update_at=tx.now)
        )
        hand.audit(tx, f"edit_{KIND}", "", f"{KIND}/{renamed.name}", {"document": document, "was": old.name})
        return _group(tx, renamed)

    return await change(ctx, actor, write)


def _guard(tx: Tx, hand: Hand, group: Resource, uids: Sequence[str]) -> None:
    """Raises: Forbidden: a limited token makes administrators, of who comes into a group of them."""
    if set(uids) - set(group.document["uids"]) and ADMIN in group_roles(tx, group, EVERYWHERE):
        hand.actor.need_unlimited()


def _check_members(tx: Tx, uids: Sequence[str]) -> None:
    unknown = next((uid for uid in uids if tx.people.user(uid) is None), None)
    if unknown is not None:
        raise Invalid(f"user {unknown} not found", place="uids")


def _group(tx: Tx, resource: Resource) -> Group:
    users = [tx.people.user(uid) for uid in resource.document["uids"]]
    known = sorted((user for user in users if user is not None), key=lambda user: user.account)
    return Group(resource.uid, resource.name, str(resource.document.get("description") or ""), tuple(known))
