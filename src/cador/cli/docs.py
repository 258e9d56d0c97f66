"""Writes the pages of ``docs/`` that come from the program: ``make docs``. A test checks that they are up to date."""

import re
import sys
from pathlib import Path

from cador.cli.app import build
from cador.cli.commands import COMMANDS
from cador.settings import document

_CALLED = re.compile(r" -m cador\.cli\.docs(?= )")
_HEAD = """# Command line

`cador COMMAND --help` shows the same. Results go to stdout, messages to stderr; `--json` prints what the server
answered. Colour and live pictures appear on a terminal only, and `NO_COLOR` is respected.

| exit status | means |
| --- | --- |
| 0 | done; with `-f` or `--wait`: the task passed |
| 1 | it failed, or was refused |
| 2 | wrong usage |
| 3 | the server cannot be reached |
| 4 | not allowed, or not known to the server |
| 130 | interrupted |

Which server: `CADOR_URL` and `CADOR_TOKEN`; else the current context (`cador login`, `cador context`, or
`CADOR_CONTEXT`), kept in `$XDG_CONFIG_HOME/cador/contexts.toml`; else the server of this machine's data folder.

Completion: `cador completion bash|zsh|fish` prints a script.

This page is written from the program by `make docs`.

| command | does |
| --- | --- |
"""


def pages() -> dict[str, str]:
    """File name below ``docs/`` -> its text."""
    rows = "".join(f"| `cador {name}` | {summary} |\n" for name, (_, summary, _) in COMMANDS.items())
    manual = build().generate_docs(output_format="markdown", heading_level=2, include_hidden=False)
    chapters = manual[manual.index("\n### cador demo") :].replace("\n#", "\n")
    # How the program itself was called leaks into the usage of sub-commands.
    text = _CALLED.sub("", _HEAD + rows + chapters)
    lines = [line.rstrip() for line in text.splitlines()]
    return {"cli.md": "\n".join(lines) + "\n", "settings.md": document()}


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    for name, page in pages().items():
        (folder / name).write_text(page, encoding="utf-8")
