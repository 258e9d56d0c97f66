"""Notifications of a definition that is saved: every type in both forms, and what is wrong with one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from api.site import PROJECT, Site, definition, site
from cador.domain.errors import InvalidDefinition
from cador.operations.notify_ctls import check_notifications

HOOK = "https://hooks.example.com/1"
CHAT = {"chat_id": "oc_1", "chat_name": "all"}
ANN = {"id": "ou_ann", "id_type": "open_id", "name": "Ann", "avatar": "", "is_executor": False}
APP = "64a0000000000000000000aa"
VARIABLE = "{{.workflow.task.creator}}"

NEW: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "feishu": ("lark_hook", {"hook_address": HOOK, "app_id": APP, "at_users": ["u1"], "is_at_all": False,
                             "dynamic_recipients": [VARIABLE]}),
    "feishu_app": ("lark_group", {"app_id": APP, "chat": CHAT, "at_users": [ANN], "is_at_all": True}),
    "feishu_person": ("lark_person", {"app_id": APP, "target_users": [ANN, {"is_executor": True}]}),
    "wechat": ("wechat", {"hook_address": HOOK, "at_users": ["ann"], "is_at_all": True}),
    "dingding": ("dingding", {"hook_address": HOOK, "at_mobiles": ["13800138000"], "dynamic_recipients": [VARIABLE]}),
    "msteams": ("msteams", {"hook_address": HOOK, "at_emails": ["ann@example.com"]}),
    "mail": ("mail", {"target_users": [{"type": "user", "user_id": "u1"}, {"type": "email", "user_name": "a@b.c"}]}),
    "webhook": ("webhook", {"address": HOOK, "token": "t"}),
}  # fmt: skip
OLD: Mapping[str, Mapping[str, Any]] = {
    "feishu": {"feishu_webhook": HOOK, "lark_user_ids": ["u1"], "is_at_all": True},
    "feishu_app": {"feishu_app_id": APP, "feishu_chat": CHAT, "lark_at_users": [ANN]},
    "feishu_person": {"feishu_app_id": APP},
    "wechat": {"weChat_webHook": "xxx", "wechat_user_ids": ["ann"]},
    "dingding": {"dingding_webhook": HOOK, "at_mobiles": ["1"]},
    "mail": {"mail_users": [{"type": "task_creator"}]},
    "webhook": {"webhook_notify": {"address": HOOK, "token": "t"}},
}
NEEDED = {
    "feishu": "hook_address", "feishu_app": "chat", "feishu_person": "app_id", "wechat": "hook_address",
    "dingding": "hook_address", "msteams": "hook_address", "webhook": "address",
}  # fmt: skip
OLD_NEEDED = {
    "feishu": "feishu_webhook", "feishu_app": "feishu_app_id", "feishu_person": "feishu_app_id",
    "wechat": "weChat_webHook", "dingding": "dingding_webhook", "webhook": "webhook_notify",
}  # fmt: skip


def entry(kind: str, config: Any = None, **more: Any) -> dict[str, Any]:
    base = {"enabled": True, "webhook_type": kind, "notify_type": ["created", "failed"], **more}
    return base if config is None else {**base, f"{NEW[kind][0]}_notification_config": config}


def doc(*entries: Any, job: Any = None) -> dict[str, Any]:
    return {"notify_ctls": list(entries), "stages": [{"jobs": [{"notify_ctls": [job]} if job else {}]}]}


def said(*entries: Any, **more: Any) -> tuple[str, str]:
    with pytest.raises(InvalidDefinition) as caught:
        check_notifications(doc(*entries, **more))
    return str(caught.value), caught.value.place


def test_every_type_in_both_forms_is_taken() -> None:
    check_notifications(doc(*(entry(kind, config) for kind, (_, config) in NEW.items())))
    check_notifications(doc(*(entry(kind, **fields) for kind, fields in OLD.items())))
    # nulls count as absent, unknown keys are nobody's business, the address may still stand in the old place
    check_notifications(doc(entry("wechat", {"at_users": None, "x": 1}, weChat_webHook="x", notify_type=None)))
    check_notifications(doc(job={**entry("dingding", NEW["dingding"][1]), "notify_type": ["prepare"]}))


@pytest.mark.parametrize("kind", NEEDED)
def test_without_an_address_nobody_can_be_told(kind: str) -> None:
    key, (name, config) = NEEDED[kind], NEW[kind]
    for value in ({}, {key: None}, {key: "" if key != "chat" else {"chat_id": ""}}):
        given = {**{k: v for k, v in config.items() if k != key}, **value}
        where = f"notify_ctls[1].{name}_notification_config.{key}"
        assert said(entry("mail"), entry(kind, given)) == (f"{where}: is required", where)
        check_notifications(doc(entry(kind, given, enabled=False)))  # it is never sent


@pytest.mark.parametrize("kind", OLD_NEEDED)
def test_the_old_form_has_its_documented_words(kind: str) -> None:
    text = f"failed to parse old notification data: {OLD_NEEDED[kind]} field is empty"
    assert said(entry(kind)) == (text, "notify_ctls[0]")
    assert said(entry(kind, **{OLD_NEEDED[kind]: None}))[0] == text
    check_notifications(doc(entry(kind, enabled=False)))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"webhook_type": "irc"}, "unsupported notification type: irc"),
        ({"webhook_type": ""}, "unsupported notification type: "),
        ({"webhook_type": 1}, "notify_ctls[0].webhook_type: must be a string"),
        ({"enabled": "yes"}, "notify_ctls[0].enabled: must be true or false"),
        ({"notify_type": "failed"}, "notify_ctls[0].notify_type: must be a list"),
        ({"notify_type": ["failed", "sometimes"]}, "notify_ctls[0].notify_type[1]: Input should be 'created', "),
        ({"wechat_notification_config": []}, "notify_ctls[0].wechat_notification_config: must be an object"),
        ({"wechat_notification_config": {"hook_address": HOOK, "at_users": [1], "is_at_all": "no"}},
         "notify_ctls[0].wechat_notification_config.is_at_all: must be true or false; "
         "notify_ctls[0].wechat_notification_config.at_users[0]: must be a string"),
        ({"wechat_notification_config": {"hook_address": HOOK, "dynamic_recipients": [VARIABLE]}},
         "notify_ctls[0].wechat_notification_config.dynamic_recipients: dynamic recipients are not supported"),
        ({"webhook_type": "mail", "mail_notification_config": {"target_users": [{"type": "dog"}]}},
         "notify_ctls[0].mail_notification_config.target_users[0].type: Input should be "),
        ({"webhook_type": "mail", "mail_notification_config": {"dynamic_recipients": ["ann"]}},
         "notify_ctls[0].mail_notification_config.dynamic_recipients: dynamic recipient must be a single template"),
        ({"weChat_webHook": 5}, "notify_ctls[0].weChat_webHook: must be a string"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(wrong: dict[str, Any], text: str) -> None:
    found, place = said({**entry("wechat", NEW["wechat"][1]), **wrong})
    assert found.startswith(text)
    assert place.startswith("notify_ctls[0]")


def test_notifications_of_jobs_are_looked_at_too() -> None:
    assert said(job=entry("irc")) == (
        "unsupported notification type: irc", "stages[0].jobs[0].notify_ctls[0].webhook_type",
    )  # fmt: skip


@pytest.mark.anyio
async def test_a_definition_is_refused_and_an_old_one_still_runs(tmp_path: Any) -> None:
    key = {"projectKey": PROJECT}
    broken = [entry("dingding")]
    async with site(tmp_path) as server:
        for method, path in (("POST", ""), ("POST", "/lint")):
            body = {**definition("w"), "notify_ctls": broken}
            reply = await server.call(method, f"/api/aslan/workflow/v4{path}", json=body)
            assert (reply.status_code, reply.json()["code"], reply.json()["description"]) == (
                400, 6545, "failed to parse old notification data: dingding_webhook field is empty",
            )  # fmt: skip
        await server.create("w")
        await _spoil(server, "w", broken)
        shown = await server.get("/openapi/workflows/custom/w/detail", params=key)
        assert shown.json()["notify_ctls"] == broken
        assert (await server.done("w", await server.run("w")))["status"] == "passed"
        exported = await server.get("/openapi/export", params=key)
        again = await server.post("/openapi/apply", content=exported.content)
        assert {one["action"] for one in again.json()["results"]} == {"unchanged"}, again.text
        changed = {**definition("w", "echo other"), "notify_ctls": broken}
        reply = await server.call("PUT", "/api/aslan/workflow/v4/w", params=key, json=changed)
        assert reply.json()["code"] == 6545


async def _spoil(server: Site, key: str, notifications: Any) -> None:
    """As it was stored before anybody looked."""

    def write(tx: Any) -> None:
        row = tx.workflows.find(key)
        stored = {**msgspec.json.decode(row.definition), "notify_ctls": notifications}
        tx.workflows.replace(replace(row, definition=msgspec.json.encode(stored).decode()))

    await server.world.db.write(write)
