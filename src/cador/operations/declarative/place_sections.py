"""The sections of where things run and what they go through: ``clusters``, ``mail``, ``imapps``, ``tools``, ``proxy``
and templates of the system, ``environments`` of a project."""

from typing import Any, Final

from cador.operations.declarative import shapes
from cador.operations.declarative.nodes import Node
from cador.operations.declarative.reader import Reader, empty_mapping
from cador.operations.declarative.sections import Section, fields
from cador.operations.declarative.shapes import SCALAR, Shape, keyed, or_nothing, schema_of

CLUSTERS: Final = fields("clusters", "Cluster", renamed={"projects": "project_names"})
MAIL: Final = fields("mail", "MailServer", renamed={"from": "address", "tls": "isTLS"}, only="default")
IM_APPS: Final = fields("imapps", "IMApp")
PROXY: Final = fields("proxy", "Proxy", only="http")
TOOLS: Final = fields("tools", "Tool", without=("name", "version"))
DOCKERFILE_TEMPLATES: Final = fields("dockerfile_templates", "DockerfileTemplate", renamed={"text": "dockerfile_text"})
SERVICE_TEMPLATES: Final = fields("service_templates", "ServiceTemplate")
BUILD_TEMPLATES: Final = fields(
    "build_templates", "BuildTemplate", renamed={"os": "build_os", "script": "build_script"}
)

_VARIABLES: Final = keyed(SCALAR)
_SERVICE: Final[Shape] = {
    "variables": _VARIABLES,
    "images": keyed(SCALAR, "Of modules."),
    "strategy": shapes.choice("deploy", "import", "draft"),
}
_ENVIRONMENT: Final[Shape] = {
    "name": shapes.text("As shown."),
    "cluster": shapes.text("Name of a cluster; local when it is left out."),
    "namespace": shapes.text(needed=True),
    "registry": shapes.text("Name, or address with namespace; the default registry when it is left out."),
    "production": shapes.flag("Of the production set."),
    "services": keyed(or_nothing(schema_of(_SERVICE))),
    "variables": _VARIABLES,
}


def _pairs(entry: Reader, key: str) -> list[tuple[str, str]]:
    return [(name, _scalar(entry, f"{key}.{name}", node)) for name, node in entry.pairs(key)]


def _scalar(entry: Reader, key: str, node: Node) -> str:
    if isinstance(node.value, (dict, list)):
        raise entry.misfit("must be a single value", key.partition(".")[0])
    return node.text if node.value is not None else ""


def _service(entry: Reader, name: str, node: Node) -> dict[str, Any]:
    inner = Reader(empty_mapping(node), f"{entry.place}.services.{name}").only(*_SERVICE)
    spec: dict[str, Any] = {"service_name": name}
    if "variables" in inner:
        spec["variable_kvs"] = [{"key": key, "value": value} for key, value in _pairs(inner, "variables")]
    if "images" in inner:
        spec["containers"] = [{"name": key, "image": value} for key, value in _pairs(inner, "images")]
    if "strategy" in inner:
        spec["deploy_strategy"] = inner.text("strategy")
    return spec


def _environment(name: str, entry: Reader) -> dict[str, Any]:
    entry.only(*_ENVIRONMENT)
    spec: dict[str, Any] = {
        "cluster_name": entry.text("cluster", "local"),
        "namespace": entry.need("namespace"),
    }
    for key, field in (("name", "env_name"), ("registry", "registry_id")):
        if key in entry:
            spec[field] = entry.text(key)
    if "services" in entry:
        spec["services"] = [_service(entry, one, node) for one, node in entry.pairs("services")]
    if "variables" in entry:
        spec["global_variables"] = [{"key": key, "value": value} for key, value in _pairs(entry, "variables")]
    if "production" in entry:
        spec["production"] = entry.flag("production")
    return spec


ENVIRONMENTS: Final = Section("environments", "Environment", _environment, _ENVIRONMENT)
