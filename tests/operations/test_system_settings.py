"""Limits of the queue changed under a server that works, on a virtual clock."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from cador.domain.errors import Forbidden, Invalid
from cador.engine.hearing import MOST_AT_ONCE
from cador.operations import projects, workflows
from cador.operations.system_settings import LiveSetting, change_settings, live_settings
from support import virtual_loop
from support.world import PROJECT, World

TASKS, OF_PROJECT, OF_USER = (f"engine.max_running_{what}" for what in ("tasks", "per_project", "per_user"))


def play(tmp_path: Path, act: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        world = await World.virtual(tmp_path)
        try:
            await act(world)
        finally:
            await world.close()

    virtual_loop.run(whole())


def definition(**more: Any) -> dict[str, Any]:
    steps = [{"name": "shell", "type": "shell", "spec": {"script": "sleep 60"}}]
    job = {"name": "a", "type": "freestyle", "spec": {"properties": {"timeout": 60}, "steps": steps}}
    return {"name": "w", "stages": [{"name": "s", "jobs": [job]}], **more}


async def running(world: World, key: str = "w", count: int = 6) -> list[int]:
    """Numbers of the tasks that run at this instant."""
    await asyncio.sleep(0)
    found = [await world.detail(key, number) for number in range(1, count + 1)]
    return [detail.row.number for detail in found if detail.row.status == "running"]


def test_a_raised_limit_lets_tasks_in_at_once_and_a_lowered_one_stops_nothing(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        world.max_running_tasks = 1
        await world.define(definition())
        await world.boot()
        for _ in range(6):
            await world.start("w")
        begun = world.clock()
        admin = world.actor()
        assert await running(world) == [1]
        told = await change_settings(world.ctx, admin, {TASKS: 4})
        assert told[0] == LiveSetting(TASKS, 4, 1, True)
        assert await running(world) == [1, 2, 3, 4]
        await change_settings(world.ctx, admin, {TASKS: 2})
        assert await running(world) == [1, 2, 3, 4]
        assert world.clock() == begun, "nobody waited for a sweep"
        await world.cancel("w", 1)
        await world.done("w", 1)
        assert await running(world) == [2, 3, 4], "three are more than may"
        for number in (2, 3):
            await world.cancel("w", number)
            await world.done("w", number)
        assert await running(world) == [4, 5]
        await change_settings(world.ctx, admin, {TASKS: None})
        await world.restart()
        assert not any(one.live for one in await live_settings(world.ctx, admin))

    play(tmp_path, act)


def test_a_server_that_starts_with_more_room_lets_tasks_in(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        world.max_running_tasks = 1
        await world.define(definition())
        await world.boot()
        for _ in range(4):
            await world.start("w")
        assert await running(world, count=4) == [1]
        await world.kill()
        world.max_running_tasks = 3
        begun = world.clock()
        await world.boot()
        await world.until("w", 3, lambda detail: detail.row.status == "running")
        assert await running(world, count=4) == [1, 2, 3]
        assert world.clock() - begun < 0.25, "nobody waited for an end"

    play(tmp_path, act)


def test_more_than_one_transaction_may_let_in_follow_at_once(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        world.max_running_tasks = 1
        count = MOST_AT_ONCE + 5
        await world.define(definition())
        await world.boot()
        for _ in range(count):
            await world.start("w")
        begun = world.clock()
        await change_settings(world.ctx, world.actor(), {TASKS: 1000})
        await world.until("w", count, lambda detail: detail.row.status == "running")
        assert await running(world, count=count) == list(range(1, count + 1))
        assert world.clock() - begun < 0.25, "nobody waited for a sweep"

    play(tmp_path, act)


def test_caps_hold_back_one_project_and_one_person(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.define(definition())
        await world.boot()
        admin = world.actor()
        await change_settings(world.ctx, admin, {OF_USER: 1})
        await world.db.write(lambda tx: tx.people.set_roles("ann", PROJECT, ["project-admin"]))
        for by in ("admin", "admin", "admin"):
            await world.start("w", by=by)
        assert await running(world, count=3) == [1]
        await change_settings(world.ctx, admin, {OF_USER: 0, OF_PROJECT: 2})
        assert await running(world, count=3) == [1, 2]
        told = {one.name: (one.value, one.live) for one in await live_settings(world.ctx, admin)}
        told = {name: told[name] for name in (TASKS, OF_PROJECT, OF_USER)}
        assert told == {TASKS: (50, False), OF_PROJECT: (2, True), OF_USER: (0, True)}
        await change_settings(world.ctx, admin, {OF_USER: None, OF_PROJECT: None})
        assert await running(world, count=3) == [1, 2, 3]

    play(tmp_path, act)


def test_a_workflow_whose_limit_is_raised_lets_tasks_in_at_once(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.define(definition(concurrency_limit=1))
        await world.boot()
        for _ in range(3):
            await world.start("w")
        assert await running(world, count=3) == [1]
        begun = world.clock()
        for limit, expected in ((2, [1, 2]), (1, [1, 2]), (-1, [1, 2, 3])):
            body = {"project": PROJECT, **definition(concurrency_limit=limit)}
            await workflows.replace_workflow(world.ctx, world.actor(), "w", PROJECT, body)
            assert await running(world, count=3) == expected
        assert world.clock() == begun

    play(tmp_path, act)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("engine.max_running_task", 1, "did you mean engine.max_running_tasks"),
        ("language", 1, "there are engine.max_running_tasks, "),
        (TASKS, 0, "must be 1 to 1000000"),
        (TASKS, 10**9, "must be 1 to 1000000"),
        (OF_USER, -1, "must be 0 to 1000000"),
        (OF_USER, True, "must be a whole number"),
        (OF_USER, "5", "must be a whole number"),
        (OF_USER, 1.0, "must be a whole number"),
    ],
)
def test_what_does_not_fit_changes_nothing(tmp_path: Path, name: str, value: object, text: str) -> None:
    async def act(world: World) -> None:
        await world.boot()
        with pytest.raises(Invalid, match=text):
            await change_settings(world.ctx, world.actor(), {OF_PROJECT: 7, name: value})
        assert not any(one.live for one in await live_settings(world.ctx, world.actor()))
        with pytest.raises(Forbidden):
            await change_settings(world.ctx, world.actor("ann"), {})

    play(tmp_path, act)


def test_only_administrators_of_the_system_weigh_projects(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.boot()
        ctx, admin, ann = world.ctx, world.actor(), world.actor("ann")
        body = {"project_name": "New", "project_key": "new", "project_type": "yaml"}
        await projects.create(ctx, admin, body)

        async def document() -> Any:
            return (await projects.find(ctx, "new")).document

        assert "weight" not in await document()
        with pytest.raises(Forbidden):
            await projects.change(ctx, ann, "new", {"weight": 5})
        await projects.change(ctx, ann, "new", {"weight": 1, "is_public": True})
        await projects.change(ctx, admin, "new", {"weight": 2.5})
        await projects.change(ctx, ann, "new", {"description": "d"})
        assert ((await document())["weight"], (await document())["description"]) == (2.5, "d")
        for weight in (0, -1, 1e9, "2", float("nan"), True):
            with pytest.raises(Invalid, match="weight"):
                await projects.change(ctx, admin, "new", {"weight": weight})

    play(tmp_path, act)
