"""Secrets of the server that declarative files name: ``valueFrom: {secret: <name>, key: <key>}``.

Applying a document puts the value where the reference stands; what was put where is kept with what was applied. A
secret that changes is put in again everywhere, in the same transaction, except where somebody has set another value
since.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cador.domain.errors import CadorError, Conflict, Invalid, NotFound
from cador.domain.masking import MASK
from cador.domain.secrets import mask_credentials
from cador.operations.declarative.from_secret import FromSecret, Path, at, put, references
from cador.operations.models.stored_secret import SecretBody, body_of
from cador.operations.resources import Hand, get, need_project, put_new, put_over
from cador.ports.stores import Resource, Tx

KIND: Final = "secret"
APPLIED: Final = "applied"
"""Kind of the records of what was applied."""
ALL_PROJECTS: Final = "<all_projects>"


@dataclass(frozen=True, slots=True)
class Use:
    """One reference of an object that was applied. ``holder``: the record of that. ``owner``: project of the secret,
    empty: of the system."""

    holder: Resource
    path: Path
    owner: str
    secret: str
    key: str


def value_of(tx: Tx, hand: Hand, project: str, reference: FromSecret) -> tuple[str, str]:
    """The value, in clear, and the project of the secret. Raises: Invalid: no such secret or key for this project."""
    found = tx.resources.find(KIND, project, reference.secret)
    if found is None and project:
        found = tx.resources.find(KIND, "", reference.secret)
        if found is not None and not {project, ALL_PROJECTS} & set(found.document["projects"]):
            found = None
    if found is None:
        raise Invalid(f"secret {reference.secret!r} is not known here")
    value = body_of(hand.opened(found.document))["data"].get(reference.key)
    if value is None:
        raise Invalid(f"secret {reference.secret!r} has no key {reference.key!r}")
    return str(value), found.project


def filled(tx: Tx, hand: Hand, project: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """*body* with the values of its references, and what to remember of them.

    Raises: Invalid: an unknown secret; a reference where values are not hidden.
    """
    result: Any = dict(body)
    uses: list[dict[str, Any]] = []
    for path, reference in references(body):
        value, owner = value_of(tx, hand, project, reference)
        result = put(result, path, value)
        uses.append({"path": list(path), "owner": owner, "secret": reference.secret, "key": reference.key})
    if uses:
        masked = mask_credentials(result)
        for use in uses:
            if at(masked, tuple(use["path"])) != MASK:
                place = shown_path(use["path"])
                raise Invalid(f"{place} is shown to readers: a secret cannot stand there", place=place)
    return result, uses


def shown_path(path: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def uses_of(tx: Tx, owner: str, secret: str) -> Iterator[Use]:
    """Everything applied that names the secret."""
    for record in tx.resources.list_kind(APPLIED, owner or None):
        for use in uses_in(record):
            if (use.owner, use.secret) == (owner, secret):
                yield use


def uses_in(record: Resource) -> list[Use]:
    return [
        Use(record, tuple(use["path"]), use["owner"], use["secret"], use["key"])
        for use in record.document.get("refs", ())
    ]


Refill = Callable[[Resource, Sequence[tuple[Path, str, str]]], None]
"""``(holder, changes)``: put new values in an object, where at each path the old one stands: ``(path, old, new)``."""


def store(tx: Tx, hand: Hand, project: str, body: SecretBody, refill: Refill) -> bool:
    """Add or replace a secret; False when it says what is stored. Raises: Invalid, NotFound: the project."""
    if project:
        need_project(tx, project)
        if body.projects:
            raise Invalid("projects is for secrets of the system", place="projects")
    old = tx.resources.find(KIND, project, body.name)
    if old is None:
        put_new(tx, hand, KIND, project, body.name, body.document())
        return True
    before = body_of(hand.opened(old.document))["data"]
    if not put_over(tx, hand, old, body.document()):
        return False
    after = body_of(hand.opened(get(tx, KIND, project, body.name).document))["data"]
    changed: dict[str, tuple[Resource, list[tuple[Path, str, str]]]] = {}
    for use in uses_of(tx, project, body.name):
        if use.key not in after:
            raise Conflict(f"key {use.key} of secret {body.name} is used by {_holder(use.holder)}")
        if before[use.key] != after[use.key]:
            mark = json.dumps([use.holder.project, use.holder.name])
            changed.setdefault(mark, (use.holder, []))[1].append((use.path, before[use.key], after[use.key]))
    for holder, places in changed.values():
        try:
            refill(holder, places)
        except CadorError as error:
            raise Conflict(f"secret {body.name} is used by {_holder(holder)}, which refuses it: {error}") from error
    return True


def drop(tx: Tx, hand: Hand, project: str, name: str) -> None:
    """Raises: NotFound; Conflict: something applied names it."""
    found = tx.resources.find(KIND, project, name)
    if found is None:
        raise NotFound(KIND, name)
    if (use := next(uses_of(tx, project, name), None)) is not None:
        raise Conflict(f"secret {name} is used by {_holder(use.holder)}")
    tx.resources.delete(KIND, project, name)
    hand.audit(tx, f"delete_{KIND}", project, f"{KIND}/{name}")


def _holder(record: Resource) -> str:
    return record.name + (f" of project {record.project}" if record.project else "")
