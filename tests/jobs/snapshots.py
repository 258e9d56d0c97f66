"""Compiled job folders as text files. ``UPDATE_SNAPSHOTS=1`` writes them anew; the difference is for people to read."""

import os
from pathlib import Path

from cador.ports.executor import JobFolder

FOLDER = Path(__file__).parent / "snapshots"


def as_text(folder: JobFolder) -> str:
    lines = [f"image: {folder.image}", f"limits: {folder.limits}", f"outputs: {' '.join(folder.outputs)}", "", "env:"]
    lines += [f"  {key}={value}" for key, value in sorted(folder.env.items())]
    lines += ["", f"secrets: {' '.join(sorted(folder.secrets))}", "", "files:"]
    lines += [f"  {path}: {content.decode()!r}" for path, content in sorted(folder.files.items())]
    lines += ["", "keep:", *(f"  {keep}" for keep in folder.keep)]
    for number, step in enumerate(folder.steps):
        flags = " ".join(name for name in ("on_failure", "tolerate", "quiet") if getattr(step, name))
        lines += ["", f"--- step {number}: {step.name} ({step.type}, {' '.join(step.interpreter)}) {flags}".rstrip()]
        lines += [f"outputs: {' '.join(step.outputs)}", step.text]
    return "\n".join(lines)


def check(name: str, folder: JobFolder) -> None:
    path = FOLDER / f"{name}.txt"
    text = as_text(folder)
    if os.environ.get("UPDATE_SNAPSHOTS"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
