"""What goes: old tasks, deleted workflows, and what they left on the disk - also when the server dies in between."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from cador.domain.errors import CadorError, Invalid, NotFound, Unavailable
from cador.engine import housekeeping
from cador.engine.housekeeping import Retention
from cador.operations import tasks, workflows
from cador.operations.system_settings import change_settings, live_settings
from cador.ports.stores import TaskFilter, Tx
from cador.storage.tables import command, remains, workflow_task
from engine.test_engine import KEY, flow, job, once, play, wrapped
from support import virtual_loop
from support.world import PROJECT, World

HOURS_S = 3 * 3600.0


async def kept(world: World) -> list[int]:
    """Numbers of the tasks that have rows."""
    statement = select(workflow_task.c.number).order_by(workflow_task.c.number)
    return await world.db.read(lambda tx: list(tx.connection.execute(statement).scalars()))


async def left(world: World) -> int:
    return await world.db.read(lambda tx: len(tx.connection.execute(select(remains.c.id)).all()))


async def listed(world: World, key: str = KEY) -> list[int]:
    rows = await world.db.read(lambda tx: tx.tasks.list_tasks(TaskFilter(workflow_key=key)))
    return [row.number for row in rows]


async def delete(world: World) -> None:
    await workflows.delete_workflow(world.ctx, world.actor(), KEY, PROJECT)


async def until(reached: Any, within_s: float = 60.0) -> None:
    """Wait, in the world's own time, for what housekeeping does by itself."""
    async with asyncio.timeout(within_s):
        while not await reached():  # noqa: ASYNC110 - nobody tells it
            await asyncio.sleep(0.05)


def files(world: World, number: int) -> bool:
    return world.has_files(KEY, number)


# -- a deleted workflow


def test_a_workflow_is_deleted_while_it_runs(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.define(flow([job("a", "echo hello\nsleep 60")]))
        await world.boot()
        number = await world.start(KEY)
        await world.until(KEY, number, lambda d: d.stages[0].jobs[0].row.status == "running")
        world.blobs.put_bytes(f"tasks/{KEY}/{number}/a/archive/x", b"x")
        task_id = await world.db.read(lambda tx: tx.tasks.find_id(KEY, number))
        assert files(world, number)
        await delete(world)
        with pytest.raises(NotFound):
            await world.detail(KEY, number)
        row = await world.db.read(lambda tx: tx.tasks.row(task_id))
        assert (row.status, row.revoker) == ("cancelling", "system")
        assert await world.db.read(lambda tx: tx.executions.list_executions()), "its job is not down yet"

        async def gone() -> bool:
            return await kept(world) == [] and not files(world, number)

        await until(gone)
        assert await world.db.read(lambda tx: tx.executions.list_executions()) == []
        assert await left(world) == 0
        await world.define(flow([job("a", "exit 0")]))
        assert await world.start(KEY) == number + 1, "numbers are never used twice"

    play(tmp_path, act)


def test_a_large_workflow_is_deleted_in_short_transactions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "CANCELS", 2)
    monkeypatch.setattr(housekeeping, "MARKS", 3)
    monkeypatch.setattr(housekeeping, "REMOVES", 2)

    async def act(world: World) -> None:
        world.max_running_tasks = 1
        await world.define(flow([job("a", "sleep 600")]))
        db = wrapped(world)
        steps: list[str] = []

        async def note(fn: Any) -> None:
            steps.append(fn.__name__)

        db.before = note
        await world.boot()
        for _ in range(9):
            await world.start(KEY)
        steps.clear()
        await delete(world)
        assert steps.count("bury_more") >= 3
        assert await listed(world) == []
        assert await world.db.read(lambda tx: tx.tasks.count(KEY)) == 0
        with pytest.raises(NotFound):
            await world.detail(KEY, 9)

        async def gone() -> bool:
            return await kept(world) == []

        await until(gone)
        assert steps.count("_sweep") >= 5

    play(tmp_path, act)


@pytest.mark.parametrize("step", ["bury_more", "_sweep", "_cleared"])
def test_a_server_that_dies_while_it_buries_is_gone_on_for(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "MARKS", 2)

    async def act(world: World) -> None:
        await world.define(flow([job("a", "echo hello\nsleep 60")]))
        db = wrapped(world)
        await world.boot()
        for number in (1, 2, 3):
            await world.start(KEY)
            await world.until(KEY, number, lambda d: d.stages[0].jobs[0].row.status == "running")
        dies = asyncio.Event()

        async def die(fn: Any) -> None:
            if fn.__name__ == step:
                dies.set()
                await asyncio.Event().wait()

        db.before = die
        deleting = asyncio.ensure_future(delete(world))
        async with asyncio.timeout(60.0):
            await dies.wait()
        deleting.cancel()
        await asyncio.gather(deleting, return_exceptions=True)
        db.before = None
        await world.restart()

        async def gone() -> bool:
            return await kept(world) == [] and await left(world) == 0 and not any(files(world, n) for n in (1, 2, 3))

        await until(gone, 700.0)

    play(tmp_path, act)


def test_nothing_of_a_deleted_workflow_starts_in_one_that_takes_its_name(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.define(flow([job("a", "sleep 5")], concurrency_limit=1))
        await world.boot()
        for _ in range(3):
            await world.start(KEY)
        old = await world.db.read(lambda tx: [tx.tasks.find_id(KEY, n) for n in (1, 2, 3)])
        await world.cancel(KEY, 1)
        await world.retry(KEY, 1)
        await delete(world)
        await world.define(flow([job("a", "exit 0")], concurrency_limit=1))
        assert (await world.done(KEY, await world.start(KEY))).row.status == "passed"

        async def gone() -> bool:
            return await kept(world) == [4]

        await until(gone)
        for task_id in old:
            with pytest.raises(NotFound):
                await world.db.read(lambda tx, task_id=task_id: tx.tasks.row(task_id))

    play(tmp_path, act)


def test_what_cannot_be_deleted_now_is_not_forgotten(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.define(flow([job("a", "echo hello")]))
        await world.boot()
        for number in (1, 2):
            await world.start(KEY)
            await world.done(KEY, number)
        stuck, delete_logs = [1], world.logs.delete

        def refuse(workflow: str, number: int) -> None:
            if number in stuck:
                raise PermissionError("busy")
            delete_logs(workflow, number)

        world.logs.delete = refuse  # type: ignore[method-assign]
        await delete(world)

        async def one() -> bool:
            return await left(world) == 1

        await until(one)
        assert (files(world, 1), files(world, 2)) == (True, False)
        stuck.clear()

        async def none() -> bool:
            return await left(world) == 0

        await until(none, 700.0)
        assert not files(world, 1)

    play(tmp_path, act)


# -- old tasks


async def age(world: World, days: float, *numbers: int) -> None:
    """Let these tasks be older."""

    def write(tx: Tx) -> None:
        t = workflow_task.c
        back = days * 86_400.0
        where = update(workflow_task).where(t.number.in_(numbers))
        tx.connection.execute(where.values(create_at=t.create_at - back, end_at=t.end_at - back))

    await world.db.write(write)


async def passed(world: World, count: int) -> None:
    for _ in range(count):
        await world.done(KEY, await world.start(KEY))


def test_old_tasks_leave_the_lists_and_the_disk(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        world.retention = Retention(max_days=30)
        world.max_running_tasks = 1
        await world.define(flow([job("a", "echo hello\nexit 1")]))
        await world.define({**flow([job("a", "sleep 100000")]), "name": "long"})
        await world.boot()
        await passed(world, 3)
        await world.start("long")
        await world.start(KEY)
        await age(world, 31, 1, 2, 4)
        await age(world, 40, 4)
        await asyncio.sleep(HOURS_S)
        assert await listed(world) == [4, 3] or await listed(world) == [3, 4], "the waiting one stays, old as it is"
        assert await listed(world, "long") == [1]
        assert [files(world, n) for n in (1, 2, 3)] == [False, False, True]
        detail = await world.detail(KEY, 1)
        assert detail.archived
        assert (detail.row.status, detail.stages[0].jobs[0].row.error) == ("failed", "exit status 1")
        with pytest.raises(CadorError, match=r"archived, cannot retry"):
            await world.retry(KEY, 1)
        await tasks.set_remark(world.ctx, world.actor(), KEY, 1, "kept for the record")
        assert (await world.detail(KEY, 1)).row.remark == "kept for the record"
        await world.retry(KEY, 3)

    play(tmp_path, act)


def test_only_the_newest_stay_and_later_nothing_is_left(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        world.retention = Retention(max_days=0, max_items_per_workflow=2, purge_days=7)
        await world.define(flow([job("a", "echo hello")]))
        await world.boot()
        await passed(world, 5)
        await asyncio.sleep(HOURS_S)
        assert (await listed(world), await kept(world)) == ([5, 4], [1, 2, 3, 4, 5])

        def earlier(tx: Tx) -> None:
            t = workflow_task.c
            day_8 = world.clock() - 8 * 86_400.0
            tx.connection.execute(update(workflow_task).where(t.number < 3).values(archived_at=day_8))

        await world.db.write(earlier)
        await asyncio.sleep(HOURS_S)
        assert await kept(world) == [3, 4, 5]
        assert await world.start(KEY) == 6

    play(tmp_path, act)


def test_the_house_is_kept_by_one_command_whatever_happens(tmp_path: Path) -> None:
    async def pending(world: World) -> list[tuple[str, int]]:
        rows = select(command.c.kind, command.c.tries).where(command.c.kind == "housekeep")
        return await world.db.read(lambda tx: [tuple(row) for row in tx.connection.execute(rows)])

    async def act(world: World) -> None:
        world.retention = Retention(max_days=30)
        await world.define(flow([job("a", "echo hello")]))
        db = wrapped(world)
        await world.boot()
        await world.restart()
        assert await pending(world) == [("housekeep", 0)]
        await passed(world, 1)
        await age(world, 31, 1)
        db.before = once("_archive_older", Unavailable("away"))
        await asyncio.sleep(HOURS_S)
        assert await listed(world) == []
        assert await pending(world) == [("housekeep", 0)]

    play(tmp_path, act)


def test_how_long_tasks_are_kept_is_changed_while_the_server_works(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        world.retention = Retention(max_days=30)
        await world.define(flow([job("a", "echo hello")]))
        await world.boot()
        await passed(world, 3)
        await age(world, 10, 1, 2)
        await asyncio.sleep(HOURS_S)
        assert await listed(world) == [3, 2, 1]
        admin = world.actor()
        told = await change_settings(world.ctx, admin, {"retention.max_days": 7, "retention.purge_days": 1})
        assert {one.name: (one.value, one.configured, one.live) for one in told if one.name.startswith("ret")} == {
            "retention.max_days": (7, 30, True),
            "retention.max_items_per_workflow": (0, 0, False),
            "retention.purge_days": (1, 0, True),
        }
        assert await listed(world) == [3, 2, 1], "a mistake can be taken back"
        await world.restart()
        await asyncio.sleep(HOURS_S)
        assert (await listed(world), await kept(world)) == ([3], [1, 2, 3])
        await change_settings(world.ctx, admin, {"retention.max_days": None, "retention.purge_days": None})
        assert not any(one.live for one in await live_settings(world.ctx, admin))
        for wrong in ({"retention.max_day": 1}, {"retention.max_days": -1}, {"retention.purge_days": "1"}):
            with pytest.raises(Invalid) as refused:
                await change_settings(world.ctx, admin, wrong)
            assert refused.value.place == next(iter(wrong))

    play(tmp_path, act)


# -- a server that dies at any commit


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("moment", ["commit", "committed"])
@pytest.mark.parametrize("what", ["deleted", "archived"])
def test_dying_at_any_commit_leaves_nothing_lying(
    what: str, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after each commit in turn, until the whole of it went by undisturbed."""
    monkeypatch.setattr(housekeeping, "CANCELS", 1)
    monkeypatch.setattr(housekeeping, "MARKS", 2)
    monkeypatch.setattr(housekeeping, "ARCHIVES", 2)
    monkeypatch.setattr(housekeeping, "REMOVES", 2)

    async def one(world: World, dies_at: int) -> bool:
        world.retention = Retention(max_days=0, max_items_per_workflow=1) if what == "archived" else None
        script = "echo hello" if what == "archived" else "echo hello\nsleep 30"
        await world.define(flow([job("a", script)]))
        await world.boot()
        for number in (1, 2, 3):
            await world.start(KEY)
            await world.until(KEY, number, lambda d: d.stages[0].jobs[0].row.status in ("running", "passed"))
        commits = 0

        def point(name: str) -> None:
            nonlocal commits
            commits += name == moment
            if commits >= dies_at:
                raise Unavailable("this process is dead")

        async def over() -> bool:
            if what == "archived":
                return await listed(world) == [3] and not files(world, 1) and not files(world, 2)
            return await kept(world) == [] and not any(files(world, n) for n in (1, 2, 3))

        if what == "archived":
            await world.done(KEY, 3)
            hour = select(command.c.due_at).where(command.c.kind == "housekeep")
            due_at = await world.db.read(lambda tx: tx.connection.execute(hour).scalar_one())
            await asyncio.sleep(due_at - world.clock() - 1.0)
        world.db.point = point
        deleted = what == "archived"
        with contextlib.suppress(Unavailable):
            if what == "deleted":
                await delete(world)
                deleted = True
            await asyncio.sleep(40.0)
        dead = commits >= dies_at
        await world.kill()
        world.db.point = lambda name: None
        await world.boot()
        if not deleted and await world.db.read(lambda tx: tx.workflows.find(KEY)) is not None:
            await delete(world)
        await until(over, 5000.0)
        await asyncio.sleep(700.0)
        assert await left(world) == 0
        assert world.scripted is not None
        assert not world.scripted.runs
        commands = select(command.c.kind)
        kinds = await world.db.read(lambda tx: list(tx.connection.execute(commands).scalars()))
        assert kinds == (["housekeep"] if what == "archived" else [])
        return dead

    async def all_of_them() -> None:
        dies_at = 1
        while True:
            folder = tmp_path / str(dies_at)
            folder.mkdir()
            world = await World.virtual(folder)
            try:
                if not await one(world, dies_at):
                    break
            finally:
                await world.close()
            dies_at += 1
        assert dies_at > 4, "it was never disturbed"

    virtual_loop.run(all_of_them(), limit_s=30 * 86_400.0)
