"""Definitions whose members are of other types than they should be: refused, or as if they were not there; no crash.

Inside ``spec`` a definition is stored as it was sent, so that job types meet whatever people wrote.
"""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml

from cador.domain.errors import CadorError
from cador.jobs.definition import check_workflow, normalise, parse_workflow
from jobs.running import TYPES, World, resource

DOCUMENT: Final = yaml.load(
    (Path(__file__).parent / "documents" / "every_member.yaml").read_text(), Loader=yaml.CSafeLoader
)
OTHERS: Final[dict[type, tuple[Any, ...]]] = {
    str: (7, ["x"]),
    int: ("x",),
    bool: ({"x": 1},),
    list: (7, [None]),
    dict: ("x",),
    type(None): (7,),
}
RESOURCES: Final = [
    resource("codehost", "gitlab", ident=1, type="gitlab", address="https://gitlab.example.com"),
    resource("build", "build-demo", "shop", services=[], repo_info=[], parameters=[], build_script="exit 0"),
    resource("test", "smoke-test", "shop", script="exit 0"),
    resource("scan", "scan", "shop", script="exit 0"),
    resource("environment", "dev", "shop"),
    resource("database", "d", uid="1", name="d", type="mysql", projects=[]),
    resource("projectmanagement", "tapd", uid="1", type="tapd"),
]


def members(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*place, key), value
        yield from members(value, (*place, key))


def start(document: dict[str, Any], job: str) -> None:
    """Store *document* and start *job* with what it refers to; every job when it is empty."""
    definition = normalise(document)
    msgspec.json.encode(definition)
    workflow = parse_workflow(definition)
    check_workflow(workflow, TYPES)
    names = [one.name for stage in workflow.stages for one in stage.jobs]
    for name in [job] if job else names:
        plans = World(list(RESOURCES)).expand(workflow, {"build": {}, "ask": {}, name: {}})
        for one in workflow.stages:
            for run in one.jobs:
                for plan in plans.get(run.name, ()):
                    msgspec.json.encode(TYPES[run.type].view(plan.plan, {}, {}, False))


@pytest.mark.real  # a thousand starts
def test_no_member_of_another_type_is_a_crash() -> None:
    crashed, tried = [], set()
    for place, value in members(DOCUMENT):
        inside = place[0] == "stages" and len(place) > 4 and place[2] == "jobs"
        job = DOCUMENT["stages"][place[1]]["jobs"][place[3]]["name"] if inside and place[4] != "name" else ""
        shape = (job if place[4:5] == ("spec",) else "", *(part for part in place if isinstance(part, str)))
        if shape in tried:
            continue
        tried.add(shape)
        for other in OTHERS[type(value)]:
            changed = deepcopy(DOCUMENT)
            holder = changed
            for part in place[:-1]:
                holder = holder[part]
            holder[place[-1]] = other
            try:
                start(changed, job)
            except CadorError:
                continue
            except Exception as error:  # whatever it is: a client would get a 500
                crashed.append((place, other, repr(error)))
    assert crashed == []


def test_the_definition_itself_starts() -> None:
    """Else nobody would look at its members."""
    start(DOCUMENT, "")
