"""Chosen retries, manual stages and asked policies where the process dies, and where two people ask at once."""

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cador.domain.errors import CadorError, StageNotExecutable, Unavailable, WrongStatus
from cador.operations.task_values import TaskDetail
from support import virtual_loop
from support.world import World, describe

if TYPE_CHECKING:
    from support.databases import PostgresServer

KEY = "flow"


def job(name: str, script: str, **envs: str) -> dict[str, Any]:
    variables = [{"key": key, "value": value, "type": "string"} for key, value in envs.items()]
    steps = [{"name": "shell", "type": "shell", "spec": {"script": script}}]
    return {
        "name": name,
        "type": "freestyle",
        "spec": {"properties": {"timeout": 60, "envs": variables}, "steps": steps},
    }


def definition() -> dict[str, Any]:
    """A job that fails beside one that takes long; behind them a manual stage with an approval that nobody needs."""
    rules = [{"field": "{{.workflow.name}}", "verb": "=", "value": KEY}]
    ask = {
        "name": "ask",
        "type": "approval",
        "execute_policy": {"type": "skip", "match_rule": "all", "rules": rules},
        "spec": {"native_approval": {"approve_users": [{"user_id": "ann", "user_name": "Ann"}], "needed_approvers": 1}},
    }
    manual = {"enabled": True, "modify_params": True, "manual_exec_users": [{"user_id": "ann", "user_name": "Ann"}]}
    return {
        "name": KEY,
        "stages": [
            {"name": "one", "parallel": True, "jobs": [job("quick", "exit {{.job.quick.CODE}}", CODE="1"),
                                                       job("slow", "sleep 6")]},
            {"name": "two", "parallel": False, "manual_exec": manual,
             "jobs": [ask, job("left", "exit 1"), job("last", "echo $A", A="0")]},
        ],
    }  # fmt: skip


def statuses(detail: TaskDetail) -> dict[str, str]:
    return {one.row.name: one.row.status for stage in detail.stages for one in stage.jobs}


async def push(world: World) -> TaskDetail:
    """Do what is still to be done, as a person would who comes back to it, until the task is over."""
    while True:
        detail = await world.until(
            KEY, 1, lambda d: d.row.end_at is not None or d.row.status == "pause" or statuses(d)["quick"] == "failed"
        )
        if detail.row.status == "pause":
            await world.execute(KEY, 1, "two", by="ann", jobs=["ask", "last"], kv={"last": {"A": "7"}})
        elif detail.row.end_at is None or detail.row.status == "failed":
            await world.retry(KEY, 1, jobs=["quick"], kv={"quick": {"CODE": "0"}})
        else:
            return detail


@pytest.mark.real
@pytest.mark.parametrize("moment", ["commit", "committed"])
def test_whatever_commit_a_process_dies_at_it_goes_on(moment: str, tmp_path: Path) -> None:
    async def one(world: World, dies_at: int) -> bool:
        await world.define(definition())
        await world.boot()
        commits = 0

        def point(name: str) -> None:
            nonlocal commits
            commits += name == moment
            if commits >= dies_at:
                raise Unavailable("this process is dead")

        world.db.point = point
        with contextlib.suppress(Unavailable, TimeoutError):
            await world.start(KEY)
            async with asyncio.timeout(12.0):
                await push(world)
        dead = commits >= dies_at
        await world.kill()
        world.db.point = lambda name: None
        await world.boot()
        if await world.db.read(lambda tx: tx.tasks.find_id(KEY, 1)) is None:
            await world.start(KEY)
        detail = await push(world)
        assert (detail.row.status, statuses(detail)) == (
            "passed", {"quick": "passed", "slow": "passed", "ask": "skipped", "left": "skipped", "last": "passed"},
        ), describe(detail)  # fmt: skip
        assert [one.row.attempt for stage in detail.stages for one in stage.jobs] == [2, 1, 0, 0, 1]
        assert detail.stages[1].executed_by == "Ann"
        assert "7" in world.log(KEY, 1, "last")
        assert world.scripted is not None
        assert len(world.scripted.starts) == len(set(world.scripted.starts)) == 4
        left = await world.db.read(lambda tx: (tx.commands.owned(""), tx.executions.list_executions()))
        assert left == (set(), [])
        return dead

    async def all_of_them() -> None:
        dies_at = 1
        while True:
            folder = tmp_path / str(dies_at)
            folder.mkdir()
            world = await World.virtual(folder)
            try:
                died = await one(world, dies_at)
            finally:
                await world.close()
            if not died:
                break
            dies_at += 1
        assert dies_at > 10

    virtual_loop.run(all_of_them())


@pytest.mark.real
@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_of_several_who_ask_at_once_one_wins(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = ""
    if kind == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.create()
    world = await World.real(tmp_path, url)
    try:
        await world.define(definition())
        await world.boot()
        await world.start(KEY)
        await world.until(KEY, 1, lambda d: statuses(d)["quick"] == "failed")
        answers = await asyncio.gather(
            *(world.retry(KEY, 1, jobs=["quick"], kv={"quick": {"CODE": "0"}}) for _ in range(6)),
            return_exceptions=True,
        )
        assert_one_won(answers, WrongStatus)
        await world.until(KEY, 1, lambda d: d.row.status == "pause")
        answers = await asyncio.gather(
            *(world.execute(KEY, 1, "two", by="ann", jobs=["last"], kv={"last": {"A": str(n)}}) for n in range(6)),
            return_exceptions=True,
        )
        assert_one_won(answers, StageNotExecutable)
        detail = await world.done(KEY, 1)
        assert (detail.row.status, detail.row.edits) == ("passed", 2)
        won = answers.index(None)
        assert f"   {won}\n" in world.log(KEY, 1, "last")
    finally:
        await world.close()


def assert_one_won(answers: list[BaseException | None], refused: type[CadorError]) -> None:
    assert answers.count(None) == 1, answers
    assert all(isinstance(answer, refused) for answer in answers if answer is not None), answers
