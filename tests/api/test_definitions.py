"""Workflow definitions over HTTP."""

import copy
from typing import Any

import pytest
import yaml

from api.site import Site, definition
from support.world import PROJECT

pytestmark = pytest.mark.anyio

CREATE = "/api/aslan/workflow/v4"
DETAIL = "/openapi/workflows/custom/{}/detail"
NO_DOCUMENTS = "mongo: no documents in result"


async def detail(server: Site, key: str, **options: Any) -> dict[str, Any]:
    reply = await server.get(DETAIL.format(key), params={"projectKey": PROJECT}, **options)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def test_created_workflows_are_listed_and_shown(server: Site) -> None:
    await server.create("one")
    await server.create("two", workflow_type="product")
    await server.create("three")
    reply = await server.get("/openapi/workflows", params={"projectKey": PROJECT})
    lines = reply.json()["workflows"]
    assert [line["workflow_key"] for line in lines] == ["three", "one", "two"]
    assert lines[2]["type"] == "product"
    assert set(lines[0]) == {"workflow_key", "workflow_name", "update_by", "update_time", "type"}
    assert lines[0]["workflow_name"] == "The three"
    assert lines[0]["update_by"] == "Admin"
    found = await detail(server, "one")
    assert found["workflow_name"] == "The one"
    assert found["created_by"] == found["updated_by"] == "Admin"
    assert found["stages"][0]["approval"] == {
        "enabled": False,
        "type": "native",
        "description": "",
        "native_approval": {
            "Timeout": 60, "timeout": 60, "approve_users": [], "NeededApprovers": 0, "needed_approvers": 0,
        },
    }  # fmt: skip
    job = found["stages"][0]["jobs"][0]
    assert (job["skipped"], job["run_policy"], job["service_modules"]) == (False, "", [])
    for name in ("params", "notify_ctls", "share_storages"):
        assert found[name] == []


async def test_lists_of_unknown_projects_and_views_are_empty(server: Site) -> None:
    await server.create("one")
    for query in ({"projectKey": "nowhere"}, {"projectKey": PROJECT, "viewName": "no such view"}):
        reply = await server.get("/openapi/workflows", params=query)
        assert (reply.status_code, reply.json()) == (200, {"workflows": []})


@pytest.mark.parametrize("alias", [CREATE, "/openapi/workflows/custom"])
async def test_yaml_is_as_good_as_json(server: Site, alias: str) -> None:
    text = yaml.safe_dump(definition("yes"), allow_unicode=True)
    reply = await server.post(alias, content=text.encode(), headers={"Content-Type": "text/plain"})
    assert (reply.status_code, reply.json()) == (200, {"message": "success"})
    assert (await detail(server, "yes"))["stages"][0]["jobs"][0]["name"] == "say"


async def test_a_shown_workflow_can_be_sent_back(server: Site) -> None:
    approval = {
        "enabled": True, "type": "native", "description": "sure?",
        "native_approval": {
            "timeout": 5, "needed_approvers": 1, "approve_users": [{"user_id": "ann", "user_name": "Ann"}],
        },
    }  # fmt: skip
    sent = definition("round")
    sent["stages"][0]["approval"] = approval
    sent["params"] = [
        {"name": "TOKEN", "type": "string", "value": "s3cret-value", "is_credential": True},
        {"name": "COLOUR", "type": "choice", "value": "red", "choice_否": ["red", "blue"]},
    ]
    sent["stages"][0]["jobs"][0]["spec"]["properties"]["envs"].append(
        {"key": "PASSWORD", "value": "hunter22", "type": "string", "is_credential": True}
    )
    sent["stages"][0]["jobs"][0]["spec"]["value"] = "left over"
    assert (await server.post(CREATE, json=sent)).status_code == 200
    shown = await detail(server, "round")
    assert "s3cret-value" not in str(shown)
    assert "hunter22" not in str(shown)
    assert shown["params"][0]["value"] == "********"
    assert shown["params"][1]["choice_option"] == ["red", "blue"]
    assert shown["stages"][0]["jobs"][0]["spec"]["value"] == "left over"
    native = shown["stages"][0]["approval"]["native_approval"]
    assert (native["Timeout"], native["timeout"], native["NeededApprovers"]) == (5, 5, 1)
    before = await stored(server, "round")
    assert "s3cret-value" not in str(before)
    reply = await server.call("PUT", f"{CREATE}/round", params={"projectName": PROJECT}, json=shown)
    assert (reply.status_code, reply.text) == (200, '{"message":"success"}')
    assert await stored(server, "round") == before
    again = await detail(server, "round")
    assert {**again, "update_time": 0} == {**shown, "update_time": 0}


async def stored(server: Site, key: str) -> str:
    row = await server.world.db.read(lambda tx: tx.workflows.find(key))
    assert row is not None
    return row.definition


async def test_a_mask_without_a_value_behind_it_is_refused(server: Site) -> None:
    params = [{"name": "T", "type": "string", "value": "********", "is_credential": True}]
    reply = await server.post(CREATE, json=definition("masked", params=params))
    assert reply.status_code == 400
    assert "not stored" in reply.json()["description"]


async def test_texts_that_look_sealed_are_refused(server: Site) -> None:
    sealed = server.world.sealer.seal("x", "elsewhere")
    params = [{"name": "T", "type": "string", "value": sealed, "is_credential": True}]
    assert (await server.post(CREATE, json=definition("planted", params=params))).status_code == 400


def _jobs(name: str, **fields: Any) -> list[dict[str, Any]]:
    job = copy.deepcopy(definition("x")["stages"][0]["jobs"][0])
    return [{**job, "name": name, **fields}]


BROKEN: list[tuple[dict[str, Any], int, str]] = [
    ({"name": "taken"}, 6540, f"workflow [taken] already exists in project [{PROJECT}]!"),
    ({"project": ""}, 6545, "project should not be empty"),
    ({"name": "no good"}, 6545, "a workflow key consists of letters, digits and hyphens"),
    ({"name": "nö"}, 6545, "a workflow key consists of letters, digits and hyphens"),
    ({"project": "nowhere"}, 6545, NO_DOCUMENTS),
    ({"stages": [{"name": "a", "jobs": []}, {"name": "a", "jobs": []}]}, 6545, "duplicated stage name: a"),
    ({"stages": [{"jobs": []}]}, 6545, "stage name should not be empty"),
    (
        {"stages": [{"name": "a", "jobs": _jobs("Bad")}]},
        6545,
        r"job name [Bad] did not match ^[a-z\u4e00-\u9fa5][a-z0-9\u4e00-\u9fa5-]{0,31}$",
    ),
    ({"stages": [{"name": "a", "jobs": _jobs("b") + _jobs("b")}]}, 6545, "duplicated job name: b"),
    ({"stages": [{"name": "a", "jobs": _jobs("b", type="unheard-of")}]}, 6545, "job type not supported"),
    (
        {"stages": [{"name": "a", "approval": {"enabled": True, "type": "native"}, "jobs": _jobs("b")}]},
        6545,
        "stage: a approval info error: approval not found",
    ),
    ({"display_name": "The taken"}, 6540, "display name [The taken] is already used in this project"),
]


@pytest.mark.parametrize(("change", "code", "said"), BROKEN, ids=lambda value: str(value)[:40])
async def test_broken_definitions(server: Site, change: dict[str, Any], code: int, said: str) -> None:
    await server.create("taken")
    sent = {**definition("fresh"), **change}
    for path in (CREATE, f"{CREATE}/lint"):
        if path.endswith("lint") and code == 6540:
            continue  # what exists already is no fault of the definition
        reply = await server.post(path, json=sent)
        assert reply.status_code == 400
        assert reply.json()["code"] == code
        assert reply.json()["description"] == said
    assert (await server.get(DETAIL.format("fresh"), params={"projectKey": PROJECT})).status_code == 500


async def test_messages_in_chinese(server: Site) -> None:
    await server.create("taken")
    for language in ("zh", "*", "fr"):
        reply = await server.post(CREATE, json=definition("taken"), language=language)
        assert reply.json()["message"] == "新建或更新wokflow失败"
        assert reply.json()["description"] == f"workflow [taken] 在项目 [{PROJECT}] 中已经存在!"
    reply = await server.post(CREATE, json=definition("not ok"), language="zh")
    assert reply.json()["description"] == "工作流标识支持大小写字母、数字和中划线"


async def test_wrong_types_are_all_named(server: Site) -> None:
    sent = {**definition("typed"), "concurrency_limit": "5", "description": 7}
    sent["stages"][0]["jobs"][0]["spec"] = []
    reply = await server.post(CREATE, json=sent)
    assert reply.status_code == 400
    assert reply.json()["code"] == 400
    for place in ("concurrency_limit", "description", "stages[0].jobs[0].spec"):
        assert place in reply.json()["description"]


@pytest.mark.parametrize("body", [b"", b"{", b"a: [", b"[]", b'{"name": NaN}', b"\xff"])
async def test_unreadable_bodies(server: Site, body: bytes) -> None:
    for method, path in (("POST", CREATE), ("PUT", f"{CREATE}/x?projectName={PROJECT}"), ("POST", f"{CREATE}/lint")):
        reply = await server.call(method, path, content=body)
        assert (reply.status_code, reply.json()["code"]) == (400, 400), path


async def test_replacing(server: Site) -> None:
    await server.create("one")
    await server.create("two")
    before = await detail(server, "one")
    put = f"{CREATE}/one"

    async def replaced(query: dict[str, str], **change: Any) -> tuple[int, str]:
        body = {**definition("one", "echo other"), **change}
        body = {key: value for key, value in body.items() if value is not None}
        reply = await server.call("PUT", put, params=query, json=body)
        found = reply.json()
        return found.get("code", 200), found.get("description", "")

    key = {"projectName": PROJECT}
    assert await replaced(key) == (200, "")
    after = await detail(server, "one")
    assert after["create_time"] == before["create_time"]
    assert "other" in str(after["stages"])
    assert await replaced(key, name=None, project=None) == (200, "")
    assert await replaced({}, name=None) == (200, "")
    assert await replaced(key, name="three") == (6540, "workflow key cannot be changed")
    assert await replaced({}, project=None) == (400, "projectName is required")
    assert (await replaced(key, project="other"))[0] == 400
    assert await replaced(key, display_name="The two") == (
        6540,
        "display name [The two] is already used in this project",
    )
    assert (await replaced(key, stages=[{"name": "", "jobs": _jobs("b", type="?")}]))[0] == 6545
    reply = await server.call("PUT", f"{CREATE}/none", params=key, json=definition("none"))
    assert (reply.json()["code"], reply.json()["description"]) == (6542, NO_DOCUMENTS)
    reply = await server.call("PUT", "/openapi/workflows/custom/one", params=key, json=definition("one"))
    assert reply.status_code == 200


@pytest.mark.parametrize("way", ["query", "path"])
async def test_deleting_cancels_what_runs(server: Site, way: str) -> None:
    await server.create("gone", "sleep 60")
    number = await server.run("gone")
    row = (await server.world.detail("gone", number)).row
    if way == "query":
        query = {"workflowKey": "gone", "projectKey": PROJECT}
        reply = await server.call("DELETE", "/openapi/workflows/custom", params=query)
    else:
        reply = await server.call("DELETE", f"{CREATE}/gone", params={"projectName": PROJECT})
    assert (reply.status_code, reply.json()) == (200, {"message": "success"})
    assert (await server.get(DETAIL.format("gone"), params={"projectKey": PROJECT})).status_code == 500
    query = {"taskId": str(number), "workflowKey": "gone"}
    assert (await server.get("/openapi/workflows/custom/task", params=query)).status_code == 500
    while (now := await server.world.db.read(lambda tx: tx.tasks.row(row.id))).end_at is None:
        await server.world.engine.changed(row.id, 0.2)
    assert (now.status, now.revoker) == ("cancelled", "system")
    await server.create("gone")
    assert await server.run("gone") == number + 1


async def test_changes_are_written_down(server: Site) -> None:
    await server.create("one")
    await server.call("PUT", f"{CREATE}/one", params={"projectName": PROJECT}, json=definition("one"))
    await server.call("DELETE", "/openapi/workflows/custom", params={"workflowKey": "one", "projectKey": PROJECT})
    entries = await server.world.db.read(lambda tx: tx.audit.list_entries())
    actions = [
        (entry["action"], entry["actor"], entry["project"]) for entry in entries if entry["target"] == "workflow/one"
    ]
    assert actions == [(f"{verb}_workflow", "admin", PROJECT) for verb in ("delete", "edit", "create")]


async def test_deleting_needs_the_right_project(server: Site) -> None:
    await server.create("kept")
    for key, project in (("kept", "other"), ("none", PROJECT)):
        query = {"workflowKey": key, "projectKey": project}
        reply = await server.call("DELETE", "/openapi/workflows/custom", params=query)
        assert (reply.json()["code"], reply.json()["description"]) == (6543, NO_DOCUMENTS)
    for query, said in (
        ({"projectKey": PROJECT}, "workflowKey is required"),
        ({"workflowKey": "kept"}, "projectKey is required"),
        ({"workflowKey": "kept", "projectKey": PROJECT, "project_name": "x"}, "conflicting values for projectKey"),
    ):
        reply = await server.call("DELETE", "/openapi/workflows/custom", params=query)
        assert (reply.json()["code"], reply.json()["description"]) == (400, said)
    assert (await detail(server, "kept"))["workflow_key"] == "kept"


async def test_details_that_are_not_there(server: Site) -> None:
    await server.create("here")
    for path, query in ((DETAIL.format("none"), PROJECT), (DETAIL.format("here"), "other")):
        reply = await server.get(path, params={"projectKey": query})
        assert reply.status_code == 500
        assert reply.json() == {"code": 500, "description": NO_DOCUMENTS, "message": "Internal Error: "}
    reply = await server.get(DETAIL.format(""), params={"projectKey": PROJECT})
    assert (reply.status_code, reply.json()["description"]) == (400, "workflowKey is required")
    reply = await server.get(DETAIL.format("here"))
    assert (reply.status_code, reply.json()["description"]) == (400, "projectKey is required")


async def test_ids_nobody_knows_are_told(server: Site) -> None:
    sent = definition("ids")
    sent["stages"][0]["jobs"][0]["spec"]["properties"]["image_id"] = "630xxxxxxxxxxxx"
    sql = {"name": "sql", "type": "sql", "spec": {"id": "62xx", "type": "mysql", "sql": "select 1"}}
    tapd = {"name": "tapd", "type": "tapd", "spec": {"tapd_id": "63xx", "status": "done"}}
    local = {"name": "image", "type": "custom-deploy", "spec": {"cluster_id": "0123456789abcdef12345678"}}
    sent["stages"][0]["jobs"] += [sql, tapd, local]
    feishu = {"webhook_type": "feishu_person", "lark_person_notification_config": {"app_id": "64xx"}}
    sent["notify_ctls"] = [feishu]
    assert (await server.post(CREATE, json=sent)).json() == {"message": "success"}
    found = await detail(server, "ids")
    assert found["warnings"] == [
        "stages[0].jobs[0].spec.properties.image_id: baseimage 630xxxxxxxxxxxx is not known",
        "stages[0].jobs[1].spec.id: database 62xx is not known",
        "stages[0].jobs[2].spec.tapd_id: projectmanagement 63xx is not known",
        "notify_ctls[0].lark_person_notification_config.app_id: imapp 64xx is not known",
    ]
    sent["name"] = sent["display_name"] = "ids2"
    assert (await server.post(f"{CREATE}/lint", json=sent)).json()["warnings"] == found["warnings"]
