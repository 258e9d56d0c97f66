"""Workflow definitions: create, replace, delete, look at.

The functions with a ``Tx`` are the same rules inside a transaction of somebody else (``cador apply``).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from cador.domain.errors import AlreadyExists, Invalid, InvalidDefinition, NotFound
from cador.domain.secrets import keep_masked, mask_credentials, masked_places, seal_credentials
from cador.domain.workflow import Workflow
from cador.engine.hearing import Claim, Ear, Outcome
from cador.engine.housekeeping import Burial, bury, bury_more
from cador.jobs.base import Catalogue, JobType
from cador.jobs.definition import normalise, parse_workflow
from cador.jobs.rules import BAD_KEY, KEY_PATTERN, check_workflow
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.finding import is_public
from cador.operations.notify_ctls import check_notifications
from cador.operations.resources import refuse_sealed
from cador.operations.roles import forget_workflow
from cador.operations.seeing import visible_workflows
from cador.operations.views import add_to_view, enabled_in, leave_views
from cador.ports.sealing import Sealer
from cador.ports.stores import IMPLICIT, Tx, WorkflowRow

Doc = dict[str, Any]

_REFERENCE: Final = re.compile(r"\s*\{\{[^{}]*\}\}\s*")
_OF_RUNS: Final = re.compile(rf"(?:{'|'.join(IMPLICIT)})-[0-9a-f]{{24}}")
"""Keys of workflows that run a test or scan by itself: who had one first would have its runs do something else."""
_ID_KINDS: Final[Mapping[str, str]] = {
    "docker_registry_id": "registry",
    "source_registry_id": "registry",
    "target_registry_id": "registry",
    "codehost_id": "codehost",
    "image_id": "baseimage",
    "registry_id": "registry",
    "cluster_id": "cluster",
    "app_id": "imapp",
    "tapd_id": "projectmanagement",
    "object_storage_id": "storage",
    "user_id": "user",
}
"""Keys of a definition that hold an id, and of what."""


class DisplayNameTaken(AlreadyExists):
    """Another workflow of the project has that display name."""


class KeyChanged(Invalid):
    """The body names another workflow than the address."""


@dataclass(frozen=True, slots=True)
class WorkflowDetail:
    """``doc``: the stored document, credentials masked. ``warnings``: ids in it that this server does not know."""

    row: WorkflowRow
    doc: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A definition that was parsed but not yet checked against anything stored."""

    doc: Doc
    workflow: Workflow


def draft(body: Mapping[str, Any]) -> Draft:
    """Parse a definition. Raises: Invalid, with every fault and its place."""
    doc = normalise(body)
    return Draft(doc, parse_workflow(doc))


# -- inside a transaction


def add_workflow(
    tx: Tx, new: Draft, actor: Actor, types: Mapping[str, JobType], sealer: Sealer, at: float
) -> WorkflowRow:
    """Check and store a new workflow.

    Raises: AlreadyExists; InvalidDefinition; NotFound("project"); DisplayNameTaken; Invalid: a masked credential.
    """
    workflow = new.workflow
    if _OF_RUNS.fullmatch(workflow.key):
        raise InvalidDefinition(f"workflow key {workflow.key} is kept for a test or scan", place="name")
    if tx.workflows.find(workflow.key) is not None:
        raise AlreadyExists("workflow", workflow.key, project=workflow.project)
    check_new(tx, workflow, types)
    if tx.workflows.display_name_taken(workflow.project, workflow.display_name, workflow.key):
        raise DisplayNameTaken("display name", workflow.display_name, project=workflow.project)
    row = _row(workflow, _stored_text(new.doc, {}, sealer), actor, at)
    try:
        tx.workflows.add(row)
    except AlreadyExists:  # by another server, since it was looked for
        raise AlreadyExists("workflow", workflow.key, project=workflow.project) from None
    return row


def check_new(tx: Tx, workflow: Workflow, types: Mapping[str, JobType]) -> None:
    """The rules of a definition in their documented order. Raises: InvalidDefinition, NotFound("project")."""
    if not workflow.project:
        raise InvalidDefinition("project should not be empty", place="project")
    if not KEY_PATTERN.fullmatch(workflow.key):
        raise InvalidDefinition(BAD_KEY, place="name")
    if not project_known(tx, workflow.project):
        raise NotFound("project", workflow.project)
    check_workflow(workflow, types)
    check_notifications(workflow.doc)


def project_known(tx: Tx, project: str) -> bool:
    return any(tx.resources.find("project", owner, project) is not None for owner in ("", project))


def change_workflow(
    tx: Tx, old: WorkflowRow, new: Draft, actor: Actor, types: Mapping[str, JobType], sealer: Sealer, at: float
) -> WorkflowRow:
    """Replace the whole definition of *old*; what is masked in the new one keeps its value.

    Raises: InvalidDefinition; DisplayNameTaken; Invalid.
    """
    workflow = new.workflow
    if old.type in IMPLICIT:
        raise InvalidDefinition(f"workflow {old.key} runs a test or scan: change that instead")
    check_workflow(workflow, types)
    check_notifications(workflow.doc)
    changed = workflow.display_name != old.display_name
    if changed and tx.workflows.display_name_taken(old.project, workflow.display_name, old.key):
        raise DisplayNameTaken("display name", workflow.display_name, project=old.project)
    text = _stored_text(new.doc, msgspec.json.decode(old.definition), sealer)
    fresh = _row(workflow, text, actor, at)
    row = replace(fresh, created_by=old.created_by, create_at=old.create_at, id=old.id, revision=old.revision)
    tx.workflows.replace(row)
    return row


def remove_workflow(tx: Tx, ear: Ear, key: str) -> Burial | None:
    """Delete the workflow; nothing of it starts any more. What is unfinished is cancelled (revoker ``system``), and its
    tasks are found by nobody: those of a large workflow a little later, see :func:`finish_removal`. Its task counter
    survives: numbers are never used twice. Call with the admission and the workflow locked."""
    row = tx.workflows.find(key)
    if row is not None:
        leave_views(tx, row.project, key)
        forget_workflow(tx, row.project, key)
    tx.workflows.delete(key)
    return bury(tx, ear, key)


def _audit(tx: Tx, actor: Actor, action: str, row: WorkflowRow) -> None:
    target = f"workflow/{row.key}"
    tx.audit.add(at=tx.now, actor=actor.account, action=action, project=row.project, target=target, detail={})


def _row(workflow: Workflow, definition: str, actor: Actor, at: float) -> WorkflowRow:
    return WorkflowRow(
        key=workflow.key,
        project=workflow.project,
        display_name=workflow.display_name,
        type=workflow.type,
        concurrency_limit=workflow.concurrency_limit,
        disabled=workflow.disabled,
        definition=definition,
        revision=1,
        created_by=actor.name,
        create_at=at,
        updated_by=actor.name,
        update_at=at,
    )


def _stored_text(doc: Doc, old: Any, sealer: Sealer) -> str:
    """JSON of *doc*, credentials sealed. Raises: Invalid: ``********`` where there is no value to keep."""
    kept = keep_masked(doc, old)
    for place in masked_places(kept):
        raise Invalid("******** stands for a credential that is not stored: send its value", place=place)
    label = f"workflow/{doc['name']}"

    def seal(text: str) -> str:
        if sealer.is_sealed(text) or _REFERENCE.fullmatch(text):
            return text  # a reference is no secret; what it stands for is
        return sealer.seal(text, label)

    return msgspec.json.encode(seal_credentials(kept, seal)).decode()


# -- what users ask


async def create_workflow(ctx: Context, actor: Actor, body: Mapping[str, Any], *, view: str = "") -> WorkflowRow:
    """*view*: of the project, which is to show it.

    Raises: Invalid, InvalidDefinition, AlreadyExists, DisplayNameTaken, NotFound: project or view; Forbidden."""
    if isinstance(project := _named(body, "project", "project_key"), str) and project:
        actor.need("create_workflow", project)  # before anything else is said about the body
    new = draft(body)
    if not new.workflow.project:
        raise InvalidDefinition("project should not be empty", place="project")
    actor.need("create_workflow", new.workflow.project)
    refuse_sealed(body, ctx.sealer)

    def write(tx: Tx, at: float) -> WorkflowRow:
        tx.resources.hold()  # the project must not go meanwhile
        row = add_workflow(tx, new, actor, ctx.types, ctx.sealer, at)
        if view:
            add_to_view(tx, row.project, view, row.key, row.type)
        _audit(tx, actor, "create_workflow", row)
        return row

    return await ctx.db.write(write, ctx.clock.now())


async def lint_workflow(ctx: Context, actor: Actor, body: Mapping[str, Any]) -> tuple[str, ...]:
    """The checks of creating, without storing; returns warnings.

    Raises: Invalid, InvalidDefinition, NotFound("project"), Forbidden.
    """
    if isinstance(project := _named(body, "project", "project_key"), str) and project:
        actor.need("get_workflow", project, public=await is_public(ctx, project))
    new = draft(body)
    workflow = new.workflow
    if not workflow.project:
        raise InvalidDefinition("project should not be empty", place="project")
    actor.need("get_workflow", workflow.project, public=await is_public(ctx, workflow.project))

    def read(tx: Tx) -> tuple[str, ...]:
        check_new(tx, workflow, ctx.types)
        return unknown_ids(new.doc, ctx.catalogues.load(tx, workflow.project), _user_known(tx))

    return await ctx.db.read(read)


async def replace_workflow(ctx: Context, actor: Actor, key: str, project: str, body: Mapping[str, Any]) -> WorkflowRow:
    """Replace the whole definition of workflow *key*. *project*: as the request named it, may be empty.

    Body without ``name`` or ``project``: those of the workflow. Running tasks are not affected; waiting ones start when
    the new limit lets them.

    Raises: NotFound("workflow"), KeyChanged, Invalid, InvalidDefinition, DisplayNameTaken, Forbidden.
    """
    if not _named(body, "project", "project_key") and not project:
        raise Invalid("projectName is required")
    row = await ctx.db.read(_find, key)
    if row is None:
        actor.need("edit_workflow", project or str(_named(body, "project", "project_key")), workflow=key)
        raise NotFound("workflow", key)
    actor.need("edit_workflow", row.project, workflow=key)
    if (sent := _named(body, "name", "workflow_key")) and sent != key:
        raise KeyChanged("workflow key cannot be changed", place="name")
    for named in (project, _named(body, "project", "project_key")):
        if named and named != row.project:
            raise Invalid(f"workflow {key} is not in project {named}", place="project")
    refuse_sealed(body, ctx.sealer)
    new = draft({**_without(body, "workflow_key", "project_key"), "name": key, "project": row.project})
    return await ctx.engine.transact(_replace, ctx, actor, key, new, ctx.clock.now())


def _replace(tx: Tx, claim: Claim, ctx: Context, actor: Actor, key: str, new: Draft, at: float) -> Outcome[WorkflowRow]:
    ear = Ear(tx, claim)
    tx.admission.lock()
    old = tx.workflows.find(key, lock=True)
    if old is None or old.project != new.workflow.project:
        raise NotFound("workflow", key)
    row = change_workflow(tx, old, new, actor, ctx.types, ctx.sealer, at)
    _audit(tx, actor, "edit_workflow", row)
    if row.concurrency_limit != old.concurrency_limit:
        ear.admit()
    return ear.outcome(row)


async def delete_workflow(ctx: Context, actor: Actor, key: str, project: str = "") -> None:
    """Cancel its tasks, then delete. *project* empty: of whatever project it is.

    Raises: NotFound("workflow"): none, or not in *project*; Forbidden.
    """
    row = await ctx.db.read(_find, key)
    if row is None or (project and row.project != project):
        if project:
            _need_delete(actor, project, key)
        raise NotFound("workflow", key)
    _need_delete(actor, row.project, key)
    await finish_removal(ctx, await ctx.engine.transact(_delete, actor, key, row.project))


async def finish_removal(ctx: Context, burial: Burial | None) -> None:
    """Return when no task of the removed workflow is found any more. Each step is a transaction of its own, so that
    others are not held up; if this server dies meanwhile, another one goes on."""
    while burial is not None:
        burial = await ctx.engine.transact(bury_more, burial, starts=0)


def _need_delete(actor: Actor, project: str, key: str) -> None:
    if not actor.may("edit_workflow", project, workflow=key):
        actor.need("delete_workflow", project)


def _delete(tx: Tx, claim: Claim, actor: Actor, key: str, project: str) -> Outcome[Burial | None]:
    ear = Ear(tx, claim)
    tx.admission.lock()
    tx.resources.hold()
    row = tx.workflows.find(key, lock=True)
    if row is None or row.project != project:
        raise NotFound("workflow", key)
    burial = remove_workflow(tx, ear, key)
    _audit(tx, actor, "delete_workflow", row)
    return ear.outcome(burial)


async def list_workflows(ctx: Context, actor: Actor, project: str, *, view: str = "") -> list[WorkflowRow]:
    """Workflows of a project, custom before product, newest change first. None for an unknown project or *view*.

    Raises: Forbidden.
    """
    only = await visible_workflows(ctx, actor, project)

    def read(tx: Tx) -> list[WorkflowRow]:
        keys = enabled_in(tx, project, view) if view else None
        if only is not None:
            keys = [key for key in keys if key in only] if keys is not None else sorted(only)
        return tx.workflows.list_workflows(project, keys) if keys is None or keys else []

    return await ctx.db.read(read)


async def workflow_detail(ctx: Context, actor: Actor, key: str, project: str) -> WorkflowDetail:
    """One definition as it may be shown. Raises: NotFound("workflow"): none, or not in *project*; Forbidden."""
    actor.need("get_workflow", project, public=await is_public(ctx, project), workflow=key)

    def read(tx: Tx) -> WorkflowDetail:
        row = tx.workflows.find(key)
        if row is None or row.project != project:
            raise NotFound("workflow", key)
        doc = msgspec.json.decode(row.definition)
        unknown = unknown_ids(doc, ctx.catalogues.load(tx, project), _user_known(tx))
        return WorkflowDetail(row, mask_credentials(doc), unknown)

    return await ctx.db.read(read)


def _find(tx: Tx, key: str) -> WorkflowRow | None:
    return tx.workflows.find(key)


def _named(body: Mapping[str, Any], *names: str) -> Any:
    return next((body[name] for name in names if body.get(name)), "")


def _without(body: Mapping[str, Any], *names: str) -> Doc:
    return {key: value for key, value in body.items() if key not in names}


# -- ids that lead nowhere


def unknown_ids(doc: Mapping[str, Any], catalogue: Catalogue, user_known: Callable[[str], bool]) -> tuple[str, ...]:
    """Ids of registries, images, code hosts, databases, users and the like in *doc* that are not known here, one line
    each.

    They are stored all the same: a definition may be written before what it names, and the documents' examples carry
    masked ids.
    """
    found: dict[str, None] = {}
    for place, kind, value in _ids(doc, ""):
        known = user_known(str(value)) if kind == "user" else catalogue.by_id(kind, str(value)) is not None
        if not known:
            found[f"{place}: {kind} {value} is not known"] = None
    return tuple(found)


def _ids(node: Any, place: str) -> Iterator[tuple[str, str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            here = f"{place}.{key}" if place else key
            if kind := _ID_KINDS.get(key) or ("database" if key == "id" and _is_database(node) else ""):
                if value and isinstance(value, str | int) and "{{" not in str(value):
                    yield here, kind, value
            else:
                yield from _ids(value, here)
    elif isinstance(node, list):
        for number, element in enumerate(node):
            yield from _ids(element, f"{place}[{number}]")


def _is_database(node: Mapping[str, Any]) -> bool:
    """Whether *node* is what a job of type ``sql`` is defined by."""
    return "sql" in node or node.get("type") in ("mysql", "mariadb", "postgresql")


def _user_known(tx: Tx) -> Callable[[str], bool]:
    asked: dict[str, bool] = {}

    def known(uid: str) -> bool:
        if uid not in asked:
            asked[uid] = tx.people.user(uid) is not None
        return asked[uid]

    return known
