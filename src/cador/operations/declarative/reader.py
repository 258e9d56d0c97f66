"""Reading a mapping of the short form: every key is asked for, the rest is an error with its place."""

import re
from collections.abc import Iterator
from fractions import Fraction
from math import ceil
from typing import Any, Final

from cador.operations.declarative.from_secret import ANYTHING
from cador.operations.declarative.nodes import Mark, Misfit, Node, plain, resolve_plain, unknown_key

_DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_CPU: Final = re.compile(r"(\d+(?:\.\d+)?)(m?)")
_MEMORY: Final = re.compile(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|k|M|G|T)?")
_MIB: Final = {
    "Ki": Fraction(1, 1024),
    "Mi": Fraction(1),
    "Gi": Fraction(1024),
    "Ti": Fraction(1024 * 1024),
    "k": Fraction(1000, 2**20),
    "M": Fraction(10**6, 2**20),
    "G": Fraction(10**9, 2**20),
    "T": Fraction(10**12, 2**20),
}


class Reader:
    """One mapping. Call :meth:`only` first: it refuses keys the form does not know."""

    def __init__(self, node: Node, place: str) -> None:
        if node.mapping is None:
            raise Misfit("must be a mapping", node.mark, place=place)
        self.node, self.place = node, place
        self._children = node.mapping

    def only(self, *known: str) -> "Reader":
        for key, child in self._children.items():
            if key not in known:
                raise unknown_key(key, known, self.node.keys.get(key, child.mark), self.place)
        return self

    def __contains__(self, key: str) -> bool:
        return key in self._children and self._children[key].value is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._children)

    def mark(self, key: str = "") -> Mark:
        return self.node.keys.get(key, self.node.mark) if key else self.node.mark

    def misfit(self, problem: str, key: str = "") -> Misfit:
        return Misfit(problem, self.mark(key), place=f"{self.place}.{key}" if key else self.place)

    def child(self, key: str) -> Node:
        return self._children[key]

    def raw(self, key: str, default: Any = None) -> Any:
        return plain(self._children[key]) if key in self else default

    def text(self, key: str, default: str = "") -> str:
        """A scalar as it was written: ``1.20`` stays ``1.20``."""
        if key not in self:
            return default
        return scalar_text(self._children[key], f"{self.place}.{key}")

    def need(self, key: str) -> str:
        text = self.text(key)
        if not text:
            raise Misfit(f"{key!r} is missing", self.node.mark, place=self.place)
        return text

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._given(key, default)
        if not isinstance(value, bool):
            raise self.misfit("must be true or false", key)
        return value

    def number(self, key: str, default: int = 0) -> int:
        value = self._given(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.misfit("must be a whole number", key)
        return value

    def _given(self, key: str, default: Any) -> Any:
        """What stands there; the text that ``${NAME}`` became is read as if it had been written."""
        if key not in self:
            return default
        node = self._children[key]
        if self._stands_for_anything(key):
            return default
        return resolve_plain(node.value) if node.filled else node.value

    def _stands_for_anything(self, key: str) -> bool:
        return self._children[key].text.startswith(ANYTHING)

    def texts(self, key: str) -> list[str]:
        return [scalar_text(node, f"{self.place}.{key}[{n}]") for n, node in enumerate(self.nodes(key))]

    def nodes(self, key: str) -> list[Node]:
        """The elements of a list; one text alone counts as a list of it."""
        if key not in self:
            return []
        node = self._children[key]
        if node.mapping is not None:
            raise self.misfit("must be a list", key)
        return node.items if node.items is not None else [node]

    def items(self, key: str) -> "list[Reader]":
        return [Reader(node, f"{self.place}.{key}[{n}]") for n, node in enumerate(self.nodes(key))]

    def entries(self, key: str) -> "list[tuple[str, Reader]]":
        """A map keyed by name; an entry without a value is an empty mapping."""
        return [(name, Reader(empty_mapping(node), f"{self.place}.{key}.{name}")) for name, node in self.pairs(key)]

    def pairs(self, key: str) -> list[tuple[str, Node]]:
        if key not in self:
            return []
        node = self._children[key]
        if node.mapping is None:
            raise self.misfit("must be a mapping", key)
        return list(node.mapping.items())

    def minutes(self, key: str, default: int) -> int:
        """A duration (``30m``, ``2h``, ``1h30m``, ``90s``; a number alone is minutes), rounded up to minutes."""
        if key not in self or self._stands_for_anything(key):
            return default
        text = self.text(key).strip()
        if text.isascii() and text.isdigit():
            return int(text)
        match = _DURATION.fullmatch(text)
        if not text or match is None:
            raise self.misfit(f"{text!r} is no duration such as 30m, 2h or 1h30m", key)
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return days * 1440 + hours * 60 + minutes + ceil(seconds / 60)

    def millicores(self, key: str) -> int:
        match = _CPU.fullmatch("1" if self._stands_for_anything(key) else self.text(key))
        if match is None:
            raise self.misfit("must be a number of cores such as 2, 0.5 or 500m", key)
        return ceil(Fraction(match[1]) * (1 if match[2] else 1000))

    def mebibytes(self, key: str) -> int:
        match = _MEMORY.fullmatch("1" if self._stands_for_anything(key) else self.text(key))
        if match is None:
            raise self.misfit("must be an amount such as 512Mi or 4Gi", key)
        return ceil(Fraction(match[1]) * _MIB.get(match[2] or "Mi", Fraction(1)))


def scalar_text(node: Node, place: str) -> str:
    if isinstance(node.value, (dict, list)):
        raise Misfit("must be a text", node.mark, place=place)
    if node.value is None:
        return ""
    return node.text


def empty_mapping(node: Node) -> Node:
    return Node({}, node.mark) if node.value is None else node
