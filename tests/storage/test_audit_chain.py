"""The audit chain under several servers of one database."""

import asyncio
import threading

import pytest

from cador.ports.stores import Tx
from cador.storage.database import open_database

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

DEADLINE_S = 20.0


def add(tx: Tx, target: str) -> None:
    tx.audit.add(at=1.0, actor="ann", action="edit", project="", target=target, detail={})


async def test_writers_of_two_servers_make_one_chain(postgres_url: str) -> None:
    servers = [await open_database(postgres_url, pool=4) for _ in range(2)]

    def change(tx: Tx, number: int) -> None:
        tx.meta.set(f"row{number % 7}", str(number))
        for part in range(number % 3 + 1):
            add(tx, f"{number}.{part}")
        if number % 5 == 0:
            raise ValueError

    try:
        results = await asyncio.gather(
            *(servers[number % 2].write(change, number) for number in range(120)), return_exceptions=True
        )
        assert [isinstance(result, ValueError) for result in results] == [n % 5 == 0 for n in range(120)]
        found = await servers[0].read(lambda tx: tx.audit.verify(0, "", 1000))
        assert (found.done, found.broken) == (True, "")
        assert found.seen == sum(n % 3 + 1 for n in range(120) if n % 5)
    finally:
        for server in servers:
            await server.close()


async def test_a_long_change_holds_nobody_up(postgres_url: str) -> None:
    """Who has written into the record and then waits for a row does not have what the row's owner needs for its end:
    otherwise the two would wait for each other."""
    servers = [await open_database(postgres_url, pool=4) for _ in range(2)]
    written, held = threading.Event(), threading.Event()

    def long(tx: Tx) -> None:
        add(tx, "long")
        written.set()
        assert held.wait(DEADLINE_S)
        tx.meta.set("row", "long")  # waits for the other's end

    def short(tx: Tx) -> None:
        assert written.wait(DEADLINE_S)
        tx.meta.set("row", "short")
        held.set()
        add(tx, "short")

    try:
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(servers[0].write(long), servers[1].write(short))
        entries = await servers[0].read(lambda tx: tx.audit.list_entries())
        assert [entry["target"] for entry in entries] == ["long", "short"]
        assert (await servers[0].read(lambda tx: tx.audit.verify(0, "", 10))).done
    finally:
        for server in servers:
            await server.close()
