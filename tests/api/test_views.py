"""Views of workflows, through the whole application."""

from typing import Any

import pytest

from api.site import PROJECT, Site
from api.test_resources import ok, refused
from cador.ports.stores import Resource, Tx

pytestmark = pytest.mark.anyio
PATH = "/openapi/workflows/view"
OF_PROJECT = {"projectKey": PROJECT}


def member(key: str, **more: Any) -> dict[str, Any]:
    return {"workflow_key": key, "workflow_type": "custom", **more}


async def define(server: Site, key: str, *, view: str = "", **more: Any) -> Any:
    step = {"name": "shell", "type": "shell", "spec": {"script": "exit 0"}}
    job = {"name": "b", "type": "freestyle", "spec": {"properties": {"timeout": 1}, "steps": [step]}}
    stages = [{"name": "s", "parallel": False, "jobs": [job]}]
    body = {"name": key, "display_name": f"shown {key}", "project": PROJECT, "concurrency_limit": -1, "stages": stages}
    return await server.call(
        "POST", "/api/aslan/workflow/v4", json=body | more, params={"viewName": view} if view else {}
    )


async def create(server: Site, name: str, *keys: str) -> None:
    body = {"project_key": PROJECT, "name": name, "workflow_list": [member(key) for key in keys]}
    await ok(await server.post(PATH, json=body))


async def members(server: Site, name: str) -> list[str]:
    views = await ok(await server.get(PATH, params=OF_PROJECT))
    (view,) = [view for view in views if view["name"] == name]
    return [one["workflow_key"] for one in view["workflows"]]


async def test_views_show_the_workflows_that_exist_and_are_enabled(server: Site) -> None:
    for key in ("one", "two"):
        await ok(await define(server, key))
    await create(server, "ops", "two", "not-yet", "one", "two")
    await create(server, "all")
    views = await ok(await server.get(PATH, params=OF_PROJECT))
    assert [view["name"] for view in views] == ["ops", "all"]
    assert [set(view) for view in views] == [{"name", "project_key", "workflows", "update_time", "update_by"}] * 2
    assert views[0]["workflows"] == [member("two"), member("one")]
    assert views[1]["workflows"] == []
    await ok(await define(server, "not-yet", workflow_type="product"))
    assert [*await members(server, "ops")] == ["two", "not-yet", "one"]
    shown = (await ok(await server.get(PATH, params=OF_PROJECT)))[0]["workflows"][1]
    assert shown == {"workflow_key": "not-yet", "workflow_type": "product"}


async def test_a_change_is_a_patch_and_keeps_places(server: Site) -> None:
    for key in ("one", "two", "three"):
        await ok(await define(server, key))
    await create(server, "ops", "one", "two")
    path = f"{PATH}/ops"

    async def change(*changes: dict[str, Any]) -> list[str]:
        await ok(await server.call("PUT", path, json={"workflow_list": list(changes)}, params=OF_PROJECT))
        return await members(server, "ops")

    assert await change(member("one", enabled=False)) == ["two"]
    assert await change(member("three", enabled=True)) == ["two", "three"]
    assert await change(member("one", enabled=True), member("nothing", enabled=False)) == ["one", "two", "three"]
    assert await change(member("two")) == ["one", "three"], "what does not say that it is enabled is not"
    twice = {"workflow_list": [member("one"), member("one", enabled=True)]}
    refused(await server.call("PUT", path, json=twice, params=OF_PROJECT), 6893, "workflow name duplicated")
    wrong = {"workflow_list": [{"workflow_key": "one", "workflow_type": "fancy"}]}
    refused(
        await server.call("PUT", path, json=wrong, params=OF_PROJECT), 400, "workflow type must be custom or product"
    )
    assert await members(server, "ops") == ["one", "three"]


async def test_lists_of_workflows_are_those_of_the_view(server: Site) -> None:
    for key in ("one", "two"):
        await ok(await define(server, key))
    await create(server, "ops", "two")
    await create(server, "none")

    async def listed(view: str) -> list[str]:
        found = await ok(await server.get("/openapi/workflows", params=OF_PROJECT | {"viewName": view}))
        return [one["workflow_key"] for one in found["workflows"]]

    assert [await listed(view) for view in ("ops", "none", "unknown")] == [["two"], [], []]
    await ok(await define(server, "three", view="ops"))
    assert sorted(await listed("ops")) == ["three", "two"]
    refused(await define(server, "four", view="unknown"), 6893, "failed to find workflow view unknown")
    found = await ok(await server.get("/openapi/workflows", params=OF_PROJECT))
    assert "four" not in [one["workflow_key"] for one in found["workflows"]], "nothing is half written"


async def test_who_may_see_some_workflows_sees_the_views_that_show_them(server: Site) -> None:
    stranger = "stranger-token-0000"
    for key in ("one", "two"):
        await ok(await define(server, key))
    await create(server, "both", "one", "two")
    await create(server, "not-mine", "two")
    await create(server, "none")
    assert (await server.get(PATH, stranger, params=OF_PROJECT)).status_code == 403
    verbs = ["get_workflow"]
    shared = {"name": "one", "collaboration_type": "share", "verbs": verbs}
    mode = {"name": "one", "user_ids": ["eve"], "workflows": [shared]}
    await ok(await server.post("/openapi/collaborations", params=OF_PROJECT, json=mode))
    views = await ok(await server.get(PATH, stranger, params=OF_PROJECT))
    assert [(view["name"], view["workflows"]) for view in views] == [("both", [member("one")])]
    listed = await ok(await server.get("/openapi/workflows", stranger, params=OF_PROJECT | {"viewName": "both"}))
    assert [one["workflow_key"] for one in listed["workflows"]] == ["one"]
    assert (await server.get(PATH, stranger, params={"projectKey": "elsewhere"})).status_code == 403


async def test_views_may_name_more_than_a_statement_holds(server: Site) -> None:
    """Workflows that a view names need not exist: nobody may make a project's views unreadable with that."""
    await ok(await define(server, "one"))

    def fill(tx: Tx) -> None:
        for number in range(26):
            members = [member(f"w-{number}-{n}", enabled=True) for n in range(10_000)]
            document = {"name": f"v{number:02}", "workflow_list": [*members, member("one", enabled=True)]}
            tx.resources.add(Resource("view", PROJECT, f"v{number:02}", document))

    await server.world.db.write(fill)
    views = await ok(await server.get(PATH, params=OF_PROJECT))
    assert [view["workflows"] for view in views] == [[member("one")]] * 26


async def test_a_deleted_workflow_leaves_its_views(server: Site) -> None:
    await ok(await define(server, "one"))
    await create(server, "ops", "one")
    await ok(await server.call("DELETE", "/openapi/workflows/custom", params=OF_PROJECT | {"workflowKey": "one"}))
    assert await members(server, "ops") == []
    await ok(await define(server, "one"))
    assert await members(server, "ops") == [], "a new one of that name is another one"


async def test_what_is_refused(server: Site) -> None:
    listed = [member("one")]
    refused(await server.get(PATH), 400, "projectKey is required")
    refused(await server.post(PATH, json={"name": "x", "workflow_list": listed}), 400, "projectKey cannot be empty")
    no_name = {"project_key": PROJECT, "workflow_list": listed}
    refused(await server.post(PATH, json=no_name), 400, "view name cannot be empty")
    hostile = {"project_key": PROJECT, "name": "../x", "workflow_list": listed}
    assert (await server.post(PATH, json=hostile)).status_code == 400
    wrong = {"project_key": PROJECT, "name": "x", "workflow_list": [{"workflow_key": "one", "workflow_type": ""}]}
    refused(await server.post(PATH, json=wrong), 400, "workflow type must be custom or product")
    # A member that is misspelled must not be a change that says "success" and changes nothing.
    misspelled = {"project_key": PROJECT, "name": "x", "workflows": listed}
    refused(await server.post(PATH, json=misspelled), 400, "workflow_list: is required")
    await create(server, "ops")
    reply = await server.call("PUT", f"{PATH}/ops", json={"workflows": listed}, params=OF_PROJECT)
    refused(reply, 400, "workflow_list: is required")
    again = {"project_key": PROJECT, "name": "ops", "workflow_list": listed}
    refused(await server.post(PATH, json=again), 6892, "mongo duplicate key error")
    unknown = f"failed to find workflow view gone for project {PROJECT}"
    refused(await server.call("PUT", f"{PATH}/gone", json={"workflow_list": listed}, params=OF_PROJECT), 6893, unknown)
    gone = "find workflow view error: mongo: no documents in result"
    refused(await server.call("DELETE", f"{PATH}/gone", params=OF_PROJECT), 6894, gone)
    refused(await server.call("DELETE", f"{PATH}/ops"), 400, "projectKey is required")
    await ok(await server.call("DELETE", f"{PATH}/ops", params=OF_PROJECT))
    refused(await server.call("DELETE", f"{PATH}/ops", params=OF_PROJECT), 6894, gone)
