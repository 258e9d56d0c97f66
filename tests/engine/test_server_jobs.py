"""Jobs that the server itself carries out, when servers come and go."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from cador.domain.workflow import Job
from cador.executors.server import ServerExecutor
from cador.jobs.base import Doc, Run, Scope
from cador.jobs.server import ServerType
from cador.ports.actions import ActionRun
from cador.ports.stores import Tx
from engine.test_engine import wrapped
from support import virtual_loop
from support.world import World, describe

KEY = "acts"


class Again(ServerType):
    """May be repeated."""

    name = "again"
    repeatable = True

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> dict[str, Any]:
        return dict(job.spec)

    def plan(self, job: Job, scope: Scope) -> dict[str, Any]:
        return dict(job.spec)

    def arguments(self, plan: Doc, run: Run) -> dict[str, Any]:
        return dict(plan)

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> dict[str, Any]:
        return dict(plan)


class Once(Again):
    """May not."""

    name = "once"
    repeatable = False


class Deeds:
    """*began*: the key of each action that began; *ended*: of each that came to its end."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []
        self.broken: list[str] = []

    async def act(self, run: ActionRun, arguments: Mapping[str, Any]) -> None:
        self.began.append(run.key)
        run.line(f"begun {len(self.began)}")
        try:
            await asyncio.sleep(arguments["after_s"])
        except asyncio.CancelledError:
            self.broken.append(run.key)
            raise
        run.leave("SAID", "done")
        self.ended.append(run.key)


def play(folder: Path, test: Callable[[World, Deeds], Awaitable[None]]) -> None:
    async def main() -> None:
        world = await World.virtual(folder)
        deeds = Deeds()
        world.types = {**world.types, "again": Again(), "once": Once()}
        world.actions = {"again": deeds.act, "once": deeds.act}
        try:
            await test(world, deeds)
        finally:
            await world.close()

    virtual_loop.run(main())


async def begun(world: World, kind: str, after_s: float) -> int:
    """Start a workflow with one job and wait until its action runs."""
    job = {"name": "job", "type": kind, "spec": {"after_s": after_s}}
    await world.define({"name": KEY, "stages": [{"name": "one", "jobs": [job]}]})
    await world.boot()
    number = await world.start(KEY)
    await world.until(KEY, number, lambda detail: "begun" in world.log(KEY, number, "job"))
    return number


def status(detail: Any) -> tuple[str, str]:
    row = detail.stages[0].jobs[0].row
    return row.status, row.error


def test_what_is_repeatable_begins_anew_after_a_crash(tmp_path: Path) -> None:
    async def test(world: World, deeds: Deeds) -> None:
        number = await begun(world, "again", 60.0)
        await world.restart()
        detail = await world.done(KEY, number, within_s=200.0)
        assert status(detail) == ("passed", ""), describe(detail)
        first, second = deeds.began
        assert (deeds.broken, deeds.ended) == ([first], [second])
        assert first != second
        assert detail.stages[0].jobs[0].row.outputs == {"SAID": "done"}
        log = world.log(KEY, number, "job")
        assert "begun 1" in log
        assert "begun 2" in log, "the log goes on"

    play(tmp_path, test)


def test_what_is_not_repeatable_fails_after_a_crash(tmp_path: Path) -> None:
    async def test(world: World, deeds: Deeds) -> None:
        number = await begun(world, "once", 60.0)
        await world.restart()
        detail = await world.done(KEY, number, within_s=30.0)
        assert status(detail) == ("failed", "interrupted by server restart")
        assert len(deeds.began) == 1

    play(tmp_path, test)


def test_a_crash_before_the_start_is_told_runs_it_once(tmp_path: Path) -> None:
    """The server dies when the action is started and no row knows of it yet: it had not begun."""

    async def test(world: World, deeds: Deeds) -> None:
        started = asyncio.Event()
        start = ServerExecutor.start

        async def dying(self: ServerExecutor, key: str, job: Any) -> str:
            ref = await start(self, key, job)
            if world.boots == 1:
                started.set()
                await asyncio.get_running_loop().create_future()
            return ref

        ServerExecutor.start = dying  # type: ignore[method-assign]  # the moment cannot be met otherwise
        try:
            job = {"name": "job", "type": "once", "spec": {"after_s": 1.0}}
            await world.define({"name": KEY, "stages": [{"name": "one", "jobs": [job]}]})
            await world.boot()
            number = await world.start(KEY)
            await started.wait()
            await world.restart()
            detail = await world.done(KEY, number, within_s=60.0)
        finally:
            ServerExecutor.start = start  # type: ignore[method-assign]
        assert status(detail) == ("passed", "")
        assert (len(deeds.began), len(deeds.ended)) == (1, 1)

    play(tmp_path, test)


def test_of_a_machine_that_is_gone_what_is_repeatable_begins_anew(tmp_path: Path) -> None:
    async def test(world: World, deeds: Deeds) -> None:
        assert world.scripted is not None
        number = await begun(world, "again", 60.0)
        await world.kill()
        world.scripted.place = "elsewhere"
        await world.boot()
        detail = await world.done(KEY, number, within_s=300.0)
        assert status(detail) == ("passed", ""), describe(detail)
        assert len(deeds.began) == 2

    play(tmp_path, test)


def test_of_a_machine_that_is_gone_what_is_not_fails(tmp_path: Path) -> None:
    async def test(world: World, deeds: Deeds) -> None:
        assert world.scripted is not None
        number = await begun(world, "once", 60.0)
        await world.kill()
        world.scripted.place = "elsewhere"
        await world.boot()
        detail = await world.done(KEY, number, within_s=300.0)
        assert status(detail) == ("failed", "interrupted by server restart")
        assert len(deeds.began) == 1

    play(tmp_path, test)


def test_an_unknown_action_is_a_reason(tmp_path: Path) -> None:
    async def test(world: World, deeds: Deeds) -> None:
        world.actions = {}
        job = {"name": "job", "type": "once", "spec": {"after_s": 1.0}}
        await world.define({"name": KEY, "stages": [{"name": "one", "jobs": [job]}]})
        await world.boot()
        detail = await world.done(KEY, await world.start(KEY))
        assert status(detail) == ("failed", "this server knows no action once")

    play(tmp_path, test)


def test_what_others_may_have_given_up_does_not_begin(tmp_path: Path) -> None:
    """The server was frozen for longer than its lease just before it would have begun the action."""

    async def test(world: World, deeds: Deeds) -> None:
        db = wrapped(world)
        job = {"name": "job", "type": "once", "spec": {"after_s": 1.0}}
        await world.define({"name": KEY, "stages": [{"name": "one", "jobs": [job]}]})
        await world.boot()
        frozen = asyncio.Event()

        async def freeze(fn: Any) -> None:
            if fn.__name__ == "_started":
                world.engine._peers.holds = lambda: False  # type: ignore[method-assign]
                frozen.set()

        db.reply = freeze
        number = await world.start(KEY)
        async with asyncio.timeout(60.0):
            await frozen.wait()
        await asyncio.sleep(20.0)
        assert deeds.began == []
        db.reply = None
        await world.restart()
        detail = await world.done(KEY, number)
        assert (status(detail), deeds.began) == (("failed", "interrupted by server restart"), [])

    play(tmp_path, test)


def test_a_start_that_another_machine_had_begins_here(tmp_path: Path) -> None:
    """Nothing of an action has begun before it is followed: nobody waits for the machine that was to start it."""

    async def test(world: World, deeds: Deeds) -> None:
        job = {"name": "job", "type": "once", "spec": {"after_s": 1.0}}
        await world.define({"name": KEY, "stages": [{"name": "one", "jobs": [job]}]})
        world.max_jobs = 0
        await world.boot()
        world.engine._peers.place = "scripted"  # type: ignore[misc]  # one of several servers, on the machine of its executor
        number = await world.start(KEY)

        def was_elsewhere(tx: Tx) -> None:
            tx.connection.exec_driver_sql("UPDATE command SET place = 'another:boot'")  # type: ignore[attr-defined]

        await world.db.write(was_elsewhere)
        world.max_jobs = 5
        world.engine.wake()
        detail = await world.done(KEY, number, within_s=10.0)
        assert (status(detail), len(deeds.ended)) == (("passed", ""), 1)

    play(tmp_path, test)
