"""``/openapi.json``: valid, complete, and true to its own examples."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from cador.api.app import ROUTES
from cador.api.examples import load_examples
from cador.api.permissions import Where
from cador.jobs.types import BUILT_IN
from openapi.conformity import described, faults, reply_faults, resolved


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in described()["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def contents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every body and reply, by what it is of."""
    for name, operation in operations():
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{name} request {kind}", content
        for status, answer in operation["responses"].items():
            for kind, content in resolved(answer).get("content", {}).items():
                yield f"{name} {status} {kind}", content


def test_it_is_openapi_3_1_that_tools_can_read() -> None:
    found = described()
    assert found["openapi"] == "3.1.0"
    assert {"info", "servers", "tags", "security", "paths", "components"} <= found.keys()
    assert [error.message for error in OPENAPI_31_VALIDATOR.iter_errors(found)] == []
    schema = schemathesis.openapi.from_dict(dict(found))
    read = {f"{one.ok().method.upper()} {one.ok().path}" for one in schema.get_all_operations()}
    assert read == {name for name, _ in operations()}
    for model in found["components"]["schemas"].values():
        Draft202012Validator.check_schema(model)
    for _, content in contents():
        Draft202012Validator.check_schema(content["schema"])


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(described())
    for part in text.split('"$ref": "#/')[1:]:
        found: Any = described()
        for step in part.partition('"')[0].split("/"):
            found = found[step]
        assert found


def test_every_route_is_described_with_what_it_takes_and_needs() -> None:
    found = dict(operations())
    ids = [operation["operationId"] for operation in found.values()]
    assert len(ids) == len(set(ids))
    known = {tag["name"] for tag in described()["tags"]}
    for group in ROUTES:
        for route in group.routes:
            for path in route.paths:
                if route.hidden or "//" in path:
                    continue
                operation = found[f"{route.method} {path.replace(':path}', '}')}"]
                assert set(operation["tags"]) <= known
                assert operation["summary"]
                assert "Permission: " in operation["description"]
                named = {parameter["name"] for parameter in operation["parameters"]}
                assert {query.rstrip("!").partition(":")[0] for query in route.query} <= named
                assert {part.strip("{}").partition(":")[0] for part in path.split("/") if "{" in part} <= named
                assert ("requestBody" in operation) == (route.body is not None)
                assert (operation.get("security") == []) == (route.permission.where is Where.NOBODY)


def test_a_value_is_described_once_and_its_other_spellings_are_named() -> None:
    operation = dict(operations())["GET /openapi/workflows/custom/task"]
    by_name = {parameter["name"]: parameter for parameter in operation["parameters"]}
    assert by_name["taskId"]["x-deprecated-aliases"] == ["task_id", "taskID"]
    assert by_name["workflowKey"]["x-deprecated-aliases"] == ["workflow_key", "workflowName", "workflow_name"]
    run = described()["components"]["schemas"]["RunBody"]["properties"]
    assert run["workflow_name"]["deprecated"] is True


def test_codes_of_a_route_are_named_by_status() -> None:
    answers = dict(operations())["DELETE /openapi/workflows/custom/task"]["responses"]
    bad = answers["400"]["content"]["application/json"]["examples"]
    assert {"400", "6163"} <= bad.keys()
    assert bad["6163"]["value"]["message"] == "Cancel workflow task failed"
    assert {"401", "403", "413", "500", "503"} <= answers.keys()
    assert "default" not in answers


def test_jobs_are_told_apart_by_their_type() -> None:
    schemas = described()["components"]["schemas"]
    names = {job_type.name for job_type in BUILT_IN}
    assert schemas["Job"]["discriminator"]["mapping"].keys() == names
    assert schemas["TypedJobInput"]["discriminator"]["mapping"].keys() == names
    given = {"job_name": "ask", "job_type": "sql", "parameters": {"database_name": "main", "sql": 1}}
    assert faults({"$ref": "#/components/schemas/JobInput"}, given)
    assert not faults({"$ref": "#/components/schemas/JobInput"}, {**given, "parameters": {"sql": "select 1"}})
    assert faults({"$ref": "#/components/schemas/Job"}, {"name": "ask", "type": "no-such-type"})


def test_every_example_fits_its_own_schema() -> None:
    seen = 0
    for name, content in contents():
        values = {key: one["value"] for key, one in content.get("examples", {}).items()}
        if "example" in content:
            values["example"] = content["example"]
        for key, value in values.items():
            assert faults(content["schema"], value) == [], (name, key)
            seen += 1
    assert seen > 100


def test_examples_belong_to_routes() -> None:
    known = {(route.method, path) for group in ROUTES for route in group.routes for path in route.paths}
    assert load_examples().keys() <= known
    execute = load_examples()["POST", "/openapi/workflows/custom/task"]
    assert len(execute) > 10
    assert all(one.request for one in execute)


@pytest.mark.parametrize(
    ("status", "kind", "body", "fault"),
    [
        (200, "application/json", {"total": 1, "workflow_tasks": [{"task_id": "7"}]}, "is not of type 'integer'"),
        (418, "application/json", {}, "status 418 is not described"),
        (200, "text/html", None, "text/html is not described"),
    ],
)
def test_a_reply_of_another_shape_is_found(status: int, kind: str, body: Any, fault: str) -> None:
    found = reply_faults("GET", "/openapi/workflows/custom/w/tasks", status, kind, body)
    assert any(fault in one for one in found)
