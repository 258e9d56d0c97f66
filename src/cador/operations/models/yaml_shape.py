"""How deep and how large a YAML text is, before anything is made of it.

Loaders build nested text by recursion in C, which ends the whole process when it is deep enough. Events are read one
after the other: a text that holds too much is refused after reading that much of it.
"""

from dataclasses import dataclass
from typing import Any, Final

import yaml

NODES: Final = 200_000
"""Values and keys, as written."""
DEPTH: Final = 100


class TooDeep(ValueError):
    """Collections within collections."""


class TooLarge(ValueError):
    """More than :data:`NODES`."""


@dataclass(frozen=True, slots=True)
class Shape:
    """``aliases``: how many there are. ``unfolded``: values and keys with all of them written out."""

    aliases: int
    unfolded: int


def shape_of(text: str) -> Shape:
    """Of all documents in *text*. Raises: TooDeep, TooLarge; yaml.YAMLError: it is no YAML."""
    loader: Any = yaml.CSafeLoader(text)
    anchors: dict[str, int] = {}
    sizes, names = [0], [""]
    """Of the collections that are open, the stream itself first: nodes so far, and the anchor."""
    nodes = aliases = 0
    try:
        while loader.check_event():
            event = loader.get_event()
            if not isinstance(event, (yaml.NodeEvent, yaml.CollectionEndEvent)):
                continue
            nodes += 1
            if nodes > NODES:
                raise TooLarge
            if isinstance(event, yaml.CollectionStartEvent):
                if len(sizes) > DEPTH:
                    raise TooDeep
                sizes.append(1)
                names.append(event.anchor or "")
                continue
            if isinstance(event, yaml.CollectionEndEvent):
                nodes -= 1
                size, anchor = sizes.pop(), names.pop()
            elif isinstance(event, yaml.AliasEvent):
                aliases += 1
                size, anchor = anchors.get(event.anchor or "", 1), ""  # of an unknown one the loader tells
            else:
                size, anchor = 1, event.anchor or ""
            if anchor:
                anchors[anchor] = size
            sizes[-1] += size
    finally:
        loader.dispose()
    return Shape(aliases, sizes[0])
