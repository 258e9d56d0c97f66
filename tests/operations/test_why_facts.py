"""Why a task waits, asked of a server that works: on the virtual clock."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cador.domain.errors import Forbidden
from cador.jobs.definition import normalise
from cador.operations import tasks
from cador.operations.actor import Actor
from cador.operations.task_values import JobInput, StartRequest
from cador.operations.why import Why
from cador.operations.why_facts import task_why
from cador.ports.admission import Blocker
from cador.ports.stores import Resource, WorkflowRow
from support import virtual_loop
from support.world import PROJECT, World, describe

ROLES = ("project-admin",)


def job(name: str, script: str = "sleep 60", **fields: Any) -> dict[str, Any]:
    steps = [{"name": "shell", "type": "shell", "spec": {"script": script}}]
    return {"name": name, "type": "freestyle", "spec": {"properties": {"timeout": 60}, "steps": steps}, **fields}


def workflow(name: str, *jobs: dict[str, Any], parallel: bool = False, **fields: Any) -> dict[str, Any]:
    stages = [{"name": "do", "parallel": parallel, "jobs": list(jobs or (job("j"),))}]
    return {"name": name, "stages": stages, **fields}


def play(folder: Path, script: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = await World.virtual(folder)
        try:
            await world.boot()
            await script(world)
        finally:
            await world.close()

    virtual_loop.run(main(), limit_s=86_400.0)


async def why(world: World, key: str, number: int, actor: Actor | None = None) -> Why:
    return (await task_why(world.ctx, actor or world.actor(), key, number)).why


async def runs(world: World, key: str, number: int) -> None:
    def running(detail: Any) -> bool:
        return any(one.row.status == "running" for stage in detail.stages for one in stage.jobs)

    await world.until(key, number, running)


def words(found: Why) -> dict[str, list[str]]:
    return {one.name: [str(wait.reason) for wait in one.waits] for one in found.jobs}


def test_a_workflow_that_is_full(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await world.define(workflow("w", concurrency_limit=1))
        for number in (1, 2, 3):
            assert await world.start("w") == number
        await runs(world, "w", 1)
        found = await why(world, "w", 3)
        (wait,) = found.waits
        assert (wait.reason, wait.blocking, wait.limit) == ("workflow_limit", (Blocker("w", 1, PROJECT),), 1)
        assert (found.position, found.start) == (2, None)  # nobody knows how long such a task takes
        assert words(found) == {"j": ["workflow_limit"]}
        assert (await why(world, "w", 1)).waits == ()

    play(tmp_path, script)


def test_when_it_may_start_comes_from_history(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await world.define(workflow("w", concurrency_limit=1))
        loop = asyncio.get_running_loop()
        for number in range(1, 7):
            await world.start("w")
            await world.done("w", number, within_s=120.0)
        for _ in range(3):
            await world.start("w")
        begun = world.clock()
        await runs(world, "w", 7)
        await asyncio.sleep(20.0)
        found = await why(world, "w", 9)
        assert found.start is not None
        assert (found.start.sure, found.start.samples) == ("good", 6)
        await world.until("w", 9, lambda detail: detail.row.start_at is not None, within_s=200.0)
        assert abs(found.start.at - world.clock()) < 1.0
        assert 119.0 < world.clock() - begun < 125.0
        assert loop.time() > 0

    play(tmp_path, script)


def test_a_server_that_is_full_hides_what_the_caller_may_not_see(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        world.max_running_tasks = 2
        document = {"project_key": "secret", "project_name": "Secret"}
        await world.db.write(lambda tx: tx.resources.add(Resource("project", "", "secret", document)))
        doc = normalise({"project": "secret", "concurrency_limit": -1, **workflow("hidden")})
        row = WorkflowRow("hidden", "secret", "hidden", "custom", -1, False, msgspec.json.encode(doc).decode(), 1,
                          "Admin", world.clock(), "Admin", world.clock())  # fmt: skip
        await world.db.write(lambda tx: tx.workflows.add(row))
        await world.define(workflow("w"))
        request = StartRequest("hidden", "secret", inputs=(JobInput("j"),))
        await tasks.start_task(world.ctx, world.actor(), request)
        await world.start("w")
        await world.start("w")
        ann = Actor("ann", "Ann", "ann", roles={PROJECT: ROLES})
        (wait,) = (await why(world, "w", 2, ann)).waits
        assert (wait.reason, wait.blocking, wait.hidden) == ("global_limit", (Blocker("w", 1, PROJECT),), 1)
        (wait,) = (await why(world, "w", 2)).waits
        assert {blocker.workflow_key for blocker in wait.blocking} == {"w", "hidden"}
        assert wait.hidden == 0
        seen = (await tasks.task_detail(world.ctx, ann, "w", 2)).queue
        assert seen is not None
        assert seen.waits[0].blocking == (Blocker("w", 1, PROJECT),)
        with pytest.raises(Forbidden):
            await why(world, "hidden", 1, ann)
        # Who sees one workflow sees its tasks.
        one = Actor("cid", "Cid", "cid", shared={PROJECT: {"w": frozenset({"get_workflow"})}})
        (wait,) = (await why(world, "w", 2, one)).waits
        assert (wait.blocking, wait.hidden) == ((Blocker("w", 1, PROJECT),), 1)

    play(tmp_path, script)


def test_a_server_without_room_for_one_more_job(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        world.max_jobs = 1
        await world.define(workflow("w", job("a"), job("b"), parallel=True))
        await world.start("w")
        await runs(world, "w", 1)
        found = await why(world, "w", 1)
        assert sorted(words(found).values()) == [[], ["no_room"]]
        assert found.waits == ()

    play(tmp_path, script)


def test_who_decides_is_named_and_what_is_not_here(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        people = [{"type": "user", "user_id": "ann", "user_name": "Ann"}, {"type": "task_creator"}]
        asked = job("a", "exit 3", error_policy={"policy": "manual_check", "approval_users": people})
        await world.define(workflow("w", asked, {"name": "b", "type": "k8s-resource-patch", "spec": {}}))
        await world.start("w", jobs=["a", "b"])
        detail = await world.until("w", 1, lambda d: d.stages[0].jobs[0].row.status == "wait_for_manual_error_handling")
        found = await why(world, "w", 1)
        assert [(wait.reason, [p.user_name for p in wait.people]) for wait in found.waits] == [
            ("decision", ["Ann", "Admin"])
        ], describe(detail)
        assert words(found) == {"a": ["decision"], "b": ["stage_order", "no_executor"]}
        await world.decide("w", 1, "a", ignore=False, by="ann")
        await world.done("w", 1)
        assert words(await why(world, "w", 1)) == {"a": ["finished"], "b": ["not_reached"]}

    play(tmp_path, script)


def test_who_may_start_a_stage_is_named(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        document = workflow("w")
        people = [{"type": "user", "user_id": "ann", "user_name": "Ann"}]
        document["stages"][0]["manual_exec"] = {"enabled": True, "manual_exec_users": people}
        await world.define(document)
        await world.start("w")
        await world.until("w", 1, lambda detail: detail.row.status == "pause")
        found = await why(world, "w", 1)
        assert [(str(wait.reason), [p.user_name for p in wait.people]) for wait in found.waits] == [
            ("manual_stage", ["Ann"])
        ]
        assert found.waits == found.jobs[0].waits

    play(tmp_path, script)


def test_a_workflow_that_may_not_run(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await world.define(workflow("w", concurrency_limit=1))
        await world.start("w")
        await world.start("w")

        def close(tx: Any) -> None:
            tx.connection.exec_driver_sql("UPDATE workflow SET concurrency_limit = 0")

        await world.db.write(close)
        found = await why(world, "w", 2)
        assert ([str(wait.reason) for wait in found.waits], found.start) == (["not_executable"], None)

    play(tmp_path, script)


def test_forecasts_come_true(tmp_path: Path) -> None:
    """Several workflows of steady length, a full server, limits of workflows: each start is told to the second."""

    async def script(world: World) -> None:
        world.max_running_tasks = 2
        lengths = {"a": (20, -1), "b": (35, 1), "c": (50, 2)}
        for key, (length, limit) in lengths.items():
            await world.define(workflow(key, job("j", f"sleep {length}"), concurrency_limit=limit))
            for number in range(1, 6):
                await world.start(key)
                await world.done(key, number, within_s=120.0)
        queue = [(key, await world.start(key)) for key in "bcbbacbaacbc"]
        await asyncio.sleep(7.0)
        told = {}
        for key, number in queue[2:]:
            start = (await why(world, key, number)).start
            assert start is not None
            assert (start.sure, start.samples) == ("good", 5)
            told[key, number] = start.at
        for key, number in queue[2:]:
            detail = await world.done(key, number, within_s=1_000.0)
            assert detail.row.start_at is not None
            assert abs(detail.row.start_at - told[key, number]) < 1.0, (key, number)

    play(tmp_path, script)


def test_a_cap_is_told_and_not_forecast(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await world.define(workflow("w"))
        await world.start("w")
        await world.done("w", 1, within_s=120.0)

        def cap(tx: Any) -> None:
            tx.admission.lock()
            tx.admission.set_limits(None, None, 1)

        await world.db.write(cap)
        await world.start("w")
        await world.start("w")
        found = await why(world, "w", 3)
        (wait,) = found.waits
        assert (wait.reason, wait.limit, wait.blocking) == ("user_cap", 1, (Blocker("w", 2, PROJECT),))
        assert wait.text == "who started it may run 1 task at once (engine.max_running_per_user)"
        assert found.start is None

    play(tmp_path, script)
