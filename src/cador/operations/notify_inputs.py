"""Other recipients for one task: ``notify_inputs`` of a start over ``notify_ctls`` of the definition. Pure.

Only who is told changes; addresses of hooks and ids of applications stay as configured. Source: API documents, "Execute
the Workflow", the notification types.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cador.domain.errors import Invalid

Doc = dict[str, Any]

_VARIABLE: Final = re.compile(r"\{\{\s*\.[^{}\s]+\s*\}\}")


@dataclass(frozen=True, slots=True)
class Channel:
    """A type of notification. ``config``: the member that configures it. ``kept``: members of that which stay as they
    are, with the flat keys of old definitions. ``recipients``: members that an override replaces as a whole.
    ``renamed``: members that are called otherwise in an override. ``dynamic``: recipients may be variables."""

    config: str
    kept: Mapping[str, str]
    recipients: tuple[str, ...]
    renamed: Mapping[str, str]
    flat: tuple[str, ...] = ()
    """Keys of old definitions that an override makes void."""
    dynamic: bool = True
    needs_app: bool = False
    """Variables can only be looked up with an application."""


CHANNELS: Final[Mapping[str, Channel]] = {
    "feishu": Channel(
        "lark_hook_notification_config",
        {"app_id": "", "hook_address": "feishu_webhook"},
        ("at_users", "is_at_all", "dynamic_recipients"),
        {},
        ("lark_user_ids", "is_at_all"),
        needs_app=True,
    ),
    "feishu_app": Channel(
        "lark_group_notification_config",
        {"app_id": "feishu_app_id", "chat": "feishu_chat"},
        ("at_users", "is_at_all", "dynamic_recipients"),
        {},
        ("lark_at_users", "is_at_all"),
        needs_app=True,
    ),
    "feishu_person": Channel(
        "lark_person_notification_config",
        {"app_id": "feishu_app_id"},
        ("target_users", "dynamic_recipients"),
        {"users": "target_users"},
        needs_app=True,
    ),
    "wechat": Channel(
        "wechat_notification_config",
        {"hook_address": "weChat_webHook"},
        ("at_users", "is_at_all"),
        {},
        ("wechat_user_ids", "is_at_all"),
        dynamic=False,
    ),
    "dingding": Channel(
        "dingding_notification_config",
        {"hook_address": "dingding_webhook"},
        ("at_mobiles", "is_at_all", "dynamic_recipients"),
        {},
        ("at_mobiles", "is_at_all"),
    ),
    "msteams": Channel("msteams_notification_config", {"hook_address": ""}, ("at_emails", "dynamic_recipients"), {}),
    "mail": Channel(
        "mail_notification_config",
        {},
        ("target_users", "dynamic_recipients"),
        {"users": "target_users"},
        ("mail_users",),
    ),
}
"""By the word on the wire."""


def overridden(
    stored: Sequence[Mapping[str, Any]], given: Sequence[Mapping[str, Any]], warn: Callable[[str], None]
) -> tuple[Doc, ...] | None:
    """The notifications of one task; None when *given* changes none of them.

    An entry that names no notification, or one of another type, is told and not used; of two for one notification the
    last counts.

    Raises: Invalid: an entry that fits says not whom to tell.
    """
    result = [dict(entry) for entry in stored]
    used = False
    for number, entry in enumerate(given):
        place, ident, kind = f"notify_inputs[{number}]", int(entry["id"]), str(entry.get("type") or "")
        if not 0 <= ident < len(stored):
            warn(f"{place}: the workflow has no notification {ident}, ignored")
            continue
        configured = str(stored[ident].get("webhook_type") or "")
        if kind != configured:
            warn(f"{place}: notification {ident} is of type {configured}, not {kind}, ignored")
            continue
        result[ident] = _with(stored[ident], kind, entry, place)
        used = True
    return tuple(result) if used else None


def _with(stored: Mapping[str, Any], kind: str, entry: Mapping[str, Any], place: str) -> Doc:
    channel = CHANNELS.get(kind)
    given = entry.get(channel.config) if channel is not None else None
    result = dict(stored)
    if entry.get("enabled") is not None:
        result["enabled"] = entry["enabled"]
    elif given is None:
        name = channel.config if channel is not None else "enabled"
        raise Invalid(f"{place}.{name}: is required", place=place)
    if channel is None or given is None:
        return result
    old = _object(stored.get(channel.config))
    config = {name: found for name, flat in channel.kept.items() if (found := old.get(name) or stored.get(flat))}
    if chat := given.get("chat_id"):
        config["chat"] = {"chat_id": chat, "chat_name": ""}
    people = {channel.renamed.get(name, name): value for name, value in given.items()}
    if kind == "mail" and "user_ids" in people:
        named = [{"type": "user", "user_id": uid} for uid in people["user_ids"]]
        people["target_users"] = [*named, *people.get("target_users", ())]
    check_dynamic(people.get("dynamic_recipients") or (), channel, kind, bool(config.get("app_id")), place)
    config |= {name: people[name] for name in channel.recipients if people.get(name)}
    return {**{key: value for key, value in result.items() if key not in channel.flat}, channel.config: config}


def check_dynamic(recipients: Sequence[str], channel: Channel, kind: str, has_app: bool, place: str) -> None:
    """Raises: Invalid: one is no variable, or can never be resolved."""
    where = f"{place}.{channel.config}.dynamic_recipients"
    for recipient in recipients:
        if not channel.dynamic:
            raise Invalid(f"{where}: dynamic recipients are not supported for notification type {kind}", place=place)
        if channel.needs_app and not has_app:
            raise Invalid(
                f"{where}: app_id is required to resolve dynamic recipients for notification type {kind}", place=place
            )
        if not _VARIABLE.fullmatch(recipient):
            raise Invalid(
                f"{where}: dynamic recipient must be a single template variable, got {recipient}", place=place
            )


def recipients_of(notification: Mapping[str, Any]) -> Doc:
    """Whom a notification tells, without its address: what may be shown of it."""
    channel = CHANNELS.get(str(notification.get("webhook_type") or ""))
    if channel is None:
        return {}
    config = _object(notification.get(channel.config))
    found = {name: config[name] for name in channel.recipients if config.get(name)}
    if chat := _object(config.get("chat")).get("chat_id"):
        found["chat_id"] = chat
    return found


def _object(value: Any) -> Mapping[str, Any]:
    """What a definition holds there, ``{}`` when it is no object: definitions are stored as they were sent."""
    return value if isinstance(value, Mapping) else {}
