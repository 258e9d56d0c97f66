"""Three-way merge: what is given now, what was given last time, what is there.

Keys given now are set; keys given last time and no longer go; keys set by others stay. Lists are replaced whole. Of
what was given only the shape is kept, so no value of a secret is remembered.
"""

from collections.abc import Mapping
from typing import Any

Shape = Mapping[str, Any]
"""Keys of a mapping; a nested mapping under its key, None for everything else."""


def shape_of(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: shape_of(value) if isinstance(value, Mapping) else None for key, value in given.items()}


def merge(there: Mapping[str, Any], last: Shape, given: Mapping[str, Any]) -> dict[str, Any]:
    """*there* after applying *given* over what *last* had set."""
    merged = {
        key: value for key, value in there.items() if key in given or key not in last or _partly(last[key], value)
    }
    for key in last:
        if key not in given and key in merged:
            merged[key] = merge(merged[key], last[key], {})
            if not merged[key]:
                del merged[key]
    for key, value in given.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            before = last.get(key)
            merged[key] = merge(old, before if isinstance(before, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def _partly(shape: Any, value: Any) -> bool:
    """Whether others may have set keys inside *value* beside those of *shape*."""
    return isinstance(shape, Mapping) and isinstance(value, Mapping)
