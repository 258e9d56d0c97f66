"""Kind ``registry``: where images are pushed to."""

from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.operations.models.body import Body, check_free_name, check_line, require

PROVIDERS: Final = (
    "acr",
    "acr-enterprise",
    "dockerhub",
    "ecr",
    "harbor",
    "jfrog",
    "native",
    "nexus",
    "swr",
    "tcr",
    "tcr-enterprise",
)


class RegistryBody(Body):
    """``name``: ours, for references in declarative files; without one it is ``<host>/<namespace>``."""

    secrets: ClassVar[tuple[str, ...]] = ("secret_key",)

    name: str = ""
    address: str = ""
    provider: str = ""
    namespace: str = ""
    region: str = ""
    is_default: bool = False
    access_key: str = ""
    secret_key: str = ""
    enable_tls: bool = Field(default=True)
    tls_cert: str = ""

    @model_validator(mode="after")
    def _rules(self) -> "RegistryBody":
        require(self.address, "address cannot be empty")
        check_line(self.address, "address")
        if not _is_url(self.address):
            raise Invalid("address needs to be a valid URL", place="address")
        if self.provider not in PROVIDERS:
            raise Invalid("unsupported registry provider", place="provider")
        if self.provider == "ecr":
            require(self.region, "region is a required field for ECR provider")
        else:
            require(self.namespace, "namespace cannot be empty")
        check_line(self.namespace, "namespace", 256)
        self.name = self.name or location(self.address, self.namespace)
        check_free_name(self.name.replace("/", "-"), "name")
        return self

    def document(self) -> dict[str, Any]:
        return self.model_dump()


def location(address: str, namespace: str) -> str:
    """``host/namespace``: how registries are compared, without scheme, trailing slash and letter case of the host."""
    rest = address.partition("://")[2] or address
    host, slash, path = rest.rstrip("/").partition("/")
    return "/".join(part for part in (host.lower() + slash + path, namespace.strip("/")) if part)


def _is_url(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    # hosts are not looked at closely: masked addresses (https://koderover.******.com) appear in the documents
    return parts.scheme in ("http", "https") and bool(parts.netloc) and "@" not in parts.netloc and " " not in address
