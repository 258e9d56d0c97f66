"""The spellings of request values: one server serves five editions of the documents at the same time.

Every value may be given under any spelling of its row. An empty string counts as absent. Given twice it must be equal.
Routes with *location fallback* look in the query first and, for what is not there, in a JSON body.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from cador.api.errors import bad_request

T = TypeVar("T")

Query = Mapping[str, Sequence[str]]
"""Query parameters: all values by name."""


@dataclass(frozen=True, slots=True)
class Name:
    """A value's spellings. The first of each is the one messages use."""

    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()

    @property
    def canonical(self) -> str:
        return (self.query or self.body)[0]


WORKFLOW: Final = Name(
    ("workflowKey", "workflow_key", "workflowName", "workflow_name"),
    ("workflow_key", "workflow_name", "workflowKey", "workflowName"),
)
PROJECT: Final = Name(
    ("projectKey", "project_key", "projectName", "project_name"),
    ("project_key", "project_name", "projectKey", "projectName"),
)
TASK: Final = Name(("taskId", "task_id", "taskID"), ("task_id", "taskId", "taskID"))
PAGE: Final = Name(("pageNum", "page_num"))
SIZE: Final = Name(("pageSize", "page_size"))
VIEW: Final = Name(("viewName", "view_name"), ("name",))
STAGE: Final = Name(("stage_name", "stageName"), ("stage_name", "stageName", "job_name"))
APPROVE: Final = Name(("approve",), ("approve",))
COMMENT: Final = Name(("comment",), ("comment",))

KEYS_OF_B_AND_C: Final = ("workflow_name", "workflowName")
"""Who names a workflow so reads its key from ``workflow_name`` of the task detail."""

DEFAULT_SIZE: Final = 50
LARGEST_SIZE: Final = 1000
LAST_PAGE: Final = 1 << 40
"""Behind every list, and what lies before it is still a number that databases know."""

_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_INT64: Final = 1 << 63


def integer(text: str) -> int | None:
    """Optional sign and decimal digits that fit 64 bits; else None."""
    if len(text) > 25 or not _INTEGER.fullmatch(text):
        return None
    value = int(text)
    return value if -_INT64 <= value < _INT64 else None


def text_of(name: Name, query: Query, body: Mapping[str, Any] | None = None) -> str:
    """The value, ``""`` when absent. Raises: Refusal: conflicting, or not a string in the body."""
    found = [value for spelling in name.query for value in query.get(spelling, ()) if value]
    for spelling, value in _members(name, body):
        if not isinstance(value, str):
            raise bad_request(f"{spelling}: must be a string")
        if value:
            found.append(value)
    return _agreed(name, found) or ""


def int_of(name: Name, query: Query, body: Mapping[str, Any] | None = None) -> int | None:
    """The value, None when absent. Raises: Refusal: conflicting, or not an integer."""
    found: list[int] = []
    for spelling in name.query:
        for text in query.get(spelling, ()):
            if text:
                value = integer(text)
                if value is None:
                    raise bad_request(f"{spelling} must be an integer")
                found.append(value)
    for spelling, member in _members(name, body):
        if isinstance(member, bool) or not isinstance(member, int) or not -_INT64 <= member < _INT64:
            raise bad_request(f"{spelling}: must be an integer")
        found.append(member)
    return _agreed(name, found)


def bool_of(name: Name, query: Query, body: Mapping[str, Any] | None = None) -> bool | None:
    """The value, None when absent. In the query ``1 t T true TRUE True`` and their opposites, in JSON ``true`` and
    ``false`` only. Raises: Refusal."""
    found: list[bool] = []
    for spelling in name.query:
        for text in query.get(spelling, ()):
            if text:
                if text not in _TRUE and text not in _FALSE:
                    raise bad_request(f"{spelling} must be true or false")
                found.append(text in _TRUE)
    for spelling, member in _members(name, body):
        if not isinstance(member, bool):
            raise bad_request(f"{spelling}: must be true or false")
        found.append(member)
    return _agreed(name, found)


def page_of(query: Query) -> tuple[int, int]:
    """Page number from 1 and page size. Out of range: number 1 below 1, a page behind all above; size 50 below 1, 1000
    above. Raises: Refusal."""
    page, size = int_of(PAGE, query), int_of(SIZE, query)
    return (
        min(page, LAST_PAGE) if page is not None and page >= 1 else 1,
        min(size, LARGEST_SIZE) if size is not None and size >= 1 else DEFAULT_SIZE,
    )


def respelled(body: Mapping[str, Any], names: Iterable[Name]) -> dict[str, Any]:
    """*body* with each of *names* under its first body spelling. Absent where all are null or empty.

    Raises: Refusal: conflicting values. Types are left to whoever reads the result.
    """
    result = dict(body)
    for name in names:
        found = []
        for spelling in name.body:
            value = result.pop(spelling, None)
            if value is not None and value != "":
                found.append(value)
        if found:
            if any(value != found[0] for value in found[1:]):
                raise bad_request(f"conflicting values for {name.body[0]}")
            result[name.body[0]] = found[0]
    return result


def spelled(*names: Name) -> Callable[[dict[str, Any]], None]:
    """For a model whose body is :func:`respelled`: its JSON schema then has the other spellings, too."""

    def extend(schema: dict[str, Any]) -> None:
        properties, required = schema["properties"], schema.get("required", [])
        for name in names:
            first, *others = name.body
            if first not in properties:
                continue
            for other in others:
                about = f"Deprecated spelling of `{first}`."
                properties.setdefault(other, {**properties[first], "deprecated": True, "description": about})
            if first in required:
                required.remove(first)
                any_of = {"anyOf": [{"required": [spelling]} for spelling in name.body]}
                schema.setdefault("allOf", []).append(any_of)

    return extend


def _members(name: Name, body: Mapping[str, Any] | None) -> Iterable[tuple[str, Any]]:
    if body is None:
        return ()
    return [(spelling, body[spelling]) for spelling in name.body if body.get(spelling) is not None]


def _agreed(name: Name, found: Sequence[T]) -> T | None:
    if not found:
        return None
    if any(value != found[0] for value in found[1:]):
        raise bad_request(f"conflicting values for {name.canonical}")
    return found[0]
