"""Changes of people, groups and roles that meet on PostgreSQL (see ``test_configuration_races``)."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cador.domain.errors import Conflict
from cador.operations import groups, people, roles, workflows
from cador.operations.actor import EVERYWHERE
from cador.operations.first_start import bootstrap_data
from cador.operations.sessions import Sessions
from cador.ports.stores import User
from operations.test_configuration_races import met, stored
from support.world import PROJECT, World

pytestmark = [pytest.mark.anyio, pytest.mark.postgres, pytest.mark.real]


@pytest.fixture
async def world(tmp_path: Path, postgres_url: str) -> AsyncIterator[World]:
    made = await World.real(tmp_path, postgres_url)
    await made.boot()
    await bootstrap_data(made.ctx)
    yield made
    await made.close()


async def _users(world: World, **admins: bool) -> None:
    for account, admin in admins.items():
        user = User(account, account, account.title(), admin=admin)
        await world.db.write(lambda tx, user=user: tx.people.add_user(user))


async def test_two_administrators_who_put_each_other_down_leave_one(world: World) -> None:
    admin, sessions = world.actor(), Sessions(world.ctx)
    await _users(world, one=True, two=True)
    known = await world.db.read(lambda tx: tx.people.by_account("admin"))
    assert known is not None
    await world.db.write(lambda tx: tx.people.replace_user(replace(known, admin=False)))
    results = await met(
        world,
        lambda ctx: people.change_user(ctx, admin, "one", {"admin": False}, sessions),
        lambda ctx: roles.set_roles(ctx, admin, EVERYWHERE, "two", {"roles": []}),
    )
    assert sorted(isinstance(result, Conflict) for result in results) == [False, True]
    left = await world.db.read(lambda tx: [user.account for user in tx.people.users()[0] if user.admin])
    assert len(left) == 1


async def test_both_come_into_the_group(world: World) -> None:
    admin = world.actor()
    await _users(world, one=False, two=False)
    group = await groups.create_group(world.ctx, admin, {"name": "g"})
    await met(
        world,
        lambda ctx: groups.add_members(ctx, admin, group.uid, {"uids": ["one"]}),
        lambda ctx: groups.add_members(ctx, admin, group.uid, {"uids": ["two"]}),
    )
    (found,) = await stored(world, "group")
    assert sorted(found.document["uids"]) == ["one", "two"]


async def test_who_logs_in_stays_put_down(world: World) -> None:
    """What a login writes of the user is when it was."""
    admin, sessions = world.actor(), Sessions(world.ctx)
    await _users(world, one=True)
    user = await world.db.read(lambda tx: tx.people.user("one"))
    assert user is not None
    await met(
        world,
        lambda ctx: Sessions(ctx).open_session(user),
        lambda ctx: people.change_user(ctx, admin, "one", {"admin": False}, sessions),
    )
    now = await world.db.read(lambda tx: tx.people.user("one"))
    assert now is not None
    assert (now.admin, now.last_login_at is not None) == (False, True)


async def test_a_share_goes_with_its_workflow(world: World) -> None:
    """Whoever had it has none of the next workflow of that name."""
    admin = world.actor()
    await _users(world, one=False)
    body = {
        "name": "w", "project": PROJECT,
        "stages": [{"name": "s", "jobs": [{"name": "j", "type": "freestyle", "spec": {"steps": []}}]}],
    }  # fmt: skip
    await workflows.create_workflow(world.ctx, admin, body)
    mode = {"name": "m", "user_ids": ["one"], "workflows": [{"name": "w", "verbs": ["run_workflow"]}]}
    await roles.create_collaboration(world.ctx, admin, PROJECT, mode)
    await workflows.delete_workflow(world.ctx, admin, "w", PROJECT)
    (found,) = await stored(world, "collaboration", PROJECT)
    assert found.document["workflows"] == []
