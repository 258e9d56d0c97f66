"""The body of API tokens."""

from typing import Final

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.operations.actions import SCOPES
from cador.operations.models.body import Body, check_free_name

_MOST: Final = 1_000


class TokenBody(Body):
    """``expires_in_days``: 0 or absent = never. ``scopes``: actions the token is limited to; ``projects``: projects it
    is limited to."""

    name: str = ""
    expires_in_days: int = Field(0, ge=0, le=36_500)
    scopes: list[str] = Field(default_factory=list, max_length=_MOST)
    projects: list[str] = Field(default_factory=list, max_length=_MOST)

    @model_validator(mode="after")
    def _rules(self) -> "TokenBody":
        check_free_name(self.name, "name")
        self.scopes = list(dict.fromkeys(self.scopes))
        self.projects = list(dict.fromkeys(self.projects))
        if unknown := sorted(set(self.scopes) - SCOPES):
            raise Invalid(f"unknown scope {unknown[0]}", place="scopes")
        return self
