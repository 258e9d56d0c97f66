"""The sections of one project in the short form: services, builds, tests, workflows, views, tickets."""

from datetime import datetime
from typing import Any, Final

from cador.operations.declarative import shapes
from cador.operations.declarative.nodes import Node
from cador.operations.declarative.pieces import (
    ADVANCED,
    DOCKER,
    PARAMETERS,
    REPOSITORIES,
    TOOLS,
    advanced_settings,
    docker_step,
    parameters,
    repositories,
    targets,
    tools,
)
from cador.operations.declarative.reader import Reader, scalar_text
from cador.operations.declarative.sections import Section
from cador.operations.declarative.shapes import SCALAR, Shape, keyed, schema_of
from cador.operations.declarative.workflows import WORKFLOW, workflow_spec

DEFAULT_OS: Final = "ubuntu 22.04"

# -- services

_VARIABLE: Final[Shape] = {
    "type": shapes.choice("string", "bool", "enum", "yaml"),
    "value": shapes.text(),
    "options": shapes.texts(),
    "description": shapes.text(),
}
SERVICE_VARIABLES: Final = keyed({"anyOf": [SCALAR, schema_of(_VARIABLE)]})
_SERVICE: Final[Shape] = {
    "yaml": shapes.text("The manifest; its modules are the containers of its workloads."),
    **shapes.file_keys(["yamlFile"]),
    "variables": SERVICE_VARIABLES,
    "production": shapes.flag("Of the production set."),
}


def _service(name: str, entry: Reader) -> dict[str, Any]:
    entry.only(*_SERVICE)
    spec: dict[str, Any] = {"yaml": entry.need("yaml")}
    if "variables" in entry:
        spec["variable_yaml"] = service_variables(entry, "variables")
    if "production" in entry:
        spec["production"] = entry.flag("production")
    return spec


def service_variables(entry: Reader, key: str) -> list[dict[str, Any]]:
    """Variables of manifests: ``{K: value}`` or ``{K: {value, type, options, description}}``."""
    return [_kv(name, node, f"{entry.place}.{key}.{name}") for name, node in entry.pairs(key)]


def _kv(key: str, node: Node, place: str) -> dict[str, Any]:
    if node.mapping is None:
        return {"key": key, "type": "string", "value": scalar_text(node, place)}
    variable = Reader(node, place).only(*_VARIABLE)
    kv: dict[str, Any] = {"key": key, "type": variable.text("type", "string"), "value": variable.text("value")}
    if "options" in variable:
        kv["options"] = variable.texts("options")
    if "description" in variable:
        kv["desc"] = variable.text("description")
    return kv


# -- builds and tests

SCRIPT: Final[Shape] = {
    "description": shapes.text(),
    "os": shapes.text("Label of a base image."),
    "tools": TOOLS,
    "repos": REPOSITORIES,
    "parameters": PARAMETERS,
    "script": shapes.text(),
    **shapes.file_keys(["scriptFile"]),
    "interpolate": shapes.flag("Replace ${NAME} in the texts of this mapping, too."),
    **ADVANCED,
}
"""What builds, tests and scans have in common."""


def script_spec(entry: Reader) -> dict[str, Any]:
    """The fields that :data:`SCRIPT` stands for, but for the script itself."""
    spec: dict[str, Any] = {"build_os": entry.text("os", DEFAULT_OS)}
    if "description" in entry:
        spec["description"] = entry.text("description")
    if "tools" in entry:
        spec["installs"] = tools(entry)
    if "repos" in entry:
        spec["repo_info"] = repositories(entry)
    if "parameters" in entry:
        spec["parameters"] = parameters(entry)
    if (advanced := advanced_settings(entry)) is not None:
        spec["advanced_settings"] = advanced
    return spec


_BUILD: Final[Shape] = {
    **SCRIPT,
    "for": shapes.texts("The modules it makes: service/module; a service alone means all of its modules."),
    "docker": DOCKER,
    "package": shapes.text("Folder where the script leaves the package."),
}


def _build(name: str, entry: Reader) -> dict[str, Any]:
    entry.only(*_BUILD)
    spec = script_spec(entry)
    if "for" in entry:
        spec["services"] = targets(entry, "for")
    if "script" in entry:
        spec["build_script"] = entry.text("script")
    if "docker" in entry:
        spec["docker_build_step"] = docker_step(Reader(entry.child("docker"), f"{entry.place}.docker"))
    if "package" in entry:
        spec["post_build"] = {"file_archive": {"file_location": entry.text("package")}}
    return spec


_TEST: Final[Shape] = {
    **SCRIPT,
    "report": shapes.text("Folder of JUnit reports."),
    "html_report": shapes.text("An HTML report to keep."),
    "pass_rate": shapes.number("Per cent of the cases that must pass."),
    "artifacts": shapes.texts(),
}


def _test(name: str, entry: Reader) -> dict[str, Any]:
    entry.only(*_TEST)
    spec = script_spec(entry)
    if "script" in entry:
        spec["script"] = entry.text("script")
    if "report" in entry:
        spec["report_path"] = entry.text("report")
    if "html_report" in entry:
        spec["html_report_path"] = entry.text("html_report")
    if "pass_rate" in entry:
        spec["pass_rate"] = entry.number("pass_rate")
    if "artifacts" in entry:
        spec["artifact_paths"] = entry.texts("artifacts")
    return spec


SERVICES: Final = Section("services", "Service", _service, _SERVICE)
BUILDS: Final = Section("builds", "Build", _build, _BUILD)
TESTS: Final = Section("tests", "Test", _test, _TEST)
WORKFLOWS: Final = Section("workflows", "Workflow", workflow_spec, WORKFLOW)


# -- views

_VIEW: Final[Shape] = {"workflows": shapes.texts("Keys of workflows, in the order shown.")}


def _view(name: str, entry: Reader) -> dict[str, Any]:
    return {"workflow_list": [{"workflow_key": key} for key in entry.texts("workflows")]}


VIEWS: Final = Section("views", "WorkflowView", _view, _VIEW, listed="workflows")


# -- tickets

_TICKET: Final[Shape] = {
    "valid": shapes.flag("false puts it out of effect."),
    "envs": shapes.texts("Environments it allows; none: all."),
    "services": shapes.texts("service/module; none: all."),
    "users": keyed(SCALAR, "Who may use it: name and e-mail; none: everybody."),
    "from": shapes.text("RFC 3339 with its zone, or Unix seconds."),
    "until": shapes.text("RFC 3339 with its zone, or Unix seconds."),
}


def _ticket(name: str, entry: Reader) -> dict[str, Any]:
    entry.only(*_TICKET)
    spec: dict[str, Any] = {"status": int(entry.flag("valid", True))}
    if "envs" in entry:
        spec["envs"] = entry.texts("envs")
    if "services" in entry:
        spec["services"] = [_module(entry, number, text) for number, text in enumerate(entry.texts("services"))]
    if "users" in entry:
        spec["users"] = [
            {"name": user, "email": scalar_text(node, f"{entry.place}.users.{user}")}
            for user, node in entry.pairs("users")
        ]
    for key, field in (("from", "execution_window_start"), ("until", "execution_window_end")):
        if key in entry:
            spec[field] = _moment(entry, key)
    return spec


def _module(entry: Reader, number: int, text: str) -> dict[str, str]:
    service, _, module = text.partition("/")
    if not service or not module:
        raise entry.misfit(f"[{number}] must be service/module", "services")
    return {"service_name": service, "service_module": module}


def _moment(entry: Reader, key: str) -> int:
    """Unix seconds."""
    text = entry.text(key).strip()
    if text.isascii() and text.isdigit() and len(text) < 16:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return int(moment.timestamp())
    except (ValueError, OverflowError):
        pass
    raise entry.misfit("must be a moment with its zone, such as 2026-11-21T22:00:00Z, or Unix seconds", key)


TICKETS: Final = Section("tickets", "ApprovalTicket", _ticket, _TICKET)
