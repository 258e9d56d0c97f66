"""Kind ``storage``: records of object storages. Source: API documents, "System configuration"."""

import re
from typing import ClassVar, Final

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.operations.models.body import Body, check_free_name, check_line, require
from cador.operations.models.integrations import check_url

_BUCKET: Final = re.compile(r"[a-z0-9A-Z][a-z0-9A-Z._-]{1,253}[a-z0-9A-Z]")


class StorageBody(Body):
    """``name``: ours; without one it is ``<endpoint>/<bucket>``. ``ak``, ``sk``: the keys. ``provider``: a number of
    the product's own; ``projects``: who may use it, none means all."""

    secrets: ClassVar[tuple[str, ...]] = ("sk",)

    name: str = ""
    ak: str = ""
    sk: str = Field("", repr=False)
    endpoint: str = ""
    bucket: str = ""
    subfolder: str = ""
    insecure: bool = False
    is_default: bool = False
    projects: list[str] = Field(default_factory=list)
    provider: int = Field(1, ge=0, le=99)
    region: str = ""

    @model_validator(mode="after")
    def _rules(self) -> "StorageBody":
        require(self.endpoint, "endpoint cannot be empty")
        check_line(self.endpoint, "endpoint")
        check_url(self.endpoint if "://" in self.endpoint else f"https://{self.endpoint}", "endpoint")
        require(self.bucket, "bucket cannot be empty")
        if not _BUCKET.fullmatch(self.bucket):
            raise Invalid("bucket consists of letters, digits, dots, hyphens and underscores", place="bucket")
        require(self.ak, "ak cannot be empty")
        require(self.sk, "sk cannot be empty")
        for value, what in ((self.ak, "ak"), (self.region, "region"), (self.subfolder, "subfolder")):
            check_line(value, what)
        if ".." in self.subfolder.split("/"):
            raise Invalid("subfolder must stay inside the bucket", place="subfolder")
        self.name = self.name or f"{self.endpoint.partition('://')[2] or self.endpoint}-{self.bucket}".replace("/", "-")
        check_free_name(self.name, "name")
        return self
