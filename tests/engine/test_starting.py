"""Starts that lead nowhere: jobs that cannot be prepared, commands of other machines, servers that cannot begin."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cador.domain.errors import Unavailable
from cador.engine.housekeeping import Retention
from cador.executors.scripted import Script
from cador.ports.peers import Replica
from engine.test_engine import KEY, flow, job, once, play, wrapped
from support.world import World, describe


@pytest.mark.parametrize("how", ["refused", "not prepared"])
def test_the_error_policy_counts_for_a_job_that_cannot_be_started(how: str, tmp_path: Path) -> None:
    async def act(world: World) -> None:
        world.scripts = {"refused": Script(start_error="not on this machine")}
        envs = [{"key": "TEST_JOB", "value": how}]
        one = job("a", properties={"envs": envs}, error_policy={"policy": "ignore_error"})
        if how == "not prepared":
            spec = {"upload_detail": [{"file_path": "/outside", "dest_path": "/"}]}
            one["spec"]["steps"].append({"name": "keep", "type": "archive", "spec": spec})
        await world.define(flow([one], [job("b", "exit 0")]))
        await world.boot()
        detail = await world.done(KEY, await world.start(KEY))
        first = detail.stages[0].jobs[0].row
        assert (detail.row.status, first.status) == ("passed", "unstable"), describe(detail)
        assert first.error in ("not on this machine", "file_path must be relative to the workspace: /outside")

    play(tmp_path, act)


def test_what_another_machine_has_to_carry_out_is_no_failed_try(tmp_path: Path) -> None:
    """However often it was offered to others: when its machine fails to start it once, it is tried again."""

    async def act(world: World) -> None:
        await world.define(flow([job("a", "exit 0")]))
        world.max_jobs = 0
        await world.boot()
        world.engine._peers.place = "scripted"  # type: ignore[misc]
        number = await world.start(KEY)

        def elsewhere(tx: Any) -> None:
            tx.replicas.add(Replica("there", "another:boot", "", world.clock(), world.clock()))
            tx.connection.exec_driver_sql("UPDATE command SET place = 'another:boot'")

        def tries(tx: Any) -> list[int]:
            return [row[0] for row in tx.connection.exec_driver_sql("SELECT tries FROM command WHERE kind = 'start'")]

        await world.db.write(elsewhere)
        world.max_jobs = 5
        world.engine.wake()
        await asyncio.sleep(20.0)
        assert await world.db.read(tries) == [0]
        await world.cancel(KEY, number)

    play(tmp_path, act)


def test_a_server_that_cannot_begin_is_no_member(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        world.retention = Retention()
        db = wrapped(world)
        db.before = once("_arm", Unavailable("database: away"))
        with pytest.raises(Unavailable):
            await world.boot()
        assert world.engine.me == ""
        await world.boot()
        assert world.engine.me

    play(tmp_path, act)
