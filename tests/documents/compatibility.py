"""The tables of docs/compatibility.md: what the replayed documents and the routes of the server say.

python tests/documents/compatibility.py        # writes them into the page
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from starlette.routing import compile_path

from cador.api.app import ROUTES
from cador.api.routing import Route

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "compatibility.md"
EDITIONS: Final = {"A": "1.6", "B": "1.15", "C": "1.17", "D": "1.18", "E": "4.2"}
_PLACE: Final = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def documented() -> Iterator[tuple[str, dict[str, Any]]]:
    for edition in EDITIONS:
        text = (HERE / f"edition_{edition}.yaml").read_text(encoding="utf-8")
        for entry in yaml.load(text, Loader=yaml.CSafeLoader):
            yield edition, entry


def route_of(method: str, path: str) -> Route:
    """The route of the server that a documented request reaches: routes without parameters before others."""
    fitting = [
        (compile_path(template)[2], route)
        for group in ROUTES
        for route in group.routes
        for template in route.paths
        if route.method == method and compile_path(template)[0].match(path)
    ]
    assert fitting, f"{method} {path}"
    return min(fitting, key=lambda one: len(one[0]))[1]


def routes() -> str:
    """Which edition has which route, with how many examples (variants and errors included) that are replayed."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    needs: dict[tuple[str, str], str] = {}
    for edition, entry in documented():
        request = entry["request"]
        route = route_of(request["method"], request["path"])
        name = (request["method"], route.paths[0])
        needs[name] = " or ".join(f"`{action}`" for action in route.permission.actions) or "a token"
        errors = [one for one in entry.get("errors", ()) if not one.get("unreachable")]
        found = counts.setdefault(name, dict.fromkeys(EDITIONS, 0))
        found[edition] += 1 + len(entry.get("variants", ())) + len(errors)
    lines = [f"| Route | {' | '.join(EDITIONS.values())} | Needs |", f"| --- |{' --- |' * (len(EDITIONS) + 1)}"]
    for (method, path), found in counts.items():
        cells = " | ".join(str(found[edition] or "") for edition in EDITIONS)
        lines.append(f"| `{method} {path}` | {cells} | {needs[method, path]} |")
    return "\n".join(lines) + "\n"


def errors() -> str:
    """The errors that the editions show, each with the editions that show it."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for edition, entry in documented():
        for error in entry.get("errors", ()):
            if error.get("unreachable"):
                continue
            path = error["request"].get("path", entry["request"]["path"])
            route = route_of(entry["request"]["method"], entry["request"]["path"] if "//" in path else path)
            body = error["body"]
            code = body.get("code", f"`resultCode` {body.get('resultCode')}")
            rows.setdefault((f"`{route.method} {route.paths[0]}`", error["when"], f"{error['status']} | {code}"), [])
            rows[f"`{route.method} {route.paths[0]}`", error["when"], f"{error['status']} | {code}"].append(edition)
    lines = ["| Route | When | Status | Code | Shown by |", "| --- | --- | --- | --- | --- |"]
    for (route_name, when, answer), editions in rows.items():
        lines.append(f"| {route_name} | {when} | {answer} | {', '.join(EDITIONS[one] for one in editions)} |")
    return "\n".join(lines) + "\n"


TABLES: Final = {"routes": routes, "errors": errors}


def filled(page: str) -> str:
    """*page* with its tables made anew."""
    return _PLACE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}", page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
