"""Documents against what is stored: read, write and remove one object of any kind, inside a transaction."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from pydantic import BaseModel

from cador.domain.errors import Invalid
from cador.operations import (
    environments,
    stored_secrets,
)
from cador.operations.actions import TICKET
from cador.operations.actor import SYSTEM, Actor
from cador.operations.declarative.documents import Document
from cador.operations.declarative.from_secret import Path, at, put
from cador.operations.declarative.names import GROUP, resolve
from cador.operations.desk import Desk, Doc, Keeper
from cador.operations.keepers import KEEPERS, PLAIN, owner_of, read_plain
from cador.operations.models import stored_secret
from cador.operations.models.body import Body, read_body
from cador.operations.resources import Hand
from cador.ports.stores import Resource, Tx


def actions_for(document: Document) -> tuple[str, ...]:
    """What the actor needs, all of it."""
    match document.kind:
        case "RoleBinding" | "Project" | "Secret" | "Role" | "WorkflowView" | "Collaboration" if document.project:
            return ("admin_project",)
        case "ApprovalTicket":
            return (TICKET,)
        case "Service" if document.production:
            return ("create_production_service", "edit_production_service")
        case "Environment":
            kind = environments.kind_of(document.production)
            return (f"create_{kind}", f"edit_{kind}")
        case _:
            word = document.form.kind
            return (SYSTEM,) if document.of_system else (f"create_{word}", f"edit_{word}")


def check_allowed(actor: Actor, document: Document, project_exists: Callable[[str], bool], *, remove: bool) -> None:
    """Raises: Forbidden."""
    project = "" if document.of_system else document.project
    if document.kind == "Project" and not project_exists(document.name):
        if not actor.may("create_project"):
            actor.need(SYSTEM)
        return
    for action in actions_for(document):
        actor.need(action, project)
        if remove and action.startswith("edit_"):
            actor.need(action.replace("edit_", "delete_", 1), project)


# -- what all kinds share


def document_of(record: Resource) -> Document:
    """The object that a record of what was applied is about; its spec says no more than which set it is of."""
    kind, _, name = record.name.partition("/")
    spec: dict[str, Any] = {}
    if name.startswith("production/"):
        spec, name = {"production": True}, name.removeprefix("production/")
    return Document(kind, name, record.project, spec)


def clear_body(tx: Tx, hand: Hand, document: Document) -> dict[str, Any] | None:
    """What is stored with its secrets in clear, for comparing; None: there is nothing, or hashes alone."""
    if document.kind == "Workflow":
        row = tx.workflows.find(document.name)
        return hand.opened(msgspec.json.decode(row.definition)) if row is not None else None
    found = tx.resources.find(document.form.kind, owner_of(document), document.name)
    return hand.opened(found.document) if found is not None else None


def live_body(tx: Tx, document: Document) -> dict[str, Any] | None:
    """What is stored, in the shape of the body, secrets masked; None when there is nothing."""
    return _keeper(document).read(tx, document)


def store(desk: Desk, document: Document, body: Doc) -> bool:
    """Write one object; False when it says what is stored already. Raises: any ``CadorError``."""
    return _keeper(document).write(desk, document, body)


def remove(desk: Desk, document: Document) -> bool:
    """Delete one object; False when it is not there. Raises: Conflict: still used."""
    if live_body(desk.tx, document) is None:
        return False
    _keeper(document).remove(desk, document)
    return True


def _keeper(document: Document) -> Keeper:
    return _SECRET if document.kind == "Secret" else KEEPERS.get(document.kind, PLAIN)


_UNKNOWN: Final = "{kind} {name!r} is not known"
_NAMING: Final = frozenset({"Build", "Workflow", "Group", "Collaboration"})


def resolved(desk: Desk, document: Document, body: Doc) -> dict[str, Any]:
    """*body* with ids for names. Raises: Invalid: a name leads nowhere."""
    if document.kind not in _NAMING:
        return dict(body)
    result, missing = resolve(document.kind, body, desk.names(document))
    faults = []
    for kind, name in dict.fromkeys(missing):
        text = _UNKNOWN.format(kind=kind, name=name)
        if kind == GROUP:
            desk.warnings.append(f"{document.kind}/{document.name}: {text}: nobody is asked in its place")
        elif document.kind != "Build" or kind == "service":
            # what a build refers to is checked when it is stored, with the texts of its route
            faults.append(text)
    if faults:
        raise Invalid("; ".join(faults))
    return result


def without_defaults(model: type[Body], body: Doc, *, deep: bool = True) -> dict[str, Any]:
    """*body* without what its model fills in by itself."""
    defaults = {
        name: _plain(field.get_default(call_default_factory=True))
        for name, field in model.model_fields.items()
        if not field.is_required()
    }
    return _strip(body, defaults, deep=deep)


def _strip(body: Doc, defaults: Doc, *, deep: bool) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in body.items():
        default = defaults.get(key, ...)
        if value == default:
            continue
        if deep and isinstance(value, Mapping) and isinstance(default, Mapping):
            result[key] = _strip(value, default, deep=True)
        else:
            result[key] = value
    return result


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else value


# -- secrets that documents name: new values reach what was applied with the old ones


def _read_secret(tx: Tx, document: Document) -> dict[str, Any] | None:
    body = read_plain(tx, document)
    return stored_secret.body_of(body) if body is not None else None


def _write_secret(desk: Desk, document: Document, body: Doc) -> bool:
    parsed = read_body(stored_secret.SecretBody, body)
    return stored_secrets.store(desk.tx, desk.hand, document.project, parsed, partial(refill, desk))


def _remove_secret(desk: Desk, document: Document) -> None:
    stored_secrets.drop(desk.tx, desk.hand, document.project, document.name)


def refill(desk: Desk, holder: Resource, changes: Sequence[tuple[Path, str, str]]) -> None:
    """Put new values of a secret into an applied object, where the old ones still stand. Raises: CadorError."""
    document = document_of(holder)
    body: Any = live_body(desk.tx, document)
    clear = clear_body(desk.tx, desk.hand, document)
    due = [(path, new) for path, old, new in changes if clear is not None and at(clear, path) == old]
    for path, new in due:
        body = put(body, path, new)
    if due:
        store(desk, document, body)


_SECRET: Final = Keeper(_read_secret, _write_secret, _remove_secret)
