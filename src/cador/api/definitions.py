"""Workflow definitions: list, detail, create, replace, delete, lint. Source: API documents, workflows."""

import asyncio
from typing import Any, Final

from cador.api.bodies import parse_definition
from cador.api.catalogue import DISPLAY_NAME_TAKEN, KEY_PATTERN, NO_DOCUMENTS, WORKFLOW_EXISTS, Operation
from cador.api.definition_shapes import workflow_document, workflow_line
from cador.api.described import Described
from cador.api.detail_models import WorkflowDocument
from cador.api.errors import Faults, Refusal, bad_request
from cador.api.own_models import Linted
from cador.api.params import PROJECT, VIEW, WORKFLOW
from cador.api.permissions import by_operation, in_query
from cador.api.routing import Call, Routes
from cador.domain import errors as domain
from cador.jobs.rules import BAD_KEY
from cador.operations import workflows

ROUTES: Final = Routes("workflows")

DEFINITION_TYPES: Final = ("application/json", "application/yaml")
LARGE_BYTES: Final = 64 << 10
"""Reading a definition that is larger takes so long that other requests must not wait for it."""
_CUSTOM: Final = "/openapi/workflows/custom"
_PRIVATE: Final = "/api/aslan/workflow/v4"


def _exists(error: domain.AlreadyExists) -> Refusal:
    return Refusal(Operation.UPSERT_WORKFLOW, WORKFLOW_EXISTS.format(key=error.name, project=error.project))


def _name_taken(error: domain.AlreadyExists) -> Refusal:
    return Refusal(Operation.UPSERT_WORKFLOW, DISPLAY_NAME_TAKEN.format(name=error.name))


def _invalid_definition(error: domain.InvalidDefinition) -> Refusal:
    return Refusal(Operation.LINT_WORKFLOW, KEY_PATTERN if error.what == BAD_KEY else error.what)


_WRITING: Final[Faults] = {
    workflows.DisplayNameTaken: _name_taken,
    domain.AlreadyExists: _exists,
    domain.InvalidDefinition: _invalid_definition,
    workflows.KeyChanged: Operation.UPSERT_WORKFLOW,
}


def _create_not_found(error: domain.NotFound) -> Refusal:
    if error.kind == "view":
        return Refusal(Operation.UPDATE_VIEW, f"failed to find workflow view {error.name}")
    return Refusal(Operation.LINT_WORKFLOW, NO_DOCUMENTS)  # the project


class WorkflowLine(Described):
    workflow_key: str
    workflow_name: str
    update_by: str
    update_time: int
    type: str


class WorkflowList(Described):
    workflows: list[WorkflowLine]


class StageBody(Described):
    """``approval``: asks people before the stage begins. ``parallel``: all its jobs run at the same time."""

    name: str
    parallel: bool = False
    approval: dict[str, Any] | None = None
    jobs: list[dict[str, Any]]


class WorkflowBody(Described):
    """A definition, JSON or YAML. ``concurrency_limit``: -1 any number of tasks at once, 0 none (not executable).
    ``workflow_type``: ``custom`` or ``product``; both are run and looked at alike."""

    name: str
    display_name: str = ""
    project: str
    description: str = ""
    concurrency_limit: int = 0
    params: list[dict[str, Any]] = []
    stages: list[StageBody] = []
    notify_ctls: list[dict[str, Any]] = []
    share_storages: list[dict[str, Any]] = []
    disabled: bool = False
    workflow_type: str = "custom"


@ROUTES.get(
    "/openapi/workflows", in_query("get_workflow", shared=True), query=("projectKey!", "viewName"), reply=WorkflowList
)
async def list_workflows(call: Call) -> Any:
    """Workflows of a project."""
    rows = await workflows.list_workflows(call.ctx, call.actor, call.need(PROJECT), view=call.text(VIEW))
    return {"workflows": [workflow_line(row) for row in rows]}


@ROUTES.get(
    f"{_CUSTOM}/{{workflowKey}}/detail",
    in_query("get_workflow", workflow="workflowKey"),
    also=(f"{_CUSTOM}//detail",),
    query=("projectKey!",),
    reply=WorkflowDocument,
)
async def detail(call: Call) -> Any:
    """A workflow's definition. Sent back through "create" or "replace" it means the same."""
    key = call.path_value("workflowKey")
    if not key:
        raise bad_request("workflowKey is required")
    return workflow_document(await workflows.workflow_detail(call.ctx, call.actor, key, call.need(PROJECT)))


@ROUTES.post(
    _PRIVATE,
    by_operation("create_workflow"),
    also=(_CUSTOM,),
    faults={**_WRITING, domain.NotFound: _create_not_found},
    body=WorkflowBody,
    body_types=DEFINITION_TYPES,
    query=("viewName",),
)
async def create(call: Call) -> None:
    """Create a workflow."""
    await workflows.create_workflow(call.ctx, call.actor, await _definition(call), view=call.text(VIEW))


@ROUTES.post(
    f"{_PRIVATE}/lint",
    by_operation("get_workflow"),
    faults={**_WRITING, domain.NotFound: _create_not_found},
    body=WorkflowBody,
    body_types=DEFINITION_TYPES,
    reply=Linted,
)
async def lint(call: Call) -> Any:
    """The checks of creating a workflow, without storing it."""
    warnings = await workflows.lint_workflow(call.ctx, call.actor, await _definition(call))
    return {"message": "success", "warnings": list(warnings)} if warnings else None


@ROUTES.put(
    f"{_PRIVATE}/{{name}}",
    by_operation("edit_workflow"),
    also=(f"{_CUSTOM}/{{name}}",),
    faults={**_WRITING, domain.NotFound: Operation.FIND_WORKFLOW},
    body=WorkflowBody,
    body_types=DEFINITION_TYPES,
    query=("projectName!",),
)
async def replace(call: Call) -> None:
    """Replace a workflow's whole definition. A credential sent as ``********`` keeps its value."""
    body = await _definition(call)
    await workflows.replace_workflow(call.ctx, call.actor, call.path_value("name"), call.text(PROJECT), body)


@ROUTES.delete(
    _CUSTOM,
    in_query("delete_workflow", "edit_workflow", workflow="*"),
    faults={domain.NotFound: Operation.DELETE_WORKFLOW},
    query=("workflowKey!", "projectKey!"),
)
async def delete(call: Call) -> None:
    """Delete a workflow and its tasks; what runs is cancelled."""
    await workflows.delete_workflow(call.ctx, call.actor, call.need(WORKFLOW), call.need(PROJECT))


@ROUTES.delete(
    f"{_PRIVATE}/{{name}}",
    by_operation("delete_workflow", "edit_workflow"),
    faults={domain.NotFound: Operation.DELETE_WORKFLOW},
    query=("projectName",),
)
async def delete_named(call: Call) -> None:
    """Delete a workflow, named in the path."""
    await workflows.delete_workflow(call.ctx, call.actor, call.path_value("name"), call.text(PROJECT))


async def _definition(call: Call) -> dict[str, Any]:
    body, kind = await call.body(), call.headers.get("content-type", "")
    if len(body) > LARGE_BYTES:
        return await asyncio.to_thread(parse_definition, body, kind)
    return parse_definition(body, kind)
