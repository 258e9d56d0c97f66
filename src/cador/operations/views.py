"""Views: named selections of the workflows of a project.

A view keeps keys, not workflows: one that does not exist (yet) is kept and not shown. Source: API documents, workflow
views.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from cador.domain.errors import AlreadyExists, Invalid, NotFound
from cador.operations import resources
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.models.body import read_body
from cador.operations.models.view import MOST_MEMBERS, ViewBody, ViewChange
from cador.operations.resources import Hand, drop, need_project, put_new, put_over
from cador.operations.seeing import visible_workflows
from cador.ports.stores import Resource, Tx, WorkflowRow

KIND: Final = "view"

Doc = Mapping[str, Any]


class NamedTwice(Invalid):
    """A change lists a workflow twice."""


@dataclass(frozen=True, slots=True)
class View:
    """``workflows``: those that are enabled and exist, in the order of the view."""

    resource: Resource
    workflows: tuple[WorkflowRow, ...]


# -- parts of transactions


def enabled_in(tx: Tx, project: str, view: str) -> list[str]:
    """Keys of the workflows enabled in a view; none when there is no such view."""
    found = tx.resources.find(KIND, project, view)
    return _enabled(found.document) if found is not None else []


def add_to_view(tx: Tx, project: str, view: str, key: str, workflow_type: str) -> None:
    """Show a workflow in a view. Raises: NotFound("view")."""
    found = tx.resources.find(KIND, project, view, lock=True)
    if found is None:
        raise NotFound(KIND, view)
    _replace(tx, found, [{"workflow_key": key, "workflow_type": workflow_type, "enabled": True}])


def leave_views(tx: Tx, project: str, key: str) -> None:
    """Take a deleted workflow out of all views of its project."""
    showing = [
        view.name
        for view in tx.resources.list_kind(KIND, project)
        if any(member["workflow_key"] == key for member in view.document["workflow_list"])
    ]
    # All are locked before the first is written: whoever writes holds what every writer needs.
    for view in [tx.resources.find(KIND, project, name, lock=True) for name in showing]:
        if view is not None:
            kept = [member for member in view.document["workflow_list"] if member["workflow_key"] != key]
            tx.resources.replace(replace(view, document={**view.document, "workflow_list": kept}))


# -- operations


async def list_views(ctx: Context, actor: Actor, project: str) -> list[View]:
    """By name, descending. Who may look at some workflows only sees the views that show one of them, and in these no
    others. Raises: Forbidden.
    """
    only = await visible_workflows(ctx, actor, project)

    def read(tx: Tx) -> list[View]:
        found = sorted(tx.resources.list_kind(KIND, project), key=lambda view: view.name, reverse=True)
        if not found:
            return []
        # By project, not by keys: views may name more of these than fit into one statement.
        rows = {row.key: row for row in tx.workflows.list_workflows(project, None) if only is None or row.key in only}
        views = [View(view, tuple(rows[key] for key in _enabled(view.document) if key in rows)) for view in found]
        return [view for view in views if only is None or view.workflows]

    return await ctx.db.read(read)


async def create_view(ctx: Context, actor: Actor, project: str, body: Doc) -> None:
    """All that are listed are enabled. Raises: Invalid, AlreadyExists, NotFound("project")."""
    document = read_body(ViewBody, body).document()
    document["workflow_list"] = [{**member, "enabled": True} for member in document["workflow_list"]]

    def write(tx: Tx, hand: Hand) -> None:
        need_project(tx, project)
        if tx.resources.find(KIND, project, document["name"]) is not None:
            raise AlreadyExists(KIND, document["name"], project=project)
        put_new(tx, hand, KIND, project, document["name"], document)

    await resources.change(ctx, actor, write)


async def change_view(ctx: Context, actor: Actor, project: str, name: str, body: Doc) -> None:
    """Enable and disable workflows; those that are not listed stay as they are, and so do places.

    Raises: Invalid, NotFound("view"), NamedTwice.
    """
    changes = read_body(ViewChange, body).document()["workflow_list"]

    def write(tx: Tx, hand: Hand) -> None:
        found = tx.resources.find(KIND, project, name)
        if found is None:
            raise NotFound(KIND, name)
        if len({change["workflow_key"] for change in changes}) < len(changes):
            raise NamedTwice("workflow name duplicated")
        members = _merged(found.document, changes)
        if not put_over(tx, hand, found, {**found.document, "workflow_list": members}):
            # Who looked at it last and when is told even when nothing is different now.
            tx.resources.replace(replace(found, updated_by=actor.name, update_at=tx.now))

    await resources.change(ctx, actor, write)


async def delete_view(ctx: Context, actor: Actor, project: str, name: str) -> None:
    """Workflows are not touched. Raises: NotFound("view")."""

    def write(tx: Tx, hand: Hand) -> None:
        found = tx.resources.find(KIND, project, name)
        if found is None:
            raise NotFound(KIND, name)
        drop(tx, hand, found)

    await resources.change(ctx, actor, write)


def _enabled(document: Doc) -> list[str]:
    return [member["workflow_key"] for member in document["workflow_list"] if member["enabled"]]


def _replace(tx: Tx, view: Resource, changes: Iterable[Doc]) -> None:
    members = _merged(view.document, changes)
    tx.resources.replace(replace(view, document={**view.document, "workflow_list": members}))


def _merged(document: Doc, changes: Iterable[Doc]) -> list[Doc]:
    members = {member["workflow_key"]: member for member in document["workflow_list"]}
    for change in changes:
        key = change["workflow_key"]
        if key in members:
            members[key] = {**members[key], "enabled": change["enabled"]}
        elif change["enabled"]:
            members[key] = change
    if len(members) > MOST_MEMBERS:
        raise Invalid(f"a view has at most {MOST_MEMBERS} workflows", place="workflow_list")
    return list(members.values())
