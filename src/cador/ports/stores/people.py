"""Users, their tokens and roles, and how logging in went."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class User:
    """``uid``: UUID text. ``admin``: system administrator. ``password_hash``: empty = cannot log in by password."""

    uid: str
    account: str
    name: str
    email: str = ""
    phone: str = ""
    identity_type: str = "system"
    admin: bool = False
    password_hash: str = ""
    create_at: float = 0.0
    last_login_at: float | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """``hash``: SHA-256 hex of the token text. ``scopes``, ``projects``: empty = all the user may do, everywhere.
    ``kind``: ``api``, or ``session`` of somebody who logged in."""

    id: int
    uid: str
    name: str
    hash: str
    prefix: str
    create_at: float
    expires_at: float | None = None
    last_used_at: float | None = None
    scopes: tuple[str, ...] = ()
    kind: str = "api"
    projects: tuple[str, ...] = ()


class PeopleStore(Protocol):
    def user(self, uid: str) -> User | None: ...

    def by_account(self, account: str) -> User | None: ...

    def users(self, *, account: str = "", name: str = "", offset: int = 0, limit: int = 50) -> tuple[list[User], int]:
        """Page and total; *account* exact, *name* contained."""

    def add_user(self, user: User) -> None:
        """Raises: AlreadyExists."""

    def replace_user(self, user: User) -> None:
        """All but when the user logged in last. Raises: NotFound; AlreadyExists: the account is another user's."""

    def logged_in(self, uid: str, at: float) -> bool:
        """Write down when a user logged in last, and nothing else: others may change the user at that moment. False:
        there is none."""

    def delete_user(self, uid: str) -> None: ...

    def add_token(self, token: Token) -> int: ...

    def by_token_hash(self, digest: str) -> tuple[Token, User] | None: ...

    def caller(self, digest: str) -> tuple[Token, User, int, Mapping[str, tuple[str, ...]]] | None:
        """The same with the version of the configuration (``ResourceStore.version``) and the roles of the user (see
        :meth:`roles`), all at once: every request asks."""

    def tokens(self, uid: str) -> list[Token]: ...

    def all_tokens(self, *, prefix: str = "", before: int | None = None, limit: int = 50) -> list[tuple[Token, User]]:
        """Of all users, newest first. *prefix*: what is shown of them begins so; *before*: keyset, smaller ids."""

    def delete_token(self, uid: str, token_id: int) -> bool: ...

    def replace_token(self, token: Token) -> None:
        """Give the row of that id another text, beginning and end."""

    def delete_sessions(self, uid: str, *, but: int = 0, ended: float | None = None) -> None:
        """End what *uid* logged in with, except the token *but*; *ended*: only those that were over then."""

    def touch_tokens(self, used: Mapping[int, float]) -> None:
        """Write down when tokens were used last, by id; an older time changes nothing."""

    def roles(self, uid: str) -> Mapping[str, tuple[str, ...]]:
        """Role names by project."""

    def bindings(self, project: str) -> Mapping[str, tuple[str, ...]]:
        """Role names by user id."""

    def set_roles(self, uid: str, project: str, roles: Sequence[str]) -> None:
        """Replaces all of that user in that project."""

    def failures(self, names: Sequence[str], since: float) -> Mapping[str, tuple[int, float]]:
        """Failed logins by name and when they began; those that began before *since* do not count."""

    def fail(self, names: Sequence[str], now: float, since: float) -> None:
        """Count one more failed login for each of *names*, and forget what began before *since*."""

    def forgive(self, names: Sequence[str], *, all_of: Sequence[str] = ()) -> None:
        """Take one failed login back for each of *names*, and all of those of *all_of*."""

    def has_come_from(self, uid: str, address: str, since: float) -> bool:
        """Whether *uid* has logged in from *address* after *since*."""

    def came_from(self, uid: str, address: str, now: float, since: float) -> None:
        """Remember it, and forget what is older than *since*."""

    def spend(self, digest: str, until: float, now: float) -> bool:
        """Use up what is good once; False: it was used before. Forgotten after *until*, when it is good no more."""
