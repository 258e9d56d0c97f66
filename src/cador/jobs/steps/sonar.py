"""Steps around SonarQube: run the scanner in the sandbox, and tell the server what it left for it to ask about.

What the scan came to is asked by the server when the sandbox has ended, see ``docs/jobs.md``.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from shlex import quote
from typing import Any, Final

from cador.domain.variables import expand_shell_names
from cador.jobs.base import Doc
from cador.jobs.steps.base import StepParts, workspace_path
from cador.jobs.values import text
from cador.ports.executor import FolderStep

REPORT: Final = "cador.sonar"
"""Output: the scanner's ``report-task.txt``."""
REASON: Final = "cador.reason"
"""Output: why a step failed, for the error of the job."""
ANSWER: Final = "cador.sonar.answer"
"""Output: what the SonarQube server said, left by the action ``sonar``."""
METRICS: Final[Mapping[str, str]] = {
    "ncloc": "Ncloc",
    "bugs": "Bugs",
    "vulnerabilities": "Vulnerabilities",
    "code_smells": "CodeSmells",
    "coverage": "Coverage",
}
"""Keys of SonarQube, and what the detail of a task calls them."""
_PROPERTY: Final = re.compile(r"^[ \t]*+([A-Za-z0-9_.]++)[ \t]*+[=:]([^\n]*+)", re.MULTILINE)
"""Possessive, and blanks around the value are cut off later: a line of blanks takes no longer than any other."""
_TASK: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_REPORT_BYTES: Final = 16_384

_SCANNER: Final = """cd ./{folder} || exit 1
if ! command -v sonar-scanner >/dev/null 2>&1; then
  printf %s {missing} >"$RESULTS_DIR/{reason}"
  printf '%s\\n' {missing}
  exit 127
fi
trap 'rm -f sonar-project.properties' EXIT
trap 'exit 143' HUP INT TERM
umask 077
rm -f sonar-project.properties
cp "$CADOR_JOB_DIR/files/sonar/properties" sonar-project.properties || exit 1
sonar-scanner </dev/null
"""
_MISSING: Final = "sonar-scanner is not installed on the machine that runs the scan"

_TELL: Final = """rm -f ./{folder}/sonar-project.properties
report=./{folder}/.scannerwork/report-task.txt
if [ -f "$report" ] && [ ! -L "$report" ]; then
  head -c {size} "$report" >"$RESULTS_DIR/{output}"
else
  printf '%s was not found: SonarQube is not asked about this scan\\n' {folder}/.scannerwork/report-task.txt
fi
"""


def compile_scanner(name: str, spec: Doc, env: Mapping[str, str]) -> StepParts:
    """``check_dir``: folder of the sources; ``server``, ``parameter``: for ``sonar-project.properties``. The token is
    in ``SONAR_TOKEN`` of *env*; the file with it is removed when the scanner ends.

    Raises: Invalid: the folder leaves the workspace.
    """
    folder = workspace_path(expand_shell_names(text(spec.get("check_dir")), env), "check_dir")
    lines = [
        f"sonar.login={env.get('SONAR_TOKEN', '')}",
        f"sonar.host.url={text(spec.get('server'))}",
        text(spec.get("parameter")).replace("\r\n", "\n"),
    ]
    program = _SCANNER.format(folder=quote(folder), missing=quote(_MISSING), reason=REASON)
    step = FolderStep(name, "shell", program, interpreter=("/bin/sh",))
    return StepParts((step,), {"sonar/properties": "\n".join([*lines, ""]).encode()}, outputs=(REASON,))


def compile_report(name: str, spec: Doc, env: Mapping[str, str]) -> StepParts:
    """Take what the scanner left in ``check_dir``, whoever ran it. Raises: Invalid."""
    folder = workspace_path(expand_shell_names(text(spec.get("check_dir")), env), "check_dir")
    program = _TELL.format(folder=quote(folder), size=_REPORT_BYTES, output=REPORT)
    step = FolderStep(name, "sonar_get_metrics", program, interpreter=("/bin/sh",), on_failure=True, quiet=True)
    return StepParts((step,), outputs=(REPORT,))


def properties(content: str) -> dict[str, str]:
    """Keys and values of a text in the form of ``sonar-project.properties``; of a key met twice the last one."""
    return {key: value.strip(" \t") for key, value in _PROPERTY.findall(content.replace("\r\n", "\n"))}


@dataclass(frozen=True, slots=True)
class Answer:
    """*problem*: why there is no quality gate to judge by; *gate*: its status; *conditions*: those of it that failed;
    *metrics*: by the names of the detail, None when they could not be had."""

    problem: str = ""
    gate: str = ""
    conditions: tuple[str, ...] = ()
    metrics: Mapping[str, str] | None = None

    @property
    def error(self) -> str:
        """Why a scan that must pass the gate does not; ``""`` when it does."""
        if self.problem:
            return f"the quality gate is not known: {self.problem}"
        if self.gate in ("OK", "NONE"):
            return ""
        return "; ".join([f"quality gate: {self.gate}", *self.conditions])


def answer_text(answer: Answer) -> str:
    """As :func:`answer_of` reads it."""
    return json.dumps(asdict(answer))


def answer_of(outputs: Mapping[str, str]) -> Answer | None:
    """None: nobody asked."""
    if ANSWER not in outputs:
        return None
    found = json.loads(outputs[ANSWER])
    return Answer(found["problem"], found["gate"], tuple(found["conditions"]), found["metrics"])


def report_of(outputs: Mapping[str, str]) -> dict[str, Any] | None:
    """What the scanner told of its scan: ``task``, ``project``; None: nothing that can be asked about."""
    found = properties(outputs.get(REPORT, ""))
    task = found.get("ceTaskId", "")
    if not _TASK.fullmatch(task):
        return None
    return {"task": task, "project": found.get("projectKey", "")}
