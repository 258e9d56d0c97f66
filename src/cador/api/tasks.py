"""Workflow tasks: list, detail, execute, cancel, retry, approve. Source: API documents, workflow tasks."""

from typing import Any, Final

from pydantic import ConfigDict, Field

from cador.api import params
from cador.api.bodies import validate
from cador.api.catalogue import RETRY_STATUS, Operation
from cador.api.described import Described
from cador.api.detail_models import TaskDocument
from cador.api.errors import Refusal, bad_request
from cador.api.params import PROJECT, TASK, WORKFLOW
from cador.api.permissions import by_operation, in_body, in_query
from cador.api.routing import Call, Routes
from cador.api.run_body import RunBody, RunInput
from cador.api.started import idempotency_key, started_document
from cador.api.task_shapes import task_document, task_line
from cador.domain import errors as domain
from cador.operations import tasks
from cador.operations.task_values import LONGEST_REMARK, Ballot, JobInput, StartRequest

ROUTES: Final = Routes("workflow tasks")

TASK_PATH: Final = "/openapi/workflows/custom/task"


class RemarkBody(Described):
    """``remark``: empty takes it away."""

    model_config = ConfigDict(strict=True)

    remark: str = Field(max_length=LONGEST_REMARK)


class RunReply(Described):
    """The two ``_name`` values are the keys: the documents' oldest names of them. ``warnings``: what was accepted and
    not used."""

    project_name: str
    workflow_name: str
    project_key: str = ""
    workflow_key: str = ""
    task_id: int
    warnings: list[str] = []


class TaskLine(Described):
    """A task as lists show it. ``status``: created, running, passed, failed, timeout or cancelled. Times: Unix
    seconds, 0 when not reached. ``remark``: only where there is one."""

    workflow_key: str
    workflow_name: str
    project_key: str
    task_id: int
    create_time: int
    task_creator: str
    start_time: int
    end_time: int
    status: str
    remark: str = ""


class TaskList(Described):
    total: int
    workflow_tasks: list[TaskLine]


def no_task(operation: Operation) -> Any:
    return {domain.NotFound: operation}


@ROUTES.post(
    TASK_PATH,
    in_body("run_workflow", workflow="*"),
    faults={domain.NotFound: Operation.FIND_WORKFLOW},
    body=RunBody,
    idempotent=True,
    query=("strict:bool",),
    reply=RunReply,
    example={
        "project_name": "shop",
        "workflow_name": "shop-release",
        "project_key": "shop",
        "workflow_key": "shop-release",
        "task_id": 7,
    },
)
async def execute(call: Call) -> Any:
    """Execute a workflow."""
    sent = await call.object()
    body = validate(RunBody, sent)
    request = StartRequest(
        workflow_key=body.workflow_key,
        project_key=body.project_key,
        inputs=tuple(
            JobInput(given.job_name, given.job_type, raw.get("parameters") or {}, _breakpoints(given))
            for given, raw in zip(body.inputs, sent.get("inputs") or (), strict=True)
        ),
        parameters=tuple(given.model_dump(exclude_unset=True) for given in body.parameters),
        notify_inputs=tuple(given.model_dump(exclude_unset=True) for given in body.notify_inputs),
        # The documented requests know no remark: a client written from them works unchanged.
        remark=body.remark if "remark" in sent else None,
        strict=call.flag("strict"),
        idempotency_key=idempotency_key(call),
        auto_cancel=body.auto_cancel,
        debug=body.debug,
        approval_ticket_id=body.approval_ticket_id,
        approval_id=body.approval_id,
    )
    return started_document(await tasks.start_task(call.ctx, call.actor, request))


def _breakpoints(given: RunInput) -> tuple[str, ...]:
    wanted = (("before", given.breakpoint_before), ("after", given.breakpoint_after))
    return tuple(name for name, set_ in wanted if set_)


@ROUTES.get(
    TASK_PATH,
    by_operation("get_workflow"),
    query=("taskId:int!", "workflowKey!"),
    reply=TaskDocument,
)
async def detail(call: Call) -> Any:
    """One task with its stages, jobs, approvals and variables."""
    key, number, body = await _named_task(call)
    found = await tasks.task_detail(call.ctx, call.actor, key, number)
    name_is_key = any(
        any(call.query.get(spelling, ())) or (body or {}).get(spelling) for spelling in params.KEYS_OF_B_AND_C
    )
    return task_document(found, call.ctx.clock.now(), name_is_key=name_is_key)


@ROUTES.get(
    "/openapi/workflows/custom/{workflowKey}/tasks",
    in_query("get_workflow", workflow="workflowKey"),
    also=("/openapi/workflows/custom//tasks",),
    query=("projectKey!", "pageNum:int", "pageSize:int"),
    reply=TaskList,
)
async def list_tasks(call: Call) -> Any:
    """Tasks of a workflow, newest first."""
    key = call.path_value("workflowKey")
    if not key:
        raise bad_request("workflow name is required")
    page, size = call.page()
    found = await tasks.list_tasks(call.ctx, call.actor, key, call.need(PROJECT), page=page, size=size)
    return {"total": found.total, "workflow_tasks": [task_line(row) for row in found.rows]}


@ROUTES.put("/openapi/workflows/custom/{workflowKey}/task/{taskID}", by_operation("run_workflow"), body=RemarkBody)
async def remark(call: Call) -> None:
    """Change the remark of a task, whatever its status."""
    number = params.integer(call.path_value("taskID"))
    if number is None:
        raise bad_request("taskID is invalid")
    body = await call.parsed(RemarkBody)
    await tasks.set_remark(call.ctx, call.actor, call.path_value("workflowKey"), number, body.remark)


@ROUTES.delete(
    TASK_PATH,
    by_operation("run_workflow"),
    faults={domain.NotFound: Operation.CANCEL_TASK, domain.WrongStatus: Operation.CANCEL_TASK},
    query=("taskId:int!", "workflowKey!"),
)
async def cancel(call: Call) -> None:
    """Cancel a task: queued or running, it ends as soon as its processes are down."""
    key, number, _ = await _named_task(call)
    await tasks.cancel_task(call.ctx, call.actor, key, number)


@ROUTES.post(
    "/openapi/workflows/custom/{workflowKey}/task/{taskID}",
    in_query("run_workflow", workflow="workflowKey"),
    also=("/openapi/workflows/custom//task/{taskID}",),
    faults={
        domain.NotFound: Operation.GET_TASK,
        domain.WrongStatus: lambda error: Refusal(Operation.RETRY_TASK, RETRY_STATUS),
        domain.NotStartable: Operation.CREATE_TASK,
    },
    query=("projectKey!",),
)
async def retry(call: Call) -> None:
    """Retry a task: what did not pass runs once more, under the same number."""
    key, number = call.path_value("workflowKey"), params.integer(call.path_value("taskID"))
    if not key:
        raise bad_request("workflowKey is required")
    if number is None:
        raise bad_request("taksID is invalid")  # sic
    await tasks.retry_task(call.ctx, call.actor, key, number, call.need(PROJECT))


class ApproveBody(Described):
    """A vote. Leaving out ``approve`` rejects."""

    model_config = ConfigDict(json_schema_extra=params.spelled(WORKFLOW, TASK, params.STAGE))

    task_id: int
    workflow_key: str
    stage_name: str
    approve: bool = False
    comment: str = Field("", max_length=LONGEST_REMARK)


@ROUTES.post(
    "/openapi/workflows/custom/task/approve",
    by_operation(),
    faults={domain.NotFound: Operation.APPROVE_TASK},
    query=("taskId:int", "workflowKey", "stage_name", "approve:bool", "comment"),
    body=ApproveBody,
    body_optional=True,
)
async def approve(call: Call) -> None:
    """Approve or reject: listed approvers only. In the query or in the body."""
    body = await call.object_or_none()
    query = call.query
    number = params.int_of(TASK, query, body) or 0
    key = params.text_of(WORKFLOW, query, body)
    stage = params.text_of(params.STAGE, query, body)
    vote = params.bool_of(params.APPROVE, query, body) or False
    comment = params.text_of(params.COMMENT, query, body)
    if len(comment) > LONGEST_REMARK:
        raise bad_request(f"comment is longer than {LONGEST_REMARK} characters")
    if not number or not key or not stage:
        raise Refusal(Operation.APPROVE_TASK, f"can not find approved workflow: {key}, taskID: {number},stage: {stage}")
    await tasks.approve(call.ctx, call.actor, Ballot(key, number, stage, vote, comment))


async def _named_task(call: Call) -> tuple[str, int, dict[str, Any] | None]:
    """Workflow key and task number, from the query or, where not there, from a JSON body; and the body."""
    body = await call.object_or_none()
    key = params.text_of(WORKFLOW, call.query, body)
    number = params.int_of(TASK, call.query, body)
    if not key:
        raise bad_request("workflowKey is required")
    if number is None:
        raise bad_request("taskId is required")
    return key, number, body
