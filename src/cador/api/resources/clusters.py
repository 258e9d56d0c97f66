"""Routes of clusters. Source: API documents, "Clusters"."""

from typing import Any, Final

from cador.api.catalogue import Operation
from cador.api.described import Described
from cador.api.params import PROJECT
from cador.api.permissions import LOGGED_IN, in_system
from cador.api.resources.kinds import list_of
from cador.api.routing import Call, Routes
from cador.domain.errors import AlreadyExists, Conflict, NotFound
from cador.operations import clusters, resources
from cador.operations.models.cluster import PROVIDERS, ClusterBody, ClusterChange
from cador.ports.stores import Resource

ROUTES: Final = Routes("system")
PATH: Final = "/openapi/system/cluster"
_CHANGE_FAULTS: Final = {
    NotFound: Operation.FIND_CLUSTER,
    AlreadyExists: Operation.UPDATE_CLUSTER,
    Conflict: Operation.UPDATE_CLUSTER,
}


class Cluster(Described):
    """``status``: ``normal``, or ``unknown`` with the reason; ``local``: the server's own machine or cluster."""

    cluster_id: str
    name: str
    production: bool
    description: str
    provider: int
    provider_name: str
    created_by: str
    created_time: int
    local: bool
    status: str
    status_reason: str
    type: str
    project_names: list[str]
    executor: str


class MadeCluster(Described):
    """``agent_cmd``: empty, there are no agents: clusters are reached by their kubeconfig."""

    cluster: Cluster
    agent_cmd: str


@ROUTES.get(PATH, LOGGED_IN, query=("projectName",), reply=list_of(Cluster))
async def list_clusters(call: Call) -> list[dict[str, Any]]:
    """The clusters jobs and services run on, as far as the caller's projects may use them."""
    found = await clusters.list_clusters(call.ctx, call.actor, call.text(PROJECT))
    return [_cluster(cluster) for cluster in found]


@ROUTES.post(
    PATH,
    in_system("create_cluster_management"),
    faults={AlreadyExists: Operation.CREATE_CLUSTER},
    body=ClusterBody,
    reply=MadeCluster,
)
async def create(call: Call) -> dict[str, Any]:
    """Add a cluster."""
    made = await resources.create(call.ctx, call.actor, clusters.KIND, "", await call.object())
    return {"cluster": _cluster(made), "agent_cmd": ""}


@ROUTES.get(
    f"{PATH}/{{id}}", in_system("get_cluster_management"), faults={NotFound: Operation.FIND_CLUSTER}, reply=Cluster
)
async def detail(call: Call) -> dict[str, Any]:
    """One cluster, without its kubeconfig."""
    return _cluster(await resources.find_by_id(call.ctx, clusters.KIND, call.path_value("id")))


@ROUTES.put(f"{PATH}/{{id}}", in_system("edit_cluster_management"), faults=_CHANGE_FAULTS, body=ClusterChange)
async def change(call: Call) -> None:
    """Change name, description, projects, kubeconfig or executor of a cluster; what is absent stays."""
    await clusters.change(call.ctx, call.actor, call.path_value("id"), await call.object())


@ROUTES.delete(
    f"{PATH}/{{id}}",
    in_system("delete_cluster_management"),
    faults={NotFound: Operation.FIND_CLUSTER, Conflict: Operation.DELETE_CLUSTER},
)
async def delete(call: Call) -> None:
    """Delete a cluster that nothing uses."""
    await resources.delete_by_id(call.ctx, call.actor, clusters.KIND, call.path_value("id"))


def _cluster(cluster: Resource) -> dict[str, Any]:
    doc = cluster.document
    status, reason = clusters.state_of(cluster)
    return {
        "cluster_id": cluster.uid,
        "name": cluster.name,
        "production": doc["production"],
        "description": doc["description"],
        "provider": doc["provider"],
        "provider_name": PROVIDERS[doc["provider"]] if doc["executor"] == "kubernetes" else "",
        "created_by": cluster.created_by,
        "created_time": int(cluster.create_at),
        "local": cluster.uid == resources.LOCAL_CLUSTER,
        "status": status,
        "status_reason": reason,
        "type": doc["type"],
        "project_names": doc["project_names"],
        "executor": doc["executor"],
    }
