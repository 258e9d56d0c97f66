"""Retries of one's choice, manual stages and attempts from the command line, against a real server."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

from api.site import ADMIN, Site, site
from cador.cli.main import main
from cador.cli.output import Failure
from cador.cli.task_actions import _edits
from cador.cli.task_view import paused_stage

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def job(name: str, script: str) -> dict[str, Any]:
    steps = [{"name": "shell", "type": "shell", "spec": {"script": script}}]
    envs = [{"key": "A", "value": "1", "type": "string"}]
    return {"name": name, "type": "freestyle", "spec": {"properties": {"timeout": 5, "envs": envs}, "steps": steps}}


STAGES = [
    {"name": "s1", "parallel": False, "jobs": [job("j1", "exit 0")]},
    {"name": "s2", "parallel": False, "jobs": [job("j2", "echo V=$V A=$A\nexit $V"), job("j3", "exit 0")]},
]


async def talk(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    act: Callable[[Site, Callable[..., Coroutine[Any, Any, tuple[int, str, str]]]], Coroutine[Any, Any, None]],
    manual: Mapping[str, Any] | None = None,
) -> None:
    """Serve a workflow ``w`` and run *act* with ``say``: one command line, its status, stdout and stderr."""
    stages = [STAGES[0], {**STAGES[1], **({"manual_exec": {"enabled": True, **manual}} if manual is not None else {})}]
    for name in list(os.environ):
        if name.startswith("CADOR_"):
            monkeypatch.delenv(name)
    async with site(folder) as server, server.served() as url:
        monkeypatch.setenv("CADOR_URL", url)
        monkeypatch.setenv("CADOR_TOKEN", ADMIN)
        monkeypatch.setenv("TZ", "UTC")
        await server.create("w", stages=stages, params=[{"name": "V", "type": "string", "value": "1"}])
        await server.run("w", "j1", "j2", "j3")

        async def say(*words: str) -> tuple[int, str, str]:
            code = await asyncio.to_thread(main, ["task", *words])
            said = capsys.readouterr()
            return code, said.out, said.err

        await act(server, say)


async def test_a_retry_with_other_values_and_its_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def act(server: Site, say: Any) -> None:
        await server.done("w", 1)
        assert (await say("retry", "w/1", "--job", "j1"))[0] == 1
        code, _, error = await say("retry", "w/1", "--job", "j2", "--set", "V=0", "--set", "j2.A=2", "-f")
        assert code == 0, error
        code, out, _ = await say("attempts", "w/1", "j2")
        rows = [line.split(maxsplit=3)[:3] for line in out.splitlines()]
        assert (code, rows) == (0, [["JOB", "ATTEMPT", "STATUS"], ["j2", "1", "failed"], ["j2", "2", "passed"]])
        assert "V: 1 -> 0, j2.kv.A: (configured) -> 2" in out
        assert "shell failed" in out
        assert (await say("attempts", "w/1"))[1].count("\n") == 5
        assert "V=1 A=1" in (await say("attempts", "w/1", "j2", "--log", "1"))[1]
        assert "V=0 A=2" in (await say("attempts", "w/1", "j2", "--log", "2"))[1]
        assert '"attempt": 2' in (await say("attempts", "w/1", "j2", "--json"))[1]

    await talk(tmp_path, monkeypatch, capsys, act)


async def test_a_retry_from_a_job_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def act(server: Site, say: Any) -> None:
        await server.done("w", 1)
        assert await say("retry", "w/1", "--from", "j1") == (0, "", "w/1 runs again\n")
        await server.world.until("w", 1, lambda d: d.row.retry_num == 1 and d.row.end_at is not None)
        assert (await say("retry", "w/1"))[0] == 0
        detail = await server.world.until("w", 1, lambda d: d.row.retry_num == 2 and d.row.end_at is not None)
        assert [job.row.attempt for stage in detail.stages for job in stage.jobs] == [2, 3, 0]
        for words, status, text in (
            (("--job", "j2", "--from", "j1"), 2, "--job and --from exclude each other"),
            (("--set", "V"), 2, "is not of the form NAME=VALUE"),
            (("--set", "VV=1"), 2, "the task has no parameter VV; did you mean V?"),
            (("--set", "j9.A=1"), 2, "the task has no job j9"),
            (("--from", "j3"), 1, "job j3 is not started, cannot retry"),
        ):
            code, _, error = await say("retry", "w/1", *words)
            assert code == status, error
            assert text in error
            assert error.count("\n") == 1

    await talk(tmp_path, monkeypatch, capsys, act)


async def test_a_manual_stage_is_shown_and_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def act(server: Site, say: Any) -> None:
        await server.world.until("w", 1, lambda d: d.row.status == "pause")
        _, shown, _ = await say("show", "w/1")
        assert "waits to be executed" in shown
        assert "cador task execute w/1" in " ".join(shown.split())
        code, _, error = await say("execute", "w/1", "s1")
        assert (code, "stage s1 not found in workflow w or status is passed" in error) == (1, True)
        assert (await say("execute", "w/1", "--set", "V=0"))[0] == 2
        words = ("execute", "w/1", "--job", "j2", "--set", "j2.A=7", "-f")
        assert (await say(*words))[0] == 1, "j2 fails"
        assert "V=1 A=7" in server.world.log("w", 1, "j2")
        found = await server.task("w", 1)
        assert [job["status"] for job in found["stages"][1]["jobs"]] == ["failed", "skipped"]
        code, _, error = await say("execute", "w/1")
        assert (code, error) == (1, "cador: w/1 waits before no manual stage\n")

    await talk(tmp_path, monkeypatch, capsys, act, {"modify_params": True, "manual_exec_users": []})


async def test_a_cancel_says_what_became_of_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def act(server: Site, say: Any) -> None:
        await server.world.until("w", 1, lambda d: d.row.status == "pause")
        assert (await say("cancel", "w/1"))[::2] == (0, "w/1 is cancelled\n"), "nothing ran"
        assert (await say("cancel", "w/1"))[::2] == (0, "w/1 is cancelled\n")
        assert (await say("retry", "w/1"))[0] == 0
        await server.world.until("w", 1, lambda d: d.row.status == "pause")
        assert (await say("execute", "w/1", "-f"))[0] == 1, "j2 fails"
        assert (await say("cancel", "w/1"))[::2] == (0, "w/1 was over already: failed\n")
        assert (await server.task("w", 1))["status"] == "failed"

    await talk(tmp_path, monkeypatch, capsys, act, {"manual_exec_users": []})


def _task(kind: str, **spec: str) -> dict[str, Any]:
    return {"job": "j", "type": kind, "spec": {"service_name": "", "service_module": "", **spec}}


@pytest.mark.parametrize(
    ("tasks", "parameters"),
    [
        ([_task("freestyle")], {"kv": [{"key": "A.B", "value": "1=2"}]}),
        (
            [_task("freestyle", service_name="a", service_module="m")],
            {"services": [{"service_name": "a", "service_module": "m", "inputs": [{"key": "A.B", "value": "1=2"}]}]},
        ),
        (
            [_task("zadig-build", service_name="a", service_module="m")],
            {"service_list": [
                {"service_name": "a", "service_module": "m", "inputs": [{"key": "A.B", "value": "1=2"}]}
            ]},
        ),
        (
            [_task("zadig-test", test_name="unit")],
            {"testing_list": [{"testing_name": "unit", "inputs": [{"key": "A.B", "value": "1=2"}]}]},
        ),
    ],
)  # fmt: skip
def test_variables_are_put_where_the_type_of_the_job_keeps_them(tasks: list[Any], parameters: dict[str, Any]) -> None:
    found = _edits({"params": [], "stages": [{"jobs": tasks}]}, ["j.A.B=1=2"])
    assert found["inputs"] == [{"job_name": "j", "job_type": tasks[0]["type"], "parameters": parameters}]


def test_what_cannot_be_set_is_said() -> None:
    with pytest.raises(Failure, match="does not reach jobs of type sql"):
        _edits({"params": [], "stages": [{"jobs": [_task("sql")]}]}, ["j.A=1"])


def test_a_task_that_does_not_pause() -> None:
    assert paused_stage({"stages": [{"name": "s", "status": "running"}]}) is None
