"""Very small step texts, which mean the same to the scripted executor as to a shell.

One command a line: ``sleep SECONDS``, ``exit CODE``, ``echo TEXT``, ``NAME=value``; ``$NAME`` and ``${NAME}`` in text
and values; quotes as in a shell; empty lines and ``#`` comments. A variable named by the step's ``outputs`` becomes an
output. Anything else refuses the job when it starts, so that nothing is taken for done that was not.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cador.ports.executor import FolderStep, StartRefused

_ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_REFERENCE: Final = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_PUNCTUATION: Final = frozenset("();<>|&")


@dataclass(frozen=True, slots=True)
class Done:
    """What a step did. ``prints``: (seconds after its start, text)."""

    after_s: float
    exit_code: int
    prints: tuple[tuple[float, bytes], ...]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Program:
    """What a step will do. ``commands``: (word, argument), or ``fixed``, whatever the environment."""

    commands: tuple[tuple[str, str], ...] = ()
    ignores_term: bool = False
    fixed: Done | None = None

    @classmethod
    def of_script(
        cls,
        after_s: float,
        prints: tuple[tuple[float, bytes], ...],
        exit_code: int,
        outputs: Mapping[str, str],
        ignores_term: bool,
    ) -> "Program":
        """A program that does what it is told, whatever the step's text."""
        within = tuple(sorted((at, text) for at, text in prints if at <= after_s))
        return cls(ignores_term=ignores_term, fixed=Done(after_s, exit_code, within, outputs))

    def run(self, environ: Mapping[str, str], outputs: Iterable[str]) -> Done:
        """Do it all, with the variables of *environ*; *outputs*: names of variables that are left."""
        if self.fixed is not None:
            return self.fixed
        variables = dict(environ)
        at, code = 0.0, 0
        prints: list[tuple[float, bytes]] = []
        for word, argument in self.commands:
            text = _REFERENCE.sub(lambda found: variables.get(found[1] or found[2], ""), argument)
            match word:
                case "sleep":
                    at += float(text)
                case "exit":
                    code = int(text)
                    break
                case "echo":
                    prints.append((at, f"{text}\n".encode()))
                case name:
                    variables[name] = text
        # as in a shell, a variable that the environment brought is an output too
        left = {name: variables[name] for name in outputs if name in variables}
        return Done(at, code, tuple(prints), left)


def parse(step: FolderStep) -> Program:
    """Read the text of *step*. Raises: StartRefused: a line that is none of the commands."""
    commands = []
    for number, line in enumerate(step.text.split("\n"), start=1):
        line = line.strip()
        if line and not line.startswith("#"):
            command = _command(line)
            if command is None:
                raise StartRefused(
                    f"step {step.name}, line {number}: the scripted executor knows sleep, exit, echo and NAME=value, "
                    f"not {line!r}"
                )
            commands.append(command)
    return Program(tuple(commands))


def _command(line: str) -> tuple[str, str] | None:
    if "`" in line or ("'" in line and "$" in line) or "$" in _REFERENCE.sub("", line):
        return None
    reader = shlex.shlex(line, posix=True, punctuation_chars=True)
    reader.whitespace_split, reader.commenters = True, ""
    try:
        words = list(reader)
    except ValueError:  # an open quote
        return None
    if not words or any(word and set(word) <= _PUNCTUATION for word in words):
        return None
    match words:
        case ["echo", *rest] if not (rest and rest[0].startswith("-")):
            return "echo", " ".join(rest)
        case ["sleep", seconds] if re.fullmatch(r"\d+(\.\d+)?", seconds):
            return "sleep", seconds
        case ["exit"]:
            return "exit", "0"
        case ["exit", code] if code.isdecimal() and int(code) < 256:
            return "exit", code
        case [assignment] if found := _ASSIGNMENT.fullmatch(assignment):
            name, value = found.groups()
            return (name, value) if name not in ("echo", "sleep", "exit") else None
    return None
