"""Kind ``plugin``: programs of ``plugin`` jobs that definitions take in by name. Source: API documents, "Execute the
Workflow", ``plugin``."""

from typing import Final

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.operations.models.body import Body, check_free_name, check_line, require

MOST_ENTRIES: Final = 1_000
INPUT_TYPES: Final = ("string", "text", "choice", "multi-select")


class PluginEnv(Body):
    name: str = ""
    value: str = ""


class PluginInput(Body):
    """``default``: what an input has that nobody gives; a credential has none here."""

    name: str = ""
    description: str = ""
    type: str = "string"
    default: str = ""
    choice_option: list[str] = Field(default_factory=list, max_length=MOST_ENTRIES)
    is_credential: bool = False

    @model_validator(mode="after")
    def _rules(self) -> "PluginInput":
        require(self.name, "inputs: name cannot be empty")
        if self.type not in INPUT_TYPES:
            raise Invalid(f"inputs: type of {self.name} must be one of {', '.join(INPUT_TYPES)}", place="inputs")
        if self.is_credential and self.default:
            raise Invalid(f"inputs: {self.name} is a credential, give its value in the job", place="inputs")
        return self


class PluginOutput(Body):
    name: str = ""
    description: str = ""


class PluginBody(Body):
    """``is_offical`` (sic) and ``repo_url`` are told and have no effect. ``$(inputs.NAME)`` stands for an input in
    ``cmds``, ``args`` and values of ``envs``."""

    name: str = ""
    is_offical: bool = False
    category: str = ""
    description: str = ""
    repo_url: str = ""
    version: str = ""
    image: str = ""
    cmds: list[str] = Field(default_factory=list, max_length=MOST_ENTRIES)
    args: list[str] = Field(default_factory=list, max_length=MOST_ENTRIES)
    envs: list[PluginEnv] = Field(default_factory=list, max_length=MOST_ENTRIES)
    inputs: list[PluginInput] = Field(default_factory=list, max_length=MOST_ENTRIES)
    outputs: list[PluginOutput] = Field(default_factory=list, max_length=MOST_ENTRIES)

    @model_validator(mode="after")
    def _rules(self) -> "PluginBody":
        require(self.name, "plugin name cannot be empty")
        check_free_name(self.name, "name")
        for key in ("category", "repo_url", "version", "image"):
            check_line(getattr(self, key), key)
        if not self.image and not self.cmds:
            raise Invalid("image and cmds cannot both be empty", place="cmds")
        for key in ("inputs", "envs", "outputs"):
            names = [one.name for one in getattr(self, key)]
            if twice := next((name for name in names if names.count(name) > 1), ""):
                raise Invalid(f"{key}: {twice} stands there twice", place=key)
        return self
