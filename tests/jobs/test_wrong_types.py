"""Definitions whose members are of other types than they should be: refused, or as if they were not there; no crash.

Inside ``spec`` a definition is stored as it was sent, so that job types meet whatever people wrote.
"""

from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml

from cador.domain.errors import CadorError, NotStartable
from cador.jobs.base import CodeHostAccess
from cador.jobs.definition import normalise, parse_workflow
from cador.jobs.rules import check_workflow
from jobs.running import TYPES, World, one_job, resource

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
    resource("database", "d", uid="1", name="d", type="mysql", host="db.example.com", port="3306", projects=[]),
    resource("projectmanagement", "tapd", uid="1", type="tapd"),
]


def members(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*place, key), value
        yield from members(value, (*place, key))


REPO: Final = {"codehost_name": "gitlab", "repo_namespace": "o", "repo_name": "r", "branch": "b", "prs": [2]}
VALUES: Final = {"inputs": [{"key": "K", "value": "v,w"}], "repo_info": [REPO]}
SERVICES: Final = {"service_list": [{"service_name": "a", "service_module": "x", **VALUES}]}
PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "build": SERVICES,
    "free": {"services": SERVICES["service_list"]},
    "free2": {"kv": VALUES["inputs"], "repo_info": [REPO]},
    "test": SERVICES,
    "test2": {"testing_list": [{"testing_name": "smoke-test", **VALUES}]},
    "scan": {"scanning_list": [{"scanning_name": "scan", **VALUES}]},
    "scan2": SERVICES,
    "plug": {"kv": [{"key": "I", "value": "v,w"}]},
    "deploy": {"env_name": "dev", "service_list": [{"service_name": "a", "service_module": "x"}]},
    "dist": {"target_list": [{"service_name": "a", "service_module": "x"}]},
    "sql": {"sql": "select 2"},
    "tapd": {"iteration_ids": ["2"], "status": "open"},
    "canary": {"service_list": [{"service_name": "s", "image_name": "j"}]},
    "patch": {"target_list": [{"resource_name": "n", "inputs": [{"key": "p", "value": "w"}]}]},
    "vm": {"service_list": [{"service_name": "a", "file_name": "f"}]},
}
"""What a start may say to the jobs of the document."""


def start(document: dict[str, Any], job: str) -> None:
    """Store *document*, start *job* with what it refers to, every job when it is empty, and come to where it would
    run: as it is stored, and with everything that a start may say."""
    definition = normalise(document)
    msgspec.json.encode(definition)
    workflow = parse_workflow(definition)
    check_workflow(workflow, TYPES)
    types = {one.name: TYPES[one.type] for stage in workflow.stages for one in stage.jobs}
    for name in [job] if job else types:
        for given in ({}, PARAMETERS.get(name, {})):
            with suppress(CadorError):
                world = World(list(RESOURCES), {1: CodeHostAccess(1, "gitlab", "https://gitlab.example.com")})
                made = world.expand(workflow, {"build": {}, "ask": {}, name: given})
                for run, plans in made.items():
                    for plan in plans:
                        msgspec.json.encode(types[run].view(plan.plan, {}, {}, False))
                        with suppress(CadorError):
                            types[run].compile(plan.plan, world.run({}))


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


@pytest.mark.parametrize("given", [{}, PARAMETERS], ids=["stored", "given"])
def test_the_definition_itself_starts(given: dict[str, dict[str, Any]]) -> None:
    """Else nobody would look at its members."""
    workflow = parse_workflow(normalise(DOCUMENT))
    check_workflow(workflow, TYPES)
    jobs = [job.name for stage in workflow.stages for job in stage.jobs]
    assert World(list(RESOURCES)).expand(workflow, {name: given.get(name, {}) for name in jobs}).keys() == set(jobs)
    assert PARAMETERS.keys() <= set(jobs)


@pytest.mark.parametrize(
    ("kind", "spec", "given"),
    [
        ("freestyle", {"envs": [{"key": "K", "type": "choice", "choice_option": 7}]},
         {"kv": [{"key": "K", "value": "v"}]}),
        ("freestyle", {"envs": [{"key": "K", "type": "multi-select", "choice_value": 7}]}, {}),
        ("plugin", {"plugin": {"inputs": [{"name": "K", "type": "choice", "choice_option": 7}]}},
         {"kv": [{"key": "K", "value": "v"}]}),
        ("plugin", {"plugin": {"inputs": [{"name": "K", "type": "multi-select", "choice_value": 7}]}}, {}),
    ],
)  # fmt: skip
def test_options_that_are_no_list_are_none(kind: str, spec: dict[str, Any], given: dict[str, Any]) -> None:
    definition = one_job(kind, {"script": "true", **spec})
    assert len(World().expand(definition, {"job": given})["job"]) == 1


def test_contents_of_a_deployment_that_are_no_list_are_the_usual_ones() -> None:
    spec = {
        "env": "dev",
        "deploy_contents": 7,
        "services": [{"service_name": "a", "modules": [{"service_module": "x"}]}],
    }
    with pytest.raises(NotStartable, match=r"^image of a/x is empty$"):
        World(list(RESOURCES)).expand(one_job("zadig-deploy", spec), {"job": {}})


def test_pull_requests_that_are_no_numbers_are_not_left_out() -> None:
    repo = {"codehost_id": 1, "repo_namespace": "o", "repo_name": "r", "branch": "b", "prs": ["12"]}
    with pytest.raises(NotStartable, match=r"pull request numbers \['12'\] of repository r are not valid$"):
        World(list(RESOURCES)).expand(one_job("freestyle", {"script": "true", "repos": [repo]}), {"job": {}})
