"""How objects of each kind are read, written and removed: rows of the resource table, and kinds that are more."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from cador.domain.errors import Conflict, Invalid, NotFound
from cador.domain.secrets import keep_masked, mask_credentials
from cador.operations import (
    environments,
    groups,
    people,
    projects,
    quality,
    resources,
    roles,
    services,
    system_settings,
    tickets,
    workflows,
)
from cador.operations.actor import EVERYWHERE
from cador.operations.declarative.documents import Document, completed
from cador.operations.declarative.names import GROUP_PREFIX
from cador.operations.desk import Desk, Doc, Keeper
from cador.operations.models.body import read_body
from cador.operations.models.environment import EnvironmentBody
from cador.operations.models.groups import GroupBody
from cador.operations.models.project import ProjectBody
from cador.operations.models.roles import CollaborationBody, RoleBody
from cador.operations.models.service import ServiceBody
from cador.operations.models.system import LIVE_SETTINGS, AnySettingBody, UserBody
from cador.operations.models.ticket import TicketBody
from cador.operations.references import users_of
from cador.ports.stores import Resource, Tx, User


def owner_of(document: Document) -> str:
    """Project of the resource that *document* is kept as."""
    return "" if document.kind == "Project" else document.project


# -- rows of the resource table


def read_plain(tx: Tx, document: Document) -> dict[str, Any] | None:
    found = tx.resources.find(document.form.kind, owner_of(document), document.name)
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


PLAIN: Final = Keeper(read_plain, _write_plain, _remove_plain)


def _remove_quality(desk: Desk, document: Document) -> None:
    of = quality.TEST if document.kind == "Test" else quality.SCAN
    found = resources.get(desk.tx, of.kind, document.project, document.name)
    if (burial := quality.remove(desk.tx, desk.hand, desk.ear, of, found)) is not None:
        desk.burials.append(burial)


# -- projects


_VARIABLES: Final = ("variables", "production_variables")


def _read_project(tx: Tx, document: Document) -> dict[str, Any] | None:
    body = read_plain(tx, document)
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
        return read_plain(tx, document)
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
    "Role": Keeper(read_plain, _write_role, _remove_role),
    "RoleBinding": Keeper(_read_binding, _write_binding, _remove_binding),
    "Test": Keeper(read_plain, _write_plain, _remove_quality),
    "Scan": Keeper(read_plain, _write_plain, _remove_quality),
    "Environment": Keeper(_read_environment, _write_environment, _remove_environment),
    "Collaboration": Keeper(read_plain, _write_collaboration, _remove_collaboration),
    "Service": Keeper(_read_service, _write_service, _remove_service),
    "Workflow": Keeper(_read_workflow, _write_workflow, _remove_workflow),
    "ApprovalTicket": Keeper(_read_ticket, _write_ticket, _remove_ticket),
}
"""Kinds that are more than a row of the resource table and its model; secrets reach further, see ``live``."""
