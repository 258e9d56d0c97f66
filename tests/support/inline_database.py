"""A database whose transactions run at once, in the caller: nothing leaves the event loop's thread.

For tests on a virtual clock and for the simulation. ``await db.write(fn)`` gives the loop no chance to run anything
else, so that the order of the loop's callbacks decides everything. The stores and tables are the real ones.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from cador.ports.stores import Tx
from cador.storage import sqlite
from cador.storage.database import Stores, Transaction
from cador.storage.migrations import migrate_connection

P = ParamSpec("P")
R = TypeVar("R")


class InlineDatabase:
    """Implements ``ports.stores.Database`` on one connection; by default SQLite in memory.

    *clock*: Unix seconds. *point*: called with ``begin``, ``commit`` (everything written, nothing durable) and
    ``committed`` around each writing transaction; what it raises is raised to the caller: at ``commit`` the
    transaction is taken back, at ``committed`` it is done and the caller does not know. Either way the calls after
    the commit are not made, as if the process had died there.
    """

    def __init__(
        self, clock: Callable[[], float], *, point: Callable[[str], None] = lambda name: None, url: str = ""
    ) -> None:
        self._clock = clock
        self.point = point
        self._execute: Callable[[str], object]
        if url.startswith("postgresql"):
            from cador.storage import postgres
            from cador.storage.wire import wire_of

            self._connection = postgres.connect(postgres.engine_for(url))
            wire = wire_of(self._connection)  # what waits there is part of the transaction
            self._execute = lambda text: wire.roll_back() if text == "ROLLBACK" else wire.say((text, ()))
        else:
            self._connection = sqlite.engine_for(":memory:").connect()
            self._execute = sqlite.driver(self._connection).execute
        self._execute("BEGIN")
        migrate_connection(self._connection)
        self._execute("COMMIT")
        self._stores = Stores(self._connection)
        self._busy = False
        self.commits = 0

    async def write(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        self.point("begin")
        result, transaction = self._run(fn, args, kwargs, end="COMMIT")
        self.commits += 1
        self.point("committed")
        for call in transaction.calls:
            asyncio.get_running_loop().call_soon(call)
        return result

    async def read(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        result, _ = self._run(fn, args, kwargs, end="ROLLBACK")
        return result

    async def close(self) -> None:
        self._connection.close()

    def _run(self, fn: Callable[..., R], args: Any, kwargs: Any, *, end: str) -> tuple[R, Transaction]:
        if self._busy:
            raise AssertionError("a transaction began another one")
        self._busy = True
        transaction = Transaction(self._stores, self._clock())
        try:
            self._execute("BEGIN")
            try:
                result = fn(transaction, *args, **kwargs)
                if end == "COMMIT":
                    transaction.finish()
                    self.point("commit")
            except BaseException:
                self._execute("ROLLBACK")
                raise
            self._execute(end)
        finally:
            self._busy = False
        return result, transaction
