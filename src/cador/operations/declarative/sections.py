"""Sections of the short form: which key stands for which kind, and how an entry becomes the body of its API call.

A kind whose short keys are the fields of its model needs one line, see :func:`fields`. One with keys of its own has a
function from entry to spec and a shape, in a module of its own. All sections stand in ``SECTIONS`` of ``expand.py``.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from cador.domain.secrets import SECRET_KEYS
from cador.operations.declarative import shapes
from cador.operations.declarative.documents import FORMS, Document
from cador.operations.declarative.reader import Reader
from cador.operations.declarative.shapes import Part, Schema, Shape, keyed, or_nothing, schema_of

if TYPE_CHECKING:
    from cador.operations.models.body import Body

Make = Callable[[str, Reader], Mapping[str, Any]]
"""``(name, entry)``: the spec of one document. Raises: Misfit."""


@dataclass(frozen=True, slots=True)
class Section:
    """``key``: of the short form. ``only``: the name of the one object of a section that is no map of several, such as
    ``mail``."""

    key: str
    kind: str
    make: Make
    shape: Shape
    only: str = ""
    listed: str = ""
    """Each entry is a list, which stands for this key of it."""
    of_any: Schema | None = None
    """What may stand under keys of the user's own, in a section whose entries have no other."""

    @property
    def part(self) -> Part:
        if self.listed:
            return keyed(self.shape[self.listed].schema)
        entry = or_nothing(schema_of(self.shape) if self.of_any is None else keyed(self.of_any).schema)
        return Part(entry) if self.only else keyed(entry)

    def document(self, name: str, entry: Reader, project: str) -> Document:
        return Document(self.kind, name, project, dict(self.make(name, entry)), entry.mark())


def fields(
    key: str,
    kind: str,
    *,
    renamed: Mapping[str, str] | None = None,
    without: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
    only: str = "",
) -> Section:
    """A section whose entries have the fields of the kind's model as keys.

    *renamed*: short key -> field. *without*: fields nobody writes. *defaults*: given for what the entry leaves out.
    Texts are taken as written; nested parts are the API's own JSON.
    """
    form = FORMS[kind]
    assert form.model is not None  # noqa: S101 - a kind without a model has a function of its own
    model: type[Body] = form.model
    back = {field: short for short, field in (renamed or {}).items()}
    hidden = {form.named, form.project, *without}
    names = {back.get(field, field): field for field in model.model_fields if field and field not in hidden}
    kinds = {short: _kind_of(model.model_fields[field].annotation) for short, field in names.items()}
    secret = {*model.secrets, *SECRET_KEYS}

    def make(name: str, entry: Reader) -> dict[str, Any]:
        entry.only(*names)
        spec: dict[str, Any] = dict(defaults or {})
        for short, field in names.items():
            if short in entry:
                spec[field] = _READ[kinds[short]](entry, short)
        return spec

    shape = {short: shapes.secret() if field in secret else _PARTS[kinds[short]]() for short, field in names.items()}
    return Section(key, kind, make, shape, only)


_Kind = Literal["text", "flag", "number", "texts", "raw"]


def _kind_of(annotation: Any) -> _Kind:
    plain = [one for one in getattr(annotation, "__args__", ()) if one is not type(None)]
    origin = getattr(annotation, "__origin__", None)
    if origin is list:
        return "texts" if plain == [str] else "raw"
    if origin is Literal:
        return "text" if all(isinstance(one, str) for one in plain) else "raw"
    if origin is None and len(plain) == 1:  # ``X | None``
        return _kind_of(plain[0])
    for kind, name in ((bool, "flag"), (int, "number"), (str, "text")):
        if annotation is kind:
            return name  # type: ignore[return-value]
    return "raw"


_READ: Final[Mapping[str, Callable[[Reader, str], Any]]] = {
    "text": Reader.text,
    "flag": Reader.flag,
    "number": Reader.number,
    "texts": Reader.texts,
    "raw": Reader.raw,
}
_PARTS: Final[Mapping[str, Callable[[], Part]]] = {
    "text": shapes.text,
    "flag": shapes.flag,
    "number": shapes.number,
    "texts": shapes.texts,
    "raw": shapes.anything,
}
