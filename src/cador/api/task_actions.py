"""What a person does to a task that exists: run parts of it again, execute a manual stage, compare attempts."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import ConfigDict, Field

from cador.api import own_models, params
from cador.api.bodies import validate
from cador.api.catalogue import Operation
from cador.api.described import Described
from cador.api.errors import bad_request
from cador.api.own import TASK, named_task, step_document, time
from cador.api.params import PROJECT
from cador.api.permissions import by_operation
from cador.api.routing import Call, Routes
from cador.api.run_body import RunInput
from cador.api.statuses import job_status, task_detail_status, task_status
from cador.api.tasks import RemarkBody
from cador.domain import errors as domain
from cador.operations.attempts import AttemptView, job_attempts
from cador.operations.manual_stages import execute_stage, paused_stage
from cador.operations.retrying import retry_task
from cador.operations.task_values import Edits, ExecuteRequest, JobInput, RetryRequest
from cador.operations.tasks import set_remark

ROUTES: Final = Routes("task actions")

_MANUAL: Final = "/openapi/workflows/custom/{workflowKey}/task/{taskID}/manual-exec"


class RepoValue(Described):
    """Another source for a variable of type ``repo``; what is left out stays as configured."""

    model_config = ConfigDict(strict=True)

    branch: str = ""
    prs: list[int] = []


class RetryBody(Described):
    """What runs again, and with what. Nothing: all that did not pass, as it is.

    ``jobs``: of what failed only these, also while others still run. ``from``: this job and all that follows it, passed
    or not. ``parameters``: other values of workflow variables, by name; of a repository its branch.
    ``inputs``: other inputs of jobs, as at a start; what they do not name stays. A task keeps the jobs it has. Other
    members are refused: a word that is spelled wrongly would run everything.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    jobs: list[str] = Field(default=[], max_length=1000)
    from_: str = Field("", alias="from")
    parameters: dict[str, str | RepoValue] = {}
    inputs: list[RunInput] = []


class ExecuteBody(Described):
    """``jobs``: names of the stage's jobs that run, the others are skipped; absent: all. ``inputs``: other inputs of
    them, as at a start. Both only where the stage allows it (``modify_params``)."""

    model_config = ConfigDict(strict=True)

    stage_name: str = ""
    jobs: list[str] | None = None
    inputs: list[RunInput] = []


class Executor(Described):
    type: str
    user_id: str
    user_name: str
    group_id: str
    group_name: str


class PausedReply(Described):
    """``stage_name``: what waits to be executed, empty when nothing does. ``executors``: who may, empty when everybody
    may who may run the workflow."""

    project_key: str
    workflow_key: str
    task_id: int
    status: str
    status_detail: str
    stage_name: str
    can_execute: bool
    modify_params: bool
    executors: list[Executor]


@ROUTES.post(
    f"{TASK}/retry",
    by_operation("run_workflow"),
    faults={domain.WrongStatus: Operation.RETRY_TASK},
    body=RetryBody,
)
async def retry(call: Call) -> None:
    """Run a task again, or some of its jobs, also with other values."""
    key, number = named_task(call)
    sent = await call.object_or_none() or {}
    body = validate(RetryBody, sent)
    if body.jobs and body.from_:
        raise bad_request("jobs and from exclude each other")
    parameters = tuple(_parameter(name, value) for name, value in body.parameters.items())
    edits = Edits(parameters, _inputs(body.inputs, sent))
    request = RetryRequest(tuple(body.jobs), body.from_, edits)
    await retry_task(call.ctx, call.actor, key, number, request=request)


def _parameter(name: str, value: str | RepoValue) -> Mapping[str, Any]:
    if isinstance(value, str):
        return {"name": name, "value": value}
    return {"name": name, "type": "repo", "repo": value.model_dump(exclude_unset=True)}


def _inputs(inputs: Sequence[RunInput], sent: Mapping[str, Any]) -> tuple[JobInput, ...]:
    """Parameters as they were sent: what is absent must not become a default."""
    return tuple(
        JobInput(given.job_name, given.job_type, raw.get("parameters") or {})
        for given, raw in zip(inputs, sent.get("inputs") or (), strict=True)
    )


@ROUTES.get(f"{TASK}/jobs/{{job}}/attempts", by_operation("get_workflow"), reply=own_models.Attempts)
async def attempts(call: Call) -> Any:
    """The attempts of one job: how each went, what was changed before it, and where its log is."""
    key, number = named_task(call)
    found = await job_attempts(call.ctx, call.actor, key, number, call.path_value("job"))
    log = f"{call.path.removesuffix('/attempts')}/log" if found.logged else ""
    return {
        "job": found.job.name,
        "type": found.job.type,
        "attempts": [_attempt(view, log, call.ctx.clock.now()) for view in found.attempts],
    }


def _attempt(view: AttemptView, log: str, now: float) -> dict[str, Any]:
    row = view.row
    took = None if row.start_at is None else max(0.0, (row.end_at if row.end_at is not None else now) - row.start_at)
    return {
        "attempt": row.attempt,
        "status": job_status(row.status),
        "error": row.error,
        "started_at": time(row.start_at),
        "ended_at": time(row.end_at),
        "took_s": round(took, 3) if took is not None else None,
        "changes": list(view.changes),
        "steps": [step_document(step) for step in row.steps],
        "log": f"{log}?attempt={row.attempt}" if log else None,
    }


@ROUTES.put(f"{TASK}/remark", by_operation("run_workflow"), body=RemarkBody)
async def remark(call: Call) -> None:
    """Change the remark of a task, whatever its status."""
    key, number = named_task(call)
    body = await call.parsed(RemarkBody)
    await set_remark(call.ctx, call.actor, key, number, body.remark)


@ROUTES.get(
    _MANUAL,
    by_operation("get_workflow"),
    faults={domain.NotFound: Operation.GET_TASK},
    query=("projectKey!",),
    reply=PausedReply,
)
async def paused(call: Call) -> Any:
    """The manual stage a task waits before, and who may execute it."""
    key, number, project = _named(call)
    found = await paused_stage(call.ctx, call.actor, key, number, project)
    return {
        "project_key": found.row.project,
        "workflow_key": found.row.workflow_key,
        "task_id": found.row.number,
        "status": task_status(found.row),
        "status_detail": task_detail_status(found.row),
        "stage_name": found.stage,
        "can_execute": found.can_execute,
        "modify_params": found.executors.modify_params,
        "executors": [
            {"type": "user", "user_id": uid, "user_name": name, "group_id": "", "group_name": ""}
            for uid, name in found.executors.users
        ],
    }


@ROUTES.post(
    _MANUAL,
    by_operation("run_workflow"),
    faults={domain.NotFound: Operation.GET_TASK},
    query=("projectKey!",),
    body=ExecuteBody,
)
async def execute(call: Call) -> None:
    """Execute a manual stage: the task waits for its turn and goes on there."""
    key, number, project = _named(call)
    sent = await call.object_or_none() or {}
    body = validate(ExecuteBody, sent)
    if not body.stage_name:
        raise bad_request("stage_name is required")
    jobs = tuple(body.jobs) if body.jobs is not None else None
    request = ExecuteRequest(body.stage_name, jobs, _inputs(body.inputs, sent))
    await execute_stage(call.ctx, call.actor, key, number, project, request)


def _named(call: Call) -> tuple[str, int, str]:
    project = call.need(PROJECT)
    number = params.integer(call.path_value("taskID"))
    if number is None:
        raise bad_request("taskID is invalid")
    return call.path_value("workflowKey"), number, project
