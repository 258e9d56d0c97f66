"""Kinds ``service`` and ``production_service``: a manifest with variables, and the modules read from it."""

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml
from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.operations.models.body import KV, Body, check_line, check_name, require
from cador.operations.models.yaml_shape import NODES, TooDeep, TooLarge, shape_of

WORKLOADS: Final = frozenset({"Deployment", "StatefulSet", "Job", "CronJob", "DaemonSet", "CloneSet"})
MAX_ALIASES: Final = 1_000
_CONTROL_LINE: Final = re.compile(r"^\s*\{\{-?\s*(if|else|end|range|with|define|block|/\*)[^\n]*\}\}\s*$")


class LoadFrom(Body):
    """Where a manifest was read from. ``path``: in the repository."""

    codehost_name: str = ""
    repo_owner: str = ""
    repo_namespace: str = ""
    repo_name: str = ""
    branch: str = ""
    path: str = ""

    @model_validator(mode="after")
    def _rules(self) -> "LoadFrom":
        for key in type(self).model_fields:
            check_line(getattr(self, key), key)
        return self


class LoadPath(Body):
    """``is_dir``: whether it is a folder, of which all YAML files are read; found out anyway."""

    service_name: str = ""
    path: str = ""
    is_dir: bool = False

    @model_validator(mode="after")
    def _rules(self) -> "LoadPath":
        require(self.service_name, "service name cannot be empty")
        check_name(self.service_name, "service name")
        return self


class LoadBody(Body):
    """``product_name``: key of the project."""

    product_name: str = ""
    service_paths: list[LoadPath] = Field(default_factory=list, max_length=100)

    @model_validator(mode="after")
    def _rules(self) -> "LoadBody":
        require(self.product_name, "product name cannot be empty")
        if not self.service_paths:
            raise Invalid("service paths cannot be empty", place="service_paths")
        return self


class ServiceBody(Body):
    """``variable_yaml`` is what the documents call the list of variables here. ``template_name``: the manifest and the
    variables are those of a template, of which ``variable_yaml`` gives values; ``auto_sync``: also when it changes."""

    service_name: str = ""
    yaml: str = ""
    variable_yaml: list[KV] = Field(default_factory=list)
    template_name: str = ""
    auto_sync: bool = False
    loaded_from: LoadFrom | None = None

    @model_validator(mode="after")
    def _rules(self) -> "ServiceBody":
        require(self.service_name, "service name cannot be empty")
        if not self.template_name:
            require(self.yaml.strip(), "yaml cannot be empty")
        check_name(self.service_name, "service name")
        check_variables(self.variable_yaml)
        return self

    def document(self) -> dict[str, Any]:
        """Of a service from a template: its own part, see ``operations.service_templates``."""
        variables = [kv.model_dump() for kv in self.variable_yaml]
        if self.template_name:
            return {
                "service_name": self.service_name,
                "template_name": self.template_name,
                "auto_sync": self.auto_sync,
                "service_variable_kvs": variables,
            }
        loaded = {} if self.loaded_from is None else {"loaded_from": self.loaded_from.model_dump()}
        return {
            "service_name": self.service_name,
            **loaded,
            "source": "spock" if self.loaded_from is None else "repo",
            "type": "k8s",
            "yaml": self.yaml,
            "service_variable_kvs": variables,
            "containers": read_modules(self.yaml),
        }


class ServiceChange(Body):
    type: str = ""
    yaml: str = ""

    @model_validator(mode="after")
    def _rules(self) -> "ServiceChange":
        require(self.type, "type cannot be empty")
        if self.type != "k8s":
            raise Invalid(f"unsupported service type: {self.type}", place="type")
        require(self.yaml.strip(), "yaml cannot be empty")
        return self


class VariableChange(Body):
    service_variable_kvs: list[KV] = Field(default=[])

    @model_validator(mode="after")
    def _rules(self) -> "VariableChange":
        check_variables(self.service_variable_kvs)
        return self


def check_variables(variables: list[KV]) -> None:
    seen: set[str] = set()
    for number, kv in enumerate(variables):
        require(kv.key, f"variable_yaml[{number}] key cannot be empty")
        if kv.key in seen:
            raise Invalid(f'variable_yaml[{number}] duplicates key "{kv.key}"')
        seen.add(kv.key)
        if kv.type not in ("bool", "string", "enum", "yaml"):
            raise Invalid(f"variable_yaml[{number}] type must be one of bool, string, enum, yaml")


def read_modules(text: str) -> list[dict[str, str]]:
    """The containers of all workloads in *text*: ``{name, type, image, image_name}``, ``type`` ``init`` or ``""``.

    Placeholders (``{{.key}}``, ``$Namespace$``) may stand anywhere a value may: they are read as words.

    Raises: Invalid: the text is no YAML; says the parser's line and column.
    """
    marked, kept = _protect(text)
    modules: list[dict[str, str]] = []
    seen: set[str] = set()
    for document in _documents(marked):
        for kind, container in _containers(document):
            name, image = _word(container.get("name"), kept), _word(container.get("image"), kept)
            if name and name not in seen:
                seen.add(name)
                modules.append({"name": name, "type": kind, "image": image, "image_name": image_name(image) or name})
    return modules


def image_name(image: str) -> str:
    """Last part of the path of an image, without tag and digest; ``""`` when a placeholder makes that unknowable."""
    last = image.partition("@")[0].rsplit("/", 1)[-1].partition(":")[0]
    return "" if "{{" in last or "$" in last else last


def _protect(text: str) -> tuple[str, list[str]]:
    """*text* with placeholders as harmless words of letters, and what each stands for. Lines keep their numbers."""
    kept: list[str] = []
    lines = ["" if _CONTROL_LINE.match(line) else _protected(line, kept) for line in text.split("\n")]
    return "\n".join(lines), kept


def _protected(line: str, kept: list[str]) -> str:
    """*line* with its placeholders put into *kept*; none of it is looked at twice, however many there begin."""
    parts, at = [], 0
    while (start := line.find("{{", at)) >= 0 and (end := line.find("}}", start + 2)) >= 0:
        parts += [line[at:start], f"\ue000{len(kept)}\ue001"]
        at = end + 2
        kept.append(line[start:at])
    return "".join([*parts, line[at:]])


def _word(value: Any, kept: list[str]) -> str:
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        return ""
    return re.sub(r"\ue000(\d+)\ue001", lambda match: kept[int(match[1])], str(value))


def _documents(text: str) -> list[Any]:
    try:
        check_shape(text)
        return list(yaml.load_all(text, Loader=_ManifestLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise Invalid(f"yaml: {where}{error.problem or error.context}", place="yaml") from error
    except (yaml.YAMLError, ValueError, UnicodeEncodeError, RecursionError) as error:
        raise Invalid(f"yaml: {str(error).splitlines()[0]}", place="yaml") from error


def check_shape(text: str, place: str = "yaml") -> None:
    """Raises: Invalid: nested too deep, or larger, or with more aliases, than any manifest; yaml.YAMLError."""
    try:
        shape = shape_of(text)
    except TooLarge:
        raise Invalid(f"{place}: more than {NODES} values", place=place) from None
    except TooDeep:
        shape = None
    if shape is None or shape.aliases > MAX_ALIASES or shape.unfolded > NODES:
        raise Invalid(f"{place}: nested too deep or with too many aliases", place=place)


class _ManifestLoader(yaml.CSafeLoader):
    """Takes tags of any kind as plain values: a manifest may carry tags of its own."""


def _any_tag(loader: Any, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node)
    return loader.construct_scalar(node)


_ManifestLoader.add_multi_constructor("", _any_tag)
_ManifestLoader.add_multi_constructor("!", _any_tag)


def _containers(document: Any, *, inside: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(document, dict):
        return
    if document.get("kind") == "List" and not inside:
        items = document.get("items")
        for item in items if isinstance(items, list) else ():
            yield from _containers(item, inside=True)
        return
    if document.get("kind") not in WORKLOADS:
        return
    spec = document.get("spec")
    if document["kind"] == "CronJob":
        spec = _member(_member(spec, "jobTemplate"), "spec")
    pod = _member(_member(spec, "template"), "spec")
    for key, kind in (("initContainers", "init"), ("containers", "")):
        containers = _member(pod, key)
        for container in containers if isinstance(containers, list) else ():
            if isinstance(container, dict):
                yield kind, container


def _member(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None
