"""The report of a task as one HTML page: nothing is fetched, nothing runs in it, and it has a largest size.

Pure. Everything is escaped by :mod:`cador.operations.markup`; a page may go to people who trust neither the jobs nor
the names in it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

from cador import __version__
from cador.operations.history import EventView
from cador.operations.markup import Markup, joined, short, size_of, tag, without_colours
from cador.operations.report_pictures import fitting, graph, look, span, timeline
from cador.operations.task_values import ApprovalView, AttemptRow, JobView, TaskDetail
from cador.operations.why import Why

MOST_BYTES: Final = 5 << 20
"""Of the whole page."""
_TEXT: Final = 4_000
"""Characters of one value: an error, a comment, a parameter."""
_ROOM: Final[Mapping[str, int]] = {
    "warnings": 64 << 10,
    "waits": 64 << 10,
    "params": 256 << 10,
    "approvals": 192 << 10,
    "jobs": 1 << 20,
    "artifacts": 128 << 10,
    "events": 512 << 10,
}
"""Bytes that each list may take. What is left of the page is for logs: at least half of it."""
_FRAME: Final = 16 << 10
"""And so many for what is around all that."""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True)
class LogTail:
    """The end of a log. ``cut``: lines before it are left out. ``note``: why there is no text."""

    text: str
    cut: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report tells, masked. ``logs`` by job id and attempt; ``at``: Unix seconds, when it was made."""

    detail: TaskDetail
    why: Why
    events: tuple[EventView, ...] = ()
    more_events: bool = False
    artifacts: tuple[tuple[str, int], ...] = ()
    logs: Mapping[tuple[int, int], LogTail] = field(default_factory=dict)
    at: float = 0.0


def render(report: Report) -> bytes:
    """The page, UTF-8, at most :data:`MOST_BYTES` long."""
    detail, now = report.detail, report.at
    jobs, left_out = _jobs(report)
    sections: list[Any] = [
        _header(report),
        _problems(report),
        _section("Stages and jobs", tag("div", graph(detail, now), class_="card wide")),
        _section("Timeline", tag("div", timeline(detail, now), class_="card wide")),
        _params(detail),
        _approvals(detail),
    ]
    after = [_artifacts(report.artifacts), _events(report)]
    fixed = joined([sections, after, [card.without_logs for card in jobs]])
    _fill_in(jobs, report.logs, MOST_BYTES - size_of(fixed) - size_of(_style()) - _FRAME)
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="referrer", content="no-referrer"),
            tag("title", f"{detail.row.workflow_key}/{detail.row.number} · {look(_status(detail))[2]}"),
            Markup(f"<style>{_style()}</style>"),
        ),
        tag(
            "body",
            tag("main", sections, _section("Jobs", _cards(jobs, left_out)), after, _footer(report)),
        ),
        lang="en",
    )
    return f"<!doctype html>\n{page}\n".encode()


@cache
def _style() -> str:
    return files("cador.operations").joinpath("report.css").read_text("utf-8")


def _section(title: str, *content: Any) -> Markup:
    return tag("section", tag("h2", title), content)


# -- what it is about


def _status(detail: TaskDetail) -> str:
    row = detail.row
    if row.status == "running" and row.waiting_for:
        return "waiting_for_slot" if row.waiting_for == "slot" else "wait_for_approval"
    return row.status


def _pill(status: str) -> Markup:
    colour, mark, words = look(status)
    return tag("span", f"{mark} {words}", class_=f"status {colour}")


def _header(report: Report) -> Markup:
    row, now = report.detail.row, report.at
    queued = ""
    if not row.retry_num and row.start_at is not None and row.start_at - row.create_at >= 1:
        queued = span(row.create_at, row.start_at, now)
    facts = [
        ("Project", row.project),
        ("Started by", row.creator),
        ("By way of", row.trigger),
        ("Created", _moment(row.create_at)),
        ("Began", _moment(row.start_at)),
        ("Ended", _moment(row.end_at)),
        ("Took", span(row.start_at, row.end_at, now)),
        ("In the queue", queued),
        ("Retries", str(row.retry_num) if row.retry_num else ""),
        ("Cancelled by", row.revoker),
        ("Remark", short(row.remark, _TEXT)),
    ]
    return joined(
        [
            tag(
                "header",
                tag(
                    "div",
                    tag("h1", short(row.display_name or row.workflow_key, 300), " ", tag("small", f"#{row.number}")),
                    tag("p", f"{row.workflow_key}/{row.number}", class_="key"),
                ),
                _pill(_status(report.detail)),
            ),
            tag("dl", [_fact(name, value) for name, value in facts if value], class_="facts card"),
        ]
    )


def _fact(name: str, value: Any) -> Markup:
    return tag("div", tag("dt", name), tag("dd", value))


def _problems(report: Report) -> Markup:
    """What went wrong, what was odd, and what it waits for."""
    detail = report.detail
    parts: list[Any] = []
    if detail.row.error:
        parts.append(tag("p", short(detail.row.error, _TEXT), class_="note bad"))
    open_waits = [wait for wait in report.why.waits if wait.reason != "finished"]
    if open_waits:
        told = _fit([tag("li", short(wait.text, _TEXT)) for wait in open_waits], "waits", _more_item)
        parts.append(tag("div", tag("b", "It waits"), tag("ul", told), class_="note run"))
    if detail.warnings:
        told = _fit([tag("li", short(text, _TEXT)) for text in detail.warnings], "warnings", _more_item)
        parts.append(tag("div", tag("b", "Warnings"), tag("ul", told), class_="note warn"))
    return joined(parts)


# -- lists


def _fit(items: Sequence[Markup], room: str, more: Callable[[int], Markup], most: int = 2_000) -> list[Markup]:
    """As many of *items* as there is room for, and how many are left out."""
    left = _ROOM[room]
    shown: list[Markup] = []
    for item in items[:most]:
        left -= size_of(item)
        if left < 0:
            break
        shown.append(item)
    return shown if len(shown) == len(items) else [*shown, more(len(items) - len(shown))]


def _more_item(number: int) -> Markup:
    return tag("li", f"{number} more", class_="soft")


def _more_card(number: int) -> Markup:
    return tag("div", f"{number} more", class_="card soft")


def _more_row(number: int) -> Markup:
    return tag("tr", tag("td", f"{number} more", class_="more", colspan="9"))


def _table(columns: Iterable[str], rows: Iterable[Markup]) -> Markup:
    head = tag("tr", [tag("th", name, class_="num" if name in ("Took", "Size") else None) for name in columns])
    return tag("table", tag("thead", head), tag("tbody", rows))


def _params(detail: TaskDetail) -> Markup | None:
    rows = [
        tag(
            "tr",
            tag("td", tag("code", short(str(param.get("name", "")), 300))),
            tag("td", tag("code", short(_value(param), _TEXT))),
            tag("td", short(str(param.get("description", "")), 500), class_="soft"),
        )
        for param in detail.params
    ]
    if not rows:
        return None
    table = _table(("Name", "Value", ""), _fit(rows, "params", _more_row))
    return _section("Parameters", tag("div", table, class_="card"))


def _value(param: Mapping[str, Any]) -> str:
    repo = param.get("repo")
    if isinstance(repo, Mapping):
        name = "/".join(filter(None, (str(repo.get("repo_namespace") or ""), str(repo.get("repo_name") or ""))))
        return f"{name} {repo.get('branch') or repo.get('tag') or ''}".strip()
    return str(param.get("value", ""))


def _approvals(detail: TaskDetail) -> Markup | None:
    cards = []
    for stage in detail.stages:
        if stage.approval is not None:
            cards.append(_approval(f"Before stage {stage.name}", stage.approval))
        cards += [_approval(job.row.name, job.approval) for job in stage.jobs if job.approval is not None]
    if not cards:
        return None
    return _section("Approvals", tag("div", _fit(cards, "approvals", _more_card), class_="grid"))


def _approval(title: str, approval: ApprovalView) -> Markup:
    status = "wait_for_approval" if approval.status == "waiting" else approval.status
    given = sum(voter.vote == "approve" for voter in approval.voters)
    rows = [
        tag(
            "tr",
            tag("td", voter.user_name or voter.user_id),
            tag("td", _vote(voter.vote), class_="tight"),
            tag("td", short(voter.comment, 1_000)),
            tag("td", _moment(voter.at), class_="time"),
        )
        for voter in approval.voters[:100]
    ]
    if len(approval.voters) > len(rows):
        rows.append(_more_row(len(approval.voters) - len(rows)))
    limit = f", within {approval.timeout_min} min"
    return tag(
        "div",
        tag("h3", short(title, 300), " ", _pill(status)),
        tag("p", short(approval.description, _TEXT)) if approval.description else None,
        tag("p", f"{given} of {approval.needed} needed votes{limit}", class_="soft"),
        _table(("Who", "Vote", "Comment", "When"), rows),
        class_="card",
    )


def _vote(vote: str) -> Markup:
    colour, mark, words = look(vote) if vote else ("idle", "○", "no vote")
    return tag("span", f"{mark} {words}", class_=colour)


def _artifacts(artifacts: Sequence[tuple[str, int]]) -> Markup | None:
    rows = [
        tag("tr", tag("td", tag("code", short(path, 600))), tag("td", _bytes(size), class_="num"))
        for path, size in artifacts
    ]
    if not rows:
        return None
    table = _table(("Artifact", "Size"), _fit(rows, "artifacts", _more_row))
    return _section("Artifacts", tag("div", table, class_="card"))


def _events(report: Report) -> Markup | None:
    if not report.events:
        return None
    rows = [
        tag(
            "tr",
            tag("td", _moment(event.at, fine=True), class_="time"),
            tag("td", tag("code", event.kind), class_="tight"),
            tag("td", short(event.text, 1_000)),
        )
        for event in report.events
    ]
    shown = _fit(rows, "events", _more_row)
    if report.more_events and len(shown) == len(rows):
        shown.append(tag("tr", tag("td", "and later ones", class_="more", colspan="9")))
    return _section("Events", tag("div", _table(("Time (UTC)", "Event", "What"), shown), class_="card"))


# -- jobs


@dataclass(slots=True)
class _Card:
    """One job. ``pieces``: what is before, between and after the logs, whose keys are ``slots``; ``filled``: those of
    them that fit."""

    stage: str
    job: JobView
    pieces: list[Markup]
    slots: list[tuple[int, int]]
    open: bool
    summary: Markup
    filled: dict[tuple[int, int], Markup] = field(default_factory=dict)

    @property
    def without_logs(self) -> Markup:
        return joined([tag("p", self.stage), self.summary, self.pieces, tag("details", class_="card", open="")])

    def markup(self) -> Markup:
        inside: list[Any] = [self.pieces[0]]
        for slot, piece in zip(self.slots, self.pieces[1:], strict=True):
            inside += [self.filled.get(slot), piece]
        return tag(
            "details",
            tag("summary", self.summary),
            tag("div", inside, class_="inside"),
            class_="card",
            open="" if self.open else None,
        )


def _jobs(report: Report) -> tuple[list[_Card], int]:
    """Cards without their logs, and how many jobs have none: where there is no room for all, those that failed come
    first."""
    attempts: dict[int, list[AttemptRow]] = {}
    for attempt in report.detail.attempts:
        attempts.setdefault(attempt.job_id, []).append(attempt)
    waits = {job.name: job.waits for job in report.why.jobs}
    cards = [
        _card(stage.name, job, attempts.get(job.row.id, ()), waits.get(job.row.name, ()), report.at)
        for stage in report.detail.stages
        for job in stage.jobs
    ]
    left = _ROOM["jobs"]
    chosen: set[int] = set()
    for index, card in sorted(enumerate(cards), key=lambda one: not one[1].open):
        left -= size_of(card.without_logs)
        if left < 0:
            break
        chosen.add(index)
    return [card for index, card in enumerate(cards) if index in chosen], len(cards) - len(chosen)


def _card(stage: str, job: JobView, attempts: Sequence[AttemptRow], waits: Sequence[Any], now: float) -> _Card:
    row = job.row
    side = [span(row.start_at, row.end_at, now), f"attempt {row.attempt}" if row.attempt > 1 else ""]
    summary = joined(
        [
            _pill(row.status),
            tag("b", fitting(row.name, 120)),
            tag("span", row.type, class_="soft"),
            tag("span", " · ".join(filter(None, side)), class_="side"),
        ]
    )
    open_waits = [wait.text for wait in waits if wait.reason != "finished"]
    first = joined(
        [
            tag("p", short(row.error, _TEXT), class_="note bad") if row.error else None,
            [tag("p", short(text, _TEXT), class_="note run") for text in open_waits],
            [tag("p", short(text, _TEXT), class_="note warn") for text in list(row.result.get("warnings", ()))[:20]],
            _commits(job),
            _tests(row.result.get("junit")),
        ]
    )
    pieces, slots = [first], []
    for attempt in reversed(attempts):  # the newest first
        pieces[-1] = joined([pieces[-1], _attempt(attempt, len(attempts), row.error, now)])
        slots.append((attempt.job_id, attempt.attempt))
        pieces.append(Markup(""))
    if not attempts and job.approval is None and row.status == "":
        pieces[0] = joined([first, tag("p", "It has not begun.", class_="soft")])
    failed = look(row.status)[0] == "bad"
    return _Card(stage, job, pieces, slots, failed, summary)


def _commits(job: JobView) -> Markup | None:
    repos = [repo for repo in job.spec.get("repos") or () if isinstance(repo, Mapping) and repo.get("repo_name")]
    if not repos:
        return None
    rows = [
        tag(
            "tr",
            tag("td", "/".join(filter(None, (str(repo.get("repo_namespace") or ""), str(repo["repo_name"]))))),
            tag("td", str(repo.get("branch") or repo.get("tag") or "")),
            tag("td", tag("code", str(repo.get("commit_id") or "")[:12])),
            tag("td", short(str(repo.get("commit_message") or "").partition("\n")[0], 200), class_="soft"),
        )
        for repo in repos[:20]
    ]
    return joined([tag("h3", "Sources"), _table(("Repository", "Branch or tag", "Commit", ""), rows)])


def _tests(junit: Any) -> Markup | None:
    if not isinstance(junit, Mapping):
        return None
    counts = ", ".join(
        f"{junit.get(key, 0)} {word}"
        for key, word in (("successes", "passed"), ("failures", "failed"), ("errors", "broken"), ("skips", "skipped"))
        if junit.get(key) or key == "successes"
    )
    cases = [case for case in junit.get("cases", ()) if isinstance(case, Mapping)]
    rows = [
        tag(
            "tr",
            tag("td", tag("span", f"✗ {case.get('status', '')}", class_="bad"), class_="tight"),
            tag("td", tag("code", short(f"{case.get('classname', '')} {case.get('name', '')}".strip(), 400))),
            tag("td", short(str(case.get("message", "")), 1_000)),
        )
        for case in cases[:50]
    ]
    if len(cases) > len(rows):
        rows.append(_more_row(len(cases) - len(rows)))
    return joined(
        [
            tag("h3", "Tests"),
            tag("p", f"{junit.get('tests', 0)} run: {counts}"),
            _table(("", "Case", "Message"), rows) if rows else None,
        ]
    )


def _attempt(attempt: AttemptRow, of: int, said: str, now: float) -> Markup:
    """*of*: how many there are; *said*: the error that is shown already."""
    title = f"Attempt {attempt.attempt}" if of > 1 else "Steps"
    rows = [
        tag(
            "tr",
            tag("td", _step_mark(step), class_="tight"),
            tag("td", short(str(step.get("name", "")), 300)),
            tag("td", tag("code", str(step.get("type", "")))),
            tag("td", "" if step.get("exit_code") in (None, 0) else f"exit status {step['exit_code']}"),
            tag(
                "td",
                span(step.get("start_time") or None, step.get("end_time") or None, attempt.end_at or now),
                class_="num",
            ),
        )
        for step in list(attempt.steps)[:60]
    ]
    return joined(
        [
            tag("h3", title, " ", _pill(attempt.status) if of > 1 else None),
            tag(
                "p",
                " · ".join(filter(None, (_moment(attempt.start_at), span(attempt.start_at, attempt.end_at, now)))),
                class_="soft",
            ),
            tag("p", short(attempt.error, _TEXT), class_="note bad") if attempt.error not in ("", said) else None,
            _table(("", "Step", "Kind", "", "Took"), rows) if rows else None,
        ]
    )


def _step_mark(step: Mapping[str, Any]) -> Markup:
    colour, mark, words = look(str(step.get("status", "")))
    return tag("span", f"{mark} {words}", class_=colour)


def _fill_in(cards: Sequence[_Card], logs: Mapping[tuple[int, int], LogTail], room: int) -> None:
    """Give each log its place as long as there is room; they come in order of how much they matter."""
    places = {slot: card for card in cards for slot in card.slots}
    for slot, log in logs.items():
        if slot not in places:
            continue
        shown = _log(log)
        if size_of(shown) > room:
            shown = tag("p", "Log: left out, the report is long enough.", class_="soft")
        if size_of(shown) > room:
            return
        room -= size_of(shown)
        places[slot].filled[slot] = shown


def _log(log: LogTail) -> Markup:
    if log.note:
        return tag("p", f"Log: {log.note}", class_="soft")
    if not log.text:
        return tag("p", "Log: empty", class_="soft")
    title = "Log, its end" if log.cut else "Log"
    return joined([tag("h3", title), tag("pre", without_colours(log.text))])


def _cards(cards: Sequence[_Card], left_out: int) -> Markup:
    stage = None
    parts: list[Any] = []
    for card in cards:
        if card.stage != stage:
            stage = card.stage
            parts.append(tag("p", stage, class_="stage"))
        parts.append(card.markup())
    if left_out:
        parts.append(tag("p", f"{left_out} more jobs", class_="soft"))
    return joined(parts)


# -- words


def _footer(report: Report) -> Markup:
    return tag("footer", f"Made by cador {__version__} on {_moment(report.at)}. All times are UTC.")


def _moment(at: float | None, *, fine: bool = False) -> str:
    if at is None:
        return ""
    moment = datetime.fromtimestamp(at, UTC)
    text = f"{moment:%Y-%m-%d %H:%M:%S}"
    return f"{text}.{moment.microsecond // 1000:03d}" if fine else text


def _bytes(size: int) -> str:
    if size < 1_000:
        return f"{size} B"
    for unit, factor in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if size < factor * 1_000:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e12:.1f} TB"
