"""Sections of databases and of project management systems."""

from typing import Any, Final

from cador.operations.declarative import shapes
from cador.operations.declarative.reader import Reader
from cador.operations.declarative.sections import Section, fields
from cador.operations.models.project_management import SPECS

DATABASES: Final = fields("databases", "Database")

_SECRET: Final = ("secret", "token")
_SPEC_KEYS: Final = tuple(dict.fromkeys(key for model in SPECS.values() for key in model.model_fields))
_PROJECT_MANAGEMENT: Final = {
    "type": shapes.choice(*SPECS),
    **{key: shapes.secret() if key.endswith(_SECRET) else shapes.text() for key in _SPEC_KEYS},
}


def _project_management(name: str, entry: Reader) -> dict[str, Any]:
    """The fields of its ``spec`` stand beside ``type``."""
    kind = entry.text("type", "tapd")
    known = SPECS[kind].model_fields if kind in SPECS else _SPEC_KEYS
    entry.only("type", *known)
    return {"type": kind, "spec": {key: entry.text(key) for key in known if key in entry}}


PROJECT_MANAGEMENT: Final = Section("projectmanagement", "ProjectManagement", _project_management, _PROJECT_MANAGEMENT)
