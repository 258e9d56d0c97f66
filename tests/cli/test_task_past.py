"""The past of a task and what it waits for, in words."""

import time
from typing import Any

import pytest

from cador.cli.output import Failure, plain
from cador.cli.task_history import as_detail, instant, line
from cador.cli.task_why import _named, lines

NOW = 1_795_258_800.0


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two hours east of Greenwich."""
    monkeypatch.setenv("TZ", "<+02>-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("-5m", NOW - 300),
        ("-90s", NOW - 90),
        ("-1.5h", NOW - 5400),
        ("-2d", NOW - 172_800),
        ("1795258000", 1_795_258_000.0),
        ("1795258000.25", 1_795_258_000.25),
        ("2026-11-21T12:00:00", 1_795_255_200.0),
        ("2026-11-21 12:00", 1_795_255_200.0),
        ("2026-11-21T12:00:00Z", 1_795_262_400.0),
        ("2026-11-21T12:00:00+05:00", 1_795_244_400.0),
        ("2026-11-21", 1_795_212_000.0),
    ],
)
def test_moments(text: str, at: float) -> None:
    assert instant(text, NOW) == at


@pytest.mark.parametrize("text", ["", "-5", "-5y", "yesterday", "12 o'clock", "2026-13-01", "-", "1e9", "٥", "-٥m"])
def test_no_moments(text: str) -> None:
    with pytest.raises(Failure) as caught:
        instant(text, NOW)
    assert caught.value.code == 2
    assert "-5m" in caught.value.message


def test_an_event_is_a_row() -> None:
    event = {"at": "2026-11-21T10:00:01.500Z", "kind": "voted", "text": "Ann approved talk: \x1b[31mgo\r\n"}
    assert line(event) == "2026-11-21 12:00:01.500  voted              Ann approved talk: �[31mgo"


def test_what_strangers_write_gives_a_terminal_no_orders() -> None:
    assert plain("a\x1b]0;x\x07b\u202ec\td") == "a�]0;x�b�c d"


def why(**fields: Any) -> dict[str, Any]:
    base = {"workflow": "release", "number": 12, "status_detail": "running", "reasons": [], "position": None,
            "expected_start": None, "jobs": []}  # fmt: skip
    return {**base, **fields}


LIMIT = {
    "reason": "workflow_limit",
    "text": "its workflow runs 1 task at once (concurrency_limit)",
    "blocking": [{"workflow": "release", "number": 11}],
    "hidden": 2,
    "limit": 1,
}
ORDER = {"reason": "stage_order", "text": "stage build is not over", "waits_for": ["build"]}


def test_a_task_in_the_queue() -> None:
    told = why(
        status_detail="waiting",
        position=2,
        reasons=[LIMIT],
        expected_start={"at": "2026-11-21T11:01:30.000Z", "sure": "rough", "samples": 3},
        jobs=[
            {"name": "api", "stage": "build", "status": "", "reasons": [LIMIT]},
            {"name": "deploy", "stage": "deploy", "status": "", "reasons": [ORDER]},
        ],
    )
    assert list(lines(told, NOW)) == [
        "release/12  waiting, number 2 in the queue",
        "  its workflow runs 1 task at once (concurrency_limit)",
        "    in its way: release/11, 2 that you may not see",
        "  it may start in 1:30 min, at 2026-11-21 13:01:30, roughly, by the last 3 that passed",
        "stage build",
        "  api: its workflow runs 1 task at once (concurrency_limit)",
        "      in its way: release/11, 2 that you may not see",
        "stage deploy",
        "  deploy: stage build is not over",
    ]


def test_when_it_starts_is_not_always_known() -> None:
    assert list(lines(why(position=1, reasons=[ORDER]), NOW))[-1] == "  nobody can tell when it starts"
    soon = {"at": "2026-11-21T11:00:00.000Z", "sure": "good", "samples": 20}
    said = list(lines(why(position=1, reasons=[ORDER], expected_start=soon), NOW))[-1]
    assert said == "  it may start any moment, by the last 20 that passed"


def test_a_task_that_runs_waits_for_nothing() -> None:
    done = {"name": "a", "stage": "s", "status": "passed", "reasons": [{"reason": "finished", "text": "it is over"}]}
    runs = {"name": "b", "stage": "s", "status": "running", "reasons": []}
    assert list(lines(why(jobs=[done, runs]), NOW)) == ["release/12  running", "  it waits for nothing"]


def test_an_approval_says_until_when() -> None:
    ask = {"reason": "approval", "text": "1 more of Ann must approve", "until": "2026-11-21T11:30:00.000Z"}
    assert list(lines(why(reasons=[ask]), NOW))[1] == "  1 more of Ann must approve, until 2026-11-21 13:30:00"


def test_a_job_that_is_not_there() -> None:
    with pytest.raises(Failure, match="release/12 has no job depoly; did you mean deploy"):
        _named([{"name": "deploy"}], "depoly", "release/12")
    with pytest.raises(Failure, match="it has a, b"):
        _named([{"name": "a"}, {"name": "b"}], "zzz", "release/12")


def test_the_past_is_drawn_like_the_present() -> None:
    voters = [{"user_name": "Ann", "vote": "approve"}, {"user_name": "Ben", "vote": ""}]
    asked = {"description": "go?", "needed": 2, "voters": voters}
    times = {"started_at": "2026-11-21T11:00:00.000Z", "ended_at": None}
    job = {"name": "j", "type": "approval", "status": "wait_for_approval", "error": "", "approval": asked, **times}
    stage = {"name": "s", "status": "running", "error": "", "approval": None, "jobs": [job], **times}
    past = {"workflow": "w", "number": 1, "status": "running", "creator": "Ann", "error": "", "stages": [stage],
            **times}  # fmt: skip
    drawn = as_detail(past)
    assert (drawn["start_time"], drawn["end_time"]) == (NOW, 0.0)
    native = drawn["stages"][0]["jobs"][0]["spec"]["native_approval"]
    assert (native["needed_approvers"], [user["reject_or_approve"] for user in native["approve_users"]]) == (
        2, ["approve", ""],
    )  # fmt: skip
