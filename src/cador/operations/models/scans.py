"""Kinds ``scan`` and ``sonar``: code scans, and SonarQube servers they report to. Source: API documents, "Scans"."""

from typing import ClassVar, Final

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.operations.models.body import (
    AdvancedSettings,
    Body,
    Entry,
    OnCluster,
    ParameterBody,
    RepoBody,
    check_free_name,
    check_line,
    check_name,
    check_parameters,
    check_repositories,
    require,
)
from cador.operations.models.integrations import check_url

SONAR: Final = "sonarQube"
OTHER: Final = "other"
MOST_PARAMETER_BYTES: Final = 65_536


class ScanSettings(AdvancedSettings):
    """``concurrency_limit``: how many runs of the scan by itself there may be at a time, 0 or -1 for any number."""

    concurrency_limit: int = Field(default=0, ge=-1)


class ScanBody(OnCluster):
    """``image_name``: label of a base image. ``script``: of type ``other``; ``prelaunch_script``: before the scanner of
    type ``sonarQube``. ``sonar_system``: name of a SonarQube server; ``sonar_parameter``: text of
    ``sonar-project.properties``. ``enable_scanner``: the server writes that file and runs ``sonar-scanner``; without it
    the script does. ``parameters``: variables. ``artifact_paths``: what is packed and kept, of failed scans, too."""

    name: str = ""
    project_key: str = ""
    description: str = ""
    scanner_type: str = ""
    image_name: str = ""
    sonar_system: str = ""
    repo_info: list[RepoBody] = Field(default_factory=list)
    addons: list[Entry] = Field(default_factory=list)
    parameters: list[ParameterBody] = Field(default_factory=list)
    prelaunch_script: str = ""
    sonar_parameter: str = ""
    script: str = ""
    enable_scanner: bool = True
    enable_quality_gate: bool = False
    artifact_paths: list[str] = Field(default_factory=list)
    advanced_settings: ScanSettings = ScanSettings(cluster_name="local")

    @model_validator(mode="after")
    def _rules(self) -> "ScanBody":
        require(self.name, "scanning name cannot be empty")
        require(self.project_key, "project key cannot be empty")
        check_name(self.name, "scanning name")
        if self.scanner_type not in (SONAR, OTHER):
            raise Invalid("scanner_type can only be sonarQube or other", place="scanner_type")
        require(self.image_name, "image name cannot be empty")
        check_repositories(self.repo_info)
        check_parameters(self.parameters)
        for number, path in enumerate(self.artifact_paths):
            check_line(path, f"artifact_paths[{number}]")
        if self.scanner_type == SONAR:
            self._check_sonar()
        return self

    def _check_sonar(self) -> None:
        require(self.sonar_system, "sonar_system cannot be empty")
        if self.enable_scanner and not self.sonar_parameter.strip():
            raise Invalid("sonar_parameter cannot be empty when the scanner is run", place="sonar_parameter")
        if len(self.sonar_parameter.encode()) > MOST_PARAMETER_BYTES:
            raise Invalid(f"sonar_parameter is longer than {MOST_PARAMETER_BYTES} bytes", place="sonar_parameter")


class SonarBody(Body):
    """A SonarQube server. ``system_identity`` is its name, what ``sonar_system`` of scans says."""

    secrets: ClassVar[tuple[str, ...]] = ("token",)

    system_identity: str = ""
    server_address: str = ""
    token: str = Field("", repr=False)

    @model_validator(mode="after")
    def _rules(self) -> "SonarBody":
        require(self.system_identity, "system_identity cannot be empty")
        check_free_name(self.system_identity, "system_identity")
        self.server_address = self.server_address.rstrip("/")
        require(self.server_address, "server_address cannot be empty")
        check_url(self.server_address, "server_address")
        require(self.token, "token cannot be empty")
        if any(character.isspace() or not character.isprintable() for character in self.token):
            raise Invalid("token cannot hold blanks or control characters", place="token")
        return self
