"""Two at one moment on PostgreSQL: whoever applies sees all that was written before, and nothing of anybody is lost.

A connection of the test holds the row that both need until both are seen to wait; then both go on.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from cador.domain.errors import Forbidden
from cador.operations import resources, workflows
from cador.operations.apply import apply, read_text
from cador.operations.first_start import bootstrap_data
from support.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

DEADLINE_S = 30.0
HOST = "system: { codehosts: { git: { type: other, address: 'file:///srv/git', %s } } }"
FLOW = "project: { key: shop }\nworkflows: { w: { %s, stages: [] } }"


@pytest.fixture
async def world(tmp_path: Path, postgres_url: str) -> AsyncIterator[World]:
    made = await World.real(tmp_path, postgres_url)
    await made.boot()
    await bootstrap_data(made.ctx)
    yield made
    await made.close()


class Gate:
    """Holds what *statement* locks until so many connections wait for something."""

    def __init__(self, url: str, statement: str) -> None:
        self._holder, self._looker = psycopg.connect(url), psycopg.connect(url, autocommit=True)
        self._holder.execute(statement.encode())

    async def waiting(self, count: int) -> None:
        question = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        async with asyncio.timeout(DEADLINE_S):
            while (self._looker.execute(question.encode()).fetchone() or (0,))[0] < count:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    def close(self) -> None:
        self._holder.close()
        self._looker.close()


@asynccontextmanager
async def gate(url: str, statement: str) -> AsyncIterator[Gate]:
    made = Gate(url, statement)
    try:
        yield made
    finally:
        made.close()


async def together(url: str, statement: str, *works: Coroutine[Any, Any, Any]) -> list[Any]:
    """All of *works*, each begun when the one before is seen to wait."""
    async with gate(url, statement) as held, asyncio.timeout(DEADLINE_S):
        running = []
        for number, work in enumerate(works, 1):
            running.append(asyncio.ensure_future(work))
            await held.waiting(number)
        held.close()
        return await asyncio.gather(*running)


async def applied(world: World, text: str) -> dict[str, str]:
    done = await apply(world.ctx, world.actor(), read_text(text))
    return {f"{one.kind}/{one.name}": one.error or one.action for one in done.results}


ROW = "SELECT FROM resource WHERE kind = '{}' AND name = '{}' FOR UPDATE"


async def test_two_applies_of_one_new_object(world: World, postgres_url: str) -> None:
    text = HOST % "disable_ssl: true"
    results = await together(
        postgres_url, "UPDATE catalogue_version SET version = version + 1", applied(world, text), applied(world, text)
    )
    assert results == [{"CodeHost/git": "created"}, {"CodeHost/git": "unchanged"}]


async def test_what_is_set_by_a_route_meanwhile_stays(world: World, postgres_url: str) -> None:
    await applied(world, HOST % "disable_ssl: false")
    body = {"name": "git", "type": "other", "address": "file:///srv/git", "enable_proxy": True}
    _, found = await together(
        postgres_url,
        ROW.format("codehost", "git"),
        resources.replace_by_id(world.ctx, world.actor(), "codehost", "git", body),
        applied(world, HOST % "disable_ssl: true"),
    )
    assert found == {"CodeHost/git": "updated"}
    (host,) = await resources.list_kind(world.ctx, "codehost")
    assert (host.document["enable_proxy"], host.document["disable_ssl"]) == (True, True)


async def test_what_is_set_in_a_workflow_meanwhile_stays(world: World, postgres_url: str) -> None:
    await applied(world, FLOW % "concurrency: 1")
    row = await world.db.read(lambda tx: tx.workflows.find("w"))
    body = {**msgspec.json.decode(row.definition), "description": "by hand"}
    await together(
        postgres_url,
        "SELECT FROM workflow WHERE key = 'w' FOR UPDATE",
        workflows.replace_workflow(world.ctx, world.actor(), "w", "shop", body),
        applied(world, FLOW % "concurrency: 2"),
    )
    row = await world.db.read(lambda tx: tx.workflows.find("w"))
    assert row.concurrency_limit == 2
    assert msgspec.json.decode(row.definition)["description"] == "by hand"


async def test_a_partial_change_by_two_routes(world: World, postgres_url: str) -> None:
    registry = {"name": "one", "provider": "native", "address": "https://r.example.com", "namespace": "x"}
    await resources.create(world.ctx, world.actor(), "registry", "", {**registry, "secret_key": "s3cret"})
    await together(
        postgres_url,
        ROW.format("registry", "one"),
        resources.replace_by_id(world.ctx, world.actor(), "registry", "one", {"region": "eu"}),
        resources.replace_by_id(world.ctx, world.actor(), "registry", "one", {"namespace": "y"}),
    )
    (found,) = await resources.list_kind(world.ctx, "registry")
    assert (found.document["region"], found.document["namespace"]) == ("eu", "y")


async def test_a_project_that_somebody_else_makes_first_is_theirs(world: World, postgres_url: str) -> None:
    """Who may create projects and nothing else does not get hold of one that came into being since it was looked."""
    maker = replace(
        world.actor("eve"), roles={"*": ("makers",)}, custom={("*", "makers"): frozenset({"create_project"})}
    )
    async with gate(postgres_url, "UPDATE catalogue_version SET version = version + 1") as held:
        async with asyncio.timeout(DEADLINE_S):
            first = asyncio.ensure_future(applied(world, "project: { key: new, name: Of admin }"))
            await held.waiting(1)
            second = asyncio.ensure_future(
                apply(world.ctx, maker, read_text("project: { key: new, name: Of eve, public: true }"))
            )
            await held.waiting(2)
            held.close()
            assert await first == {"Project/new": "created"}
            with pytest.raises(Forbidden):
                await second
    project = await resources.find(world.ctx, "project", "", "new")
    assert (project.document["project_name"], project.document["is_public"]) == ("Of admin", False)
