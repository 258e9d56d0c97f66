"""Kinds ``build`` and ``test``: repositories, variables and a script. Source: API documents, "Builds", "Tests"."""

from typing import Any, ClassVar, Final, Literal

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.operations.models.body import (
    AdvancedSettings,
    Body,
    Entry,
    OnCluster,
    ParameterBody,
    RepoBody,
    check_name,
    check_parameters,
    check_repositories,
    require,
)


class TargetBody(Body):
    service_name: str = ""
    service_module: str = ""


class DockerBuild(Body):
    dockerfile_source: str = ""
    build_context_dir: str = ""
    dockerfile_directory: str = ""
    template_name: str = ""
    build_args: str = ""
    enable_buildkit: bool = False
    platforms: str = ""

    @model_validator(mode="after")
    def _rules(self) -> "DockerBuild":
        if self.dockerfile_source not in ("local", "template"):
            raise Invalid("unsupported dockerfile type, it can only be local or template", place="docker_build_step")
        return self


class FileArchive(Body):
    file_location: str = ""


class PostBuild(Body):
    """``file_archive.file_location``: the folder where the script leaves the package ``PKG_FILE``."""

    file_archive: FileArchive = FileArchive()


class ScriptBase(OnCluster):
    """What builds and tests have in common."""

    name: str = ""
    project_key: str = ""
    description: str = ""
    infrastructure: Literal["kubernetes", "vm"] = "kubernetes"
    build_os: str = ""
    installs: list[Entry] = Field(default_factory=list)
    repo_info: list[RepoBody] = Field(default_factory=list)
    parameters: list[ParameterBody] = Field(default_factory=list)
    script_type: Literal["shell", "batch_file", "powershell"] = "shell"
    advanced_settings: AdvancedSettings = AdvancedSettings(cluster_name="local")

    def check_content(self) -> None:
        require(self.build_os, "build_os cannot be empty")
        check_repositories(self.repo_info)
        check_parameters(self.parameters)


class TemplateInput(Body):
    """A value for a variable of a build template. ``is_credential``: as the template says."""

    secrets: ClassVar[tuple[str, ...]] = ("value",)

    key: str = ""
    value: str = ""
    is_credential: bool = False


class TemplateTarget(TargetBody):
    """A module of a build that is made from a template: its repositories and its values."""

    repo_info: list[RepoBody] = Field(default_factory=list)
    inputs: list[TemplateInput] = Field(default_factory=list)

    @model_validator(mode="after")
    def _rules(self) -> "TemplateTarget":
        check_repositories(self.repo_info)
        seen: set[str] = set()
        for number, given in enumerate(self.inputs):
            require(given.key, f"inputs[{number}] key cannot be empty")
            if given.key in seen:
                raise Invalid(f'inputs[{number}] duplicates key "{given.key}"')
            seen.add(given.key)
        return self


_OF_TEMPLATES: Final = ("name", "project_key", "description", "template_name", "target_services")
"""What a build keeps that is made from a template; the rest is the template's."""


class BuildBody(ScriptBase):
    """``services``: the modules this build makes. ``post_build``: ``file_archive {file_location}`` and the like.
    ``template_name``: a build template, which then says everything but the modules in ``target_services``."""

    services: list[TargetBody] = Field(default_factory=list)
    build_script: str = ""
    docker_build_step: DockerBuild | None = None
    post_build: PostBuild | None = None
    template_name: str = ""
    target_services: list[TemplateTarget] = Field(default_factory=list)

    @model_validator(mode="after")
    def _rules(self) -> "BuildBody":
        require(self.name, "build name cannot be empty")
        require(self.project_key, "project key cannot be empty")
        check_name(self.name, "build name")
        if self.template_name:
            if not self.target_services:
                raise Invalid("target_service must have at least one item in it", place="target_services")
            self.services = [
                TargetBody(service_name=target.service_name, service_module=target.service_module)
                for target in self.target_services
            ]
        for number, target in enumerate(self.services):
            if not target.service_name or not target.service_module:
                raise Invalid(f"services[{number}] service_name and service_module cannot be empty")
        if not self.template_name:
            self.check_content()
        return self

    def document(self) -> dict[str, Any]:
        doc = self.model_dump()
        if self.template_name:
            return {key: doc[key] for key in (*_OF_TEMPLATES, "services")}
        for key in ("docker_build_step", "post_build"):
            if doc[key] is None:
                del doc[key]
        del doc["template_name"], doc["target_services"]
        return doc


class TestBody(ScriptBase):
    """``report_path``: directory of JUnit reports; ``pass_rate``: per cent of cases that must pass, 0 means 100."""

    __test__ = False

    script: str = ""
    report_path: str = ""
    html_report_path: str = ""
    pass_rate: int = 0
    artifact_paths: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _rules(self) -> "TestBody":
        require(self.name, "test name cannot be empty")
        require(self.project_key, "project key cannot be empty")
        check_name(self.name, "test name")
        if not 0 <= self.pass_rate <= 100:
            raise Invalid("pass_rate must be between 0 and 100", place="pass_rate")
        self.check_content()
        return self
