"""Views and tickets in declarative files: applied, changed, exported, pruned and deleted, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cador.domain.errors import Forbidden, Invalid
from cador.operations import tickets, views
from cador.operations.actor import Actor
from cador.operations.apply import Order, apply, read_text
from cador.operations.declarative.pipeline import Source, prepare
from cador.operations.exporting import export
from cador.operations.first_start import bootstrap_data
from support.world import World

pytestmark = pytest.mark.anyio

WINDOW = "from: 2026-11-21T22:00:00Z, until: 1800000000"
FILE = f"""\
project: {{ key: demo }}
views: {{ releases: [w, other] }}
tickets:
  CHG-1: {{ envs: [dev, prod], services: [api/worker], users: {{ Ann: ann@example.com }}, {WINDOW} }}
  CHG-2:
"""
FIRST = {
    "status": 1,
    "envs": ["dev", "prod"],
    "services": [{"service_name": "api", "service_module": "worker"}],
    "users": [{"name": "Ann", "email": "ann@example.com"}],
    "execution_window_start": 1795298400,
    "execution_window_end": 1800000000,
}


@pytest.fixture
async def world(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    made = await World.real(tmp_path, database_url)
    await made.boot()
    await bootstrap_data(made.ctx)
    yield made
    await made.close()


async def actions(world: World, text: str, actor: Actor | None = None, **order: Any) -> dict[str, str]:
    """What became of each object, or the error."""
    done = await apply(world.ctx, actor or world.actor(), read_text(text), Order(**order))
    return {f"{one.kind}/{one.name}": one.error or one.action for one in done.results}


def test_the_short_form_of_tickets() -> None:
    prepared = prepare([Source("c", FILE)])
    assert not prepared.faults, [str(fault) for fault in prepared.faults]
    assert {one.name: dict(one.spec) for one in prepared.documents if one.kind == "ApprovalTicket"} == {
        "CHG-1": FIRST,
        "CHG-2": {"status": 1},
    }


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("services: [api]", "services: [0] must be service/module"),
        ("from: tomorrow", "from: must be a moment with its zone"),
        ("from: 2026-11-21T22:00:00", "from: must be a moment with its zone"),
        ("until: 99999999999999999999", "until: must be a moment with its zone"),
        ("until: 5, from: 6", "invalid time window: start time greater than end time"),
        ("valid: perhaps", "valid: must be true or false"),
        ("users: [ann]", "users: must be a mapping"),
        ("user: { Ann: a@b }", "did you mean 'users'"),
    ],
)
def test_what_a_ticket_in_a_file_cannot_say(entry: str, said: str) -> None:
    with pytest.raises(Invalid) as error:
        read_text(f"project: {{ key: demo }}\ntickets:\n  CHG-1: {{ {entry} }}\n")
    assert said in str(error.value)
    assert ":3" in str(error.value) or "line 3" in str(error.value), "the place is told"


async def test_apply_change_export_prune_delete(world: World) -> None:
    ctx, admin = world.ctx, world.actor()
    keys = ("WorkflowView/releases", "ApprovalTicket/CHG-1", "ApprovalTicket/CHG-2")
    assert await actions(world, FILE) == dict.fromkeys(("Project/demo", *keys), "created")
    assert await actions(world, FILE) == dict.fromkeys(("Project/demo", *keys), "unchanged")
    assert set((await actions(world, await export(ctx, admin, "demo"))).values()) == {"unchanged"}

    less = FILE.replace("envs: [dev, prod], ", "").replace("[w, other]", "[other]")
    shown = await apply(ctx, admin, read_text(less), Order(dry_run=True, with_diff=True))
    diff = {one.name: one.diff for one in shown.results}
    assert "-- prod\n+envs: []" in diff["CHG-1"]
    assert "workflow_key: w" in diff["releases"]
    done = await actions(world, less)
    assert (done["ApprovalTicket/CHG-1"], done["WorkflowView/releases"]) == ("updated", "updated")
    (_, first) = await tickets.list_tickets(ctx, admin, "demo", 1, 10)
    assert tickets.body_of(first) == {**FIRST, "envs": [], "project_key": "demo", "approval_id": "CHG-1"}
    (view,) = await views.list_views(ctx, admin, "demo")
    assert [one["workflow_key"] for one in view.resource.document["workflow_list"]] == ["other"]

    without = "project: { key: demo }\ntickets: { CHG-2: { valid: false } }\n"
    done = await actions(world, without, prune=True)
    assert done == {
        "Project/demo": "unchanged", "ApprovalTicket/CHG-2": "updated",
        "ApprovalTicket/CHG-1": "deleted", "WorkflowView/releases": "deleted",
    }  # fmt: skip
    assert (await actions(world, without, delete=True))["ApprovalTicket/CHG-2"] == "deleted"
    assert await world.db.read(lambda tx: tx.tickets.by_approval_id("CHG-2")) is None


async def test_what_was_used_stays_used_and_is_not_exported(world: World) -> None:
    ctx, admin = world.ctx, world.actor()
    await actions(world, FILE)
    first = await world.db.read(lambda tx: tx.tickets.by_approval_id("CHG-1"))
    await world.db.write(lambda tx: tx.tickets.use(first.uid, "w", 7))
    text = await export(ctx, admin, "demo")
    assert "CHG-1" not in text
    assert "CHG-2" in text
    assert (await actions(world, FILE.replace("[dev, prod]", "[dev]")))["ApprovalTicket/CHG-1"] == "updated"
    again = await world.db.read(lambda tx: tx.tickets.by_approval_id("CHG-1"))
    assert (again.uid, again.envs, again.used_by) == (first.uid, ("dev",), ("w", 7))


async def test_tickets_are_of_those_who_may_make_them(world: World) -> None:
    ctx = world.ctx
    await actions(world, FILE)
    reader = replace(world.actor("ann"), roles={"demo": ("read-only",)})
    assert "ApprovalTicket" not in await export(ctx, reader, "demo")
    boss = replace(reader, roles={"demo": ("project-admin",)})
    assert "CHG-1" in await export(ctx, boss, "demo")
    only = "project: { key: demo }\ntickets: { CHG-3: }\n"
    long = only.split("\n")[1]
    with pytest.raises(Forbidden):
        await actions(world, only, reader)
    assert (await actions(world, only, boss))["ApprovalTicket/CHG-3"] == "created"
    elsewhere = f"project: {{ key: second }}\n{long.replace('CHG-3', 'CHG-1')}\n"
    assert (await actions(world, elsewhere))["ApprovalTicket/CHG-1"].endswith("ticket CHG-1 is in another project")


async def test_a_project_with_other_tickets_is_not_pruned(world: World) -> None:
    await actions(world, "project: { key: demo }\n", set_name="ours")
    await tickets.create_ticket(world.ctx, world.actor(), {"project_key": "demo", "approval_id": "CHG-9", "status": 1})
    done = await actions(world, "project: { key: another }\n", set_name="ours", prune=True)
    assert done["Project/demo"] == "project demo still holds ticket CHG-9"


async def test_changes_of_a_view_at_one_moment_all_count(world: World) -> None:
    ctx, admin = world.ctx, world.actor()
    await actions(world, "project: { key: demo }\nviews: { all: [] }\n")
    await asyncio.gather(
        *(
            views.change_view(ctx, admin, "demo", "all", {"workflow_list": [{"workflow_key": key, "enabled": True}]})
            for key in "abcdefgh"
        )
    )
    (view,) = await views.list_views(ctx, admin, "demo")
    assert sorted(one["workflow_key"] for one in view.resource.document["workflow_list"]) == list("abcdefgh")
