"""Workflow tasks over HTTP, in every dialect."""

from typing import Any

import pytest

from api.site import Site, definition
from support.world import PROJECT

pytestmark = pytest.mark.anyio

TASK = "/openapi/workflows/custom/task"
APPROVE = f"{TASK}/approve"
CREATE = "/api/aslan/workflow/v4"
NO_DOCUMENTS = "mongo: no documents in result"


def body(key: str = "w", **fields: Any) -> dict[str, Any]:
    inputs = [{"job_name": "say", "job_type": "freestyle", "parameters": {}}]
    return {"workflow_key": key, "project_key": PROJECT, "inputs": inputs, **fields}


def told(reply: Any) -> tuple[int, int, str]:
    found = reply.json()
    return reply.status_code, found.get("code", 0), found.get("description", "")


def with_approval(key: str, *, needed: int = 1, users: tuple[str, ...] = ("admin",), **fields: Any) -> dict[str, Any]:
    sent = definition(key, **fields)
    sent["stages"][0]["approval"] = {
        "enabled": True,
        "type": "native",
        "description": "Need approval",
        "native_approval": {
            "timeout": 120,
            "needed_approvers": needed,
            "approve_users": [{"user_id": user, "user_name": user.title()} for user in users],
        },
    }
    return sent


async def waits(server: Site, key: str, number: int) -> dict[str, Any]:
    await server.world.until(key, number, lambda d: d.row.waiting_for == "approval")
    return await server.task(key, number)


# -- execute


async def test_a_task_from_start_to_end(server: Site) -> None:
    await server.create("w", "echo hello $WHO")
    reply = await server.post(TASK, json=body())
    assert reply.json() == {
        "project_name": PROJECT, "workflow_name": "w", "project_key": PROJECT, "workflow_key": "w", "task_id": 1,
    }  # fmt: skip
    found = await server.done("w", 1)
    assert found["status"] == found["status_detail"] == "passed"
    assert found["task_creator"] == "Admin"
    assert 0 < found["create_time"] <= found["start_time"] <= found["end_time"]
    assert "task_revoker" not in found
    assert "error" not in found
    stage = found["stages"][0]
    assert (stage["name"], stage["status"], stage["parallel"]) == ("talk", "passed", False)
    assert "approval" not in stage
    job = stage["jobs"][0]
    assert (job["name"], job["type"], job["status"], job["error"], job["origin_name"]) == (
        "say", "freestyle", "passed", "", "say",
    )  # fmt: skip
    assert {"key": "WHO", "value": "me", "type": "string", "is_credential": False}.items() <= job["spec"]["envs"][
        0
    ].items()


@pytest.mark.parametrize(
    "names",
    [
        {"workflow_name": "w", "project_name": PROJECT},
        {"workflowKey": "w", "projectKey": PROJECT},
        {"workflow_key": "w", "workflow_name": "w", "project_key": PROJECT, "projectName": PROJECT},
        {"workflow_key": "", "workflow_name": "w", "project_key": None, "project_name": PROJECT},
    ],
)
async def test_every_spelling_starts(server: Site, names: dict[str, str]) -> None:
    await server.create("w")
    reply = await server.post(TASK, json={**names, "inputs": body()["inputs"]})
    assert reply.status_code == 200, reply.text


REFUSED: list[tuple[dict[str, Any], tuple[int, int, str]]] = [
    ({"workflow_key": "none"}, (400, 6542, NO_DOCUMENTS)),
    ({"project_key": "other"}, (400, 6542, NO_DOCUMENTS)),
    ({"inputs": []}, (400, 6160, "no stage found in workflow task: w,taskID: 1")),
    ({"inputs": None}, (400, 6160, "no stage found in workflow task: w,taskID: 1")),
    ({"workflow_name": "x"}, (400, 400, "conflicting values for workflow_key")),
    ({"project_name": "x"}, (400, 400, "conflicting values for project_key")),
    ({"project_key": ""}, (400, 400, "project_key is required")),
    ({"project_key": 5}, (400, 400, "project_key: must be a string")),
    ({"workflow_key": ""}, (400, 400, "workflow_key: is required")),
    (
        {"parameters": [{"name": "no-such", "type": "string", "value": "x"}]},
        (400, 400, "param no-such not found in workflow"),
    ),
    (
        {"workflow_key": 7, "inputs": [{"job_name": 1}, {"job_type": "x"}, "text"], "parameters": {}},
        (
            400,
            400,
            "workflow_key: must be a string; parameters: must be a list; inputs[0].job_name: must be a string; "
            "inputs[1].job_name: is required; inputs[2]: must be an object",
        ),
    ),
    (
        {"inputs": [{"job_name": "say", "parameters": {"kv": [{"key": "A", "value": 1}], "repo_info": {}}}]},
        (
            400,
            400,
            "inputs[0].parameters.kv[0].value: must be a string; inputs[0].parameters.repo_info: must be a list",
        ),
    ),
]


@pytest.mark.parametrize(("change", "answer"), REFUSED, ids=lambda value: str(value)[:50])
async def test_refused_starts(server: Site, change: dict[str, Any], answer: tuple[int, int, str]) -> None:
    await server.create("w")
    assert told(await server.post(TASK, json=body(**change))) == answer
    reply = await server.get("/openapi/workflows/custom/w/tasks", params={"projectKey": PROJECT})
    assert reply.json() == {"total": 0, "workflow_tasks": []}


async def test_workflows_that_cannot_run(server: Site) -> None:
    await server.create("off", disabled=True)
    await server.create("zero", concurrency_limit=0)
    assert told(await server.post(TASK, json=body("off"))) == (400, 6160, "workflow is disabled")
    assert told(await server.post(TASK, json=body("zero"))) == (
        400, 6160, "workflow zero is not executable: concurrency_limit is 0",
    )  # fmt: skip


async def test_unknown_names_warn_or_are_refused_when_strict(server: Site) -> None:
    await server.create("w")
    sent = body(inputs=[{"job_name": "say"}, {"job_name": "sing"}])
    reply = await server.post(TASK, json=sent)
    assert reply.status_code == 200
    assert "sing" in str(reply.json()["warnings"])
    assert "sing" in str((await server.task("w", 1))["warnings"])
    status, code, said = told(await server.post(TASK, json=sent, params={"strict": "true"}))
    assert (status, code) == (400, 6160)
    assert "sing" in said
    assert told(await server.post(TASK, json=sent, params={"strict": "maybe"}))[:2] == (400, 400)


async def test_a_request_repeated_with_its_key_starts_once(server: Site) -> None:
    await server.create("w")
    key = {"Idempotency-Key": "abc"}
    first = await server.post(TASK, json=body(), headers=key)
    again = await server.post(TASK, json=body(), headers=key)
    assert first.json()["task_id"] == again.json()["task_id"] == 1
    assert (await server.post(TASK, json=body(), headers={"Idempotency-Key": "abd"})).json()["task_id"] == 2
    for wrong in ("x" * 256, "two words", "\N{LATIN SMALL LETTER E WITH ACUTE}"):
        reply = await server.post(TASK, json=body(), headers={"Idempotency-Key": wrong.encode("latin-1")})
        assert reply.status_code == 400, wrong
    await server.create("v")
    said = "this Idempotency-Key was used to start w:1, of another workflow"
    assert told(await server.post(TASK, json=body("v"), headers=key)) == (400, 400, said)


@pytest.mark.parametrize("sent", [b"", b"{", b"[]", b'{"a":1,"a":2}', b'{"inputs": NaN}', b"[" * 10_000])
async def test_unreadable_bodies(server: Site, sent: bytes) -> None:
    for path in (TASK, APPROVE):
        if path == APPROVE and not sent:
            continue  # its values may stand in the query
        assert told(await server.post(path, content=sent))[:2] == (400, 400), path


# -- detail and list


DIALECTS: list[tuple[dict[str, str], dict[str, Any] | None, str]] = [
    ({"taskId": "1", "workflowKey": "w"}, None, "The w"),
    ({"task_id": "1", "workflow_key": "w"}, None, "The w"),
    ({"task_id": "1", "workflow_name": "w"}, None, "w"),
    ({"taskID": "1", "workflowName": "w"}, None, "w"),
    ({}, {"task_id": 1, "workflow_name": "w"}, "w"),
    ({}, {"taskId": 1, "workflowKey": "w"}, "The w"),
    ({"task_id": "1"}, {"workflow_key": "w"}, "The w"),
    ({"task_id": "1", "workflowKey": "w"}, {"task_id": 1}, "The w"),
    ({"task_id": "1", "workflow_name": "w"}, {"workflow_name": None}, "w"),
    ({"task_id": "1", "workflow_name": ""}, {"workflowName": "", "workflow_key": "w"}, "The w"),
]


@pytest.mark.parametrize(("query", "sent", "name"), DIALECTS)
async def test_detail_in_every_dialect(
    server: Site, query: dict[str, str], sent: dict[str, Any] | None, name: str
) -> None:
    await server.create("w")
    await server.run("w")
    reply = await server.get(TASK, params=query, json=sent)
    found = reply.json()
    assert (found["workflow_name"], found["workflow_key"], found["workflow_display_name"]) == (name, "w", "The w")
    assert (found["project_key"], found["project_name"], found["task_id"]) == (PROJECT, PROJECT, 1)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(
    ("query", "sent", "said"),
    [
        ({"taskId": "1"}, None, "workflowKey is required"),
        ({"workflowKey": "w"}, None, "taskId is required"),
        ({"workflowKey": "w", "taskId": ""}, {"task_id": None}, "taskId is required"),
        ({"workflowKey": "w", "taskId": "x"}, None, "taskId must be an integer"),
        ({"workflowKey": "w", "taskId": "9" * 30}, None, "taskId must be an integer"),
        ({"workflowKey": "w", "taskId": "1"}, {"task_id": 2}, "conflicting values for taskId"),
        ({"workflowKey": "w", "workflow_name": "v", "taskId": "1"}, None, "conflicting values for workflowKey"),
        ({"workflowKey": "w"}, {"task_id": "1"}, "task_id: must be an integer"),
    ],
)
async def test_how_a_task_must_be_named(server: Site, method: str, query: Any, sent: Any, said: str) -> None:
    assert told(await server.call(method, TASK, params=query, json=sent)) == (400, 400, said)


async def test_tasks_that_are_not_there(server: Site) -> None:
    await server.create("w")
    for query in ({"taskId": "9", "workflowKey": "w"}, {"taskId": "1", "workflowKey": "none"}):
        reply = await server.get(TASK, params=query)
        assert reply.status_code == 500
        assert reply.json() == {"code": 500, "description": NO_DOCUMENTS, "message": "Internal Error: "}
        assert told(await server.call("DELETE", TASK, params=query)) == (400, 6163, NO_DOCUMENTS)
    retry = "/openapi/workflows/custom/{}/task/{}"
    project = {"projectKey": PROJECT}
    assert told(await server.post(retry.format("w", 9), params=project)) == (400, 6161, NO_DOCUMENTS)
    assert told(await server.post(retry.format("w", "x"), params=project)) == (400, 400, "taksID is invalid")
    assert told(await server.post(retry.format("", "1"), params=project)) == (400, 400, "workflowKey is required")
    assert told(await server.post(retry.format("w", "1"))) == (400, 400, "projectKey is required")


async def test_lists_are_paged_newest_first(server: Site) -> None:
    await server.create("w")
    for _ in range(3):
        await server.run("w")
    path = "/openapi/workflows/custom/w/tasks"
    reply = (await server.get(path, params={"projectKey": PROJECT, "pageSize": "2"})).json()
    assert reply["total"] == 3
    assert [line["task_id"] for line in reply["workflow_tasks"]] == [3, 2]
    assert reply["workflow_tasks"][0]["workflow_name"] == "The w"
    second = (await server.get(path, params={"project_name": PROJECT, "page_num": "2", "page_size": "2"})).json()
    assert [line["task_id"] for line in second["workflow_tasks"]] == [1]
    past = (await server.get(path, params={"projectKey": PROJECT, "pageNum": "9"})).json()
    assert past == {"total": 3, "workflow_tasks": []}
    for other, project in (("none", PROJECT), ("w", "other")):
        reply = await server.get(f"/openapi/workflows/custom/{other}/tasks", params={"projectKey": project})
        assert reply.json() == {"total": 0, "workflow_tasks": []}
    reply = await server.get("/openapi/workflows/custom//tasks", params={"projectKey": PROJECT})
    assert told(reply) == (400, 400, "workflow name is required")
    assert told(await server.get(path)) == (400, 400, "projectKey is required")
    assert told(await server.get(path, params={"projectKey": PROJECT, "pageNum": "x"}))[:2] == (400, 400)


async def test_a_queued_task_says_why(server: Site) -> None:
    await server.create("w", "sleep 60", concurrency_limit=1)
    await server.run("w")
    await server.run("w")
    found = await server.task("w", 2)
    assert (found["status"], found["status_detail"], found["start_time"]) == ("created", "waiting", 0)
    assert found["queue"] == {
        "position": 1,
        "reason": "workflow_limit",
        "text": "its workflow runs 1 task at once (concurrency_limit)",
        "blocking": [1],
        "blocked_by": [{"workflow": "w", "number": 1}],
        "expected_start": None,
    }
    own = (await server.get("/api/v1/tasks/w/2/why")).json()
    assert (own["status_detail"], own["position"], own["expected_start"]) == ("waiting", 1, None)
    assert own["reasons"] == own["jobs"][0]["reasons"]
    assert own["reasons"][0].items() >= {
        "reason": "workflow_limit", "blocking": [{"workflow": "w", "number": 1}], "limit": 1,
    }.items()  # fmt: skip
    assert (await server.get("/api/v1/tasks/w/9/why")).status_code == 404
    assert found["stages"][0]["status"] == ""


async def test_credentials_are_masked_in_details(server: Site) -> None:
    params = [{"name": "TOKEN", "type": "string", "value": "s3cret-one", "is_credential": True}]
    sent = definition("w", "echo $TOKEN $KEY", params=params)
    envs = sent["stages"][0]["jobs"][0]["spec"]["properties"]["envs"]
    envs.append({"key": "KEY", "value": "s3cret-two", "type": "string", "is_credential": True})
    assert (await server.post(CREATE, json=sent)).status_code == 200
    await server.run("w")
    await server.done("w", 1)
    for path in (f"{TASK}?taskId=1&workflowKey=w", "/api/v1/tasks/w/1", "/api/v1/tasks/w/1/events"):
        text = (await server.get(path)).text
        assert "s3cret" not in text, path
    assert (await server.task("w", 1))["params"][0]["value"] == "********"
    log = await server.get("/openapi/logs/log/v4/workflow/w/1/say")
    assert "******** ********" in log.text


# -- cancel, retry


@pytest.mark.parametrize("by", ["query", "mixed", "body"])
async def test_cancelling_a_running_task(server: Site, by: str) -> None:
    await server.create("w", "echo up; sleep 60")
    await server.run("w")
    await server.world.until("w", 1, lambda d: d.stages[0].jobs[0].row.status == "running")
    query, sent = {
        "query": ({"taskId": "1", "workflowKey": "w"}, None),
        "mixed": ({"task_id": "1", "workflowKey": "w"}, None),
        "body": ({}, {"task_id": 1, "workflow_name": "w"}),
    }[by]
    reply = await server.call("DELETE", TASK, params=query, json=sent)
    assert (reply.status_code, reply.json()) == (200, {"message": "success"})
    assert (await server.task("w", 1))["status"] == "cancelled"
    found = await server.done("w", 1)
    assert (found["status_detail"], found["task_revoker"]) == ("cancelled", "Admin")
    assert found["stages"][0]["jobs"][0]["status"] == "cancelled"
    again = await server.call("DELETE", TASK, params={"taskId": "1", "workflowKey": "w"})
    assert again.json() == {"message": "success"}


async def test_passed_tasks_are_neither_cancelled_nor_retried(server: Site) -> None:
    await server.create("w")
    await server.run("w")
    await server.done("w", 1)
    reply = await server.call("DELETE", TASK, params={"taskId": "1", "workflowKey": "w"})
    assert told(reply) == (400, 6163, "task: w:1 is passed, cannot cancel")
    retry = "/openapi/workflows/custom/w/task/1"
    reply = await server.post(retry, params={"projectKey": PROJECT})
    assert told(reply) == (400, 6164, "the task cannot be retried in its current status")
    reply = await server.post(retry, params={"projectKey": PROJECT}, language="zh-CN")
    assert told(reply) == (400, 6164, "工作流任务状态无法重试")
    assert reply.json()["message"] == "重试工作流任务失败"
    assert told(await server.post(retry, params={"projectKey": "other"})) == (400, 6161, NO_DOCUMENTS)


async def test_retrying_a_failed_task(server: Site, tmp_path: Any) -> None:
    flag = tmp_path / "flag"
    await server.create("w", f"set -e; test -e {flag}")
    await server.run("w")
    assert (await server.done("w", 1))["status"] == "failed"
    flag.touch()
    reply = await server.post("/openapi/workflows/custom/w/task/1", params={"projectKey": PROJECT})
    assert reply.json() == {"message": "success"}
    found = await server.done("w", 1)
    assert (found["status"], found["retry_num"], found["is_restart"]) == ("passed", 1, True)


# -- approve


@pytest.mark.parametrize("by", ["query", "body"])
async def test_approving_a_stage(server: Site, by: str) -> None:
    admin = (await server.get("/api/v1/me")).json()["uid"]
    assert (await server.post(CREATE, json=with_approval("w", users=(admin, "ann")))).status_code == 200
    await server.run("w")
    found = await waits(server, "w", 1)
    assert (found["status"], found["status_detail"]) == ("running", "wait_for_approval")
    assert found["stages"][0]["status"] == "wait_for_approval"
    values: dict[str, Any] = {"task_id": 1, "stage_name": "talk", "approve": True, "comment": "LGTM"}
    if by == "query":
        reply = await server.post(APPROVE, params={**values, "workflow_name": "w", "approve": "true"})
    else:
        reply = await server.post(APPROVE, json={**values, "workflow_key": "w"})
    assert (reply.status_code, reply.json()) == (200, {"message": "success"})
    approval = (await server.done("w", 1))["stages"][0]["approval"]
    voter = approval["approve_users"][0]
    assert (voter["reject_or_approve"], voter["comment"], voter["operation_time"] > 0) == ("approve", "LGTM", True)
    assert approval["approve_users"][1]["operation_time"] == 0
    assert (approval["enabled"], approval["timeout"], approval["needed_approvers"]) == (True, 120, 1)
    assert (approval["description"], approval["reject_or_approve"], approval["status"]) == (
        "Need approval", "approve", "passed",
    )  # fmt: skip
    native = approval["native_approval"]
    assert native["approve_users"] == approval["approve_users"]
    assert approval["end_time"] >= approval["start_time"] > 0


async def test_leaving_out_the_vote_rejects(server: Site) -> None:
    assert (await server.post(CREATE, json=with_approval("w", users=("ann", "ben")))).status_code == 200
    await server.run("w")
    await waits(server, "w", 1)
    vote = {"task_id": 1, "workflow_key": "w", "stage_name": "talk"}
    assert told(await server.post(APPROVE, json=vote)) == (400, 6169, "user Admin has no authority to approve")
    reply = await server.post(APPROVE, "reader-token-000000", json=vote)
    assert reply.json() == {"message": "success"}
    found = await server.done("w", 1)
    assert (found["status"], found["status_detail"]) == ("failed", "reject")
    assert found["stages"][0]["status"] == found["stages"][0]["approval"]["reject_or_approve"] == "reject"


async def test_voting_twice(server: Site) -> None:
    assert (await server.post(CREATE, json=with_approval("w", needed=2, users=("ann", "ben")))).status_code == 200
    await server.run("w")
    await waits(server, "w", 1)
    vote = {"task_id": 1, "workflow_key": "w", "stage_name": "talk", "approve": True}
    assert (await server.post(APPROVE, "reader-token-000000", json=vote)).status_code == 200
    reply = await server.post(APPROVE, "reader-token-000000", json=vote)
    assert told(reply) == (400, 6169, "Ann have approve already")
    assert reply.json()["message"] == "Approve workflow task failed"


async def test_nothing_to_approve(server: Site) -> None:
    await server.create("w")
    await server.run("w")
    for key, number, stage in (("w", 1, "talk"), ("w", 9, "talk"), ("none", 1, "talk"), ("w", 1, "other")):
        vote = {"task_id": number, "workflow_key": key, "stage_name": stage, "approve": True}
        said = f"workflow {key} ID {number} stage {stage} do not need approve"
        assert told(await server.post(APPROVE, json=vote)) == (400, 6169, said)
    assert told(await server.post(APPROVE, json={"workflow_key": "w"})) == (
        400, 6169, "can not find approved workflow: w, taskID: 0,stage: ",
    )  # fmt: skip
    assert told(await server.post(APPROVE)) == (400, 6169, "can not find approved workflow: , taskID: 0,stage: ")
    assert told(await server.post(APPROVE, json={"task_id": "1"})) == (400, 400, "task_id: must be an integer")
    long = {"workflow_key": "w", "task_id": 1, "stage_name": "talk", "comment": "x" * 4097}
    assert told(await server.post(APPROVE, json=long)) == (400, 400, "comment is longer than 4096 characters")
