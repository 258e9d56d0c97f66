"""Request bodies: strict JSON with the place of every fault, and YAML for workflow definitions.

Whatever a client sends ends in a value or in one 400 that says what is wrong where: malformed text, duplicate keys,
``NaN``, numbers and nesting beyond all sense, broken Unicode, YAML that grows when it is unfolded.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from cador.api.errors import bad_request
from cador.operations.models.yaml_shape import TooDeep, TooLarge, shape_of

MAX_DEPTH: Final = 100
MAX_NODES: Final = 200_000
_SHOWN_FAULTS: Final = 20

Model = TypeVar("Model", bound=BaseModel)


def parse_json(data: bytes) -> Any:
    """The value of a JSON text. Raises: Refusal (400) with line and column."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad_request(f"invalid JSON: not UTF-8 at byte {error.start}") from None
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise bad_request(f"invalid JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise bad_request("invalid JSON: nested too deeply") from None
    except ValueError as error:
        raise bad_request(f"invalid JSON: {error}") from None
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:  # no text is deeper than it has brackets
        _check_size(value, "invalid JSON")
    if b"\\u" in data:
        _check_characters(value, "invalid JSON")
    return value


def parse_object(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises: Refusal (400), also for an empty body."""
    if not data.strip():
        raise bad_request("request body is required")
    value = parse_json(data)
    if not isinstance(value, dict):
        raise bad_request("request body must be a JSON object")
    return value


def parse_definition(data: bytes, content_type: str = "") -> dict[str, Any]:
    """A workflow definition, JSON or YAML. What begins with ``{`` is strict JSON unless the content type says YAML.

    Raises: Refusal (400) with line and column.
    """
    if not data.strip():
        raise bad_request("request body is required")
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")) and "yaml" not in content_type.lower():
        value = parse_json(data)
    else:
        value = parse_yaml(data)
    if not isinstance(value, dict):
        raise bad_request("a workflow definition must be an object")
    return value


class _Loader(yaml.CSafeLoader):
    """YAML as JSON would have it: no dates, no duplicate keys, keys are text."""

    merged_keys = 0

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            value = self.construct_object(value_node, deep=True)
            if key_node.tag == "tag:yaml.org,2002:merge":
                for source in value if isinstance(value, list) else [value]:
                    if not isinstance(source, dict):
                        raise yaml.constructor.ConstructorError(
                            None, None, "only mappings can be merged", value_node.start_mark
                        )
                    self.merged_keys += len(source)
                    if self.merged_keys > MAX_NODES:
                        raise TooLarge
                    for name, kept in source.items():
                        merged.setdefault(name, kept)
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, bool):
                key = "true" if key else "false"
            elif isinstance(key, int | float):
                key = str(key)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key in mapping:
                raise yaml.constructor.ConstructorError(None, None, f'duplicate key "{key}"', key_node.start_mark)
            mapping[key] = value
        return {**merged, **mapping}


def _construct_map(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(data: bytes) -> Any:
    """The value of one YAML document. Raises: Refusal (400) with line and column."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad_request(f"invalid YAML: not UTF-8 at byte {error.start}") from None
    try:
        shape_of(text)
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - the loader is a safe one
    except TooDeep:
        raise bad_request("invalid YAML: nested too deeply") from None
    except TooLarge:
        raise bad_request("invalid YAML: too large") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise bad_request(f"invalid YAML: {error.problem or error.context}{place}") from None
    except yaml.reader.ReaderError as error:
        raise bad_request(f"invalid YAML: {error.reason} at character {error.position}") from None
    except yaml.YAMLError as error:
        raise bad_request(f"invalid YAML: {error}") from None
    except RecursionError:
        raise bad_request("invalid YAML: nested too deeply") from None
    except ValueError as error:
        raise bad_request(f"invalid YAML: {error}") from None
    _check_size(value, "invalid YAML")
    _check_characters(value, "invalid YAML")
    return value


def validate(model: type[Model], value: Any) -> Model:
    """*value* as *model*. Raises: Refusal (400) that names every fault with its place."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise bad_request(faults_of(error)) from None


def faults_of(error: ValidationError) -> str:
    """``inputs[0].job_name: must be a string; inputs[2].parameters: must be an object``"""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    texts = []
    for fault in found[:_SHOWN_FAULTS]:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).removeprefix(".")
        words = _WORDS.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
        texts.append(f"{place}: {words}" if place else words)
    if len(found) > _SHOWN_FAULTS:
        texts.append(f"and {len(found) - _SHOWN_FAULTS} more")
    return "; ".join(texts)


_WORDS: Final[Mapping[str, str]] = {
    "missing": "is required",
    "extra_forbidden": "is not known here",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}


def without_nulls(value: Any) -> Any:
    """An object without its ``null`` members: ``null`` counts as absent."""
    if isinstance(value, dict) and None in value.values():
        return {key: member for key, member in value.items() if member is not None}
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f'duplicate key "{key}"')
            seen.add(key)
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    value = float(text)
    if value in _INFINITE:
        raise ValueError(f"{text} is too large a number")
    return value


def _check_size(value: Any, what: str) -> None:
    """Count nodes and depth as they would be written out: a YAML alias counts each time it is used."""
    waiting: list[tuple[Any, int]] = [(value, 1)]
    nodes = 0
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        if depth > MAX_DEPTH:
            raise bad_request(f"{what}: nested too deeply")
        if nodes > MAX_NODES:
            raise bad_request(f"{what}: too large")
        if isinstance(node, dict):
            waiting.extend((member, depth + 1) for member in node.values())
        elif isinstance(node, list):
            waiting.extend((member, depth + 1) for member in node)


_BROKEN: Final = re.compile("[\x00\ud800-\udfff]")


def _check_characters(value: Any, what: str) -> None:
    for node in _scalars(value):
        if isinstance(node, str):
            if _BROKEN.search(node):
                raise bad_request(f"{what}: text with a NUL or half a surrogate pair")
        elif not (node is None or isinstance(node, bool | int | float)) or node != node or node in _INFINITE:
            raise bad_request(f"{what}: {node!r} is not a JSON value")


_INFINITE: Final = (float("inf"), float("-inf"))


def _scalars(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            waiting.extend(node.values())
            yield from node
        elif isinstance(node, list):
            waiting.extend(node)
        else:
            yield node
