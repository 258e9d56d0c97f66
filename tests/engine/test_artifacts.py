"""What a job leaves is that of its last attempt, whatever became of that."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cador.domain.errors import Invalid
from cador.engine.preparing import Catalogues, Concluded, Prepared, Preparer
from cador.jobs.zadig_test import TEST
from cador.ports.executor import End, Harvest, JobFolder, Keep
from cador.ports.logs import LogName
from cador.storage.artifacts import collect
from cador.storage.blobs import LocalBlobs
from engine.test_engine import KEY, flow, job, play
from support.world import World

REPORTS = {"junit": "report", "html": "", "artifacts": [], "pass_rate": 0}
FOLDER = JobFolder(steps=(), keep=(Keep("report", "junit", on_failure=True),))


class Ended:
    """An executor that knows one ended job."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace

    async def harvest(self, key: str, ref: str) -> Harvest:
        return Harvest({}, workspace=self.workspace)


def concluded(blobs: LocalBlobs, workspace: Path, end: End) -> Concluded:
    def take(*found: Any) -> tuple[tuple[str, ...], bool]:
        taken = collect(*found, blobs=blobs)
        return taken.problems, taken.failed

    types: Any = {}
    preparer = Preparer(types=types, sealer=types, catalogues=Catalogues(), collect=take, default_executor="process")
    spec = {"reports": REPORTS, "test_name": "unit"}
    prepared = Prepared(TEST, spec, FOLDER, LogName("w", 1, "j", 1), "process", ())
    row: Any = SimpleNamespace(key="k", ref="k")
    executor: Any = Ended(workspace)
    return asyncio.run(preparer.conclude(executor, row, prepared, end, blobs, 1 << 20))


@pytest.mark.parametrize("stopped", ["cancel", "timeout", ""])
def test_reports_of_the_attempt_before_are_not_those_of_this_one(tmp_path: Path, stopped: str) -> None:
    blobs, first, second = LocalBlobs(tmp_path / "blobs"), tmp_path / "first", tmp_path / "second"
    (first / "report").mkdir(parents=True)
    (first / "report" / "a.xml").write_text('<testsuite><testcase name="a"/></testsuite>')
    second.mkdir()
    assert concluded(blobs, first, End(0, 1.0)).facts["junit"]["tests"] == 1
    assert [blob.key for blob in blobs.list("tasks/w/1/j")] == [
        "tasks/w/1/j/junit/a.xml",
        "tasks/w/1/j/junit/merged.xml",
    ]
    later = concluded(blobs, second, End(1, 2.0, stopped))
    assert "junit" not in later.facts
    assert list(blobs.list("tasks/w/1/j")) == []


def test_a_folder_in_the_place_of_our_own_report_fails_the_job(tmp_path: Path) -> None:
    """And does not have it judged again and again."""
    workspace = tmp_path / "workspace"
    (workspace / "report" / "merged.xml").mkdir(parents=True)
    (workspace / "report" / "merged.xml" / "x").touch()
    (workspace / "report" / "a.xml").write_text('<testsuite><testcase name="a"/></testsuite>')
    ended = concluded(LocalBlobs(tmp_path / "blobs"), workspace, End(0, 1.0))
    assert ended.result.value == "failed"
    assert ended.error == "tasks/w/1/j/junit/merged.xml is in the way of, or below, another artifact"


@pytest.mark.parametrize("how", ["removed", "a file", "a link"])
def test_a_job_that_takes_its_workspace_away_ends(tmp_path: Path, how: str) -> None:
    workspace = tmp_path / "workspace"
    if how == "a file":
        workspace.touch()
    elif how == "a link":
        workspace.symlink_to("/etc")
    ended = concluded(LocalBlobs(tmp_path / "blobs"), workspace, End(0, 1.0))
    assert ended.result.value == "failed", "there are no reports"
    assert ended.lines[0].startswith("the workspace of the job is not there any more: ")


def test_a_service_that_is_called_like_a_way_out_is_a_name(tmp_path: Path) -> None:
    """Services of a start need not be known: what they are called is part of names of job tasks, and so of paths."""

    async def act(world: World) -> None:
        kept = {"name": "keep", "type": "archive", "spec": {"upload_detail": [{"file_path": "x", "dest_path": "/"}]}}
        one = job("a", "exit 0")
        one["spec"]["steps"].append(kept)
        await world.define(flow([one]))
        await world.boot()
        services = [{"service_name": "../../etc", "service_module": "m"}]
        number = await world.start(KEY, inputs=({"job_name": "a", "parameters": {"services": services}},))
        detail = await world.done(KEY, number, within_s=100.0)
        row = detail.stages[0].jobs[0].row
        assert (row.name, row.status, row.error) == ("..-..-etc-m-a", "passed", "")

    play(tmp_path, act)


class Refusing:
    """An executor whose jobs leave what cannot be taken."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def harvest(self, key: str, ref: str) -> Any:
        raise Invalid("that is no name for an artifact")


def test_what_cannot_be_kept_ends_the_job(tmp_path: Path) -> None:
    """A fault of what the job left is no trouble of the machine's, which would be waited out."""

    async def act(world: World) -> None:
        await world.define(flow([job("a", "exit 0")]))
        await world.boot()
        executors: dict[str, Any] = world.engine.executions.executors  # type: ignore[assignment]
        executors["scripted"] = Refusing(executors["scripted"])
        detail = await world.done(KEY, await world.start(KEY), within_s=100.0)
        assert detail.stages[0].jobs[0].row.error == "job: a panic: that is no name for an artifact"

    play(tmp_path, act)
