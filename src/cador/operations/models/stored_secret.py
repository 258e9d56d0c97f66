"""Kind ``secret``: values that declarative files name instead of holding them."""

import re
from typing import Any, ClassVar, Final

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.operations.models.body import Body, check_line, check_name, require

MAX_ENTRIES: Final = 100
MAX_BYTES: Final = 64 * 1024
_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class SecretBody(Body):
    """``data``: values by key, shown as ``********``; sent back like that they stay. ``projects``: of a secret of the
    system, the projects whose documents may name it; ``<all_projects>``: all."""

    secrets: ClassVar[tuple[str, ...]] = ("data",)

    name: str = ""
    description: str = ""
    projects: list[str] = Field(default_factory=list, max_length=1_000)
    data: dict[str, str] = Field(default_factory=dict, max_length=MAX_ENTRIES, repr=False)

    @model_validator(mode="after")
    def _rules(self) -> "SecretBody":
        require(self.name, "name cannot be empty")
        check_name(self.name, "name")
        check_line(self.description, "description")
        require("".join(self.data), "data cannot be empty")
        for key, value in self.data.items():
            if not _KEY.fullmatch(key):
                raise Invalid("a key consists of letters, digits and . _ -", place="data")
            require(value, f"data.{key} cannot be empty")
            if len(value.encode("utf-8", "surrogatepass")) > MAX_BYTES:
                raise Invalid(f"data.{key} is larger than {MAX_BYTES} bytes", place=f"data.{key}")
        return self

    def document(self) -> dict[str, Any]:
        """In the shape whose values are sealed."""
        entries = [{"key": key, "value": value, "is_credential": True} for key, value in self.data.items()]
        return {"name": self.name, "description": self.description, "projects": self.projects, "entries": entries}


def body_of(document: dict[str, Any]) -> dict[str, Any]:
    """The body of a stored document."""
    shown = {key: value for key, value in document.items() if key != "entries"}
    return {**shown, "data": {entry["key"]: entry["value"] for entry in document["entries"]}}
