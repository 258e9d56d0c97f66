"""The past of a task and what it waits for, in words."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from cador.cli import task_history
from cador.cli.main import main
from cador.cli.output import Failure, plain
from cador.cli.task_history import as_detail, instant, line
from cador.cli.task_why import _named, lines
from support.http_peer import Asked, peer, reply

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


# -- the commands, against a server whose answers are written down


def event(number: int, text: str) -> dict[str, Any]:
    return {"id": number, "at": "2026-11-21T11:00:00.000Z", "kind": "voted", "about": "", "who": "", "text": text,
            "data": {}}  # fmt: skip


def call(*words: str, url: str, monkeypatch: pytest.MonkeyPatch) -> int:
    for name in list(os.environ):
        if name.startswith("CADOR_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CADOR_URL", url)
    monkeypatch.setenv("CADOR_TOKEN", "t" * 20)
    return main(["task", *words])


def test_events_are_followed_until_the_task_is_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Page by page, and again after a look at which nothing was new."""
    monkeypatch.setattr(task_history, "LOOK_S", 0.0)
    pages = {
        "0": iter([([event(1, "one"), event(2, "two")], False)]),
        "2": iter([([], False), ([event(3, "three")], False)]),
        "3": iter([([event(4, "four")], True)]),
    }

    def answer(asked: Asked, handler: Any) -> None:
        found, over = next(pages[asked.path.rpartition("after=")[2]])
        reply(handler, 200, {"events": found, "next": found[-1]["id"] if found else None, "over": over})

    with peer(answer) as server:
        assert call("events", "w/1", "--follow", url=server.url, monkeypatch=monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["TIME", "EVENT", "WHAT"]
    assert [said.split()[-1] for said in lines[1:]] == ["one", "two", "three", "four"]


def test_events_as_json_are_one_document_or_one_line_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(asked: Asked, handler: Any) -> None:
        found = [event(1, "one"), event(2, "two")] if asked.path.endswith("after=0") else []
        reply(handler, 200, {"events": found, "next": 2 if found else None, "over": not found})

    with peer(answer) as server:
        assert call("events", "w/1", "--json", url=server.url, monkeypatch=monkeypatch) == 0
        whole = json.loads(capsys.readouterr().out)
        assert [one["text"] for one in whole["events"]] == ["one", "two"]
        assert call("events", "w/1", "--json", "-f", url=server.url, monkeypatch=monkeypatch) == 0
    each = capsys.readouterr().out.splitlines()
    assert [json.loads(one)["text"] for one in each] == ["one", "two"]


def test_a_report_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    broken = False

    def answer(asked: Asked, handler: Any) -> None:
        assert asked.path == "/api/v1/tasks/w/1/report"
        if broken:
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b"<!doc")
            handler.close_connection = True
        else:
            reply(handler, 200, b"<!doctype html>", "text/html")

    with peer(answer) as server:
        for words, target in (((), "w-1.html"), (("-o", "mine.html"), "mine.html"), (("-o", "."), "w-1.html")):
            assert call("report", "w/1", *words, url=server.url, monkeypatch=monkeypatch) == 0
            assert capsys.readouterr().out.strip() == target
            assert Path(target).read_text() == "<!doctype html>"
        assert call("report", "w/1", "-o", "no/such/x.html", url=server.url, monkeypatch=monkeypatch) == 1
        assert "cannot be written" in capsys.readouterr().err
        broken = True
        assert call("report", "w/1", "-o", "mine.html", url=server.url, monkeypatch=monkeypatch) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.html", "w-1.html"]
    assert Path("mine.html").read_text() == "<!doctype html>"


def test_a_past_that_is_not_to_be_relied_on_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    past = {"workflow": "w", "number": 1, "status": "running", "creator": "Ann", "error": "", "stages": [],
            "started_at": None, "ended_at": None, "agrees": False, "last_event": event(1, "let in")}  # fmt: skip

    def answer(asked: Asked, handler: Any) -> None:
        assert asked.path == "/api/v1/tasks/w/1/state?at=1795258800.0"
        reply(handler, 200, past)

    with peer(answer) as server:
        assert call("show", "w/1", "--at", "1795258800", url=server.url, monkeypatch=monkeypatch) == 0
        told = capsys.readouterr()
        assert "as it was 2026-11-21 13:00:00, after: let in" in told.out
        assert "do not rely on this" in told.err
        assert call("show", "w/1", "--at", "-5m", "--watch", url=server.url, monkeypatch=monkeypatch) == 2
