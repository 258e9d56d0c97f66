"""Kind ``view``: a named selection of a project's workflows."""

from typing import Final

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.operations.models.body import Body, check_free_name, require

TYPES: Final = ("custom", "product")
MOST_MEMBERS: Final = 10_000


class ViewMember(Body):
    """``workflow_type``: ``custom`` or ``product``. ``enabled``: whether it is shown; one that is not keeps its
    place."""

    workflow_key: str = ""
    workflow_type: str = "custom"
    enabled: bool = True

    @model_validator(mode="after")
    def _rules(self) -> "ViewMember":
        require(self.workflow_key, "workflow key cannot be empty")
        if self.workflow_type not in TYPES:
            raise Invalid("workflow type must be custom or product")
        return self


class ViewBody(Body):
    """What "create a view" sends. A workflow that is listed twice counts once; it need not exist."""

    name: str = ""
    workflow_list: list[ViewMember] = Field(max_length=MOST_MEMBERS)

    @model_validator(mode="after")
    def _rules(self) -> "ViewBody":
        require(self.name, "view name cannot be empty")
        check_free_name(self.name, "view name")
        self.workflow_list = list({member.workflow_key: member for member in self.workflow_list}.values())
        return self


class ViewMemberChange(ViewMember):
    """Of "edit a view": what does not say that it is enabled is not."""

    enabled: bool = False


class ViewChange(Body):
    """What "edit a view" sends: workflows that are not listed stay as they are."""

    workflow_list: list[ViewMemberChange] = Field(max_length=MOST_MEMBERS)
