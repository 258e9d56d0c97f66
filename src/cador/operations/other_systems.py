"""Databases and project management systems: who sees which, and whether they can be reached."""

from collections.abc import Mapping
from typing import Any, Final

from cador.domain.errors import Invalid, NotFound, Unavailable
from cador.domain.masking import MASK
from cador.domain.secrets import mask_credentials
from cador.jobs.server import seen_by
from cador.operations import resources
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.models.body import read_body
from cador.operations.resources import with_kept_secrets
from cador.ports.probes import Probes
from cador.ports.stores import Resource

Doc = Mapping[str, Any]
_TARGETS: Final = ("type", "host", "port", "username", "database", "spec")
"""Where stored secrets go; they are never sent anywhere else to try something out."""


async def databases_of(ctx: Context, project: str) -> list[Resource]:
    """The databases that *project* may use, by name."""
    return [found for found in await resources.list_kind(ctx, "database") if seen_by(found, project)]


async def check_database(ctx: Context, actor: Actor, body: Doc) -> None:
    """Connect with what *body* says. Raises: Invalid: not a database; NotReached; Unavailable."""
    document = await _complete(ctx, actor, "database", body)
    await _probes(ctx).database({**document, "port": int(document["port"])})


async def check_project_management(ctx: Context, actor: Actor, body: Doc) -> None:
    """Log in with what *body* says. Raises: Invalid: none that can be tried; NotReached; Unavailable."""
    document = await _complete(ctx, actor, "projectmanagement", body)
    if document["type"] != "tapd":
        raise Invalid(f"this server does not call systems of type {document['type']}", place="type")
    spec = document["spec"]
    await _probes(ctx).tapd(
        {
            "address": spec["tapd_address"],
            "client_id": spec["tapd_client_id"],
            "client_secret": spec["tapd_client_secret"],
        }
    )


async def _complete(ctx: Context, actor: Actor, kind: str, body: Doc) -> dict[str, Any]:
    """*body*, checked. Secrets that it leaves out or masks are the stored ones, for the very place they are for."""
    form = resources.KINDS[kind]
    name = body.get(form.named)
    try:
        old = await resources.find(ctx, kind, "", name if isinstance(name, str) else "")
    except NotFound:
        old = None
    document = read_body(form.model, with_kept_secrets(body, old) if old is not None else body).document()
    resources.refuse_sealed(document, ctx.sealer)
    opened = resources.Hand(actor, ctx.sealer).opened(old.document) if old is not None else {}
    if old is None or not _same_place(document, opened):
        if MASK in _texts(document):
            raise Invalid(f"{MASK} stands for a stored secret, and none is stored for this address")
        return document
    return _filled(document, opened)


def _same_place(one: Doc, other: Doc) -> bool:
    hidden, stored = mask_credentials(one), mask_credentials(other)
    return all(hidden.get(key) == stored.get(key) for key in _TARGETS)


def _filled(document: Doc, opened: Doc) -> dict[str, Any]:
    return {
        key: opened.get(key, "")
        if value == MASK
        else _filled(value, opened.get(key, {}))
        if isinstance(value, Mapping)
        else value
        for key, value in document.items()
    }


def _texts(document: Doc) -> set[str]:
    found: set[str] = set()
    for value in document.values():
        if isinstance(value, Mapping):
            found |= _texts(value)
        elif isinstance(value, str):
            found.add(value)
    return found


def _probes(ctx: Context) -> Probes:
    if ctx.probes is None:
        raise Unavailable("this server cannot try it out")
    return ctx.probes
