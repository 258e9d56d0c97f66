"""Documents against what is stored: read, write and remove one object of any kind, inside a transaction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from pydantic import BaseModel

from cador.domain.errors import Conflict, Invalid, NotFound
from cador.domain.secrets import keep_masked, mask_credentials
from cador.engine.hearing import Ear
from cador.engine.housekeeping import Burial
from cador.jobs.base import JobType
from cador.operations import (
    environments,
    groups,
    people,
    projects,
    quality,
    resources,
    roles,
    services,
    stored_secrets,
    system_settings,
    tickets,
    workflows,
)
from cador.operations.actions import TICKET
from cador.operations.actor import EVERYWHERE, SYSTEM, Actor
from cador.operations.catalog_names import known_names
from cador.operations.declarative.documents import Document, completed
from cador.operations.declarative.from_secret import Path, at, put
from cador.operations.declarative.names import GROUP, GROUP_PREFIX, Names, resolve
from cador.operations.models import stored_secret
from cador.operations.models.body import Body, read_body
from cador.operations.models.environment import EnvironmentBody
from cador.operations.models.groups import GroupBody
from cador.operations.models.project import ProjectBody
from cador.operations.models.roles import CollaborationBody, RoleBody
from cador.operations.models.service import ServiceBody
from cador.operations.models.system import LIVE_SETTINGS, AnySettingBody, UserBody
from cador.operations.models.ticket import TicketBody
from cador.operations.references import users_of
from cador.operations.resources import Hand
from cador.ports.stores import Resource, Tx, User

Doc = Mapping[str, Any]


@dataclass(slots=True)
class Desk:
    """What one transaction of applying works with. ``password_hashes``: of new passwords, by account. ``warnings``:
    what went well and should be known. ``burials``: of removed workflows, to be finished after the transaction."""

    tx: Tx
    hand: Hand
    types: Mapping[str, JobType]
    ear: Ear
    at: float
    password_hashes: Mapping[str, str]
    warnings: list[str] = field(default_factory=list)
    burials: list[Burial] = field(default_factory=list)
    _names: dict[tuple[str, str], Names] = field(default_factory=dict)

    def names(self, document: Document) -> Names:
        """What *document* may refer to. Looked up once for all of its kind in its project: documents come kind by kind,
        and none names one of its own kind or of a later one."""
        about = (document.kind, document.project)
        if about not in self._names:
            self._names[about] = known_names(self.tx, document.project)
        return self._names[about]

    def refill(self, holder: Resource, changes: Sequence[tuple[Path, str, str]]) -> None:
        """Put new values of a secret into an applied object, where the old ones still stand. Raises: CadorError."""
        document = document_of(holder)
        body: Any = live_body(self.tx, document)
        clear = clear_body(self.tx, self.hand, document)
        due = [(path, new) for path, old, new in changes if clear is not None and at(clear, path) == old]
        for path, new in due:
            body = put(body, path, new)
        if due:
            store(self, document, body)


@dataclass(frozen=True, slots=True)
class Keeper:
    """How objects of one kind are kept. ``read``: what is stored, in the shape of the body, secrets masked, or None;
    ``write``: False when it says what is stored already; ``remove`` is asked for what is there. Raise: any
    ``CadorError``."""

    read: Callable[[Tx, Document], dict[str, Any] | None]
    write: Callable[[Desk, Document, Doc], bool]
    remove: Callable[[Desk, Document], None]


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
    found = tx.resources.find(document.form.kind, _owner(document), document.name)
    return hand.opened(found.document) if found is not None else None


def _owner(document: Document) -> str:
    return "" if document.kind == "Project" else document.project


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
    return KEEPERS.get(document.kind, _PLAIN)


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


# -- rows of the resource table


def _read_plain(tx: Tx, document: Document) -> dict[str, Any] | None:
    found = tx.resources.find(document.form.kind, _owner(document), document.name)
    return dict(mask_credentials(found.document)) if found is not None else None


def _write_plain(desk: Desk, document: Document, body: Doc) -> bool:
    kind = document.form.kind
    model = resources.KINDS[kind].model
    if "advanced_settings" in model.model_fields and isinstance(advanced := body.get("advanced_settings"), Mapping):
        body = {**body, "advanced_settings": {"cluster_name": "local", **advanced}}
    parsed = read_body(model, body).document()
    return resources.store(desk.tx, desk.hand, kind, document.project, parsed)[1]


def _remove_plain(desk: Desk, document: Document) -> None:
    found = resources.get(desk.tx, document.form.kind, document.project, document.name)
    resources.drop(desk.tx, desk.hand, found)


_PLAIN: Final = Keeper(_read_plain, _write_plain, _remove_plain)


def _remove_quality(desk: Desk, document: Document) -> None:
    of = quality.TEST if document.kind == "Test" else quality.SCAN
    found = resources.get(desk.tx, of.kind, document.project, document.name)
    quality.remove(desk.tx, desk.hand, desk.ear, of, found)


# -- projects


_VARIABLES: Final = ("variables", "production_variables")


def _read_project(tx: Tx, document: Document) -> dict[str, Any] | None:
    body = _read_plain(tx, document)
    if body is not None:
        body.pop("deploy_type", None)
    return body


def _write_project(desk: Desk, document: Document, body: Doc) -> bool:
    old = desk.tx.resources.find("project", "", document.name)
    # A replacing body that does not say them leaves them; *body* is all there is, so what it does not say is gone.
    gone: Doc = {key: [] for key in _VARIABLES if old is not None and old.document.get(key)}
    project = read_body(ProjectBody, {**gone, **completed(document, body)}).document()
    return projects.store(desk.tx, desk.hand, project)[1]


def _remove_project(desk: Desk, document: Document) -> None:
    for row in desk.tx.workflows.list_workflows(document.name, implicit=True):
        _bury(desk, row.key)
    projects.drop_project(desk.tx, desk.hand, document.name)


# -- settings


def _read_setting(tx: Tx, document: Document) -> dict[str, Any] | None:
    if document.name not in LIVE_SETTINGS:
        return _read_plain(tx, document)
    value = system_settings.set_here(tx).get(document.name)
    return {"name": document.name, "value": str(value)} if value is not None else None


def _write_setting(desk: Desk, document: Document, body: Doc) -> bool:
    if document.name not in LIVE_SETTINGS:
        return _write_plain(desk, document, body)
    value = int(read_body(AnySettingBody, body).value)
    if system_settings.set_here(desk.tx).get(document.name) == value:
        return False
    system_settings.put_settings(desk.tx, desk.hand, desk.ear, {document.name: value})
    return True


def _remove_setting(desk: Desk, document: Document) -> None:
    if document.name not in LIVE_SETTINGS:
        return _remove_plain(desk, document)
    system_settings.put_settings(desk.tx, desk.hand, desk.ear, {document.name: None})


# -- people


def _read_user(tx: Tx, document: Document) -> dict[str, Any] | None:
    user = tx.people.by_account(document.name)
    if user is None:
        return None
    return {
        "account": user.account,
        "name": user.name,
        "email": user.email,
        "phone": user.phone,
        "admin": user.admin,
    }


def _write_user(desk: Desk, document: Document, body: Doc) -> bool:
    user = read_body(UserBody, body)
    return people.store_user(desk.tx, desk.hand, user, desk.password_hashes.get(user.account, ""))[1]


def _remove_user(desk: Desk, document: Document) -> None:
    user = desk.tx.people.by_account(document.name)
    if user is not None:
        people.drop_user(desk.tx, desk.hand, user)


def _read_group(tx: Tx, document: Document) -> dict[str, Any] | None:
    found = tx.resources.find(groups.KIND, "", document.name)
    return dict(found.document) if found is not None else None


def _write_group(desk: Desk, document: Document, body: Doc) -> bool:
    return groups.store(desk.tx, desk.hand, read_body(GroupBody, body))


def _remove_group(desk: Desk, document: Document) -> None:
    found = resources.get(desk.tx, groups.KIND, "", document.name)
    if (user := next(users_of(desk.tx, found), "")) and user:
        raise Conflict(f"group {found.name} is used by {user}")
    groups.drop_group(desk.tx, desk.hand, found)


def _write_role(desk: Desk, document: Document, body: Doc) -> bool:
    return roles.store_role(desk.tx, desk.hand, document.project or EVERYWHERE, read_body(RoleBody, body))


def _remove_role(desk: Desk, document: Document) -> None:
    roles.drop_role(desk.tx, desk.hand, resources.get(desk.tx, document.form.kind, document.project, document.name))


def _holder(tx: Tx, name: str) -> User | Resource | None:
    """Whom a binding is about: an account or, after ``group:``, a group."""
    group = name.removeprefix(GROUP_PREFIX)
    return tx.resources.find(groups.KIND, "", group) if group != name else tx.people.by_account(name)


def _read_binding(tx: Tx, document: Document) -> dict[str, Any] | None:
    holder, namespace = _holder(tx, document.name), document.project or EVERYWHERE
    if holder is None:
        return None
    found = (
        roles.roles_of(tx, holder, namespace) if isinstance(holder, User) else roles.group_roles(tx, holder, namespace)
    )
    return {"account": document.name, "project_key": document.project, "roles": list(found)} if found else None


def _write_binding(desk: Desk, document: Document, body: Doc) -> bool:
    wanted = body.get("roles")
    if not isinstance(wanted, list) or not all(isinstance(role, str) for role in wanted):
        raise Invalid("roles must be a list of role names", place="roles")
    return _bind(desk, document, wanted)


def _remove_binding(desk: Desk, document: Document) -> None:
    _bind(desk, document, [])


def _bind(desk: Desk, document: Document, wanted: Sequence[str]) -> bool:
    holder, namespace = _holder(desk.tx, document.name), document.project or EVERYWHERE
    if holder is None:
        raise NotFound("group" if document.name.startswith(GROUP_PREFIX) else "user", document.name)
    if isinstance(holder, User):
        return roles.store_roles(desk.tx, desk.hand, holder, namespace, wanted)
    return roles.store_group_roles(desk.tx, desk.hand, holder, namespace, wanted)


def _write_collaboration(desk: Desk, document: Document, body: Doc) -> bool:
    mode = read_body(CollaborationBody, body)
    return roles.store_collaboration(desk.tx, desk.hand, document.project, mode)


def _remove_collaboration(desk: Desk, document: Document) -> None:
    roles.drop_collaboration(desk.tx, desk.hand, document.project, document.name)


# -- services


def _read_service(tx: Tx, document: Document) -> dict[str, Any] | None:
    found = tx.resources.find(services.kind_of(document.production), document.project, document.name)
    if found is None:
        return None
    return services.body_of(found)


def _write_service(desk: Desk, document: Document, body: Doc) -> bool:
    parsed = read_body(ServiceBody, body).document()
    kind = services.kind_of(document.production)
    return services.store(desk.tx, desk.hand, kind, document.project, parsed)[1]


def _remove_service(desk: Desk, document: Document) -> None:
    found = resources.get(desk.tx, services.kind_of(document.production), document.project, document.name)
    resources.drop(desk.tx, desk.hand, found)


# -- environments


def _read_environment(tx: Tx, document: Document) -> dict[str, Any] | None:
    found = tx.resources.find(environments.kind_of(document.production), document.project, document.name)
    return environments.body_of(tx, found) if found is not None else None


def _write_environment(desk: Desk, document: Document, body: Doc) -> bool:
    kind = environments.kind_of(document.production)
    return environments.store(desk.tx, desk.hand, kind, document.project, read_body(EnvironmentBody, body))[1]


def _remove_environment(desk: Desk, document: Document) -> None:
    kind = environments.kind_of(document.production)
    resources.drop(desk.tx, desk.hand, resources.get(desk.tx, kind, document.project, document.name))


# -- workflows


def _read_workflow(tx: Tx, document: Document) -> dict[str, Any] | None:
    row = tx.workflows.find(document.name)
    if row is None or row.project != document.project:
        return None
    return dict(mask_credentials(msgspec.json.decode(row.definition)))


def _write_workflow(desk: Desk, document: Document, body: Doc) -> bool:
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


def _bury(desk: Desk, key: str) -> None:
    desk.tx.workflows.find(key, lock=True)
    if (burial := workflows.remove_workflow(desk.tx, desk.ear, key)) is not None:
        desk.burials.append(burial)


def _remove_workflow(desk: Desk, document: Document) -> None:
    _bury(desk, document.name)
    desk.hand.audit(desk.tx, "delete_workflow", document.project, f"workflow/{document.name}")


# -- secrets that documents name


def _read_secret(tx: Tx, document: Document) -> dict[str, Any] | None:
    body = _read_plain(tx, document)
    return stored_secret.body_of(body) if body is not None else None


def _write_secret(desk: Desk, document: Document, body: Doc) -> bool:
    parsed = read_body(stored_secret.SecretBody, body)
    return stored_secrets.store(desk.tx, desk.hand, document.project, parsed, desk.refill)


def _remove_secret(desk: Desk, document: Document) -> None:
    stored_secrets.drop(desk.tx, desk.hand, document.project, document.name)


# -- tickets


def _read_ticket(tx: Tx, document: Document) -> dict[str, Any] | None:
    return tickets.stored_body(tx, document.project, document.name)


def _write_ticket(desk: Desk, document: Document, body: Doc) -> bool:
    return tickets.store_ticket(desk.tx, desk.hand, document.project, read_body(TicketBody, body))


def _remove_ticket(desk: Desk, document: Document) -> None:
    tickets.drop_ticket(desk.tx, desk.hand, document.project, document.name)


KEEPERS: Final[Mapping[str, Keeper]] = {
    "Project": Keeper(_read_project, _write_project, _remove_project),
    "Setting": Keeper(_read_setting, _write_setting, _remove_setting),
    "User": Keeper(_read_user, _write_user, _remove_user),
    "Group": Keeper(_read_group, _write_group, _remove_group),
    "Role": Keeper(_read_plain, _write_role, _remove_role),
    "RoleBinding": Keeper(_read_binding, _write_binding, _remove_binding),
    "Secret": Keeper(_read_secret, _write_secret, _remove_secret),
    "Test": Keeper(_read_plain, _write_plain, _remove_quality),
    "Scan": Keeper(_read_plain, _write_plain, _remove_quality),
    "Environment": Keeper(_read_environment, _write_environment, _remove_environment),
    "Collaboration": Keeper(_read_plain, _write_collaboration, _remove_collaboration),
    "Service": Keeper(_read_service, _write_service, _remove_service),
    "Workflow": Keeper(_read_workflow, _write_workflow, _remove_workflow),
    "ApprovalTicket": Keeper(_read_ticket, _write_ticket, _remove_ticket),
}
"""Kinds that are more than a row of the resource table and its model."""
