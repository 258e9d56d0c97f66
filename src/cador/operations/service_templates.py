"""Services that are made from a template: at first, and again when a template changes that they follow."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from cador.domain.errors import Invalid
from cador.operations.models.body import read_body
from cador.operations.models.service import ServiceBody
from cador.ports.stores import Resource, Tx

KIND: Final = "servicetemplate"
SERVICES: Final = ("service", "production_service")
SOURCE: Final = "template"
Object = dict[str, Any]


def made_from(tx: Tx, project: str, document: Mapping[str, Any], old: Resource | None) -> Object:
    """The whole document of a service whose own names its template and values of variables.

    A service that is there and does not follow its template keeps its manifest. Raises: Invalid: no such template.
    """
    name = document["template_name"]
    template = tx.resources.find(KIND, "", name)
    values = document["service_variable_kvs"]
    if (
        old is not None
        and old.document.get("template_name") == name
        and (template is None or not document["auto_sync"])
    ):
        return _whole(document, old.document["yaml"], _with_values(old.document["service_variable_kvs"], values))
    if template is None:
        raise Invalid(f"failed to find service template with name: {name}", place="template_name")
    return _of_template(template, project, document)


def follow(tx: Tx, template: Resource, put: Callable[[Resource, Object], object]) -> None:
    """Make the services anew that follow *template*; what they gave variables stays. *put* replaces a document."""
    for kind in SERVICES:
        for service in tx.resources.list_kind(kind):
            if service.document.get("template_name") == template.name and service.document.get("auto_sync"):
                put(service, _of_template(template, service.project, service.document))


def _of_template(template: Resource, project: str, document: Mapping[str, Any]) -> Object:
    text: str = template.document["yaml"]
    for placeholder, value in (("$T-Project$", project), ("$T-Service$", document["service_name"])):
        text = text.replace(placeholder, value)
    return _whole(document, text, _with_values(template.document["variable_yaml"], document["service_variable_kvs"]))


def _whole(document: Mapping[str, Any], text: str, variables: list[Object]) -> Object:
    body = {"service_name": document["service_name"], "yaml": text, "variable_yaml": variables}
    added = {"source": SOURCE, "template_name": document["template_name"], "auto_sync": document["auto_sync"]}
    return {**read_body(ServiceBody, body).document(), **added}


def _with_values(variables: Iterable[Mapping[str, Any]], given: Iterable[Mapping[str, Any]]) -> list[Object]:
    """*variables* with the values of *given*; which there are, the template says."""
    values = {kv["key"]: kv["value"] for kv in given}
    return [{**kv, "value": values.get(kv["key"], kv["value"])} for kv in variables]
