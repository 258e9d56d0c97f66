"""Inputs of a task's jobs with single values changed: what comes of them, and what is told of it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from cador.domain.events import Edit
from cador.domain.masking import MASK
from cador.domain.secrets import SECRET_KEYS

_IDENTITIES: Final = (
    ("codehost_name", "repo_namespace", "repo_name"),
    ("service_name", "service_module"),
    ("testing_name",),
    ("scanning_name",),
    ("key",),
)
"""What tells the objects of a list apart; the first that an object has all of."""
_REPOS: Final = "repo_info"
_MOST: Final = 100
_LONGEST: Final = 200


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The ``parameters`` of a job as they were given, with *new* over them.

    Objects of lists are matched by what names them (``key``, service and module, repository) and merged; a repository
    is replaced as a whole, for a branch says something else beside an old tag. Everything else is replaced.
    """
    result = dict(old)
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            result[name] = merged(before, value)
        elif isinstance(value, Sequence) and not isinstance(value, str) and isinstance(before, Sequence):
            result[name] = _merged_lists(before, value, whole=name == _REPOS)
        else:
            result[name] = value
    return result


def _merged_lists(old: Sequence[Any], new: Sequence[Any], *, whole: bool) -> list[Any]:
    if not all(_identity(item) for item in (*old, *new)):
        return list(new)
    result = {_identity(item): item for item in old}
    for item in new:
        before = result.get(_identity(item))
        result[_identity(item)] = item if whole or before is None else merged(before, item)
    return list(result.values())


def _identity(item: Any) -> tuple[str, ...]:
    if isinstance(item, Mapping):
        for names in _IDENTITIES:
            values = [item.get(name) for name in names]
            if all(isinstance(value, str) and value for value in values):
                return (*names, *map(str, values))
    return ()


def edits_of(job: str, old: Mapping[str, Any], new: Mapping[str, Any], secret: frozenset[str]) -> list[Edit]:
    """What differs between the ``parameters`` *old* and *new* of *job*, as it may be shown. *secret*: keys of variables
    whose values are credentials."""
    before, after = dict(_leaves(job, old, secret)), dict(_leaves(job, new, secret))
    return [
        Edit(name, _shown(before.get(name)), _shown(after.get(name)))
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ][:_MOST]


def shown(value: Any, *, hidden: bool) -> str:
    """*value* as it may stand in an event: short, and no secret."""
    return _shown((value, hidden))


def _shown(leaf: tuple[Any, bool] | None) -> str:
    if leaf is None or leaf[0] in ("", None):
        return ""
    value, hidden = leaf
    text = str(value)
    if hidden:
        return MASK
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _leaves(place: str, doc: Any, secret: frozenset[str], *, hidden: bool = False) -> Iterator[tuple[str, Any]]:
    """Single values with where they stand (``build.kv.DEBUG``), and whether they are secret."""
    if isinstance(doc, Mapping):
        # Of a variable only its value tells something; who it belongs to is in its place.
        hidden = hidden or str(doc.get("key", "")) in secret
        named = set(_identity(doc)[: len(_identity(doc)) // 2])
        for name, value in doc.items():
            if name not in named:
                inner = place if name == "value" and "key" in named else f"{place}.{name}"
                yield from _leaves(inner, value, secret, hidden=hidden or name in SECRET_KEYS)
    elif isinstance(doc, Sequence) and not isinstance(doc, str):
        for number, item in enumerate(doc):
            identity = _identity(item)
            names = identity[len(identity) // 2 :]
            yield from _leaves(f"{place}.{'/'.join(names) or number}", item, secret, hidden=hidden)
    else:
        yield place, (doc, hidden)
