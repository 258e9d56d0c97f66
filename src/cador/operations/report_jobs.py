"""The jobs of a report: a card for each, with its attempts and the ends of their logs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cador.operations.markup import Markup, joined, short, size_of, tag, without_colours
from cador.operations.report_pictures import fitting, look, span
from cador.operations.report_pieces import ROOM, TEXT, moment, more_row, pill, table
from cador.operations.task_values import AttemptRow, JobView, TaskDetail
from cador.operations.why import Why

MOST_ATTEMPTS: Final = 20
"""Of one job, the newest."""


@dataclass(frozen=True, slots=True)
class LogTail:
    """The end of a log. ``cut``: lines before it are left out. ``note``: why there is no text."""

    text: str
    cut: bool = False
    note: str = ""


@dataclass(slots=True)
class Card:
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


def job_cards(detail: TaskDetail, why: Why, now: float) -> tuple[list[Card], int]:
    """Cards without their logs, and how many jobs have none: where there is no room for all, those that failed come
    first."""
    attempts: dict[int, list[AttemptRow]] = {}
    for attempt in detail.attempts:
        attempts.setdefault(attempt.job_id, []).append(attempt)
    waits = {job.name: job.waits for job in why.jobs}
    cards = [
        _card(stage.name, job, attempts.get(job.row.id, ()), waits.get(job.row.name, ()), now)
        for stage in detail.stages
        for job in stage.jobs
    ]
    left = ROOM["jobs"]
    chosen: set[int] = set()
    for index, card in sorted(enumerate(cards), key=lambda one: not one[1].open):
        left -= size_of(card.without_logs)
        if left < 0:
            break
        chosen.add(index)
    return [card for index, card in enumerate(cards) if index in chosen], len(cards) - len(chosen)


def _card(stage: str, job: JobView, attempts: Sequence[AttemptRow], waits: Sequence[Any], now: float) -> Card:
    row = job.row
    side = [span(row.start_at, row.end_at, now), f"attempt {row.attempt}" if row.attempt > 1 else ""]
    summary = joined(
        [
            pill(row.status),
            tag("b", fitting(row.name, 120)),
            tag("span", row.type, class_="soft"),
            tag("span", " · ".join(filter(None, side)), class_="side"),
        ]
    )
    open_waits = [wait.text for wait in waits if wait.reason != "finished"]
    first = joined(
        [
            tag("p", short(row.error, TEXT), class_="note bad") if row.error else None,
            [tag("p", short(text, TEXT), class_="note run") for text in open_waits],
            [tag("p", short(text, TEXT), class_="note warn") for text in list(row.result.get("warnings", ()))[:20]],
            _commits(job),
            _tests(row.result.get("junit")),
        ]
    )
    pieces, slots = [first], []
    for attempt in attempts[: -MOST_ATTEMPTS - 1 : -1]:  # the newest first
        pieces[-1] = joined([pieces[-1], _attempt(attempt, len(attempts), row.error, now)])
        slots.append((attempt.job_id, attempt.attempt))
        pieces.append(Markup(""))
    if not attempts and job.approval is None and row.status == "":
        pieces[0] = joined([first, tag("p", "It has not begun.", class_="soft")])
    failed = look(row.status)[0] == "bad"
    return Card(stage, job, pieces, slots, failed, summary)


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
    return joined([tag("h3", "Sources"), table(("Repository", "Branch or tag", "Commit", ""), rows)])


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
        rows.append(more_row(len(cases) - len(rows)))
    return joined(
        [
            tag("h3", "Tests"),
            tag("p", f"{junit.get('tests', 0)} run: {counts}"),
            table(("", "Case", "Message"), rows) if rows else None,
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
            tag("h3", title, " ", pill(attempt.status) if of > 1 else None),
            tag(
                "p",
                " · ".join(filter(None, (moment(attempt.start_at), span(attempt.start_at, attempt.end_at, now)))),
                class_="soft",
            ),
            tag("p", short(attempt.error, TEXT), class_="note bad") if attempt.error not in ("", said) else None,
            table(("", "Step", "Kind", "", "Took"), rows) if rows else None,
        ]
    )


def _step_mark(step: Mapping[str, Any]) -> Markup:
    colour, mark, words = look(str(step.get("status", "")))
    return tag("span", f"{mark} {words}", class_=colour)


def fill_in(cards: Sequence[Card], logs: Mapping[tuple[int, int], LogTail], room: int) -> None:
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


def listed(cards: Sequence[Card], left_out: int) -> Markup:
    """All cards, below the names of their stages."""
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
