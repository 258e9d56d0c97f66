"""What "create an approval ticket" sends."""

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from cador.domain.errors import Invalid
from cador.operations.models.body import Body, check_free_name, check_line, require

MOST_LISTED: Final = 1_000
LATEST: Final = 1 << 53


class TicketService(Body):
    service_name: str = Field(min_length=1)
    service_module: str = Field(min_length=1)


class TicketUser(Body):
    """``name`` is shown; ``email`` is who is meant."""

    name: str = Field(min_length=1)
    email: str = Field(min_length=1)


class TicketBody(Body):
    """``status``: 1 in effect, 0 not. ``envs``: names, or one text of names separated by commas. What is empty, or 0,
    limits nothing. The window: Unix seconds."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    project_key: str = ""
    approval_id: str = ""
    status: Literal[0, 1]
    envs: list[str] = Field(
        default_factory=list,
        max_length=MOST_LISTED,
        json_schema_extra={"type": ["array", "string"]},
    )
    services: list[TicketService] = Field(default_factory=list, max_length=MOST_LISTED)
    users: list[TicketUser] = Field(default_factory=list, max_length=MOST_LISTED)
    execution_window_start: int = Field(0, ge=0, le=LATEST)
    execution_window_end: int = Field(0, ge=0, le=LATEST)

    @field_validator("envs", mode="before")
    @classmethod
    def _one_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [name for part in value.split(",") if (name := part.strip())]
        return value

    @field_validator("status", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        """``true`` and ``1.0`` would pass for 1."""
        return value if type(value) is int else None

    @model_validator(mode="after")
    def _rules(self) -> "TicketBody":
        require(self.approval_id, "approval_id cannot be empty")
        require(self.project_key, "project_key cannot be empty")
        check_free_name(self.approval_id, "approval_id")
        users = (text for user in self.users for text in (user.name, user.email))
        services = (text for one in self.services for text in (one.service_name, one.service_module))
        for text in (*self.envs, *users, *services):
            check_line(text, "envs, services and users")
        if self.execution_window_end and self.execution_window_start > self.execution_window_end:
            raise Invalid("invalid time window: start time greater than end time")
        return self
