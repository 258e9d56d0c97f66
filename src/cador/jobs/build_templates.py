"""What a build does, also one that is made from a template. Source: API documents, "Builds"."""

from collections.abc import Mapping
from typing import Any

from cador.jobs.base import Catalogue
from cador.jobs.values import objects, overlay_values, text, variables


def configuration(catalogue: Catalogue, build: Mapping[str, Any], service: str, module: str) -> dict[str, Any] | None:
    """The whole configuration of *build*, a stored document, for one module. None: its template is not there.

    Of a template come script, variables and settings, of the build the module's repositories and values: the template
    says which variables there are.
    """
    name = text(build.get("template_name"))
    if not name:
        return dict(build)
    template = catalogue.find("buildtemplate", name)
    if template is None:
        return None
    target: Mapping[str, Any] = next(
        (
            one
            for one in objects(build.get("target_services"))
            if (one.get("service_name"), one.get("service_module")) == (service, module)
        ),
        {},
    )
    given = [one for one in variables(target.get("inputs")) if one["value"]]
    return {
        **template.document,
        "name": build.get("name"),
        "repo_info": objects(target.get("repo_info")),
        "parameters": overlay_values(variables(template.document.get("parameters")), given),
    }
