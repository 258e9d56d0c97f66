"""What stands where in the short form: keys with their types, for the reader and for editors (JSON Schema)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """What may stand under a key. ``needed``: the key must be there."""

    schema: Schema
    needed: bool = False


Shape = Mapping[str, Part]
"""Keys of one mapping."""

REFERENCE: Final[Schema] = {"type": "string", "pattern": r"\$\{"}
"""``${NAME}`` in place of something that is no text."""
FROM_SECRET: Final[Schema] = {
    "type": "object",
    "properties": {
        "valueFrom": {
            "type": "object",
            "properties": {"secret": {"type": "string"}, "key": {"type": "string"}},
            "required": ["secret", "key"],
            "additionalProperties": False,
        }
    },
    "required": ["valueFrom"],
    "additionalProperties": False,
}
"""A key of a secret that the server keeps."""
SCALAR: Final[Schema] = {"type": ["string", "number", "boolean", "null"]}
SECRET_TEXT: Final[Schema] = {"anyOf": [SCALAR, FROM_SECRET]}


def text(about: str = "", *, needed: bool = False) -> Part:
    """A scalar, taken as it is written."""
    return Part(_told(SCALAR, about), needed)


def secret(about: str = "") -> Part:
    return Part(_told(SECRET_TEXT, about))


def choice(*words: str, about: str = "", needed: bool = False) -> Part:
    return Part(_told({"anyOf": [{"enum": list(words)}, REFERENCE]}, about), needed)


def flag(about: str = "") -> Part:
    return Part(_told({"anyOf": [{"type": "boolean"}, REFERENCE]}, about))


def number(about: str = "") -> Part:
    return Part(_told({"anyOf": [{"type": "number"}, REFERENCE]}, about))


def duration(about: str = "") -> Part:
    schema = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}
    return Part(_told(schema, about or "Such as 90s, 30m, 2h, 1h30m, 1d; a number is minutes."))


def texts(about: str = "", *, needed: bool = False) -> Part:
    """A list; one text alone counts as a list of it."""
    return Part(_told({"anyOf": [{"type": "array", "items": SCALAR}, SCALAR]}, about), needed)


def anything(about: str = "") -> Part:
    return Part(_told({}, about))


def within(shape: Shape, about: str = "") -> Part:
    """A mapping of its own."""
    return Part(_told(schema_of(shape), about))


def many(shape: Shape, about: str = "") -> Part:
    """A list of mappings; one alone is no list."""
    return Part(_told({"type": ["array", "null"], "items": schema_of(shape)}, about))


def keyed(schema: Schema, about: str = "") -> Part:
    """A mapping from names of the user's own."""
    return Part(_told({"type": ["object", "null"], "additionalProperties": schema}, about))


def either(*parts: Schema, about: str = "") -> Part:
    return Part(_told({"anyOf": list(parts)}, about))


def schema_of(shape: Shape) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {key: part.schema for key, part in shape.items()},
        "additionalProperties": False,
    }
    if needed := [key for key, part in shape.items() if part.needed]:
        schema["required"] = needed
    return schema


def or_nothing(schema: Mapping[str, Any]) -> dict[str, Any]:
    """*schema*, or an entry without a value."""
    return {"anyOf": [schema, {"type": "null"}]} if "required" not in schema else dict(schema)


def file_keys(names: Sequence[str]) -> Shape:
    """Keys that name a file whose text stands in for another key."""
    about = "A file, relative to this one: its text stands for {}."
    return {name: text(about.format(name.removesuffix("File"))) for name in names}


def _told(schema: Schema, about: str) -> dict[str, Any]:
    return {**schema, "description": about} if about else dict(schema)
