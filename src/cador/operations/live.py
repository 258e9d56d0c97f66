"""Documents against what is stored: read, write and remove one object of any kind, inside a transaction."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from pydantic import BaseModel

from cador.domain.errors import Conflict, Invalid, NotFound
from cador.domain.secrets import keep_masked, mask_credentials
from cador.engine.hearing import Ear
from cador.jobs.base import JobType
from cador.operations import people, projects, resources, services, workflows
from cador.operations.actor import SYSTEM, Actor
from cador.operations.catalog_names import known_names
from cador.operations.declarative.documents import Document
from cador.operations.declarative.names import Names, resolve
from cador.operations.models.body import Body, read_body
from cador.operations.models.builds import BuildBody, TestBody
from cador.operations.models.project import ProjectBody
from cador.operations.models.service import ServiceBody
from cador.operations.models.system import UserBody
from cador.operations.resources import Hand
from cador.ports.stores import Tx

Doc = Mapping[str, Any]


@dataclass(slots=True)
class Desk:
    """What one transaction of applying works with. ``password_hashes``: of new passwords, by account."""

    tx: Tx
    hand: Hand
    types: Mapping[str, JobType]
    ear: Ear
    at: float
    password_hashes: Mapping[str, str]

    def names(self, project: str) -> Names:
        return known_names(self.tx, project)


def actions_for(document: Document) -> tuple[str, ...]:
    """What the actor needs, all of it."""
    match document.kind:
        case "RoleBinding":
            return ("admin_project",)
        case "Project":
            return ("admin_project",)
        case "Service" if document.production:
            return ("create_production_service", "edit_production_service")
        case _:
            word = document.form.kind
            return (SYSTEM,) if document.form.of_system else (f"create_{word}", f"edit_{word}")


def check_allowed(actor: Actor, document: Document, project_exists: Callable[[str], bool], *, remove: bool) -> None:
    """Raises: Forbidden."""
    project = "" if document.form.of_system else document.project
    if document.kind == "Project" and not project_exists(document.name):
        actor.need(SYSTEM)
        return
    for action in actions_for(document):
        actor.need(action, project)
        if remove and action.startswith("edit_"):
            actor.need(action.replace("edit_", "delete_", 1), project)


# -- reading


def live_body(tx: Tx, document: Document) -> dict[str, Any] | None:
    """What is stored, in the shape of the body, secrets masked; None when there is nothing."""
    name, project = document.name, document.project
    match document.kind:
        case "Workflow":
            row = tx.workflows.find(name)
            if row is None or row.project != project:
                return None
            return dict(mask_credentials(msgspec.json.decode(row.definition)))
        case "User":
            user = tx.people.by_account(name)
            if user is None:
                return None
            return {
                "account": user.account,
                "name": user.name,
                "email": user.email,
                "phone": user.phone,
                "admin": user.admin,
            }
        case "RoleBinding":
            user = tx.people.by_account(name)
            roles = tx.people.roles(user.uid).get(project, ()) if user is not None else ()
            return {"account": name, "project_key": project, "roles": list(roles)} if roles else None
        case "Service":
            found = tx.resources.find(services.kind_of(document.production), project, name)
            if found is None:
                return None
            return {
                "service_name": name,
                "yaml": found.document["yaml"],
                "variable_yaml": found.document["service_variable_kvs"],
            }
        case _:
            found = tx.resources.find(document.form.kind, "" if document.kind == "Project" else project, name)
            if found is None:
                return None
            body = dict(mask_credentials(found.document))
            body.pop("deploy_type", None)
            return body


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


# -- writing


_UNKNOWN: Final = "{kind} {name!r} is not known"


def resolved(desk: Desk, document: Document, body: Doc) -> dict[str, Any]:
    """*body* with ids for names. Raises: Invalid: a name leads nowhere."""
    if document.kind not in ("Build", "Workflow"):
        return dict(body)
    result, missing = resolve(document.kind, body, desk.names(document.project))
    # what a build refers to is checked when it is stored, with the texts of its route
    faults = [entry for entry in missing if document.kind == "Workflow" or entry[0] == "service"]
    if faults:
        raise Invalid("; ".join(_UNKNOWN.format(kind=kind, name=name) for kind, name in dict.fromkeys(faults)))
    return result


def store(desk: Desk, document: Document, body: Doc) -> bool:
    """Write one object; False when it says what is stored already. Raises: any ``CadorError``."""
    tx, hand, project = desk.tx, desk.hand, document.project
    match document.kind:
        case "Workflow":
            return _store_workflow(desk, document, body)
        case "User":
            user = read_body(UserBody, body)
            return people.store_user(tx, hand, user, desk.password_hashes.get(user.account, ""))[1]
        case "RoleBinding":
            member = tx.people.by_account(document.name)
            if member is None:
                raise NotFound("user", document.name)
            roles = body.get("roles")
            if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
                raise Invalid("roles must be a list of role names", place="roles")
            return people.store_roles(tx, hand, member, project, roles)
        case "Project":
            return projects.store(tx, hand, read_body(ProjectBody, body).document())[1]
        case "Service":
            parsed = read_body(ServiceBody, body).document()
            return services.store(tx, hand, services.kind_of(document.production), project, parsed)[1]
        case _:
            kind = document.form.kind
            model: type[Body] = resources.KINDS[kind].model
            if model in (BuildBody, TestBody) and isinstance(advanced := body.get("advanced_settings"), Mapping):
                body = {**body, "advanced_settings": {"cluster_name": "local", **advanced}}
            return resources.store(tx, hand, kind, project, read_body(model, body).document())[1]


def _store_workflow(desk: Desk, document: Document, body: Doc) -> bool:
    tx, hand = desk.tx, desk.hand
    resources.refuse_sealed(body, hand.sealer)
    new = workflows.draft(body)
    old = tx.workflows.find(document.name, lock=True)
    if old is not None and old.project != document.project:
        raise Conflict(f"workflow {document.name} is in another project")
    if old is None:
        workflows.add_workflow(tx, new, hand.actor, desk.types, hand.sealer, desk.at)
        hand.audit(tx, "create_workflow", document.project, f"workflow/{document.name}", {"document": new.doc})
        return True
    stored = msgspec.json.decode(old.definition)
    if hand.opened(keep_masked(new.doc, stored)) == hand.opened(stored):
        return False
    row = workflows.change_workflow(tx, old, new, hand.actor, desk.types, hand.sealer, desk.at)
    hand.audit(tx, "edit_workflow", document.project, f"workflow/{document.name}", {"document": new.doc})
    if row.concurrency_limit != old.concurrency_limit:
        desk.ear.admit()
    return True


# -- removing


def remove(desk: Desk, document: Document) -> bool:
    """Delete one object; False when it is not there. Raises: Conflict: still used."""
    tx, hand, project = desk.tx, desk.hand, document.project
    if live_body(tx, document) is None:
        return False
    match document.kind:
        case "Workflow":
            workflows.remove_workflow(tx, desk.ear, document.name)
            hand.audit(tx, "delete_workflow", project, f"workflow/{document.name}")
        case "User":
            user = tx.people.by_account(document.name)
            if user is not None:
                people.drop_user(tx, hand, user)
        case "RoleBinding":
            member = tx.people.by_account(document.name)
            if member is not None:
                people.store_roles(tx, hand, member, project, [])
        case "Project":
            for row in tx.workflows.list_workflows(project):
                workflows.remove_workflow(tx, desk.ear, row.key)
            projects.drop_project(tx, hand, project)
        case "Service":
            resources.drop(tx, hand, resources.get(tx, services.kind_of(document.production), project, document.name))
        case _:
            resources.drop(tx, hand, resources.get(tx, document.form.kind, project, document.name))
    return True
