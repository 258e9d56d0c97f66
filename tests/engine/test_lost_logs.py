"""The log of a job whose execution is lost: it goes on when the job is run again, and ends when it is not."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from cador.domain.errors import Unavailable
from cador.engine.following import FETCH_S
from cador.ports.logs import LogName
from engine.test_engine import wrapped
from support import virtual_loop
from support.world import World, describe

FLOW: dict[str, Any] = {
    "name": "flow",
    "stages": [
        {
            "name": "only",
            "parallel": False,
            "jobs": [
                {
                    "name": "a",
                    "type": "freestyle",
                    "spec": {
                        "properties": {"timeout": 60},
                        "steps": [
                            {
                                "name": "shell",
                                "type": "shell",
                                "spec": {"script": "echo it began\nsleep 600\necho it ends"},
                            }
                        ],
                    },
                }
            ],
        }
    ],
}
NAME = LogName("flow", 1, "a", 1)


def play(tmp_path: Path, act: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        world = await World.virtual(tmp_path)
        try:
            await world.define(FLOW)
            await world.boot()
            await world.start("flow")
            await world.until("flow", 1, lambda detail: detail.stages[0].jobs[0].row.status == "running")
            await asyncio.sleep(300.0)
            await act(world)
        finally:
            await world.close()

    virtual_loop.run(whole(), limit_s=86_400.0)


def said(world: World) -> list[str]:
    data = world.logs.read(NAME, 0, 1 << 20).data.decode()
    return [line[24:] for line in data.splitlines() if "it " in line or "lost" in line]


async def completed(world: World) -> None:
    while not world.logs.complete(NAME):  # noqa: ASYNC110 - on the virtual clock
        await asyncio.sleep(1.0)


class Away:
    """Logs whose beginnings are in a store that does not answer for so long."""

    def __init__(self, world: World, until: float) -> None:
        self._world, self._logs, self._until = world, world.logs, until
        self.opened_at = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logs, name)

    def fetch(self, name: LogName) -> bool:
        return self._world.clock() >= self._until

    def open(self, *about: Any) -> Any:
        self.opened_at = self._world.clock()
        return self._logs.open(*about)


@pytest.mark.parametrize(("away_s", "waits_s"), [(20.0, 20.0), (3000.0, FETCH_S)])
def test_an_adopted_job_waits_for_the_beginning_of_its_log_but_not_for_ever(
    away_s: float, waits_s: float, tmp_path: Path
) -> None:
    async def act(world: World) -> None:
        await world.kill()
        began = world.clock()
        away = Away(world, began + away_s)
        world.logs = away  # type: ignore[assignment]
        await world.boot()
        detail = await world.done("flow", 1, within_s=2000.0)
        assert detail.row.status == "passed", describe(detail)
        assert waits_s <= away.opened_at - began < waits_s + 5.0

    play(tmp_path, act)


def test_both_runs_are_in_the_log_of_the_attempt(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        assert world.scripted is not None
        assert said(world) == ["it began"]
        world.scripted.runs.clear()
        world.scripted.changed()
        detail = await world.done("flow", 1, within_s=2000.0)
        assert detail.row.status == "passed", describe(detail)
        await completed(world)
        assert said(world) == ["it began", "it began", "it ends"]

    play(tmp_path, act)


def test_a_job_that_is_not_run_again_has_a_complete_log_with_the_reason(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        assert world.scripted is not None
        world.scripted.reachable = False
        world.scripted.changed()
        detail = await world.done("flow", 1, within_s=2000.0)
        assert detail.row.status == "failed", describe(detail)
        await completed(world)
        assert said(world)[0] == "it began"
        assert said(world)[-1].startswith("lost executor")

    play(tmp_path, act)


def test_a_job_that_was_judged_and_is_gone_is_not_run_again(tmp_path: Path) -> None:
    """Its log was completed, its end could not be told, and its machine lost it: another run had nowhere to write."""

    async def act(world: World) -> None:
        assert world.scripted is not None
        db = wrapped(world)
        await world.restart()
        away = asyncio.Event()

        async def die(fn: Any) -> None:
            if fn.__name__ == "_ended":
                away.set()
                raise Unavailable("database: away")

        db.before = die
        async with asyncio.timeout(2000.0):
            await away.wait()
        await world.kill()
        assert world.logs.complete(NAME)
        world.scripted.runs.clear()
        db.before = None
        await world.boot()
        detail = await world.done("flow", 1, within_s=2000.0)
        row = detail.stages[0].jobs[0].row
        assert (row.status, row.error, row.recovery) == ("failed", "interrupted by server restart", 0)
        assert said(world) == ["it began", "it ends"]

    play(tmp_path, act)
