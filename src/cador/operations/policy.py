"""What groups, roles made by users and shared workflows mean for each user: read again only when any of them changed.

They are few and change seldom, while every request asks: so they are kept in memory with the version of the
configuration, which the look-up of a token brings along (see ``PeopleStore.caller``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cador.operations.actor import ADMIN, EVERYWHERE, Actor, Shared
from cador.ports.stores import Token, Tx, User

ROLE: Final = "role"
GROUP: Final = "group"
GROUP_ROLES: Final = "group_roles"
"""Kind of the roles of a group in a project or the system; its name is the group's id."""
COLLABORATION: Final = "collaboration"


@dataclass(frozen=True, slots=True)
class Policy:
    """``roles``: by namespace and name. ``groups``: ids of a user's groups. ``group_roles``: by group and namespace.
    ``shares``: by user or group."""

    version: int = -1
    roles: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    group_roles: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    shares: Mapping[str, Shared] = field(default_factory=dict)

    def actor(self, user: User, own: Mapping[str, tuple[str, ...]], token: Token | None = None) -> Actor:
        """*user* with all that is theirs; *own*: the roles of the user alone."""
        groups = self.groups.get(user.uid, ())
        roles = _joined([own, *(self.group_roles.get(group, {}) for group in groups)]) if groups else own
        shares = [self.shares[who] for who in (user.uid, *groups) if who in self.shares]
        return Actor(
            uid=user.uid,
            name=user.name,
            account=user.account,
            email=user.email,
            admin=user.admin or ADMIN in roles.get(EVERYWHERE, ()),
            roles=roles,
            scopes=token.scopes if token is not None else (),
            projects=token.projects if token is not None else (),
            custom=self.roles,
            shared=_merged(shares) if shares else {},
            token_id=token.id if token is not None else 0,
        )


def read_policy(tx: Tx, version: int) -> Policy:
    """The policy as it is stored at *version* of the configuration."""
    groups: dict[str, list[str]] = {}
    for group in tx.resources.list_kind(GROUP):
        for uid in group.document["uids"]:
            groups.setdefault(uid, []).append(group.uid)
    group_roles: dict[str, dict[str, tuple[str, ...]]] = {}
    for binding in tx.resources.list_kind(GROUP_ROLES):
        group_roles.setdefault(binding.name, {})[binding.project or EVERYWHERE] = tuple(binding.document["roles"])
    shares: dict[str, list[Shared]] = {}
    for mode in tx.resources.list_kind(COLLABORATION):
        given = {mode.project: {one["name"]: frozenset(one["verbs"]) for one in mode.document["workflows"]}}
        for who in (*mode.document["user_ids"], *mode.document["group_ids"]):
            shares.setdefault(who, []).append(given)
    return Policy(
        version=version,
        roles={
            (role.project or EVERYWHERE, role.name): frozenset(role.document["actions"])
            for role in tx.resources.list_kind(ROLE)
        },
        groups={uid: tuple(ids) for uid, ids in groups.items()},
        group_roles=group_roles,
        shares={who: _merged(given) for who, given in shares.items()},
    )


class Policies:
    """The newest policy, read again only when the configuration changed."""

    def __init__(self) -> None:
        self._known = Policy()

    def load(self, tx: Tx, version: int) -> Policy:
        """*version*: of the configuration, read in the same transaction."""
        known = self._known
        if known.version != version:
            known = self._known = read_policy(tx, version)
        return known


def _joined(all_roles: Iterable[Mapping[str, tuple[str, ...]]]) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for roles in all_roles:
        for namespace, names in roles.items():
            found.setdefault(namespace, {}).update(dict.fromkeys(names))
    return {namespace: tuple(names) for namespace, names in found.items()}


def _merged(shares: Iterable[Shared]) -> Shared:
    found: dict[str, dict[str, frozenset[str]]] = {}
    for share in shares:
        for project, workflows in share.items():
            mine = found.setdefault(project, {})
            for key, actions in workflows.items():
                mine[key] = mine.get(key, frozenset()) | actions
    return found
