"""Kinds ``servicetemplate``, ``buildtemplate`` and ``dockerfiletemplate``: what services and builds are made from."""

from typing import Any, Final

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.operations.models.body import KV, Body, check_free_name, check_line, check_name, require
from cador.operations.models.builds import DockerBuild, PostBuild, ScriptBase
from cador.operations.models.service import check_variables, read_modules

MOST_DOCKERFILE: Final = 262_144


class ServiceTemplateBody(Body):
    """``yaml``: a manifest; ``$T-Project$`` and ``$T-Service$`` in it become the project's key and the service's name
    when a service is made from it."""

    name: str = ""
    description: str = ""
    yaml: str = ""
    variable_yaml: list[KV] = Field(default_factory=list)

    @model_validator(mode="after")
    def _rules(self) -> "ServiceTemplateBody":
        check_template(self.name, self.description)
        require(self.yaml.strip(), "yaml cannot be empty")
        check_variables(self.variable_yaml)
        read_modules(self.yaml)
        return self


class BuildTemplateBody(ScriptBase):
    """A build without modules and repositories; each build that is made from it names its own."""

    build_script: str = ""
    docker_build_step: DockerBuild | None = None
    post_build: PostBuild | None = None

    @model_validator(mode="after")
    def _rules(self) -> "BuildTemplateBody":
        check_template(self.name, self.description)
        self.check_content()
        return self

    def document(self) -> dict[str, Any]:
        doc = self.model_dump(exclude={"project_key", "repo_info"})
        for key in ("docker_build_step", "post_build"):
            if doc[key] is None:
                del doc[key]
        return doc


class DockerfileTemplateBody(Body):
    """``dockerfile_text``: of the file."""

    name: str = ""
    description: str = ""
    dockerfile_text: str = ""

    @model_validator(mode="after")
    def _rules(self) -> "DockerfileTemplateBody":
        check_template(self.name, self.description)
        require(self.dockerfile_text.strip(), "dockerfile_text cannot be empty")
        if len(self.dockerfile_text) > MOST_DOCKERFILE:
            raise Invalid(f"dockerfile_text is longer than {MOST_DOCKERFILE} characters", place="dockerfile_text")
        return self


class Setting(Body):
    """A value for a variable of a template."""

    key: str = ""
    value: str = ""


class LoadTemplate(Body):
    """``auto_sync``: the service follows the template when that is changed."""

    service_name: str = ""
    project_key: str = ""
    template_name: str = ""
    auto_sync: bool = False
    variable_yaml: list[Setting] = Field(default_factory=list)
    production: bool = False

    @model_validator(mode="after")
    def _rules(self) -> "LoadTemplate":
        require(self.service_name, "service name cannot be empty")
        require(self.project_key, "project name cannot be empty")
        require(self.template_name, "template_name cannot be empty")
        check_name(self.service_name, "service name")
        return self


def check_template(name: str, description: str) -> None:
    require(name, "name cannot be empty")
    check_free_name(name, "name")
    check_line(description, "description")
