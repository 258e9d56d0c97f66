"""Product workflows: run by services, look at tasks, delete. Source: API documents, product workflows.

There is one kind of workflow and one key space: every route here takes the key of any workflow.
"""

from typing import Any, Final

from pydantic import ConfigDict, Field, model_validator

from cador.api import params
from cador.api.bodies import validate
from cador.api.catalogue import Operation
from cador.api.described import Described, DescribedRoot
from cador.api.errors import Refusal, bad_request
from cador.api.lenient import LenientBody, Listed
from cador.api.params import PROJECT, WORKFLOW, respelled
from cador.api.permissions import in_body, in_query
from cador.api.routing import Call, Routes
from cador.api.run_body import KeyValue, RunRepoInput
from cador.api.started import idempotency_key, started_document
from cador.api.task_shapes import task_line
from cador.api.tasks import RunReply, TaskLine
from cador.domain import errors as domain
from cador.operations import tasks, workflows
from cador.operations.finding import find_row
from cador.operations.product import ByServices, GivenImage, ServiceBuild
from cador.operations.task_values import StartRequest

ROUTES: Final = Routes("product workflows")

_PRODUCT: Final = "/openapi/workflows/product"
_TASK: Final = f"{_PRODUCT}/{{workflowKey}}/task/{{taskID}}"


class BuildService(LenientBody):
    """A module to build."""

    service_module: str = Field(min_length=1)
    service_name: str = Field(min_length=1)
    repo_info: Listed[RunRepoInput] = Field(default_factory=list)
    inputs: Listed[KeyValue] = Field(default_factory=list)


class BuildArgs(LenientBody):
    """``service_list``: exactly these modules; absent: those that are configured."""

    enabled: bool = False
    service_list: Listed[BuildService] | None = None


class DeployService(LenientBody):
    """A module to deploy. ``image``: required unless it is built in this run; ``image_name`` is the same."""

    service_module: str = Field(min_length=1)
    service_name: str = Field(min_length=1)
    image: str = ""
    image_name: str = ""

    @model_validator(mode="before")
    @classmethod
    def _one_image(cls, value: Any) -> Any:
        return respelled(value, (IMAGE,)) if isinstance(value, dict) else value


class DeployArgs(LenientBody):
    """``source``: ``zadig`` when the images come from the build of this run."""

    enabled: bool = False
    source: str = ""
    service_list: Listed[DeployService] = Field(default_factory=list)


class ProductInput(LenientBody):
    target_env: str = ""
    build: BuildArgs = Field(default_factory=BuildArgs)
    deploy: DeployArgs = Field(default_factory=DeployArgs)


class ProductRunBody(LenientBody):
    """Build modules, deploy modules, or both; jobs of other types run as they are configured."""

    workflow_key: str
    project_key: str
    input: ProductInput
    approval_ticket_id: str = ""
    approval_id: str = ""

    model_config = ConfigDict(json_schema_extra=params.spelled(WORKFLOW, PROJECT))

    @model_validator(mode="before")
    @classmethod
    def _respell(cls, value: Any) -> Any:
        return respelled(value, (WORKFLOW, PROJECT)) if isinstance(value, dict) else value


IMAGE: Final = params.Name((), ("image", "image_name"))


class ProductTask(Described):
    """A task as lists of product workflows show it. Times: Unix seconds, 0 when not reached."""

    workflow_key: str
    project_key: str
    task_id: int
    create_time: int
    task_creator: str
    start_time: int
    end_time: int
    status: str


class ProductTasks(DescribedRoot[list[ProductTask]]):
    """Newest first."""


@ROUTES.post(
    f"{_PRODUCT}/task",
    in_body("run_workflow", required="projectKey cannot be empty", workflow="*"),
    faults={domain.NotFound: Operation.FIND_WORKFLOW},
    body=ProductRunBody,
    idempotent=True,
    query=("strict:bool",),
    reply=RunReply,
)
async def execute(call: Call) -> Any:
    """Execute a workflow by services: build them, deploy them, or both."""
    sent = await call.object()
    if not params.text_of(params.Name((), WORKFLOW.body), {}, sent):
        raise bad_request("workflowKey cannot be empty")
    if sent.get("input") is None:
        raise bad_request("input cannot be empty")
    body = validate(ProductRunBody, sent)
    request = StartRequest(
        body.workflow_key,
        body.project_key,
        remark=None,
        strict=call.flag("strict"),
        idempotency_key=idempotency_key(call),
        choose=_selection(body.input),
        approval_ticket_id=body.approval_ticket_id,
        approval_id=body.approval_id,
    )
    return started_document(await tasks.start_task(call.ctx, call.actor, request))


def _selection(given: ProductInput) -> ByServices:
    listed = given.build.service_list
    return ByServices(
        target_env=given.target_env,
        build=given.build.enabled,
        build_list=None if listed is None else tuple(_build(service) for service in listed),
        deploy=given.deploy.enabled,
        deploy_source=given.deploy.source,
        deploy_list=tuple(
            GivenImage(service.service_name, service.service_module, service.image)
            for service in given.deploy.service_list
        ),
    )


def _build(service: BuildService) -> ServiceBuild:
    return ServiceBuild(
        service.service_name,
        service.service_module,
        tuple(repo.model_dump(exclude_unset=True) for repo in service.repo_info),
        tuple(value.model_dump(include={"key", "value"}) for value in service.inputs),
    )


@ROUTES.get(
    _TASK,
    in_query("get_workflow", workflow="workflowKey"),
    faults={domain.NotFound: lambda error: Refusal(Operation.GET_TASK)},
    query=("projectKey!",),
    reply=TaskLine,
)
async def detail(call: Call) -> Any:
    """One task of a workflow, in a few words."""
    number = params.integer(call.path_value("taskID"))
    if number is None:
        raise bad_request("taskID is required")
    key = call.path_value("workflowKey")
    row = await find_row(call.ctx, call.actor, "get_workflow", key, number, call.need(PROJECT))
    return task_line(row)


@ROUTES.get(
    f"{_PRODUCT}/{{workflowKey}}/tasks",
    in_query("get_workflow", workflow="workflowKey"),
    also=(f"{_PRODUCT}//tasks",),
    query=("projectKey!", "pageNum:int", "pageSize:int"),
    reply=ProductTasks,
)
async def list_tasks(call: Call) -> Any:
    """Tasks of a workflow as a bare list, newest first."""
    key = call.path_value("workflowKey")
    if not key:
        raise bad_request("workflowKey is required")
    page, size = call.page()
    found = await tasks.list_tasks(call.ctx, call.actor, key, call.need(PROJECT), page=page, size=size)
    return [{name: value for name, value in task_line(row).items() if name != "workflow_name"} for row in found.rows]


@ROUTES.delete(
    _PRODUCT,
    in_query("delete_workflow", "edit_workflow", workflow="*"),
    query=("workflowKey!", "projectKey!"),
)
async def delete(call: Call) -> None:
    """Delete a workflow and its tasks; what runs is cancelled."""
    await workflows.delete_workflow(call.ctx, call.actor, call.need(WORKFLOW), call.need(PROJECT))
