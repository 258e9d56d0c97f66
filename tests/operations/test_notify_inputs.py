"""Other recipients for one task, over the notifications of the definition."""

from typing import Any

import pytest

from cador.domain.errors import Invalid
from cador.operations.notify_inputs import overridden, recipients_of

HOOK = {"hook_address": "https://hooks.example.com/1", "at_users": ["boss"], "is_at_all": True}
STORED: tuple[dict[str, Any], ...] = (
    {"webhook_type": "wechat", "enabled": True, "notify_type": ["failed"], "wechat_notification_config": HOOK},
    {"webhook_type": "feishu", "enabled": True, "lark_hook_notification_config": {**HOOK, "app_id": "lark"}},
    {
        "webhook_type": "feishu_app",
        "lark_group_notification_config": {"app_id": "lark", "chat": {"chat_id": "oc_1", "chat_name": "all"}},
    },
    {"webhook_type": "feishu_person", "lark_person_notification_config": {"app_id": "lark", "target_users": [{}]}},
    {"webhook_type": "dingding", "dingding_notification_config": {**HOOK, "at_mobiles": ["1"]}},
    {"webhook_type": "msteams", "msteams_notification_config": HOOK},
    {"webhook_type": "mail", "mail_notification_config": {"target_users": [{"type": "task_creator"}]}},
    {"webhook_type": "wechat", "weChat_webHook": "https://hooks.example.com/old", "wechat_user_ids": ["boss"]},
    {"webhook_type": "webhook", "enabled": True, "webhook_notification_config": {"address": "https://x.example"}},
    {"webhook_type": "wechat", "wechat_notification_config": "broken"},
)
ANN = {"id": "ou_ann", "id_type": "open_id"}
ADDRESS = {"hook_address": "https://hooks.example.com/1"}


@pytest.mark.parametrize(
    ("ident", "kind", "name", "given", "becomes"),
    [
        (0, "wechat", "wechat", {"at_users": ["ann"]}, {**ADDRESS, "at_users": ["ann"]}),
        (0, "wechat", "wechat", {"is_at_all": False}, ADDRESS),
        (1, "feishu", "lark_hook", {"at_users": ["ann"]}, {"app_id": "lark", **ADDRESS, "at_users": ["ann"]}),
        (
            2,
            "feishu_app",
            "lark_group",
            {"chat_id": "oc_2", "at_users": [ANN]},
            {"app_id": "lark", "chat": {"chat_id": "oc_2", "chat_name": ""}, "at_users": [ANN]},
        ),
        (2, "feishu_app", "lark_group", {"at_users": []}, STORED[2]["lark_group_notification_config"]),
        (3, "feishu_person", "lark_person", {"users": [ANN]}, {"app_id": "lark", "target_users": [ANN]}),
        (4, "dingding", "dingding", {"at_mobiles": ["2"], "is_at_all": True},
         {**ADDRESS, "at_mobiles": ["2"], "is_at_all": True}),
        (5, "msteams", "msteams", {"at_emails": ["a@example.com"]}, {**ADDRESS, "at_emails": ["a@example.com"]}),
        (6, "mail", "mail", {"user_ids": ["u1"]}, {"target_users": [{"type": "user", "user_id": "u1"}]}),
        (6, "mail", "mail", {"users": [{"type": "group"}]}, {"target_users": [{"type": "group"}]}),
        (7, "wechat", "wechat", {"at_users": ["ann"]},
         {"hook_address": STORED[7]["weChat_webHook"], "at_users": ["ann"]}),
        (9, "wechat", "wechat", {"at_users": ["ann"]}, {"at_users": ["ann"]}),
    ],
)  # fmt: skip
def test_recipients_are_replaced_and_addresses_kept(
    ident: int, kind: str, name: str, given: dict[str, Any], becomes: dict[str, Any]
) -> None:
    config = f"{name}_notification_config"
    warned: list[str] = []
    result = overridden(STORED, [{"id": ident, "type": kind, config: given}], warned.append)
    assert result is not None
    assert result[ident][config] == becomes
    assert "wechat_user_ids" not in result[ident]
    assert [entry for at, entry in enumerate(result) if at != ident] == [
        entry for at, entry in enumerate(STORED) if at != ident
    ]
    assert warned == []


def test_what_does_not_fit_is_told_and_not_used() -> None:
    config = {"wechat_notification_config": {"at_users": ["ann"]}}
    given = [
        {"id": 12, "type": "wechat", **config},
        {"id": -1, "type": "wechat"},
        {"id": 1, "type": "wechat", **config},
    ]
    warned: list[str] = []
    assert overridden(STORED, given, warned.append) is None
    assert warned == [
        "notify_inputs[0]: the workflow has no notification 12, ignored",
        "notify_inputs[1]: the workflow has no notification -1, ignored",
        "notify_inputs[2]: notification 1 is of type feishu, not wechat, ignored",
    ]


def test_the_last_of_two_counts_and_one_may_only_be_switched() -> None:
    first, second = (
        {"id": 0, "type": "wechat", "wechat_notification_config": {"at_users": [who]}} for who in ("ann", "ben")
    )
    result = overridden(STORED, [first, second, {"id": 8, "type": "webhook", "enabled": False}], pytest.fail)
    assert result is not None
    assert recipients_of(result[0]) == {"at_users": ["ben"]}
    assert (result[8]["enabled"], result[8]["webhook_notification_config"]) == (
        False,
        STORED[8]["webhook_notification_config"],
    )
    assert [recipients_of(entry) for entry in (STORED[2], STORED[8], STORED[9])] == [{"chat_id": "oc_1"}, {}, {}]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"id": 0, "type": "wechat"}, "notify_inputs[0].wechat_notification_config: is required"),
        ({"id": 8, "type": "webhook"}, "notify_inputs[0].enabled: is required"),
        (
            {"id": 0, "type": "wechat", "wechat_notification_config": {"dynamic_recipients": ["{{.x.email}}"]}},
            "notify_inputs[0].wechat_notification_config.dynamic_recipients: dynamic recipients are not supported for "
            "notification type wechat",
        ),
        (
            {"id": 6, "type": "mail", "mail_notification_config": {"dynamic_recipients": ["ann@example.com"]}},
            "notify_inputs[0].mail_notification_config.dynamic_recipients: dynamic recipient must be a single template "
            "variable, got ann@example.com",
        ),
    ],
)
def test_an_entry_that_says_not_whom_to_tell(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid) as refused:
        overridden(STORED, [entry], pytest.fail)
    assert str(refused.value) == said
