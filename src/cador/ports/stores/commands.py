"""Commands: what must still be done outside, and every timer."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cador.domain.commands import Command

HERE: Final = "here"
"""The place of the one server of an embedded database."""


@dataclass(frozen=True, slots=True)
class CommandRow:
    """``kind``: name of the command's class in lower snake case; ``payload``: its fields. ``place``: of a ``start``
    that came back from a server: the place of that server, because it may have begun there; ``HERE`` when there is but
    one server; empty: nothing was begun."""

    id: int
    key: str
    kind: str
    task_id: int
    payload: Mapping[str, Any]
    due_at: float
    owner: str
    tries: int
    place: str = ""


class CommandStore(Protocol):
    def add(
        self, task_id: int, commands: Iterable[Command], now: float, *, me: str = "", claim: int = 0
    ) -> list[CommandRow]:
        """Store *commands*; ``Forget`` deletes by key. Keys are stored as ``<task id>/<key>`` and are unique: one that
        is there already is left alone. ``Admit`` gets a row (and a key) of its own each time, due at once.

        At most *claim* of the new ``Start`` rows, and every other row due at once, get the owner *me* and are returned:
        the caller carries them out after the commit. Timers and what is beyond *claim* stay unowned.
        """

    def claim(self, me: str, now: float, limit: int, *, starts: int) -> list[CommandRow]:
        """Take due rows without an owner, oldest first, at most *starts* of kind ``start``, skipping locked ones."""

    def hurry(self, now: float) -> None:
        """The clock was set back: make due what is due at once and seems to be so only later. Timers stay."""

    def delete(self, command_id: int, me: str) -> bool:
        """False: not mine any more (fenced); the caller must abort its transaction."""

    def delete_admits(self) -> int:
        """Delete every ``admit`` row, whoever owns it (call with the admission lock held)."""

    def postpone(self, command_id: int, me: str, due_at: float, place: str = "", *, tried: bool = True) -> bool:
        """Give a row back for later: no owner, ``tries`` + 1 if it was *tried*; *place*: of a start that may have
        begun."""

    def release(self, owner: str) -> int:
        """A server process is gone: its rows are free again. Call it before the row of that member is removed: starts
        keep its place."""

    def release_others(self, me: str) -> int:
        """Every row that has an owner other than *me* is free again (the one process that may run now is *me*); starts
        may have begun ``HERE``."""

    def release_unknown(self) -> int:
        """Every row whose owner is no member is free again: a claim that was committed after its owner's end, so that
        nothing was begun."""

    def owned(self, me: str) -> set[int]:
        """Ids of all rows that *me* owns."""

    def owns(self, command_id: int, me: str) -> bool:
        """Whether the row is *me*'s, and *me* a member: what a server claimed that was declared dead without knowing
        is not, until everybody may have it."""

    def give_back(self, me: str, ids: Collection[int]) -> None:
        """Those of *ids* that *me* owns are free again."""

    def take_unowned(self, key: str) -> bool:
        """Delete the start of that stored key if nobody owns it and it cannot have begun; False: it is not there,
        somebody carries it out, or somebody may have begun it."""

    def find(self, key: str) -> CommandRow | None:
        """By stored key."""

    def claim_one(self, key: str, me: str) -> CommandRow | None:
        """Take the row of that stored key, due or not; None: it is not there, or somebody owns it."""

    def pending_starts(self) -> list[tuple[int, int, int]]:
        """Job id, attempt and recovery of every ``start`` row, owned or not."""

    def next_due(self, *, starts: bool = True) -> float | None:
        """When the next unowned row is due; *starts* False: rows of kind ``start`` do not count."""
