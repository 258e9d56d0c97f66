"""Actions that follow the processes of a job: part of it, and broken off with it."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

from cador.executors.scripted import Script
from cador.jobs.steps.sonar import ANSWER, REPORT, Answer, answer_text
from cador.ports.actions import ActionFailed, ActionRun
from cador.storage.errors import OutcomeUnknown
from engine.test_engine import once, wrapped
from support import virtual_loop
from support.world import PROJECT, World, describe

KEY, JOB = "scans", "quality-check"
WORKFLOW = {
    "name": KEY,
    "stages": [
        {
            "name": "one",
            "jobs": [
                {
                    "name": "check",
                    "type": "zadig-scanning",
                    "spec": {"scanning_type": "", "scannings": [{"name": "quality", "project_name": PROJECT}]},
                }
            ],
        }
    ],
}
SCAN = {
    "scanner_type": "sonarQube", "sonar_system": "sq", "sonar_parameter": "sonar.projectKey=k", "enable_scanner": True,
    "enable_quality_gate": True, "repo_info": [], "addons": [], "artifact_paths": [], "image_name": "",
    "parameters": [{"key": "TEST_JOB", "default_value": "quality"}], "advanced_settings": {"timeout": 2},
}  # fmt: skip
LEFT = {REPORT: "ceTaskId=AX-1\nprojectKey=k"}
PASSED = answer_text(Answer(gate="OK", metrics={"QualityGateStatus": "OK"}))


class Asked:
    """The action of a test. *takes_s*: how long it takes; *fails*: with this text."""

    def __init__(self) -> None:
        self.begun: list[Mapping[str, Any]] = []
        self.broken_off = 0
        self.takes_s, self.fails, self.answer = 1.0, "", PASSED

    async def run(self, run: ActionRun, arguments: Mapping[str, Any]) -> None:
        self.begun.append(arguments)
        run.line(f"asked with {arguments['token']}")
        try:
            await asyncio.sleep(self.takes_s)
        except asyncio.CancelledError:
            self.broken_off += 1
            raise
        if self.fails:
            raise ActionFailed(self.fails)
        run.leave(ANSWER, self.answer)


def play(
    tmp_path: Path, act: Callable[[World, Asked], Coroutine[Any, Any, None]], script: Script | None = None
) -> None:
    async def whole() -> None:
        world = await World.virtual(tmp_path)
        asked = Asked()
        world.actions["sonar"] = asked.run
        world.scripts = {"quality": script or Script(outputs=LEFT)}
        await world.add("sonar", "sq", {"server_address": "http://sonar", "token": "t0p-secret"}, system=True)
        await world.add("scan", "quality", SCAN)
        await world.define(WORKFLOW)
        await world.boot()
        try:
            await act(world, asked)
        finally:
            await world.close()

    virtual_loop.run(whole(), limit_s=86_400.0)


async def ended(world: World, number: int) -> Any:
    detail = await world.done(KEY, number)
    [job] = [job for stage in detail.stages for job in stage.jobs]
    return job


async def until_asked(asked: Asked, times: int = 1) -> None:
    async with asyncio.timeout(60):
        while len(asked.begun) < times:  # noqa: ASYNC110 - on the virtual clock
            await asyncio.sleep(0.1)


def test_the_answer_is_part_of_the_job(tmp_path: Path) -> None:
    async def act(world: World, asked: Asked) -> None:
        number = await world.start(KEY)
        job = await ended(world, number)
        assert job.row.status == "passed", describe(await world.detail(KEY, number))
        assert job.row.end_at - job.row.start_at >= 1.0
        assert job.spec["sonar_metrics"] == {"QualityGateStatus": "OK"}
        assert job.spec["link_url"] == "http://sonar/dashboard?id=k"
        assert job.row.outputs == {"SonarCETaskID": "AX-1", "SonarProjectKey": "k", "SonarBranchKey": ""}
        [arguments] = asked.begun
        assert arguments["outputs"] == LEFT
        log = world.log(KEY, number, JOB)
        assert "asked with ********" in log
        assert "t0p-secret" not in log

    play(tmp_path, act)


@pytest.mark.parametrize(
    ("fails", "answer", "error"),
    [
        ("it said t0p-secret", "", "it said ********"),
        ("", answer_text(Answer(gate="ERROR", conditions=("bugs 1 fails GT 0",))),
         "quality gate: ERROR; bugs 1 fails GT 0"),
        ("", answer_text(Answer(problem="it is away")), "the quality gate is not known: it is away"),
    ],
)  # fmt: skip
def test_what_fails_the_job(tmp_path: Path, fails: str, answer: str, error: str) -> None:
    async def act(world: World, asked: Asked) -> None:
        asked.fails, asked.answer = fails, answer
        job = await ended(world, await world.start(KEY))
        assert (job.row.status, job.row.error) == ("failed", error)

    play(tmp_path, act)


def test_a_mistake_of_ours_ends_the_job_with_the_reason(tmp_path: Path) -> None:
    async def act(world: World, asked: Asked) -> None:
        async def broken(run: ActionRun, arguments: Mapping[str, Any]) -> None:
            raise KeyError(arguments["token"])

        world.actions["sonar"] = broken
        number = await world.start(KEY)
        job = await ended(world, number)
        error = "the action sonar broke off: KeyError: '********'"
        assert (job.row.status, job.row.error) == ("failed", error)
        assert error in world.log(KEY, number, JOB)

    play(tmp_path, act)


def test_processes_that_failed_ask_for_nothing(tmp_path: Path) -> None:
    async def act(world: World, asked: Asked) -> None:
        job = await ended(world, await world.start(KEY))
        assert (job.row.status, asked.begun) == ("failed", [])

    play(tmp_path, act, Script(exit_code=4))


def test_an_action_nobody_knows(tmp_path: Path) -> None:
    async def act(world: World, asked: Asked) -> None:
        del world.actions["sonar"]
        job = await ended(world, await world.start(KEY))
        assert (job.row.status, job.row.error) == ("failed", "this server knows no action sonar")

    play(tmp_path, act)


def test_a_cancel_breaks_it_off_within_seconds(tmp_path: Path) -> None:
    async def act(world: World, asked: Asked) -> None:
        asked.takes_s = 3600.0
        number = await world.start(KEY)
        await until_asked(asked)
        before = world.clock()
        await world.cancel(KEY, number)
        job = await ended(world, number)
        assert (job.row.status, asked.broken_off) == ("cancelled", 1)
        assert world.clock() - before <= 3.0

    play(tmp_path, act)


def test_its_time_is_the_job_s_time(tmp_path: Path) -> None:
    async def act(world: World, asked: Asked) -> None:
        asked.takes_s = 3600.0
        number = await world.start(KEY)
        detail = await world.done(KEY, number, within_s=300.0)
        [job] = [job for stage in detail.stages for job in stage.jobs]
        assert (job.row.status, asked.broken_off) == ("timeout", 1)
        assert "timed out after 2 minutes" in job.row.error

    play(tmp_path, act)


def test_another_server_asks_again(tmp_path: Path) -> None:
    async def act(world: World, asked: Asked) -> None:
        asked.takes_s = 5.0
        number = await world.start(KEY)
        await until_asked(asked)
        await world.restart()
        job = await ended(world, number)
        assert (job.row.status, len(asked.begun), job.row.recovery) == ("passed", 2, 0)
        assert world.scripted is not None
        assert len(world.scripted.starts) == 1

    play(tmp_path, act)


def test_nobody_asks_for_ever_after_an_end_that_was_told_unheard(tmp_path: Path) -> None:
    """The reply to the commit of the end is lost: the server asks again, and has to see that nobody waits."""

    async def act(world: World, asked: Asked) -> None:
        db = wrapped(world)
        await world.restart()
        number = await world.start(KEY)
        await until_asked(asked)
        asked.takes_s = 86_000.0
        db.reply = once("_ended", OutcomeUnknown("database: gone while it committed"))
        job = await ended(world, number)
        await until_asked(asked, 2)
        await asyncio.sleep(10.0)
        assert (job.row.status, asked.broken_off) == ("passed", 1)
        assert world.engine.busy == 0

    play(tmp_path, act)


def test_a_retry_asks_anew(tmp_path: Path) -> None:
    async def act(world: World, asked: Asked) -> None:
        asked.fails = "not today"
        number = await world.start(KEY)
        assert (await ended(world, number)).row.status == "failed"
        asked.fails = ""
        await world.retry(KEY, number)
        job = await ended(world, number)
        assert (job.row.status, job.row.attempt, len(asked.begun)) == ("passed", 2, 2)

    play(tmp_path, act)
