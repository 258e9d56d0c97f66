"""People and what they may do: users, groups, roles, tokens."""

import builtins
from collections.abc import Sequence
from typing import Final

from cador.client import shapes
from cador.client.methods import Call, Group, Mode
from cador.client.wire import Request, Steps, given, pages, segment

_USERS: Final = "/openapi/users"
_GROUPS: Final = "/openapi/user-groups"
_POLICY: Final = "/openapi/policy"
EVERYWHERE: Final = "*"
"""In place of a project: the whole system."""


class Users(Group[Mode]):
    """Accounts. *uid*: their ids; accounts lead to them by :meth:`find`."""

    @Call
    def list(self, *, account: str = "", name: str = "") -> Steps[builtins.list[shapes.UserLine]]:
        """Users by account. *account* must match exactly, *name* be contained."""
        return (yield from pages(_USERS, {"account": account, "name": name}, "users", "total_count"))

    @Call
    def find(self, account: str) -> Steps[shapes.UserLine | None]:
        """The user with that account, or None."""
        reply = yield Request("GET", _USERS, {"account": account, "pageSize": 1})
        return next((one for one in reply["users"] if one["account"] == account), None)

    @Call
    def get(self, uid: str) -> Steps[shapes.User]:
        """One user; everybody may look at themselves."""
        reply: shapes.User = yield Request("GET", f"{_USERS}/{segment(uid)}")
        return reply

    @Call
    def create(
        self, account: str, password: str, *, name: str = "", email: str = "", phone: str = "", admin: bool = False
    ) -> Steps[shapes.User]:
        """Create a user. *name*: as shown, else the account. *admin*: an administrator of the system."""
        body = {"account": account, "password": password, "name": name or account, "email": email, "phone": phone}
        reply: shapes.User = yield Request("POST", _USERS, body={**body, "admin": admin})
        return reply

    @Call
    def change(
        self,
        uid: str,
        *,
        name: str | None = None,
        email: str | None = None,
        phone: str | None = None,
        password: str | None = None,
        admin: bool | None = None,
    ) -> Steps[None]:
        """Change what is given; the rest stays. A new password ends all sessions but one's own."""
        body = given(name=name, email=email, phone=phone, password=password, admin=admin)
        yield Request("PUT", f"{_USERS}/{segment(uid)}", body=body, repeatable=True)

    @Call
    def delete(self, uid: str) -> Steps[None]:
        """Delete a user with tokens and roles."""
        yield Request("DELETE", f"{_USERS}/{segment(uid)}")


class UserGroups(Group[Mode]):
    """Groups of users, whom workflows and roles name together. *group*: their ids."""

    @Call
    def list(self, *, name: str = "") -> Steps[builtins.list[shapes.UserGroupLine]]:
        """Groups by name; *name* must be contained."""
        return (yield from pages(_GROUPS, {"name": name}, "group_list"))

    @Call
    def find(self, name: str) -> Steps[shapes.UserGroupLine | None]:
        """The group of exactly that name, or None."""
        found = yield from pages(_GROUPS, {"name": name}, "group_list")
        return next((one for one in found if one["name"] == name), None)

    @Call
    def get(self, group: str) -> Steps[shapes.UserGroup]:
        """One group with its members."""
        reply: shapes.UserGroup = yield Request("GET", f"{_GROUPS}/{segment(group)}")
        return reply

    @Call
    def create(self, name: str, uids: Sequence[str] = (), *, description: str = "") -> Steps[shapes.UserGroup]:
        """Create a group of the users *uids*."""
        body = {"name": name, "description": description, "uids": [*uids]}
        reply: shapes.UserGroup = yield Request("POST", _GROUPS, body=body)
        return reply

    @Call
    def change(
        self, group: str, *, name: str | None = None, description: str | None = None, uids: Sequence[str] | None = None
    ) -> Steps[shapes.UserGroup]:
        """Change what is given; the rest stays."""
        body = given(name=name, description=description, uids=uids)
        reply: shapes.UserGroup = yield Request("PUT", f"{_GROUPS}/{segment(group)}", body=body, repeatable=True)
        return reply

    @Call
    def add(self, group: str, uids: Sequence[str]) -> Steps[shapes.UserGroup]:
        """Add members."""
        path = f"{_GROUPS}/{segment(group)}/users"
        reply: shapes.UserGroup = yield Request("POST", path, body={"uids": [*uids]})
        return reply

    @Call
    def remove(self, group: str, uid: str) -> Steps[shapes.UserGroup]:
        """Take a member out."""
        reply: shapes.UserGroup = yield Request("DELETE", f"{_GROUPS}/{segment(group)}/users/{segment(uid)}")
        return reply

    @Call
    def delete(self, group: str) -> Steps[None]:
        """Delete a group that no workflow names."""
        yield Request("DELETE", f"{_GROUPS}/{segment(group)}")


class Roles(Group[Mode]):
    """What may be allowed, and who may it. *project*: its key, or ``*`` for the whole system."""

    @Call
    def list(self, project: str = EVERYWHERE) -> Steps[builtins.list[shapes.RoleLine]]:
        """All roles there, built in and made."""
        reply: builtins.list[shapes.RoleLine] = yield Request("GET", f"{_POLICY}/roles", {"namespace": project})
        return reply

    @Call
    def get(self, name: str, project: str = EVERYWHERE) -> Steps[shapes.Role]:
        """One role with its actions (``rules``, by what they are about)."""
        reply: shapes.Role = yield Request("GET", f"{_POLICY}/roles/{segment(name)}", {"namespace": project})
        return reply

    @Call
    def actions(self) -> Steps[builtins.list[shapes.ActionGroup]]:
        """What roles of projects can be made of."""
        reply: builtins.list[shapes.ActionGroup] = yield Request(
            "GET", f"{_POLICY}/resource-actions", {"projectName": EVERYWHERE}
        )
        return reply

    @Call
    def create(
        self, name: str, actions: Sequence[str], project: str = EVERYWHERE, *, description: str = ""
    ) -> Steps[None]:
        """Make a role of actions."""
        body = {"name": name, "desc": description, "actions": [*actions]}
        yield Request("POST", f"{_POLICY}/roles", {"namespace": project}, body)

    @Call
    def change(
        self,
        name: str,
        project: str = EVERYWHERE,
        *,
        actions: Sequence[str] | None = None,
        description: str | None = None,
    ) -> Steps[None]:
        """Change what is given; it counts at once for all who have the role."""
        body = given(desc=description, actions=actions)
        yield Request("PUT", f"{_POLICY}/roles/{segment(name)}", {"namespace": project}, body, repeatable=True)

    @Call
    def delete(self, name: str, project: str = EVERYWHERE) -> Steps[None]:
        """Delete a role that nobody has."""
        yield Request("DELETE", f"{_POLICY}/roles/{segment(name)}", {"namespace": project})

    @Call
    def members(self, project: str = EVERYWHERE) -> Steps[builtins.list[shapes.Binding]]:
        """Which users and groups have which roles there."""
        reply: builtins.list[shapes.Binding] = yield Request("GET", f"{_POLICY}/role-bindings", {"namespace": project})
        return reply

    @Call
    def give(
        self, name: str, project: str = EVERYWHERE, *, uids: Sequence[str] = (), groups: Sequence[str] = ()
    ) -> Steps[None]:
        """Give a role to users and groups (their ids), beside what they have."""
        identities = [{"identity_type": "user", "uid": uid} for uid in uids]
        identities += [{"identity_type": "group", "gid": group} for group in groups]
        body = {"identities": identities, "role": name}
        yield Request("POST", f"{_POLICY}/role-bindings", {"namespace": project}, body, repeatable=True)

    @Call
    def set_user(self, uid: str, roles: Sequence[str], project: str = EVERYWHERE) -> Steps[None]:
        """Replace all roles of a user there; none takes the user out of the project."""
        yield _bound("user", uid, roles, project)

    @Call
    def set_group(self, group: str, roles: Sequence[str], project: str = EVERYWHERE) -> Steps[None]:
        """Replace all roles of a group there."""
        yield _bound("group", group, roles, project)


def _bound(kind: str, ident: str, roles: Sequence[str], project: str) -> Request:
    path = f"{_POLICY}/role-bindings/{kind}/{segment(ident)}"
    return Request("POST", path, {"namespace": project}, {"roles": [*roles]}, repeatable=True)


class Tokens(Group[Mode]):
    """API tokens and sessions. *uid*: whose they are, as :meth:`Server.me` and :meth:`Users.find` tell it."""

    @Call
    def list(self, uid: str) -> Steps[builtins.list[shapes.Token]]:
        """Tokens and sessions, without their text."""
        reply: builtins.list[shapes.Token] = yield Request("GET", f"{_USERS}/{segment(uid)}/tokens")
        return reply

    @Call
    def of_all(self, *, prefix: str = "") -> Steps[builtins.list[shapes.TokenOfSomebody]]:
        """Those of all users, newest first; for administrators. *prefix*: how their text begins, or a whole text that
        was found somewhere: the rest of it is kept out of addresses, which are written down on the way."""
        found: builtins.list[shapes.TokenOfSomebody] = []
        before = None
        while True:
            reply = yield Request("GET", "/api/v1/tokens", {"prefix": prefix[:10], "before": before, "limit": 1000})
            found += reply["tokens"]
            before = reply["next_before"]
            if before is None:
                return found

    @Call
    def create(
        self,
        uid: str,
        name: str,
        *,
        expires_in_days: int = 0,
        scopes: Sequence[str] = (),
        projects: Sequence[str] = (),
    ) -> Steps[shapes.NewToken]:
        """Make a token. *expires_in_days* 0: never. *scopes*, *projects*: what it is limited to, empty: nothing."""
        limits = {"expires_in_days": expires_in_days, "scopes": [*scopes], "projects": [*projects]}
        reply: shapes.NewToken = yield Request("POST", f"{_USERS}/{segment(uid)}/tokens", body={"name": name, **limits})
        return reply

    @Call
    def rotate(self, uid: str, token: int | str) -> Steps[shapes.NewToken]:
        """Give a token another text; the old one is refused from now on."""
        reply: shapes.NewToken = yield Request("POST", f"{_USERS}/{segment(uid)}/tokens/{segment(token)}/rotate")
        return reply

    @Call
    def delete(self, uid: str, token: int | str) -> Steps[None]:
        """End a token or a session."""
        yield Request("DELETE", f"{_USERS}/{segment(uid)}/tokens/{segment(token)}")
