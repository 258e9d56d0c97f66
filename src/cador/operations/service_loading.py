"""Services whose manifests are read from a code host."""

from typing import Any, Final

from cador.domain.errors import Conflict, Invalid
from cador.engine.preparing import code_host_access
from cador.operations import resources, services
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.models.body import read_body
from cador.operations.models.service import LoadBody as Paths
from cador.operations.models.service import LoadFrom, ServiceBody
from cador.operations.resources import Doc, Hand
from cador.ports.code_hosts import CodeHostAccess, Unreadable
from cador.ports.stores import Tx

WITHIN_S: Final = 60.0


class CannotLoad(Conflict):
    """The code host, or what it gave."""


async def load(ctx: Context, actor: Actor, where: LoadFrom, body: Doc, *, production: bool) -> None:
    """Make services of manifests in a repository, or give those that are there a new revision; their variables stay.

    All of them, or none. Raises: Invalid, NotFound: the project; CannotLoad, with the reason; Forbidden: one is there
    and may not be changed.
    """
    asked = read_body(Paths, body)
    host, access = await ctx.db.read(_access, ctx, asked.product_name, where.codehost_name)
    if ctx.read_repository is None:
        raise CannotLoad("this server reaches no code hosts")
    repo = {
        "source": host["type"],
        "repo_namespace": where.repo_namespace or where.repo_owner,
        "repo_owner": where.repo_owner,
        "repo_name": where.repo_name,
        "branch": where.branch,
    }
    try:
        texts = await ctx.read_repository(repo, access, [entry.path for entry in asked.service_paths], WITHIN_S)
    except Unreadable as error:
        raise CannotLoad(str(error)) from error

    def write(tx: Tx, hand: Hand) -> None:
        kind = services.kind_of(production)
        for entry, text in zip(asked.service_paths, texts, strict=True):
            old = tx.resources.find(kind, asked.product_name, entry.service_name)
            if old is not None:
                actor.need(f"edit_{kind}", asked.product_name)
            known = old.document["service_variable_kvs"] if old is not None else []
            given = {
                "service_name": entry.service_name,
                "yaml": text,
                "variable_yaml": known,
                "loaded_from": {**where.model_dump(), "path": entry.path},
            }
            try:
                document = read_body(ServiceBody, given).document()
            except Invalid as error:
                raise CannotLoad(f"service {entry.service_name}: {error}") from error
            services.store(tx, hand, kind, asked.product_name, document)

    await resources.change(ctx, actor, write)


def _access(tx: Tx, ctx: Context, project: str, name: str) -> tuple[dict[str, Any], CodeHostAccess]:
    def open_(text: str) -> str:
        return ctx.sealer.open(text) if ctx.sealer.is_sealed(text) else text

    catalogue = ctx.catalogues.load(tx, project)
    host = catalogue.find("codehost", name)
    access = code_host_access(catalogue, host.id, open_) if host is not None else None
    if host is None or access is None:
        raise CannotLoad(f"failed to find codehost with name [{name}]")
    return dict(host.document), access
