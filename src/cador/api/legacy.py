"""Routes of the oldest editions, under ``/api/directory/``. Source: API documents, workflows.

Their errors carry ``resultCode`` and ``errorMsg`` beside the usual keys (see :mod:`cador.api.errors`). How a success of
cancelling and restarting looks depends on how the token came: the scheme ``X-API-KEY`` is that of the first edition.
"""

import json
from typing import Any, Final
from urllib.parse import quote, urlencode

from pydantic import Field

from cador.api import params
from cador.api.bodies import validate
from cador.api.catalogue import NO_ENVIRONMENT, RETRY_NO_TASK, RETRY_PASSED, Operation, Text
from cador.api.described import Described, DescribedRoot
from cador.api.errors import LEGACY_PREFIX, Refusal, bad_request
from cador.api.lenient import LenientBody, Listed
from cador.api.params import WORKFLOW
from cador.api.permissions import LOGGED_IN, by_operation
from cador.api.routing import Call, Routes
from cador.api.started import idempotency_key, started_document
from cador.api.statuses import task_status
from cador.api.task_shapes import seconds
from cador.api.tasks import RunReply
from cador.domain import errors as domain
from cador.operations import legacy, tasks
from cador.operations.callbacks import parse_callback
from cador.operations.product import ByTargets, GivenImage, RepoChoice, Target
from cador.operations.task_values import StartRequest
from cador.ports.stores import TaskRow

ROUTES: Final = Routes("workflows, oldest editions")

COMMIT: Final = params.Name(("commitId", "commit_id"))
_TASKS: Final = f"{LEGACY_PREFIX}workflowTask"
_TASK: Final = f"{_TASKS}/id/{{id}}/pipelines/{{pipelineName}}"
_OLDEST: Final = "x-api-key"
_SERVICE_TYPES: Final = ("", "k8s", "helm")


class CommitTask(Described):
    """``status``: created, running, passed, failed, timeout or cancelled. Times: Unix seconds, 0 when not reached."""

    task_id: int
    create_time: int
    start_time: int
    end_time: int
    status: str
    url: str


class CommitTasks(DescribedRoot[list[CommitTask]]):
    """Newest first."""


@ROUTES.get(
    _TASKS,
    LOGGED_IN,
    query=("commitId!",),
    reply=CommitTasks,
    example=[
        {
            "task_id": 49,
            "create_time": 1639466317,
            "start_time": 1639466318,
            "end_time": 1639466354,
            "status": "passed",
            "url": "https://ci.example.com/v1/projects/detail/shop/pipelines/multi/shop-release/49",
        }
    ],
)
async def of_commit(call: Call) -> Any:
    """Tasks that worked on a commit, newest first: a whole id, or what it begins with."""
    commit = call.text(COMMIT)
    if not commit:
        raise bad_request("commitId is required")
    rows = await legacy.tasks_of_commit(call.ctx, call.actor, commit)
    base = call.ctx.options().base_url
    return [
        {
            "task_id": row.number,
            "create_time": seconds(row.create_at),
            "start_time": seconds(row.start_at),
            "end_time": seconds(row.end_at),
            "status": task_status(row),
            "url": _console_url(base, row),
        }
        for row in rows
    ]


def _console_url(base: str, row: TaskRow) -> str:
    kind = "multi" if row.type == "product" else "custom"
    project, key = quote(row.project, safe=""), quote(row.workflow_key, safe="")
    return f"{base.rstrip('/')}/v1/projects/detail/{project}/pipelines/{kind}/{key}/{row.number}"


# -- one task


def _named(call: Call) -> tuple[str, int]:
    number = params.integer(call.path_value("id"))
    if number is None:
        raise bad_request("invalid task id")
    return call.path_value("pipelineName"), number


_SUCCESS: Final = {
    "oneOf": [
        {"$ref": "#/components/schemas/Success"},
        {
            "type": "object",
            "description": "to a token sent as X-API-KEY",
            "properties": {"resultCode": {"const": 0}, "errorMsg": {"const": "success"}},
            "required": ["resultCode", "errorMsg"],
        },
    ]
}


def _success(call: Call) -> dict[str, Any] | None:
    return {"resultCode": 0, "errorMsg": "success"} if call.scheme == _OLDEST else None


@ROUTES.post(
    f"{_TASK}/restart",
    by_operation("run_workflow"),
    faults={
        domain.NotFound: lambda error: Refusal(Operation.RETRY_TASK, RETRY_NO_TASK),
        domain.WrongStatus: lambda error: Refusal(Operation.RETRY_TASK, RETRY_PASSED),
        domain.NotStartable: Operation.CREATE_TASK,
    },
    reply=_SUCCESS,
)
async def restart(call: Call) -> Any:
    """Retry a task: what did not pass runs once more, under the same number."""
    key, number = _named(call)
    await tasks.retry_task(call.ctx, call.actor, key, number)
    return _success(call)


@ROUTES.post(
    f"{_TASK}/cancel",
    by_operation("run_workflow"),
    faults={domain.NotFound: Operation.CANCEL_TASK, domain.WrongStatus: Operation.CANCEL_TASK},
    reply=_SUCCESS,
)
async def cancel(call: Call) -> Any:
    """Cancel a task: queued or running, it ends as soon as its processes are down."""
    key, number = _named(call)
    await tasks.cancel_task(call.ctx, call.actor, key, number)
    return _success(call)


class TargetRepo(Described):
    repo_name: str
    branch: str
    pr: int


class TargetBuild(Described):
    repos: list[TargetRepo]


class TargetLine(Described):
    """``name``: the service. ``service_type``: k8s or helm."""

    name: str
    service_type: str
    build: TargetBuild


class ImageLine(Described):
    """``registry_repo``: address and namespace of the registry."""

    image: str
    service_name: str
    registry_repo: str


class FunctionTestReport(Described):
    tests: int
    successes: int
    failures: int
    skips: int
    errors: int
    detail_url: str


class ReportLine(Described):
    test_name: str
    function_test_report: FunctionTestReport


class TargetsReply(Described):
    """``targets``: a line for each module that is built; ``images``: of builds that have passed."""

    workflow_name: str
    env_name: str
    status: str
    targets: list[TargetLine]
    images: list[ImageLine]
    test_reports: list[ReportLine]


def _no_task(error: domain.NotFound) -> Refusal:
    """The documents show the answer of a server behind the server, as text."""
    zh, en = (
        json.dumps(
            {
                "code": Operation.GET_TASK.code,
                "description": "",
                "extra": {},
                "message": Operation.GET_TASK.message(language),
                "type": "error",
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for language in ("zh", "en")
    )
    return Refusal(Operation.INTERNAL, Text(f"[400 BadRequest] {zh}", f"[400 BadRequest] {en}"))


@ROUTES.get(_TASK, by_operation("get_workflow"), faults={domain.NotFound: _no_task}, reply=TargetsReply)
async def detail(call: Call) -> Any:
    """A task as what it builds, the images it has built and its test reports."""
    key, number = _named(call)
    found = await legacy.targets_detail(call.ctx, call.actor, key, number)
    return {
        "workflow_name": found.row.workflow_key,
        "env_name": found.env,
        "status": task_status(found.row),
        "targets": [
            {
                "name": target.service,
                "service_type": target.service_type,
                "build": {
                    "repos": [{"repo_name": repo.name, "branch": repo.branch, "pr": repo.pr} for repo in target.repos]
                },
            }
            for target in found.targets
        ],
        "images": [
            {"image": image.image, "service_name": image.service, "registry_repo": image.registry}
            for image in found.images
        ],
        "test_reports": [
            {
                "test_name": report.test,
                "function_test_report": {
                    **{name: report.facts[name] for name in ("tests", "successes", "failures", "skips", "errors")},
                    "detail_url": _report_url(found.row, report.test),
                },
            }
            for report in found.reports
        ],
    }


def _report_url(row: TaskRow, test: str) -> str:
    project, key = quote(row.project, safe=""), quote(row.workflow_key, safe="")
    query = urlencode({"is_workflow": 1, "service_name": test, "test_type": "function"})
    path = f"/v1/projects/detail/{project}/pipelines/multi/testcase/{key}/{row.number}/test/{key}-{row.number}-test"
    return f"{path}?{query}"


# -- start


class RepoChoiceBody(LenientBody):
    """A repository of a build, meant by its name. ``pr``: of a pull request; 0: none."""

    repo_name: str = Field(min_length=1)
    branch: str
    pr: int = Field(0, ge=0)


class BuildChoiceBody(LenientBody):
    repos: Listed[RepoChoiceBody]


class ServiceTargetBody(LenientBody):
    """``name``: of the service; all its modules are built. ``service_type``: ``k8s`` or ``helm``."""

    name: str = Field(min_length=1)
    service_type: str = "k8s"
    build: BuildChoiceBody


class ReleaseImage(LenientBody):
    """An image to distribute."""

    image: str = Field(min_length=1)
    service_name: str = Field(min_length=1)
    service_module: str = Field(min_length=1)


class CallbackBody(LenientBody):
    """``callback_url``: http or https, may be percent-encoded; told once the task has ended, with ``callback_vars``."""

    callback_url: str
    callback_vars: dict[str, Any] | None = None


class CreateBody(LenientBody):
    """Build the services of ``targets`` and deploy them, distribute ``release_images``: one of the two, or both.

    ``env_name``: where to; several, separated by commas: the one with the fewest unfinished tasks."""

    workflow_name: str
    env_name: str = ""
    targets: Listed[ServiceTargetBody] = Field(default_factory=list)
    release_images: Listed[ReleaseImage] = Field(default_factory=list)
    callback: CallbackBody | None = None
    approval_ticket_id: str = ""
    approval_id: str = ""


@ROUTES.post(
    f"{_TASKS}/create",
    by_operation("run_workflow"),
    faults={
        legacy.NoEnvironment: lambda error: Refusal(
            Operation.CREATE_TASK, NO_ENVIRONMENT.format(project=error.project, env=error.name)
        ),
        domain.NotFound: Operation.FIND_WORKFLOW,
    },
    body=CreateBody,
    idempotent=True,
    query=("strict:bool",),
    reply=RunReply,
)
async def create(call: Call) -> Any:
    """Execute a workflow: build and deploy services, distribute images."""
    sent = await call.object()
    key = params.text_of(params.Name((), WORKFLOW.body), {}, sent)
    if not key:
        raise bad_request("workflow_name is required")
    project = await legacy.project_to_run(call.ctx, call.actor, key)
    body = validate(CreateBody, {**sent, "workflow_name": key})
    if any(target.service_type not in _SERVICE_TYPES for target in body.targets):
        raise bad_request("Unsupported service type")
    told = body.callback
    callback = parse_callback(told.callback_url, told.callback_vars) if told is not None else None
    request = StartRequest(
        key,
        project,
        remark=None,
        strict=call.flag("strict"),
        idempotency_key=idempotency_key(call),
        callback=callback,
        approval_ticket_id=body.approval_ticket_id,
        approval_id=body.approval_id,
    )
    return started_document(await legacy.start_by_targets(call.ctx, call.actor, request, _wanted(body)))


def _wanted(body: CreateBody) -> ByTargets:
    return ByTargets(
        body.env_name,
        tuple(
            Target(
                target.name,
                tuple(RepoChoice(repo.repo_name, repo.branch, repo.pr) for repo in target.build.repos),
            )
            for target in body.targets
        ),
        tuple(GivenImage(one.service_name, one.service_module, one.image) for one in body.release_images),
    )
