"""Logging in by password: who is let in, and who has to wait."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from argon2 import PasswordHasher

from cador.operations.sessions import (
    MOST_SESSIONS,
    TRIES_HERE,
    TRIES_OF_ACCOUNT,
    TRIES_OF_ADDRESS,
    WINDOW_S,
    NotAuthenticated,
    Sessions,
    TooManyAttempts,
    place_of,
)
from cador.ports.stores import User
from cador.storage.database import open_database
from support.world import Ticking

pytestmark = pytest.mark.anyio

PASSWORD = "Correct-horse-1"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""The real algorithm, made light: the hashes stay what they are."""


class Clock:
    """Of the database and the server, moved by the test."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def place(tmp_path: Path, clock: Clock) -> AsyncIterator[Any]:
    """What sessions need of a server."""
    db = await open_database(f"sqlite:///{tmp_path / 'cador.db'}", clock=clock)
    yield SimpleNamespace(db=db, clock=Ticking(clock))
    await db.close()


async def test_guessing_locks_out_the_guesser(place: Any, clock: Clock) -> None:
    """Of one address and account, for a while, on all servers together; the others of that account get in."""
    servers = [Sessions(place, hasher=QUICK), Sessions(place, hasher=QUICK)]
    password_hash = await servers[0].hash_password(PASSWORD)
    await place.db.write(lambda tx: tx.people.add_user(User("new", "new", "New", password_hash=password_hash)))

    waits: list[float] = []

    async def attempt(number: int, password: str, address: str, account: str = "new") -> str:
        try:
            await servers[number % 2].log_in(account, password, address)
        except TooManyAttempts as error:
            waits.append(error.retry_after_s)
            return "later"
        except NotAuthenticated:
            return "wrong"
        return "in"

    assert await attempt(0, PASSWORD, "home") == "in"
    assert [await attempt(n, "bad", "evil") for n in range(TRIES_HERE + 1)] == ["wrong"] * TRIES_HERE + ["later"]
    assert await attempt(0, PASSWORD, "evil") == "later"
    assert await attempt(1, PASSWORD, "home") == "in"
    clock.at += WINDOW_S + 1
    assert await attempt(0, PASSWORD, "evil") == "in"
    # From everywhere: strangers' addresses are locked, where one has logged in before is not.
    answers = [await attempt(n, "bad", f"bot-{n}") for n in range(TRIES_OF_ACCOUNT + 3)]
    assert answers == ["wrong"] * TRIES_OF_ACCOUNT + ["later"] * 3
    assert await attempt(0, PASSWORD, "cafe") == "later"
    assert await attempt(0, PASSWORD, "home") == "in"
    clock.at += WINDOW_S + 1  # what was refused did not count: the lock ends by itself
    assert await attempt(0, PASSWORD, "cafe") == "in"
    # An account that nobody has is treated alike.
    answers = [await attempt(n, "bad", "evil", "nobody") for n in range(TRIES_HERE + 1)]
    assert answers == ["wrong"] * TRIES_HERE + ["later"]
    assert all(0 < wait <= WINDOW_S for wait in waits)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"), ("", ""), ("testclient", "testclient"),
    ],
)  # fmt: skip
def test_a_host_that_has_many_addresses_is_one(address: str, place: str) -> None:
    assert place_of(address) == place


async def test_one_network_of_ipv6_guesses_as_one_address(place: Any) -> None:
    sessions = Sessions(place, hasher=QUICK)
    answers = []
    for number in range(TRIES_OF_ADDRESS + 2):
        try:
            await sessions.log_in(f"account-{number}", "bad", f"2001:db8::{number:x}")
        except (NotAuthenticated, TooManyAttempts) as error:
            answers.append(type(error))
    assert answers == [NotAuthenticated] * TRIES_OF_ADDRESS + [TooManyAttempts] * 2


async def test_logins_of_one_user_are_bounded(place: Any) -> None:
    sessions = Sessions(place, hasher=QUICK)
    user = User("new", "new", "New")
    await place.db.write(lambda tx: tx.people.add_user(user))
    made = [(await sessions.open_session(user)).token for _ in range(MOST_SESSIONS + 2)]
    assert len(await place.db.read(lambda tx: tx.people.tokens("new"))) == MOST_SESSIONS
    for token in made[:2]:
        with pytest.raises(NotAuthenticated):
            await sessions.actor(token)
    assert (await sessions.actor(made[2])).account == (await sessions.actor(made[-1])).account == "new"


@pytest.mark.postgres
async def test_guesses_at_the_same_moment_count_each(postgres_url: str, clock: Clock) -> None:
    """Of two servers: no burst gets more tries than one after the other does."""
    servers = [await open_database(postgres_url, clock=clock, pool=4) for _ in range(2)]
    places = [SimpleNamespace(db=db, clock=Ticking(clock)) for db in servers]
    sessions: list[Any] = [Sessions(place, hasher=QUICK) for place in places]  # type: ignore[arg-type]

    async def attempt(number: int) -> str:
        try:
            await sessions[number % 2].log_in("nobody", "bad", "evil")
        except TooManyAttempts:
            return "later"
        except NotAuthenticated:
            return "wrong"
        return "in"

    try:
        answers = await asyncio.gather(*map(attempt, range(40)))
        assert (answers.count("wrong"), answers.count("later")) == (TRIES_HERE, 40 - TRIES_HERE)
    finally:
        for db in servers:
            await db.close()
