"""Memberships on a real PostgreSQL: what they hear, what they hold, and what they leave when they cannot be had."""

import asyncio
import os
from collections.abc import Callable

import psycopg
import pytest

from cador.domain.commands import Admit
from cador.domain.errors import Unavailable
from cador.ports.peers import Replica
from cador.ports.stores import CommandRow, Tx
from cador.storage.database import OpenDatabase
from cador.storage.peers import PostgresPeers
from cador.storage.postgres import driver

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

DEADLINE_S = 30.0


def peers(url: str, name: str, timeout_s: float = 60.0) -> PostgresPeers:
    return PostgresPeers(url, place=f"machine-{name}:boot:/jobs", timeout_s=timeout_s)


def raw(one: PostgresPeers) -> psycopg.Connection[tuple[object, ...]]:
    assert one._term is not None
    assert one._term._connection is not None
    return driver(one._term._connection)


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not reached():  # noqa: ASYNC110 - it changes in threads
            await asyncio.sleep(0.005)


async def test_what_is_told_while_a_statement_runs_is_heard(postgres_url: str) -> None:
    teller, listener = peers(postgres_url, "a"), peers(postgres_url, "b")
    heard: set[int] = set()
    listener.listen(lambda tasks, work: heard.update(tasks))
    await listener.join()
    await teller.join()
    try:
        # The answer to any statement of the listener brings along what was told before it.
        term, connection = listener._term, raw(listener)
        assert term is not None
        real = term._hear

        def slow(raw: psycopg.Connection[tuple[object, ...]]) -> None:
            connection.execute("SELECT pg_sleep(0.02)")
            real(raw)

        term._hear = slow  # type: ignore[method-assign]
        for number in range(50):
            teller.tell([number], work=False)
            await asyncio.sleep(0.002)
        await until(lambda: len(heard) == 50)
        assert not connection._notifies_backlog
        assert not raw(teller)._notifies_backlog, "what a server told itself is kept for ever"
    finally:
        await teller.leave()
        await listener.leave()


async def test_memberships_that_cannot_be_had_leave_nothing_open(postgres_url: str) -> None:
    one = peers(postgres_url.replace("/test_", "/missing_"), "a")
    with pytest.raises(Unavailable):
        await one.join()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(Unavailable):
            await one.join()
    assert len(os.listdir("/proc/self/fd")) <= before


DEAD = "0123456789abcdef0123456789abcdef"


def taken_on(tx: Tx) -> CommandRow:
    """A server that is dead by now took on a command."""
    tx.replicas.add(Replica(DEAD, "machine-z:boot:/jobs", "", tx.now, tx.now))
    (row,) = tx.commands.add(0, (Admit(),), tx.now, me=DEAD)
    return row


@pytest.mark.real
async def test_what_a_frozen_transaction_holds_costs_nobody_the_membership(
    postgres_url: str, postgres_database: OpenDatabase
) -> None:
    row = await postgres_database.write(taken_on)
    one, other = peers(postgres_url, "a", timeout_s=6.0), peers(postgres_url, "b", timeout_s=6.0)
    frozen = await psycopg.AsyncConnection.connect(postgres_url)
    try:
        await frozen.execute("SELECT 1 FROM command WHERE id = %s FOR UPDATE", (row.id,))
        me = await one.join()
        await other.join()
        beat = one._term._beat_at if one._term is not None else 0.0
        await until(lambda: one._term is not None and one._term._beat_at > beat)
        assert one.holds()
        assert other.holds()
        await frozen.rollback()
        while (await postgres_database.read(lambda tx: tx.commands.find(row.key))).owner:  # type: ignore[union-attr]
            assert one.holds()
        assert me in [one.id for one in await postgres_database.read(lambda tx: tx.replicas.list_replicas())]
    finally:
        await frozen.close()
        await one.leave()
        await other.leave()


async def test_nothing_is_a_condemned_servers_any_more(database: OpenDatabase) -> None:
    row = await database.write(taken_on)
    assert await database.read(lambda tx: tx.commands.owns(row.id, DEAD))
    await database.write(lambda tx: tx.replicas.condemn(DEAD))
    assert not await database.read(lambda tx: tx.commands.owns(row.id, DEAD))
    assert not await database.write(lambda tx: tx.replicas.beat(DEAD, tx.now)), "its sign of life must not count"
    await database.write(lambda tx: tx.replicas.remove(DEAD))
    assert not await database.read(lambda tx: tx.commands.owns(row.id, DEAD))
