"""Apply, delete and export declarative documents. One transaction for all of them: everything, or nothing.

Of each object the shape of what was last applied is kept (kind ``applied``), so that keys which disappear from the file
disappear here, and keys somebody else has set stay.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cador.domain.errors import CadorError, Invalid, NotFound, Unavailable
from cador.domain.masking import MASK
from cador.domain.secrets import mask_credentials, masked_places
from cador.engine.hearing import Claim, Ear, Outcome
from cador.operations.actor import Actor
from cador.operations.catalog_names import known_names
from cador.operations.context import Context
from cador.operations.declarative.documents import FORMS, Document, body_of
from cador.operations.declarative.merging import merge, shape_of
from cador.operations.declarative.names import named
from cador.operations.declarative.pipeline import Prepared, Source, dump_all, prepare
from cador.operations.declarative.substitution import escape
from cador.operations.live import Desk, check_allowed, live_body, remove, resolved, store, without_defaults
from cador.operations.resources import Hand, need_project
from cador.operations.roles import bindings_of
from cador.operations.sessions import Sessions
from cador.ports.stores import Resource, Tx, User

APPLIED: Final = "applied"
DEFAULT_SET: Final = "default"
NOT_APPLIED: Final = "not applied: another object of this apply is wrong"


@dataclass(frozen=True, slots=True)
class Result:
    """``action``: ``created``, ``updated``, ``unchanged``, ``deleted`` or ``error``. ``diff``: unified, masked."""

    kind: str
    name: str
    project: str
    action: str
    error: str = ""
    diff: str = ""


@dataclass(frozen=True, slots=True)
class Applied:
    results: tuple[Result, ...]
    warnings: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        return any(result.action == "error" for result in self.results)


@dataclass(frozen=True, slots=True)
class Order:
    """``set_name``: which set of files this is; ``prune`` deletes what an earlier apply of that set created and what is
    missing now. ``delete``: remove the documents instead."""

    dry_run: bool = False
    prune: bool = False
    delete: bool = False
    set_name: str = DEFAULT_SET
    with_diff: bool = False


class _TakeBack(Exception):
    """Ends a transaction that must leave nothing behind."""

    def __init__(self, done: Applied) -> None:
        super().__init__("taken back")
        self.done = done


def read_text(text: str) -> Prepared:
    """Documents of a request's body: no environment, no files. A secret that is one ``${NAME}`` stays what is stored.

    Raises: Invalid: every fault, a line each.
    """
    prepared = prepare([Source("", text)], unset_secret=MASK)
    if prepared.faults:
        raise Invalid("\n".join(dict.fromkeys(str(fault) for fault in prepared.faults)))
    return prepared


async def apply(
    ctx: Context, actor: Actor, prepared: Prepared, order: Order = Order(), *, sessions: Sessions | None = None
) -> Applied:
    """Make the server say what the documents say. Nothing is written when an object is wrong, or on a dry run.

    Raises: Forbidden: for one of the documents; Unavailable.
    """
    await ctx.db.read(_check_all, actor, prepared.documents, order)
    hashes = {} if order.delete else await _new_passwords(ctx, prepared.documents, sessions)
    try:
        done = await ctx.engine.transact(_apply, ctx, actor, prepared.documents, order, hashes, ctx.clock.now())
    except _TakeBack as taken:
        done = taken.done
    return Applied(done.results, (*prepared.warnings, *done.warnings, *_late(done.results)))


def _late(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        if result.kind == "Setting" and result.action in ("created", "updated", "deleted"):
            yield f"Setting/{result.name}: takes effect when the server starts again"


def _check_all(tx: Tx, actor: Actor, documents: Sequence[Document], order: Order) -> None:
    def exists(project: str) -> bool:
        return tx.resources.find("project", "", project) is not None

    for document in documents:
        check_allowed(actor, document, exists, remove=order.delete or order.prune)


async def _new_passwords(ctx: Context, documents: Sequence[Document], sessions: Sessions | None) -> dict[str, str]:
    """Hashes of the passwords that differ from the stored ones, by account."""
    hashes: dict[str, str] = {}
    for document in documents:
        password = document.spec.get("password")
        if document.kind != "User" or not password or password == MASK:
            continue
        sessions = sessions or Sessions(ctx)
        user = await ctx.db.read(_by_account, document.name)
        if user is not None and user.password_hash and await sessions.verify(user.password_hash, str(password)):
            continue
        hashes[document.name] = await sessions.hash_password(str(password))
    return hashes


def _by_account(tx: Tx, account: str) -> User | None:
    return tx.people.by_account(account)


def _apply(
    tx: Tx,
    claim: Claim,
    ctx: Context,
    actor: Actor,
    documents: Sequence[Document],
    order: Order,
    hashes: Mapping[str, str],
    at: float,
) -> Outcome[Applied]:
    ear = Ear(tx, claim)
    if order.delete or order.prune or any(document.kind == "Workflow" for document in documents):
        tx.admission.lock()
    desk = Desk(tx, Hand(actor, ctx.sealer), ctx.types, ear, at, hashes)
    if order.delete:
        results = [_guarded(document, _delete_one, desk, document, order) for document in reversed(documents)]
    else:
        results = [_guarded(document, _apply_one, desk, document, order) for document in documents]
        if order.prune:
            results += _prune(desk, documents, order)
    done = Applied(tuple(results), tuple(dict.fromkeys(desk.warnings)))
    if done.failed:
        raise _TakeBack(replace(done, results=tuple(map(_not_applied, results))))
    if order.dry_run:
        raise _TakeBack(done)
    return ear.outcome(done)


def _not_applied(result: Result) -> Result:
    return result if result.action == "error" else replace(result, action="error", error=NOT_APPLIED, diff="")


def _guarded(document: Document, step: Any, *args: Any) -> Result:
    try:
        result: Result = step(*args)
        return result
    except Unavailable:
        raise
    except CadorError as error:
        where = f"{document.mark}: " if document.mark.line else ""
        place = getattr(error, "place", "")
        text = f"{where}{place}: {error}" if place and place not in str(error) else f"{where}{error}"
        return Result(document.kind, document.name, document.project, "error", text)


def _apply_one(desk: Desk, document: Document, order: Order) -> Result:
    given = resolved(desk, document, body_of(document))
    there = live_body(desk.tx, document)
    record = _record(desk.tx, document)
    if there is None:
        body = given
    else:
        model = document.form.model
        bare = there if model is None else without_defaults(model, there)
        body = merge(bare, record.document["shape"] if record is not None else {}, given)
    changed = store(desk, document, body)
    action = "created" if there is None else "updated" if changed else "unchanged"
    if there is None and not changed:
        action = "unchanged"  # a member without roles
    created = action == "created" or (record is not None and record.document["created"] is True)
    _remember(desk, document, record, {"shape": shape_of(given), "set": order.set_name, "created": created})
    diff = ""
    if order.with_diff and action != "unchanged":
        diff = _diff(document, there or {}, live_body(desk.tx, document) or {})
    return Result(document.kind, document.name, document.project, action, diff=diff)


def _delete_one(desk: Desk, document: Document, order: Order) -> Result:
    before = live_body(desk.tx, document) or {}
    action = "deleted" if remove(desk, document) else "unchanged"
    record = _record(desk.tx, document)
    if record is not None:
        desk.tx.resources.delete(APPLIED, record.project, record.name)
    diff = _diff(document, before, {}) if order.with_diff and before else ""
    return Result(document.kind, document.name, document.project, action, diff=diff)


def _prune(desk: Desk, documents: Sequence[Document], order: Order) -> list[Result]:
    """Objects that this set created once and no longer holds, the dependent ones first."""
    present = {_record_name(document): document.project for document in documents}
    scopes = {document.project if document.form.project or document.kind == "Project" else "" for document in documents}
    gone: list[Document] = []
    for scope in sorted(scopes):
        for record in desk.tx.resources.list_kind(APPLIED, scope):
            if record.document["set"] != order.set_name or record.document["created"] is not True:
                continue
            if present.get(record.name, ...) == record.project:
                continue
            gone.append(_document_of(record))
    kinds = list(FORMS)
    gone.sort(key=lambda document: kinds.index(document.kind), reverse=True)
    return [_guarded(document, _prune_one, desk, document, order) for document in gone]


def _prune_one(desk: Desk, document: Document, order: Order) -> Result:
    """Raises: Forbidden: what is gone from the files may be of another kind than what was checked before."""
    check_allowed(desk.hand.actor, document, lambda project: True, remove=True)
    return _delete_one(desk, document, order)


def _record_name(document: Document) -> str:
    kind, _, name = document.identity
    return f"{kind}/{name}"


def _document_of(record: Resource) -> Document:
    kind, _, name = record.name.partition("/")
    spec: dict[str, Any] = {}
    if name.startswith("production/"):
        spec, name = {"production": True}, name.removeprefix("production/")
    return Document(kind, name, record.project, spec)


def _record(tx: Tx, document: Document) -> Resource | None:
    return tx.resources.find(APPLIED, document.project, _record_name(document))


def _remember(desk: Desk, document: Document, record: Resource | None, content: dict[str, Any]) -> None:
    tx = desk.tx
    if record is None:
        tx.resources.add(
            Resource(
                kind=APPLIED,
                project=document.project,
                name=_record_name(document),
                document=content,
                created_by=desk.hand.actor.name,
                create_at=tx.now,
                updated_by=desk.hand.actor.name,
                update_at=tx.now,
            )
        )
    elif record.document != content:
        tx.resources.replace(replace(record, document=content, updated_by=desk.hand.actor.name, update_at=tx.now))


def _diff(document: Document, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Unified text; secrets are ``********`` on both sides, so a new one shows as no line."""
    name = f"{document.kind}/{document.name}"
    old, new = (
        dump_all([mask_credentials(body)]).splitlines(keepends=True) if body else [] for body in (before, after)
    )
    text = "".join(difflib.unified_diff(old, new, f"{name} (server)" if before else "/dev/null", name))
    return text or f"--- {name}\n+++ {name}\n (a secret differs)\n"


# -- export


@dataclass(slots=True)
class _References:
    """Names for ``${NAME}``; each secret of an export has its own."""

    taken: set[str] = field(default_factory=set)

    def name(self, *parts: str) -> str:
        base = re.sub(r"[^A-Z0-9]+", "_", "_".join(parts).upper()).strip("_") or "SECRET"
        base = f"_{base}" if base[0].isdigit() else base
        name, number = base, 2
        while name in self.taken:
            name, number = f"{base}_{number}", number + 1
        self.taken.add(name)
        return name


async def export(ctx: Context, actor: Actor, project: str) -> str:
    """YAML in the long form of everything of *project*, or of the system when it is empty. Secrets are ``${NAME}``.

    Applied to the same server nothing changes. Raises: Forbidden, NotFound.
    """
    if project:
        for word in ("get_project", "get_workflow", "get_build", "get_test", "get_service"):
            actor.need(word, project)
    else:
        actor.need("admin_system")
    documents = await ctx.db.read(_export, project)
    references = _References()
    return dump_all([_shown(document, references) for document in documents])


def _export(tx: Tx, project: str) -> list[Document]:
    documents = list(_stubs(tx, project))
    names = known_names(tx, project)
    full = []
    for document in documents:
        body = live_body(tx, document)
        if body is None:
            raise NotFound(document.kind, document.name)
        form = document.form
        for key in (form.named, form.project):
            body.pop(key, None)
        body.pop("project_key", None)
        body = named(document.kind, body, names)
        if form.model is not None:
            body = without_defaults(form.model, body, deep=False)
        full.append(replace(document, spec={**document.spec, **body}))
    return full


def _stubs(tx: Tx, project: str) -> Iterator[Document]:
    if not project:
        for kind in ("Setting", "BaseImage", "CodeHost", "Registry", "Group"):
            for found in tx.resources.list_kind(FORMS[kind].kind, ""):
                yield Document(kind, found.name, "", {})
        return
    need_project(tx, project)
    yield Document("Project", project, project, {})
    for binding in bindings_of(tx, project):
        if binding.user is not None:
            yield Document("RoleBinding", binding.user.account, project, {})
    for service in tx.resources.list_kind("service", project):
        yield Document("Service", service.name, project, {})
    for service in tx.resources.list_kind("production_service", project):
        yield Document("Service", service.name, project, {"production": True})
    for kind in ("Build", "Test"):
        for found in tx.resources.list_kind(FORMS[kind].kind, project):
            yield Document(kind, found.name, project, {})
    for row in sorted(tx.workflows.list_workflows(project), key=lambda row: row.key):
        yield Document("Workflow", row.key, project, {})


def _shown(document: Document, references: _References) -> dict[str, Any]:
    wire = document.wire()
    if document.kind == "Project":
        del wire["metadata"]["project"]
    hidden = set(masked_places(document.spec))
    escaped = escape(wire)  # references to secrets are put in after it
    escaped["spec"] = _referenced(escaped["spec"], hidden, "", document.name, references)
    return dict(escaped)


def _referenced(value: Any, hidden: set[str], place: str, label: str, references: _References) -> Any:
    if isinstance(value, Mapping):
        own = value.get("key") or value.get("name")
        inner = f"{label}_{own}" if isinstance(own, str) and place else label
        result = {}
        for key, child in value.items():
            here = f"{place}.{key}" if place else key
            if here in hidden and child == MASK:
                word = (key,) if inner == label else ()
                result[key] = "${" + references.name(inner, *word) + "}"
            else:
                result[key] = _referenced(child, hidden, here, inner, references)
        return result
    if isinstance(value, list):
        return [_referenced(child, hidden, f"{place}[{n}]", label, references) for n, child in enumerate(value)]
    return value


__all__ = ["Applied", "Order", "Result", "apply", "export", "read_text"]
