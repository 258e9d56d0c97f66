"""What all models share: strict types, null counts as absent, unknown keys dropped, faults as :class:`Invalid`.

A rule with a fixed text raises ``Invalid`` itself, out of a validator: pydantic hands it through unchanged.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cador.domain.errors import Invalid
from cador.jobs.definition import LONGEST_TASK_MIN, raise_faults, rename_options

PROJECT_KEY: Final = re.compile(r"[a-z\d-]+", re.ASCII)
NAME: Final = re.compile(r"[a-zA-Z0-9_-]+")
NAME_LENGTH: Final = 128
VARIABLE: Final = re.compile(r"[^\s=\x00-\x1f\x7f]+")
_BAD_IN_NAMES: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff/\\]")
_BAD_IN_TEXT: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Body(BaseModel):
    """The JSON body of a kind. ``secrets``: names of fields that are sealed when stored and masked in replies."""

    model_config = ConfigDict(strict=True, defer_build=True, extra="ignore", hide_input_in_errors=True)
    secrets: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value

    def document(self) -> dict[str, Any]:
        """As stored and given back."""
        return self.model_dump()


B = TypeVar("B", bound=Body)


def read_body(model: type[B], value: Any) -> B:
    """Parse a body. Raises: Invalid: the documented text, or every fault with its place."""
    if not isinstance(value, Mapping):
        raise Invalid("the body must be an object")
    try:
        return model.model_validate(rename_options(value))
    except ValidationError as error:
        raise_faults(error)


def require(value: str, text: str) -> None:
    if not value:
        raise Invalid(text)


def check_name(name: str, what: str) -> None:
    """Names of builds, tests and services. Raises: Invalid."""
    if not NAME.fullmatch(name) or len(name) > NAME_LENGTH:
        raise Invalid(f"{what} should match regex: ^[a-zA-Z0-9-_]+$", place="name")


def check_free_name(name: str, what: str) -> None:
    """Names that may hold spaces and other letters: of code hosts, base images, people. Raises: Invalid."""
    if _BAD_IN_NAMES.search(name) or name != name.strip() or name in (".", "..") or len(name) > NAME_LENGTH:
        raise Invalid(
            f"{what} must be at most {NAME_LENGTH} characters without slashes, control characters and blanks around it",
            place="name",
        )


def check_line(text: str, what: str, limit: int = 1024) -> None:
    """One line of free text. Raises: Invalid."""
    if _BAD_IN_TEXT.search(text) or "\n" in text or "\r" in text or len(text) > limit:
        raise Invalid(f"{what} must be one line of at most {limit} characters")


class Entry(Body):
    """``{name, version}`` of a tool."""

    name: str = ""
    version: str = ""


class RepoBody(Body):
    """A repository of a build or test. ``codehost_name``: alias of the code host."""

    codehost_name: str = ""
    repo_namespace: str = ""
    repo_name: str = ""
    branch: str = ""
    remote_name: str = "origin"
    checkout_path: str = ""
    submodules: bool = False
    hidden: bool = False
    is_primary: bool = False
    enable_commit: bool = False
    commit_id: str = ""
    tag: str = ""


class ParameterBody(Body):
    """A variable of a build or test. ``is_credential``: the value is sealed."""

    secrets: ClassVar[tuple[str, ...]] = ("default_value",)

    key: str = ""
    type: str = "string"
    default_value: str = ""
    choice_option: list[str] = Field(default_factory=list)
    choice_value: list[str] = Field(default_factory=list)
    is_credential: bool = False
    description: str = ""


PARAMETER_TYPES: Final = ("string", "text", "choice", "multi-select", "image", "script", "file")


class KV(Body):
    """A variable of a service's manifest."""

    key: str = ""
    value: str = ""
    type: str = "string"
    options: list[str] = Field(default_factory=list)
    desc: str = ""


class ResourceSpec(Body):
    """``cpu_*``: millicores; ``memory_*``: MiB."""

    cpu_req: int = 0
    cpu_limit: int = 0
    memory_req: int = 0
    memory_limit: int = 0
    gpu_limit: str = ""


class CacheSetting(Body):
    enabled: bool = False
    cache_dir: str = ""


class Pair(Body):
    key: str = ""
    value: str = ""


class AdvancedSettings(Body):
    """``timeout``: minutes, at most a year."""

    cluster_name: str = ""
    strategy_name: str = ""
    timeout: int = Field(default=60, le=LONGEST_TASK_MIN)
    resource_spec: ResourceSpec = ResourceSpec(cpu_limit=1000, memory_limit=512)
    use_host_docker_daemon: bool = False
    privileged_mode: bool = False
    cache_setting: CacheSetting = CacheSetting(enabled=True)
    storages: dict[str, Any] = {}
    custom_annotations: list[Pair] = Field(default_factory=list)
    custom_labels: list[Pair] = Field(default_factory=list)
    outputs: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _rules(self) -> "AdvancedSettings":
        if self.timeout < 0:
            raise Invalid("timeout cannot be negative", place="advanced_settings.timeout")
        for name in self.outputs:
            if not re.fullmatch(r"[a-zA-Z0-9_]{1,64}", name):
                raise Invalid(
                    f"output name [{name}] did not match ^[a-zA-Z0-9_]{{1,64}}$", place="advanced_settings.outputs"
                )
        return self


class OnCluster(Body):
    """What runs on a cluster, which ``advanced_settings`` names where they are given."""

    @model_validator(mode="before")
    @classmethod
    def _cluster(cls, value: Any) -> Any:
        advanced = value.get("advanced_settings") if isinstance(value, Mapping) else None
        if isinstance(advanced, Mapping) and not advanced.get("cluster_name"):
            raise Invalid("cluster_name cannot be empty", place="advanced_settings.cluster_name")
        return value


def check_repositories(repos: list[RepoBody]) -> None:
    """Raises: Invalid: the texts of the test routes (those of builds are not documented)."""
    seen: set[tuple[str, str, str]] = set()
    for number, repo in enumerate(repos):
        place = f"repo_info[{number}]"
        if not (repo.codehost_name and repo.repo_namespace and repo.repo_name):
            raise Invalid(f"{place} codehost_name, repo_namespace and repo_name cannot be empty")
        if not repo.branch and not repo.enable_commit and not repo.tag:
            raise Invalid(f"{place} branch cannot be empty when enable_commit is false")
        if repo.enable_commit and not repo.commit_id:
            raise Invalid(f"{place} commit_id cannot be empty when enable_commit is true")
        identity = (repo.codehost_name, repo.repo_namespace, repo.repo_name)
        if identity in seen:
            raise Invalid(f"{place} duplicates repository {repo.repo_namespace}/{repo.repo_name}")
        seen.add(identity)
        for value in (repo.repo_namespace, repo.repo_name, repo.branch, repo.checkout_path):
            check_line(value, place)
        if ".." in repo.checkout_path.split("/") or repo.checkout_path.startswith("/"):
            raise Invalid(f"{place} checkout_path must stay inside the workspace")


def check_parameters(parameters: list[ParameterBody]) -> None:
    seen: set[str] = set()
    for number, parameter in enumerate(parameters):
        if not parameter.key:
            raise Invalid(f"parameters[{number}] key cannot be empty")
        if not VARIABLE.fullmatch(parameter.key):
            raise Invalid(f"parameters[{number}] key cannot hold blanks, control characters or =")
        if parameter.key in seen:
            raise Invalid(f'parameters[{number}] duplicates key "{parameter.key}"')
        seen.add(parameter.key)
        if parameter.type not in PARAMETER_TYPES:
            raise Invalid(f"parameters[{number}] type must be one of {', '.join(PARAMETER_TYPES)}")
