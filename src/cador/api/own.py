"""A task as the server's own routes under ``/api/v1`` show it: problem details, RFC 3339 times.

The command line and the web pages use them beside the documents' routes.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from pydantic import ConfigDict
from starlette.responses import Response

from cador.api import own_models
from cador.api.described import Described
from cador.api.errors import bad_request
from cador.api.params import integer
from cador.api.permissions import by_operation
from cador.api.routing import Call, Routes
from cador.api.statuses import job_status, task_detail_status, task_status
from cador.api.streams import bytes_answer
from cador.api.task_shapes import param_document, queue_document
from cador.operations import tasks
from cador.operations.artifacts import find_artifact
from cador.operations.notify_inputs import recipients_of
from cador.operations.task_values import ApprovalView, AttemptRow, JobView, StageView, TaskDetail

ROUTES: Final = Routes("server")

Doc = dict[str, Any]

TASK: Final = "/api/v1/tasks/{workflow}/{number}"
_DOWNLOAD: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""An artifact is what some job wrote: a browser must neither show it as a page of ours nor run it."""


class DecisionBody(Described):
    """``ignore``: go on as if the job had passed; false: let the failure stand."""

    model_config = ConfigDict(strict=True)

    ignore: bool


def time(at: float | None) -> str | None:
    """RFC 3339 in UTC with milliseconds; None when not reached."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@ROUTES.get(TASK, by_operation("get_workflow"), reply=own_models.OwnTask)
async def detail(call: Call) -> Any:
    """One task: stages, jobs, attempts, steps, warnings, and why it waits."""
    key, number = named_task(call)
    return task_document(await tasks.task_detail(call.ctx, call.actor, key, number))


@ROUTES.get(f"{TASK}/artifacts", by_operation("get_workflow"), reply=own_models.ArtifactList)
async def artifacts(call: Call) -> Any:
    """Files that the jobs of a task left behind."""
    key, number = named_task(call)
    found = await tasks.task_artifacts(call.ctx, call.actor, key, number)
    return {"artifacts": [{"path": path, "size": size} for path, size in found]}


@ROUTES.get(
    f"{TASK}/artifacts/{{path:path}}", by_operation("get_workflow"), reply_type="application/octet-stream", head=True
)
async def artifact(call: Call) -> Response:
    """Download one file; ``Range`` is served."""
    key, number = named_task(call)
    found = await find_artifact(call.ctx, call.actor, key, number, call.path_value("path"))
    blobs = call.ctx.blobs
    return bytes_answer(
        lambda start, limit: blobs.read(found.key, start, limit),
        found.size,
        call.headers,
        media_type="application/octet-stream",
        gzip=False,
        extra={**_DOWNLOAD, "Content-Disposition": f"attachment; filename*=UTF-8''{quote(found.name, safe='')}"},
    )


@ROUTES.post(f"{TASK}/jobs/{{job}}/decision", by_operation("get_workflow"), body=DecisionBody)
async def decide(call: Call) -> None:
    """Decide about a failed job that waits for it: ignore the failure, or let it stand. Listed people only."""
    key, number = named_task(call)
    body = await call.parsed(DecisionBody)
    await tasks.decide(call.ctx, call.actor, key, number, call.path_value("job"), ignore=body.ignore)


def named_task(call: Call) -> tuple[str, int]:
    """Workflow key and number of the task in the path. Raises: Refusal."""
    number = integer(call.path_value("number"))
    if number is None:
        raise bad_request("invalid task number")
    return call.path_value("workflow"), number


# -- shapes


def task_document(found: TaskDetail) -> Doc:
    """A task with all that is known of it."""
    row = found.row
    attempts: dict[int, list[AttemptRow]] = {}
    for attempt in found.attempts:
        attempts.setdefault(attempt.job_id, []).append(attempt)
    return {
        "workflow": row.workflow_key,
        "workflow_name": row.display_name,
        "project": row.project,
        "number": row.number,
        "status": task_status(row),
        "status_detail": task_detail_status(row),
        "error": row.error,
        "creator": row.creator,
        "trigger": row.trigger,
        "revoker": row.revoker,
        "remark": row.remark,
        "timeout_min": found.timeout_min,
        "auto_cancel": found.auto_cancel,
        "debug": found.debug,
        "archived": found.archived,
        "retries": row.retry_num,
        "created_at": time(row.create_at),
        "started_at": time(row.start_at),
        "ended_at": time(row.end_at),
        "params": [param_document(param) for param in found.params],
        "stages": [_stage(stage, attempts) for stage in found.stages],
        "notifications": [
            {
                "type": notification.get("webhook_type", ""),
                "enabled": notification.get("enabled") is True,
                "events": notification.get("notify_type") or [],
                "recipients": recipients_of(notification),
            }
            for notification in found.notify_ctls
        ],
        "warnings": list(found.warnings),
        "queue": queue_document(found.queue, row.workflow_key, time) if found.queue is not None else None,
    }


def _stage(stage: StageView, attempts: Mapping[int, Sequence[AttemptRow]]) -> Doc:
    return {
        "name": stage.name,
        "parallel": stage.parallel,
        "status": stage.status,
        "error": stage.error,
        "started_at": time(stage.start_at),
        "ended_at": time(stage.end_at),
        "approval": approval_document(stage.approval),
        "manual": manual_document(stage),
        "jobs": [_job(job, attempts.get(job.row.id, ())) for job in stage.jobs],
    }


def _job(job: JobView, attempts: Sequence[AttemptRow]) -> Doc:
    row = job.row
    return {
        "name": row.name,
        "key": row.key,
        "display_name": row.display_name,
        "job": row.job,
        "type": row.type,
        "status": job_status(row.status),
        "error": row.error,
        "attempt": row.attempt,
        "retry_count": row.retry_count,
        "started_at": time(row.start_at),
        "ended_at": time(row.end_at),
        "deadline_at": time(row.deadline_at),
        "spec": job.spec,
        "approval": approval_document(job.approval),
        "warnings": list(row.result.get("warnings", ())),
        "attempts": [
            {
                "attempt": attempt.attempt,
                "status": job_status(attempt.status),
                "error": attempt.error,
                "started_at": time(attempt.start_at),
                "ended_at": time(attempt.end_at),
                "steps": [step_document(step) for step in attempt.steps],
            }
            for attempt in attempts
        ],
    }


def step_document(step: Mapping[str, Any]) -> Doc:
    """A step as stored, its Unix times in RFC 3339."""
    found = {key: value for key, value in step.items() if key not in ("start_time", "end_time")}
    return {**found, "started_at": time(step.get("start_time") or None), "ended_at": time(step.get("end_time") or None)}


def manual_document(stage: StageView) -> Doc | None:
    """Who may execute a manual stage, and who has. ``executors``: null when all may who may run the workflow."""
    executors = stage.executors
    if executors is None:
        return None
    people = [{"user_id": uid, "user_name": name} for uid, name in executors.users]
    return {
        "modify_params": executors.modify_params,
        "executors": None if executors.everybody else people,
        "executed_by": stage.executed_by,
    }


def approval_document(approval: ApprovalView | None) -> Doc | None:
    """Who may vote, who has, and what came of it."""
    if approval is None:
        return None
    return {
        "type": approval.type,
        "description": approval.description,
        "status": approval.status,
        "needed": approval.needed,
        "timeout_min": approval.timeout_min,
        "started_at": time(approval.start_at),
        "ended_at": time(approval.end_at),
        "voters": [
            {
                "user_id": voter.user_id,
                "user_name": voter.user_name,
                "vote": voter.vote,
                "comment": voter.comment,
                "at": time(voter.at),
            }
            for voter in approval.voters
        ],
    }
