"""Kinds ``baseimage`` and ``setting``, and users."""

import re
from typing import Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.domain.masking import MASK
from cador.operations.models.body import Body, check_free_name, check_line, require

SETTINGS: Final = ("base_url", "language", "webhook_secret")
LIVE_SETTINGS: Final = (
    "engine.max_running_tasks",
    "engine.max_running_per_project",
    "engine.max_running_per_user",
    "retention.max_days",
    "retention.max_items_per_workflow",
    "retention.purge_days",
)
"""What administrators change while servers work; kept apart, but a file names them beside the others."""

_LANGUAGES: Final = {"zh-cn": "zh", "zh-CN": "zh", "en-us": "en", "en-US": "en"}
"""Longer words for the same."""


class BaseImageBody(Body):
    """``label`` is what ``build_os`` names; ``value``: an image, or an OS short name of the configured pattern."""

    label: str = ""
    value: str = ""
    image_from: Literal["koderover", "custom"] = "custom"
    image_type: Literal["", "sonar"] = ""

    @model_validator(mode="after")
    def _rules(self) -> "BaseImageBody":
        require(self.label, "label cannot be empty")
        check_free_name(self.label, "label")
        require(self.value, "value cannot be empty")
        check_line(self.value, "value")
        return self


class SettingBody(Body):
    """``webhook_secret``: what code hosts sign their hooks with; its value is sealed and shown as ``********``."""

    name: str = ""
    value: str = ""

    @model_validator(mode="after")
    def _rules(self) -> "SettingBody":
        if self.name not in SETTINGS:
            raise Invalid(f"unknown setting {self.name!r}, known are: {', '.join(SETTINGS)}", place="name")
        if self.name == "language":
            self.value = _LANGUAGES.get(self.value, self.value)
            if self.value not in ("zh", "en"):
                raise Invalid("language is zh or en", place="value")
        if self.name == "base_url":
            self.value = self.value.rstrip("/")
            if urlsplit(self.value).scheme not in ("http", "https") or not urlsplit(self.value).netloc:
                raise Invalid("base_url needs to be a valid URL", place="value")
        if self.name == "webhook_secret":
            require(self.value, "value cannot be empty")
            check_line(self.value, "value", 256)
        return self

    def document(self) -> dict[str, Any]:
        return self.model_dump() | ({"is_credential": True} if self.name == "webhook_secret" else {})


class AnySettingBody(SettingBody):
    """Also those that are changed while servers work: whole numbers. What each may be is said where it is set."""

    @model_validator(mode="after")
    def _rules(self) -> "AnySettingBody":
        if self.name not in LIVE_SETTINGS:
            if self.name not in SETTINGS:
                known = ", ".join((*SETTINGS, *LIVE_SETTINGS))
                raise Invalid(f"unknown setting {self.name!r}, known are: {known}", place="name")
            super()._rules()  # type: ignore[operator]  # a validator is a method underneath
        elif not (self.value.isascii() and self.value.isdigit() and len(self.value) < 10):
            raise Invalid(f"{self.name} is a whole number", place="value")
        return self


_ACCOUNT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_MAIL: Final = re.compile(r"[^\s@]+@[^\s@]+")


class UserBody(Body):
    """``admin``: system administrator."""

    secrets: ClassVar[tuple[str, ...]] = ("password",)

    account: str = ""
    name: str = ""
    email: str = ""
    phone: str = ""
    password: str = Field("", repr=False)
    admin: bool = False

    @model_validator(mode="after")
    def _rules(self) -> "UserBody":
        require(self.account, "account cannot be empty")
        if not _ACCOUNT.fullmatch(self.account):
            raise Invalid("account consists of letters, digits and . _ @ + - and starts with a letter or digit")
        self.name = self.name or self.account
        check_free_name(self.name, "name")
        check_contact(self.email, self.phone)
        if self.password == MASK:
            self.password = ""  # the stored one stays
        if self.password:
            check_password(self.password)
        return self


class UserChange(Body):
    """What is absent stays."""

    name: str | None = None
    email: str | None = None
    phone: str | None = None
    password: str | None = Field(None, repr=False)
    admin: bool | None = None

    @model_validator(mode="after")
    def _rules(self) -> "UserChange":
        if self.name is not None:
            require(self.name, "name cannot be empty")
            check_free_name(self.name, "name")
        check_contact(self.email or "", self.phone or "")
        if self.password is not None:
            check_password(self.password)
        return self


def check_contact(email: str, phone: str) -> None:
    check_line(email, "email", 254)
    check_line(phone, "phone", 32)
    if email and not _MAIL.fullmatch(email):
        raise Invalid("email must be an address", place="email")


def check_password(password: str) -> None:
    """Raises: Invalid: upper case, lower case, digit, 8 to 256 characters."""
    if (
        not 8 <= len(password) <= 256
        or not re.search("[A-Z]", password)
        or not re.search("[a-z]", password)
        or not re.search("[0-9]", password)
    ):
        raise Invalid(
            "password must have at least 8 characters with an upper case letter, a lower case letter and a digit"
        )
