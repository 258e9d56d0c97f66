"""Roles, who has them, and single workflows shared with single people.

A namespace is a project's key, or ``*`` for the system. Roles that users make are resources of kind ``role``; those of
users are rows of ``role_binding``, those of groups resources (see ``operations.policy``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cador.domain.errors import AlreadyExists, Conflict, Invalid, NotFound
from cador.operations.actions import (
    ADMIN,
    ADMIN_PROJECT,
    PROJECT_ACTIONS,
    ROLE_ACTIONS,
    ROLE_TEXTS,
    SYSTEM_ACTIONS,
)
from cador.operations.actor import EVERYWHERE, SYSTEM, Actor
from cador.operations.context import Context
from cador.operations.finding import is_public
from cador.operations.models.body import read_body
from cador.operations.models.roles import (
    BindingBody,
    CollaborationBody,
    Identity,
    RoleBody,
    RoleChange,
    RolesBody,
)
from cador.operations.people import all_users, get_user, write_user
from cador.operations.policy import COLLABORATION, GROUP, GROUP_ROLES
from cador.operations.policy import ROLE as ROLE
from cador.operations.resources import Doc, Hand, by_id, change, get, need_project, put_new, put_over
from cador.ports.stores import Resource, Tx, User

SYSTEM_ROLE_TEXT: Final = "everything"


@dataclass(frozen=True, slots=True)
class Role:
    """``built_in``: it cannot be changed."""

    id: int
    name: str
    namespace: str
    desc: str
    actions: tuple[str, ...]
    built_in: bool


@dataclass(frozen=True, slots=True)
class Binding:
    """Roles of one user, or of one group with its members, in one namespace."""

    roles: tuple[str, ...]
    user: User | None = None
    group: Resource | None = None
    members: tuple[User, ...] = ()


def may_manage(actor: Actor, namespace: str) -> None:
    """Members are changed by the project's administrators, those of the system by its own. Raises: Forbidden."""
    if namespace == EVERYWHERE:
        actor.need(SYSTEM)
    else:
        actor.need(ADMIN_PROJECT, namespace)


def _place(namespace: str) -> str:
    """The project of resources in *namespace*."""
    return "" if namespace == EVERYWHERE else namespace


def _need_namespace(tx: Tx, namespace: str) -> None:
    """Raises: NotFound."""
    if namespace != EVERYWHERE:
        need_project(tx, namespace)


# -- roles


def _built_in(namespace: str) -> list[Role]:
    if namespace == EVERYWHERE:
        return [Role(1, ADMIN, namespace, SYSTEM_ROLE_TEXT, tuple(sorted(SYSTEM_ACTIONS | {SYSTEM})), built_in=True)]
    return [
        Role(number, name, namespace, text, tuple(sorted(ROLE_ACTIONS[name])), built_in=True)
        for number, (name, text) in enumerate(ROLE_TEXTS.items(), start=1)
    ]


def _custom(resource: Resource) -> Role:
    document = resource.document
    return Role(
        resource.id,
        resource.name,
        resource.project or EVERYWHERE,
        document["desc"],
        tuple(document["actions"]),
        built_in=False,
    )


async def list_roles(ctx: Context, actor: Actor, namespace: str) -> list[Role]:
    """Built-in ones first. Who may see a project may see its roles. Raises: Forbidden, NotFound."""
    await _may_look(ctx, actor, namespace)

    def read(tx: Tx) -> list[Role]:
        _need_namespace(tx, namespace)
        return [*_built_in(namespace), *map(_custom, tx.resources.list_kind(ROLE, _place(namespace)))]

    return await ctx.db.read(read)


async def find_role(ctx: Context, actor: Actor, namespace: str, name: str) -> Role:
    """Raises: Forbidden, NotFound."""
    found = next((role for role in await list_roles(ctx, actor, namespace) if role.name == name), None)
    if found is None:
        raise NotFound(ROLE, name)
    return found


async def _may_look(ctx: Context, actor: Actor, namespace: str) -> None:
    if namespace != EVERYWHERE:
        actor.need("get_project", namespace, public=await is_public(ctx, namespace))


def store_role(tx: Tx, hand: Hand, namespace: str, body: RoleBody, *, new: bool = False) -> bool:
    """Add or replace a role; False when it was so. Raises: Invalid, AlreadyExists, NotFound: the project."""
    _need_namespace(tx, namespace)
    if any(role.name == body.name for role in _built_in(namespace)):
        raise AlreadyExists(ROLE, body.name)
    known = SYSTEM_ACTIONS if namespace == EVERYWHERE else PROJECT_ACTIONS
    if misplaced := [action for action in body.actions if action not in known]:
        kind = "the system" if namespace == EVERYWHERE else "a project"
        raise Invalid(f"{misplaced[0]} is no action of {kind}", place="actions")
    old = tx.resources.find(ROLE, _place(namespace), body.name)
    if old is None:
        put_new(tx, hand, ROLE, _place(namespace), body.name, body.document())
        return True
    if new:
        raise AlreadyExists(ROLE, body.name)
    return put_over(tx, hand, old, body.document())


async def create_role(ctx: Context, actor: Actor, namespace: str, body: Doc) -> None:
    """Raises: Forbidden, Invalid, AlreadyExists, NotFound: the project."""
    may_manage(actor, namespace)
    new = read_body(RoleBody, body)
    await change(ctx, actor, lambda tx, hand: store_role(tx, hand, namespace, new, new=True))


async def change_role(ctx: Context, actor: Actor, namespace: str, name: str, body: Doc) -> None:
    """What is absent stays; names do not change. Raises: Forbidden, Invalid, NotFound, Conflict: it is built in."""
    may_manage(actor, namespace)
    given = {key: value for key, value in read_body(RoleChange, body).model_dump().items() if value is not None}
    if given.get("name", name) != name:
        raise Invalid("name cannot be changed", place="name")

    def write(tx: Tx, hand: Hand) -> None:
        old = _changeable(tx, namespace, name)
        store_role(tx, hand, namespace, read_body(RoleBody, {**old.document, **given, "name": name}))

    await change(ctx, actor, write)


async def delete_role(ctx: Context, actor: Actor, namespace: str, name: str) -> None:
    """Raises: Forbidden, NotFound; Conflict: somebody has it, or it is built in."""
    may_manage(actor, namespace)
    await change(ctx, actor, lambda tx, hand: drop_role(tx, hand, _changeable(tx, namespace, name)))


def _changeable(tx: Tx, namespace: str, name: str) -> Resource:
    _need_namespace(tx, namespace)
    if any(role.name == name for role in _built_in(namespace)):
        raise Conflict(f"role {name} is built in")
    return get(tx, ROLE, _place(namespace), name)


def drop_role(tx: Tx, hand: Hand, role: Resource) -> None:
    """Raises: Conflict: somebody has it."""
    namespace = role.project or EVERYWHERE
    for uid, roles in tx.people.bindings(namespace).items():
        if role.name in roles:
            user = tx.people.user(uid)
            raise Conflict(f"role {role.name} is used by user {user.account if user is not None else uid}")
    for binding in tx.resources.list_kind(GROUP_ROLES, role.project):
        if role.name in binding.document["roles"]:
            group = tx.resources.by_id(GROUP, binding.name)
            raise Conflict(f"role {role.name} is used by group {group.name if group is not None else binding.name}")
    tx.resources.delete(ROLE, role.project, role.name)
    hand.audit(tx, f"delete_{ROLE}", role.project, f"{ROLE}/{role.name}")


# -- who has them


def _checked(tx: Tx, namespace: str, roles: Iterable[str]) -> tuple[str, ...]:
    """Raises: Invalid: unknown role; NotFound: the project."""
    _need_namespace(tx, namespace)
    wanted = tuple(dict.fromkeys(roles))
    known = {role.name for role in _built_in(namespace)}
    known |= {role.name for role in tx.resources.list_kind(ROLE, _place(namespace))}
    if unknown := [role for role in wanted if role not in known]:
        raise Invalid(f"role {unknown[0]} not found", place="roles")
    return wanted


def store_roles(tx: Tx, hand: Hand, user: User, namespace: str, roles: Sequence[str]) -> bool:
    """Set all roles of a user in a namespace; False when they were so.

    Raises: Invalid: unknown role; NotFound; Conflict: the last administrator would be gone; Forbidden: a limited token
    makes an administrator.
    """
    wanted = _checked(tx, namespace, roles)
    if set(roles_of(tx, user, namespace)) == set(wanted):
        return False
    if namespace == EVERYWHERE:
        write_user(tx, hand, user, replace(user, admin=ADMIN in wanted))
    tx.people.set_roles(user.uid, namespace, [role for role in wanted if namespace != EVERYWHERE or role != ADMIN])
    hand.audit(tx, "set_roles", _place(namespace), f"user/{user.account}", {"roles": list(wanted)})
    return True


def roles_of(tx: Tx, user: User, namespace: str) -> tuple[str, ...]:
    """The user's own, without those of groups."""
    found = tuple(tx.people.roles(user.uid).get(namespace, ()))
    return (ADMIN, *found) if namespace == EVERYWHERE and user.admin else found


def store_group_roles(tx: Tx, hand: Hand, group: Resource, namespace: str, roles: Sequence[str]) -> bool:
    """Set all roles of a group in a namespace; False when they were so.

    Raises: Invalid: unknown role; NotFound; Forbidden: a limited token makes administrators.
    """
    wanted = _checked(tx, namespace, roles)
    old = tx.resources.find(GROUP_ROLES, _place(namespace), group.uid)
    before = set(old.document["roles"] if old is not None else ())
    if set(wanted) == before:
        return False
    if namespace == EVERYWHERE and ADMIN in set(wanted) - before:
        hand.actor.need_unlimited()
    if old is not None:
        tx.resources.delete(GROUP_ROLES, old.project, old.name)
    if wanted:
        tx.resources.add(
            Resource(
                kind=GROUP_ROLES,
                project=_place(namespace),
                name=group.uid,
                document={"roles": list(wanted)},
                created_by=hand.actor.name,
                create_at=tx.now,
                updated_by=hand.actor.name,
                update_at=tx.now,
            )
        )
    hand.audit(tx, "set_roles", _place(namespace), f"{GROUP}/{group.name}", {"roles": list(wanted)})
    return True


def group_roles(tx: Tx, group: Resource, namespace: str) -> tuple[str, ...]:
    found = tx.resources.find(GROUP_ROLES, _place(namespace), group.uid)
    return tuple(found.document["roles"]) if found is not None else ()


async def list_bindings(ctx: Context, actor: Actor, namespace: str) -> list[Binding]:
    """Users by account, then groups by name. Raises: Forbidden, NotFound."""
    may_manage(actor, namespace)

    def read(tx: Tx) -> list[Binding]:
        _need_namespace(tx, namespace)
        return bindings_of(tx, namespace)

    return await ctx.db.read(read)


def bindings_of(tx: Tx, namespace: str) -> list[Binding]:
    """Bindings of users and groups that are gone are left out."""
    own: dict[str, tuple[str, ...]] = {uid: tuple(roles) for uid, roles in tx.people.bindings(namespace).items()}
    if namespace == EVERYWHERE:
        for user in all_users(tx):
            if user.admin:
                own[user.uid] = (ADMIN, *own.get(user.uid, ()))
    users = [(user, roles) for user, roles in ((tx.people.user(uid), own[uid]) for uid in own) if user is not None]
    found = [Binding(roles, user=user) for user, roles in sorted(users, key=lambda pair: pair[0].account)]
    groups = []
    for binding in tx.resources.list_kind(GROUP_ROLES, _place(namespace)):
        group = tx.resources.by_id(GROUP, binding.name)
        if group is not None:
            members = tuple(one for one in map(tx.people.user, group.document["uids"]) if one is not None)
            groups.append(Binding(tuple(binding.document["roles"]), group=group, members=members))
    return [*found, *sorted(groups, key=lambda one: one.group.name if one.group is not None else "")]


async def add_bindings(ctx: Context, actor: Actor, namespace: str, body: Doc) -> None:
    """Give one role to each identity, beside what they have. Raises: Forbidden, Invalid, NotFound."""
    may_manage(actor, namespace)
    new = read_body(BindingBody, body)

    def write(tx: Tx, hand: Hand) -> None:
        for identity in new.identities:
            _add(tx, hand, namespace, identity, new.role)

    await change(ctx, actor, write)


def _add(tx: Tx, hand: Hand, namespace: str, identity: Identity, role: str) -> None:
    if identity.identity_type == "group":
        group = by_id(tx, GROUP, identity.gid)
        store_group_roles(tx, hand, group, namespace, [*group_roles(tx, group, namespace), role])
    else:
        user = get_user(tx, identity.uid)
        store_roles(tx, hand, user, namespace, [*roles_of(tx, user, namespace), role])


async def set_roles(ctx: Context, actor: Actor, namespace: str, uid: str, body: Doc) -> None:
    """Replace all roles of a user; none removes the user from the project.

    Raises: Forbidden, Invalid, NotFound; Conflict: the last administrator would be gone.
    """
    may_manage(actor, namespace)
    roles = read_body(RolesBody, body).roles
    await change(ctx, actor, lambda tx, hand: store_roles(tx, hand, get_user(tx, uid), namespace, roles))


async def set_group_roles(ctx: Context, actor: Actor, namespace: str, gid: str, body: Doc) -> None:
    """The same for a group. Raises: Forbidden, Invalid, NotFound."""
    may_manage(actor, namespace)
    roles = read_body(RolesBody, body).roles
    await change(ctx, actor, lambda tx, hand: store_group_roles(tx, hand, by_id(tx, GROUP, gid), namespace, roles))


# -- single workflows


def _check_shares(tx: Tx, project: str, body: CollaborationBody) -> None:
    for uid in body.user_ids:
        if tx.people.user(uid) is None:
            raise Invalid(f"user {uid} not found", place="user_ids")
    for gid in body.group_ids:
        if tx.resources.by_id(GROUP, gid) is None:
            raise Invalid(f"group {gid} not found", place="group_ids")
    for workflow in body.workflows:
        row = tx.workflows.find(workflow.name)
        if row is None or row.project != project:
            raise Invalid(f"workflow {workflow.name} not found", place="workflows")


def _mode(body: Doc, project: str, name: str = "") -> CollaborationBody:
    mode = read_body(CollaborationBody, {**body, **({"name": name} if name else {})})
    if mode.project_key not in ("", project):
        raise Invalid(f"project_key is {mode.project_key}, but the request names {project}", place="project_key")
    return mode


def _stored(mode: CollaborationBody) -> dict[str, Any]:
    return mode.model_dump(exclude={"project_key", "envs"})


async def list_collaborations(ctx: Context, project: str) -> list[Resource]:
    """By name. Raises: NotFound: the project."""

    def read(tx: Tx) -> list[Resource]:
        need_project(tx, project)
        return tx.resources.list_kind(COLLABORATION, project)

    return await ctx.db.read(read)


def store_collaboration(tx: Tx, hand: Hand, project: str, mode: CollaborationBody, *, new: bool = False) -> bool:
    """Add or replace what is shared under a name; False when it was so.

    Raises: Invalid: somebody or something unknown; AlreadyExists: *new* and it is there; NotFound: the project.
    """
    need_project(tx, project)
    _check_shares(tx, project, mode)
    old = tx.resources.find(COLLABORATION, project, mode.name)
    if old is None:
        put_new(tx, hand, COLLABORATION, project, mode.name, _stored(mode))
        return True
    if new:
        raise AlreadyExists(COLLABORATION, mode.name)
    return put_over(tx, hand, old, _stored(mode))


def drop_collaboration(tx: Tx, hand: Hand, project: str, name: str) -> None:
    """End the sharing. Raises: NotFound."""
    found = get(tx, COLLABORATION, project, name)
    tx.resources.delete(COLLABORATION, project, found.name)
    hand.audit(tx, f"delete_{COLLABORATION}", project, f"{COLLABORATION}/{name}")


async def create_collaboration(ctx: Context, actor: Actor, project: str, body: Doc) -> None:
    """Share workflows. Raises: Invalid, AlreadyExists, NotFound: the project."""
    mode = _mode(body, project)
    await change(ctx, actor, lambda tx, hand: store_collaboration(tx, hand, project, mode, new=True))


async def change_collaboration(ctx: Context, actor: Actor, project: str, name: str, body: Doc) -> None:
    """Replace one. Raises: Invalid, NotFound."""
    if body.get("name", name) != name:
        raise Invalid("name cannot be changed", place="name")
    mode = _mode(body, project, name)

    def write(tx: Tx, hand: Hand) -> None:
        get(tx, COLLABORATION, project, name)
        store_collaboration(tx, hand, project, mode)

    await change(ctx, actor, write)


async def delete_collaboration(ctx: Context, actor: Actor, project: str, name: str) -> None:
    """End the sharing. Raises: NotFound."""
    await change(ctx, actor, lambda tx, hand: drop_collaboration(tx, hand, project, name))


# -- of groups and workflows that go


def forget_group(tx: Tx, hand: Hand, group: Resource) -> None:
    """Before a group is deleted: its roles go with it. Raises: Conflict: workflows are shared with it."""
    for mode in tx.resources.list_kind(COLLABORATION):
        if group.uid in mode.document["group_ids"]:
            raise Conflict(f"group {group.name} is used by collaboration {mode.name} of project {mode.project}")
    for binding in tx.resources.list_kind(GROUP_ROLES):
        if binding.name == group.uid:
            store_group_roles(tx, hand, group, binding.project or EVERYWHERE, ())


def forget_workflow(tx: Tx, project: str, key: str) -> None:
    """When a workflow is deleted: who had a share of it has none of the next one of that name."""
    for mode in tx.resources.list_kind(COLLABORATION, project):
        left = [one for one in mode.document["workflows"] if one["name"] != key]
        if len(left) < len(mode.document["workflows"]):
            tx.resources.replace(replace(mode, document={**mode.document, "workflows": left}))
