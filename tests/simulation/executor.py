"""The outside as one process meets it: the scripted executor behind a way that is slow, breaks, and loses replies."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Set

from cador.executors.scripted import ScriptedExecutor
from cador.ports.executor import End, Harvest, JobFolder, Output, StepMark, Unreachable
from simulation.loop import Process


class Way:
    """How the way to the executor is now. Shared by all processes; ``cut``: those that do not get through."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.slow = 0.0
        """Share of the calls that take a while."""
        self.failing = 0.0
        """Share of the calls that fail, before or after they have done what they should."""
        self.cut: set[Process] = set()
        self.calls: Callable[[Process, str, str], None] = lambda process, call, key: None

    async def there(self, process: Process, call: str, key: str) -> None:
        self.calls(process, call, key)
        await self._travel(process, call)

    async def back(self, process: Process, call: str) -> None:
        self.calls(process, f"{call} back", "")
        await self._travel(process, call)

    async def _travel(self, process: Process, call: str) -> None:
        dice = self.dice
        if process.frozen or not process.alive:  # by now: it goes no further in this step
            await asyncio.sleep(0)
        if process in self.cut:
            raise Unreachable("simulated to be cut off")
        if dice.random() < self.slow:
            await asyncio.sleep(dice.choice((0.0, 0.01, 0.3, 3.0)) * dice.random())
        if dice.random() < self.failing:
            # What a contract allows for a call: stop and remove may fail in any way, start may be tried again.
            raise dice.choice((OSError(f"simulated: {call}"), Unreachable(f"simulated: {call}")))


class SimulatedExecutor:
    """See :class:`cador.ports.executor.Executor`."""

    name = "scripted"

    def __init__(self, inner: ScriptedExecutor, way: Way, process: Process) -> None:
        self._inner, self._way, self._process = inner, way, process

    @property
    def place(self) -> str:
        return self._inner.place

    async def start(self, key: str, job: JobFolder) -> str:
        await self._way.there(self._process, "start", key)
        ref = await self._inner.start(key, job)
        await self._way.back(self._process, "start")
        return ref

    async def follow(self, key: str, ref: str, after: int) -> AsyncIterator[Output | StepMark | End]:
        await self._way.there(self._process, "follow", key)
        async for item in self._inner.follow(key, ref, after):
            await self._way.back(self._process, "follow")
            yield item

    async def stop(self, key: str, ref: str, reason: str, grace_s: float) -> None:
        await self._way.there(self._process, "stop", key)
        await self._inner.stop(key, ref, reason, grace_s)
        await self._way.back(self._process, "stop")

    async def harvest(self, key: str, ref: str) -> Harvest:
        await self._way.there(self._process, "harvest", key)
        harvest = await self._inner.harvest(key, ref)
        await self._way.back(self._process, "harvest")
        return harvest

    def consumed(self, key: str, upto: int) -> None:
        self._inner.consumed(key, upto)

    async def remove(self, key: str, ref: str) -> None:
        await self._way.there(self._process, "remove", key)
        await self._inner.remove(key, ref)
        await self._way.back(self._process, "remove")

    async def sweep(self, unwanted: Set[str]) -> Set[str]:
        await self._way.there(self._process, "sweep", "")
        return await self._inner.sweep(unwanted)

    async def existing(self) -> Set[str]:
        await self._way.there(self._process, "existing", "")
        return await self._inner.existing()

    async def close(self) -> None:
        await self._inner.close()
