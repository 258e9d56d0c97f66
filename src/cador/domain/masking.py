"""Masking: secrets become ``********`` before a line is stored, streamed or shown.

Masked are the values themselves, each line of a multi-line value, their base64 and URL-encoded forms, the forms JSON
and ``set -x`` print, and the user-info of every URL. Values and lines shorter than four characters are left alone:
they would blank ordinary text.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "********"
SHORTEST: Final = 4
"""Characters a value must have to be masked."""

_MASK: Final = MASK.encode()
_ERRORS: Final = "surrogatepass"
_USER_INFO: Final = re.compile(rb"""(?<=://)[^\s/?#"'<>\\]+(?=@)""")
_OPEN_USER_INFO: Final = re.compile(rb"""://[^\s/?#"'<>\\@]*\Z""")
_URL_REACH: Final = 1_024
_ENCODED: Final = re.compile(rb"[A-Za-z0-9+/_-]")
_SHORTEST_INNER: Final = 8
_WRAPS: Final = (76, 64)


class Masker:
    """Replaces the secrets it was built with. Pure and immutable: one instance may serve any number of threads."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        plain: set[bytes] = set()
        inner: set[bytes] = set()
        for secret in set(secrets):
            for value in _values(secret):
                plain.update(_written_forms(value))
                inner.update(_inside_base64(value.encode("utf-8", _ERRORS)))
        self._inner = frozenset(inner - plain)
        patterns = plain | inner
        self._patterns = tuple(sorted(patterns, key=lambda p: (-len(p), p)))
        self._find = re.compile(_alternatives(self._patterns, depth=3)) if patterns else None
        self._overlapping = re.compile(b"(?=(" + _alternatives(self._patterns, depth=3) + b"))") if patterns else None
        self.reach: int = max(_URL_REACH, max(map(len, patterns), default=0))
        """Bytes: whoever cuts a line must look this far past the cut, see :meth:`mask`."""

    def clean(self, text: bytes) -> bool:
        """Whether *text*, of any number of lines, surely needs no masking. Quick: most output is clean."""
        if self._find is not None and self._find.search(text):
            return False
        return b"@" not in text or _USER_INFO.search(text) is None

    def mask(self, line: bytes, limit: int | None = None) -> bytes:
        """Return *line* with all secrets replaced; overlapping ones become one mask.

        With *limit* only the first *limit* bytes of *line* are returned, masked; a secret that crosses the limit is
        masked whole, provided *line* holds :attr:`reach` bytes more than *limit*.
        """
        if self.clean(line):
            return line if limit is None else line[:limit]
        upto = len(line) if limit is None else limit
        parts: list[bytes] = []
        at = 0
        for start, end in self._spans(line):
            if start >= upto:
                break
            parts += (line[at:start], _MASK)
            at = end
        if at < upto:
            parts.append(line[at:upto])
        return b"".join(parts)

    def mask_text(self, text: str) -> str:
        """The same for text of one or more lines: errors, outputs, messages."""
        return self.mask(text.encode("utf-8", _ERRORS)).decode("utf-8", _ERRORS)

    def open_tail(self, text: bytes) -> int:
        """Number of bytes at the end of *text* that may be the beginning of a secret: not to be shown yet."""
        url = _OPEN_USER_INFO.search(text, max(0, len(text) - _URL_REACH))
        longest = len(text) - url.start() if url else 0
        for pattern in self._patterns:
            last = pattern[:1]
            start = text.find(last, max(0, len(text) - len(pattern) + 1))
            while start >= 0 and len(text) - start > longest:
                if pattern.startswith(text[start:]):
                    longest = len(text) - start
                    break
                start = text.find(last, start + 1)
        return longest

    def _spans(self, line: bytes) -> Iterator[tuple[int, int]]:
        """Where secrets are: disjoint, in order."""
        found = [match.span() for match in _USER_INFO.finditer(line)]
        if self._overlapping is not None:
            for match in self._overlapping.finditer(line):
                start, end = match.span(1)
                if match[1] in self._inner:
                    # the characters beside it hold some bits of the secret too
                    start -= bool(start and _ENCODED.match(line, start - 1))
                    end += bool(_ENCODED.match(line, end))
                found.append((start, end))
            found.sort()
        start, end = -1, -1
        for begin, stop in found:
            if begin < end:
                end = max(end, stop)
                continue
            if end >= 0:
                yield start, end
            start, end = begin, stop
        if end >= 0:
            yield start, end


def _values(secret: str) -> Iterator[str]:
    """The value, and its lines when it has several; without blanks around them, which tools drop."""
    whole = secret.strip()
    if len(whole) < SHORTEST or not whole.strip("*"):
        return
    yield whole
    lines = whole.splitlines()
    if len(lines) > 1:
        for line in map(str.strip, lines):
            if len(line) >= SHORTEST and line.strip("*"):
                yield line


def _written_forms(value: str) -> Iterator[bytes]:
    data = value.encode("utf-8", _ERRORS)
    yield data
    for quoted in (quote(data), quote(data, safe=""), quote_plus(data)):
        yield quoted.encode()
        yield re.sub("%[0-9A-F]{2}", lambda m: m[0].lower(), quoted).encode()
    for ascii_only in (True, False):
        yield json.dumps(value, ensure_ascii=ascii_only)[1:-1].encode("utf-8", _ERRORS)
    yield data.replace(b"'", b"'\\''")  # as a shell prints it after set -x
    for ended in (data, data + b"\n"):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(ended)
            yield text
            for width in _WRAPS:  # as the tools wrap it
                if len(text) > width:
                    pieces = (text[i : i + width] for i in range(0, len(text), width))
                    yield from (piece for piece in pieces if len(piece) >= _SHORTEST_INNER)


def _inside_base64(data: bytes) -> Iterator[bytes]:
    """What stays the same of *data* inside the base64 of something longer, at each of the three alignments."""
    for before in range(3):
        first = -(-before * 8 // 6)
        last = (before + len(data)) * 8 // 6
        if last - first >= _SHORTEST_INNER:
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                yield encode(bytes(before) + data)[first:last]


def _alternatives(patterns: Iterable[bytes], depth: int) -> bytes:
    """A regular expression for any of *patterns*, longest first, as a tree on the first *depth* bytes."""
    if depth == 0:
        return b"|".join(map(re.escape, sorted(patterns, key=len, reverse=True)))
    branches = []
    for first, group in groupby(sorted(patterns), key=lambda pattern: pattern[:1]):
        rest = [pattern[1:] for pattern in group]
        body = re.escape(first)
        longer = [pattern for pattern in rest if pattern]
        if longer:
            body += b"(?:" + _alternatives(longer, depth - 1) + b")" + (b"?" if len(longer) < len(rest) else b"")
        branches.append(body)
    return b"|".join(branches)
