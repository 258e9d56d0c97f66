"""Users, their tokens and roles, and how logging in went."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, Text, bindparam, case, delete, func, insert, or_, select, update

from cador.domain.errors import AlreadyExists, NotFound
from cador.ports.stores import Token, User
from cador.storage import dialect
from cador.storage.dialect import AnyRow, json_of, json_text
from cador.storage.lane import Lane
from cador.storage.tables import catalogue_version
from cador.storage.tables import login_failure as f
from cador.storage.tables import login_place as p
from cador.storage.tables import role_binding as b
from cador.storage.tables import spent_code as s
from cador.storage.tables import token as t
from cador.storage.tables import user as u

_LARGEST_ID: Final = 2**63 - 1
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
_KEPT: Final = frozenset({"uid", "last_login_at"})
REPLACE_USER: Final = (
    update(u)
    .where(u.c.uid == bindparam("of_uid"))
    .values({one.name: bindparam(one.name) for one in u.c if one.name not in _KEPT})
)
LOGGED_IN: Final = (
    update(u).where(u.c.uid == bindparam("of_uid")).values(last_login_at=bindparam("at")).returning(u.c.uid)
)
DELETE_USER: Final = delete(u).where(u.c.uid == bindparam("of_uid"))

_ADDED_TOKEN: Final = [column.name for column in t.c if column is not t.c.id]
ADD_TOKEN: Final = insert(t).values({name: bindparam(name) for name in _ADDED_TOKEN}).returning(t.c.id)
_TOKEN: Final = tuple(field.name for field in fields(Token))
_LISTS: Final = tuple(_TOKEN.index(name) for name in ("scopes", "projects"))
_USER: Final = tuple(field.name for field in fields(User))
_BOTH: Final = (*(t.c[name] for name in _TOKEN), *(u.c[name] for name in _USER))
CALLER: Final = (
    select(*_BOTH, select(catalogue_version.c.version).scalar_subquery().label("version"))
    .join_from(t, u, t.c.uid == u.c.uid)
    .where(t.c.hash == bindparam("digest"))
)
ALL_TOKENS: Final = (
    select(*(t.c[name].label(f"token_{name}") for name in _TOKEN), *(u.c[name] for name in _USER))
    .join_from(t, u, t.c.uid == u.c.uid)
    .where(
        t.c.id < bindparam("before"),
        func.substr(t.c.prefix, 1, func.length(bindparam("prefix", type_=Text))) == bindparam("prefix"),
    )
    .order_by(t.c.id.desc())
    .limit(bindparam("limit"))
)
TOKENS: Final = select(*(column.label(f"token_{column.name}") for column in t.c)).where(
    t.c.uid == bindparam("uid")
).order_by(t.c.id)  # fmt: skip
DELETE_TOKEN: Final = delete(t).where(t.c.id == bindparam("token_id"), t.c.uid == bindparam("of_uid"))
TOUCH: Final = (
    update(t)
    .where(t.c.id == bindparam("token_id"), func.coalesce(t.c.last_used_at, 0) < bindparam("at"))
    .values(last_used_at=bindparam("at"))
)
_RENEWED: Final = ("hash", "prefix", "create_at", "expires_at", "last_used_at")
RENEW: Final = (
    update(t).where(t.c.id == bindparam("token_id")).values({name: bindparam(name) for name in _RENEWED})
)  # fmt: skip
_SESSIONS: Final = delete(t).where(t.c.uid == bindparam("of_uid"), t.c.kind == "session")
END_SESSIONS: Final = _SESSIONS.where(t.c.id != bindparam("but"))
END_OLD_SESSIONS: Final = END_SESSIONS.where(t.c.expires_at <= bindparam("ended"))

_ROLES: Final = select(b.c.project, b.c.role).order_by(b.c.project, b.c.role)
ROLES: Final = _ROLES.where(b.c.uid == bindparam("uid"))
ROLES_OF_CALLER: Final = _ROLES.join_from(b, t, b.c.uid == t.c.uid).where(t.c.hash == bindparam("digest"))
BINDINGS: Final = select(b.c.uid, b.c.role).where(b.c.project == bindparam("project")).order_by(b.c.uid, b.c.role)
UNBIND: Final = delete(b).where(b.c.uid == bindparam("of_uid"), b.c.project == bindparam("of_project"))
BIND: Final = insert(b).values(uid=bindparam("uid"), project=bindparam("project"), role=bindparam("role"))

_FAIL: Final = dialect.insert(f).values(name=bindparam("name"), failures=1, since=bindparam("now"))
FAIL: Final = _FAIL.on_conflict_do_update(
    index_elements=[f.c.name],
    set_={
        "failures": case((f.c.since < bindparam("old"), 1), else_=f.c.failures + 1),
        "since": case((f.c.since < bindparam("old"), bindparam("now")), else_=f.c.since),
    },
)
FORGET_FAILURES: Final = delete(f).where(f.c.since < bindparam("old"))
FAILURES: Final = select(f.c.failures, f.c.since).where(f.c.name == bindparam("name"), f.c.since >= bindparam("old"))
FORGIVE: Final = update(f).where(f.c.name == bindparam("at")).values(failures=f.c.failures - 1)
FORGIVE_ALL: Final = delete(f).where(f.c.name == bindparam("at"))
CAME: Final = select(p.c.at).where(p.c.uid == bindparam("uid"), p.c.address == bindparam("address"))
COME: Final = (
    dialect.insert(p)
    .values(uid=bindparam("uid"), address=bindparam("address"), at=bindparam("at"))
    .on_conflict_do_update(index_elements=[p.c.uid, p.c.address], set_={"at": bindparam("at")})
)
SPEND: Final = (
    dialect.insert(s)
    .values(digest=bindparam("digest"), until=bindparam("until"))
    .on_conflict_do_nothing()
    .returning(s.c.digest)
)
FORGET_SPENT: Final = delete(s).where(s.c.until < bindparam("old"))
FORGET_PLACES: Final = delete(p).where(p.c.uid == bindparam("of_uid"), p.c.at < bindparam("old"))


def _user(row: AnyRow) -> User:
    return User(
        row.uid, row.account, row.name, row.email, row.phone, row.identity_type, row.admin, row.password_hash,
        row.create_at, row.last_login_at,
    )  # fmt: skip


def _token(row: AnyRow) -> Token:
    return Token(
        row.token_id, row.token_uid, row.token_name, row.token_hash, row.token_prefix, row.token_create_at,
        row.token_expires_at, row.token_last_used_at, tuple(json_of(row.token_scopes)), row.token_kind,
        tuple(json_of(row.token_projects)),
    )  # fmt: skip


def _token_values(token: Token) -> dict[str, Any]:
    lists = {"scopes": json_text(token.scopes), "projects": json_text(token.projects)}
    return {name: getattr(token, name) for name in _ADDED_TOKEN} | lists


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
        values = {name: value for name, value in _values(user).items() if name not in _KEPT}
        if self._connection.execute(REPLACE_USER, values | {"of_uid": user.uid}).rowcount != 1:
            raise NotFound("user", user.account)

    def logged_in(self, uid: str, at: float) -> bool:
        return self._connection.execute(LOGGED_IN, {"of_uid": uid, "at": at}).one_or_none() is not None

    def delete_user(self, uid: str) -> None:
        """With tokens and roles."""
        self._connection.execute(DELETE_USER, {"of_uid": uid})

    def add_token(self, token: Token) -> int:
        """``token.id`` is not used; returns the id given."""
        token_id: int = self._connection.execute(ADD_TOKEN, _token_values(token)).scalar_one()
        return token_id

    def by_token_hash(self, digest: str) -> tuple[Token, User] | None:
        found = self.caller(digest)
        return found[:2] if found is not None else None

    def caller(self, digest: str) -> tuple[Token, User, int, Mapping[str, tuple[str, ...]]] | None:
        found, roles = self._lane.rows_of_all((CALLER, ROLES_OF_CALLER), {"digest": digest})
        if not found:
            return None
        (row,) = found
        width = len(_TOKEN)
        token, user = list(row[:width]), row[width:-1]
        for number in _LISTS:
            token[number] = tuple(json_of(token[number]))
        return Token(*token), User(*user), row[-1], _grouped(roles)

    def tokens(self, uid: str) -> list[Token]:
        return [_token(row) for row in self._connection.execute(TOKENS, {"uid": uid})]

    def all_tokens(self, *, prefix: str = "", before: int | None = None, limit: int = 50) -> list[tuple[Token, User]]:
        where = {"prefix": prefix, "before": _LARGEST_ID if before is None else before, "limit": limit}
        return [(_token(row), _user(row)) for row in self._connection.execute(ALL_TOKENS, where)]

    def delete_token(self, uid: str, token_id: int) -> bool:
        return self._connection.execute(DELETE_TOKEN, {"token_id": token_id, "of_uid": uid}).rowcount == 1

    def replace_token(self, token: Token) -> None:
        values = {name: getattr(token, name) for name in _RENEWED}
        if self._connection.execute(RENEW, values | {"token_id": token.id}).rowcount != 1:
            raise NotFound("token", str(token.id))

    def delete_sessions(self, uid: str, *, but: int = 0, ended: float | None = None) -> None:
        where = {"of_uid": uid, "but": but}
        if ended is None:
            self._connection.execute(END_SESSIONS, where)
        else:
            self._connection.execute(END_OLD_SESSIONS, where | {"ended": ended})

    def touch_tokens(self, used: Mapping[int, float]) -> None:
        if used:
            # In one order: two servers that write at once do not wait for each other in a ring.
            rows = [{"token_id": token_id, "at": at} for token_id, at in sorted(used.items())]
            self._connection.execute(TOUCH, rows)

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

    # -- logging in

    def failures(self, names: Sequence[str], since: float) -> Mapping[str, tuple[int, float]]:
        found = {}
        for name in names:
            row = self._connection.execute(FAILURES, {"name": name, "old": since}).one_or_none()
            if row is not None:
                found[name] = (row.failures, row.since)
        return found

    def fail(self, names: Sequence[str], now: float, since: float) -> None:
        self._connection.execute(FORGET_FAILURES, {"old": since})
        for name in sorted(names):  # in one order: two servers that count at once do not wait for each other in a ring
            self._connection.execute(FAIL, {"name": name, "now": now, "old": since})

    def forgive(self, names: Sequence[str], *, all_of: Sequence[str] = ()) -> None:
        for name, statement in sorted(
            [*((name, FORGIVE) for name in names), *((name, FORGIVE_ALL) for name in all_of)], key=itemgetter(0)
        ):
            self._connection.execute(statement, {"at": name})

    def has_come_from(self, uid: str, address: str, since: float) -> bool:
        at = self._connection.execute(CAME, {"uid": uid, "address": address}).scalar_one_or_none()
        return at is not None and at >= since

    def came_from(self, uid: str, address: str, now: float, since: float) -> None:
        self._connection.execute(FORGET_PLACES, {"of_uid": uid, "old": since})
        self._connection.execute(COME, {"uid": uid, "address": address, "at": now})

    def spend(self, digest: str, until: float, now: float) -> bool:
        self._connection.execute(FORGET_SPENT, {"old": now})
        return self._connection.execute(SPEND, {"digest": digest, "until": until}).one_or_none() is not None


def _grouped(pairs: Sequence[Sequence[Any]]) -> Mapping[str, tuple[str, ...]]:
    groups: dict[str, list[str]] = {}
    for key, role in pairs:
        groups.setdefault(key, []).append(role)
    return {key: tuple(roles) for key, roles in groups.items()}
