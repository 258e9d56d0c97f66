"""Step ``shell``: a script of the user, run by bash whatever its first line says."""

from collections.abc import Sequence
from typing import Any, Final

from cador.domain.errors import Invalid, NotStartable
from cador.jobs.base import Doc
from cador.jobs.steps.base import StepParts
from cador.jobs.values import text
from cador.ports.executor import FolderStep

TYPES: Final = ("shell", "batch_file", "powershell")


def script_of(spec: Doc) -> str:
    """``scripts`` (lines) counts when ``script`` is empty."""
    script = text(spec.get("script"))
    lines: Any = spec.get("scripts")
    if not script and isinstance(lines, list):
        script = "\n".join(map(text, lines))
    return script.replace("\r\n", "\n")


def check_script_type(kind: str) -> None:
    """Raises: NotStartable: scripts of Windows have no place to run here."""
    if kind not in ("", "shell"):
        raise NotStartable(f"script type {kind} is not supported on kubernetes infrastructure")


def compile_shell(name: str, spec: Doc, outputs: Sequence[str]) -> StepParts:
    """*outputs*: names of shell variables that are written to the results when the script ends."""
    script = script_of(spec)
    if "\0" in script:
        raise Invalid(f"the script of step {name} holds a NUL character")
    text_ = script if script.endswith("\n") else f"{script}\n"
    return StepParts((FolderStep(name, "shell", text_, outputs=tuple(outputs)),))
