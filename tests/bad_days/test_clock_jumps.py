"""The host's clock is set while jobs run: nothing is stuck and nothing is lost; timers follow the clock."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from cador.executors.scripted import ScriptedExecutor, ScriptedWorld
from support import virtual_loop
from support.inline_database import InlineDatabase
from support.world import World, describe

HOUR_S = 3600.0


class Wall:
    """The host's clock, which somebody sets."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.off_s = 0.0

    def __call__(self) -> float:
        return self._clock() + self.off_s


def play(tmp_path: Path, act: Callable[[World, Wall], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        loop = asyncio.get_running_loop()
        steady = loop.clock  # type: ignore[attr-defined]
        wall = Wall(steady)
        held = ScriptedWorld(steady)  # processes run on, whatever the clock says
        world = World(tmp_path, InlineDatabase(wall), wall, ScriptedExecutor(held))
        world.scripted = held
        await world.prepare()
        try:
            await act(world, wall)
        finally:
            await world.close()

    virtual_loop.run(whole(), limit_s=30 * 86_400.0)


def job(name: str, script: str, **properties: Any) -> dict[str, Any]:
    steps = [{"name": "shell", "type": "shell", "spec": {"script": script}}]
    return {"name": name, "type": "freestyle", "spec": {"properties": {"timeout": 60, **properties}, "steps": steps}}


def flow(key: str, *jobs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": key, "stages": [{"name": "one", "parallel": len(jobs) > 1, "jobs": list(jobs)}], **more}


@pytest.mark.parametrize("jump_s", [-24 * HOUR_S, -HOUR_S, -1.0, 1.0, HOUR_S / 2])
@pytest.mark.parametrize("restart", [False, True])
def test_what_waits_and_what_runs_goes_on(jump_s: float, restart: bool, tmp_path: Path) -> None:
    """Jobs run, starts wait for room, a task waits for a slot: all are done in the time they take. (The time-outs are
    long because what runs here keeps a clock of its own.)"""

    async def act(world: World, wall: Wall) -> None:
        world.max_jobs, world.max_running_tasks = 2, 1
        await world.define(flow("wide", *(job(name, "sleep 100", timeout=6000) for name in "abcd")))
        await world.define(flow("next", job("a", "sleep 10", timeout=6000)))
        await world.boot()
        wide = await world.start("wide")
        waiting = await world.start("next")
        await world.until("wide", wide, lambda d: sum(j.row.status == "running" for j in d.stages[0].jobs) == 2)
        await asyncio.sleep(20)
        began = asyncio.get_running_loop().time()
        wall.off_s = jump_s
        if restart:
            await world.restart()
        for key, number in (("wide", wide), ("next", waiting)):
            detail = await world.done(key, number, within_s=400.0)
            assert detail.row.status == "passed", describe(detail)
        assert asyncio.get_running_loop().time() - began < 300.0
        assert len(world.scripted.starts if world.scripted else ()) == 5, "each job was started once"

    play(tmp_path, act)


@pytest.mark.parametrize("restart", [False, True])
def test_a_timer_fires_when_the_clock_says_so(restart: bool, tmp_path: Path) -> None:
    async def act(world: World, wall: Wall) -> None:
        await world.define(flow("long", job("a", "sleep 10000", timeout=60)))
        await world.boot()
        number = await world.start("long")
        await world.until("long", number, lambda d: d.stages[0].jobs[0].row.status == "running")
        wall.off_s = 2 * HOUR_S
        if restart:
            await world.restart()
        detail = await world.done("long", number, within_s=60.0)
        assert detail.row.status == "timeout", describe(detail)

    play(tmp_path, act)
