"""Values of workflow variables given at a start. Pure."""

from typing import Any

import pytest

from cador.domain.workflow import Param
from cador.jobs.base import Catalogue
from cador.operations.parameters import apply_parameters
from cador.ports.stores import Resource

HOST = Resource("codehost", "", "hub", {"name": "hub"}, id=4)
CATALOGUE = Catalogue("shop", (HOST,))
NAMED = {"codehost_name": "hub", "repo_namespace": "team", "repo_name": "app"}
STORED = {"codehost_id": 4, "repo_namespace": "team", "repo_name": "app", "branch": "main"}


def repository(stored: dict[str, Any], **given: Any) -> dict[str, Any]:
    param = Param(name="code", type="repo", value="", repo=stored)
    warned: list[str] = []
    entry = {"name": "code", "repo": {**NAMED, **given}}
    (found,) = apply_parameters((param,), (entry,), CATALOGUE, warned.append, str)
    assert warned == []
    assert found.repo is not None
    return dict(found.repo)


@pytest.mark.parametrize(
    ("stored", "given", "becomes"),
    [
        ({}, {"branch": "other"}, {"branch": "other"}),
        ({}, {"prs": [7]}, {"branch": "main", "prs": [7]}),
        ({}, {"branch": "", "prs": []}, {"branch": "main"}),
        ({"prs": [7]}, {"branch": "other"}, {"branch": "other", "prs": [7]}),
        ({"tag": "v1"}, {"branch": "other"}, {"branch": "other"}),
        ({"tag": "v1"}, {"prs": [7]}, {"branch": "main", "tag": "v1", "prs": [7]}),
        ({"enable_commit": True, "commit_id": "abc"}, {"branch": "other"}, {"branch": "other"}),
    ],
)
def test_what_of_a_repository_is_checked_out(
    stored: dict[str, Any], given: dict[str, Any], becomes: dict[str, Any]
) -> None:
    assert repository(STORED | stored, **given) == STORED | becomes
