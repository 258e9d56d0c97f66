"""Environments: which services of a project run where, at which revision, with which images and variables.

They are records here: what was put into one is what its deployments start from. Whether it runs is not known before
this server connects to clusters, so the status is ``unknown`` and says why.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from cador.domain.errors import AlreadyExists, Conflict, Invalid, NotFound
from cador.operations import resources
from cador.operations.actor import Actor
from cador.operations.clusters import KIND as CLUSTER
from cador.operations.clusters import NOT_CONNECTED
from cador.operations.context import Context
from cador.operations.models.body import read_body
from cador.operations.models.environment import (
    AddServices,
    EnvironmentBody,
    EnvironmentChange,
    RemoveServices,
    ServiceEntry,
    ServiceList,
    VariablesBody,
    check_production,
)
from cador.operations.models.registry import location
from cador.operations.resources import Doc, Hand, drop, get, need_project, open_to, put_new, put_over
from cador.operations.services import kind_of as service_kind
from cador.ports.stores import Resource, Tx

TEST: Final = "environment"
PRODUCTION: Final = "production_environment"
STATUS: Final = "unknown"
Object = dict[str, Any]


class NotUsable(Conflict):
    """What an environment refers to is not there, or not for this project."""


class OutOfReach(Conflict):
    """Only the cluster could do or know it."""


def kind_of(production: bool) -> str:
    return PRODUCTION if production else TEST


def is_production(kind: str) -> bool:
    return kind == PRODUCTION


# -- parts of transactions


def store(
    tx: Tx, hand: Hand, kind: str, project: str, body: EnvironmentBody, *, new: bool = False, bare: bool = False
) -> tuple[Resource, bool]:
    """Add or replace an environment; the flag says whether anything changed. Services that stay keep their revision.
    *bare*: it may be without an image registry where there is none.

    Raises: NotFound: the project; AlreadyExists: *new* and it is there; NotUsable; Invalid.
    """
    need_project(tx, project)
    if is_production(kind):
        check_production(body.namespace)
    old = tx.resources.find(kind, project, body.env_key)
    if old is not None and new:
        raise AlreadyExists(kind, body.env_key, project=project)
    known = {entry["service_name"]: entry for entry in old.document["services"]} if old is not None else {}
    document = {
        "env_key": body.env_key,
        "env_name": body.env_name,
        "cluster_id": _cluster(tx, project, body).uid,
        "namespace": body.namespace,
        "registry_id": _registry(tx, body.registry_id, bare=bare),
        "global_variables": [variable.model_dump() for variable in body.global_variables],
        "services": [
            _entry(tx, kind, project, service.model_dump(), known.get(service.service_name))
            for service in body.services
        ],
    }
    if old is None:
        return put_new(tx, hand, kind, project, body.env_key, document), True
    changed = put_over(tx, hand, old, document)
    return (get(tx, kind, project, body.env_key) if changed else old), changed


def body_of(tx: Tx, environment: Resource) -> Object:
    """The body that would store what is stored, with names for ids."""
    doc = environment.document
    cluster = tx.resources.by_id(CLUSTER, doc["cluster_id"])
    registry = tx.resources.by_id("registry", doc["registry_id"])
    keys = ("service_name", "deploy_strategy", "containers", "variable_kvs")
    return {
        "env_key": environment.name,
        "project_key": environment.project,
        "env_name": doc["env_name"],
        **({"cluster_name": cluster.name} if cluster is not None else {"cluster_id": doc["cluster_id"]}),
        "namespace": doc["namespace"],
        "registry_id": registry.name if registry is not None else doc["registry_id"],
        "global_variables": doc["global_variables"],
        "services": [{key: entry[key] for key in keys} for entry in doc["services"]],
    }


def _cluster(tx: Tx, project: str, body: EnvironmentBody) -> Resource:
    named = body.cluster_name
    found = tx.resources.find(CLUSTER, "", named) if named else None
    if found is None and body.cluster_id:
        found = tx.resources.by_id(CLUSTER, body.cluster_id) or tx.resources.find(CLUSTER, "", body.cluster_id)
    if found is None:
        raise NotUsable(f"failed to find a cluster with name: {named or body.cluster_id}")
    if not open_to(found, project):
        raise NotUsable(f"cluster {found.name} is not open to project {project}")
    return found


def _registry(tx: Tx, named: str, *, bare: bool = False) -> str:
    registries = tx.resources.list_kind("registry", "")
    if not named:
        default = next((one for one in registries if one.document.get("is_default")), None)
        if default is None and bare:
            return ""
        if default is None:
            raise Invalid("registry_id is required: there is no default registry", place="registry_id")
        return default.uid
    for one in registries:
        address = location(str(one.document["address"]), str(one.document["namespace"]))
        if named in (one.uid, one.name) or location(named, "") == address:
            return one.uid
    raise NotUsable(f"image registry {named} not found")


def _entry(tx: Tx, kind: str, project: str, given: Object, known: Mapping[str, Any] | None) -> Object:
    """A service of an environment as it is stored: as it was there, else as the service says now.

    ``yaml`` is kept: the environment outlives the service it was made from. Raises: NotUsable.
    """
    newest = _newest(tx, kind, project, given["service_name"])
    known = known or newest
    if known is None:
        raise NotUsable(f"service {given['service_name']} not found in project {project}")
    # What is given is all that differs from the service; of a service that moved on, from what is here.
    base = newest if newest is not None and newest["revision"] == known["revision"] else known
    return {
        **known,
        "deploy_strategy": given.get("deploy_strategy") or known["deploy_strategy"],
        "containers": _overlaid(known["containers"], given.get("containers") or (), "name", ("image", "image_name")),
        "variable_kvs": _overlaid(base["variable_kvs"], given["variable_kvs"], "key", None),
    }


def _newest(tx: Tx, kind: str, project: str, name: str) -> Object | None:
    """A service as its newest revision says, None when there is none."""
    service = tx.resources.find(service_kind(is_production(kind)), project, name)
    if service is None:
        return None
    plain = {"use_global_variable": False, "is_reference_variable": False}
    return {
        "service_name": name,
        "type": service.document["type"],
        "revision": service.revision,
        "deploy_strategy": "deploy",
        "containers": [{key: one[key] for key in ("name", "image", "image_name")} for one in
                       service.document["containers"]],
        "variable_kvs": [{**kv, **plain} for kv in service.document["service_variable_kvs"]],
        "yaml": service.document["yaml"],
    }  # fmt: skip


def _overlaid(
    base: Iterable[Mapping[str, Any]], given: Iterable[Mapping[str, Any]], key: str, fields: tuple[str, ...] | None
) -> list[Object]:
    """*base* with what *given* says of the elements of the same *key*; of *fields* only what is not empty. What the
    base does not know is added at the end."""
    merged = {entry[key]: dict(entry) for entry in base}
    for entry in given:
        old = merged.get(entry[key])
        if old is None or fields is None:
            merged[entry[key]] = {**(old or {}), **entry}
        else:
            merged[entry[key]] = old | {name: entry[name] for name in fields if entry[name]}
    return list(merged.values())


def _rewrite(tx: Tx, hand: Hand, kind: str, project: str, key: str, change: Callable[[Object], Object]) -> Resource:
    old = get(tx, kind, project, key)
    put_over(tx, hand, old, {**old.document, **change(dict(old.document))})
    return get(tx, kind, project, key)


# -- operations


async def create(ctx: Context, actor: Actor, kind: str, project: str, body: Doc) -> None:
    """Raises: Invalid, AlreadyExists, NotUsable, NotFound: the project."""
    parsed = read_body(EnvironmentBody, {**body, "project_key": project})

    def write(tx: Tx, hand: Hand) -> None:
        store(tx, hand, kind, project, parsed, new=True)

    await resources.change(ctx, actor, write)


async def change(ctx: Context, actor: Actor, kind: str, project: str, key: str, body: Doc) -> None:
    """Another registry or display name. Raises: Invalid, NotFound, NotUsable."""
    changes = read_body(EnvironmentChange, body)

    def write(tx: Tx, hand: Hand) -> None:
        found: Object = {}
        if changes.registry_id:
            found["registry_id"] = _registry(tx, changes.registry_id)
        if changes.env_name is not None:
            found["env_name"] = changes.env_name
        _rewrite(tx, hand, kind, project, key, lambda _: found)

    await resources.change(ctx, actor, write)


async def delete(ctx: Context, actor: Actor, kind: str, project: str, key: str) -> None:
    """Raises: NotFound; Conflict: a workflow deploys there."""

    def write(tx: Tx, hand: Hand) -> None:
        drop(tx, hand, get(tx, kind, project, key))

    await resources.change(ctx, actor, write)


async def list_environments(ctx: Context, kind: str, project: str) -> list[Resource]:
    """By key. Raises: NotFound: the project."""

    def read(tx: Tx) -> list[Resource]:
        need_project(tx, project)
        return tx.resources.list_kind(kind, project)

    return await ctx.db.read(read)


async def find(ctx: Context, kind: str, project: str, key: str) -> tuple[Resource, str]:
    """The environment, and why its state is unknown. Raises: NotFound."""

    def read(tx: Tx) -> tuple[Resource, str]:
        found = get(tx, kind, project, key)
        return found, reason_of(tx, found)

    return await ctx.db.read(read)


async def reasons(ctx: Context, environments: Iterable[Resource]) -> dict[str, str]:
    """Why the states of *environments* are unknown, by their keys."""
    listed = tuple(environments)

    def read(tx: Tx) -> dict[str, str]:
        return {one.name: reason_of(tx, one) for one in listed}

    return await ctx.db.read(read)


def reason_of(tx: Tx, environment: Resource) -> str:
    cluster = tx.resources.by_id(CLUSTER, environment.document["cluster_id"])
    if cluster is None:
        return "its cluster is not there any more"
    executor = cluster.document["executor"]
    if executor == "kubernetes":
        return f"cluster {cluster.name}: {NOT_CONNECTED}"
    return f"cluster {cluster.name} runs jobs ({executor}), no services"


async def add_services(ctx: Context, actor: Actor, kind: str, project: str, body: Doc) -> Resource:
    """Put services into an environment at their newest revision.

    Raises: Invalid, NotFound, NotUsable; AlreadyExists: one is there.
    """
    asked = read_body(AddServices, body)

    def write(tx: Tx, hand: Hand) -> Resource:
        def added(doc: Object) -> Object:
            there = {entry["service_name"] for entry in doc["services"]}
            for service in asked.service_list:
                if service.service_name in there:
                    raise Conflict(f"service {service.service_name} is in environment {asked.env_key} already")
                there.add(service.service_name)
            entries = [_entry(tx, kind, project, service.model_dump(), None) for service in asked.service_list]
            return {"services": [*doc["services"], *entries]}

        return _rewrite(tx, hand, kind, project, asked.env_key, added)

    return await resources.change(ctx, actor, write)


async def remove_services(ctx: Context, actor: Actor, kind: str, project: str, body: Doc) -> None:
    """Take services out of an environment. Raises: Invalid; NotFound: also a service that is not in it."""
    asked = read_body(RemoveServices, body)

    def write(tx: Tx, hand: Hand) -> None:
        def without(doc: Object) -> Object:
            for name in asked.service_names:
                _service_in(doc, name)
            return {"services": [one for one in doc["services"] if one["service_name"] not in asked.service_names]}

        _rewrite(tx, hand, kind, project, asked.env_key, without)

    await resources.change(ctx, actor, write)


async def update_services(ctx: Context, actor: Actor, kind: str, project: str, key: str, body: Doc) -> None:
    """Bring services to their newest revision; images and values stay unless the body names new ones. A service whose
    template is gone stays at its revision.

    Raises: Invalid; NotFound: also a service that is not in it.
    """
    asked = {one.service_name: one for one in read_body(ServiceList, body).service_list}

    def write(tx: Tx, hand: Hand) -> None:
        def renewed(doc: Object) -> Object:
            for name in asked:
                _service_in(doc, name)
            return {
                "services": [
                    _renewed(tx, kind, project, entry, asked[entry["service_name"]])
                    if entry["service_name"] in asked
                    else entry
                    for entry in doc["services"]
                ]
            }

        _rewrite(tx, hand, kind, project, key, renewed)

    await resources.change(ctx, actor, write)


def _renewed(tx: Tx, kind: str, project: str, entry: Object, asked: ServiceEntry) -> Object:
    newest = _newest(tx, kind, project, entry["service_name"])
    given = asked.model_dump()["variable_kvs"]
    if newest is None:
        return {**entry, "variable_kvs": _overlaid(entry["variable_kvs"], given, "key", None)}
    modules = {one["name"] for one in newest["containers"]}
    names = {kv["key"] for kv in newest["variable_kvs"]}
    kept = [kv for kv in entry["variable_kvs"] if kv["key"] in names]
    running = [one for one in entry["containers"] if one["name"] in modules]
    return {
        **newest,
        "deploy_strategy": entry["deploy_strategy"],
        "containers": _overlaid(newest["containers"], running, "name", ("image", "image_name")),
        "variable_kvs": _overlaid(_overlaid(newest["variable_kvs"], kept, "key", None), given, "key", None),
    }


async def set_variables(ctx: Context, actor: Actor, kind: str, project: str, key: str, body: Doc) -> None:
    """Replace the global variables. Raises: Invalid, NotFound."""
    variables = [one.model_dump() for one in read_body(VariablesBody, body).global_variables]

    def write(tx: Tx, hand: Hand) -> None:
        _rewrite(tx, hand, kind, project, key, lambda _: {"global_variables": variables})

    await resources.change(ctx, actor, write)


def _service_in(doc: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    for entry in doc["services"]:
        if entry["service_name"] == name:
            found: Mapping[str, Any] = entry
            return found
    raise NotFound("service", name)


async def find_service(ctx: Context, kind: str, project: str, key: str, name: str) -> tuple[Mapping[str, Any], str]:
    """A service of an environment, and why its state is unknown. Raises: NotFound."""
    environment, reason = await find(ctx, kind, project, key)
    return _service_in(environment.document, name), reason


async def ask_cluster(
    ctx: Context, kind: str, project: str, key: str, service: str | None, wish: str
) -> None:  # fmt: skip
    """What only the cluster of an environment can do. *wish*: as ``pods cannot be listed``.

    Raises: NotFound: the environment, or the service in it; OutOfReach: always else, with the reason.
    """
    environment, reason = await find(ctx, kind, project, key)
    if service is not None:
        _service_in(environment.document, service)
    raise OutOfReach(f"environment {key}: {wish}: {reason}")
