"""Pieces of a report that several of its parts are made of, and how much room each part has."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from cador.operations.markup import Markup, size_of, tag
from cador.operations.report_pictures import look

TEXT: Final = 4_000
"""Characters of one value: an error, a comment, a parameter."""
ROOM: Final[Mapping[str, int]] = {
    "warnings": 64 << 10,
    "waits": 64 << 10,
    "params": 256 << 10,
    "approvals": 192 << 10,
    "jobs": 1 << 20,
    "artifacts": 128 << 10,
    "events": 512 << 10,
}
"""Bytes that each list may take. What is left of the page is for logs: at least half of it."""


def pill(status: str) -> Markup:
    """A status, in its colour."""
    colour, mark, words = look(status)
    return tag("span", f"{mark} {words}", class_=f"status {colour}")


def fit(items: Sequence[Markup], room: str, more: Callable[[int], Markup], most: int = 2_000) -> list[Markup]:
    """As many of *items* as there is room for, and how many are left out."""
    left = ROOM[room]
    shown: list[Markup] = []
    for item in items[:most]:
        left -= size_of(item)
        if left < 0:
            break
        shown.append(item)
    return shown if len(shown) == len(items) else [*shown, more(len(items) - len(shown))]


def more_item(number: int) -> Markup:
    return tag("li", f"{number} more", class_="soft")


def more_card(number: int) -> Markup:
    return tag("div", f"{number} more", class_="card soft")


def more_row(number: int) -> Markup:
    return tag("tr", tag("td", f"{number} more", class_="more", colspan="9"))


def table(columns: Iterable[str], rows: Iterable[Markup]) -> Markup:
    """*rows* below the names of their columns."""
    head = tag("tr", [tag("th", name, class_="num" if name in ("Took", "Size") else None) for name in columns])
    return tag("table", tag("thead", head), tag("tbody", rows))


def moment(at: float | None, *, fine: bool = False) -> str:
    """In UTC; *fine*: with milliseconds. Empty for what has not come."""
    if at is None:
        return ""
    when = datetime.fromtimestamp(at, UTC)
    text = f"{when:%Y-%m-%d %H:%M:%S}"
    return f"{text}.{when.microsecond // 1000:03d}" if fine else text
