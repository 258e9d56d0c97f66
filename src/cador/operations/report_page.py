"""The report of a task as one HTML page: nothing is fetched, nothing runs in it, and it has a largest size.

Pure. Everything is escaped by :mod:`cador.operations.markup`; a page may go to people who trust neither the jobs nor
the names in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final

from cador import __version__
from cador.operations.history import EventView
from cador.operations.markup import Markup, joined, short, size_of, tag
from cador.operations.report_jobs import LogTail, fill_in, job_cards, listed
from cador.operations.report_pictures import graph, look, span, timeline
from cador.operations.report_pieces import TEXT, fit, moment, more_card, more_item, more_row, pill, table
from cador.operations.task_values import ApprovalView, TaskDetail
from cador.operations.why import Why

MOST_BYTES: Final = 5 << 20
"""Of the whole page."""
_FRAME: Final = 16 << 10
"""And so many for what is around all that."""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report tells, masked. ``logs`` by job id and attempt; ``at``: Unix seconds, when it was made;
    ``artifacts_away``: why ``artifacts`` could not be listed."""

    detail: TaskDetail
    why: Why
    events: tuple[EventView, ...] = ()
    more_events: bool = False
    artifacts: tuple[tuple[str, int], ...] = ()
    artifacts_away: str = ""
    logs: Mapping[tuple[int, int], LogTail] = field(default_factory=dict)
    at: float = 0.0


def render(report: Report) -> bytes:
    """The page, UTF-8, at most :data:`MOST_BYTES` long."""
    detail, now = report.detail, report.at
    jobs, left_out = job_cards(detail, report.why, now)
    sections: list[Any] = [
        _header(report),
        _problems(report),
        _section("Stages and jobs", tag("div", graph(detail, now), class_="card wide")),
        _section("Timeline", tag("div", timeline(detail, now), class_="card wide")),
        _params(detail),
        _approvals(detail),
    ]
    after = [_artifacts(report), _events(report)]
    fixed = joined([sections, after, [card.without_logs for card in jobs]])
    fill_in(jobs, report.logs, MOST_BYTES - size_of(fixed) - size_of(_style()) - _FRAME)
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
            tag("main", sections, _section("Jobs", listed(jobs, left_out)), after, _footer(report)),
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


def _header(report: Report) -> Markup:
    row, now = report.detail.row, report.at
    queued = ""
    if not row.retry_num and row.start_at is not None and row.start_at - row.create_at >= 1:
        queued = span(row.create_at, row.start_at, now)
    facts = [
        ("Project", row.project),
        ("Started by", row.creator),
        ("By way of", row.trigger),
        ("Created", moment(row.create_at)),
        ("Began", moment(row.start_at)),
        ("Ended", moment(row.end_at)),
        ("Took", span(row.start_at, row.end_at, now)),
        ("In the queue", queued),
        ("Retries", str(row.retry_num) if row.retry_num else ""),
        ("Cancelled by", row.revoker),
        ("Remark", row.remark),
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
                pill(_status(report.detail)),
            ),
            tag("dl", [_fact(name, short(value, TEXT)) for name, value in facts if value], class_="facts card"),
        ]
    )


def _fact(name: str, value: str) -> Markup:
    return tag("div", tag("dt", name), tag("dd", value))


def _problems(report: Report) -> Markup:
    """What went wrong, what was odd, and what it waits for."""
    detail = report.detail
    parts: list[Any] = []
    if detail.row.error:
        parts.append(tag("p", short(detail.row.error, TEXT), class_="note bad"))
    open_waits = [wait for wait in report.why.waits if wait.reason != "finished"]
    if open_waits:
        told = fit([tag("li", short(wait.text, TEXT)) for wait in open_waits], "waits", more_item)
        parts.append(tag("div", tag("b", "It waits"), tag("ul", told), class_="note run"))
    if detail.warnings:
        told = fit([tag("li", short(text, TEXT)) for text in detail.warnings], "warnings", more_item)
        parts.append(tag("div", tag("b", "Warnings"), tag("ul", told), class_="note warn"))
    return joined(parts)


# -- lists


def _params(detail: TaskDetail) -> Markup | None:
    rows = [
        tag(
            "tr",
            tag("td", tag("code", short(str(param.get("name", "")), 300))),
            tag("td", tag("code", short(_value(param), TEXT))),
            tag("td", short(str(param.get("description", "")), 500), class_="soft"),
        )
        for param in detail.params
    ]
    if not rows:
        return None
    shown = table(("Name", "Value", ""), fit(rows, "params", more_row))
    return _section("Parameters", tag("div", shown, class_="card"))


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
    return _section("Approvals", tag("div", fit(cards, "approvals", more_card), class_="grid"))


def _approval(title: str, approval: ApprovalView) -> Markup:
    status = "wait_for_approval" if approval.status == "waiting" else approval.status
    given = sum(voter.vote == "approve" for voter in approval.voters)
    rows = [
        tag(
            "tr",
            tag("td", voter.user_name or voter.user_id),
            tag("td", _vote(voter.vote), class_="tight"),
            tag("td", short(voter.comment, 1_000)),
            tag("td", moment(voter.at), class_="time"),
        )
        for voter in approval.voters[:100]
    ]
    if len(approval.voters) > len(rows):
        rows.append(more_row(len(approval.voters) - len(rows)))
    limit = f", within {approval.timeout_min} min"
    return tag(
        "div",
        tag("h3", short(title, 300), " ", pill(status)),
        tag("p", short(approval.description, TEXT)) if approval.description else None,
        tag("p", f"{given} of {approval.needed} needed votes{limit}", class_="soft"),
        table(("Who", "Vote", "Comment", "When"), rows),
        class_="card",
    )


def _vote(vote: str) -> Markup:
    colour, mark, words = look(vote) if vote else ("idle", "○", "no vote")
    return tag("span", f"{mark} {words}", class_=colour)


def _artifacts(report: Report) -> Markup | None:
    if report.artifacts_away:
        told = f"They cannot be listed now: {short(report.artifacts_away, TEXT)}"
        return _section("Artifacts", tag("p", told, class_="note warn"))
    rows = [
        tag("tr", tag("td", tag("code", short(path, 600))), tag("td", _bytes(size), class_="num"))
        for path, size in report.artifacts
    ]
    if not rows:
        return None
    shown = table(("Artifact", "Size"), fit(rows, "artifacts", more_row))
    return _section("Artifacts", tag("div", shown, class_="card"))


def _events(report: Report) -> Markup | None:
    if not report.events:
        return None
    rows = [
        tag(
            "tr",
            tag("td", moment(event.at, fine=True), class_="time"),
            tag("td", tag("code", event.kind), class_="tight"),
            tag("td", short(event.text, 1_000)),
        )
        for event in report.events
    ]
    told = fit(rows, "events", more_row)
    if report.more_events and len(told) == len(rows):
        told.append(tag("tr", tag("td", "and later ones", class_="more", colspan="9")))
    return _section("Events", tag("div", table(("Time (UTC)", "Event", "What"), told), class_="card"))


# -- words


def _footer(report: Report) -> Markup:
    return tag("footer", f"Made by cador {__version__} on {moment(report.at)}. All times are UTC.")


def _bytes(size: int) -> str:
    if size < 1_000:
        return f"{size} B"
    for unit, factor in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if size < factor * 1_000:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e12:.1f} TB"
