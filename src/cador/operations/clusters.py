"""Clusters: records of where jobs and services run."""

from dataclasses import replace
from typing import Any, Final

from cador.domain.errors import AlreadyExists, Conflict
from cador.domain.masking import MASK
from cador.operations import resources
from cador.operations.actor import SYSTEM, Actor
from cador.operations.context import Context
from cador.operations.models.body import read_body
from cador.operations.models.cluster import ClusterBody, ClusterChange
from cador.operations.references import scripts_naming
from cador.operations.resources import LOCAL_CLUSTER, Doc, Hand, by_id, open_to, put_over
from cador.ports.stores import Resource, Tx

KIND: Final = "cluster"
GET_CLUSTERS: Final = "get_cluster_management"
NOT_CONNECTED: Final = "this server does not connect to clusters yet"


def state_of(cluster: Resource) -> tuple[str, str]:
    """Status on the wire and, where it is not ``normal``, why."""
    if cluster.document["executor"] == "kubernetes":
        return "unknown", NOT_CONNECTED
    return "normal", ""


async def list_clusters(ctx: Context, actor: Actor, project: str) -> list[Resource]:
    """By name; of *project*: those that are open to it. Who may not look at all clusters sees those that are open to
    one of their projects."""
    everything = actor.may(SYSTEM) or actor.may(GET_CLUSTERS)

    def read(tx: Tx) -> list[Resource]:
        return tx.resources.list_kind(KIND, "")

    def may_see(cluster: Resource) -> bool:
        return everything or any(open_to(cluster, key) for key in ("", *actor.places()))

    return [
        cluster
        for cluster in await ctx.db.read(read)
        if may_see(cluster) and (not project or open_to(cluster, project))
    ]


async def change(ctx: Context, actor: Actor, ident: str, body: Doc) -> None:
    """What is absent stays. Raises: Invalid, NotFound; AlreadyExists; Conflict: a build names it by the old name."""
    changes = read_body(ClusterChange, body).model_dump(exclude_none=True)

    def write(tx: Tx, hand: Hand) -> None:
        old = by_id(tx, KIND, ident)
        document = read_body(ClusterBody, {**old.document, **_kept(old), **changes}).document()
        if document["name"] != old.name:
            old = _renamed(tx, hand, old, document["name"])
        put_over(tx, hand, old, document)

    await resources.change(ctx, actor, write)


def _kept(old: Resource) -> dict[str, Any]:
    """The stored configuration is text sealed here: it stays by its mask."""
    return {"kube_config": MASK} if old.document.get("kube_config") else {}


def _renamed(tx: Tx, hand: Hand, old: Resource, name: str) -> Resource:
    if old.uid == LOCAL_CLUSTER:
        raise Conflict("cluster local keeps its name")
    if tx.resources.find(KIND, "", name) is not None:
        raise AlreadyExists(KIND, name)
    user = next(scripts_naming(tx, old, "cluster_name"), "")
    if user:
        raise Conflict(f"cluster {old.name} is used by {user}, which knows it by this name")
    # Environments and definitions name it by its id, which stays.
    tx.resources.delete(KIND, "", old.name)
    renamed = tx.resources.add(replace(old, name=name, document={**old.document, "name": name}))
    hand.audit(tx, f"edit_{KIND}", "", f"{KIND}/{name}", {"was": old.name})
    return renamed
