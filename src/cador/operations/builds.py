"""Builds as they are shown: those that are made from a template together with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cador.domain.errors import Conflict
from cador.domain.secrets import mask_credentials
from cador.jobs.build_templates import configuration
from cador.operations.context import Context
from cador.operations.resources import get
from cador.ports.stores import Resource, Tx


@dataclass(frozen=True, slots=True)
class Build:
    """``document``: the whole configuration for one module, credentials masked. ``image``: its base image."""

    build: Resource
    document: Mapping[str, Any]
    image: Resource | None


async def find(ctx: Context, project: str, name: str, service: str, module: str) -> Build:
    """*service*, *module*: for which a build from a template is shown, by default its first.

    Raises: NotFound; Conflict: its template is not there.
    """

    def read(tx: Tx) -> Build:
        build = get(tx, "build", project, name)
        first: Mapping[str, Any] = next(iter(build.document["services"]), {})
        pair = (service, module) if service and module else (first.get("service_name"), first.get("service_module"))
        whole = configuration(ctx.catalogues.load(tx, project), build.document, *map(str, pair))
        if whole is None:
            raise Conflict(f"template {build.document['template_name']} of build {name} is not there")
        parameters = [{"default_value": one.get("value", ""), **one} for one in whole["parameters"]]
        document = dict(mask_credentials({**whole, "parameters": parameters}))
        return Build(build, document, tx.resources.find("baseimage", "", document["build_os"]))

    return await ctx.db.read(read)
