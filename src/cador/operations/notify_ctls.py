"""``notify_ctls`` of a definition that is saved: whom a workflow tells of what. Source: API documents, "Notifications".

What is stored already is not looked at again: a definition from before these checks is shown and started as it is.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from cador.domain.errors import Invalid, InvalidDefinition
from cador.jobs.definition import raise_faults
from cador.operations.models.body import B, Body
from cador.operations.notify_inputs import CHANNELS, check_dynamic

WEBHOOK: Final = "webhook"
Event = Literal[
    "created", "passed", "failed", "timeout", "cancelled", "reject", "pause", "wait_for_approval", "changed", "prepare"
]
"""``prepare`` is one of jobs, the others are of tasks."""


class _Entry(Body):
    enabled: bool = True
    webhook_type: str = ""
    notify_type: list[Event] = Field(default_factory=list)


class _AppUser(Body):
    """Somebody in a messenger, or (``is_...``) whoever it is."""

    id: str = ""
    id_type: str = ""
    name: str = ""
    avatar: str = ""
    is_executor: bool = False
    is_stage_executor: bool = False


class _User(Body):
    type: Literal["", "user", "group", "task_creator", "stage_executor", "email"] = ""
    user_id: str = ""
    user_name: str = ""
    group_id: str = ""
    group_name: str = ""
    email: str = ""


class _Chat(Body):
    chat_id: str = ""
    chat_name: str = ""


class _Config(Body):
    """What the objects of most types have."""

    dynamic_recipients: list[str] = Field(default_factory=list)
    is_at_all: bool = False


class _Hook(_Config):
    hook_address: str = ""


class _Feishu(_Hook):
    app_id: str = ""
    at_users: list[str] = Field(default_factory=list)


class _FeishuApp(_Config):
    app_id: str = ""
    chat: _Chat | None = None
    at_users: list[_AppUser] = Field(default_factory=list)


class _FeishuPerson(_Config):
    app_id: str = ""
    target_users: list[_AppUser] = Field(default_factory=list)


class _WeCom(_Hook):
    at_users: list[str] = Field(default_factory=list)


class _DingTalk(_Hook):
    at_mobiles: list[str] = Field(default_factory=list)


class _Teams(_Hook):
    at_emails: list[str] = Field(default_factory=list)


class _Mail(_Config):
    target_users: list[_User] = Field(default_factory=list)


class _Webhook(_Config):
    address: str = ""
    token: str = ""


class _Old(Body):
    """The flat keys of old definitions."""

    feishu_webhook: str = ""
    feishu_app_id: str = ""
    feishu_chat: _Chat | None = None
    weChat_webHook: str = ""
    dingding_webhook: str = ""
    webhook_notify: _Webhook | None = None
    lark_user_ids: list[str] = Field(default_factory=list)
    lark_at_users: list[_AppUser] = Field(default_factory=list)
    wechat_user_ids: list[str] = Field(default_factory=list)
    at_mobiles: list[str] = Field(default_factory=list)
    mail_users: list[_User] = Field(default_factory=list)
    is_at_all: bool = False


_TYPES: Final[Mapping[str, tuple[type[_Config], Mapping[str, str]]]] = {
    "feishu": (_Feishu, {"hook_address": "feishu_webhook"}),
    "feishu_app": (_FeishuApp, {"app_id": "feishu_app_id", "chat": "feishu_chat"}),
    "feishu_person": (_FeishuPerson, {"app_id": "feishu_app_id"}),
    "wechat": (_WeCom, {"hook_address": "weChat_webHook"}),
    "dingding": (_DingTalk, {"hook_address": "dingding_webhook"}),
    "msteams": (_Teams, {"hook_address": ""}),
    "mail": (_Mail, {}),
    WEBHOOK: (_Webhook, {"address": "webhook_notify"}),
}
"""By the word on the wire: the configuration, and without which members of it nobody can be told, with the flat keys of
old definitions."""


def check_notifications(doc: Mapping[str, Any]) -> None:
    """Of a workflow and of its jobs. Raises: InvalidDefinition: the first entry that is wrong, and all that is."""
    for number, entry in enumerate(doc["notify_ctls"]):
        _check(entry, f"notify_ctls[{number}]")
    for s, stage in enumerate(doc["stages"]):
        for j, job in enumerate(stage["jobs"]):
            for number, entry in enumerate(job.get("notify_ctls") or ()):
                _check(entry, f"stages[{s}].jobs[{j}].notify_ctls[{number}]")


def _check(doc: Mapping[str, Any], place: str) -> None:
    entry = _read(_Entry, doc, place)
    kind = entry.webhook_type
    if kind not in _TYPES:
        raise InvalidDefinition(f"unsupported notification type: {kind}", place=f"{place}.webhook_type")
    model, needed = _TYPES[kind]
    name = CHANNELS[kind].config if kind in CHANNELS else f"{WEBHOOK}_notification_config"
    old = _read(_Old, doc, place)
    if doc.get(name) is None:
        flat = [key for key in needed.values() if key]
        if entry.enabled and needed and not flat:
            raise InvalidDefinition(f"{place}.{name}: is required", place=f"{place}.{name}")
        if entry.enabled and (missing := next((key for key in flat if not _given(getattr(old, key))), "")):
            raise InvalidDefinition(f"failed to parse old notification data: {missing} field is empty", place=place)
        return
    here = f"{place}.{name}"
    config = _read(model, doc[name], here)
    if entry.enabled:
        for key, flat_key in needed.items():
            if not _given(getattr(config, key)) and not (flat_key and _given(getattr(old, flat_key))):
                raise InvalidDefinition(f"{here}.{key}: is required", place=f"{here}.{key}")
    if kind in CHANNELS and config.dynamic_recipients:
        app = getattr(config, "app_id", "") or old.feishu_app_id
        try:
            check_dynamic(config.dynamic_recipients, CHANNELS[kind], kind, bool(app), place)
        except Invalid as error:
            raise InvalidDefinition(str(error), place=error.place) from error


def _given(value: Any) -> bool:
    """Whether somebody can be told with it: an address, an application, a chat."""
    if isinstance(value, _Chat):
        return bool(value.chat_id)
    return bool(value.address) if isinstance(value, _Webhook) else bool(value)


def _read(model: type[B], value: Any, place: str) -> B:
    """Raises: InvalidDefinition, with every fault and its place."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        try:
            raise_faults(error, place)
        except Invalid as fault:
            raise InvalidDefinition(str(fault), place=fault.place) from None
