"""What refers to a configuration object: nothing is deleted that something else still names.

Three places can name one: builds, tests and other objects by fields of their documents, environments by ids, and
definitions of workflows anywhere inside. What only names an object that is not there (an id in a masked example) is
no reference.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from cador.ports.stores import Resource, Tx

Doc = Mapping[str, Any]
Matches = Callable[[Doc, Resource], bool]
"""Whether an object of a document, at any depth, names the resource."""

SCRIPTS: Final = ("build", "test", "scan", "buildtemplate")
ENVIRONMENTS: Final = ("environment", "production_environment")
SERVICES: Final = ("service", "production_service")


def users_of(tx: Tx, resource: Resource) -> Iterator[str]:
    """What refers to *resource*: ``workflow build-deploy``, ``build api-build of project demo`` ..."""
    for kind, names_it in _NAMED_BY.get(resource.kind, {}).items():
        for other in tx.resources.list_kind(kind, resource.project or None):
            if other.uid != resource.uid and any(names_it(node, resource) for node in objects_in(other.document)):
                yield _say(other)
    in_workflows = _IN_WORKFLOWS.get(resource.kind)
    if in_workflows is None:
        return
    elsewhere = _FROM_ELSEWHERE.get(resource.kind)
    named = _written(resource)
    for project in (p.name for p in tx.resources.list_kind("project")):
        matches: Matches | None = in_workflows if resource.project in ("", project) else elsewhere
        if matches is None:
            continue
        for listed in tx.workflows.list_workflows(project):
            row = tx.workflows.find(listed.key)
            if row is None or not any(written in row.definition for written in named):
                continue  # reading it whole takes long
            if any(matches(node, resource) for node in objects_in(json.loads(row.definition))):
                yield f"workflow {listed.key}"


def scripts_naming(tx: Tx, resource: Resource, key: str) -> Iterator[str]:
    """The builds, tests and scans in which *key* is the name of *resource*: what a new name would break."""
    for kind in SCRIPTS:
        for other in tx.resources.list_kind(kind):
            if any(node.get(key) == resource.name for node in objects_in(other.document)):
                yield _say(other)


def _written(resource: Resource) -> tuple[str, ...]:
    """One of these stands in the text of whatever names it."""
    name = resource.document["name"] if resource.kind == "tool" else resource.name
    number = (str(resource.id),) if resource.kind == "codehost" else ()
    return (resource.uid, *number, msgspec.json.encode(name).decode()[1:-1])


def _say(other: Resource) -> str:
    kind = other.kind.replace("_", " ")
    return f"{kind} {other.name} of project {other.project}" if other.project else f"{kind} {other.name}"


def objects_in(value: Any) -> Iterator[Doc]:
    """Every object of a document, itself included."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, (list, tuple)):
            waiting.extend(node)


# -- how a document names what


def _by_uid(*keys: str) -> Matches:
    return lambda node, resource: any(node.get(key) == resource.uid for key in keys)


def _by_name(*keys: str) -> Matches:
    return lambda node, resource: any(node.get(key) == resource.name for key in keys)


def _by_either(*keys: str) -> Matches:
    return lambda node, resource: any(node.get(key) in (resource.uid, resource.name) for key in keys)


def _registry(node: Doc, resource: Resource) -> bool:
    return any(key.endswith("registry_id") and value == resource.uid for key, value in node.items())


def _code_host(node: Doc, resource: Resource) -> bool:
    return node.get("codehost_id") == resource.id or node.get("codehost_name") == resource.name


def _listed(*keys: str, elsewhere: bool = False) -> Matches:
    """Named by ``name`` in one of the lists *keys*. *elsewhere*: in a workflow of another project, which says whose."""

    def matches(node: Doc, resource: Resource) -> bool:
        owners = (resource.project,) if elsewhere else (None, "", resource.project)
        entries = (entry for key in keys for entry in _list(node.get(key)))
        return any(
            isinstance(entry, Mapping) and entry.get("name") == resource.name and entry.get("project_name") in owners
            for entry in entries
        )

    return matches


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _environment(node: Doc, resource: Resource) -> bool:
    """A deploy job; ``<+fixed>`` is no part of the name."""
    spec = _spec_of(node, "zadig-deploy")
    production = spec.get("production") is True
    named = spec.get("env")
    return (
        isinstance(named, str)
        and named.removesuffix("<+fixed>") == resource.name
        and production == (resource.kind == "production_environment")
    )


def _spec_of(node: Doc, job_type: str) -> Doc:
    spec = node.get("spec")
    return spec if node.get("type") == job_type and isinstance(spec, Mapping) else {}


def _group(node: Doc, resource: Resource) -> bool:
    named = node.get("group_id") == resource.uid or node.get("group_name") == resource.name
    return node.get("type") == "group" and named


def _database(node: Doc, resource: Resource) -> bool:
    spec = _spec_of(node, "sql")
    return spec.get("id") in (resource.uid, resource.name) or spec.get("database_name") == resource.name


def _project_management(node: Doc, resource: Resource) -> bool:
    spec = _spec_of(node, "tapd")
    return any(spec.get(key) in (resource.uid, resource.name) for key in ("tapd_id", "id"))


def _im_app(node: Doc, resource: Resource) -> bool:
    return node.get("approval_id") == resource.uid or node.get("app_id") == resource.uid


def _tool(node: Doc, resource: Resource) -> bool:
    """``installs`` of builds and tests, ``addons`` of scans."""
    entries = [entry for key in ("installs", "addons") for entry in _list(node.get(key))]
    wanted = {key: resource.document[key] for key in ("name", "version")}
    return any(isinstance(entry, Mapping) and wanted.items() <= entry.items() for entry in entries)


_CLUSTER_BY_NAME: Final = _by_name("cluster_name")
_ANY_SCRIPT: Final = dict.fromkeys(SCRIPTS, _code_host)

_NAMED_BY: Final[Mapping[str, Mapping[str, Matches]]] = {
    "codehost": _ANY_SCRIPT | dict.fromkeys(SERVICES, _by_name("codehost_name")),
    "baseimage": dict.fromkeys(SCRIPTS, _by_name("build_os")) | {"scan": _by_name("image_name", "build_os")},
    "cluster": dict.fromkeys(SCRIPTS, _CLUSTER_BY_NAME) | dict.fromkeys(ENVIRONMENTS, _by_uid("cluster_id")),
    "registry": dict.fromkeys(ENVIRONMENTS, _registry),
    "sonar": {"scan": _by_either("sonar_system", "sonar_id")},
    "buildtemplate": {"build": _by_name("template_name")},
    "dockerfiletemplate": {
        kind: lambda node, resource: (
            node.get("dockerfile_source") == "template" and node.get("template_name") == resource.name
        )
        for kind in ("build", "buildtemplate")
    },
    "servicetemplate": dict.fromkeys(SERVICES, _by_name("template_name")),
    "tool": dict.fromkeys(SCRIPTS, _tool),
}
"""By kind: the kinds whose documents may name it, and how."""

_TESTS: Final = ("test_modules", "service_and_tests")
_SCANS: Final = ("scannings", "service_and_scannings")

_IN_WORKFLOWS: Final[Mapping[str, Matches]] = {
    "registry": _registry,
    "codehost": _code_host,
    "baseimage": _by_uid("image_id"),
    "tool": _tool,
    "cluster": _by_uid("cluster_id"),
    "build": _by_name("build_name"),
    "test": _listed(*_TESTS),
    "scan": _listed(*_SCANS),
    "environment": _environment,
    "production_environment": _environment,
    "database": _database,
    "projectmanagement": _project_management,
    "imapp": _im_app,
    "storage": _by_uid("object_storage_id"),
    "group": _group,
}

_FROM_ELSEWHERE: Final[Mapping[str, Matches]] = {
    "test": _listed(*_TESTS, elsewhere=True),
    "scan": _listed(*_SCANS, elsewhere=True),
}
"""What workflows of other projects may name, too."""
