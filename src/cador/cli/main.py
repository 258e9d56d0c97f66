"""Entry point of the command ``cador``.

The overview, the version and a mistyped command are answered here without loading a parser: they are what people
wait for. Everything else goes to :mod:`cador.cli.app`.
"""

import sys


def main(argv: list[str] | None = None) -> int:
    """Carry out one command line. Returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words in (["--help"], ["-h"], ["help"]):
        from cador.cli.commands import overview

        return _print(overview())
    if words == ["--version"]:
        from cador import __version__

        return _print(f"cador {__version__}")
    from cador.cli.commands import COMMANDS

    if words[0] == "help":  # cador help task show
        words = [*words[1:], "--help"]
    if words[0] not in COMMANDS:
        return _unknown(words[0], list(COMMANDS))
    from cador.cli.app import run

    return run(words)


def _print(text: str) -> int:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        sys.stdout = None  # nobody reads on; the interpreter must not flush it again
    return 0


def _unknown(word: str, names: list[str]) -> int:
    from difflib import get_close_matches

    what = "option" if word.startswith("-") else "command"
    near = get_close_matches(word, names, n=1)
    hint = f"did you mean {near[0]}?" if near else "see cador --help"
    print(f"cador: unknown {what} {word}; {hint}", file=sys.stderr)
    return 2
