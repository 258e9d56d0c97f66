"""Kind ``project``. Source: API documents, "Projects"."""

from typing import Annotated, Any, Final

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.domain.sharing import LEAST_WEIGHT, MOST_WEIGHT
from cador.operations.models.body import KV, NAME_LENGTH, PROJECT_KEY, Body, check_line, require
from cador.operations.models.service import check_variables

PROJECT_TYPES: Final = ("yaml", "helm", "loaded", "vm")
DEPLOY_TYPES: Final = {"yaml": "k8s", "loaded": "k8s", "helm": "helm", "vm": "cloud_host"}


Weight = Annotated[float | None, Field(ge=LEAST_WEIGHT, le=MOST_WEIGHT, allow_inf_nan=False)]
"""Share of the project in the queue beside others. Not of the documents; 1 when it was never given."""


KEPT: Final = ("weight", "variables", "production_variables")
"""What stays when a project is replaced by a document without it."""
Variables = Annotated[list[KV] | None, Field(max_length=2_000)]


class ProjectBody(Body):
    """``variables``, ``production_variables``: of all environments of the project."""

    project_name: str = ""
    project_key: str = ""
    is_public: bool = False
    description: str = ""
    project_type: str = ""
    weight: Weight = None
    variables: Variables = None
    production_variables: Variables = None

    @model_validator(mode="after")
    def _rules(self) -> "ProjectBody":
        require(self.project_name, "project_name cannot be empty")
        if not PROJECT_KEY.fullmatch(self.project_key) or len(self.project_key) > NAME_LENGTH:
            raise Invalid(r"project key should match regex: ^[a-z-\d]+$", place="project_key")
        if self.project_type not in PROJECT_TYPES:
            raise Invalid("unsupported project type", place="project_type")
        check_line(self.project_name, "project_name", 256)
        check_variables(self.variables or [])
        check_variables(self.production_variables or [])
        return self

    def document(self) -> dict[str, Any]:
        """Without what was not given of :data:`KEPT`."""
        return {key: value for key, value in self.model_dump().items() if key not in KEPT or value is not None}


class ProjectChange(Body):
    """Body of the update: what is absent stays."""

    project_name: str | None = None
    description: str | None = None
    is_public: bool | None = None
    weight: Weight = None
    variables: Variables = None
    production_variables: Variables = None


class GlobalVariables(Body):
    """What is absent stays."""

    variables: Variables = None
    production_variables: Variables = None


class FirstService(Body):
    """``source``: ``yaml`` with the manifest, or ``template`` with a template's name."""

    source: str = ""
    service_name: str = ""
    template_name: str = ""
    yaml: str = ""
    variable_yaml: list[KV] = Field(default_factory=list)
    auto_sync: bool = False

    @model_validator(mode="after")
    def _rules(self) -> "FirstService":
        require(self.service_name, "service_name cannot be empty")
        if self.source not in ("yaml", "template"):
            raise Invalid("source must be template or yaml", place="source")
        if self.source == "template":
            require(self.template_name, "template_name cannot be empty")
        return self

    def body(self) -> dict[str, Any]:
        """The body of the service."""
        own = (
            {"template_name": self.template_name, "auto_sync": self.auto_sync}
            if self.source == "template"
            else {"yaml": self.yaml}
        )
        variables = [kv.model_dump() for kv in self.variable_yaml]
        return {"service_name": self.service_name, **own, "variable_yaml": variables}


class FirstEnvironment(Body):
    env_key: str = ""
    cluster_name: str = ""
    namespace: str = ""


class ProjectInit(ProjectBody):
    """A project with its first services and environments."""

    service_list: list[FirstService] = Field(default_factory=list, max_length=1_000)
    env_list: list[FirstEnvironment] = Field(default_factory=list, max_length=100)

    @model_validator(mode="after")
    def _not_empty(self) -> "ProjectInit":
        if not self.service_list:
            raise Invalid("initializing a project with no services is not allowed", place="service_list")
        return self

    def project(self) -> dict[str, Any]:
        """The document of the project itself."""
        return {key: value for key, value in self.document().items() if key not in ("service_list", "env_list")}
