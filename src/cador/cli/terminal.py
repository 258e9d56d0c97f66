"""Asking a person something while other things go on."""

import select
import sys
import threading

from cador.cli.output import USAGE, Failure, on_terminal


def ask(question: str, stop: threading.Event) -> bool | None:
    """Yes or no. None when nobody can be asked (no terminal, end of input) or *stop* was set meanwhile."""
    if not on_terminal(sys.stdin) or not on_terminal(sys.stderr):
        return None
    while not stop.is_set():
        print(f"{question} [y/n] ", end="", file=sys.stderr, flush=True)
        while not select.select([sys.stdin], [], [], 0.2)[0]:
            if stop.is_set():
                return None
        answer = sys.stdin.readline()
        if not answer:
            return None
        word = answer.strip().lower()
        if word in ("y", "yes", "n", "no"):
            return word.startswith("y")
    return None


def confirm(question: str, yes: bool) -> None:
    """Ask on a terminal; elsewhere ``--yes`` must say it. Raises: Failure."""
    if yes:
        return
    if not on_terminal(sys.stdin):
        raise Failure("this deletes things and nobody can be asked here: add --yes", USAGE)
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure("nothing was deleted")
