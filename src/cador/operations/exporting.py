"""Everything of a project, or of the system, as declarative documents. Applied to the same server nothing changes."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cador.domain.errors import NotFound
from cador.domain.masking import MASK
from cador.domain.secrets import masked_places
from cador.operations import stored_secrets
from cador.operations.actions import ADMIN_PROJECT, TICKET
from cador.operations.actor import EVERYWHERE, SYSTEM, Actor
from cador.operations.catalog_names import known_names
from cador.operations.context import Context
from cador.operations.declarative.documents import FORMS, Document, record_name
from cador.operations.declarative.from_secret import FromSecret, at, put
from cador.operations.declarative.names import GROUP_PREFIX, named
from cador.operations.declarative.pipeline import comments, dump_all
from cador.operations.declarative.substitution import escape
from cador.operations.live import clear_body, live_body, without_defaults
from cador.operations.people import all_users
from cador.operations.resources import Hand, need_project
from cador.operations.roles import bindings_of
from cador.operations.stored_secrets import APPLIED
from cador.operations.system_settings import set_here
from cador.ports.stores import Resource, Tx

MOST_TICKETS: Final = 10_000
"""The newest so many are exported."""
PROJECT_READ = ("get_project", "get_workflow", "get_build", "get_test", "get_service")
_READ_APART: Final[Mapping[str, str]] = {
    "ApprovalTicket": TICKET,
    "Collaboration": ADMIN_PROJECT,
    "Environment": "get_environment",
    "Environment/production": "get_production_environment",
    "RoleBinding": ADMIN_PROJECT,
    "Scan": "get_scan",
    "Secret": ADMIN_PROJECT,
    "Service/production": "get_production_service",
}
"""Kinds of a project that are left out for who may not look at them by their own routes either."""


@dataclass(slots=True)
class _References:
    """Names for ``${NAME}``; each secret of an export has its own. ``places``: what each is."""

    places: dict[str, str] = field(default_factory=dict)

    def name(self, place: str, *parts: str) -> str:
        base = re.sub(r"[^A-Z0-9]+", "_", "_".join(parts).upper()).strip("_") or "SECRET"
        base = f"_{base}" if base[0].isdigit() else base
        name, number = base, 2
        while name in self.places:
            name, number = f"{base}_{number}", number + 1
        self.places[name] = place
        return name


async def export(ctx: Context, actor: Actor, project: str, *, with_ids: bool = False) -> str:
    """YAML in the long form of everything of *project*, or of the system when it is empty. Secrets are ``${NAME}``, and
    listed at the top. *with_ids*: ids as comments. What *actor* may not look at (who has which role, environments ...)
    is left out, and so are tickets that were used: one that has let a task in would let in another one elsewhere.

    Raises: Forbidden, NotFound.
    """
    if project:
        for word in PROJECT_READ:
            actor.need(word, project)
    else:
        actor.need(SYSTEM)
    found = await ctx.db.read(_export, Hand(actor, ctx.sealer), project)
    references = _References()
    pieces = [(comments([f"id: {ident}"] * bool(with_ids and ident)), _shown(one, references)) for one, ident in found]
    body = "---\n".join(head + dump_all([shown]) for head, shown in pieces)
    return _needed(references) + body


def _needed(references: _References) -> str:
    if not references.places:
        return ""
    head = "Secrets are not exported. Set these, or apply with --keep-secrets: then what the server has stays."
    return comments([head, *(f"  {name}: {place}" for name, place in references.places.items())])


def _export(tx: Tx, hand: Hand, project: str) -> list[tuple[Document, str]]:
    names = known_names(tx, project)
    records = {record.name: record for record in tx.resources.list_kind(APPLIED, project)}
    full = []
    for document, ident in _stubs(tx, project):
        kind = document.identity[0]
        if project and kind in _READ_APART and not hand.actor.may(_READ_APART[kind], project):
            continue
        body = live_body(tx, document)
        if body is None:
            raise NotFound(document.kind, document.name)
        form = document.form
        record = records.get(record_name(document))
        if record is not None:
            body = _with_references(tx, hand, document, body, record)
        for key in (form.named, form.project):
            body.pop(key, None)
        if "project_key" not in (form.model.model_fields if form.model is not None else {}):
            body.pop("project_key", None)
        body = named(document.kind, body, names)
        if form.model is not None:
            body = without_defaults(form.model, body, deep=False)
        labels = record.document.get("labels", {}) if record is not None else {}
        full.append((replace(document, spec={**document.spec, **body}, labels=labels), ident))
    return full


def _with_references(tx: Tx, hand: Hand, document: Document, body: dict[str, Any], record: Resource) -> dict[str, Any]:
    """*body* with ``valueFrom`` where the stored value is still that of the secret."""
    uses = stored_secrets.uses_in(record)
    clear = clear_body(tx, hand, document) if uses else None
    for use in uses:
        secret = tx.resources.find(stored_secrets.KIND, use.owner, use.secret)
        if clear is None or secret is None or at(body, use.path) is None:
            continue
        values = {entry["key"]: entry["value"] for entry in hand.opened(secret.document)["entries"]}
        if at(clear, use.path) == values.get(use.key):
            body = put(body, use.path, FromSecret(use.secret, use.key))
    return body


def _stubs(tx: Tx, project: str) -> Iterator[tuple[Document, str]]:
    """What is there, in the order of applying, each with its id."""
    if project:
        yield Document("Project", project, project, {}), need_project(tx, project).uid
    for kind, form in FORMS.items():
        if kind == "Project" or (bool(project) is form.of_system and not form.anywhere):
            continue
        match kind:
            case "Setting":
                names = {one.name: one.uid for one in _rows(tx, form.kind, "")} | dict.fromkeys(set_here(tx), "")
                yield from ((Document(kind, name, "", {}), uid) for name, uid in names.items())
            case "User":
                yield from ((Document(kind, user.account, "", {}), user.uid) for user in all_users(tx))
            case "RoleBinding":
                for binding in bindings_of(tx, project or EVERYWHERE):
                    group = GROUP_PREFIX + binding.group.name if binding.group is not None else ""
                    yield Document(kind, binding.user.account if binding.user is not None else group, project, {}), ""
            case "Workflow":
                for row in sorted(tx.workflows.list_workflows(project), key=lambda row: row.key):
                    yield Document(kind, row.key, project, {}), ""
            case "ApprovalTicket":
                for ticket in reversed(tx.tickets.list_tickets(project, MOST_TICKETS, unused=True)):
                    yield Document(kind, ticket.approval_id, project, {}), ticket.uid
            case _:
                yield from ((Document(kind, one.name, project, {}), one.uid) for one in _rows(tx, form.kind, project))
                if "production" in form.extra:
                    for one in _rows(tx, f"production_{form.kind}", project):
                        yield Document(kind, one.name, project, {"production": True}), one.uid


def _rows(tx: Tx, kind: str, project: str) -> list[Resource]:
    return tx.resources.list_kind(kind, project)


def _shown(document: Document, references: _References) -> dict[str, Any]:
    hidden = set(masked_places(document.spec))
    if document.kind == "Secret":
        hidden |= {f"data.{key}" for key in document.spec.get("data", {})}
    wire = document.wire()
    if document.kind == "Project":
        del wire["metadata"]["project"]
    escaped = escape(wire)  # references to secrets are put in after it
    escaped["spec"] = _referenced(
        escaped["spec"], hidden, "", document.name, references, f"{document.kind}/{document.name}"
    )
    return dict(escaped)


def _referenced(value: Any, hidden: set[str], place: str, label: str, references: _References, about: str) -> Any:
    if isinstance(value, Mapping):
        own = value.get("key") or value.get("name")
        inner = f"{label}_{own}" if isinstance(own, str) and place else label
        result = {}
        for key, child in value.items():
            here = f"{place}.{key}" if place else key
            if here in hidden and child == MASK:
                word = (key,) if inner == label else ()
                result[key] = "${" + references.name(f"{about} {here}", inner, *word) + "}"
            else:
                result[key] = _referenced(child, hidden, here, inner, references, about)
        return result
    if isinstance(value, list):
        return [_referenced(child, hidden, f"{place}[{n}]", label, references, about) for n, child in enumerate(value)]
    return value
