"""``notify`` of a workflow in the short form: one entry for each message. Source: API documents, "Notifications"."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cador.operations.declarative import shapes
from cador.operations.declarative.reader import Reader
from cador.operations.declarative.shapes import Part, Shape, schema_of

EVENTS: Final = (
    "created",
    "passed",
    "failed",
    "timeout",
    "cancelled",
    "reject",
    "pause",
    "wait_for_approval",
    "changed",
)


@dataclass(frozen=True, slots=True)
class _Field:
    """Where the value of a short key goes, and how it is read."""

    name: str
    read: Callable[[Reader, str], Any]
    part: Part
    needed: bool = False


def _people_of_app(entry: Reader, key: str) -> list[dict[str, str]]:
    return [{"id": text, "id_type": "user_id"} for text in entry.texts(key)]


def _chat(entry: Reader, key: str) -> dict[str, str]:
    return {"chat_id": entry.text(key), "chat_name": ""}


_URL: Final = _Field("hook_address", Reader.text, shapes.secret("Address of the robot."), needed=True)
_ALL: Final = _Field("is_at_all", Reader.flag, shapes.flag("Mention everybody."))
_DYNAMIC: Final = _Field("dynamic_recipients", Reader.texts, shapes.texts("Variables that name people."))
_APP: Final = _Field("app_id", Reader.text, shapes.text("Name of an IM app."), needed=True)
_IDS: Final = _Field("at_users", Reader.texts, shapes.texts("Ids of people."))

_CONFIGS: Final[Mapping[str, tuple[str, Mapping[str, _Field]]]] = {
    "feishu": (
        "lark_hook_notification_config",
        {"url": _URL, "users": _IDS, "all": _ALL, "dynamic": _DYNAMIC, "app": _Field("app_id", Reader.text, _APP.part)},
    ),
    "feishu_app": (
        "lark_group_notification_config",
        {
            "app": _APP,
            "chat": _Field("chat", _chat, shapes.text("Id of the group."), needed=True),
            "users": _Field("at_users", _people_of_app, _IDS.part),
            "all": _ALL,
            "dynamic": _DYNAMIC,
        },
    ),
    "feishu_person": (
        "lark_person_notification_config",
        {"app": _APP, "users": _Field("target_users", _people_of_app, _IDS.part), "dynamic": _DYNAMIC},
    ),
    "wechat": ("wechat_notification_config", {"url": _URL, "users": _IDS, "all": _ALL}),
    "dingding": (
        "dingding_notification_config",
        {
            "url": _URL,
            "mobiles": _Field("at_mobiles", Reader.texts, shapes.texts("Telephone numbers.")),
            "all": _ALL,
            "dynamic": _DYNAMIC,
        },
    ),
    "msteams": (
        "msteams_notification_config",
        {
            "url": _URL,
            "emails": _Field("at_emails", Reader.texts, shapes.texts("Addresses.")),
            "dynamic": _DYNAMIC,
        },
    ),
    "mail": ("mail_notification_config", {"dynamic": _DYNAMIC}),
    "webhook": (
        "webhook_notification_config",
        {
            "url": _Field("address", Reader.text, shapes.secret("Where to."), needed=True),
            "token": _Field("token", Reader.text, shapes.secret("Sent with the message.")),
        },
    ),
}
_MAIL: Final[Shape] = {
    "users": shapes.texts("Accounts."),
    "groups": shapes.texts("Names of user groups."),
    "emails": shapes.texts("Addresses."),
    "creator": shapes.flag("Who started the task."),
}


def _common(kind: str) -> dict[str, Part]:
    return {
        "type": Part({"const": kind}, needed=True),
        "on": Part({"type": "array", "items": {"enum": list(EVENTS)}}, needed=True),
        "enabled": shapes.flag("false: it is kept, and never sent."),
    }


def _shape(kind: str) -> Shape:
    own = {key: Part(field.part.schema, field.needed) for key, field in _CONFIGS[kind][1].items()}
    return {**_common(kind), **own, **(_MAIL if kind == "mail" else {})}


NOTIFICATIONS: Final = {"anyOf": [schema_of(_shape(kind)) for kind in _CONFIGS]}


def notification(entry: Reader) -> dict[str, Any]:
    """One entry of ``notify_ctls``. Raises: Misfit."""
    kind = entry.need("type")
    if kind not in _CONFIGS:
        raise entry.misfit(f"unsupported notification type: {kind}, known are: {', '.join(_CONFIGS)}", "type")
    entry.only(*_shape(kind))
    events = entry.texts("on")
    if not events:
        raise entry.misfit("'on' is missing: which events are told")
    if unknown := [event for event in events if event not in EVENTS]:
        raise entry.misfit(f"unknown event {unknown[0]!r}, known are: {', '.join(EVENTS)}", "on")
    name, fields = _CONFIGS[kind]
    config: dict[str, Any] = {}
    for key, field in fields.items():
        if field.needed:
            entry.need(key)
        if key in entry:
            config[field.name] = field.read(entry, key)
    if kind == "mail":
        config["target_users"] = _mail_users(entry)
    return {"enabled": entry.flag("enabled", True), "webhook_type": kind, "notify_type": events, name: config}


def _mail_users(entry: Reader) -> list[dict[str, str]]:
    people = [{"type": "user", "user_name": account} for account in entry.texts("users")]
    people += [{"type": "group", "group_name": name} for name in entry.texts("groups")]
    people += [{"type": "email", "user_name": address} for address in entry.texts("emails")]
    if entry.flag("creator"):
        people.append({"type": "task_creator"})
    if not people:
        raise entry.misfit("'users', 'groups', 'emails' or 'creator' is missing")
    return people
