"""The place a task has in the queue is that of its creation, whatever happened to it since."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from support import virtual_loop
from support.world import World


def play(tmp_path: Path, act: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        world = await World.virtual(tmp_path)
        world.max_running_tasks = 1
        try:
            await act(world)
        finally:
            await world.close()

    virtual_loop.run(whole())


def definition(key: str, *before: dict[str, Any]) -> dict[str, Any]:
    steps = [{"name": "shell", "type": "shell", "spec": {"script": "sleep 60"}}]
    work = {"name": "work", "type": "freestyle", "spec": {"properties": {"timeout": 60}, "steps": steps}}
    jobs = [*before, work]
    return {"name": key, "stages": [{"name": f"s{number}", "jobs": [one]} for number, one in enumerate(jobs)]}


ASK = {
    "name": "ask",
    "type": "approval",
    "spec": {
        "type": "native",
        "timeout": 60,
        "native_approval": {"approve_users": [{"user_id": "ann", "user_name": "Ann"}], "needed_approvers": 1},
    },
}


async def runs(world: World, key: str, number: int) -> None:
    await world.until(key, number, lambda detail: detail.row.slot == "held")


def test_a_retried_task_goes_before_younger_ones(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.define(definition("w"))
        await world.boot()
        for _ in range(4):
            await world.start("w")
        await runs(world, "w", 1)
        await world.cancel("w", 1)
        await runs(world, "w", 2)
        await world.retry("w", 1)
        await world.cancel("w", 2)
        await runs(world, "w", 1)
        assert (await world.detail("w", 3)).row.status == "waiting"

    play(tmp_path, act)


def test_an_approved_task_goes_before_younger_ones(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.define(definition("careful", ASK))
        await world.define(definition("w"))
        await world.boot()
        await world.start("careful")
        await world.until("careful", 1, lambda detail: detail.row.waiting_for == "approval")
        for _ in range(3):
            await world.start("w")
        await runs(world, "w", 1)
        await world.approve("careful", 1, "s0", by="ann")
        assert (await world.detail("careful", 1)).row.waiting_for == "slot"
        await world.cancel("w", 1)
        await runs(world, "careful", 1)
        assert (await world.detail("w", 2)).row.status == "waiting"

    play(tmp_path, act)
