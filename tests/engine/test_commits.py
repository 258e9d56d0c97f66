"""Tasks that are archived are not found by their commits any more."""

import asyncio
from pathlib import Path

from cador.engine.housekeeping import Retention
from cador.operations.legacy import tasks_of_commit
from cador.ports.stores import Tx
from cador.storage.tables import task_commit
from engine.test_engine import KEY, flow, job, play
from engine.test_housekeeping import HOURS_S, age
from support.world import PROJECT, World

COMMIT = "a13120997b95d8b63f2b5b29c700f89d38a5de54"


def test_archived_tasks_are_not_found_by_their_commits(tmp_path: Path) -> None:
    async def found(world: World) -> list[int]:
        return [row.number for row in await tasks_of_commit(world.ctx, world.actor(), COMMIT[:8])]

    def add(tx: Tx) -> None:
        for number in (1, 2):
            task_id = tx.tasks.find_id(KEY, number)
            assert task_id is not None
            tx.commits.add(task_id, PROJECT, (COMMIT,))

    async def act(world: World) -> None:
        world.retention = Retention(max_days=30)
        await world.define(flow([job("a", "exit 0")]))
        await world.boot()
        for _ in range(2):
            await world.done(KEY, await world.start(KEY))
        await world.db.write(add)
        assert await found(world) == [2, 1]
        await age(world, 31, 1)
        await asyncio.sleep(HOURS_S)
        assert await found(world) == [2]
        left = await world.db.read(lambda tx: tx.connection.execute(task_commit.select()).all())
        assert len(left) == 1, "what is not found is not kept"

    play(tmp_path, act)
