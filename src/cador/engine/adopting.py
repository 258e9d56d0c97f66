"""Adopt: attach to executions that no server follows, give up those that nobody reaches, end what no row knows of."""

import asyncio
from collections.abc import Set
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from cador.domain.errors import Unavailable
from cador.engine.following import Follower
from cador.engine.outside import AGAIN_S, LOOK_S, Outside, loop_time
from cador.engine.preparing import Loaded
from cador.ports.actions import SERVER
from cador.ports.executor import Unreachable
from cador.ports.peers import Replica
from cador.ports.stores import CommandRow, ExecutionRow, Tx, brief

if TYPE_CHECKING:
    from cador.engine.room import Room

log = structlog.get_logger(__name__)

SWEEP_AGAIN_S: Final = 10.0
"""Pause before an executor that was away is asked again what it has."""


class Adopter:
    def __init__(self, outside: Outside, follower: Follower) -> None:
        self._outside, self._follower = outside, follower
        self._engine = outside.engine
        self._taking: set[str] = set()
        self._unswept = False
        """Some executor was away when it was asked what it has."""
        self._sweeping: object | None = None

    async def adopt_free(self, *, sweep: bool = False) -> None:
        """Attach to the executions that no server follows. *sweep*: also end what runs outside and no row knows of."""
        found = await self._existing() if sweep else {}
        rows, pending = await self._engine.db.read(_live, starts=sweep)
        free = [row for row in rows if not row.owner and not self._follower.follows(row.key)]
        for row in free:
            if row.key in self._taking:
                continue
            self._taking.add(row.key)
            if self._outside.reaches(row):
                room = self._engine.capacity.adopted()
                after = partial(self._taken, row.key, room)
                self._engine.spawn(f"adopt {row.key}", self._adopt, row, room, after=after)
            else:
                after = partial(self._taken, row.key)
                self._engine.spawn(f"lose {row.key}", self._lose, row, after=after)
        live = {row.key for row in rows} | {self._outside.key(*ids) for ids in pending}
        for name, keys in found.items():
            if orphans := keys - live:
                try:
                    swept = await self._outside.executors[name].sweep(orphans)
                except (OSError, Unreachable) as error:
                    self._sweep_later(name, error)
                else:
                    log.info("orphans_swept", executor=name, keys=sorted(swept))

    async def _existing(self) -> dict[str, Set[str]]:
        """What there is outside; nothing of an executor that is away."""
        found = {}
        for name, executor in self._outside.executors.items():
            try:
                found[name] = await executor.existing()
            except (OSError, Unreachable) as error:
                self._sweep_later(name, error)
        return found

    def _sweep_later(self, name: str, error: Exception) -> None:
        """An executor that is away keeps no server from starting; what is left there is ended when it is back."""
        log.warning("sweep_failed", executor=name, error=repr(error))
        self._unswept = True
        if self._sweeping is None:
            self._sweeping = turn = object()
            self._engine.spawn("sweep", self._sweep_again, after=partial(self._swept, turn))

    async def _sweep_again(self) -> None:
        """One for all that are away, or each would ask all of them."""
        while self._unswept:
            self._unswept = False
            await asyncio.sleep(SWEEP_AGAIN_S)
            try:
                await self.adopt_free(sweep=True)
            except Unavailable:
                self._unswept = True
        self._sweeping = None

    def _swept(self, turn: object) -> None:
        if self._sweeping is turn:  # it was cancelled
            self._sweeping = None

    def _taken(self, key: str, room: "Room | None" = None) -> None:
        self._taking.discard(key)
        if room is not None:
            room.free()

    async def take_up(self, command: CommandRow) -> None:
        """Follow what a ``start`` began, if its commit was made and nobody heard of it."""
        payload = command.payload
        key = self._outside.key(int(payload["job_id"]), int(payload["attempt"]), int(payload["recovery"]))
        while True:
            try:
                row = await self._engine.db.read(_execution, key)
            except Unavailable:
                await asyncio.sleep(AGAIN_S)
            else:
                break
        if row is not None and row.owner == command.owner and key not in self._taking:
            self._taking.add(key)
            room = self._engine.capacity.adopted()
            self._engine.spawn(f"adopt {key}", self._adopt, row, room, after=partial(self._taken, key, room))

    async def _adopt(self, row: ExecutionRow, room: "Room") -> None:
        ours = await self._take_on(row)
        if ours is None:
            return  # another server was faster, or it is over
        row, loaded = ours
        self._engine.meter.recovered("adopted", 1)
        log.info("execution_adopted", key=row.key)
        prepared = None
        if loaded is not None:
            try:
                prepared = self._outside.preparer.prepare(loaded, begun=True)
            except Exception as error:  # an edge: it may be of another version, and must not stay for ever
                log.warning("adopted_job_not_prepared", key=row.key, error=repr(error))
        if prepared is None:
            # Nobody can follow it, so it must not run on beside its repetition.
            await self._follower.kill(self._outside.executors[row.executor], row.key, row.ref)
            await self._follower.tell_lost(row, "")
            return
        await self._follower.follow(row, prepared, room, adopted=True)

    async def _take_on(self, row: ExecutionRow) -> tuple[ExecutionRow, Loaded | None] | None:
        me, load = self._engine.me, self._outside.preparer.load
        while True:
            try:
                if not await self._engine.db.write(_take, row, me, self._outside.home):
                    return None
                loaded = await self._engine.db.read(load, row.task_id, row.job_id)
            except Unavailable:
                await asyncio.sleep(AGAIN_S)
            else:
                return replace(row, owner=me), loaded

    async def _lose(self, row: ExecutionRow) -> None:
        """Nobody here reaches that place. It may only be away for a moment, so the job is not run again; and while a
        server of that machine lives, it is that one's. Only what nobody had for all of the time is lost: a server that
        came back, and is just being started again, had it."""
        until = loop_time() + self._outside.lost_after_s
        while (left := until - loop_time()) > 0:
            await asyncio.sleep(min(LOOK_S, left))
            try:
                known, neighbours = await self._engine.db.read(_missed, row.key)
            except Unavailable:
                until = loop_time() + self._outside.lost_after_s  # that machine could not show itself either
                continue
            if known is None or known.owner:
                return
            if self._outside.reached_by(row, neighbours):
                until = loop_time() + self._outside.lost_after_s
        # What the server itself did ended with it: nobody followed it for all of the time.
        await self._follower.tell_lost(row, "" if row.executor == SERVER else f"lost executor: {row.place}")


# -- transactions


@brief
def _execution(tx: Tx, key: str) -> ExecutionRow | None:
    return tx.executions.get(key)


@brief
def _take(tx: Tx, row: ExecutionRow, me: str, home: str) -> bool:
    """Whether it is *me*'s from now on; it may have been so already, when only the reply was lost."""
    ours = tx.executions.adopt(row.key, me) or tx.executions.hold(row.key, me)
    if ours and home:
        tx.homes.hold(row.job_id, row.attempt, home)
    return ours


def _missed(tx: Tx, key: str) -> tuple[ExecutionRow | None, list[Replica]]:
    return tx.executions.get(key), tx.replicas.list_replicas()


def _live(tx: Tx, *, starts: bool) -> tuple[list[ExecutionRow], list[tuple[int, int, int]]]:
    """All executions, and if *starts* the ids of those that may have begun one already."""
    return tx.executions.list_executions(), tx.commands.pending_starts() if starts else []
