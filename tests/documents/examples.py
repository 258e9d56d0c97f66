"""The examples of ``/openapi.json``, made from the documented requests and replies that are replayed here.

PYTHONPATH=tests python -m documents.examples        # writes src/cador/api/examples.yaml
"""

from pathlib import Path
from typing import Any, Final

import yaml

from documents.compatibility import EDITIONS, documented, route_of

FILE: Final = Path(__file__).parents[2] / "src" / "cador" / "api" / "examples.yaml"
_HEAD: Final = (
    "# Documented requests and replies of the API documents; shown in /openapi.json. Values are the documents'.\n"
    "# Made by tests/documents/examples.py, from what is replayed there.\n"
)


def examples() -> list[dict[str, Any]]:
    """Each documented request, as the newest edition that has it shows it."""
    newest = {entry["name"]: edition for edition, entry in documented()}
    shown = [
        (edition, entry)
        for wanted in reversed(EDITIONS)
        for edition, entry in documented()
        if edition == wanted == newest[entry["name"]]
    ]
    return [_example(entry) for _, entry in shown]


def _example(entry: dict[str, Any]) -> dict[str, Any]:
    request, reply = entry["request"], entry["reply"]
    route = route_of(request["method"], request["path"])
    found: dict[str, Any] = {
        "route": f"{route.method} {route.paths[0]}",
        "name": entry["name"],
        "title": entry["title"],
    }
    if "body" in request:
        found["request"] = _readable(request["body"])
    if "json" in reply.get("content_type", "json"):
        found["reply"] = _readable(reply["body"])
    return found


def _readable(value: Any) -> Any:
    """``choice_否`` is a slip of the page that no client needs to see."""
    if isinstance(value, dict):
        return {name.replace("choice_否", "choice_option"): _readable(member) for name, member in value.items()}
    return [_readable(member) for member in value] if isinstance(value, list) else value


def text() -> str:
    return _HEAD + yaml.dump(examples(), allow_unicode=True, sort_keys=False, default_flow_style=None, width=120)


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
