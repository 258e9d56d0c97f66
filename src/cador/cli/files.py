"""Reading files that people name: bounded, and in words when it cannot be done."""

import sys
from pathlib import Path
from typing import BinaryIO, Final

from cador.cli.output import USAGE, Failure

MOST_BYTES: Final = 10 * 1024 * 1024
"""As much as a server takes."""


def file_text(path: Path) -> str:
    """The text of a file, or of stdin for ``-``. Raises: Failure."""
    if str(path) == "-":
        return _text_of(sys.stdin.buffer, "stdin")
    try:
        with path.open("rb") as file:
            return _text_of(file, str(path))
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", USAGE) from error


def _text_of(file: BinaryIO, name: str) -> str:
    data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise Failure(f"{name} is larger than {MOST_BYTES // 1024 // 1024} MiB", USAGE)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Failure(f"{name} is not UTF-8 text", USAGE) from error
