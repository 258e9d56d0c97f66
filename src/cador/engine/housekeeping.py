"""What old tasks and deleted workflows leave goes a little at a time: each step is a short transaction.

Three things, none of which is lost by a crash in the middle. *Burying* a deleted workflow: its tasks are cancelled,
taken out of sight, and removed when they are over. *Keeping house*, once an hour on one server of all: tasks that are
older or more than is wished for are archived, and removed later still. *Clearing*, on every server: logs and artifacts
of tasks that were archived or removed are deleted from its own disk.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from cador.domain import events as ev
from cador.domain.commands import Bury, Housekeep
from cador.domain.errors import Unavailable
from cador.engine.hearing import Claim, Ear, Outcome
from cador.ports.blobs import BlobStore
from cador.ports.housekeeping import Place, Remains
from cador.ports.logs import LogStore
from cador.ports.stores import CommandRow, Tx

if TYPE_CHECKING:
    from cador.engine.engine import Engine

log = structlog.get_logger(__name__)

SYSTEM: Final = "system"
"""Who cancels the tasks of a workflow that is deleted."""
STORED: Final = "retention"
"""Name of the stored limits among the facts of the installation."""
HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0
CLEAR_S: Final = 600.0
"""How long a server waits at most before it looks what is to be deleted from its disk."""
BURY_AGAIN_S: Final = 10.0
"""Pause before a burial looks again whether the last jobs are down."""
ABANDONED_S: Final = 30 * DAY_S
"""What a server did not clear for so long any other takes for its own: its disk is gone, a shared store is not."""
CANCELS: Final = 25
MARKS: Final = 500
ARCHIVES: Final = 200
REMOVES: Final = 20
"""Tasks of one transaction; removing one takes all its rows along."""
CLEARS: Final = 50
_FIRST: Final = Place(float("-inf"), 0)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long tasks are kept; 0 is for ever. ``max_days``, ``max_items_per_workflow``: what is over and older, or not
    among the newest so many of its workflow, is archived: out of the lists, its logs and artifacts deleted, found by
    its number. ``purge_days``: so many days after that nothing is left of it."""

    max_days: int = 365
    max_items_per_workflow: int = 0
    purge_days: int = 0


def stored_retention(tx: Tx) -> dict[str, int]:
    """What was set while servers run, by field of :class:`Retention`: it counts before the settings."""
    text = tx.meta.get(STORED)
    return msgspec.json.decode(text, type=dict[str, int]) if text is not None else {}


class Housekeeping:
    def __init__(
        self,
        engine: "Engine",
        *,
        logs: LogStore,
        blobs: BlobStore,
        home: str,
        retention: Callable[[], Retention] | None,
    ) -> None:
        """*home*: name of this server's data folder among several, ``""`` when it is the only one. *retention*: of the
        settings; None: nothing grows old here."""
        self._engine = engine
        self._logs, self._blobs, self._home = logs, blobs, home
        self._retention = retention
        self._left = asyncio.Event()

    @property
    def configured(self) -> Retention:
        """Of the settings of this server."""
        return self._retention() if self._retention is not None else Retention(0, 0, 0)

    # -- once an hour, on one server

    async def arm(self) -> None:
        """See to it that the house is kept. Of several servers the first one is enough."""
        if self._retention is not None:
            await self._engine.db.write(_arm)

    async def keep(self, row: CommandRow) -> None:
        """Carry out a ``housekeep``, and leave the next one. A second server that does the same at the same time, after
        a takeover, finds what is left."""
        db = self._engine.db
        if self._retention is not None:
            wished = replace(self._retention(), **await db.read(stored_retention))
            now = self._engine.clock.now()
            archived = await self._archive(wished, now)
            removed = 0
            if wished.purge_days:
                while count := await db.write(_purge, now - wished.purge_days * DAY_S):
                    removed += count
            while count := await db.write(_sweep, ""):
                removed += count
            if archived or removed:
                log.info("house_kept", archived=archived, removed=removed)
        await self._engine.transact(_next_hour, row, starts=0)
        self._left.set()

    async def _archive(self, wished: Retention, now: float) -> int:
        db, archived = self._engine.db, 0
        if wished.max_days:
            place: Place | None = _FIRST
            while place is not None:
                place, count = await db.write(_archive_older, now - wished.max_days * DAY_S, place)
                archived += count
        most = wished.max_items_per_workflow
        if most:
            for workflow in await db.read(lambda tx: tx.housekeeping.overfull(most)):
                place = _FIRST
                while place is not None:
                    place, count = await db.write(_archive_surplus, workflow, most, place)
                    archived += count
        return archived

    # -- a deleted workflow

    async def bury(self, row: CommandRow) -> None:
        """Carry out a ``bury``: again and again until nothing of the workflow's tasks is left."""
        workflow, last = str(row.payload["workflow"]), int(row.payload["last"])
        burial: Burial | None = Burial(workflow, last)
        while burial is not None:
            burial = await self._engine.transact(bury_more, burial, starts=0)
        while await self._engine.db.write(_sweep, workflow):
            self._left.set()
        await self._engine.transact(_bury_on, row, workflow, last, starts=0)

    # -- what lies on the disk, on every server

    async def clear_for_ever(self) -> None:
        """Delete what is left of tasks, as soon as this server let go of them, and what others noted in time."""
        while True:
            self._left.clear()
            try:
                await self.clear()
            except Unavailable as error:
                log.warning("database_away", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLEAR_S * random.uniform(0.5, 1.0)):  # noqa: S311
                    await self._left.wait()

    async def clear(self) -> None:
        """Delete all that can be deleted here; what cannot now stays noted."""
        after = 0
        while True:
            abandoned = self._engine.clock.now() - ABANDONED_S
            found = await self._engine.db.read(_remains, self._home, abandoned, after)
            if not found:
                return
            after = found[-1].id
            cleared = await asyncio.to_thread(self._delete, found)
            await self._engine.db.write(_cleared, cleared)

    def _delete(self, found: list[Remains]) -> list[int]:
        """Logs and artifacts of those tasks; returns the ids of what is gone."""
        cleared = []
        for one in found:
            try:
                self._logs.delete(one.workflow, one.number)
                self._blobs.delete(f"tasks/{one.workflow}/{one.number}")
            except OSError as error:
                log.warning("remains_not_deleted", task=f"{one.workflow}:{one.number}", error=str(error))
            else:
                cleared.append(one.id)
        return cleared


# -- transactions


@dataclass(frozen=True, slots=True)
class Burial:
    """How far it is: of the tasks of *workflow* up to number *last* those up to *after* are out of sight."""

    workflow: str
    last: int
    after: int = 0


def bury(tx: Tx, ear: Ear, workflow: str) -> Burial | None:
    """Begin to bury a workflow that is being deleted, its row held: as much as one transaction may do. The rest is done
    by a command, or at once by :func:`bury_more`; None: nothing is left to be seen."""
    burial = Burial(workflow, tx.housekeeping.bury(workflow))
    ear.command(0, (Bury(workflow, burial.last, tx.now),))
    return _bury_some(tx, ear, burial)


def bury_more(tx: Tx, claim: Claim, burial: Burial) -> Outcome[Burial | None]:
    """Go on; None when all is out of sight."""
    ear = Ear(tx, claim)
    tx.housekeeping.hold_burial(burial.workflow)
    return ear.outcome(_bury_some(tx, ear, burial))


def _bury_some(tx: Tx, ear: Ear, burial: Burial) -> Burial | None:
    workflow, last = burial.workflow, burial.last
    unfinished = tx.housekeeping.uncancelled(workflow, last, CANCELS)
    for task_id in unfinished:
        ear.hear(task_id, ev.CancelRequested(tx.now, "", SYSTEM))
    marked = tx.housekeeping.mark(workflow, burial.after, last, MARKS)
    if marked is not None:
        return replace(burial, after=marked)
    return burial if len(unfinished) == CANCELS else None


def _bury_on(tx: Tx, claim: Claim, row: CommandRow, workflow: str, last: int) -> Outcome[None]:
    ear = Ear(tx, claim)
    ear.settle(row)
    if tx.housekeeping.pending(workflow):
        ear.command(0, (Bury(workflow, last, tx.now + BURY_AGAIN_S),))
    return ear.outcome(None)


def _arm(tx: Tx) -> None:
    tx.commands.add(0, (Housekeep(tx.now + HOUR_S * random.uniform(0.1, 1.0)),), tx.now)  # noqa: S311


def _next_hour(tx: Tx, claim: Claim, row: CommandRow) -> Outcome[None]:
    ear = Ear(tx, claim)
    ear.settle(row)
    ear.command(0, (Housekeep(tx.now + HOUR_S * random.uniform(0.9, 1.1)),))  # noqa: S311
    return ear.outcome(None)


def _archive_older(tx: Tx, before: float, after: Place) -> tuple[Place | None, int]:
    return _put_away(tx, tx.housekeeping.older(before, after, ARCHIVES))


def _archive_surplus(tx: Tx, workflow: str, most: int, after: Place) -> tuple[Place | None, int]:
    edge = tx.housekeeping.edge(workflow, most)
    return _put_away(tx, tx.housekeeping.surplus(workflow, edge, after, ARCHIVES) if edge is not None else [])


def _put_away(tx: Tx, places: list[Place]) -> tuple[Place | None, int]:
    """Archive the tasks there; returns from where to go on, and how many these were."""
    if not places:
        return None, 0
    ids = [place.id for place in places]
    tx.housekeeping.archive(ids, tx.now)
    tx.commits.forget(ids)
    tx.housekeeping.leave(ids, tx.now)
    return places[-1], len(ids)


def _purge(tx: Tx, before: float) -> int:
    ids = tx.housekeeping.archived_before(before, REMOVES)
    tx.housekeeping.remove(ids)
    return len(ids)


def _sweep(tx: Tx, workflow: str) -> int:
    """Remove deleted tasks that are over; *workflow* empty: of any."""
    ids = tx.housekeeping.deleted(REMOVES, workflow)
    tx.housekeeping.leave(ids, tx.now)
    tx.housekeeping.remove(ids)
    return len(ids)


def _remains(tx: Tx, home: str, abandoned: float, after: int) -> list[Remains]:
    return tx.housekeeping.remains(home, abandoned, after, CLEARS)


def _cleared(tx: Tx, ids: list[int]) -> None:
    tx.housekeeping.cleared(ids)
