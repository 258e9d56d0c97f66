"""How a workflow task looks in a terminal: stages, jobs, times, and who is waited for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from cador.cli.output import plain

FINAL: Final = frozenset({"passed", "failed", "timeout", "cancelled"})
WAITING: Final = "wait_for_approval"

_STYLES: Final[Mapping[str, tuple[str, str, str]]] = {
    "": ("○", "o", "dim"),
    "created": ("○", "o", "dim"),
    "prepare": ("●", "*", "cyan"),
    "running": ("●", "*", "cyan"),
    "retry_pause": ("●", "*", "yellow"),
    WAITING: ("◆", "?", "yellow"),
    "wait_for_manual_error_handling": ("◆", "?", "yellow"),
    "pause": ("◆", "?", "yellow"),
    "passed": ("✓", "+", "green"),
    "unstable": ("✓", "+", "yellow"),
    "skipped": ("–", "-", "dim"),
    "failed": ("✗", "x", "red"),
    "reject": ("✗", "x", "red"),
    "timeout": ("✗", "x", "red"),
    "cancelled": ("✗", "x", "magenta"),
}
_WORDS: Final[Mapping[str, str]] = {
    "": "",
    WAITING: "waits for approval",
    "wait_for_manual_error_handling": "waits for a decision",
    "pause": "waits to be executed",
    "reject": "rejected",
}


@dataclass(frozen=True, slots=True)
class OpenApproval:
    """``name``: what the approve route calls it. ``who``: names of those who may vote."""

    name: str
    description: str
    who: tuple[str, ...]
    needed: int
    given: int


def open_approvals(detail: Mapping[str, Any]) -> Iterator[OpenApproval]:
    """Approvals of the task that are waiting right now."""
    for stage in detail["stages"]:
        if stage["status"] == WAITING and stage.get("approval"):
            yield _approval(stage["name"], stage["approval"])
        for job in stage["jobs"]:
            if job["status"] == WAITING:
                native = job["spec"].get("native_approval") or {}
                yield _approval(job["name"], {"description": job["spec"].get("description", ""), **native})


def paused_stage(detail: Mapping[str, Any]) -> OpenApproval | None:
    """The manual stage that the task waits before, as something a person may say go to."""
    for stage in detail["stages"]:
        if stage["status"] == "pause":
            users = (stage.get("manual_exec") or {}).get("manual_exec_users") or []
            return OpenApproval(stage["name"], "", tuple(str(user.get("user_name") or "") for user in users), 1, 0)
    return None


def _approval(name: str, told: Mapping[str, Any]) -> OpenApproval:
    users = told.get("approve_users") or []
    return OpenApproval(
        name,
        str(told.get("description") or ""),
        tuple(str(user.get("user_name") or user.get("group_name") or "") for user in users),
        int(told.get("needed_approvers") or 1),
        sum(user.get("reject_or_approve") == "approve" for user in users),
    )


def picture(detail: Mapping[str, Any], now: float, *, ascii_only: bool = False) -> RenderableType:
    """The task as a table of stages and jobs. *now*: Unix seconds, for what is still going on."""
    status = str(detail["status"])
    head = Text()
    head.append(f"{_symbol(status, ascii_only)} ", _style(status))
    head.append(f"{detail['workflow_key']}/{detail['task_id']}", "bold")
    head.append(f"  {status}", _style(status))
    if took := span(detail, now):
        head.append(f"  {took}")
    if detail.get("task_creator"):
        head.append(plain(f"  by {detail['task_creator']}"), "dim")
    if detail.get("remark"):
        head.append(plain(f"  {detail['remark']}"), "italic")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(overflow="fold")
    waiting = {approval.name: approval for approval in open_approvals(detail)}
    paused = paused_stage(detail)
    for stage in detail["stages"]:
        note = _text(stage.get("error"), "red")
        if stage["name"] in waiting and stage["status"] == WAITING:
            note = _text(_asked(waiting[stage["name"]]), "yellow")
        elif paused is not None and stage["name"] == paused.name:
            who = ", ".join(paused.who) or "whoever may run it"
            note = _text(f"by {who}: cador task execute {detail['workflow_key']}/{detail['task_id']}", "yellow")
        grid.add_row(*_row("", stage, now, ascii_only, bold=True), note)
        for job in stage["jobs"]:
            note = _text(job.get("error"), "red")
            if job["name"] in waiting and job["status"] == WAITING:
                note = _text(_asked(waiting[job["name"]]), "yellow")
            elif not job.get("error"):
                note = _text(_facts(job), "dim")
            grid.add_row(*_row("  ", job, now, ascii_only, bold=False), note)
    parts: list[RenderableType] = [head, grid]
    if detail.get("error"):
        parts.append(_text(detail["error"], "red"))
    return Group(*parts)


def render(detail: Mapping[str, Any], console: Console, now: float) -> None:
    console.print(picture(detail, now, ascii_only=not console.encoding.startswith("utf")))


def _text(value: object, style: str) -> Text:
    """What others wrote, without what a terminal would obey."""
    return Text(plain(str(value or "")), style)


def _row(indent: str, thing: Mapping[str, Any], now: float, ascii_only: bool, *, bold: bool) -> list[Text]:
    status = str(thing["status"])
    return [
        Text(indent + _symbol(status, ascii_only), _style(status)),
        _text(indent + str(thing["name"]), "bold" if bold else ""),
        Text(_WORDS.get(status, status), _style(status)),
        Text(span(thing, now), "dim"),
    ]


def _symbol(status: str, ascii_only: bool) -> str:
    return _STYLES.get(status, _STYLES["running"])[1 if ascii_only else 0]


def _style(status: str) -> str:
    return _STYLES.get(status, _STYLES["running"])[2]


def _asked(approval: OpenApproval) -> str:
    names = ", ".join(approval.who)
    return f"{approval.given} of {approval.needed} from {names}" + (
        f": {approval.description}" if approval.description else ""
    )


def _facts(job: Mapping[str, Any]) -> str:
    """What is worth a glance beside a job: the commit it works on."""
    repos = (job.get("spec") or {}).get("repos") or []
    if not repos or not repos[0].get("commit_id"):
        return ""
    return f"{repos[0].get('branch') or repos[0].get('tag') or ''}@{repos[0]['commit_id'][:8]}".lstrip("@")


def span(thing: Mapping[str, Any], now: float) -> str:
    """How long something took or has taken so far; empty before it starts."""
    start, end = float(thing.get("start_time") or 0), float(thing.get("end_time") or 0)
    if not start:
        return ""
    seconds = max(0, round((end or now) - start))
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d} h" if hours else f"{minutes}:{seconds:02d} min"
