"""Services: a manifest with variables, revised with each change. Test and production services are two sets."""

from typing import Any, Final

from cador.domain.errors import AlreadyExists, NotFound
from cador.operations import resources
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.models.body import read_body
from cador.operations.models.service import ServiceBody, ServiceChange, VariableChange
from cador.operations.models.templates import LoadTemplate
from cador.operations.resources import Doc, Hand, drop, get, need_project, put_new, put_over
from cador.operations.service_templates import made_from
from cador.ports.stores import Resource, Tx

TEST: Final = "service"
_ORIGIN: Final = ("source", "template_name", "auto_sync", "loaded_from")
PRODUCTION: Final = "production_service"


def kind_of(production: bool) -> str:
    return PRODUCTION if production else TEST


def store(
    tx: Tx, hand: Hand, kind: str, project: str, document: dict[str, Any], *, new: bool = False
) -> tuple[Resource, bool]:
    """Add or replace a service from its parsed document; the flag says whether anything changed.

    Raises: NotFound: the project. AlreadyExists: *new* and it is there.
    """
    need_project(tx, project)
    name = document["service_name"]
    old = tx.resources.find(kind, project, name)
    if old is not None and new:
        raise AlreadyExists(kind, name, project=project)
    if "template_name" in document:
        document = made_from(tx, project, document, old)
    if old is None:
        return put_new(tx, hand, kind, project, name, document), True
    changed = put_over(tx, hand, old, document)
    return (get(tx, kind, project, name) if changed else old), changed


def body_of(service: Resource) -> dict[str, Any]:
    """The body that would store what is stored."""
    doc = service.document
    if doc.get("template_name"):
        own = {"template_name": doc["template_name"], "auto_sync": doc["auto_sync"]}
    else:
        own = {key: doc[key] for key in ("yaml", "loaded_from") if key in doc}
    return {"service_name": service.name, **own, "variable_yaml": doc["service_variable_kvs"]}


async def load_template(ctx: Context, actor: Actor, body: Doc) -> None:
    """Make a service from a template, or make it anew. Raises: Invalid, NotFound: the project."""
    asked = read_body(LoadTemplate, body)
    document = {
        "service_name": asked.service_name,
        "template_name": asked.template_name,
        "auto_sync": asked.auto_sync,
        "service_variable_kvs": [setting.model_dump() for setting in asked.variable_yaml],
    }

    def write(tx: Tx, hand: Hand) -> None:
        store(tx, hand, kind_of(asked.production), asked.project_key, document, new=True)

    await resources.change(ctx, actor, write)


async def create(ctx: Context, actor: Actor, project: str, body: Doc, *, production: bool = False) -> None:
    """Raises: Invalid, AlreadyExists, NotFound: the project."""
    document = read_body(ServiceBody, body).document()

    def write(tx: Tx, hand: Hand) -> None:
        store(tx, hand, kind_of(production), project, document, new=True)

    await resources.change(ctx, actor, write)


async def change(ctx: Context, actor: Actor, project: str, name: str, body: Doc, *, production: bool = False) -> None:
    """A new manifest; the variables stay. Raises: Invalid, NotFound."""
    new = read_body(ServiceChange, body)

    def write(tx: Tx, hand: Hand) -> None:
        old = get(tx, kind_of(production), project, name)
        _rewrite(tx, hand, old, yaml=new.yaml)

    await resources.change(ctx, actor, write)


async def change_variables(
    ctx: Context, actor: Actor, project: str, name: str, body: Doc, *, production: bool = False
) -> None:
    """New variables; the manifest stays. Raises: Invalid, NotFound."""
    new = read_body(VariableChange, body)
    variables = [kv.model_dump() for kv in new.service_variable_kvs]

    def write(tx: Tx, hand: Hand) -> None:
        old = get(tx, kind_of(production), project, name)
        _rewrite(tx, hand, old, variable_yaml=variables)

    await resources.change(ctx, actor, write)


def _rewrite(tx: Tx, hand: Hand, old: Resource, **changes: Any) -> None:
    """A service with a manifest of its own no longer follows a template."""
    body = {
        "service_name": old.name,
        "yaml": old.document["yaml"],
        "variable_yaml": old.document["service_variable_kvs"],
        **changes,
    }
    document = read_body(ServiceBody, body).document()
    if "yaml" not in changes:
        document |= {key: old.document[key] for key in _ORIGIN if key in old.document}
    put_over(tx, hand, old, document)


async def delete(ctx: Context, actor: Actor, project: str, name: str, *, production: bool = False) -> None:
    """Raises: NotFound."""

    def write(tx: Tx, hand: Hand) -> None:
        drop(tx, hand, get(tx, kind_of(production), project, name))

    await resources.change(ctx, actor, write)


async def list_services(ctx: Context, project: str, *, production: bool = False) -> list[Resource]:
    """By name. Raises: NotFound: the project."""

    def read(tx: Tx) -> list[Resource]:
        if tx.resources.find("project", "", project) is None:
            raise NotFound("project", project)
        return tx.resources.list_kind(kind_of(production), project)

    return await ctx.db.read(read)


async def find(ctx: Context, project: str, name: str, *, production: bool = False) -> Resource:
    """Raises: NotFound."""
    return await ctx.db.read(get, kind_of(production), project, name)
