"""Changes of configuration that meet on PostgreSQL: each reads, then they meet, then each writes.

They meet before their first write. Who waits for the other's lock by then cannot come, and the other goes on alone.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from cador.domain.errors import CadorError
from cador.operations import clusters, environments, projects, quality, resources, services, tickets, views, workflows
from cador.operations.context import Context
from cador.operations.first_start import bootstrap_data
from cador.ports.stores import Tx
from support.world import PROJECT, World

pytestmark = [pytest.mark.anyio, pytest.mark.postgres, pytest.mark.real]

DEADLINE_S = 30.0
MANIFEST = "kind: Deployment\nspec: {template: {spec: {containers: [{name: c, image: x:1}]}}}\n"
SCRIPT = {"project_key": PROJECT, "build_os": "own 1", "script": "true", "build_script": "true"}


class Meeting:
    def __init__(self) -> None:
        self.there: set[str] = set()
        self.go = threading.Event()

    def come(self, name: str) -> None:
        if name not in self.there:
            self.there.add(name)
            assert self.go.wait(DEADLINE_S)


class Seen:
    """Whatever it stands for; *come* is called before the first change."""

    def __init__(self, inner: Any, come: Callable[[], None], members: tuple[str, ...]) -> None:
        self._inner, self._come, self._members = inner, come, members

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in ("resources", "workflows", "tickets"):
            return Seen(found, self._come, ("add", "replace", "delete"))
        if name == "people":
            return Seen(found, self._come, ("replace_user", "delete_user", "set_roles", "logged_in"))
        if name not in self._members:
            return found

        def changed(*args: Any, **more: Any) -> Any:
            self._come()
            return found(*args, **more)

        return changed


def meeting_context(ctx: Context, meeting: Meeting, name: str) -> Context:
    """*ctx*, whose transactions come to *meeting* as *name*."""

    def seen(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda tx, *args, **more: function(Seen(tx, lambda: meeting.come(name), ()), *args, **more)

    class Database:
        async def write(self, function: Callable[..., Any], *args: Any) -> Any:
            return await ctx.db.write(seen(function), *args)

        def __getattr__(self, member: str) -> Any:
            return getattr(ctx.db, member)

    class Engine:
        async def transact(self, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
            return await ctx.engine.transact(seen(function), *args, **more)

        def __getattr__(self, member: str) -> Any:
            return getattr(ctx.engine, member)

    return replace(ctx, db=Database(), engine=Engine())  # type: ignore[arg-type]


def waiting(tx: Any) -> int:
    """How many connections wait for a lock of another."""
    statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    count: int = tx.connection.execute(text(statement)).scalar_one()
    return count


@pytest.fixture
async def world(tmp_path: Path, postgres_url: str) -> AsyncIterator[World]:
    made = await World.real(tmp_path, postgres_url)
    await made.boot()
    await bootstrap_data(made.ctx)
    yield made
    await made.close()


async def met(world: World, *works: Callable[[Context], Awaitable[Any]]) -> list[Any]:
    """What came of *works*, which met: results and refusals."""
    meeting = Meeting()

    async def let_go() -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(meeting.there) < len(works):
                if meeting.there and await world.db.read(waiting):
                    break  # who waits for a lock cannot come
                await asyncio.sleep(0.005)
        meeting.go.set()

    contexts = [meeting_context(world.ctx, meeting, str(number)) for number in range(len(works))]
    begun = [asyncio.ensure_future(work(ctx)) for work, ctx in zip(works, contexts, strict=True)]
    _, *results = await asyncio.gather(let_go(), *begun, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, CadorError):
            raise result
    return results


async def stored(world: World, kind: str, project: str = "") -> list[Any]:
    return await world.db.read(lambda tx: tx.resources.list_kind(kind, project))


async def test_both_services_are_in_the_environment(world: World) -> None:
    ctx, admin = world.ctx, world.actor()
    for name in ("a", "b"):
        await services.create(ctx, admin, PROJECT, {"service_name": name, "yaml": MANIFEST})
    await resources.create(ctx, admin, "registry", "", {"address": "https://r", "provider": "native", "namespace": "n"})
    body = {"env_key": "dev", "cluster_name": "local", "namespace": "dev"}
    await environments.create(ctx, admin, environments.TEST, PROJECT, body)

    def adds(name: str) -> Callable[[Context], Awaitable[Any]]:
        asked = {"env_key": "dev", "service_list": [{"service_name": name}]}
        return lambda ctx: environments.add_services(ctx, admin, environments.TEST, PROJECT, asked)

    await met(world, adds("a"), adds("b"))
    [environment] = await stored(world, "environment", PROJECT)
    assert {one["service_name"] for one in environment.document["services"]} == {"a", "b"}


async def test_both_changes_of_a_cluster_stay(world: World) -> None:
    admin = world.actor()
    changes = ({"description": "new"}, {"project_names": ["shop"]})
    await met(
        world,
        *(lambda ctx, change=change: clusters.change(ctx, admin, "local", change) for change in changes),  # type: ignore[misc]
    )
    found = next(one for one in await stored(world, "cluster") if one.name == "local")
    assert (found.document["description"], found.document["project_names"]) == ("new", ["shop"])


async def test_one_of_two_first_ones_is_the_default(world: World) -> None:
    admin = world.actor()
    bodies = [{"name": name, "host": "smtp.example.com"} for name in ("one", "two")]
    await met(
        world,
        *(lambda ctx, body=body: resources.create(ctx, admin, "mail", "", body) for body in bodies),  # type: ignore[misc]
    )
    assert [one.document["is_default"] for one in await stored(world, "mail")].count(True) == 1


async def test_what_somebody_begins_to_use_is_not_deleted(world: World) -> None:
    admin = world.actor()
    await resources.create(world.ctx, admin, "baseimage", "", {"label": "own 1", "value": "x:1"})
    await met(
        world,
        lambda ctx: resources.create(ctx, admin, "build", PROJECT, {**SCRIPT, "name": "b"}),
        lambda ctx: resources.delete_by_id(ctx, admin, "baseimage", "own 1"),
    )
    builds = await stored(world, "build", PROJECT)
    images = [one for one in await stored(world, "baseimage") if one.name == "own 1"]
    assert len(builds) == len(images), "a build without its image, or an image that nothing kept"


@pytest.mark.parametrize("what", ["service", "build", "workflow", "view", "ticket"])
async def test_nothing_comes_into_a_project_that_goes(world: World, what: str) -> None:
    admin = world.actor()
    await resources.create(world.ctx, admin, "baseimage", "", {"label": "own 1", "value": "x:1"})
    body = {"project_name": "Gone", "project_key": "gone", "project_type": "yaml"}
    await projects.create(world.ctx, admin, body)

    def made(ctx: Context) -> Awaitable[Any]:
        if what == "service":
            return services.create(ctx, admin, "gone", {"service_name": "s", "yaml": MANIFEST})
        if what == "build":
            return resources.create(ctx, admin, "build", "gone", {**SCRIPT, "project_key": "gone", "name": "b"})
        if what == "view":
            return views.create_view(ctx, admin, "gone", {"name": "v", "project_key": "gone", "workflow_list": []})
        if what == "ticket":
            return tickets.create_ticket(ctx, admin, {"project_key": "gone", "approval_id": "T", "status": 1})
        stages = [{"name": "s", "jobs": [{"name": "j", "type": "freestyle", "spec": {"steps": []}}]}]
        doc = {"name": "w", "project": "gone", "concurrency_limit": -1, "stages": stages}
        return workflows.create_workflow(ctx, admin, doc)

    await met(world, made, lambda ctx: projects.delete(ctx, admin, "gone"))

    def left(tx: Tx) -> list[str]:
        found = [one.name for one in tx.resources.of_project("gone") if one.project == "gone"]
        found += [one.approval_id for one in tx.tickets.list_tickets("gone", 10)]
        return found + [row.key for row in tx.workflows.list_workflows("gone", implicit=True)]

    if await world.db.read(lambda tx: tx.resources.find("project", "", "gone")) is None:
        assert await world.db.read(left) == []


async def test_a_test_that_goes_is_not_run(world: World) -> None:
    """Its hidden workflow is made with the first run."""
    admin = world.actor()
    await resources.create(world.ctx, admin, "baseimage", "", {"label": "own 1", "value": "x:1"})
    await resources.create(world.ctx, admin, "test", PROJECT, {**SCRIPT, "name": "unit"})
    await met(
        world,
        lambda ctx: quality.run(ctx, admin, quality.TEST, PROJECT, "unit", (), ()),
        lambda ctx: quality.delete(ctx, admin, quality.TEST, PROJECT, "unit"),
    )
    rows = await world.db.read(lambda tx: tx.workflows.list_workflows(PROJECT, implicit=True))
    assert [row.key for row in rows] == []
    assert await stored(world, "test", PROJECT) == []
