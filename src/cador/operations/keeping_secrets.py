"""Secrets that declarative files name: kept, changed, removed. Their values are never shown."""

from dataclasses import replace
from functools import partial

from cador.domain.errors import NotFound
from cador.domain.secrets import mask_credentials
from cador.engine.hearing import Claim, Ear, Outcome
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.desk import Desk
from cador.operations.live import refill
from cador.operations.models.body import read_body
from cador.operations.models.stored_secret import SecretBody, body_of
from cador.operations.resources import Doc, Hand, change, need_project
from cador.operations.stored_secrets import KIND, drop, store
from cador.ports.stores import Resource, Tx


async def list_secrets(ctx: Context, project: str) -> list[Resource]:
    """Of a project, or of the system when it is empty. By name, in the shape of their body. Raises: NotFound."""

    def read(tx: Tx) -> list[Resource]:
        if project:
            need_project(tx, project)
        return [_shown(one) for one in tx.resources.list_kind(KIND, project)]

    return await ctx.db.read(read)


async def find_secret(ctx: Context, project: str, name: str) -> Resource:
    """Raises: NotFound."""

    def read(tx: Tx) -> Resource:
        found = tx.resources.find(KIND, project, name)
        if found is None:
            raise NotFound(KIND, name)
        return _shown(found)

    return await ctx.db.read(read)


async def put_secret(ctx: Context, actor: Actor, project: str, name: str, body: Doc) -> Resource:
    """Add or replace one; its new values reach what was applied with the old ones.

    Raises: Invalid; NotFound: the project; Conflict: something that names it refuses the new value.
    """
    new = read_body(SecretBody, {**body, "name": name})
    await ctx.engine.transact(_put, ctx, actor, project, new, ctx.clock.now())
    return await find_secret(ctx, project, name)


def _put(tx: Tx, claim: Claim, ctx: Context, actor: Actor, project: str, new: SecretBody, at: float) -> Outcome[None]:
    ear = Ear(tx, claim)
    tx.admission.lock()
    tx.resources.hold()
    hand = Hand(actor, ctx.sealer)
    store(tx, hand, project, new, partial(refill, Desk(tx, hand, ctx.types, ear, at, {})))
    return ear.outcome(None)


async def delete_secret(ctx: Context, actor: Actor, project: str, name: str) -> None:
    """Raises: NotFound; Conflict: something that was applied names it."""
    await change(ctx, actor, lambda tx, hand: drop(tx, hand, project, name))


def _shown(resource: Resource) -> Resource:
    return replace(resource, document=body_of(dict(mask_credentials(resource.document))))
