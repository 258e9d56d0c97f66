"""Details that are remembered are those of the tables, whatever happens to a task; on the virtual clock."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cador.domain import events as ev
from cador.domain.errors import Forbidden, NotFound
from cador.domain.sharing import QueueLimits
from cador.engine.hearing import Claim, Ear
from cador.operations.actor import Actor
from cador.operations.detail_memory import DetailMemory
from cador.operations.task_values import TaskDetail
from cador.operations.tasks import set_remark, task_detail
from cador.ports.stores import Tx
from support import virtual_loop
from support.world import PROJECT, World

KEY = "flow"


def job(name: str, script: str, **more: Any) -> dict[str, Any]:
    steps = [{"name": "shell", "type": "shell", "spec": {"script": script}}]
    spec = {"properties": {"timeout": 60}, "steps": steps, "outputs": [{"name": "WORD"}]}
    return {"name": name, "type": "freestyle", "spec": spec, **more}


def approval() -> dict[str, Any]:
    users = [{"user_id": name, "user_name": name} for name in ("ann", "ben")]
    native = {"approve_users": users, "needed_approvers": 2, "timeout": 60}
    return {"name": "ask", "type": "approval", "spec": {"type": "native", "native_approval": native}}


FLOW = {
    "name": KEY,
    "params": [{"name": "CODE", "type": "string", "value": "7"}],
    "stages": [
        {"name": "one", "parallel": True, "jobs": [job("a", "WORD=said\nsleep 1"), job("b", "sleep 2")]},
        {"name": "two", "jobs": [approval()]},
        {"name": "three", "jobs": [job("c", "exit {{.workflow.params.CODE}}")]},
    ],
}


def play(folder: Path, act: Callable[[World], Awaitable[None]]) -> None:
    async def whole() -> None:
        world = await World.virtual(folder)
        try:
            await world.define(FLOW)
            await world.boot()
            await act(world)
        finally:
            await world.close()

    virtual_loop.run(whole(), limit_s=86_400.0)


async def both(world: World, number: int = 1, actor: Actor | None = None) -> TaskDetail:
    """The detail as it is remembered, which must be what the tables say in the same instant."""
    who = actor or world.actor()
    known = await task_detail(world.ctx, who, KEY, number)
    assert known == await task_detail(replace(world.ctx, details=DetailMemory()), who, KEY, number)
    return known


async def watched(world: World, number: int) -> None:
    while True:
        detail = await both(world, number)
        await world.engine.changed(detail.row.id, 0.1)


def test_it_is_what_the_tables_say_from_the_beginning_to_the_end(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.start(KEY, remark="first")
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watched(world, 1))
            await world.until(KEY, 1, lambda detail: detail.stages[1].jobs[0].row.status == "wait_for_approval")
            await set_remark(world.ctx, world.actor(), KEY, 1, "second")
            assert (await both(world)).row.remark == "second"
            for by in ("ann", "ben"):
                await world.approve(KEY, 1, "two", by=by, comment=f"{by} agrees")
                votes = (await both(world)).stages[1].jobs[0].approval
                assert votes is not None
                assert f"{by} agrees" in [voter.comment for voter in votes.voters]
            assert (await world.done(KEY, 1)).row.status == "failed"
            await world.retry(KEY, 1, parameters={"CODE": "0"})
            assert (await world.done(KEY, 1)).row.status == "passed"
            watching.cancel()
        detail = await both(world)
        assert [attempt.status for attempt in detail.attempts] == ["passed", "passed", "failed", "passed"]
        assert detail.stages[0].jobs[0].row.outputs == {"WORD": "said"}
        assert detail.params[0]["value"] == "0"
        await world.db.write(lambda tx: tx.housekeeping.archive([detail.row.id], 1.0))
        assert (await both(world)).archived

    play(tmp_path, act)


def test_what_did_not_change_is_not_put_together_again(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.start(KEY)
        await world.start(KEY)
        await world.until(KEY, 1, lambda detail: detail.stages[0].jobs[1].row.status == "running")
        first = await both(world)
        assert await task_detail(world.ctx, world.actor(), KEY, 1) is first
        other = Actor("ann", "Ann", "ann", roles={PROJECT: ("project-admin",)})
        assert await task_detail(world.ctx, other, KEY, 1) is first
        assert (await both(world, 2)).row.number == 2, "tasks are told apart"

    play(tmp_path, act)


def test_it_shows_nothing_to_somebody_who_may_not_see_it(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.start(KEY)
        await both(world)
        assert world.ctx.details.knows(KEY, 1)
        for stranger in (Actor("eve", "Eve", "eve"), Actor("eve", "Eve", "eve", roles={"other": ("project-admin",)})):
            with pytest.raises((Forbidden, NotFound)):
                await task_detail(world.ctx, stranger, KEY, 1)
        await world.db.write(lambda tx: (tx.housekeeping.bury(KEY), tx.housekeeping.mark(KEY, 0, 9, 9)))
        with pytest.raises(NotFound):
            await task_detail(world.ctx, world.actor(), KEY, 1)

    play(tmp_path, act)


def test_a_task_that_waits_for_its_turn_is_looked_at_each_time(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        world.max_running_tasks = 1
        for _ in range(3):
            await world.start(KEY)
        places = []
        for number in (1, 2, 3):
            queue = (await both(world, number)).queue
            places.append(queue.position if queue is not None else 0)
        assert places == [0, 1, 2]
        assert [world.ctx.details.knows(KEY, number) for number in (1, 2, 3)] == [True, False, False]

    play(tmp_path, act)


def test_what_is_written_beside_an_event_is_seen_though_the_event_moves_nothing(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.start(KEY)
        detail = await world.until(KEY, 1, lambda detail: detail.stages[0].jobs[1].row.status == "running")
        row = detail.stages[0].jobs[1].row
        again = ev.JobStarted(world.clock(), row.id, row.attempt, row.recovery)

        def hear(tx: Tx) -> bool:
            ear = Ear(tx, Claim("nobody", QueueLimits(9)))
            before = tx.tasks.load(detail.row.id)
            return before == ear.hear(
                detail.row.id, again, lambda tx, before, after: tx.tasks.merge_result(row.id, {"warnings": ["late"]})
            )

        assert await world.db.write(hear), "heard, and without effect"
        assert f"job {row.name}: late" in (await both(world)).warnings

    play(tmp_path, act)


def test_it_holds_so_many_jobs_and_forgets_the_oldest(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        world.max_running_tasks = 9
        small = replace(world.ctx, details=DetailMemory(12))  # a task of four jobs counts as five
        for number in (1, 2, 3):
            await world.start(KEY)
            await task_detail(small, world.actor(), KEY, number)
        assert [small.details.knows(KEY, number) for number in (1, 2, 3)] == [False, True, True]
        tiny = replace(world.ctx, details=DetailMemory(4))
        await task_detail(tiny, world.actor(), KEY, 1)
        assert not tiny.details.knows(KEY, 1), "one that is too big is not kept"

    play(tmp_path, act)
