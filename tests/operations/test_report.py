"""The report of a task: whatever is in it, it is one page that does nothing, and no larger than promised."""

import asyncio
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cador.domain.errors import Unavailable
from cador.operations.history import EventView
from cador.operations.markup import escaped, tag, without_colours
from cador.operations.report import task_report
from cador.operations.report_jobs import LogTail
from cador.operations.report_page import MOST_BYTES, Report, render
from cador.operations.report_pictures import took
from cador.operations.task_values import ApprovalView, AttemptRow, JobView, StageView, TaskDetail, VoterView
from cador.operations.why import JobWhy, Reason, Wait, Why
from cador.ports.stores import JobRow, TaskRow
from operations.test_why_facts import job as job_document
from operations.test_why_facts import play, workflow
from support.world import World

NOW = 1_700_000_500.0
START = 1_700_000_000.0
HOSTILE = (
    """<script>alert(1)</script>"><img src=x onerror='x()'></pre></style><!-- --> ]]> &lt; \x00\x1b[31m red \ud800"""
)
TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "section", "footer", "div", "span", "p", "b",
    "h1", "h2", "h3", "small", "dl", "dt", "dd", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "code", "pre",
    "details", "summary", "svg", "g", "rect", "path", "text",
}  # fmt: skip
ATTRIBUTES = {
    "class", "lang", "charset", "name", "content", "http-equiv", "open", "colspan", "role", "width", "height",
    "viewbox", "x", "y", "rx", "d", "transform", "fill",
}  # fmt: skip


class Page(HTMLParser):
    """Reads a page: fails at what is not closed, and collects what is in it."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.metas: list[dict[str, str | None]] = []
        self.texts: list[str] = []
        self.styles: list[str] = []
        self._open: list[str] = []
        self.feed(page.decode("utf-8"))
        self.close()
        assert not self._open

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(name, attributes)
        self._open.append(name)

    def handle_startendtag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(name)
        self.attributes.update(key for key, _ in attributes)
        if name == "meta":
            self.metas.append(dict(attributes))

    def handle_endtag(self, name: str) -> None:
        assert self._open.pop() == name

    def handle_data(self, data: str) -> None:
        (self.styles if self._open and self._open[-1] == "style" else self.texts).append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def job(number: int, name: str = "", *, status: str = "passed", **fields: Any) -> JobView:
    approval, spec = fields.pop("approval", None), fields.pop("spec", {})
    values: dict[str, Any] = {
        "position": number, "stage": 0, "job": "j", "key": "j", "display_name": "j", "type": "freestyle",
        "kind": "sandbox", "error": "", "attempt": 1, "recovery": 0, "retry_count": 0, "stopping": "",
        "start_at": START + 1, "end_at": START + 31, "deadline_at": None, "timeout_s": 60.0, "policy": "stop",
        "maximum_retry": 0, "repeatable": True,
    }  # fmt: skip
    row = JobRow(id=number, task_id=1, name=name or f"job-{number}", status=status, **(values | fields))
    return JobView(row, spec, approval)


def stage(name: str, *jobs: JobView, parallel: bool = False, **fields: Any) -> StageView:
    values: dict[str, Any] = {"status": "passed", "error": "", "start_at": START + 1, "end_at": START + 40}
    return StageView(name=name, parallel=parallel, jobs=jobs, **(values | fields))


def attempt(number: int, **fields: Any) -> AttemptRow:
    values: dict[str, Any] = {"attempt": 1, "status": "passed", "error": "", "start_at": START + 1,
                              "end_at": START + 31}  # fmt: skip
    return AttemptRow(job_id=number, **(values | fields))


def a_report(*stages: StageView, attempts: tuple[AttemptRow, ...] = (), row: Any = None, **fields: Any) -> Report:
    base = TaskRow(
        id=1, workflow_key="release", project="shop", number=12, display_name="Release", type="custom",
        status="passed", slot="none", error="", creator="Ann", creator_id="u1", creator_account="ann", trigger="ui",
        revoker="", create_at=START, start_at=START + 1, end_at=START + 40, retry_num=0,
    )  # fmt: skip
    detail = TaskDetail(
        row=replace(base, **(row or {})), stages=stages, params=fields.pop("params", ()),
        warnings=fields.pop("warnings", ()), attempts=attempts,
    )  # fmt: skip
    return Report(detail=detail, why=fields.pop("why", Why((), ())), at=NOW, **fields)


def hostile() -> Report:
    """Every text that a stranger can choose is an attack."""
    voter = VoterView("u1", HOSTILE, "approve", HOSTILE, START)
    asked = ApprovalView(HOSTILE, HOSTILE, "approve", 1, 60, (voter,), START, START + 9)
    case = {"name": HOSTILE, "classname": HOSTILE, "status": HOSTILE, "message": HOSTILE}
    result = {"warnings": [HOSTILE], "junit": {"tests": HOSTILE, "successes": HOSTILE, "cases": [case]}}
    repo = {"repo_name": HOSTILE, "repo_namespace": HOSTILE, "branch": HOSTILE, "commit_id": HOSTILE,
            "commit_message": HOSTILE}  # fmt: skip
    step = {"name": HOSTILE, "type": HOSTILE, "status": HOSTILE, "exit_code": HOSTILE, "start_time": 1, "end_time": 2}
    wait = Wait(Reason.APPROVAL, HOSTILE)
    jobs = (
        job(1, HOSTILE, status="failed", error=HOSTILE, type=HOSTILE, result=result, spec={"repos": [repo]}),
        job(2, HOSTILE, status=HOSTILE, kind="approval", approval=asked),
    )
    return a_report(
        stage(HOSTILE, *jobs, approval=asked, error=HOSTILE, status=HOSTILE),
        attempts=(
            attempt(1, error=HOSTILE, status=HOSTILE, steps=[step]),
            attempt(1, attempt=2, error=HOSTILE, steps=[step]),
        ),
        row={name: HOSTILE for name in (
            "workflow_key", "project", "display_name", "status", "error", "creator", "trigger", "revoker", "remark",
        )},
        params=({"name": HOSTILE, "value": HOSTILE, "description": HOSTILE}, {"name": "r", "repo": repo}),
        warnings=(HOSTILE,),
        why=Why((wait,), (JobWhy(HOSTILE, HOSTILE, "", (wait,)),)),
        events=(EventView(1, START, HOSTILE, {}, HOSTILE, HOSTILE, HOSTILE),),
        artifacts=((HOSTILE, 5),),
        logs={(1, 1): LogTail(HOSTILE, cut=True), (1, 2): LogTail("", note=HOSTILE)},
    )  # fmt: skip


def test_no_name_or_log_becomes_part_of_the_page() -> None:
    page = render(hostile())
    read = Page(page)
    assert read.tags <= TAGS
    assert read.attributes <= ATTRIBUTES
    assert read.text.count("<script>alert(1)</script>") > 30
    assert b"\x00" not in page
    assert b"\x1b" not in page


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    read = Page(render(hostile()))
    (policy,) = [meta["content"] for meta in read.metas if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert len(read.styles) == 1
    assert not re.search(r"url\(|@import|expression|</", read.styles[0])
    assert not {"src", "href", "action", "style", "srcdoc", "xlink:href"} & read.attributes


@given(st.text(), st.text())
def test_markup_gives_back_what_it_was_given(text: str, value: str) -> None:
    seen: list[tuple[str, Any]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
            seen.append(("tag", (name, attributes)))

        def handle_data(self, data: str) -> None:
            seen.append(("text", data))

    reader = Reader()
    reader.feed(str(tag("p", text, class_=value)))
    reader.close()
    clean = [
        re.sub("[^\ufffd]", lambda m: m[0] if "\ufffd" not in escaped(m[0]) else "\ufffd", t) for t in (text, value)
    ]
    assert seen[0] == ("tag", ("p", [("class", clean[1])]))
    assert "".join(data for kind, data in seen if kind == "text") == clean[0]
    assert sum(kind == "tag" for kind, _ in seen) == 1


def test_what_is_made_here_is_not_escaped_again() -> None:
    assert tag("p", tag("b", "a<b"), None, [1, "&"], open_=None) == "<p><b>a&lt;b</b>1&amp;</p>"
    assert tag("meta", http_equiv="x", name="y") == '<meta http-equiv="x" name="y"/>'


def test_colours_of_a_terminal_are_left_out() -> None:
    log = "\x1b[1;31mred\x1b[0m \x1b]0;title\x07plain \x1b(B\x1b[2K"
    assert without_colours(log).replace("\x1b(B", "") == "red plain "


def test_a_page_of_too_much_stays_within_its_size() -> None:
    long = "x<&\"'" * 4_000
    jobs = tuple(
        job(n, error=long, status="failed" if n == 70 else "passed", result={"warnings": ["odd"] * 30})
        for n in range(400)
    )
    stages = tuple(stage(f"s{n}", *jobs[n * 100 : n * 100 + 100]) for n in range(4))
    logs = {(n, 1): LogTail("<" * 100_000) for n in (70, *range(70), *range(71, 400))}
    report = a_report(
        *stages,
        attempts=tuple(attempt(n, error=long) for n in range(400)),
        params=tuple({"name": f"P{n}", "value": long} for n in range(3_000)),
        warnings=(long,) * 3_000,
        events=tuple(EventView(n, START, "voted", {}, "", "", long) for n in range(2_000)),
        artifacts=tuple((f"{long}/{n}", n) for n in range(3_000)),
        logs=logs,
    )
    page = render(report)
    assert MOST_BYTES // 2 < len(page) <= MOST_BYTES
    text = Page(page).text
    assert "left out, the report is long enough" in text
    assert re.search(r"\d+ more jobs", text)
    # The log that tells why it failed is the first that gets its place.
    failed = page.index(b"job-70</b>")
    assert page.index(b"&lt;" * 1_000, failed) < page.index(b"</details>", failed)


def test_thousands_of_jobs_stay_small() -> None:
    stages = tuple(stage(f"s{n}", *(job(n * 100 + k) for k in range(100)), parallel=True) for n in range(60))
    page = render(a_report(*stages, attempts=tuple(attempt(n) for n in range(6_000))))
    assert len(page) <= MOST_BYTES
    assert "20 more …" in Page(page).text


def test_of_a_job_that_was_tried_often_the_newest_are_shown() -> None:
    tries = tuple(attempt(1, attempt=n, start_at=START + n, end_at=START + n + 0.5) for n in range(1, 301))
    page = render(a_report(stage("s", job(1, attempt=300)), attempts=tries))
    assert "Attempt 300" in Page(page).text
    assert "Attempt 200" not in Page(page).text
    assert page.count(b'<rect class="bar') <= 51


def test_a_small_report_says_everything() -> None:
    steps = [{"name": "compile", "type": "shell", "status": "failed", "start_time": START + 2, "end_time": START + 4,
              "exit_code": 3}]  # fmt: skip
    junit = {"tests": 3, "successes": 1, "failures": 2, "errors": 0, "skips": 0, "cases": [
        {"name": "price", "classname": "shop", "status": "failed", "message": "3 is not 4"}
    ]}  # fmt: skip
    asked = ApprovalView("native", "go?", "waiting", 2, 60, (VoterView("u1", "Ann", "approve", "yes", START),
                         VoterView("u2", "Ben")), START + 20, None)  # fmt: skip
    text = Page(
        render(
            a_report(
                stage("build", job(1, "compile", status="failed", error="exit status 3", result={"junit": junit})),
                stage("out", job(2, "publish", status="", start_at=None, end_at=None), approval=asked, status=""),
                attempts=(attempt(1, status="failed", error="exit status 3", steps=steps),),
                row={"status": "failed", "error": "job compile: exit status 3", "remark": "for the sale"},
                params=({"name": "VERSION", "value": "1.4", "description": "what goes out"},),
                warnings=("odd",),
                why=Why((Wait(Reason.FINISHED, "it is over"),), ()),
                events=(EventView(1, START, "created", {}, "", "Ann", "created by Ann (ui)"),),
                artifacts=(("compile/archive/a.tar.gz", 1_234_567),),
                logs={(1, 1): LogTail("line one\nline two\n")},
            )
        )
    ).text
    for said in (
        "Release", "#12", "✗ failed", "shop", "Ann", "39.0 s", "for the sale", "job compile: exit status 3", "odd",
        "VERSION", "1.4", "what goes out", "Before stage out", "1 of 2 needed votes", "yes", "no vote",
        "3 run: 1 passed, 2 failed", "3 is not 4", "exit status 3", "line one\nline two", "compile/archive/a.tar.gz",
        "1.2 MB", "created by Ann (ui)", "2023-11-14 22:13:20", "It has not begun.",
    ):  # fmt: skip
        assert said in text, said
    assert "it is over" not in text


def test_bars_stand_where_the_work_was() -> None:
    retried = (
        attempt(1, status="failed", start_at=START, end_at=START + 10),
        attempt(1, attempt=2, start_at=START + 20, end_at=START + 40),
    )
    page = render(a_report(stage("s", job(1, attempt=2)), attempts=retried, row={"start_at": START})).decode()
    bars = re.findall(r'<rect class="bar (\w+)" x="([\d.]+)" y="5" width="([\d.]+)"', page)
    assert bars == [("bad", "220.0", "205.0"), ("ok", "630.0", "410.0")]
    (width,) = re.findall(r'<svg role="img" width="([\d.]+)"[^>]*><title>Timeline<', page)
    assert float(width) <= 1180 - 2 * 24 - 2 * 19, "a card of the page, so that nothing need be moved aside"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0 ms"), (0.0004, "0 ms"), (0.25, "250 ms"), (59.94, "59.9 s"), (60.0, "1 min 00 s"),
        (3599.6, "1 h 00 min"), (90_000.0, "25 h 00 min"), (200_000.0, "2 d 7 h"),
    ],
)  # fmt: skip
def test_spans_of_time(seconds: float, text: str) -> None:
    assert took(seconds) == text


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(-10, 1e7), st.floats(-10, 1e7)), max_size=5), st.floats(0, 1e7))
def test_any_times_can_be_drawn(spans: list[tuple[float, float]], length: float) -> None:
    jobs = tuple(job(n, start_at=START + a, end_at=START + b) for n, (a, b) in enumerate(spans))
    tries = tuple(attempt(n, start_at=START + a, end_at=START + b) for n, (a, b) in enumerate(spans))
    page = render(a_report(stage("s", *jobs), attempts=tries, row={"end_at": START + length}))
    assert "nan" not in page.decode()
    Page(page)


def test_a_report_does_without_artifacts_that_are_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(prefix: str) -> Any:
        raise Unavailable(f"what {prefix} left is on ci-2, which is away")

    async def script(world: World) -> None:
        await world.define(workflow("w", job_document("a", "echo kept")))
        await world.start("w")
        await world.done("w", 1)
        monkeypatch.setattr(world.blobs, "list", away)
        text = Page(await task_report(world.ctx, world.actor(), "w", 1)).text
        assert "They cannot be listed now: what tasks/w/1 left is on ci-2, which is away" in text
        assert "cador: step shell started" in text

    play(tmp_path, script)


def test_a_real_report_hides_the_secrets_of_its_task(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        secret = "s3cret-value-of-the-token"
        fails = job_document("a", f"echo {secret}\nexit 3")
        token = {"name": "TOKEN", "type": "string", "value": "", "is_credential": True}
        await world.define(workflow("w", fails, params=[token]))
        await world.start("w", parameters=[{"name": "TOKEN", "value": secret}])
        detail = await world.done("w", 1)

        def leak(tx: Any) -> None:
            (row,) = tx.tasks.jobs(detail.row.id)
            case = {"name": "t", "classname": "c", "status": "failed", "message": f"token {secret} is wrong"}
            tx.tasks.merge_result(row.id, {"junit": {"tests": 1, "failures": 1, "cases": [case]},
                                           "warnings": [f"odd {secret}"]})  # fmt: skip
            task = tx.tasks.lock(detail.row.id)
            tx.tasks.save(task, task)

        await world.db.write(leak)
        page = await task_report(world.ctx, world.actor(), "w", 1)
        assert secret.encode() not in page
        text = Page(page).text
        assert "token ******** is wrong" in text
        assert "job a failed" not in text
        assert "a failed: exit status 3" in text
        assert "cador: step shell started" in text

    play(tmp_path, script)


def test_only_the_end_of_a_long_log_is_in_it(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        lines = "\n".join(f"echo line {n}" for n in range(1_000))
        await world.define(workflow("w", job_document("a", lines), job_document("b", "sleep 1")))
        await world.start("w")
        await world.done("w", 1)
        await asyncio.to_thread(world.logs.delete, "w", 1)
        gone = Page(await task_report(world.ctx, world.actor(), "w", 1)).text
        assert "there is none, or it was removed" in gone
        await world.start("w")
        await world.done("w", 2)
        text = Page(await task_report(world.ctx, world.actor(), "w", 2)).text
        assert "line 999\n" in text
        assert "line 850\n" in text
        assert "line 700\n" not in text
        assert "Log, its end" in text

    play(tmp_path, script)
