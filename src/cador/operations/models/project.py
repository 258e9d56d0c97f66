"""Kind ``project``. Source: API documents, "Projects"."""

from typing import Annotated, Any, Final

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.domain.sharing import LEAST_WEIGHT, MOST_WEIGHT
from cador.operations.models.body import NAME_LENGTH, PROJECT_KEY, Body, check_line, require

PROJECT_TYPES: Final = ("yaml", "helm", "loaded", "vm")
DEPLOY_TYPES: Final = {"yaml": "k8s", "loaded": "k8s", "helm": "helm", "vm": "cloud_host"}


Weight = Annotated[float | None, Field(ge=LEAST_WEIGHT, le=MOST_WEIGHT, allow_inf_nan=False)]
"""Share of the project in the queue beside others. Not of the documents; 1 when it was never given."""


class ProjectBody(Body):
    project_name: str = ""
    project_key: str = ""
    is_public: bool = False
    description: str = ""
    project_type: str = ""
    weight: Weight = None

    @model_validator(mode="after")
    def _rules(self) -> "ProjectBody":
        require(self.project_name, "project_name cannot be empty")
        if not PROJECT_KEY.fullmatch(self.project_key) or len(self.project_key) > NAME_LENGTH:
            raise Invalid(r"project key should match regex: ^[a-z-\d]+$", place="project_key")
        if self.project_type not in PROJECT_TYPES:
            raise Invalid("unsupported project type", place="project_type")
        check_line(self.project_name, "project_name", 256)
        return self

    def document(self) -> dict[str, Any]:
        """Without a weight that was not given."""
        return {key: value for key, value in self.model_dump().items() if key != "weight" or value is not None}


class ProjectChange(Body):
    """Body of the update: what is absent stays."""

    project_name: str | None = None
    description: str | None = None
    is_public: bool | None = None
    weight: Weight = None
