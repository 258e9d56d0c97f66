"""Servers that were away, and executors that are: what another one may have taken meanwhile is left alone."""

import asyncio
from pathlib import Path
from typing import Any

from cador.ports.executor import Harvest, Unreachable
from cador.ports.logs import LogName
from engine.test_engine import KEY, Surprising, flow, job, play
from support.world import World


def test_a_server_that_was_frozen_while_it_closed_a_job_leaves_its_artifacts_alone(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        one = job("a", "exit 0")
        spec = {"upload_detail": [{"file_path": "made.txt", "dest_path": "/"}]}
        one["spec"]["steps"].append({"name": "keep", "type": "archive", "spec": spec})
        await world.define(flow([one]))
        await world.boot()
        closed = asyncio.Event()

        class Frozen(Surprising):
            async def harvest(self, key: str, ref: str) -> Harvest:
                world.blobs.put_bytes(f"tasks/{KEY}/1/a/archive/made.txt", b"of the server that goes on")
                world.engine._peers.holds = lambda: False  # type: ignore[method-assign]
                closed.set()
                return Harvest({}, workspace=tmp_path)

        executors: dict[str, Any] = world.engine.executions.executors  # type: ignore[assignment]
        executors["scripted"] = Frozen(executors["scripted"])
        await world.start(KEY)
        async with asyncio.timeout(60.0):
            await closed.wait()
        await asyncio.sleep(5.0)
        assert world.blobs.read(f"tasks/{KEY}/1/a/archive/made.txt") == b"of the server that goes on"
        assert not world.logs.complete(LogName(KEY, 1, "a", 1))

    play(tmp_path, act)


def test_executors_that_are_away_are_asked_by_one(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.boot()
        asked = 0

        class Away(Surprising):
            async def existing(self) -> Any:
                nonlocal asked
                asked += 1
                raise Unreachable("away")

        executors: dict[str, Any] = world.engine.executions.executors  # type: ignore[assignment]
        whole = dict(executors)
        for name, executor in whole.items():
            executors[name] = Away(executor)
        await world.engine.executions.adopter.adopt_free(sweep=True)
        await asyncio.sleep(60.0)
        assert 2 * 5 <= asked <= 2 * 7
        executors.update(whole)
        await asyncio.sleep(20.0)
        before = asked
        await asyncio.sleep(60.0)
        assert asked == before, "when they are back nobody asks any more"

    play(tmp_path, act)
