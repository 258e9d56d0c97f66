"""The two pictures of a report: what a task consists of, and when each part was at work. SVG, drawn from values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from unicodedata import east_asian_width

from cador.operations.markup import Markup, tag
from cador.operations.task_values import ApprovalView, AttemptRow, JobView, StageView, TaskDetail

LOOKS: Final[Mapping[str, tuple[str, str, str]]] = {
    "": ("idle", "○", "not started"),
    "waiting": ("idle", "○", "waiting"),
    "prepare": ("run", "●", "starting"),
    "running": ("run", "●", "running"),
    "retry_pause": ("warn", "●", "before a repetition"),
    "wait_for_approval": ("wait", "◆", "waits for approval"),
    "waiting_for_slot": ("wait", "◆", "waits for its turn"),
    "wait_for_manual_error_handling": ("wait", "◆", "waits for a decision"),
    "pause": ("wait", "◆", "waits to be started"),
    "cancelling": ("stop", "■", "being cancelled"),
    "passed": ("ok", "✓", "passed"),
    "approve": ("ok", "✓", "approved"),
    "unstable": ("warn", "!", "failed, ignored"),
    "skipped": ("idle", "–", "skipped"),
    "failed": ("bad", "✗", "failed"),
    "timeout": ("bad", "✗", "timed out"),
    "reject": ("bad", "✗", "rejected"),
    "cancelled": ("stop", "■", "cancelled"),
}
"""By status: class of its colour, mark, words. A status is never told by colour alone."""

MOST_STAGES: Final = 40
MOST_NODES: Final = 24
"""Jobs of one stage that are drawn."""
MOST_ROWS: Final = 120
"""Jobs that the timeline shows."""
MOST_BARS: Final = 50
"""Attempts of one job that it shows, the newest."""

_WIDTH: Final = 196
_GAP: Final = 34
_NODE: Final = 44
_STEP: Final = _NODE + 12
_HEAD: Final = 46
_PAD: Final = 12
_LABEL: Final = 220
_CHART: Final = 820
_END: Final = 48
"""Right of the chart: room for the words of the last tick. The whole is no wider than a card of the page."""
_ROW: Final = 24
_STEPS_S: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200,
                   86_400, 172_800, 604_800)  # fmt: skip


def look(status: str) -> tuple[str, str, str]:
    return LOOKS.get(status, ("idle", "•", status.replace("_", " ")))


def took(seconds: float) -> str:
    """A span of time for people."""
    if seconds < 1:
        return f"{round(max(0.0, seconds) * 1000)} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
    return f"{hours // 24} d {hours % 24} h"


def span(start_at: float | None, end_at: float | None, now: float) -> str:
    """How long it took, or has taken so far; empty before it began."""
    return took((end_at if end_at is not None else now) - start_at) if start_at is not None else ""


def fitting(text: str, cells: int) -> str:
    """*text* cut to so many cells; wide characters take two."""
    used = 0
    for index, character in enumerate(text):
        used += 2 if east_asian_width(character) in "WF" else 1
        if used > cells:
            return text[: max(0, index - 1)] + "…"
    return text


# -- what it consists of


def graph(detail: TaskDetail, now: float) -> Markup:
    """Stages from left to right, each with its approval and its jobs; a line joins jobs that run one after another."""
    stages = detail.stages[:MOST_STAGES]
    nodes = [min(len(stage.jobs), MOST_NODES) + (stage.approval is not None) for stage in stages]
    more = [len(stage.jobs) > MOST_NODES for stage in stages]
    tallest = max((count * _STEP + 20 * cut for count, cut in zip(nodes, more, strict=True)), default=0)
    height = _HEAD + tallest + _PAD
    left_out = len(detail.stages) - len(stages)
    width = len(stages) * (_WIDTH + 2 * _PAD + _GAP) - _GAP + (90 if left_out else 0)
    parts: list[Any] = []
    for index, stage in enumerate(stages):
        x = index * (_WIDTH + 2 * _PAD + _GAP)
        if index:
            middle = _HEAD // 2
            parts.append(tag("path", class_="link", d=f"M{x - _GAP + 3} {middle}H{x - 9}m-6 -5l6 5l-6 5"))
        parts.append(_stage(stage, x, height, now))
    if left_out:
        parts.append(_text(width - 84, _HEAD / 2 + 4, f"{left_out} more …", "soft"))
    return _picture(width + 2, height + 2, parts, "Stages and jobs")


def _stage(stage: StageView, x: float, height: float, now: float) -> Markup:
    colour, mark, words = look(stage.status)
    spent = span(stage.start_at, stage.end_at, now)
    parts: list[Any] = [
        tag("title", f"stage {stage.name}: {words}"),
        tag("rect", class_="panel", x=x + 1, y=1, width=_WIDTH + 2 * _PAD, height=height - 1, rx=10),
        tag("text", mark, class_=f"mark {colour}", x=x + _PAD, y=23),
        _text(x + _PAD + 18, 20, fitting(stage.name, 22), "name"),
        _text(x + _PAD + 18, 35, " · ".join(filter(None, (words, spent))), "soft small"),
    ]
    y: float = _HEAD
    if stage.approval is not None:
        parts.append(_node(x + _PAD, y, "approval", stage.approval.status or "", _votes(stage.approval)))
        y += _STEP
    for index, job in enumerate(stage.jobs[:MOST_NODES]):
        if index and not stage.parallel:
            parts.append(tag("path", class_="link", d=f"M{x + _PAD + _WIDTH / 2} {y - 12}v12"))
        row = job.row
        below = span(row.start_at, row.end_at, now)
        if job.approval is not None:
            below = _votes(job.approval)
        elif row.attempt > 1:
            below += f" · attempt {row.attempt}"
        parts.append(_node(x + _PAD, y, row.name, row.status, below))
        y += _STEP
    if len(stage.jobs) > MOST_NODES:
        parts.append(_text(x + _PAD + 4, y + 8, f"{len(stage.jobs) - MOST_NODES} more jobs …", "soft"))
    return tag("g", parts)


def _node(x: float, y: float, name: str, status: str, below: str) -> Markup:
    status = "wait_for_approval" if status == "waiting" else status
    colour, mark, words = look(status)
    return tag(
        "g",
        tag("title", f"{name}: {words}"),
        tag("rect", class_="box", x=x, y=y, width=_WIDTH, height=_NODE, rx=8),
        tag("text", mark, class_="mark", x=x + 11, y=y + 27),
        _text(x + 30, y + 19, fitting(name, 20), "name"),
        _text(x + 30, y + 34, " · ".join(filter(None, (words, below))), "soft small"),
        class_=colour,
    )


def _votes(approval: ApprovalView) -> str:
    given = sum(voter.vote == "approve" for voter in approval.voters)
    return f"{given} of {approval.needed}"


# -- when


@dataclass(frozen=True, slots=True)
class _Scale:
    start: float
    end: float

    def x(self, at: float) -> float:
        share = (at - self.start) / max(self.end - self.start, 1e-3)
        return round(_LABEL + min(1.0, max(0.0, share)) * _CHART, 2)


def timeline(detail: TaskDetail, now: float) -> Markup:
    """Every attempt of every job as a bar, from the moment the task was created."""
    row = detail.row
    scale = _Scale(row.create_at, max(row.end_at or now, row.create_at + 1e-3))
    attempts: dict[int, list[AttemptRow]] = {}
    for attempt in detail.attempts:
        attempts.setdefault(attempt.job_id, []).append(attempt)
    rows: list[tuple[str, str, list[Any]]] = []
    # A retry begins anew: of a task that had several rounds, only the last wait is known.
    if row.retry_num == 0 and row.start_at is not None and row.start_at - row.create_at > 0:
        waited = took(row.start_at - row.create_at)
        rows.append(
            ("in the queue", "soft", [_bar(scale, row.create_at, row.start_at, "queue", f"in the queue {waited}")])
        )
    for stage in detail.stages:
        if stage.approval is not None and stage.approval.start_at is not None:
            rows.append((f"{stage.name}: approval", "soft", [_asked(scale, stage.approval, now)]))
        for job in stage.jobs:
            rows.append((job.row.name, "", _bars(scale, job, attempts.get(job.row.id, ()), now)))
    shown = rows[:MOST_ROWS]
    height = 26 + len(shown) * _ROW + 6
    parts: list[Any] = [_ticks(scale, height)]
    for index, (name, class_, bars) in enumerate(shown):
        y = 26 + index * _ROW
        parts += [
            tag("g", tag("title", name), _text(0, y + 16, fitting(name, 30), class_ or "label")),
            tag("g", bars, transform=f"translate(0 {y})"),
        ]
    if len(rows) > len(shown):
        height += 22
        parts.append(_text(0, height - 8, f"{len(rows) - len(shown)} more jobs …", "soft"))
    return _picture(_LABEL + _CHART + _END, height, parts, "Timeline")


def _bars(scale: _Scale, job: JobView, attempts: Sequence[AttemptRow], now: float) -> list[Any]:
    if job.approval is not None and job.approval.start_at is not None:
        return [_asked(scale, job.approval, now)]
    return [
        _bar(
            scale,
            one.start_at,
            one.end_at if one.end_at is not None else now,
            look(one.status)[0],
            f"attempt {one.attempt}: {look(one.status)[2]} after {span(one.start_at, one.end_at, now)}",
        )
        for one in attempts[-MOST_BARS:]
        if one.start_at is not None
    ]


def _asked(scale: _Scale, approval: ApprovalView, now: float) -> Markup:
    end = approval.end_at if approval.end_at is not None else now
    start = approval.start_at if approval.start_at is not None else end
    return _bar(scale, start, end, "ask", f"people were asked for {took(end - start)}")


def _bar(scale: _Scale, start: float, end: float, class_: str, title: str) -> Markup:
    x = scale.x(start)
    width = max(3.0, round(scale.x(end) - x, 2))
    box = tag("rect", class_=f"bar {class_}", x=x, y=5, width=width, height=_ROW - 10, rx=3)
    return tag("g", tag("title", title), box, class_=class_)


def _ticks(scale: _Scale, height: float) -> Markup:
    length = scale.end - scale.start
    step = next((step for step in _STEPS_S if length / step <= 8), length / 8)
    parts: list[Any] = []
    for number in range(9):
        after = number * step
        if after > length:
            break
        x = scale.x(scale.start + after)
        parts.append(tag("path", class_="tick", d=f"M{x} 20V{height - 4}", fill="none"))
        parts.append(_text(x + 3, 14, f"+{_round(after)}" if number else "0", "soft small"))
    return tag("g", parts)


def _round(seconds: float) -> str:
    """A step of the scale."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length and seconds % (length / 2) == 0:
            return f"{seconds / length:g} {unit}"
    return took(seconds)


# -- pieces


def _text(x: float, y: float, text: str, class_: str) -> Markup:
    return tag("text", text, class_=class_, x=x, y=y)


def _picture(width: float, height: float, parts: list[Any], title: str) -> Markup:
    return tag(
        "svg", tag("title", title), parts, role="img", width=width, height=height, viewBox=f"0 0 {width} {height}"
    )
