"""Kind ``codehost``: where repositories live, and how to get in."""

import re
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.operations.models.body import Body, check_free_name, check_line, require

TYPES: Final = ("gitlab", "github", "gitee", "gitee-enterprise", "gerrit", "other")
_DEFAULT_ADDRESS: Final = {"github": "https://github.com", "gitee": "https://gitee.com"}
_SCP: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*(:[A-Za-z0-9_./~-]*)?")


class CodeHostBody(Body):
    """``name`` is what ``codehost_name`` says everywhere. ``known_hosts``: lines of an OpenSSH known_hosts file."""

    secrets: ClassVar[tuple[str, ...]] = (
        "access_token",
        "client_secret",
        "password",
        "ssh_key",
        "private_access_token",
    )

    name: str = Field("", validation_alias="name")
    type: str = ""
    address: str = ""
    access_token: str = ""
    application_id: str = ""
    client_secret: str = ""
    username: str = ""
    password: str = ""
    auth_type: str = ""
    ssh_key: str = ""
    private_access_token: str = ""
    known_hosts: str = ""
    namespace: str = ""
    enable_proxy: bool = False
    disable_ssl: bool = False
    projects: list[str] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, dict) and "alias" in value and "name" not in value:
            value = {**value, "name": value["alias"]}
        return value

    @model_validator(mode="after")
    def _rules(self) -> "CodeHostBody":
        require(self.name, "name cannot be empty")
        check_free_name(self.name, "name")
        if self.type not in TYPES:
            raise Invalid(f"unsupported code host type, it can only be one of {', '.join(TYPES)}", place="type")
        self.address = (self.address or _DEFAULT_ADDRESS.get(self.type, "")).rstrip("/")
        require(self.address, "address cannot be empty")
        _check_address(self.address, self.type)
        self._check_access()
        return self

    def _check_access(self) -> None:
        if self.type in ("gitlab", "github", "gitee", "gitee-enterprise"):
            if not self.access_token and not (self.application_id and self.client_secret):
                raise Invalid("access_token, or application_id and client_secret, cannot be empty")
        elif self.type == "gerrit":
            if not (self.username and self.password):
                raise Invalid("username and password cannot be empty")
        elif self.auth_type == "SSH":
            require(self.ssh_key, "ssh_key cannot be empty")
        elif self.auth_type == "PrivateAccessToken":
            require(self.private_access_token, "private_access_token cannot be empty")
        elif self.auth_type:
            raise Invalid("auth_type can only be SSH or PrivateAccessToken", place="auth_type")


def _check_address(address: str, kind: str) -> None:
    """Raises: Invalid. ``other`` also takes ``git@host``, ``ssh://``, ``git://`` and ``file://``."""
    check_line(address, "address")
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid("address needs to be a valid URL", place="address") from error
    if parts.password is not None or (parts.username is not None and parts.scheme in ("http", "https")):
        raise Invalid("address must not hold user names or passwords", place="address")
    if kind == "other" and (
        _SCP.fullmatch(address)
        or (parts.scheme in ("ssh", "git") and host)
        or (parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"))
    ):
        return
    if parts.scheme not in ("http", "https") or not host or any(c.isspace() for c in address):
        raise Invalid("address needs to be a valid URL", place="address")
