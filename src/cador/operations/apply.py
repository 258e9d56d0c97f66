"""Apply and delete declarative documents. One transaction for all of them: everything, or nothing.

Of each object is kept (kind ``applied``): the shape of what was last applied, so that keys which disappear from the
file disappear here and keys somebody else has set stay; its labels; which set of files made it; which values came out
of secrets of the server.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cador.domain.errors import CadorError, Conflict, Invalid, Unavailable
from cador.domain.masking import MASK
from cador.domain.secrets import mask_credentials
from cador.engine.hearing import Claim, Ear, Outcome
from cador.engine.housekeeping import Burial
from cador.operations import stored_secrets
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.declarative.documents import Document, body_of, record_name
from cador.operations.declarative.from_secret import FromSecret, at
from cador.operations.declarative.merging import merge, shape_of
from cador.operations.declarative.pipeline import Prepared, Source, dump_all, prepare
from cador.operations.desk import Desk
from cador.operations.live import (
    check_allowed,
    clear_body,
    document_of,
    live_body,
    remove,
    resolved,
    store,
    without_defaults,
)
from cador.operations.models.system import SETTINGS
from cador.operations.resources import Doc, Hand
from cador.operations.sessions import Sessions
from cador.operations.stored_secrets import APPLIED
from cador.operations.workflows import finish_removal
from cador.ports.stores import Resource, Tx, User

DEFAULT_SET: Final = "default"
SHOWN_FAULTS: Final = 200
NOT_APPLIED: Final = "not applied: another object of this apply is wrong"


@dataclass(frozen=True, slots=True)
class Result:
    """``action``: ``created``, ``updated``, ``unchanged``, ``deleted``, ``kept`` (it was to be pruned, and is used;
    ``error`` says by whom) or ``error``. ``diff``: unified, masked."""

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

    Raises: Invalid: the faults, a line each.
    """
    prepared = prepare([Source("", text)], unset_secret=MASK)
    if prepared.faults:
        lines = list(dict.fromkeys(str(fault) for fault in prepared.faults))
        more = [f"and {len(lines) - SHOWN_FAULTS} more"] if len(lines) > SHOWN_FAULTS else []
        raise Invalid("\n".join([*lines[:SHOWN_FAULTS], *more]))
    return prepared


async def apply(
    ctx: Context, actor: Actor, prepared: Prepared, order: Order = Order(), *, sessions: Sessions | None = None
) -> Applied:
    """Make the server say what the documents say. Nothing is written when an object is wrong, or on a dry run.

    Raises: Forbidden: for one of the documents; Unavailable.
    """
    await ctx.db.read(_check_all, actor, prepared.documents, order)
    hashes = {} if order.delete else await _new_passwords(ctx, Hand(actor, ctx.sealer), prepared.documents, sessions)
    try:
        done, burials = await ctx.engine.transact(
            _apply, ctx, actor, prepared.documents, order, hashes, ctx.clock.now()
        )
    except _TakeBack as taken:
        done, burials = taken.done, ()
    for burial in burials:
        await finish_removal(ctx, burial)
    return Applied(done.results, (*prepared.warnings, *done.warnings, *_late(done.results)))


def _late(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        changed = result.action in ("created", "updated", "deleted")
        if result.kind == "Setting" and changed and result.name in SETTINGS:
            yield f"Setting/{result.name}: takes effect when the server starts again"


def _check_all(tx: Tx, actor: Actor, documents: Sequence[Document], order: Order) -> None:
    def exists(project: str) -> bool:
        return tx.resources.find("project", "", project) is not None

    for document in documents:
        check_allowed(actor, document, exists, remove=order.delete or order.prune)


async def _new_passwords(
    ctx: Context, hand: Hand, documents: Sequence[Document], sessions: Sessions | None
) -> dict[str, str]:
    """Hashes of the passwords that differ from the stored ones, by account."""
    hashes: dict[str, str] = {}
    given = {
        (document.name, key): value
        for document in documents
        if document.kind == "Secret" and not document.project
        for key, value in body_of(document).get("data", {}).items()
        if value != MASK
    }
    for document in documents:
        password = document.spec.get("password")
        if document.kind != "User" or not password or password == MASK:
            continue
        if isinstance(password, FromSecret):
            password = (
                given.get((password.secret, password.key))
                or (await ctx.db.read(stored_secrets.value_of, hand, "", password))[0]
            )
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
) -> Outcome[tuple[Applied, Sequence[Burial]]]:
    ear = Ear(tx, claim)
    if order.delete or order.prune or any(document.kind in ("Workflow", "Setting") for document in documents):
        tx.admission.lock()  # before all other locks, see docs/architecture.md
    tx.resources.hold()  # two who apply go one after the other: each sees all that the other wrote
    _check_all(tx, actor, documents, order)  # again: a project that was still to be made may be somebody's by now
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
    return ear.outcome((done, desk.burials))


def _not_applied(result: Result) -> Result:
    return result if result.action == "error" else replace(result, action="error", error=NOT_APPLIED, diff="")


def _guarded(document: Document, step: Any, *args: Any) -> Result:
    try:
        result: Result = step(*args)
        return result
    except Unavailable:
        raise
    except CadorError as error:
        where = f"{document.mark}: " if str(document.mark) else ""
        place = getattr(error, "place", "")
        text = f"{where}{place}: {error}" if place and place not in str(error) else f"{where}{error}"
        return Result(document.kind, document.name, document.project, "error", text)


def _apply_one(desk: Desk, document: Document, order: Order) -> Result:
    given = resolved(desk, document, body_of(document))
    given, uses = stored_secrets.filled(desk.tx, desk.hand, document.project, given)
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
    content = {"shape": shape_of(given), "set": order.set_name, "created": created}
    if document.labels:
        content["labels"] = dict(document.labels)
    if uses:
        content["refs"] = _followed(desk, document, given, uses)
    _remember(desk, document, record, content)
    diff = ""
    if order.with_diff and action != "unchanged":
        diff = _diff(document, there or {}, live_body(desk.tx, document) or {})
    return Result(document.kind, document.name, document.project, action, diff=diff)


def _followed(desk: Desk, document: Document, given: Doc, uses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """*uses*, after telling of those whose value is not found again where it was put: the secret's next value reaches
    them when the document is applied again."""
    clear = clear_body(desk.tx, desk.hand, document)
    for use in uses:
        path = tuple(use["path"])
        if clear is None or at(clear, path) != at(given, path):
            text = f"{document.kind}/{document.name}: {stored_secrets.shown_path(path)} changes with the secret"
            desk.warnings.append(f"{text} only when this is applied again")
    return uses


def _delete_one(desk: Desk, document: Document, order: Order) -> Result:
    before = live_body(desk.tx, document) or {}
    record = _record(desk.tx, document)
    if record is not None:
        desk.tx.resources.delete(APPLIED, record.project, record.name)
    action = "deleted" if remove(desk, document) else "unchanged"
    diff = _diff(document, before, {}) if order.with_diff and before else ""
    return Result(document.kind, document.name, document.project, action, diff=diff)


# -- pruning


def _prune(desk: Desk, documents: Sequence[Document], order: Order) -> list[Result]:
    """Objects that this set created once and no longer holds, the dependent ones first. What is still used by others
    stays, and is told.

    A set with a name is looked for everywhere; the one without only where *documents* are, since many files may share
    it.
    """
    present = {(document.project, record_name(document)) for document in documents}
    scopes: list[str | None] = [None]
    if order.set_name == DEFAULT_SET:
        scopes = [*sorted({document.project for document in documents})]
    gone: list[Document] = []
    for scope in scopes:
        for record in desk.tx.resources.list_kind(APPLIED, scope):
            ours = record.document["set"] == order.set_name and record.document["created"] is True
            if ours and (record.project, record.name) not in present:
                gone.append(document_of(record))
    gone.sort(key=lambda document: document.turn, reverse=True)
    return [_guarded(document, _prune_one, desk, document, order) for document in gone]


def _prune_one(desk: Desk, document: Document, order: Order) -> Result:
    """Raises: Forbidden: what is gone from the files may be of another kind than what was checked before."""
    check_allowed(desk.hand.actor, document, lambda project: True, remove=True)
    record = _record(desk.tx, document)
    reason = _left_in(desk, document) if document.kind == "Project" else ""
    if not reason:
        try:
            return _delete_one(desk, document, order)
        except Conflict as error:
            reason = str(error)
            if record is not None:
                desk.tx.resources.add(record)  # it is still of this set
    return Result(document.kind, document.name, document.project, "kept", reason)


def _left_in(desk: Desk, project: Document) -> str:
    """What a project holds that is not of this set; its deletion would take that with it."""
    workflows = desk.tx.workflows.list_workflows(project.name)
    found = [f"workflow {row.key}" for row in workflows]
    found += [
        f"{one.kind} {one.name}"
        for one in desk.tx.resources.of_project(project.name)
        if one.project == project.name and one.kind != APPLIED
    ]
    found += [f"ticket {one.approval_id}" for one in desk.tx.tickets.list_tickets(project.name, 1)]
    return f"project {project.name} still holds {found[0]}" if found else ""


# -- the record of what was applied


def _record(tx: Tx, document: Document) -> Resource | None:
    return tx.resources.find(APPLIED, document.project, record_name(document))


def _remember(desk: Desk, document: Document, record: Resource | None, content: dict[str, Any]) -> None:
    tx = desk.tx
    if record is None:
        tx.resources.add(
            Resource(
                kind=APPLIED,
                project=document.project,
                name=record_name(document),
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
