"""Memberships on a real PostgreSQL: what they hear, what they hold, and what they leave when they cannot be had."""

import asyncio
import os
from collections.abc import Callable

import psycopg
import pytest

from cador.domain.errors import Unavailable
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
