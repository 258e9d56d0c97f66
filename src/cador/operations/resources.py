"""Configuration objects: checked, sealed, stored, written down in the audit.

The functions with a ``Tx`` are parts of transactions, so that many objects can change in one; the others are whole
operations. Permissions of single operations are checked by who calls them (the routes say which).
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from cador.domain.errors import AlreadyExists, Conflict, Invalid, NotFound
from cador.domain.masking import MASK
from cador.domain.secrets import (
    SECRET_KEYS,
    change_credentials,
    keep_masked,
    mask_credentials,
    masked_places,
    seal_credentials,
)
from cador.jobs.server import seen_by
from cador.operations import service_templates
from cador.operations.actor import SYSTEM, Actor
from cador.operations.context import Context
from cador.operations.models.body import Body, read_body
from cador.operations.models.builds import BuildBody, TestBody
from cador.operations.models.cluster import ALL_PROJECTS, ClusterBody
from cador.operations.models.codehost import CodeHostBody
from cador.operations.models.databases import DatabaseBody
from cador.operations.models.integrations import ImAppBody, MailBody, ProxyBody, ToolBody
from cador.operations.models.plugins import PluginBody
from cador.operations.models.project_management import ProjectManagementBody
from cador.operations.models.registry import RegistryBody
from cador.operations.models.scans import ScanBody, SonarBody
from cador.operations.models.storage import StorageBody
from cador.operations.models.system import BaseImageBody, SettingBody
from cador.operations.models.templates import BuildTemplateBody, DockerfileTemplateBody, ServiceTemplateBody
from cador.operations.models.view import ViewBody
from cador.operations.references import users_of
from cador.ports.sealing import Sealer
from cador.ports.stores import Resource, Tx

NO_DOCUMENTS: Final = "mongo: no documents in result"
LOCAL_CLUSTER: Final = "0123456789abcdef12345678"
_TEMPLATE: Final = re.compile(r"\s*\{\{[^{}]*\}\}\s*")
_AUDIT_BYTES: Final = 32_768

Doc = Mapping[str, Any]
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Kind:
    """``named``: the field that is the resource's name. ``in_project``: whether it belongs to a project.
    ``one_default``: one of them is the default (``is_default``): the first by itself, then the one that asks for it.
    ``partial``: what a replacing body leaves out stays; of the others only secrets do. ``goes_to``: fields that say
    where its secrets are sent."""

    name: str
    model: type[Body]
    named: str = "name"
    in_project: bool = False
    one_default: bool = False
    partial: bool = False
    goes_to: tuple[str, ...] = ()


KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("baseimage", BaseImageBody, named="label"),
        Kind("codehost", CodeHostBody),
        Kind("registry", RegistryBody, one_default=True, partial=True, goes_to=("address",)),
        Kind("cluster", ClusterBody, partial=True),
        Kind("mail", MailBody, one_default=True),
        Kind("imapp", ImAppBody),
        Kind("proxy", ProxyBody, named="type"),
        Kind("tool", ToolBody, named="label"),
        Kind("sonar", SonarBody, named="system_identity"),
        Kind("storage", StorageBody, one_default=True, goes_to=("endpoint", "insecure")),
        Kind("database", DatabaseBody, goes_to=("type", "host", "port")),
        Kind("projectmanagement", ProjectManagementBody, named="system_identity"),
        Kind("plugin", PluginBody),
        Kind("setting", SettingBody),
        Kind("dockerfiletemplate", DockerfileTemplateBody),
        Kind("buildtemplate", BuildTemplateBody),
        Kind("servicetemplate", ServiceTemplateBody),
        Kind("build", BuildBody, in_project=True),
        Kind("test", TestBody, in_project=True),
        Kind("scan", ScanBody, in_project=True),
        Kind("view", ViewBody, in_project=True),
    )
}


@dataclass(frozen=True, slots=True)
class Hand:
    """Who changes something, and what secrets are sealed with."""

    actor: Actor
    sealer: Sealer

    def audit(self, tx: Tx, action: str, project: str, target: str, detail: Doc | None = None) -> None:
        """Write it down; *detail* is masked here and left out when it is large."""
        masked = mask_credentials(detail or {})
        size = len(json.dumps(masked, default=str))
        tx.audit.add(
            at=tx.now,
            actor=self.actor.account,
            action=action,
            project=project,
            target=target,
            detail=masked if size <= _AUDIT_BYTES else {"bytes": size},
        )

    def opened(self, document: Doc) -> dict[str, Any]:
        """*document* with its secrets in clear, for comparing; never shown."""
        return dict(change_credentials(document, self._open))

    def _open(self, text: str) -> str:
        return self.sealer.open(text) if self.sealer.is_sealed(text) else text

    def sealed(self, document: Doc, label: str, old: Doc | None = None) -> dict[str, Any]:
        """*document* as it is stored. ``********`` keeps the secret of *old*.

        Raises: Invalid: a mask with nothing stored behind it, or a token of the sealer sent in.
        """
        refuse_sealed(document, self.sealer)
        kept = keep_masked(document, old or {})
        place = next(masked_places(kept), "")
        if place:
            raise Invalid(f"{place}: {MASK} keeps a stored secret, but none is stored", place=place)
        return dict(
            seal_credentials(
                kept,
                # a reference is no secret, what it stands for is
                lambda text: (
                    text if self.sealer.is_sealed(text) or _TEMPLATE.fullmatch(text) else self.sealer.seal(text, label)
                ),
            )
        )


def refuse_sealed(value: Any, sealer: Sealer) -> None:
    """What is stored sealed must have been sealed here. Raises: Invalid."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            waiting.extend(node.values())
        elif isinstance(node, (list, tuple)):
            waiting.extend(node)
        elif isinstance(node, str) and sealer.is_sealed(node):
            raise Invalid("a sealed secret cannot be sent: send its value")


# -- parts of transactions


def need_project(tx: Tx, project: str) -> Resource:
    """Raises: NotFound."""
    found = tx.resources.find("project", "", project)
    if found is None:
        raise NotFound("project", project)
    return found


def get(tx: Tx, kind: str, project: str, name: str) -> Resource:
    """Raises: NotFound."""
    found = tx.resources.find(kind, project, name)
    if found is None:
        raise NotFound(kind, name)
    return found


def put_new(tx: Tx, hand: Hand, kind: str, project: str, name: str, document: Doc, *, uid: str = "") -> Resource:
    """Store a new resource. Raises: AlreadyExists, Invalid."""
    stored = hand.sealed(document, f"{kind}/{project}/{name}")
    resource = tx.resources.add(
        Resource(
            kind=kind,
            project=project,
            name=name,
            document=stored,
            uid=uid,
            created_by=hand.actor.name,
            create_at=tx.now,
            updated_by=hand.actor.name,
            update_at=tx.now,
        )
    )
    hand.audit(tx, f"create_{kind}", project, f"{kind}/{name}", {"document": stored})
    return resource


def put_over(tx: Tx, hand: Hand, old: Resource, document: Doc) -> bool:
    """Replace the document; False and nothing written when it says the same. Raises: Invalid."""
    stored = hand.sealed(document, f"{old.kind}/{old.project}/{old.name}", old.document)
    if hand.opened(stored) == hand.opened(old.document):
        return False
    tx.resources.replace(replace(old, document=stored, updated_by=hand.actor.name, update_at=tx.now))
    hand.audit(tx, f"edit_{old.kind}", old.project, f"{old.kind}/{old.name}", {"document": stored})
    return True


def drop(tx: Tx, hand: Hand, resource: Resource) -> None:
    """Raises: Conflict: something refers to it."""
    if resource.uid == LOCAL_CLUSTER:
        raise Conflict("cluster local always exists")
    user = next(users_of(tx, resource), "")
    if user:
        raise Conflict(f"{resource.kind} {resource.name} is used by {user}")
    tx.resources.delete(resource.kind, resource.project, resource.name)
    hand.audit(tx, f"delete_{resource.kind}", resource.project, f"{resource.kind}/{resource.name}")
    form = KINDS.get(resource.kind)
    if form is not None and form.one_default and resource.document.get("is_default"):
        heir = next(iter(tx.resources.list_kind(resource.kind)), None)
        if heir is not None:
            put_over(tx, hand, heir, {**hand.opened(heir.document), "is_default": True})


def open_to(cluster: Resource, project: str) -> bool:
    """Whether a project may use what limits itself to ``project_names``."""
    names = cluster.document.get("project_names") or [ALL_PROJECTS]
    return ALL_PROJECTS in names or project in names


_SCRIPTS: Final = ("build", "test", "scan", "buildtemplate")


def check_references(tx: Tx, kind: str, project: str, document: Doc) -> None:
    """What a build, test or scan names must be there. Raises: Invalid with the documented texts."""
    if kind not in _SCRIPTS:
        return
    if document.get("template_name"):
        _check_template(tx, project, document)
        return
    label = document["image_name" if kind == "scan" else "build_os"]
    if tx.resources.find("baseimage", "", label) is None:
        raise Invalid(f"failed to find the basic image of name: {label}, error is: {NO_DOCUMENTS}")
    _check_repositories(tx, project, document.get("repo_info", ()))
    name = document["advanced_settings"]["cluster_name"]
    cluster = tx.resources.find("cluster", "", name)
    if cluster is None:
        raise Invalid(f"failed to find cluster with name: {name}, error is: {NO_DOCUMENTS}")
    if project and not open_to(cluster, project):
        raise Invalid(f"cluster {name} is not open to project {project}")
    sonar = document.get("sonar_system")
    if sonar and tx.resources.find("sonar", "", sonar) is None:
        raise Invalid(f"failed to find sonar system with name: {sonar}, error is: {NO_DOCUMENTS}")
    docker = document.get("docker_build_step") or {}
    if docker.get("dockerfile_source") == "template":
        name = docker["template_name"]
        if tx.resources.find("dockerfiletemplate", "", name) is None:
            raise Invalid(f"failed to find dockerfile template with name: {name}, error is: {NO_DOCUMENTS}")


def _check_repositories(tx: Tx, project: str, repos: Iterable[Doc]) -> None:
    for repo in repos:
        name = repo["codehost_name"]
        host = tx.resources.find("codehost", "", name)
        if host is None:
            raise Invalid(f"failed to find codehost with name [{name}], error is: {NO_DOCUMENTS}")
        if project and not seen_by(host, project):
            raise Invalid(f"codehost {name} is not open to project {project}")


def _check_template(tx: Tx, project: str, document: Doc) -> None:
    """A build that is made from a template: values only for variables that the template has."""
    name = document["template_name"]
    template = tx.resources.find("buildtemplate", "", name)
    if template is None:
        raise Invalid(f"failed to find build template with name: {name}, error is: {NO_DOCUMENTS}")
    known = {parameter["key"] for parameter in template.document["parameters"]}
    for target in document["target_services"]:
        _check_repositories(tx, project, target["repo_info"])
        for given in target["inputs"]:
            if given["key"] not in known:
                raise Invalid(f"build template {name} has no variable {given['key']}", place="target_services")


def _as_template_says(tx: Tx, document: dict[str, Any]) -> dict[str, Any]:
    """*document* of a build with the values of the template's credentials marked as such, so that they are sealed."""
    template = tx.resources.find("buildtemplate", "", document.get("template_name") or "")
    if template is None:
        return document
    secret = {parameter["key"] for parameter in template.document["parameters"] if parameter["is_credential"]}
    targets = [
        {**target, "inputs": [{**given, "is_credential": given["key"] in secret} for given in target["inputs"]]}
        for target in document["target_services"]
    ]
    return {**document, "target_services": targets}


def default_flags(tx: Tx, hand: Hand, kind: str, name: str, document: dict[str, Any]) -> dict[str, Any]:
    """One of the kind is the default: the first by itself, then the one that asks for it. Moves the flag."""
    others = [other for other in tx.resources.list_kind(kind) if other.name != name]
    holder = next((other for other in others if other.document.get("is_default")), None)
    if holder is None:
        return {**document, "is_default": True}
    if document["is_default"]:
        put_over(tx, hand, holder, {**hand.opened(holder.document), "is_default": False})
    return document


def store(
    tx: Tx, hand: Hand, kind: str, project: str, document: dict[str, Any], *, wanted: str = ""
) -> tuple[Resource, bool]:
    """Add or replace one resource of :data:`KINDS` from its parsed document; the flag says whether anything changed.

    *wanted*: ``new`` or ``old`` = it must not or must be there yet. Raises: AlreadyExists, NotFound, Invalid.
    """
    form = KINDS[kind]
    name = document[form.named]
    if form.in_project:
        need_project(tx, project)
    old = tx.resources.find(kind, project, name)
    if old is None and wanted == "old":
        raise NotFound(kind, name)
    if old is not None and wanted == "new":
        raise AlreadyExists(kind, name, project=project)
    check_references(tx, kind, project, document)
    if kind == "build":
        document = _as_template_says(tx, document)
    if form.one_default:
        document = default_flags(tx, hand, kind, name, document)
    if old is None:
        return put_new(tx, hand, kind, project, name, document), True
    if not put_over(tx, hand, old, document):
        return old, False
    stored = get(tx, kind, project, name)
    if kind == service_templates.KIND:
        service_templates.follow(tx, stored, lambda service, whole: put_over(tx, hand, service, whole))
    return stored, True


def with_kept_secrets(body: Doc, old: Resource) -> dict[str, Any]:
    """A body for replacing *old*: a secret that is not in it stays as it is."""
    return _with_kept_secrets(body, old.document)


def _with_kept_secrets(body: Doc, old: Doc) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in old.items():
        if key in SECRET_KEYS and value and key not in body:
            kept[key] = MASK
        elif isinstance(value, Mapping) and isinstance(body.get(key), Mapping):
            kept[key] = _with_kept_secrets(body[key], value)
    return {**body, **kept}


# -- operations


async def change(ctx: Context, actor: Actor, write: Callable[[Tx, Hand], R]) -> R:
    """One change of configuration: what *write* reads stays as it is until it is done, whatever others do."""

    def held(tx: Tx) -> R:
        tx.resources.hold()
        return write(tx, Hand(actor, ctx.sealer))

    return await ctx.db.write(held)


async def create(ctx: Context, actor: Actor, kind: str, project: str, body: Doc) -> Resource:
    """Raises: Invalid, AlreadyExists, NotFound: the project."""
    document = read_body(KINDS[kind].model, body).document()
    return await change(ctx, actor, lambda tx, hand: store(tx, hand, kind, project, document, wanted="new")[0])


async def replace_named(ctx: Context, actor: Actor, kind: str, project: str, body: Doc) -> Resource:
    """Replace the resource that *body* names. Raises: Invalid, NotFound."""
    document = read_body(KINDS[kind].model, body).document()
    return await change(ctx, actor, lambda tx, hand: store(tx, hand, kind, project, document, wanted="old")[0])


async def replace_by_id(ctx: Context, actor: Actor, kind: str, ident: str, body: Doc) -> Resource:
    """Replace a resource of the system, named or by id: what *body* leaves out of some kinds stays, secrets always do.

    Names do not change. Raises: Invalid, NotFound.
    """
    form = KINDS[kind]

    def write(tx: Tx, hand: Hand) -> Resource:
        old = by_id(tx, kind, ident)
        merged = with_kept_secrets(body, old)
        if form.partial:
            stored = {key: value for key, value in old.document.items() if key not in SECRET_KEYS}
            merged = {**stored, **merged}
        return _put_back(tx, hand, old, merged)

    return await change(ctx, actor, write)


async def change_by_id(ctx: Context, actor: Actor, kind: str, ident: str, body: Doc) -> Resource:
    """Change a resource of the system, named or by id: what *body* leaves out stays, in objects inside it, too.

    Names do not change. Raises: Invalid, NotFound.
    """

    def write(tx: Tx, hand: Hand) -> Resource:
        old = by_id(tx, kind, ident)
        return _put_back(tx, hand, old, _overlaid(mask_credentials(old.document), body))

    return await change(ctx, actor, write)


def _overlaid(old: Doc, new: Doc) -> dict[str, Any]:
    given = {key: value for key, value in new.items() if value is not None}
    inner = {
        key: _overlaid(old[key], value)
        for key, value in given.items()
        if isinstance(value, Mapping) and isinstance(old.get(key), Mapping)
    }
    return {**old, **given, **inner}


def _put_back(tx: Tx, hand: Hand, old: Resource, body: Doc) -> Resource:
    form = KINDS[old.kind]
    if body.get(form.named) not in (None, "", old.name):
        raise Invalid(f"{form.named} cannot be changed", place=form.named)
    document = read_body(form.model, {**body, form.named: old.name}).document()
    _keep_at_home(hand.actor, form, old, document)
    return store(tx, hand, old.kind, "", document, wanted="old")[0]


def _keep_at_home(actor: Actor, form: Kind, old: Resource, document: Doc) -> None:
    """Who may change an object and does not administer the system must not have its stored secret sent to an address of
    their own. Raises: Invalid: it would be."""
    moved = next((key for key in form.goes_to if document.get(key) != old.document.get(key)), "")
    kept = next((key for key in form.model.secrets if document.get(key) == MASK), "")
    if moved and kept and not actor.may(SYSTEM):
        raise Invalid(f"{moved} changes: the stored {kept} does not go there, send it again", place=kept)


async def check(ctx: Context, kind: str, project: str, body: Doc) -> None:
    """Whether *body* could be stored, references included; nothing is. Raises: Invalid."""
    document = read_body(KINDS[kind].model, body).document()
    refuse_sealed(document, ctx.sealer)
    await ctx.db.read(check_references, kind, project, document)


async def delete(ctx: Context, actor: Actor, kind: str, project: str, name: str) -> None:
    """Raises: NotFound; Conflict: still used."""
    await change(ctx, actor, lambda tx, hand: drop(tx, hand, get(tx, kind, project, name)))


async def delete_by_id(ctx: Context, actor: Actor, kind: str, ident: str) -> None:
    """Raises: NotFound; Conflict: still used."""
    await change(ctx, actor, lambda tx, hand: drop(tx, hand, by_id(tx, kind, ident)))


async def find(ctx: Context, kind: str, project: str, name: str) -> Resource:
    """Raises: NotFound."""
    return await ctx.db.read(get, kind, project, name)


async def find_by_id(ctx: Context, kind: str, ident: str) -> Resource:
    """Raises: NotFound."""
    return await ctx.db.read(by_id, kind, ident)


async def list_kind(ctx: Context, kind: str, project: str = "") -> list[Resource]:
    """By name."""

    def read(tx: Tx) -> list[Resource]:
        return tx.resources.list_kind(kind, project)

    return await ctx.db.read(read)


def by_id(tx: Tx, kind: str, ident: str) -> Resource:
    """By id or, of the system's, by name. Raises: NotFound."""
    found = tx.resources.by_id(kind, ident) or tx.resources.find(kind, "", ident)
    if found is None:
        raise NotFound(kind, ident)
    return found


def shown(resource: Resource) -> dict[str, Any]:
    """The document as it may be shown."""
    return dict(mask_credentials(resource.document))
