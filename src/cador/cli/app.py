"""The parser around all commands, and what becomes of their errors."""

import os
import sys
from io import TextIOWrapper
from typing import Any

from cyclopts import App, CycloptsError, Parameter

from cador.cli.commands import COMMANDS
from cador.cli.output import FAILED, INTERRUPTED, USAGE, Failure, plain, say
from cador.domain.errors import CadorError


def build() -> App:
    """All commands; the module of one is imported when it is used."""
    app = App(
        name="cador",
        help="cador runs CI/CD workflows on your own machines.",
        version_flags=(),
        help_format="plaintext",
        result_action="return_value",
        default_parameter=Parameter(show_default=_worth_saying),
    )
    for name, (group, _, place) in COMMANDS.items():
        app.command(f"cador.cli.{place}", name=name, group=group)
    return app


def _worth_saying(default: object) -> str | None:
    """A default as help shows it; that a switch is off and a text empty goes without saying."""
    return str(default) if default else None


def run(words: list[str]) -> int:
    """Carry out one command. Returns the exit status: what the command returned, or what its error means."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what the encoding of a terminal cannot say is shown as its number
            stream.reconfigure(errors="backslashreplace")
    try:
        code: Any = build()(words, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        say(f"cador: {' '.join(str(error).split())} (see cador {_command(words)} --help)")
        return USAGE
    except Failure as failure:
        if failure.message:
            _complain(failure.message)
        return failure.code
    except CadorError as error:
        _complain(str(error))
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone (`cador task logs | head`): an ordinary end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except EOFError:
        say("cador: nothing was entered")
        return USAGE
    except OSError as error:  # the disk is full, a file is not ours ...
        place = f"{error.filename}: " if error.filename else ""
        say(f"cador: {place}{error.strerror or error}")
        return FAILED
    return code if isinstance(code, int) else 0


def _complain(message: str) -> None:
    """What went wrong, as many lines as it takes; servers and files may have put anything into them."""
    say("cador: " + "\n".join(map(plain, message.splitlines())))


def _command(words: list[str]) -> str:
    return " ".join(words[:2]) if len(words) > 1 and not words[1].startswith("-") else words[0]
