"""Retries of one's choice, manual stages and attempts over HTTP."""

import asyncio
from typing import Any

import pytest

from api.site import Site
from support.world import PROJECT

pytestmark = pytest.mark.anyio

RETRY = "/openapi/workflows/custom/w/task/1"
OWN = "/api/v1/tasks/w/1"
MANUAL = "/openapi/workflows/custom/w/task/1/manual-exec"
PARAMS = {"projectKey": PROJECT}
READER, RUNNER, SEES, STRANGER = (
    "reader-token-000000", "runner-token-000000", "sees-token-00000000", "stranger-token-0000",
)  # fmt: skip
CODE = [{"name": "CODE", "type": "string", "value": "1"}, {"name": "KEY", "value": "abcd-1", "is_credential": True}]


def job(name: str, script: str) -> dict[str, Any]:
    steps = [{"name": "shell", "type": "shell", "spec": {"script": script}}]
    envs = [{"key": "A", "value": "1", "type": "string"}]
    return {"name": name, "type": "freestyle", "spec": {"properties": {"timeout": 5, "envs": envs}, "steps": steps}}


def stages(*scripts: str, **manual: Any) -> list[dict[str, Any]]:
    """Stage ``s1`` with job ``j1`` and so on; *manual*: of the last one."""
    made = [
        {"name": f"s{n}", "parallel": False, "jobs": [job(f"j{n}", script)]}
        for n, script in enumerate(scripts, start=1)
    ]
    if manual:
        made[-1]["manual_exec"] = {"enabled": True, **manual}
    return made


def told(reply: Any) -> tuple[int, int, str]:
    found = reply.json()
    return reply.status_code, found.get("code", 0), found.get("description", found.get("detail", ""))


async def failed(server: Site) -> None:
    await server.create("w", stages=stages("exit 0", "echo $CODE $A\nexit $CODE"), params=CODE)
    await server.run("w", "j1", "j2")
    assert (await server.done("w", 1))["status"] == "failed"


async def paused(server: Site, *users: str, modify: bool = True) -> None:
    named = [{"type": "user", "user_id": user, "user_name": user.title()} for user in users]
    await server.create("w", stages=stages("exit 0", "echo A=$A", modify_params=modify, manual_exec_users=named))
    await server.run("w", "j1", "j2")
    await server.world.until("w", 1, lambda d: d.row.status == "pause")


# -- retry


async def test_a_job_is_run_again_with_another_value(server: Site) -> None:
    await failed(server)
    reply = await server.post(f"{OWN}/retry", json={"jobs": ["j2"], "parameters": {"CODE": "0", "KEY": "abcd-2"}})
    assert reply.json() == {"message": "success"}
    found = await server.done("w", 1)
    assert (found["status"], found["retry_num"]) == ("passed", 1)
    shown = (await server.get(f"{OWN}/jobs/j2/attempts")).json()
    assert [(one["attempt"], one["status"], one["error"]) for one in shown["attempts"]] == [
        (1, "failed", "exit status 1"), (2, "passed", ""),
    ]  # fmt: skip
    first, second = shown["attempts"]
    assert first["changes"] == []
    assert second["changes"] == [
        {"name": "CODE", "before": "1", "after": "0"},
        {"name": "KEY", "before": "********", "after": "********"},
    ]
    assert [step["status"] for step in first["steps"]] == ["failed"]
    assert first["took_s"] >= 0
    logs = [(await server.get(one["log"], headers={"Accept": "text/plain"})).text for one in shown["attempts"]]
    assert "1 1" in logs[0]
    assert "0 1" in logs[1]
    everything = (await server.get(f"{OWN}/events")).text + (await server.get(OWN)).text
    assert "abcd-" not in everything


async def test_from_a_job_on(server: Site) -> None:
    await failed(server)
    reply = await server.post(f"{OWN}/retry", json={"from": "j1", "inputs": [
        {"job_name": "j1", "job_type": "freestyle", "parameters": {"kv": [{"key": "A", "value": "2"}]}},
    ]})  # fmt: skip
    assert reply.status_code == 200, reply.text
    await server.done("w", 1)
    shown = (await server.get(f"{OWN}/jobs/j1/attempts")).json()
    assert [one["changes"] for one in shown["attempts"]] == [[], [{"name": "j1.kv.A", "before": "", "after": "2"}]]


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"jobs": ["j1"]}, (409, 6164, "task: job j1 is passed, cannot retry")),
        ({"jobs": ["none"]}, (404, 0, "job none not found")),
        ({"jobs": ["j2"], "from": "j1"}, (400, 0, "jobs and from exclude each other")),
        ({"jobs": "j2"}, (400, 0, "jobs: must be a list")),
        ({"parameters": {"NONE": "1"}}, (400, 0, "parameters: param NONE not found in workflow")),
        ({"parameters": {"CODE": {"branch": "main"}}}, (400, 0, "CODE: param CODE is no repository")),
        ({"parameters": {"CODE": 1}}, (400, 0, None)),
        ({"inputs": [{"job_name": "none"}]}, (400, 0, "inputs: job none is not part of task w:1")),
        ({"inputs": [{}]}, (400, 0, "inputs[0].job_name: is required")),
        ({"from_job": "j2"}, (400, 0, "from_job: is not known here")),
    ],
)
async def test_bad_wishes_are_named(server: Site, body: dict[str, Any], answer: tuple[int, int, str | None]) -> None:
    await failed(server)
    reply = await server.post(f"{OWN}/retry", json=body)
    status, code, text = told(reply)
    assert (status, code) == answer[:2], reply.text
    assert answer[2] is None or text == answer[2]
    assert (await server.task("w", 1))["retry_num"] == 0


async def test_of_two_retries_at_once_one_wins(server: Site) -> None:
    await server.create("w", "sleep 1\nexit 1")
    await server.run("w")
    await server.done("w", 1)
    replies = await asyncio.gather(*(server.post(RETRY, params=PARAMS) for _ in range(2)))
    assert sorted(reply.status_code for reply in replies) == [200, 400]
    refused = next(reply for reply in replies if reply.status_code == 400)
    assert told(refused) == (400, 6164, "the task cannot be retried in its current status")
    assert told(await server.post(f"{OWN}/retry")) == (409, 6164, "task: w:1 is running, cannot retry")


async def test_an_empty_body_is_a_whole_retry(server: Site) -> None:
    await failed(server)
    assert (await server.post(f"{OWN}/retry")).status_code == 200
    found = await server.done("w", 1)
    assert found["retry_num"] == 1


@pytest.mark.parametrize(
    ("token", "status"), [(RUNNER, 200), (READER, 403), (SEES, 403), (STRANGER, 403), (None, 401)]
)  # fmt: skip
async def test_who_may_retry(server: Site, token: str | None, status: int) -> None:
    await failed(server)
    assert (await server.post(f"{OWN}/retry", token, json={"from": "j1"})).status_code == status


async def test_attempts_of_what_is_not_there(server: Site) -> None:
    await failed(server)
    assert told(await server.get(f"{OWN}/jobs/none/attempts"))[0] == 404
    assert told(await server.get("/api/v1/tasks/w/9/jobs/j1/attempts"))[0] == 404
    assert (await server.get(f"{OWN}/jobs/j1/attempts", STRANGER)).status_code == 403


# -- manual stages


async def test_a_paused_task_is_shown_as_running(server: Site) -> None:
    await paused(server, "ann")
    found = await server.task("w", 1)
    assert (found["status"], found["status_detail"], found["end_time"]) == ("running", "pause", 0)
    stage = found["stages"][1]
    assert (stage["status"], stage["start_time"]) == ("pause", 0)
    assert stage["manual_exec"] == {
        "enabled": True, "modify_params": True, "excuted": False, "manual_exector_name": "",
        "manual_exec_users": [{"type": "user", "user_id": "ann", "user_name": "Ann"}],
    }  # fmt: skip
    own = (await server.get(OWN)).json()["stages"][1]["manual"]
    assert own == {"modify_params": True, "executors": [{"user_id": "ann", "user_name": "Ann"}], "executed_by": ""}


async def test_who_is_named_executes_it_without_a_role(server: Site) -> None:
    await paused(server, "ann", "eve")
    state = (await server.get(MANUAL, STRANGER, params=PARAMS)).json()
    assert state == {
        "project_key": PROJECT, "workflow_key": "w", "task_id": 1, "status": "running", "status_detail": "pause",
        "stage_name": "s2", "can_execute": True, "modify_params": True,
        "executors": [
            {"type": "user", "user_id": uid, "user_name": uid.title(), "group_id": "", "group_name": ""}
            for uid in ("ann", "eve")
        ],
    }  # fmt: skip
    body = {"stage_name": "s2", "inputs": [{"job_name": "j2", "parameters": {"kv": [{"key": "A", "value": "2"}]}}]}
    reply = await server.post(MANUAL, STRANGER, params=PARAMS, json=body)
    assert reply.json() == {"message": "success"}, reply.text
    found = await server.done("w", 1)
    assert (found["status"], found["stages"][1]["manual_exec"]["manual_exector_name"]) == ("passed", "Eve")
    assert "A=2" in server.world.log("w", 1, "j2")
    after = (await server.get(MANUAL, params=PARAMS)).json()
    assert (after["stage_name"], after["can_execute"], after["executors"]) == ("", False, [])


async def test_others_do_not(server: Site) -> None:
    await paused(server, "ann")
    body = {"stage_name": "s2"}
    answer = (400, 6169, "user Ben is not authorized to execute stage s2")
    assert told(await server.post(MANUAL, RUNNER, params=PARAMS, json=body)) == answer
    assert (await server.get(MANUAL, RUNNER, params=PARAMS)).json()["can_execute"] is False
    assert (await server.post(MANUAL, STRANGER, params=PARAMS, json=body)).status_code == 403
    assert (await server.get(MANUAL, STRANGER, params=PARAMS)).status_code == 403
    assert (await server.post(MANUAL, None, params=PARAMS, json=body)).status_code == 401
    assert (await server.post(MANUAL, params=PARAMS, json=body)).status_code == 200, "a system administrator may"


async def test_where_nobody_is_named_all_may_who_run_it(server: Site) -> None:
    await paused(server)
    assert (await server.get(MANUAL, READER, params=PARAMS)).json()["can_execute"] is False
    assert told(await server.post(MANUAL, READER, params=PARAMS, json={"stage_name": "s2"}))[:2] == (400, 6169)
    assert (await server.post(MANUAL, RUNNER, params=PARAMS, json={"stage_name": "s2"})).status_code == 200


async def test_a_token_that_may_not_run_executes_nothing(server: Site) -> None:
    await paused(server, "ben")
    from cador.operations.actor import Actor
    from cador.operations.manual_stages import paused_stage

    for scopes, may in ((("get_workflow",), False), (("get_workflow", "run_workflow"), True)):
        actor = Actor("ben", "Ben", "ben", roles={PROJECT: ("project-admin",)}, scopes=scopes)
        assert (await paused_stage(server.world.ctx, actor, "w", 1, PROJECT)).can_execute is may


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({}, (400, 400, "stage_name is required")),
        ({"stage_name": "s1"}, (400, 6169, "stage s1 not found in workflow w or status is passed")),
        ({"stage_name": "none"}, (400, 6169, "stage none not found in workflow w or status is passed")),
        ({"stage_name": "s2", "jobs": []}, (400, 400, "the inputs of stage s2 cannot be changed when it is executed")),
        ({"stage_name": 7}, (400, 400, "stage_name: must be a string")),
    ],
)
async def test_bad_executions_are_named(server: Site, body: dict[str, Any], answer: tuple[int, int, str]) -> None:
    await paused(server, modify=False)
    assert told(await server.post(MANUAL, params=PARAMS, json=body)) == answer
    assert (await server.task("w", 1))["status_detail"] == "pause"


async def test_what_does_not_pause_is_not_executed(server: Site) -> None:
    await failed(server)
    reply = await server.post(MANUAL, params=PARAMS, json={"stage_name": "s2"})
    assert told(reply) == (400, 6169, "task status does not allow manual execution")
    assert told(await server.post(MANUAL, json={"stage_name": "s2"})) == (400, 400, "projectKey is required")
    other = "/openapi/workflows/custom/w/task/9/manual-exec"
    assert told(await server.post(other, params=PARAMS, json={"stage_name": "s"}))[:2] == (400, 6161)
    assert told(await server.get(other, params=PARAMS))[:2] == (400, 6161)


async def test_deleting_its_workflow_cancels_a_paused_task(server: Site) -> None:
    await paused(server)
    task_id = (await server.world.detail("w", 1)).row.id
    reply = await server.call("DELETE", "/openapi/workflows/custom", params={"workflowKey": "w", "projectKey": PROJECT})
    assert reply.status_code == 200, reply.text
    row = await server.world.db.read(lambda tx: tx.tasks.row(task_id))
    assert (row.status, row.revoker) == ("cancelled", "system")
