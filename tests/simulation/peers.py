"""Membership among simulated processes: what ``storage/peers.py`` does with PostgreSQL, by the same rules and with the
same transactions, but with locks and news of this simulation."""

import asyncio
import random
import uuid
from collections.abc import Callable, Collection
from typing import Any, Final

from cador.domain.errors import Unavailable
from cador.ports.peers import Heard, Replica
from cador.storage.peers import PROBE_S, _condemn, _release_unknown, _take_over
from simulation.database import SimulatedDatabase
from simulation.loop import Process, SeededLoop

TIMEOUT_S: Final = 12.0
"""Without a heartbeat for so long a process is declared dead; its own lease is three quarters of that."""


class Cluster:
    """The session locks of the database, and the way news take."""

    def __init__(
        self, loop: SeededLoop, db: SimulatedDatabase, clock: Callable[[], float], dice: random.Random
    ) -> None:
        self.loop, self.db, self.clock, self.dice = loop, db, clock, dice
        self.locks: dict[str, Term] = {}
        self.terms: list[Term] = []
        self.away = False
        """Nobody reaches the database."""
        self.losing = 0.0
        """Share of the news that never arrive."""

    def unlock(self, term: "Term") -> None:
        if self.locks.get(term.me) is term:
            del self.locks[term.me]

    def news(self, sender: "Term", tasks: frozenset[int], work: bool) -> None:
        for term in self.terms:
            if term is not sender and term.process.alive and not term.broken and self.dice.random() >= self.losing:
                self.loop.call_later(
                    self.dice.random() * 0.05, term.peers.heard, tasks, work, context=term.process.context
                )


class SimulatedPeers:
    """Implements ``ports.peers.Peers``."""

    alone = False

    def __init__(self, cluster: Cluster, process: Process, place: str) -> None:
        self.cluster, self.process, self.place = cluster, process, place
        self.heard: Heard = lambda tasks, work: None
        self.term: Term | None = None

    async def join(self) -> str:
        if self.term is not None:
            self.term.end()
            self.term = None
        # The way there and back takes a while: it is a thread that does all this.
        await asyncio.sleep(self.cluster.dice.random() * 0.05)
        term = Term(self, uuid.uuid4().hex)
        term.begin()
        await asyncio.sleep(self.cluster.dice.random() * 0.05)
        self.term = term
        return term.me

    async def lost(self) -> str:
        assert self.term is not None
        return await asyncio.shield(self.term.over)

    def holds(self) -> bool:
        return self.term is not None and self.term.holds()

    async def leave(self) -> None:
        term, self.term = self.term, None
        if term is not None:
            await asyncio.sleep(self.cluster.dice.random() * 0.05)
            term.end()

    def listen(self, heard: Heard) -> None:
        self.heard = heard

    def tell(self, tasks: Collection[int], *, work: bool) -> None:
        if self.term is not None and not self.term.broken:
            self.cluster.news(self.term, frozenset(tasks), work)


class Term:
    """One membership. What is a thread in a server is a timer of its process here."""

    def __init__(self, peers: SimulatedPeers, me: str) -> None:
        self.peers, self.me = peers, me
        self.process, self.cluster = peers.process, peers.cluster
        self.over: asyncio.Future[str] = self.cluster.loop.create_future()
        self.broken = False
        self.cut = False
        """The connection is gone, and with it the lock; the process does not know it yet."""
        self._stores = self.cluster.db.stores()
        self._lapsed = False
        self._beat_at = 0.0
        self._looks = 0
        self._timer: asyncio.TimerHandle | None = None

    def holds(self) -> bool:
        if self.cluster.loop.time() - self._beat_at >= 0.75 * TIMEOUT_S:
            self._lapsed = True
        return not (self.broken or self._lapsed)

    def begin(self) -> None:
        """Raises: Unavailable."""
        self._connected()
        self.cluster.locks[self.me] = self
        self._beat_at = self.cluster.loop.time()
        now = self.cluster.clock()
        self._transact(lambda stores: stores.replicas.add(Replica(self.me, self.peers.place, "", now, now)))
        self._look()
        self.cluster.terms.append(self)
        self.process.at_death.append(lambda: self.cluster.unlock(self))
        self._later()

    def end(self) -> None:
        if not self.broken:
            try:
                self._connected()
                self._transact(lambda stores: _take_over(stores, self.me))
                self.peers.tell((), work=True)
            except Unavailable:
                pass  # the others will find that the lock is free
            self._break("it left")

    def lose(self) -> None:
        """The connection breaks: the lock is free at once, the process hears of it when it looks next."""
        self.cut = True
        self.cluster.unlock(self)

    def _later(self) -> None:
        self._timer = self.cluster.loop.call_later(PROBE_S, self._turn, context=self.process.context)

    def _turn(self) -> None:
        if self.broken:
            return
        try:
            self._connected()
            now = self.cluster.loop.time()
            if not self.holds():
                self._break("it was stopped for longer than its lease")
                return
            if now - self._beat_at >= TIMEOUT_S / 12:
                seen = self.cluster.clock()
                if not self._transact(lambda stores: stores.replicas.beat(self.me, seen)):
                    self._break("the others took it for dead")
                    return
                self._beat_at = now
            if self._looks % 10 == 0:
                self._transact(_release_unknown)
            self._looks += 1
            self._look()
        except Unavailable:
            self._break("the connection that proves that it lives is gone")
            return
        self._later()

    def _look(self) -> None:
        freed = False
        for one in self._transact(lambda stores: stores.replicas.list_replicas()):
            if one.id == self.me:
                continue
            held = one.id in self.cluster.locks
            if held and self.cluster.clock() - one.seen_at < TIMEOUT_S:
                continue
            self._transact(lambda stores, gone=one.id: _condemn(stores, gone))
            if self.cluster.dice.random() < 0.5:
                freed = self._transact(lambda stores, gone=one.id: _take_over(stores, gone)) or freed
            else:  # others come in between
                delay = self.cluster.dice.random() * 0.05
                self.cluster.loop.call_later(delay, self._take, one.id, context=self.process.context)
        if freed:
            self._tell_freed()

    def _take(self, gone: str) -> None:
        if self.broken or self.cut or self.cluster.away:
            return  # whoever looks next finds it condemned
        if self._transact(lambda stores: _take_over(stores, gone)):
            self._tell_freed()

    def _tell_freed(self) -> None:
        self.cluster.news(self, frozenset(), True)
        self.cluster.loop.call_soon(self.peers.heard, frozenset(), True, context=self.process.context)

    def _connected(self) -> None:
        if self.cut or self.cluster.away:
            raise Unavailable("database: simulated to be away")

    def _transact(self, fn: Callable[[Any], Any]) -> Any:
        result, _ = self.cluster.db.run(self._stores, lambda tx: fn(self._stores), commit=True)
        self.cluster.db.after(self.process, "peers")
        return result

    def _break(self, reason: str) -> None:
        self.broken = True
        self.cluster.unlock(self)
        if self._timer is not None:
            self._timer.cancel()
        if not self.over.done():
            self.over.set_result(reason)
