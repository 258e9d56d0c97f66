"""Commands: what must still be done outside, and every timer."""

import secrets
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, get_args

from sqlalchemy import Connection, and_, bindparam, case, delete, exists, func, or_, select, union_all, update

from cador.domain.commands import Admit, Command, Forget, Start, Timer
from cador.ports.stores import HERE, CommandRow
from cador.storage import dialect
from cador.storage.dialect import AnyRow, json_of, json_text, kind_of
from cador.storage.lane import Lane
from cador.storage.replicas import CONDEMNED
from cador.storage.tables import COMMAND_ADMIT, COMMAND_FREE_OTHER, COMMAND_FREE_START, replica, word
from cador.storage.tables import command as c

KINDS: Final[Mapping[type, str]] = {kind: kind_of(kind) for kind in get_args(Command) if kind is not Forget}

LONGEST_PAUSE_S: Final = 90.0
"""No command but a timer and a delivery is put off for longer than this."""
LONGEST_DELIVERY_PAUSE_S: Final = 4 * 3600.0

_VALUES: Final[dict[str, Any]] = {
    name: bindparam(name) for name in ("key", "kind", "task_id", "payload", "due_at", "owner", "tries")
}  # fmt: skip
INSERT: Final = dialect.insert(c).values(_VALUES).on_conflict_do_nothing(index_elements=[c.c.key])
INSERT_MINE: Final = INSERT.returning(c.c.id)
FORGET: Final = delete(c).where(c.c.key == bindparam("key"))


def _free(condition: Any) -> Any:
    return (
        select(c.c.id, c.c.due_at)
        .where(condition, c.c.due_at <= bindparam("now"))
        .order_by(c.c.due_at, c.c.id)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)  # replicas pass each other by; SQLite ignores it and has one writer
    )


# Two statements, an index each: starts that wait for room are not gone through on the way to a timer.
FREE_STARTS: Final = _free(COMMAND_FREE_START)
FREE_OTHERS: Final = _free(COMMAND_FREE_OTHER)
CLAIM: Final = (
    update(c).where(c.c.id.in_(bindparam("ids", expanding=True))).values(owner=bindparam("me")).returning(*c.c)
)
DELETE: Final = delete(c).where(c.c.id == bindparam("command_id"), c.c.owner == bindparam("me"))
DELETE_ADMITS: Final = delete(c).where(COMMAND_ADMIT)
POSTPONE: Final = (
    update(c)
    .where(c.c.id == bindparam("command_id"), c.c.owner == bindparam("me"))
    .values(owner="", tries=c.c.tries + bindparam("tried"), due_at=bindparam("at"), place=bindparam("where_begun"))
)
# Whoever has it after the first may only wait for that one's machine: the first place stays.
_unplaced = and_(c.c.kind == word("start"), c.c.place == word(""))
_its_place = func.coalesce(select(replica.c.place).where(replica.c.id == c.c.owner).scalar_subquery(), c.c.place)
RELEASE: Final = (
    update(c)
    .where(c.c.owner == bindparam("gone"), c.c.owner != word(""))
    .values(owner="", place=case((_unplaced, _its_place), else_=c.c.place))
)
RELEASE_OTHERS: Final = (
    update(c)
    .where(c.c.owner != bindparam("me"), c.c.owner != word(""))
    .values(owner="", place=case((_unplaced, word(HERE)), else_=c.c.place))
)
RELEASE_UNKNOWN: Final = (
    update(c).where(c.c.owner != word(""), c.c.owner.not_in(select(replica.c.id))).values(owner="")
)  # fmt: skip
OWNED: Final = select(c.c.id).where(c.c.owner == bindparam("me"))
GIVE_BACK: Final = (
    update(c).where(c.c.owner == bindparam("me"), c.c.id.in_(bindparam("ids", expanding=True))).values(owner="")
)
OWNS: Final = select(c.c.id).where(
    c.c.id == bindparam("command_id"),
    c.c.owner == bindparam("me"),
    exists(select(replica.c.id).where(replica.c.id == c.c.owner, replica.c.seen_at > CONDEMNED)),
)
TAKE: Final = delete(c).where(
    c.c.key == bindparam("stored_key"), c.c.owner == word(""), c.c.place == word("")
)  # fmt: skip
FIND: Final = select(*c.c).where(c.c.key == bindparam("stored_key"))
CLAIM_ONE: Final = (
    update(c)
    .where(c.c.key == bindparam("stored_key"), c.c.owner == word(""))
    .values(owner=bindparam("me"))
    .returning(*c.c)
)
_AT_ONCE: Final = [name for kind, name in KINDS.items() if not issubclass(kind, Timer)]
HURRY: Final = (
    update(c)
    .where(
        c.c.owner == word(""),
        c.c.kind.in_(_AT_ONCE),
        or_(
            and_(c.c.tries == 0, c.c.due_at > bindparam("now")),
            and_(c.c.kind != word("deliver"), c.c.due_at > bindparam("now") + LONGEST_PAUSE_S),
            c.c.due_at > bindparam("now") + LONGEST_DELIVERY_PAUSE_S,
        ),
    )
    .values(due_at=bindparam("now"))
)
STARTS: Final = select(c.c.payload).where(c.c.kind == word("start")).order_by(c.c.id)
_due = union_all(
    *(
        select(func.min(c.c.due_at).label("at")).where(condition)
        for condition in (COMMAND_FREE_START, COMMAND_FREE_OTHER)
    )
).subquery()
NEXT_DUE: Final = select(func.min(_due.c.at))
NEXT_TIMER: Final = select(func.min(c.c.due_at)).where(COMMAND_FREE_OTHER)


def _row(row: AnyRow) -> CommandRow:
    return CommandRow(
        row.id, row.key, row.kind, row.task_id, json_of(row.payload), row.due_at, row.owner, row.tries, row.place
    )  # fmt: skip


class Commands:
    """Implements ``ports.stores.CommandStore``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lane = Lane(connection)

    def add(
        self, task_id: int, commands: Iterable[Command], now: float, *, me: str = "", claim: int = 0
    ) -> list[CommandRow]:
        forgotten: list[str] = []
        rows: dict[str, dict[str, Any]] = {}
        for command in commands:
            if isinstance(command, Forget):
                key = f"{task_id}/{command.key}"
                rows.pop(key, None)
                forgotten.append(key)
                continue
            if isinstance(command, Admit):
                # Each wake has its own row: one that comes while a pass is being committed is not lost in it.
                key = f"{task_id}/admit:{secrets.token_hex(8)}"
            else:
                key = f"{task_id}/{command.key}"
            owner, due_at = me, now
            if isinstance(command, Timer):
                owner, due_at = "", command.due_at
            elif isinstance(command, Start) and me:
                if claim > 0:
                    claim -= 1
                else:
                    owner = ""
            rows[key] = {
                "key": key,
                "kind": KINDS[type(command)],
                "task_id": task_id,
                "payload": json_text(command),
                "due_at": due_at,
                "owner": owner,
                "tries": 0,
            }
        lane = self._lane
        lane.change_each(FORGET, [{"key": key} for key in forgotten])
        lane.change_each(INSERT, [row for row in rows.values() if not row["owner"]])
        mine: list[CommandRow] = []
        for row in rows.values():
            if not row["owner"]:
                continue
            command_id = lane.value(INSERT_MINE, row)
            if command_id is not None:  # else it is there already, and somebody else's
                payload = json_of(row["payload"])
                mine.append(
                    CommandRow(command_id, row["key"], row["kind"], task_id, payload, row["due_at"], me, 0)
                )  # fmt: skip
        return mine

    def claim(self, me: str, now: float, limit: int, *, starts: int) -> list[CommandRow]:
        due: list[tuple[Any, ...]] = []
        if limit > 0:
            due += self._lane.rows(FREE_OTHERS, {"now": now, "limit": limit})
        if min(starts, limit) > 0:
            due += self._lane.rows(FREE_STARTS, {"now": now, "limit": min(starts, limit)})
        if not due:
            return []
        ids = [command_id for _, command_id in sorted((due_at, command_id) for command_id, due_at in due)[:limit]]
        claimed = self._connection.execute(CLAIM, {"me": me, "ids": ids})
        return sorted(map(_row, claimed), key=lambda row: (row.due_at, row.id))

    def hurry(self, now: float) -> None:
        self._connection.execute(HURRY, {"now": now})

    def delete(self, command_id: int, me: str) -> bool:
        return self._lane.changed(DELETE, {"command_id": command_id, "me": me}) == 1

    def delete_admits(self) -> int:
        return self._lane.changed(DELETE_ADMITS)

    def postpone(self, command_id: int, me: str, due_at: float, place: str = "", *, tried: bool = True) -> bool:
        values = {"command_id": command_id, "me": me, "at": due_at, "where_begun": place, "tried": int(tried)}
        return self._connection.execute(POSTPONE, values).rowcount == 1

    def release(self, owner: str) -> int:
        return self._connection.execute(RELEASE, {"gone": owner}).rowcount

    def release_others(self, me: str) -> int:
        return self._connection.execute(RELEASE_OTHERS, {"me": me}).rowcount

    def release_unknown(self) -> int:
        return self._connection.execute(RELEASE_UNKNOWN).rowcount

    def owned(self, me: str) -> set[int]:
        return set(self._connection.execute(OWNED, {"me": me}).scalars())

    def owns(self, command_id: int, me: str) -> bool:
        return self._connection.execute(OWNS, {"command_id": command_id, "me": me}).one_or_none() is not None

    def give_back(self, me: str, ids: Collection[int]) -> None:
        self._connection.execute(GIVE_BACK, {"me": me, "ids": list(ids)})

    def take_unowned(self, key: str) -> bool:
        return self._connection.execute(TAKE, {"stored_key": key}).rowcount == 1

    def find(self, key: str) -> CommandRow | None:
        row = self._connection.execute(FIND, {"stored_key": key}).one_or_none()
        return _row(row) if row is not None else None

    def claim_one(self, key: str, me: str) -> CommandRow | None:
        row = self._connection.execute(CLAIM_ONE, {"stored_key": key, "me": me}).one_or_none()
        return _row(row) if row is not None else None

    def pending_starts(self) -> list[tuple[int, int, int]]:
        payloads = (json_of(text) for text in self._connection.execute(STARTS).scalars())
        return [(start["job_id"], start["attempt"], start["recovery"]) for start in payloads]

    def next_due(self, *, starts: bool = True) -> float | None:
        due: float | None = self._lane.value(NEXT_DUE if starts else NEXT_TIMER)
        return due
