"""The self-test holds on real servers, and its judge finds what is wrong when something is."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cador.cli.chaos.people import Task
from cador.cli.chaos.plans import Job, Plan, Stage
from cador.cli.chaos.verdict import Judge
from cador.cli.main import main
from support.server_process import open_folder


@pytest.mark.parametrize("words", [("--minutes", "nan"), ("--minutes", "inf"), ("--minutes", "0"), ("--kills", "-1")])
def test_what_is_no_length_is_refused(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", *words]) == 2
    assert "must be above 0" in capsys.readouterr().err


@pytest.mark.real
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_it_holds_while_servers_are_killed(kind: str, request: pytest.FixtureRequest) -> None:
    database = ["--database", request.getfixturevalue("postgres_url")] if kind == "postgres" else []
    with open_folder() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "cador", "selftest", "--chaos", "--minutes", "1", "--kills", "6", "--json",
             "--folder", str(folder), *database],
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        told = json.loads(done.stdout)
        assert told["broken"] == {}, told
        assert told["errors"] == [], told
        assert told["ok"]
        assert done.returncode == 0
        assert told["kills"] >= 6
        assert told["tasks"] > 0
        assert not any(one.name.startswith("cador-selftest") for one in folder.iterdir())


@pytest.mark.real
@pytest.mark.postgres
def test_a_database_in_use_is_refused(postgres_url: str) -> None:
    with open_folder() as folder:
        words = [sys.executable, "-m", "cador", "selftest", "--minutes", "0.05", "--folder", str(folder)]
        words += ["--database", postgres_url]
        assert subprocess.run(words, check=False, capture_output=True).returncode == 0
        again = subprocess.run(words, check=False, capture_output=True, text=True)
        assert again.returncode == 2
        assert "needs an empty one" in again.stderr


JOB = Job("compile-0", 5, 0.0)
PLAN = Plan("chaos-0", (Stage("stage 0", False, (JOB,)),), 1, {"compile-0": JOB})
MARK = "chaos-0/1/compile-0"
LOG = "".join(f"[2026-11-21 10:00:00]   line {n} of {MARK}\n" for n in range(1, 6))


class Told:
    """Servers that answer what a test says, for the judge."""

    def __init__(self) -> None:
        self.tasks = [Task(PLAN, 1, status="passed")]
        self.detail: dict[str, Any] = {
            "status": "passed",
            "status_detail": "passed",
            "ended_at": "2026-11-21T10:00:02Z",
            "stages": [{"name": "stage 0", "status": "passed", "parallel": False, "jobs": [
                {"name": "compile-0", "job": "compile-0", "status": "passed", "error": "",
                 "started_at": "2026-11-21T10:00:00Z", "ended_at": "2026-11-21T10:00:01Z"},
            ]}],
        }  # fmt: skip
        run = {"job_id": 1, "attempt": 1, "recovery": 0}
        self.events = [
            {"id": 1, "kind": "created", "about": "", "data": {}},
            {"id": 2, "kind": "admitted", "about": "", "data": {}},
            {"id": 3, "kind": "job_started", "about": "compile-0", "data": run},
            {"id": 4, "kind": "job_ended", "about": "compile-0", "data": {**run, "result": "passed"}},
        ]
        self.log = LOG
        self.agrees = True
        self.trace = f"begin {MARK}\nend {MARK}\n"

    def ask(self, act: Callable[[Any], Any]) -> Any:
        return act(self)

    def get(self, path: str, **query: Any) -> Any:
        if path.endswith("/events"):
            events = [event for event in self.events if event["id"] > query["after"]]
            return {"events": events, "next": events[-1]["id"] if events else None}
        return {"agrees": self.agrees} if path.endswith("/state") else self.detail

    def download(self, path: str, *, accept: str) -> io.BytesIO:
        return io.BytesIO(self.log.encode())

    def judged(self, folder: Path) -> dict[int, list[str]]:
        (folder / "trace").write_text(self.trace)
        (folder / "jobs").mkdir(exist_ok=True)
        judge = Judge(self, folder / "trace", folder / "jobs")  # type: ignore[arg-type]
        assert list(judge.judge()) == [(n, len(self.tasks)) for n in range(1, len(self.tasks) + 1)]
        return judge.verdict.broken


def test_nothing_is_broken_when_all_is_well(tmp_path: Path) -> None:
    assert Told().judged(tmp_path) == {}


def test_a_vote_whose_reply_was_lost_may_have_counted(tmp_path: Path) -> None:
    told = Told()
    told.detail["status"] = "failed"
    told.detail["stages"][0]["jobs"][0]["status"] = ""
    told.tasks[0].wishes.append("reject stage 0 (refused: it does not need approve)")
    assert told.judged(tmp_path) == {}


def _lost(told: Told) -> None:
    told.tasks = [Task(PLAN, 2, status="passed")]


def _unfinished(told: Told) -> None:
    told.detail["ended_at"] = None


def _wrong_end(told: Told) -> None:
    told.detail["status"] = "failed"


def _forgotten_cancel(told: Told) -> None:
    told.tasks[0].wishes.append("cancel")


def _forgotten_vote(told: Told) -> None:
    told.tasks[0].wishes.append("approve stage 0")


def _ran_twice(told: Told) -> None:
    told.trace += f"begin {MARK}\n"


def _never_ended(told: Told) -> None:
    told.trace = f"begin {MARK}\n"


def _started_twice(told: Told) -> None:
    told.events.insert(3, {**told.events[2], "id": 3})


def _too_early(told: Told) -> None:
    jobs = told.detail["stages"][0]["jobs"]
    told.detail["stages"].append({"name": "stage 1", "status": "passed", "parallel": True, "jobs": [dict(jobs[0])]})


def _both_at_once(told: Told) -> None:
    told.tasks = [Task(PLAN, 1), Task(PLAN, 2)]


def _short_log(told: Told) -> None:
    told.log = "".join(LOG.splitlines(keepends=True)[:-1])


def _log_out_of_order(told: Told) -> None:
    told.log = "".join(reversed(LOG.splitlines(keepends=True)))


def _another_story(told: Told) -> None:
    told.agrees = False


@pytest.mark.parametrize(
    ("harm", "invariant"),
    [
        (_lost, 0),
        (_unfinished, 1),
        (_wrong_end, 1),
        (_forgotten_cancel, 2),
        (_forgotten_vote, 2),
        (_ran_twice, 3),
        (_never_ended, 3),
        (_started_twice, 3),
        (_too_early, 4),
        (_both_at_once, 5),
        (_short_log, 6),
        (_log_out_of_order, 6),
        (_another_story, 7),
    ],
)
def test_what_is_broken_is_found(harm: Callable[[Told], None], invariant: int, tmp_path: Path) -> None:
    told = Told()
    harm(told)
    assert invariant in told.judged(tmp_path)


def test_a_folder_that_stayed_is_found(tmp_path: Path) -> None:
    (tmp_path / "jobs" / "abc.1.1.0").mkdir(parents=True)
    assert 8 in Told().judged(tmp_path)
