"""The section ``sharing`` of a project: single workflows for single people."""

from typing import Any, Final

from cador.operations.actions import SHARED_ACTIONS
from cador.operations.declarative import shapes
from cador.operations.declarative.reader import Reader
from cador.operations.declarative.sections import Section
from cador.operations.declarative.shapes import Shape, keyed

_SHARED: Final[Shape] = {
    "users": shapes.texts("Accounts."),
    "groups": shapes.texts("Names of groups."),
    "workflows": keyed(
        {"anyOf": [{"type": "array", "items": {"enum": sorted(SHARED_ACTIONS)}}, {"enum": sorted(SHARED_ACTIONS)}]},
        "Keys of workflows, with what may be done.",
    ),
}


def _shared(name: str, entry: Reader) -> dict[str, Any]:
    entry.only(*_SHARED)
    workflows = Reader(entry.child("workflows"), f"{entry.place}.workflows") if "workflows" in entry else ()
    return {
        "user_ids": entry.texts("users"),
        "group_ids": entry.texts("groups"),
        "workflows": [{"name": key, "verbs": workflows.texts(key)} for key in workflows]
        if isinstance(workflows, Reader)
        else [],
    }


SHARING: Final = Section("sharing", "Collaboration", _shared, _SHARED)
