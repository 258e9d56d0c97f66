"""Approval tickets, through the whole application."""

import asyncio
from typing import Any

import pytest

from api.site import PROJECT, Site
from api.test_resources import ok, refused
from cador.operations.resources import LOCAL_CLUSTER

pytestmark = pytest.mark.anyio
PATH = "/openapi/ticket/approval"
RUN = "/openapi/workflows/custom/task"
DENIED = "workflow task creation denied: "
FAR = 4_000_000_000


async def give(server: Site, number: str, **more: Any) -> None:
    body = {"project_key": PROJECT, "approval_id": number, "status": 1} | more
    assert await ok(await server.post(PATH, json=body)) == {"code": 1, "message": "success"}


async def define(server: Site, key: str = "release", **more: Any) -> None:
    step = {"name": "shell", "type": "shell", "spec": {"script": "exit 0"}}
    jobs = [
        {"name": "b", "type": "freestyle", "spec": {"properties": {"timeout": 1}, "steps": [step]}},
        {"name": "d", "type": "zadig-deploy",
         "spec": {"env": "dev", "source": "runtime", "deploy_contents": ["image"], "services": []}},
    ]  # fmt: skip
    body = {
        "name": key, "display_name": key, "project": PROJECT, "concurrency_limit": -1, "enable_approval_ticket": True,
        "stages": [{"name": "s", "parallel": False, "jobs": jobs}],
    }  # fmt: skip
    await ok(await server.post("/api/aslan/workflow/v4", json=body | more))


def wish(key: str = "release", *, deploy: tuple[str, str, str] | None = None, **more: Any) -> dict[str, Any]:
    inputs: list[dict[str, Any]] = [{"job_name": "b", "job_type": "freestyle", "parameters": {}}]
    if deploy is not None:
        env, service, module = deploy
        listed = [{"service_name": service, "service_module": module, "image_name": "x:1"}]
        parameters = {"env_name": env, "service_list": listed}
        inputs.append({"job_name": "d", "job_type": "zadig-deploy", "parameters": parameters})
    return {"workflow_key": key, "project_key": PROJECT, "inputs": inputs} | more


async def test_a_ticket_lets_one_task_in(server: Site) -> None:
    await define(server)
    needed = "workflow need approval ticket to run, which is not supported by openAPI right now."
    refused(await server.post(RUN, json=wish()), 6160, needed)
    await give(server, "CHG-1")
    started = await ok(await server.post(RUN, json=wish(approval_id="CHG-1")))
    task = await ok(await server.get(RUN, params={"taskId": started["task_id"], "workflowKey": "release"}))
    (ticket,) = await ok(await server.get(PATH, params={"projectKey": PROJECT}))
    assert (task["approval_id"], task["approval_ticket_id"]) == ("CHG-1", ticket["id"])
    assert ticket["used_by"] == {"workflow_key": "release", "task_id": started["task_id"]}
    used = f"{DENIED}the approval ticket was used by task release:{started['task_id']} already."
    refused(await server.post(RUN, json=wish(approval_id="CHG-1")), 6160, used)
    refused(await server.post(RUN, json=wish(approval_ticket_id=ticket["id"])), 6160, used)
    await give(server, "CHG-2")
    newest = (await ok(await server.get(PATH, params={"projectKey": PROJECT})))[0]
    await ok(await server.post(RUN, json=wish(approval_ticket_id=newest["id"])))


async def test_one_ticket_makes_one_task_however_many_ask(server: Site) -> None:
    await define(server)
    await give(server, "CHG-1")
    replies = await asyncio.gather(*(server.post(RUN, json=wish(approval_id="CHG-1")) for _ in range(8)))
    assert sorted(reply.status_code for reply in replies) == [200] + [400] * 7
    listed = await ok(await server.get("/openapi/workflows/custom/release/tasks", params={"projectKey": PROJECT}))
    assert listed["total"] == 1


async def test_the_same_request_again_is_the_same_task(server: Site) -> None:
    await define(server)
    await give(server, "CHG-1")
    key = {"Idempotency-Key": "once"}
    first, second = [await ok(await server.post(RUN, json=wish(approval_id="CHG-1"), headers=key)) for _ in "ab"]
    assert first["task_id"] == second["task_id"]


async def test_what_a_ticket_does_not_allow(server: Site) -> None:
    await define(server)
    await define(server, "open", enable_approval_ticket=False)
    none = "cannot find approval ticket of id: {}, error: mongo: no documents in result"
    await give(server, "early", execution_window_start=FAR)
    await give(server, "late", execution_window_end=1)
    await give(server, "void", status=0)
    await give(server, "others", users=[{"name": "Else", "email": "else@example.com"}])
    window = f"{DENIED}not in execution time window."
    for number, text in (
        ("nothing", none.format("nothing")), ("void", none.format("void")), ("early", window), ("late", window),
    ):  # fmt: skip
        refused(await server.post(RUN, json=wish(approval_id=number)), 6160, text)
    reply = await server.post(RUN, json=wish(approval_id="others"))
    assert reply.json()["code"] == 6160
    assert reply.json()["description"].endswith(" is not allowed to create workflow task.")
    await ok(await server.post(RUN, json=wish("open", approval_id="nothing")))
    await ok(await server.post("/openapi/projects/project", json={
        "project_key": "other", "project_name": "other", "project_type": "yaml"}))  # fmt: skip
    await give(server, "elsewhere", project_key="other")
    refused(await server.post(RUN, json=wish(approval_id="elsewhere")), 6160, f"{DENIED}project key mismatch.")


async def test_environments_and_services_are_those_of_the_ticket(server: Site) -> None:
    await define(server)
    registry = {"address": "https://hub.example.com", "provider": "harbor", "namespace": "first"}
    await ok(await server.post("/openapi/system/registry", json=registry))
    ident = (await ok(await server.get("/openapi/system/registry")))[0]["registry_id"]
    for env in ("dev", "test", "prod"):
        body = {"project_key": PROJECT, "env_key": env, "cluster_id": LOCAL_CLUSTER, "namespace": f"shop-{env}"}
        await ok(await server.post("/openapi/environments", json=body | {"registry_id": ident}))
    await give(server, "CHG-1", envs="dev, test", services=[{"service_name": "api", "service_module": "api"}])
    env = f"{DENIED}environment prod is not allowed by the approval ticket."
    refused(await server.post(RUN, json=wish(approval_id="CHG-1", deploy=("prod", "api", "api"))), 6160, env)
    service = f"{DENIED}service web/web is not allowed by the approval ticket."
    refused(await server.post(RUN, json=wish(approval_id="CHG-1", deploy=("dev", "web", "web"))), 6160, service)
    (ticket,) = await ok(await server.get(PATH, params={"projectKey": PROJECT}))
    assert (ticket["envs"], ticket["used_by"]) == (["dev", "test"], None), "what was refused uses nothing up"
    await ok(await server.post(RUN, json=wish(approval_id="CHG-1", deploy=("test", "api", "api"))))


async def test_tickets_are_changed_and_deleted(server: Site) -> None:
    await define(server)
    await give(server, "CHG-1")
    body = {"project_key": PROJECT, "status": 0}
    await ok(await server.call("PUT", f"{PATH}/CHG-1", json=body))
    assert (await server.post(RUN, json=wish(approval_id="CHG-1"))).status_code == 400
    mine = {"projectName": PROJECT}
    assert await ok(await server.get("/api/aslan/ticket/approval", params=mine)) == []
    await ok(await server.call("PUT", f"{PATH}/CHG-1", json=body | {"status": 1, "envs": ["dev"]}))
    found = await ok(await server.get("/api/aslan/ticket/approval", params=mine | {"query": "HG"}))
    assert [(one["approval_id"], one["envs"]) for one in found] == [("CHG-1", ["dev"])]
    moved = await server.call("PUT", f"{PATH}/CHG-1", json={"project_key": "other", "status": 1})
    assert moved.status_code == 400
    refused(
        await server.call("PUT", f"{PATH}/CHG-1", json=body | {"approval_id": "CHG-2"}), 400,
        "approval_id cannot be changed",
    )  # fmt: skip
    await ok(await server.call("PUT", PATH, json=body | {"approval_id": "CHG-1", "status": 1, "envs": ["test"]}))
    (ticket,) = await ok(await server.get(PATH, params={"projectKey": PROJECT}))
    assert (ticket["status"], ticket["envs"]) == (1, ["test"])
    refused(await server.call("PUT", PATH, json=body), 400, "approval_id cannot be empty")
    unknown = await server.call("PUT", PATH, json=body | {"approval_id": "CHG-9"})
    refused(unknown, 7100, "mongo: no documents in result")
    assert (
        await server.call("PUT", PATH, "reader-token-000000", json=body | {"approval_id": "CHG-1"})
    ).status_code == 403
    await ok(await server.call("DELETE", f"{PATH}/CHG-1", params={"projectKey": PROJECT}))
    assert await ok(await server.get(PATH, params={"projectKey": PROJECT})) == []


async def test_what_is_refused(server: Site) -> None:
    body = {"project_key": PROJECT, "approval_id": "CHG-1", "status": 1}
    refused(await server.post(PATH, json=body | {"approval_id": ""}), 400, "approval_id cannot be empty")
    refused(await server.post(PATH, json=body | {"project_key": ""}), 400, "project_key cannot be empty")
    window = {"execution_window_start": 5, "execution_window_end": 4}
    text = "invalid time window: start time greater than end time"
    refused(await server.post(PATH, json=body | window), 400, text)
    for wrong in ({"status": 2}, {"status": "1"}, {"status": True}, {"status": 1.0},
                  {"services": [{"service_name": "a\n", "service_module": "b"}]},
                  {"envs": 7}, {"services": [{}]}, {"users": [{"name": "x"}]},
                  {"execution_window_start": -1}, {"execution_window_end": 1 << 63}):  # fmt: skip
        assert (await server.post(PATH, json=body | wrong)).status_code == 400, wrong
    without = {key: value for key, value in body.items() if key != "status"}
    assert (await server.post(PATH, json=without)).status_code == 400
    missing = "failed to find project: nowhere, error: mongo: no documents in result"
    refused(await server.post(PATH, json=body | {"project_key": "nowhere"}), 7100, missing)
    await give(server, "CHG-1")
    refused(await server.post(PATH, json=body), 7100, "mongo duplicate key error")


async def test_a_token_of_the_scope_ticket_makes_tickets_and_nothing_else(server: Site) -> None:
    await define(server)
    users = (await ok(await server.get("/openapi/users")))["users"]
    eve = next(user["uid"] for user in users if user["account"] == "eve")
    made = await ok(await server.post(f"/openapi/users/{eve}/tokens", json={"name": "t", "scopes": ["ticket"]}))
    token = made["token"]
    body = {"project_key": PROJECT, "approval_id": "CHG-1", "status": 1}
    await ok(await server.post(PATH, token, json=body))
    await ok(await server.call("PUT", f"{PATH}/CHG-1", token, json=body | {"envs": ["dev"]}))
    assert [one["envs"] for one in await ok(await server.get(PATH, token, params={"projectKey": PROJECT}))] == [["dev"]]
    for reply in (
        await server.post(RUN, token, json=wish(approval_id="CHG-1")),
        await server.get("/openapi/workflows", token, params={"projectKey": PROJECT}),
        await server.get("/api/aslan/ticket/approval", token, params={"projectName": PROJECT}),
        await server.post("/openapi/workflows/view", token, json={"project_key": PROJECT, "name": "x"}),
    ):
        assert reply.status_code == 403, reply.text
    for who in ("runner-token-000000", "reader-token-000000", "stranger-token-0000"):
        assert (await server.post(PATH, who, json=body | {"approval_id": "CHG-2"})).status_code == 403
        assert (await server.call("PUT", f"{PATH}/CHG-1", who, json=body)).status_code == 403
        assert (await server.get(PATH, who, params={"projectKey": PROJECT})).status_code == 403
        gone = await server.call("DELETE", f"{PATH}/CHG-1", who, params={"projectKey": PROJECT})
        assert gone.status_code == 403
    (ticket,) = await ok(await server.get(PATH, params={"projectKey": PROJECT}))
    assert ticket["used_by"] is None


async def test_a_retry_stays_within_what_the_ticket_allows(server: Site) -> None:
    await define(server)
    registry = {"address": "https://hub.example.com", "provider": "harbor", "namespace": "first"}
    await ok(await server.post("/openapi/system/registry", json=registry))
    ident = (await ok(await server.get("/openapi/system/registry")))[0]["registry_id"]
    for env in ("dev", "test", "prod"):
        body = {"project_key": PROJECT, "env_key": env, "cluster_id": LOCAL_CLUSTER, "namespace": f"shop-{env}"}
        await ok(await server.post("/openapi/environments", json=body | {"registry_id": ident}))
    await give(server, "CHG-1", envs="dev, test")
    started = await ok(await server.post(RUN, json=wish(approval_id="CHG-1", deploy=("test", "api", "api"))))
    number = started["task_id"]
    assert (await server.done("release", number))["status"] == "failed"

    async def again(env: str = "") -> Any:
        edits = [{"job_name": "d", "parameters": {"env_name": env}}] if env else []
        return await server.post(f"/api/v1/tasks/release/{number}/retry", json={"from": "api-api-d", "inputs": edits})

    reply = await again("prod")
    assert reply.status_code == 400
    assert "environment prod is not allowed by the approval ticket" in reply.text
    assert (await server.task("release", number))["status"] == "failed"
    await ok(await again("dev"))
    await server.done("release", number)
    await ok(await again())
    await server.done("release", number)
    await ok(await server.call("DELETE", f"{PATH}/CHG-1", params={"projectKey": PROJECT}))
    assert "the approval ticket of this task is gone" in (await again("test")).text
    await ok(await again())
    await server.done("release", number)
