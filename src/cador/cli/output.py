"""Where words go: results to stdout, messages to stderr, colour only on a terminal."""

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from rich.console import Console

FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
NOT_ALLOWED: Final = 4
INTERRUPTED: Final = 130


class Failure(Exception):
    """Ends the command: *message* on stderr in one line, *code* as exit status. An empty message says nothing more."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.message, self.code = message, code


def say(text: str) -> None:
    """A message for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def result(text: str) -> None:
    """A line of the result, on stdout."""
    print(text, flush=True)


def plain(text: str) -> str:
    """*text* on one line, without what a terminal would obey: names and comments are written by strangers."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def result_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)


def on_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def colourful(stream: TextIO) -> bool:
    return on_terminal(stream) and not os.environ.get("NO_COLOR")


def console(stream: TextIO | None = None) -> "Console":
    """A rich console on *stream* (default stdout) that neither guesses nor colours where nobody looks."""
    from rich.console import Console

    stream = stream or sys.stdout
    plain = not colourful(stream)
    return Console(
        file=stream, highlight=False, emoji=False, markup=False, no_color=plain, force_terminal=on_terminal(stream)
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns of text on stdout, as wide as their widest cell, so that ``awk`` and people can read them."""
    cells = [[plain(str(cell)) for cell in row] for row in rows]
    head = [column.upper() for column in columns]
    widths = [max(_width(row[index]) for row in (head, *cells)) for index in range(len(head))]
    for row in (head, *cells):
        line = "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        result(line.rstrip())


def moment(seconds: int) -> str:
    """Unix *seconds* as local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""


def _width(text: str) -> int:
    """Cells of *text* on a terminal: Chinese characters take two."""
    from unicodedata import east_asian_width

    return len(text) if text.isascii() else sum(2 if east_asian_width(c) in "WF" else 1 for c in text)
