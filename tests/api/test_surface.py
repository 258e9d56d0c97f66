"""What a critical reading of the whole API found: texts that left people guessing, and answers that were wrong."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from api.site import PROJECT, Site, definition, site
from cador.ports.stores import Tx

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with site(tmp_path_factory.mktemp("site")) as made:
        yield made


async def test_an_environment_says_why_it_wants_a_registry(server: Site) -> None:
    body = {"env_key": "dev", "cluster_name": "local", "namespace": "dev"}
    reply = await server.post("/openapi/environments", params={"projectKey": PROJECT}, json={**body, "services": []})
    assert reply.status_code == 400
    assert reply.json()["description"] == "registry_id is required: there is no default registry"


YEAR_MIN = 527040
STAGE = ("stages", 0, "approval")
APPROVERS = {"enabled": True, "native_approval": {"approve_users": [{"user_name": "admin"}], "timeout": 2**40}}


@pytest.mark.parametrize(
    ("place", "value", "named", "most"),
    [
        (("concurrency_limit",), 2**31, "concurrency_limit", 2**31 - 1),
        (("stages", 0, "jobs", 0, "error_policy"), {"policy": "retry", "maximum_retry": 2**31},
         "stages[0].jobs[0].error_policy.maximum_retry", 2**31 - 1),
        (STAGE, APPROVERS, "stages[0].approval.native_approval.timeout", YEAR_MIN),
        (STAGE, {"enabled": True, "approve_users": [], "timeout": 10**400}, "stages[0].approval.timeout", YEAR_MIN),
    ],
)  # fmt: skip
async def test_numbers_that_no_table_and_no_calendar_holds(
    server: Site, place: tuple[str | int, ...], value: Any, named: str, most: int
) -> None:
    body: Any = definition("huge", "true")
    inner = body
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    reply = await server.post("/api/aslan/workflow/v4", json=body)
    assert reply.status_code == 400, reply.text
    assert reply.json()["description"] == f"{named}: Input should be less than or equal to {most}"


@pytest.mark.parametrize("minutes", [YEAR_MIN + 1, 2**64])
async def test_a_job_that_may_take_more_than_a_year_is_not_stored(server: Site, minutes: int) -> None:
    body: Any = definition(f"long-{minutes}", "true")
    body["stages"][0]["jobs"][0]["spec"]["properties"]["timeout"] = minutes
    reply = await server.post("/api/aslan/workflow/v4", json=body)
    assert (reply.status_code, reply.json()["code"]) == (400, 6545)
    told = f"timeout {str(minutes)[:20]} is too long: at most {YEAR_MIN} minutes, a year"
    assert told in reply.text


async def test_one_that_was_stored_before_does_not_start(server: Site) -> None:
    body: Any = definition("longest", "true")
    assert (await server.post("/api/aslan/workflow/v4", json=body)).status_code == 200

    def edit(tx: Tx) -> None:
        row = tx.workflows.find("longest")
        assert row is not None
        doc = json.loads(row.definition)
        doc["stages"][0]["jobs"][0]["spec"]["properties"]["timeout"] = YEAR_MIN + 1
        tx.workflows.replace(replace(row, definition=json.dumps(doc)))

    await server.world.db.write(edit)
    run = {"workflow_key": "longest", "project_key": PROJECT, "inputs": [{"job_name": "say"}]}
    reply = await server.post("/openapi/workflows/custom/task", json=run)
    assert (reply.status_code, reply.json()["code"]) == (400, 6160)
    assert reply.json()["description"].startswith(f"timeout {YEAR_MIN + 1} is too long")


async def test_an_approval_job_that_would_wait_for_more_than_a_year(server: Site) -> None:
    body: Any = definition("asks", "true")
    asked = {"approve_users": [{"user_name": "admin"}], "timeout": 2**40, "needed_approvers": 1}
    job = {"name": "ask", "type": "approval", "spec": {"type": "native", "native_approval": asked}}
    body["stages"][0]["jobs"].append(job)
    reply = await server.post("/api/aslan/workflow/v4", json=body)
    assert (reply.status_code, reply.json()["code"]) == (400, 6545)


@pytest.mark.parametrize(
    ("method", "path", "body", "detail"),
    [
        ("PUT", "/api/v1/secrets/x", {"data": {"K": 5}}, "data.K: must be a string"),
        ("PUT", "/api/v1/secrets/x", {"data": {"K": "a" * 70_000}}, "data.K is larger than 65536 bytes"),
        ("PUT", "/api/v1/secrets/x", {"data": {"not a key": "v"}}, "data: a key consists of letters, digits and . _ -"),
        ("POST", "/api/v1/templates/dockerfile", {"name": 5}, "name: must be a string"),
    ],
)
async def test_the_place_of_a_mistake_is_told_once(
    server: Site, method: str, path: str, body: dict[str, Any], detail: str
) -> None:
    reply = await server.call(method, path, json=body)
    assert (reply.status_code, reply.json()["detail"]) == (400, detail)
