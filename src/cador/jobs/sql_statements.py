"""Cutting SQL text into statements, as the command line clients of the databases do.

What ends a statement counts only outside of quotes and comments. A statement is given as typed, its ``;`` included;
the delimiter that a ``DELIMITER`` line set is for the client alone and left away. Text without its ``;`` at the end is
a statement too; pieces of blanks and comments are none.
"""

import re
from collections.abc import Iterator
from typing import Final

# All repetitions are possessive: a text of quotes that are never closed takes no longer than any other.
_MYSQL: Final = re.compile(
    r"""
      (?P<comment> --(?=[\s\x00-\x1f]|\Z)[^\n]*+ | \#[^\n]*+ | /\*(?!M?!)(?s:.*?)(?:\*/|\Z) )
    | (?P<body> /\*M?!(?s:.*?)(?:\*/|\Z)
        | '(?:[^'\\]++|\\(?s:.)|'')*+'?+
        | "(?:[^"\\]++|\\(?s:.)|"")*+"?+
        | `(?:[^`]++|``)*+`?+ )
    | (?P<line> ^[^\S\n]*+(?i:delimiter)[^\S\n]++(?P<mark>\S++)[^\n]*+\n?+ )
    | (?P<end> ; )
    """,
    re.VERBOSE | re.MULTILINE,
)
_POSTGRESQL: Final = re.compile(
    r"""
      (?P<comment> --[^\n]*+ | /\* )
    | (?P<body> (?<![\w$])[eE]'(?:[^'\\]++|\\(?s:.)|'')*+'?+
        | '(?:[^']++|'')*+'?+
        | "(?:[^"]++|"")*+"?+
        | (?<![\w$])(?P<tag>\$(?:[^\W\d]\w*+)?\$)(?s:.*?)(?:(?P=tag)|\Z) )
    | (?P<word> (?<![\w$])(?i:begin|case|end)(?![\w$]) )
    | (?P<paren> [()] )
    | (?P<end> ; )
    """,
    re.VERBOSE,
)
_NESTED: Final = re.compile(r"/\*|\*/")
_ROUTINE: Final = re.compile(r"\s*create\s+(?:or\s+replace\s+)?(?:function|procedure)\b", re.IGNORECASE)


def split(text: str, dialect: str) -> list[str]:
    """The statements of *text*. *dialect*: ``postgresql``, or anything else for MySQL and MariaDB."""
    return list(_postgresql(text) if dialect == "postgresql" else _mysql(text))


def _mysql(text: str) -> Iterator[str]:
    """Quotes with escapes and doubled ones, three kinds of comments, ``DELIMITER`` lines, ``/*! */`` as what it is."""
    first = at = 0
    content = False
    mark = ";"
    found: re.Match[str] | None = None
    ahead = False  # whether *found* is what a search from *at* would find: text is not searched twice
    while at < len(text):
        found = found if ahead else _MYSQL.search(text, at)
        ahead = False
        stop = found.start() if found else len(text)
        if mark != ";" and (own := text.find(mark, at, stop + len(mark))) >= 0 and own <= stop:
            if content or text[at:own].strip():
                yield text[first:own].strip()
            first = at = own + len(mark)
            content = False
            ahead = found is None or found.start() >= at
            continue
        content = content or bool(text[at:stop].strip())
        if found is None:
            break
        at = found.end()
        match found.lastgroup if found["mark"] is None else "line":
            case "line" if not content:
                mark = found["mark"]
                first = at
            case "line":
                at, content = found.start() + 1, True  # in the middle of a statement it is just text
            case "body":
                content = True
            case "end" if mark == ";":
                if content:
                    yield text[first:at].strip()
                first, content = at, False
            case "end":
                content = True
    if content:
        yield text[first:].strip()


def _postgresql(text: str) -> Iterator[str]:
    """Doubled quotes, escapes in ``E''`` alone, dollar quotes, nested comments; a ``;`` in parentheses or in the body
    of a routine (``BEGIN ATOMIC``) ends nothing."""
    first = at = parens = depth = 0
    content = False
    bare = ""
    while at < len(text):
        found = _POSTGRESQL.search(text, at)
        stop = found.start() if found else len(text)
        gap = text[at:stop]
        content = content or bool(gap.strip())
        if len(bare) < 200:
            bare += " " + gap
        if found is None:
            break
        at = found.end()
        match found.lastgroup if found["tag"] is None else "body":
            case "comment" if found[0] == "/*":
                at = _after_comment(text, at)
            case "comment":
                pass
            case "paren":
                content = True
                parens = max(0, parens + (1 if found[0] == "(" else -1))
            case "word":
                content = True
                word = found[0].lower()
                if word == "begin":
                    depth += bool(depth or _ROUTINE.match(bare))
                elif depth:
                    depth += 1 if word == "case" else -1
            case "end" if not parens and not depth:
                if content:
                    yield text[first:at].strip()
                first, content, bare = at, False, ""
            case _:
                content = True
    if content:
        yield text[first:].strip()


def _after_comment(text: str, at: int) -> int:
    """Where the comment ends whose ``/*`` ends at *at*."""
    depth = 1
    for found in _NESTED.finditer(text, at):
        depth += 1 if found[0] == "/*" else -1
        if depth == 0:
            return found.end()
    return len(text)
