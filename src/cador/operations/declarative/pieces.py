"""Parts that several sections of the short form share: repositories, variables, tools, resources, modules."""

from typing import Any, Final

from cador.operations.declarative import shapes
from cador.operations.declarative.from_secret import FromSecret, taken_from
from cador.operations.declarative.nodes import Node
from cador.operations.declarative.reader import Reader, scalar_text
from cador.operations.declarative.shapes import FROM_SECRET, SCALAR, Part, Shape, keyed, many, schema_of, within

REPOSITORY: Final[Shape] = {
    "codehost": shapes.text("Name of a code host.", needed=True),
    "repo": shapes.text("namespace/name", needed=True),
    "branch": shapes.text(),
    "tag": shapes.text(),
    "commit": shapes.text(),
    "remote": shapes.text(),
    "path": shapes.text("Where in the workspace."),
    "submodules": shapes.flag(),
    "primary": shapes.flag(),
}
REPOSITORIES: Final = many(REPOSITORY)
TOOLS: Final = keyed(SCALAR, "Name and version, taken as written.")
_VARIABLE: Final[Shape] = {
    "value": shapes.secret(),
    "default": shapes.secret(),
    "valueFrom": Part(FROM_SECRET["properties"]["valueFrom"]),
    "secret": shapes.flag("Sealed when stored, masked where shown."),
    "type": shapes.text(),
    "options": shapes.texts(),
    "description": shapes.text(),
}
VARIABLES: Final = keyed({"anyOf": [SCALAR, schema_of(_VARIABLE)]})
PARAMETERS: Final = VARIABLES
RESOURCES: Final[Shape] = {
    "cpu": shapes.text("Cores: 2, 0.5, 500m."),
    "memory": shapes.text("512Mi, 4Gi."),
    "cpu_request": shapes.text(),
    "memory_request": shapes.text(),
}
ADVANCED: Final[Shape] = {
    "timeout": shapes.duration(),
    "resources": within(RESOURCES),
    "cache": shapes.text("true, false, or the folder to keep."),
    "outputs": shapes.texts("Variables of the script that later jobs may use."),
    "cluster": shapes.text(),
    "privileged": shapes.flag(),
}
_DOCKER: Final[Shape] = {
    "context": shapes.text(),
    "dockerfile": shapes.text(),
    "args": shapes.text(),
    "buildkit": shapes.flag(),
    "platforms": shapes.text(),
    "template": shapes.text(),
    "interpolate": shapes.flag(),
}
DOCKER: Final = within(_DOCKER)


def repository(entry: Reader) -> dict[str, Any]:
    """``repo: ns/name`` (the last ``/`` splits) and ``codehost``."""
    entry.only(*REPOSITORY)
    namespace, slash, name = entry.need("repo").strip("/").removesuffix(".git").rpartition("/")
    if not slash or not namespace:
        raise entry.misfit("must be namespace/name", "repo")
    repo: dict[str, Any] = {
        "codehost_name": entry.need("codehost"),
        "repo_namespace": namespace,
        "repo_name": name,
        "branch": entry.text("branch"),
        "remote_name": entry.text("remote", "origin"),
        "checkout_path": entry.text("path"),
        "submodules": entry.flag("submodules"),
    }
    if "tag" in entry:
        repo["tag"] = entry.text("tag")
    if "commit" in entry:
        repo |= {"enable_commit": True, "commit_id": entry.text("commit")}
    if "primary" in entry:
        repo["is_primary"] = entry.flag("primary")
    if not (repo["branch"] or "tag" in repo or "commit" in entry):
        raise entry.misfit("'branch' is missing")
    return repo


def repositories(entry: Reader) -> list[dict[str, Any]]:
    return [repository(repo) for repo in entry.items("repos")]


def tools(entry: Reader) -> list[dict[str, str]]:
    """``tools: {go: 1.22.3}``; the version is taken as written."""
    return [
        {"name": name, "version": scalar_text(node, f"{entry.place}.tools.{name}")}
        for name, node in entry.pairs("tools")
    ]


def _variable(place: str, key: str, node: Node, value_key: str) -> dict[str, Any]:
    variable: dict[str, Any] = {"key": key, "type": "string", "is_credential": False}
    if node.mapping is None:
        text = scalar_text(node, place)
        return {**variable, value_key: text, "is_credential": isinstance(text, FromSecret)}
    entry = Reader(node, place).only(*_VARIABLE)
    options = entry.texts("options")
    variable |= {
        "type": entry.text("type", "choice" if options else "string"),
        value_key: entry.text("value", entry.text("default")),
        "is_credential": entry.flag("secret"),
    }
    if "valueFrom" in entry:
        variable |= {value_key: taken_from(entry.child("valueFrom"), entry.place), "is_credential": True}
        if "value" in entry or ("secret" in entry and not entry.flag("secret")):
            raise entry.misfit("'valueFrom' is the value, and it is secret", "valueFrom")
    if options:
        variable["choice_option"] = options
    if "description" in entry:
        variable["description"] = entry.text("description")
    return variable


def parameters(entry: Reader) -> list[dict[str, Any]]:
    """Variables of a build or test: ``{K: value}`` or ``{K: {value, secret, type, options, description}}``."""
    place = f"{entry.place}.parameters"
    return [_variable(f"{place}.{key}", key, node, "default_value") for key, node in entry.pairs("parameters")]


def environment(entry: Reader, name: str = "env") -> list[dict[str, Any]]:
    """Variables of a job, same forms."""
    return [_variable(f"{entry.place}.{name}.{key}", key, node, "value") for key, node in entry.pairs(name)]


def module(text: str) -> dict[str, str]:
    """``svc/module``; ``svc`` alone means all of its modules."""
    service, slash, name = text.partition("/")
    return {"service_name": service, "service_module": name} if slash else {"service_name": service}


def targets(entry: Reader, key: str) -> list[dict[str, str]]:
    found = []
    for number, text in enumerate(entry.texts(key)):
        target = module(text)
        if not all(target.values()):
            raise entry.misfit(f"[{number}] must be service/module or service", key)
        found.append(target)
    return found


def resources(entry: Reader) -> dict[str, int]:
    """``{cpu: 2, memory: 4Gi}`` as limits in millicores and MiB; ``cpu_request`` and ``memory_request`` likewise."""
    inner = Reader(entry.child("resources"), f"{entry.place}.resources")
    inner.only(*RESOURCES)
    spec: dict[str, int] = {}
    for key, field in (("cpu", "cpu_limit"), ("cpu_request", "cpu_req")):
        if key in inner:
            spec[field] = inner.millicores(key)
    for key, field in (("memory", "memory_limit"), ("memory_request", "memory_req")):
        if key in inner:
            spec[field] = inner.mebibytes(key)
    return spec


def advanced_settings(entry: Reader) -> dict[str, Any] | None:
    """``timeout``, ``resources``, ``cache``, ``outputs``, ``cluster``, ``privileged``; None when none is given."""
    spec: dict[str, Any] = {}
    if "timeout" in entry:
        spec["timeout"] = entry.minutes("timeout", 60)
    if "resources" in entry:
        spec["resource_spec"] = resources(entry)
    if "cache" in entry:
        node = entry.child("cache")
        enabled = node.value is not False
        spec["cache_setting"] = {
            "enabled": enabled,
            "cache_dir": "" if isinstance(node.value, bool) else entry.text("cache"),
        }
    if "outputs" in entry:
        spec["outputs"] = entry.texts("outputs")
    if "privileged" in entry:
        spec["privileged_mode"] = entry.flag("privileged")
    if not spec and "cluster" not in entry:
        return None
    return {"cluster_name": entry.text("cluster", "local"), **spec}


def docker_step(entry: Reader) -> dict[str, Any]:
    entry.only(*_DOCKER)
    spec: dict[str, Any] = {
        "dockerfile_source": "template" if "template" in entry else "local",
        "build_context_dir": entry.text("context", "."),
        "dockerfile_directory": entry.text("dockerfile", "Dockerfile"),
    }
    for key, field in (("args", "build_args"), ("platforms", "platforms"), ("template", "template_name")):
        if key in entry:
            spec[field] = entry.text(key)
    if "buildkit" in entry:
        spec["enable_buildkit"] = entry.flag("buildkit")
    return spec
