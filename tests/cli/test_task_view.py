"""How a task looks."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cador.cli.follow import unstamped
from cador.cli.task_view import open_approvals, render, span

NOW = 1_700_000_100.0


def job(name: str, status: str, **more: Any) -> dict[str, Any]:
    base = {
        "name": name,
        "type": "freestyle",
        "status": status,
        "start_time": 0,
        "end_time": 0,
        "error": "",
        "spec": {},
    }
    return {**base, **more}


def stage(name: str, status: str, *jobs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "status": status,
        "start_time": 0,
        "end_time": 0,
        "parallel": False,
        "jobs": list(jobs),
        **more,
    }


APPROVAL = {
    "enabled": True,
    "description": "Release 1.4?",
    "needed_approvers": 2,
    "approve_users": [
        {"user_name": "Alice", "reject_or_approve": "approve"},
        {"user_name": "Bob", "reject_or_approve": ""},
    ],
}


def task(*stages: dict[str, Any], **more: Any) -> dict[str, Any]:
    base = {
        "task_id": 7,
        "workflow_key": "release",
        "status": "running",
        "task_creator": "admin",
        "start_time": 1_700_000_000,
        "end_time": 0,
        "stages": list(stages),
    }
    return {**base, **more}


def drawn(detail: dict[str, Any], *, encoding: str = "utf-8", width: int = 100) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    render(detail, Console(file=file, width=width, color_system=None, force_terminal=True, markup=False), NOW)
    file.flush()
    return "\n".join(line.rstrip() for line in raw.getvalue().decode(encoding).splitlines()) + "\n"


DETAIL = task(
    stage(
        "build",
        "passed",
        job(
            "api-api-build",
            "passed",
            start_time=1_700_000_000,
            end_time=1_700_000_061,
            spec={"repos": [{"branch": "main", "commit_id": "0123456789abcdef"}]},
        ),
        job("web-web-build", "failed", error="exit status 1 in step web-shell"),
        start_time=1_700_000_000,
        end_time=1_700_000_061,
    ),
    stage("release", "wait_for_approval", job("publish", ""), approval=APPROVAL),
)


def test_a_task_with_everything() -> None:
    assert drawn(DETAIL) == (
        "● release/7  running  1:40 min  by admin\n"
        "✓    build            passed              1:01 min\n"
        "  ✓    api-api-build  passed              1:01 min  main@01234567\n"
        "  ✗    web-web-build  failed                        exit status 1 in step web-shell\n"
        "◆    release          waits for approval            1 of 2 from Alice, Bob: Release 1.4?\n"
        "  ○    publish\n"
    )


def test_a_terminal_without_unicode_gets_ascii() -> None:
    text = drawn(DETAIL, encoding="ascii")
    assert text.startswith("* release/7  running")
    assert "  +    api-api-build" in text


def test_names_are_shown_as_they_are() -> None:
    """Nothing a user chose is taken for markup, colour or a control sequence."""
    assert "[bold]x[/bold] :smile:" in drawn(task(stage("[bold]x[/bold] :smile:", "passed")))


@given(
    st.sampled_from(
        ["", "prepare", "running", "passed", "failed", "reject", "unstable", "skipped", "retry_pause", "new"]
    )
)
def test_every_status_has_a_line(status: str) -> None:
    assert "the-job" in drawn(task(stage("s", status, job("the-job", status))))


def test_open_approvals_of_stages_and_jobs() -> None:
    waiting = job("ask", "wait_for_approval", type="approval", spec={"description": "d", "native_approval": APPROVAL})
    names = [approval.name for approval in open_approvals(task(*DETAIL["stages"], stage("x", "running", waiting)))]
    assert names == ["release", "ask"]
    (first, second) = open_approvals(task(*DETAIL["stages"], stage("x", "running", waiting)))
    assert (first.given, first.needed, first.who, second.description) == (1, 2, ("Alice", "Bob"), "Release 1.4?")


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [(0, 0, ""), (100, 100, "0 s"), (100, 159, "59 s"), (100, 160, "1:00 min"), (100, 3699, "59:59 min"),
     (100, 3700, "1:00:00 h"), (100, 0, "1:00 min")],
)  # fmt: skip
def test_span(start: int, end: int, wanted: str) -> None:
    assert span({"start_time": start, "end_time": end}, 160.0) == wanted


def test_a_clock_behind_the_server_shows_no_negative_time() -> None:
    assert span({"start_time": 200, "end_time": 0}, 100.0) == "0 s"


@given(st.text(max_size=40))
def test_only_a_stamp_is_taken_off(text: str) -> None:
    assert unstamped(f"[2026-01-02 03:04:05]   {text}") == text
    assert unstamped(f"x{text}") == f"x{text}"
