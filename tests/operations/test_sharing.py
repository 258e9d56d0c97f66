"""Single workflows for single people, written in files; and whom a name in a file means."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cador.operations.apply import Order, apply, read_text
from cador.operations.exporting import export
from cador.operations.first_start import bootstrap_data
from cador.operations.sessions import Sessions
from cador.ports.stores import User
from support.world import World

pytestmark = pytest.mark.anyio

FILE = """\
project: { key: demo }
system:
  groups: { leads: { members: [zoe] } }
workflows:
  w: { concurrency: 1, stages: [{ name: say, jobs: [{ name: say, type: freestyle, script: "true" }] }] }
sharing:
  guests:
    users: [zoe]
    groups: [leads]
    workflows: { w: [get_workflow, run_workflow] }
"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = await World.real(tmp_path)
    await made.boot()
    await bootstrap_data(made.ctx)
    await made.db.write(lambda tx: tx.people.add_user(User("zoe-id", "zoe", "Zoe")))
    yield made
    await made.close()


async def _applied(world: World, text: str, **order: bool) -> list[tuple[str, str, str]]:
    done = await apply(world.ctx, world.actor(), read_text(text), Order(**order))
    return [(one.kind, one.action, one.error) for one in done.results]


async def _zoe(world: World) -> dict[str, list[str]]:
    """What zoe may do with which workflow of the project."""
    login = await Sessions(world.ctx).open_session(User("zoe-id", "zoe", "Zoe"))
    actor = await Sessions(world.ctx).actor(login.token)
    return {key: sorted(actions) for key, actions in actor.shared.get("demo", {}).items()}


async def test_sharing_is_applied_changed_exported_and_ended(world: World) -> None:
    assert ("Collaboration", "created", "") in await _applied(world, FILE)
    assert await _zoe(world) == {"w": ["get_workflow", "run_workflow"]}
    assert ("Collaboration", "unchanged", "") in await _applied(world, FILE)
    exported = await export(world.ctx, world.actor(), "demo")
    assert "kind: Collaboration" in exported
    assert "zoe-id" not in exported
    assert {action for _, action, _ in await _applied(world, exported)} == {"unchanged"}
    assert ("Collaboration", "updated", "") in await _applied(world, FILE.replace("get_workflow, run", "get"))
    assert await _zoe(world) == {"w": ["get_workflow"]}
    assert ("Collaboration", "deleted", "") in await _applied(world, FILE.partition("sharing:")[0], prune=True)
    assert await _zoe(world) == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("users: [zoe]", "users: [yan]", "user 'yan' is not known"),
        ("groups: [leads]", "groups: [lost]", "user group 'lost' is not known"),
        ("{ w: [get", "{ v: [get", "workflow v not found"),
        ("run_workflow", "delete_workflow", "verb delete_workflow cannot be shared"),
        ("users: [zoe]\n    groups: [leads]", "users: []", "cannot both be empty"),
    ],
)
async def test_what_cannot_be_shared_is_told(world: World, old: str, new: str, said: str) -> None:
    assert old in FILE
    try:
        errors = [error for _, _, error in await _applied(world, FILE.replace(old, new))]
    except Exception as error:
        errors = [str(error)]
    assert any(said in error for error in errors), errors
    assert await _zoe(world) == {}


async def test_a_name_that_two_people_chose_means_nobody(world: World) -> None:
    """Else somebody would come in by calling themselves like somebody else."""
    group = "system: { groups: { team: { members: [Zoe] } } }\n"
    assert ("Group", "created", "") in await _applied(world, group)
    await world.db.write(lambda tx: tx.people.add_user(User("eve-id", "aaa", "Zoe")))
    ((_, action, error),) = await _applied(world, group)
    assert (action, "user 'Zoe' is not known" in error) == ("error", True)
