"""Kind ``group``: people who are meant together."""

from pydantic import Field, model_validator

from cador.operations.models.body import Body, check_free_name, check_line, require


class GroupBody(Body):
    """``uids``: ids of its members."""

    name: str = ""
    description: str = ""
    uids: list[str] = Field(default_factory=list, max_length=10_000)

    @model_validator(mode="after")
    def _rules(self) -> "GroupBody":
        require(self.name, "name cannot be empty")
        check_free_name(self.name, "name")
        check_line(self.description, "description", 1024)
        self.uids = list(dict.fromkeys(self.uids))
        return self


class GroupChange(Body):
    """What is absent stays."""

    name: str | None = None
    description: str | None = None
    uids: list[str] | None = Field(None, max_length=10_000)


class MembersBody(Body):
    """``uids``: who comes in."""

    uids: list[str] = Field(default_factory=list, max_length=10_000)

    @model_validator(mode="after")
    def _rules(self) -> "MembersBody":
        if not self.uids:
            require("", "uids cannot be empty")
        return self
