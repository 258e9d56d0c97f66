"""What a new server has, however often it starts."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cador.domain.errors import Invalid
from cador.operations.first_start import bootstrap_data, installation_id
from cador.operations.sessions import NotAuthenticated, Sessions, token_hash
from cador.ports.stores import Token, Tx, User
from support.world import World

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = await World.real(tmp_path)
    await made.db.write(_nobody)
    await made.boot()
    yield made
    await made.close()


def _nobody(tx: Tx) -> None:
    for user in tx.people.users(limit=100)[0]:
        tx.people.delete_user(user.uid)


async def test_first_start_is_repeatable(world: World) -> None:
    token = await bootstrap_data(world.ctx)
    assert token is not None
    sessions = Sessions(world.ctx)
    actor = await sessions.actor(token)
    assert (actor.account, actor.admin) == ("admin", True)
    installation = await installation_id(world.ctx)
    version = await world.db.read(lambda tx: tx.resources.version())
    assert await bootstrap_data(world.ctx) is None
    assert await installation_id(world.ctx) == installation
    assert await world.db.read(lambda tx: tx.resources.version()) == version
    cluster = await world.db.read(lambda tx: tx.resources.by_id("cluster", "0123456789abcdef12345678"))
    assert (cluster.name, cluster.document["executor"]) == ("local", "process")
    # a base image somebody deleted does not come back
    await world.db.write(lambda tx: tx.resources.delete("baseimage", "", "ubuntu 20.04"))
    await bootstrap_data(world.ctx)
    assert await world.db.read(lambda tx: tx.resources.find("baseimage", "", "ubuntu 20.04")) is None


async def test_a_token_that_cannot_be_kept_makes_nobody(world: World) -> None:
    """Else the administrator would be there, and nobody would have ever seen the token."""

    def full(token: str) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        await bootstrap_data(world.ctx, keep=full)
    assert await world.db.read(lambda tx: tx.people.by_account("admin")) is None
    kept: list[str] = []
    assert [await bootstrap_data(world.ctx, keep=kept.append)] == kept
    assert await bootstrap_data(world.ctx, keep=full) is None


async def test_given_token_and_password(world: World) -> None:
    first, second = "first-token-of-the-operator", "second-token-of-the-operator"
    assert await bootstrap_data(world.ctx, admin_token=first, admin_password="Replace-me-1") is None
    sessions = Sessions(world.ctx)
    assert (await sessions.actor(first)).account == "admin"
    login = await sessions.log_in("admin", "Replace-me-1")
    assert await bootstrap_data(world.ctx, admin_token=second, admin_password="Replace-me-2") is None
    with pytest.raises(NotAuthenticated):  # whoever logged in with the old password is out
        await sessions.actor(login.token)
    assert (await sessions.actor(second)).account == "admin"
    with pytest.raises(NotAuthenticated):
        await sessions.actor(first)
    with pytest.raises(NotAuthenticated):
        await sessions.log_in("admin", "Replace-me-1")
    await sessions.log_in("admin", "Replace-me-2")


async def test_a_given_token_works_whatever_it_was_before(world: World) -> None:
    text = "once-a-limited-token-of-zoe"
    await bootstrap_data(world.ctx)

    def before(tx: Tx) -> None:
        tx.people.add_user(User("zoe", "zoe", "Zoe"))
        row = Token(id=0, uid="zoe", name="old", hash=token_hash(text), prefix="", create_at=1.0, expires_at=2.0)
        tx.people.add_token(row)

    await world.db.write(before)
    await bootstrap_data(world.ctx, admin_token=text)
    actor = await Sessions(world.ctx).actor(text)
    assert (actor.account, actor.limited) == ("admin", False)


@pytest.mark.parametrize("options", [{"admin_token": "short"}, {"admin_password": "weak"}])
async def test_weak_secrets_are_refused(world: World, options: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        await bootstrap_data(world.ctx, **options)
    assert await installation_id(world.ctx) is None
