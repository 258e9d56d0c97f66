"""Masking: secrets become ``********`` before a line is stored, streamed or shown.

Masked are the values themselves, each line of a multi-line value, their base64 and URL-encoded forms, the forms JSON
and ``set -x`` print, and the user-info of every URL. Values and lines shorter than four characters are left alone:
they would blank ordinary text.
"""

import base64
import json
import re
from bisect import bisect_left
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
_FEW: Final = 256
"""Patterns; one secret has a dozen or two."""
_LINES: Final = 1_000
"""Lines, of all secrets together, that are looked for in all the forms they may be written in; further ones as they
stand."""
_LONG: Final = 8_192
"""Bytes of a value that is looked for as URLs write it."""


class Masker:
    """Replaces the secrets it was built with. Pure and immutable: one instance may serve any number of threads."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        plain: set[bytes] = set()
        inner: set[bytes] = set()
        lines = 0
        for secret in set(secrets):
            for number, value in enumerate(_values(secret)):
                data = value.encode("utf-8", _ERRORS)
                plain.add(data)
                lines += number > 0
                if number == 0 or lines <= _LINES:
                    plain.update(_written_forms(value))
                    inner.update(_inside_base64(data))
        self._inner = frozenset(inner - plain)
        patterns = plain | inner
        self._search: _Few | _Many | None = None
        if patterns:
            self._search = _Few(patterns) if len(patterns) <= _FEW else _Many(patterns)
        self.reach: int = max(_URL_REACH, max(map(len, patterns), default=0))
        """Bytes: whoever cuts a line must look this far past the cut, see :meth:`mask`."""

    def clean(self, text: bytes) -> bool:
        """Whether *text*, of any number of lines, surely needs no masking. Quick: most output is clean."""
        if self._search is not None and self._search.somewhere(text):
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
        return max(longest, self._search.open_tail(text) if self._search is not None else 0)

    def _spans(self, line: bytes) -> Iterator[tuple[int, int]]:
        """Where secrets are: disjoint, in order."""
        found = [match.span() for match in _USER_INFO.finditer(line)]
        if self._search is not None:
            for start, end in self._search.everywhere(line):
                if line[start:end] in self._inner:
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


class _Few:
    """Finds patterns by a regular expression: quick for a few, but a thousand take a second to compile."""

    def __init__(self, patterns: Iterable[bytes]) -> None:
        self._patterns = tuple(patterns)
        self._any = _alternatives(self._patterns, depth=3)
        self._find = re.compile(self._any)

    def somewhere(self, text: bytes) -> bool:
        return self._find.search(text) is not None

    def everywhere(self, text: bytes) -> Iterator[tuple[int, int]]:
        """Where patterns are: at each place the longest, also within one another."""
        for match in re.finditer(b"(?=(" + self._any + b"))", text):
            yield match.span(1)

    def open_tail(self, text: bytes) -> int:
        """The longest end of *text* that is the beginning of a pattern, and not all of it."""
        longest = 0
        for pattern in self._patterns:
            first = pattern[:1]
            start = text.find(first, max(0, len(text) - len(pattern) + 1))
            while start >= 0 and len(text) - start > longest:
                if pattern.startswith(text[start:]):
                    longest = len(text) - start
                    break
                start = text.find(first, start + 1)
        return longest


class _Many:
    """The same for any number of patterns: looks each place of a text up by its first bytes."""

    def __init__(self, patterns: Iterable[bytes]) -> None:
        self._sorted = sorted(patterns)
        self._longest = max(map(len, self._sorted))
        heads: dict[bytes, list[bytes]] = {}
        for pattern in sorted(self._sorted, key=len, reverse=True):
            heads.setdefault(pattern[:SHORTEST], []).append(pattern)
        self._heads = heads

    def somewhere(self, text: bytes) -> bool:
        return next(self.everywhere(text), None) is not None

    def everywhere(self, text: bytes) -> Iterator[tuple[int, int]]:
        heads, width = self._heads, SHORTEST
        for place in range(len(text) - width + 1):
            group = heads.get(text[place : place + width])
            if group is not None:
                for pattern in group:
                    if text.startswith(pattern, place):
                        yield place, place + len(pattern)
                        break

    def open_tail(self, text: bytes) -> int:
        for place in range(max(0, len(text) - self._longest + 1), len(text)):
            head = text[place : place + SHORTEST]
            if len(head) == SHORTEST and head not in self._heads:
                continue
            tail = text[place:]
            after = bisect_left(self._sorted, tail)
            if after < len(self._sorted) and self._sorted[after] == tail:
                after += 1  # all of it: whether it goes on is another pattern's business
            if after < len(self._sorted) and self._sorted[after].startswith(tail):
                return len(tail)
        return 0


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
    # Of a long one each line is looked for, which looks the same in there.
    for quoted in (quote(data), quote(data, safe=""), quote_plus(data)) if len(data) <= _LONG else ():
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
