"""Values that a secret of the server holds: ``valueFrom: {secret: <name>, key: <key>}`` where the value would stand.

While a document is read, such a value is a text that passes where an address, a line or a good password is wanted; the
server puts the value in when it applies the document.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from cador.domain.masking import MASK
from cador.domain.secrets import SECRET_KEYS
from cador.operations.declarative.nodes import Misfit, Node, unknown_key

KEY: Final = "valueFrom"
Path = tuple[str | int, ...]
STAND_IN: Final = re.compile(r"http://(?:Unset|Any|Secret)1-([A-Za-z0-9_.-]+)\.invalid")
"""What stands for a value that is not known while a document is read. The command line uses the first form, and the
second where documents are only checked: there it may stand for a number or a switch, too."""
ANYTHING: Final = "http://Any1-"
_PART: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class FromSecret(str):
    """``secret``: its name, of the document's project or else of the system; ``key``: which of its values."""

    __slots__ = ("key", "secret")

    secret: str
    key: str

    def __new__(cls, secret: str, key: str) -> "FromSecret":
        self = super().__new__(cls, f"http://Secret1-{secret}-{key}.invalid")
        self.secret, self.key = secret, key
        return self

    def wire(self) -> dict[str, Any]:
        return {KEY: {"secret": self.secret, "key": self.key}}


def read_from_secret(node: Node) -> Node | None:
    """The scalar that a mapping of nothing but ``valueFrom`` stands for; None: it is none. Raises: Misfit."""
    if node.mapping is None or set(node.mapping) != {KEY}:
        return None
    value = taken_from(node.mapping[KEY], KEY)
    return Node(value, node.mark, value)


def taken_from(node: Node, place: str) -> FromSecret:
    """Raises: Misfit."""
    parts = node.mapping
    if parts is None:
        raise Misfit("must be a mapping {secret: NAME, key: KEY}", node.mark, place=place)
    for key, child in parts.items():
        if key not in ("secret", "key"):
            raise unknown_key(key, ("secret", "key"), node.keys.get(key, child.mark), place)
    words = []
    for key in ("secret", "key"):
        child = parts.get(key, Node("", node.mark))
        word = child.text if not isinstance(child.value, (dict, list)) else ""
        if not _PART.fullmatch(word):
            raise Misfit(f"{key!r} must be letters, digits and . _ -", child.mark, place=place)
        words.append(word)
    return FromSecret(*words)


def with_masks(value: Any, key: str = "") -> Any:
    """*value* for checking it: where a secret stands that is not known yet, the mask, which every model takes."""
    match value:
        case str() if key in SECRET_KEYS and STAND_IN.fullmatch(value):
            return MASK
        case Mapping():
            return {name: with_masks(child, name) for name, child in value.items()}
        case list():
            return [with_masks(child, key) for child in value]
        case _:
            return value


def as_written(value: Any) -> Any:
    """*value* with its references as they are written."""
    match value:
        case FromSecret():
            return value.wire()
        case Mapping():
            return {key: as_written(child) for key, child in value.items()}
        case list():
            return [as_written(child) for child in value]
        case _:
            return value


def references(value: Any, path: Path = ()) -> Iterator[tuple[Path, FromSecret]]:
    """Where references stand in *value*."""
    match value:
        case FromSecret():
            yield path, value
        case Mapping():
            for key, child in value.items():
                yield from references(child, (*path, key))
        case list():
            for number, child in enumerate(value):
                yield from references(child, (*path, number))


def at(value: Any, path: Path) -> Any:
    """What stands at *path*; None: nothing."""
    for part in path:
        there = isinstance(value, Mapping) and part in value
        if isinstance(value, list) and isinstance(part, int):
            there = part < len(value)
        if not there:
            return None
        value = value[part]
    return value


def put(value: Any, path: Path, new: Any) -> Any:
    """A copy of *value* with *new* at *path*, which is there."""
    if not path:
        return new
    head, rest = path[0], path[1:]
    if isinstance(value, Mapping):
        return {key: put(child, rest, new) if key == head else child for key, child in value.items()}
    return [put(child, rest, new) if number == head else child for number, child in enumerate(value)]
