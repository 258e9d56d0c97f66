"""User groups, through the whole application."""

from typing import Any

import pytest

from api.site import PROJECT, Site
from api.test_resources import MANAGER, ok, refused
from cador.ports.stores import Tx

pytestmark = pytest.mark.anyio
PATH = "/openapi/user-groups"
NONE = "mongo: no documents in result"


async def uid_of(server: Site, account: str) -> str:
    found: Any = (await ok(await server.get("/openapi/users", params={"account": account})))["users"][0]["uid"]
    return str(found)


async def test_a_group_and_its_members(server: Site) -> None:
    ann, ben = await uid_of(server, "ann"), await uid_of(server, "ben")
    made = await ok(
        await server.post(PATH, json={"name": "leads", "description": "who decide", "uids": [ben, ann, ben]})
    )
    assert [user["account"] for user in made["users"]] == ["ann", "ben"]
    line = {"id": made["id"], "name": "leads", "description": "who decide", "type": "custom", "user_total": 2}
    assert await ok(await server.get(PATH, params={"name": "LEA"})) == {"group_list": [line], "total": 1}
    assert await ok(await server.get(PATH, params={"pageNum": "2"})) == {"group_list": [], "total": 1}
    one = f"{PATH}/{made['id']}"
    assert await ok(await server.get(one)) == made
    fewer = await ok(await server.call("DELETE", f"{one}/users/{ben}"))
    assert [user["account"] for user in fewer["users"]] == ["ann"]
    refused(await server.call("DELETE", f"{one}/users/{ben}"), 400, NONE)
    more = await ok(await server.post(f"{one}/users", json={"uids": [ben]}))
    assert more["user_total"] == 2
    renamed = await ok(await server.call("PUT", one, json={"name": "heads"}))
    assert (renamed["id"], renamed["name"], renamed["description"]) == (made["id"], "heads", "who decide")
    assert renamed["user_total"] == 2
    await ok(await server.call("DELETE", one))
    refused(await server.get(one), 400, NONE)


async def test_what_is_refused(server: Site) -> None:
    refused(await server.post(PATH, json={"name": ""}), 400, "name cannot be empty")
    refused(await server.post(PATH, json={"name": "x", "uids": ["nobody"]}), 400, "user nobody not found")
    made = await ok(await server.post(PATH, json={"name": "first"}))
    other = await ok(await server.post(PATH, json={"name": "second"}))
    refused(await server.post(PATH, json={"name": "first"}), 400, "group first already exists")
    refused(
        await server.call("PUT", f"{PATH}/{other['id']}", json={"name": "first"}), 400, "group first already exists"
    )
    refused(await server.post(f"{PATH}/{made['id']}/users", json={"uids": []}), 400, "uids cannot be empty")
    refused(await server.call("DELETE", f"{PATH}/nothing"), 400, NONE)
    for method, path in (("GET", PATH), ("POST", PATH), ("GET", f"{PATH}/{made['id']}"), ("DELETE", f"{PATH}/x")):
        assert (await server.call(method, path, MANAGER)).status_code == 403


async def test_a_group_that_a_workflow_names_is_not_deleted(server: Site) -> None:
    made = await ok(await server.post(PATH, json={"name": "leads"}))
    approval = {
        "enabled": True,
        "type": "native",
        "native_approval": {"approve_users": [{"type": "group", "group_id": made["id"]}], "needed_approvers": 1},
    }
    step = {"name": "shell", "type": "shell", "spec": {"script": "exit 0"}}
    job = {"name": "b", "type": "freestyle", "spec": {"properties": {"timeout": 1}, "steps": [step]}}
    definition = {
        "name": "asks",
        "project": PROJECT,
        "concurrency_limit": -1,
        "stages": [{"name": "s", "parallel": False, "approval": approval, "jobs": [job]}],
    }
    await ok(await server.post("/api/aslan/workflow/v4", json=definition))
    refused(await server.call("DELETE", f"{PATH}/{made['id']}"), 400, "group leads is used by workflow asks")


async def test_members_who_are_no_users_any_more_are_left_out(server: Site) -> None:
    ann = await uid_of(server, "ann")
    made = await ok(await server.post(PATH, json={"name": "leads", "uids": [ann]}))

    def forget(tx: Tx) -> None:
        tx.people.delete_user(ann)

    await server.world.db.write(forget)
    assert (await ok(await server.get(f"{PATH}/{made['id']}")))["users"] == []
    assert (await ok(await server.call("PUT", f"{PATH}/{made['id']}", json={"description": "new"})))["user_total"] == 0
