"""Users, their tokens and their roles."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from cador.domain.errors import AlreadyExists, NotFound
from cador.ports.stores import Token, User
from cador.storage import dialect
from cador.storage.dialect import AnyRow, json_of, json_text
from cador.storage.lane import Lane
from cador.storage.tables import role_binding as b
from cador.storage.tables import token as t
from cador.storage.tables import user as u

USER: Final = select(*u.c).where(u.c.uid == bindparam("uid"))
BY_ACCOUNT: Final = select(*u.c).where(u.c.account == bindparam("account"))
_FILTER: Final = (
    or_(bindparam("account") == "", u.c.account == bindparam("account")),
    or_(bindparam("name") == "", u.c.name.icontains(bindparam("pattern"), escape="\\")),
)
USERS: Final = (
    select(*u.c).where(*_FILTER).order_by(u.c.account).offset(bindparam("skip")).limit(bindparam("limit"))
)  # fmt: skip
USERS_TOTAL: Final = select(func.count()).select_from(u).where(*_FILTER)
ADD_USER: Final = (
    dialect.insert(u)
    .values({column.name: bindparam(column.name) for column in u.c})
    .on_conflict_do_nothing()
    .returning(u.c.uid)
)
REPLACE_USER: Final = (
    update(u)
    .where(u.c.uid == bindparam("of_uid"))
    .values({column.name: bindparam(column.name) for column in u.c if column is not u.c.uid})
)
DELETE_USER: Final = delete(u).where(u.c.uid == bindparam("of_uid"))

_ADDED_TOKEN: Final = [column.name for column in t.c if column is not t.c.id]
ADD_TOKEN: Final = insert(t).values({name: bindparam(name) for name in _ADDED_TOKEN}).returning(t.c.id)
_TOKEN: Final = tuple(field.name for field in fields(Token))
_USER: Final = tuple(field.name for field in fields(User))
BY_HASH: Final = (
    select(*(t.c[name] for name in _TOKEN), *(u.c[name] for name in _USER))
    .join_from(t, u, t.c.uid == u.c.uid)
    .where(t.c.hash == bindparam("digest"))
)
TOKENS: Final = select(*(column.label(f"token_{column.name}") for column in t.c)).where(
    t.c.uid == bindparam("uid")
).order_by(t.c.id)  # fmt: skip
DELETE_TOKEN: Final = delete(t).where(t.c.id == bindparam("token_id"), t.c.uid == bindparam("of_uid"))
TOUCH: Final = update(t).where(t.c.id == bindparam("token_id")).values(last_used_at=bindparam("at"))

ROLES: Final = select(b.c.project, b.c.role).where(b.c.uid == bindparam("uid")).order_by(b.c.project, b.c.role)
BINDINGS: Final = select(b.c.uid, b.c.role).where(b.c.project == bindparam("project")).order_by(b.c.uid, b.c.role)
UNBIND: Final = delete(b).where(b.c.uid == bindparam("of_uid"), b.c.project == bindparam("of_project"))
BIND: Final = insert(b).values(uid=bindparam("uid"), project=bindparam("project"), role=bindparam("role"))


def _user(row: AnyRow) -> User:
    return User(
        row.uid, row.account, row.name, row.email, row.phone, row.identity_type, row.admin, row.password_hash,
        row.create_at, row.last_login_at,
    )  # fmt: skip


def _token(row: AnyRow) -> Token:
    return Token(
        row.token_id, row.token_uid, row.token_name, row.token_hash, row.token_prefix, row.token_create_at,
        row.token_expires_at, row.token_last_used_at, tuple(json_of(row.token_scopes)),
    )  # fmt: skip


def _values(user: User) -> dict[str, Any]:
    return {column.name: getattr(user, column.name) for column in u.c}


class People:
    """Implements ``ports.stores.PeopleStore``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lane = Lane(connection)

    def user(self, uid: str) -> User | None:
        row = self._connection.execute(USER, {"uid": uid}).one_or_none()
        return _user(row) if row is not None else None

    def by_account(self, account: str) -> User | None:
        row = self._connection.execute(BY_ACCOUNT, {"account": account}).one_or_none()
        return _user(row) if row is not None else None

    def users(self, *, account: str = "", name: str = "", offset: int = 0, limit: int = 50) -> tuple[list[User], int]:
        """In order of account. *name* without regard to case."""
        pattern = name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        where = {"account": account, "name": name, "pattern": pattern}
        rows = self._connection.execute(USERS, where | {"skip": offset, "limit": limit})
        return [_user(row) for row in rows], self._connection.execute(USERS_TOTAL, where).scalar_one()

    def add_user(self, user: User) -> None:
        if self._connection.execute(ADD_USER, _values(user)).one_or_none() is None:
            raise AlreadyExists("user", user.account)

    def replace_user(self, user: User) -> None:
        """Raises: NotFound. AlreadyExists: the account is another user's."""
        other = self.by_account(user.account)
        if other is not None and other.uid != user.uid:
            raise AlreadyExists("user", user.account)
        if self._connection.execute(REPLACE_USER, _values(user) | {"of_uid": user.uid}).rowcount != 1:
            raise NotFound("user", user.account)

    def delete_user(self, uid: str) -> None:
        """With tokens and roles."""
        self._connection.execute(DELETE_USER, {"of_uid": uid})

    def add_token(self, token: Token) -> int:
        """``token.id`` is not used; returns the id given."""
        values = {name: getattr(token, name) for name in _ADDED_TOKEN} | {"scopes": json_text(token.scopes)}
        token_id: int = self._connection.execute(ADD_TOKEN, values).scalar_one()
        return token_id

    def by_token_hash(self, digest: str) -> tuple[Token, User] | None:
        row = self._lane.row(BY_HASH, {"digest": digest})
        if row is None:
            return None
        width = len(_TOKEN)
        token = [*row[: width - 1], tuple(json_of(row[width - 1]))]
        return Token(*token), User(*row[width:])

    def tokens(self, uid: str) -> list[Token]:
        return [_token(row) for row in self._connection.execute(TOKENS, {"uid": uid})]

    def delete_token(self, uid: str, token_id: int) -> bool:
        return self._connection.execute(DELETE_TOKEN, {"token_id": token_id, "of_uid": uid}).rowcount == 1

    def touch_token(self, token_id: int, at: float) -> None:
        self._connection.execute(TOUCH, {"token_id": token_id, "at": at})

    def roles(self, uid: str) -> Mapping[str, tuple[str, ...]]:
        return _grouped(self._lane.rows(ROLES, {"uid": uid}))

    def bindings(self, project: str) -> Mapping[str, tuple[str, ...]]:
        return _grouped(self._connection.execute(BINDINGS, {"project": project}).all())

    def set_roles(self, uid: str, project: str, roles: Sequence[str]) -> None:
        """Raises: NotFound: no such user."""
        if self.user(uid) is None:
            raise NotFound("user", uid)
        self._connection.execute(UNBIND, {"of_uid": uid, "of_project": project})
        if roles:
            rows = [{"uid": uid, "project": project, "role": role} for role in dict.fromkeys(roles)]
            self._connection.execute(BIND, rows)


def _grouped(pairs: Sequence[Sequence[Any]]) -> Mapping[str, tuple[str, ...]]:
    groups: dict[str, list[str]] = {}
    for key, role in pairs:
        groups.setdefault(key, []).append(role)
    return {key: tuple(roles) for key, roles in groups.items()}
