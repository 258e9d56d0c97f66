"""The one server of an embedded database: its lock on the data folder is all the membership there is."""

import asyncio
import uuid
from collections.abc import Collection

from cador.ports.peers import Heard
from cador.ports.stores import Database, Tx


class Alone:
    """Implements ``ports.peers.Peers``. Whoever owned something before is dead, or the lock would not be ours."""

    alone = True
    place = ""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def join(self) -> str:
        await self._db.write(_release_all)
        return uuid.uuid4().hex

    async def lost(self) -> str:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable")

    def holds(self) -> bool:
        return True

    async def leave(self) -> None:
        """Nobody is there to take anything."""

    def listen(self, heard: Heard) -> None:
        """Nobody is there to be heard."""

    def tell(self, tasks: Collection[int], *, work: bool) -> None:
        """Nobody is there to be told."""


def _release_all(tx: Tx) -> None:
    tx.commands.release_others("")
    tx.executions.release_others("")
