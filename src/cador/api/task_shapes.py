"""Tasks as the documents show them. Source: API documents, "Get Workflow Task Details", "Get Workflow Task List"."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from cador.api.statuses import job_status, task_detail_status, task_status
from cador.operations.forecasts import Forecast
from cador.operations.task_values import ApprovalView, JobView, StageView, TaskDetail
from cador.operations.why import Wait, Why
from cador.ports.stores import TaskRow

Doc = dict[str, Any]

_DECISIONS: Final = frozenset({"approve", "reject"})
_APPROVAL_STATUS: Final[Mapping[str, str]] = {
    "": "",
    "waiting": "wait_for_approval",
    "approve": "passed",
    "reject": "reject",
    "timeout": "timeout",
    "cancelled": "cancelled",
}


def seconds(at: float | None) -> int:
    """Unix seconds on the wire; 0 is "not yet"."""
    return int(at) if at is not None else 0


def task_line(row: TaskRow) -> Doc:
    """An element of the task list."""
    line: Doc = {
        "workflow_key": row.workflow_key,
        "workflow_name": row.display_name,
        "project_key": row.project,
        "task_id": row.number,
        "create_time": seconds(row.create_at),
        "task_creator": row.creator,
        "start_time": seconds(row.start_at),
        "end_time": seconds(row.end_at),
        "status": task_status(row),
    }
    if row.remark:
        line["remark"] = row.remark
    return line


def task_document(detail: TaskDetail, now: float, *, name_is_key: bool) -> Doc:
    """The whole task. *name_is_key*: the caller spoke a dialect in which ``workflow_name`` is the key. *now*: Unix
    seconds, for the cost of what still runs."""
    row = detail.row
    doc: Doc = {
        "task_id": row.number,
        "workflow_key": row.workflow_key,
        "workflow_name": row.workflow_key if name_is_key else row.display_name,
        "workflow_display_name": row.display_name,
        "project_key": row.project,
        "project_name": row.project,
        "params": [param_document(param) for param in detail.params],
        "status": task_status(row),
        "status_detail": task_detail_status(row),
        "task_creator": row.creator,
        "create_time": seconds(row.create_at),
        "start_time": seconds(row.start_at),
        "end_time": seconds(row.end_at),
        "stages": [stage_document(stage, now) for stage in detail.stages],
        "is_restart": row.retry_num > 0,
        "debug": detail.debug,
        "remark": row.remark,
        "approval_ticket_id": detail.approval_ticket[0],
        "approval_id": detail.approval_ticket[1],
        "retry_num": row.retry_num,
    }
    if row.revoker:
        doc["task_revoker"] = row.revoker
    if row.error:
        doc["error"] = row.error
    if detail.warnings:
        doc["warnings"] = list(detail.warnings)
    if detail.queue is not None:
        doc["queue"] = queue_document(detail.queue, row.workflow_key, seconds)
    return doc


def queue_document(why: Why, workflow_key: str, when: Callable[[float | None], Any]) -> Doc:
    """Why a task waits for its turn. ``blocking``: numbers of tasks of its own workflow; ``blocked_by``: all that the
    caller may see. *when*: how the dialect writes a moment."""
    wait = why.waits[0]
    return {
        "position": why.position,
        "blocking": [task.number for task in wait.blocking if task.workflow_key == workflow_key],
        "blocked_by": wait_document(wait, when).get("blocking", []),
        "reason": wait.reason.value,
        "text": wait.text,
        "expected_start": forecast_document(why.start, when),
    }


def forecast_document(start: Forecast | None, when: Callable[[float | None], Any]) -> Doc | None:
    return {"at": when(start.at), "sure": start.sure, "samples": start.samples} if start is not None else None


def wait_document(wait: Wait, when: Callable[[float | None], Any]) -> Doc:
    """One reason; what it does not use is left out."""
    found: Doc = {
        "reason": wait.reason.value,
        "text": wait.text,
        "blocking": [{"workflow": task.workflow_key, "number": task.number} for task in wait.blocking],
        "hidden": wait.hidden,
        "waits_for": list(wait.waits_for),
        "people": [{"user_id": person.user_id, "user_name": person.user_name} for person in wait.people],
        "missing": wait.missing,
        "until": when(wait.until) if wait.until is not None else None,
    }
    found = {key: value for key, value in found.items() if value}
    return found if wait.limit is None else {**found, "limit": wait.limit}


def stage_document(stage: StageView, now: float) -> Doc:
    doc: Doc = {
        "name": stage.name,
        "status": stage.status,
        "start_time": seconds(stage.start_at),
        "end_time": seconds(stage.end_at),
        "parallel": stage.parallel,
        "jobs": [job_document(job, now) for job in stage.jobs],
        "error": stage.error,
    }
    if stage.approval is not None:
        doc["approval"] = approval_document(stage.approval)
    if stage.executors is not None:
        doc["manual_exec"] = {
            "enabled": True,
            "modify_params": stage.executors.modify_params,
            "excuted": bool(stage.executed_by),  # sic
            "manual_exec_users": [
                {"type": "user", "user_id": uid, "user_name": name} for uid, name in stage.executors.users
            ],
            "manual_exector_name": stage.executed_by,  # sic
        }
    return doc


def job_document(job: JobView, now: float) -> Doc:
    row = job.row
    cost = 0
    if row.start_at is not None:
        cost = max(0, int((row.end_at if row.end_at is not None else now) - row.start_at))
    spec = dict(job.spec)
    if job.approval is not None:
        spec |= approval_spec(job.approval)
    return {
        "name": row.name,
        "key": row.key,
        "display_name": row.display_name,
        "origin_name": row.job,
        "type": row.type,
        "status": job_status(row.status),
        "start_time": seconds(row.start_at),
        "end_time": seconds(row.end_at),
        "cost_seconds": cost,
        "error": row.error,
        "retry_count": row.retry_count,
        "spec": spec,
        **{f"breakpoint_{name}": True for name in row.plan.get("breakpoints", ())},
    }


def approval_document(approval: ApprovalView) -> Doc:
    """Flat and nested together: older clients read the one, newer the other."""
    native = _native(approval)
    return {
        "enabled": True,
        "type": approval.type,
        "status": _APPROVAL_STATUS[approval.status],
        "description": approval.description,
        "start_time": seconds(approval.start_at),
        "end_time": seconds(approval.end_at),
        **native,
        "native_approval": native,
    }


def approval_spec(approval: ApprovalView) -> Doc:
    """``spec`` of a job of type ``approval``."""
    return {
        "timeout": approval.timeout_min,
        "type": approval.type,
        "description": approval.description,
        "native_approval": _native(approval),
    }


def _native(approval: ApprovalView) -> Doc:
    return {
        "timeout": approval.timeout_min,
        "approve_users": [
            {
                "user_name": voter.user_name,
                "user_id": voter.user_id,
                "reject_or_approve": voter.vote,
                "comment": voter.comment,
                "operation_time": seconds(voter.at),
            }
            for voter in approval.voters
        ],
        "needed_approvers": approval.needed,
        "reject_or_approve": approval.status if approval.status in _DECISIONS else "",
    }


def param_document(param: Mapping[str, Any]) -> Doc:
    """A workflow variable: the documented keys always, the others when they say something."""
    always: Doc = {
        "name": param.get("name", ""),
        "description": param.get("description", ""),
        "type": param.get("type", "string"),
        "value": param.get("value", ""),
        "repo": param.get("repo"),
        "default": param.get("default", ""),
        "is_credential": bool(param.get("is_credential", False)),
    }
    others = ("choice_option", "choice_value", "source", "required")
    return always | {key: param[key] for key in others if param.get(key)}
