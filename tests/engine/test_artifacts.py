"""What a job leaves is that of its last attempt, whatever became of that."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cador.engine.preparing import Catalogues, Concluded, Prepared, Preparer
from cador.jobs.zadig_test import TEST
from cador.ports.executor import End, Harvest, JobFolder, Keep
from cador.ports.logs import LogName
from cador.storage.artifacts import collect
from cador.storage.blobs import LocalBlobs

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
