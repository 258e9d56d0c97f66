"""Compare a reply with a documented one: its shape, not its values."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MASK = "********"
_MASKED = re.compile(r"(?P<path>\S+) where is_credential is true")


def differences(
    expected: Any, actual: Any, *, free: Sequence[str] = (), enums: Mapping[str, Sequence[Any]] | None = None
) -> list[str]:
    """Where *actual* lacks something of *expected* or has another type there; paths like ``stages[].jobs[].name``.

    Elements of a list stand for all elements like them. Further keys are allowed. ``null`` and empty lists say nothing.
    *free*: paths where ``null`` is as good as a value. *enums*: the values allowed at a path.
    """
    return list(_compare(expected, actual, "", frozenset(free), enums or {}))


def unmasked(body: Any, rules: Sequence[str]) -> list[str]:
    """Credentials that are shown in clear although *rules* say they are masked."""
    found = []
    for rule in rules:
        match = _MASKED.fullmatch(rule)
        assert match, f"a rule of another kind: {rule}"
        parent, _, last = match["path"].rpartition(".")
        for holder in _at(body, parent.split(".")):
            if holder.get("is_credential") and holder[last] not in ("", MASK):
                found.append(f"{rule}: {holder[last]}")
    return found


def _compare(
    expected: Any, actual: Any, path: str, free: frozenset[str], enums: Mapping[str, Sequence[Any]]
) -> Iterator[str]:
    if expected is None:
        return
    if isinstance(expected, dict):
        if not isinstance(actual, dict):
            yield f"{path}: {_type(actual)} instead of an object"
            return
        for key, value in expected.items():
            name = key.replace("choice_否", "choice_option")
            here = f"{path}.{name}" if path else name
            if name not in actual:
                yield f"{here}: missing"
            else:
                yield from _compare(value, actual[name], here, free, enums)
    elif isinstance(expected, list):
        if not isinstance(actual, list):
            yield f"{path}: {_type(actual)} instead of a list"
            return
        yield from _compare_lists(expected, actual, f"{path}[]", free, enums)
    elif not (path in free and actual is None) and _type(expected) != _type(actual):
        yield f"{path}: {_type(actual)} instead of {_type(expected)}"
    elif path in enums and actual and actual not in enums[path]:
        yield f"{path}: {actual!r} is none of {list(enums[path])}"


def _compare_lists(
    expected: list[Any], actual: list[Any], path: str, free: frozenset[str], enums: Mapping[str, Sequence[Any]]
) -> Iterator[str]:
    """Each documented element is like some element, and each element is like some documented one, unless it is of a
    ``type`` that the document does not show."""

    def apart(element: Any, other: Any) -> list[str]:
        return list(_compare(element, other, path, free, enums))

    if expected and not actual:
        yield f"{path}: empty"
        return
    for element in expected:
        yield from min((apart(element, other) for other in actual), key=len)
    shown = {_kind(element) for element in expected}
    for other in actual:
        if expected and _kind(other) in shown:
            yield from min((apart(element, other) for element in expected), key=len)


def _kind(element: Any) -> Any:
    if not isinstance(element, dict):
        return None
    if isinstance(element.get("jobs"), list):
        return tuple(sorted(_kind(job) or "" for job in element["jobs"]))
    return element.get("type")


def _type(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "text"
        case None:
            return "null"
        case list():
            return "list"
        case _:
            return "object"


def _at(node: Any, parts: Sequence[str]) -> Iterator[dict[str, Any]]:
    if not parts:
        if isinstance(node, dict):
            yield node
        return
    first, rest = parts[0], parts[1:]
    name = first.removesuffix("[]")
    inner = node.get(name) if isinstance(node, dict) else None
    for element in inner if isinstance(inner, list) else [inner]:
        yield from _at(element, rest)
