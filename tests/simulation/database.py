"""The database of a simulated installation: one SQLite in memory, and what each process sees of it.

A transaction is on its way for a while, runs as a whole, and its reply is on its way for a while. Neither the death nor
a freeze of who asked keeps one that is on its way from being carried out. The stores and the tables are the real ones;
each process has stores of its own, as each has memory of its own.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from cador.domain.errors import Unavailable
from cador.ports.stores import Tx
from cador.storage import sqlite
from cador.storage.database import Stores, Transaction
from cador.storage.errors import OutcomeUnknown
from cador.storage.migrations import create_tables
from simulation.loop import OUTSIDE, Process, SeededLoop

P = ParamSpec("P")
R = TypeVar("R")

Fault = str
"""What befalls one transaction: ``""`` nothing; ``away``: the database is not there; ``twice``: it is taken back and
run again; ``undone``: it is taken back, and nobody says so; ``lost``: it is committed, and nobody says so."""


class _Shared:
    """The one connection of this program. Tables are made once; each run begins with a copy of them."""

    def __init__(self) -> None:
        self.connection = sqlite.engine_for(":memory:").connect()
        self.raw = sqlite.driver(self.connection)
        self.raw.execute("BEGIN")
        create_tables(self.connection)
        self.raw.execute("COMMIT")
        self.empty = self.raw.serialize()


_shared: _Shared | None = None


@dataclass(slots=True)
class _Work:
    process: Process
    stores: Stores
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    writes: bool
    future: asyncio.Future[Any]


def name_of(fn: Any) -> str:
    name: str = getattr(getattr(fn, "func", fn), "__name__", "?")
    return name


class SimulatedDatabase:
    """What all processes share. Hooks, set by who simulates: *fault* (process, name, writes) says what befalls a
    transaction; *before*, *after* (process, name) are called around the commit of each that writes; *delay* gives the
    seconds that a request or a reply is on its way; *watch* is given the
    stores of each process, *begin* is called as each transaction begins."""

    def __init__(self, loop: SeededLoop, clock: Callable[[], float]) -> None:
        global _shared
        if _shared is None:
            _shared = _Shared()
        self._loop, self._clock = loop, clock
        self._connection, self._raw = _shared.connection, _shared.raw
        self._raw.deserialize(_shared.empty)
        self._raw.execute("PRAGMA foreign_keys=ON")
        self.fault: Callable[[Process, str, bool], Fault] = lambda process, name, writes: ""
        self.before: Callable[[Process, str], None] = lambda process, name: None
        self.after: Callable[[Process, str], None] = lambda process, name: None
        self.delay: Callable[[], float] = lambda: 0.0
        self.watch: Callable[[Stores], None] = lambda stores: None
        self.begin: Callable[[], None] = lambda: None
        self.commits = 0
        self.late = True
        """Whether what a dead process had on its way is still carried out: a server beside it does so, an embedded
        database dies with the process."""

    @property
    def raw(self) -> sqlite3.Connection:
        """For looking only, and only between transactions."""
        return self._raw

    def stores(self) -> Stores:
        stores = Stores(self._connection)
        self.watch(stores)
        return stores

    def of(self, process: Process) -> "ProcessDatabase":
        return ProcessDatabase(self, process, self.stores())

    def submit(self, work: _Work) -> None:
        delay = self.delay()
        if delay:
            self._loop.call_later(delay, self._carry_out, work, context=OUTSIDE)
        else:
            self._loop.call_soon(self._carry_out, work, context=OUTSIDE)

    def _carry_out(self, work: _Work) -> None:
        name = name_of(work.fn)
        if not work.process.alive and not self.late:
            return
        fault = self.fault(work.process, name, work.writes)
        result: Any = None
        error: BaseException | None = None
        if fault == "away":
            error = Unavailable("database: simulated to be away")
        else:
            try:
                if fault == "twice":
                    self.run(work.stores, work.fn, work.args, work.kwargs, commit=False)
                if work.writes:
                    self.before(work.process, name)
                    if not work.process.alive and not self.late:
                        return
                commit = work.writes and fault != "undone"
                result, calls = self.run(work.stores, work.fn, work.args, work.kwargs, commit=commit)
                if commit:
                    self.commits += 1
                    self.after(work.process, name)
                    for call in calls:
                        self._loop.call_soon(call, context=work.process.context)
                if fault in ("lost", "undone"):
                    error = OutcomeUnknown("database: simulated to go away during a commit")
            except Violation:
                raise
            except Exception as raised:  # it belongs to who asked
                error = raised
        delay = self.delay()
        if delay:
            self._loop.call_later(delay, self._reply, work.future, result, error, context=OUTSIDE)
        else:
            self._reply(work.future, result, error)

    @staticmethod
    def _reply(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
            future.exception()  # whoever asked may be dead: nobody has to hear it
        else:
            future.set_result(result)

    def run(
        self, stores: Stores, fn: Callable[..., R], args: Any = (), kwargs: Any = None, *, commit: bool
    ) -> tuple[R, list[Callable[[], None]]]:
        """One transaction, here and now."""
        transaction = Transaction(stores, self._clock())
        self.begin()
        self._raw.execute("BEGIN")
        try:
            result = fn(transaction, *args, **(kwargs or {}))
            transaction.finish()
        except BaseException:
            self._raw.execute("ROLLBACK")
            raise
        self._raw.execute("COMMIT" if commit else "ROLLBACK")
        return result, transaction.calls


class Violation(AssertionError):
    """What must never be, was."""


class ProcessDatabase:
    """Implements ``ports.stores.Database`` for one process."""

    def __init__(self, shared: SimulatedDatabase, process: Process, stores: Stores) -> None:
        self._shared, self._process, self._stores = shared, process, stores

    async def write(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = await self._ask(fn, args, kwargs, writes=True)
        return result

    async def read(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = await self._ask(fn, args, kwargs, writes=False)
        return result

    async def close(self) -> None:
        """Nothing is held."""

    async def _ask(self, fn: Any, args: Any, kwargs: Any, *, writes: bool) -> Any:
        future = asyncio.get_running_loop().create_future()
        self._shared.submit(_Work(self._process, self._stores, fn, args, kwargs, writes, future))
        return await future


ANYBODY: Final = Process("somebody")
"""Whoever looks at the database and is no server."""
