"""Other systems that are kept as records: who sees which, whether they can be reached, and what they hold."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cador.domain.errors import Forbidden, Invalid, NotFound, Unavailable
from cador.domain.masking import MASK
from cador.domain.secrets import mask_credentials
from cador.jobs.server import seen_by
from cador.operations import resources
from cador.operations.actor import SYSTEM, Actor
from cador.operations.context import Context
from cador.operations.models.body import read_body
from cador.operations.resources import Hand, with_kept_secrets
from cador.ports.probes import Probes
from cador.ports.stores import Resource, Tx

Doc = Mapping[str, Any]
MANAGEMENT: Final = "projectmanagement"
WRITES: Final = ("edit_workflow", "create_workflow")
"""Who may do one of these in some project writes workflows."""


@dataclass(frozen=True, slots=True)
class Trial:
    """``target``: the fields that say where secrets go; stored ones are sent nowhere else to try something out."""

    target: tuple[str, ...]
    run: Callable[[Probes, Doc], Awaitable[None]]


async def _management(probes: Probes, document: Doc) -> None:
    _need_tapd(document)
    await probes.tapd(document["spec"])


TRIALS: Final[Mapping[str, Trial]] = {
    "database": Trial(
        ("type", "host", "port", "username", "database"), lambda probes, document: probes.database(document)
    ),
    "sonar": Trial(("server_address",), lambda probes, document: probes.sonar(document)),
    "storage": Trial(("endpoint", "insecure", "ak"), lambda probes, document: probes.storage(document)),
    "imapp": Trial(
        ("type", "host", "app_id", "dingtalk_app_key", "corp_id"), lambda probes, document: probes.messenger(document)
    ),
    "mail": Trial(("host", "port", "isTLS", "username"), lambda probes, document: probes.mail(document)),
    MANAGEMENT: Trial(("type", "spec"), _management),
}
"""By kind: how it is tried out."""


async def usable_by(ctx: Context, kind: str, project: str) -> list[Resource]:
    """Those of a kind of the system that *project* may use, by name."""
    return [found for found in await resources.list_kind(ctx, kind) if seen_by(found, project)]


async def known_to(ctx: Context, actor: Actor, kind: str) -> list[Resource]:
    """Those of a kind of the system that one of the actor's projects may use, by name; administrators know all."""
    everything = actor.may(SYSTEM)
    return [
        found
        for found in await resources.list_kind(ctx, kind)
        if everything or any(seen_by(found, project) for project in ("", *actor.places()))
    ]


async def check(ctx: Context, actor: Actor, kind: str, body: Doc) -> None:
    """Try out what *body* says. Raises: Invalid: it could not be stored or tried; NotReached; Unavailable."""
    document = await _complete(ctx, actor, kind, body)
    await TRIALS[kind].run(_probes(ctx), document)


async def tapd_projects(ctx: Context, actor: Actor, ident: str) -> Sequence[Doc]:
    """Projects of the company of a TAPD integration, for who writes workflows.

    Raises: Forbidden, NotFound, Invalid: it is another system; NotReached, Unavailable.
    """
    return await _probes(ctx).tapd_projects(await _tapd(ctx, actor, ident))


async def tapd_iterations(ctx: Context, actor: Actor, ident: str, project: str, status: str) -> Sequence[Doc]:
    """Iterations of a project there, newest first. *status*: empty for all. Raises: as :func:`tapd_projects`."""
    return await _probes(ctx).tapd_iterations(await _tapd(ctx, actor, ident), project, status)


async def _tapd(ctx: Context, actor: Actor, ident: str) -> Doc:
    """The ``spec`` of an integration, secrets in clear."""
    if not actor.may(SYSTEM) and not any(actor.anywhere(action) for action in WRITES):
        raise Forbidden(WRITES[0])

    def read(tx: Tx) -> Doc:
        return Hand(actor, ctx.sealer).opened(resources.by_id(tx, MANAGEMENT, ident).document)

    document = await ctx.db.read(read)
    _need_tapd(document)
    spec: Doc = document["spec"]
    return spec


def _need_tapd(document: Doc) -> None:
    if document["type"] != "tapd":
        raise Invalid(f"this server does not call systems of type {document['type']}", place="type")


async def _complete(ctx: Context, actor: Actor, kind: str, body: Doc) -> Doc:
    """*body*, checked. Secrets that it leaves out or masks are the stored ones, for the very place they are for."""
    form = resources.KINDS[kind]
    name = body.get(form.named)
    if not name:  # some kinds make one of the rest
        name = read_body(form.model, body).document()[form.named]
    try:
        old = await resources.find(ctx, kind, "", name if isinstance(name, str) else "")
    except NotFound:
        old = None
    document = read_body(form.model, with_kept_secrets(body, old) if old is not None else body).document()
    resources.refuse_sealed(document, ctx.sealer)
    opened = Hand(actor, ctx.sealer).opened(old.document) if old is not None else {}
    if old is not None and _same_place(document, opened, TRIALS[kind].target):
        return _filled(document, opened)
    if MASK in _texts(document):
        raise Invalid(f"{MASK} stands for a stored secret, and none is stored for this address")
    return document


def _same_place(one: Doc, other: Doc, target: Sequence[str]) -> bool:
    hidden, stored = mask_credentials(one), mask_credentials(other)
    return all(hidden.get(key) == stored.get(key) for key in target)


def _filled(document: Doc, opened: Doc) -> Doc:
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
