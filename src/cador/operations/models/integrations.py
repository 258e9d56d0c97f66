"""Kinds of the system that jobs and messages go through: ``mail``, ``imapp``, ``proxy``, ``tool``."""

import re
from typing import ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.operations.models.body import VARIABLE, Body, check_free_name, check_line, require

_HOST: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]{2,45}\]")
_MAIL: Final = re.compile(r"[^\s@]+@[^\s@]+")
MOST_SCRIPT_BYTES: Final = 65_536


def check_host(host: str, place: str) -> None:
    """A name or address without scheme, port and path. Raises: Invalid."""
    require(host, f"{place} cannot be empty")
    if not _HOST.fullmatch(host):
        raise Invalid(f"{place} must be a host name or an address, without scheme and port", place=place)


def check_port(port: int, place: str = "port") -> None:
    if not 0 < port < 65_536:
        raise Invalid(f"{place} must be between 1 and 65535", place=place)


class MailBody(Body):
    """A server that mail is sent through. ``address``: of the sender, ``display_name``: the name beside it.
    ``isTLS``: TLS from the first byte (port 465); without it STARTTLS is used where the server offers it. One mail
    server is the default: the first by itself, then the one that asks for it."""

    secrets: ClassVar[tuple[str, ...]] = ("password",)

    name: str = "default"
    host: str = ""
    port: int = 587
    username: str = ""
    password: str = ""
    isTLS: bool = False
    address: str = ""
    display_name: str = ""
    is_default: bool = False

    @model_validator(mode="after")
    def _rules(self) -> "MailBody":
        require(self.name, "name cannot be empty")
        check_free_name(self.name, "name")
        check_host(self.host, "host")
        check_port(self.port)
        for value, what in ((self.username, "username"), (self.display_name, "display_name")):
            check_line(value, what)
        check_line(self.address, "address", 254)
        if self.address and not _MAIL.fullmatch(self.address):
            raise Invalid("address must be a mail address", place="address")
        return self


IM_TYPES: Final = ("lark", "lark_intl", "dingtalk", "workwx")
_NEEDED: Final = {
    "lark": ("app_id", "app_secret"),
    "lark_intl": ("app_id", "app_secret"),
    "dingtalk": ("dingtalk_app_key", "dingtalk_app_secret"),
    "workwx": ("corp_id", "agent_secret"),
}


class ImAppBody(Body):
    """An application of a messenger. What is needed follows from ``type``: ``app_id``, ``app_secret`` (lark,
    lark_intl); ``dingtalk_app_key``, ``dingtalk_app_secret``; ``corp_id``, ``agent_id``, ``agent_secret`` (workwx)."""

    secrets: ClassVar[tuple[str, ...]] = (
        "app_secret",
        "encrypt_key",
        "dingtalk_app_secret",
        "dingtalk_aes_key",
        "dingtalk_token",
        "agent_secret",
        "workwx_token",
        "workwx_aes_key",
    )

    name: str = ""
    type: str = ""
    app_id: str = ""
    app_secret: str = ""
    encrypt_key: str = ""
    lark_event_type: Literal["", "sse", "callback"] = ""
    dingtalk_app_key: str = ""
    dingtalk_app_secret: str = ""
    dingtalk_aes_key: str = ""
    dingtalk_token: str = ""
    host: str = ""
    corp_id: str = ""
    agent_id: int = 0
    agent_secret: str = ""
    workwx_approval_template_id: str = ""
    workwx_token: str = ""
    workwx_aes_key: str = ""

    @model_validator(mode="after")
    def _rules(self) -> "ImAppBody":
        require(self.name, "name cannot be empty")
        check_free_name(self.name, "name")
        if self.type not in IM_TYPES:
            raise Invalid(f"type must be one of {', '.join(IM_TYPES)}", place="type")
        for key in _NEEDED[self.type]:
            require(getattr(self, key), f"{key} cannot be empty")
        if self.type == "workwx":
            if self.agent_id <= 0:
                raise Invalid("agent_id cannot be empty", place="agent_id")
            self.host = self.host.rstrip("/") or "https://qyapi.weixin.qq.com"
        if self.host:
            check_url(self.host, "host")
        for key in ("app_id", "dingtalk_app_key", "corp_id", "workwx_approval_template_id"):
            check_line(getattr(self, key), key)
        return self


def check_url(address: str, place: str) -> None:
    """http or https, without credentials. Raises: Invalid."""
    try:
        parts = urlsplit(address)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and not any(c.isspace() for c in address)
        _ = parts.port
    except ValueError:
        fits = False
    if not fits:
        raise Invalid(f"{place} needs to be a valid URL", place=place)
    if parts.username is not None:
        raise Invalid(f"{place} must not hold user names or passwords", place=place)
    check_line(address, place)


class ProxyBody(Body):
    """The one proxy of the server. ``enable_repo_proxy``: repositories whose code host says ``enable_proxy`` are
    reached through it; ``enable_application_proxy``: so are messengers and other systems."""

    secrets: ClassVar[tuple[str, ...]] = ("password",)

    type: Literal["http"] = "http"
    address: str = ""
    port: int = 0
    need_password: bool = False
    username: str = ""
    password: str = ""
    enable_repo_proxy: bool = False
    enable_application_proxy: bool = False

    @model_validator(mode="after")
    def _rules(self) -> "ProxyBody":
        check_host(self.address, "address")
        check_port(self.port)
        check_line(self.username, "username", 256)
        if self.need_password:
            require(self.username, "username cannot be empty")
            require(self.password, "password cannot be empty")
        return self


class ToolBody(Body):
    """A package that builds and tests name in ``installs``. ``scripts``: lines run under bash, ``${FILEPATH}`` is the
    file of ``download_path``; ``env``: ``NAME=value`` each; ``bin_path``: folder added to ``PATH``. ``label`` is name
    and version with a blank between."""

    label: str = ""
    name: str = ""
    version: str = ""
    scripts: list[str] = Field(default_factory=list)
    env: list[str] = Field(default_factory=list)
    bin_path: str = ""
    download_path: str = ""
    enabled: bool = True

    @model_validator(mode="after")
    def _rules(self) -> "ToolBody":
        if self.label and not self.name:
            self.name, _, self.version = self.label.rpartition(" ")
        require(self.name, "name cannot be empty")
        require(self.version, "version cannot be empty")
        check_free_name(self.name, "name")
        check_free_name(self.version, "version")
        if " " in self.version:
            raise Invalid("version cannot hold blanks", place="version")
        label = f"{self.name} {self.version}"
        if self.label not in ("", label):
            raise Invalid(f"label must be {label!r}", place="label")
        self.label = label
        if sum(map(len, self.scripts)) > MOST_SCRIPT_BYTES:
            raise Invalid(f"scripts are longer than {MOST_SCRIPT_BYTES} characters", place="scripts")
        for number, entry in enumerate(self.env):
            name, equals, _ = entry.partition("=")
            if not equals or not VARIABLE.fullmatch(name):
                raise Invalid(f"env[{number}] must be NAME=value", place=f"env[{number}]")
            check_line(entry, f"env[{number}]", 4096)
        check_line(self.bin_path, "bin_path")
        if self.download_path:
            check_url(self.download_path, "download_path")
        return self
