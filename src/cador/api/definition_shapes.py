"""Workflow definitions as the documents show them. Source: API documents, "Get Workflow Details"."""

from collections.abc import Mapping
from typing import Any, Final

from cador.api.task_shapes import param_document, seconds
from cador.jobs.definition import APPROVAL_TIMEOUT_MIN, BREAKPOINTS, OPTIONAL
from cador.operations.workflows import WorkflowDetail
from cador.ports.stores import WorkflowRow

Doc = dict[str, Any]

_KINDS: Final = ("lark_approval", "dingtalk_approval", "workwx_approval")
_JOB_OPTIONAL: Final = ("error_policy", "execute_policy", "notify_ctls", *BREAKPOINTS)


def workflow_line(row: WorkflowRow) -> Doc:
    """An element of the workflow list."""
    return {
        "workflow_key": row.key,
        "workflow_name": row.display_name,
        "update_by": row.updated_by,
        "update_time": seconds(row.update_at),
        "type": row.type,
    }


def workflow_document(detail: WorkflowDetail) -> Doc:
    """The whole definition: the documented keys with all defaults, then what else was stored. Sent back as it is, it
    changes nothing."""
    row, doc = detail.row, detail.doc
    found: Doc = {
        "workflow_key": row.key,
        "workflow_name": row.display_name,
        "project_key": row.project,
        "description": doc.get("description", ""),
        "created_by": row.created_by,
        "create_time": seconds(row.create_at),
        "updated_by": row.updated_by,
        "update_time": seconds(row.update_at),
        "params": [_param(param) for param in doc.get("params", ())],
        "stages": [_stage(stage) for stage in doc.get("stages", ())],
        "notify_ctls": doc.get("notify_ctls", []),
        "share_storages": doc.get("share_storages", []),
        "concurrency_limit": row.concurrency_limit,
        "workflow_type": row.type,
    }
    found |= {name: doc[name] for name in OPTIONAL if doc.get(name)}
    if detail.warnings:
        found["warnings"] = list(detail.warnings)
    return found


def _param(param: Mapping[str, Any]) -> Doc:
    return param_document(param) | {key: param[key] for key in ("script", "call_function") if param.get(key)}


def _stage(stage: Mapping[str, Any]) -> Doc:
    found: Doc = {
        "name": stage["name"],
        "parallel": stage.get("parallel", False),
        "approval": _approval(stage.get("approval") or {}),
        "jobs": [_job(job) for job in stage.get("jobs", ())],
    }
    if "manual_exec" in stage:
        found["manual_exec"] = stage["manual_exec"]
    return found


def _job(job: Mapping[str, Any]) -> Doc:
    found: Doc = {
        "name": job["name"],
        "type": job["type"],
        "skipped": job.get("skipped", False),
        "spec": job.get("spec", {}),
        "run_policy": job.get("run_policy", ""),
        "service_modules": [],
    }
    return found | {name: job[name] for name in _JOB_OPTIONAL if name in job}


def _approval(approval: Mapping[str, Any]) -> Doc:
    """Always there. ``Timeout`` and ``NeededApprovers`` are capitalised in the documents; the lower-case twins are what
    requests use."""
    native = approval.get("native_approval") or {}
    users = [
        {**user, "user_name": user.get("user_name", ""), "user_id": user.get("user_id", "")}
        for user in native.get("approve_users", ())
    ]
    timeout = native.get("timeout") or APPROVAL_TIMEOUT_MIN
    needed = native.get("needed_approvers") or 0
    found: Doc = {
        "enabled": approval.get("enabled", False),
        "type": approval.get("type") or "native",
        "description": approval.get("description", ""),
        "native_approval": {
            "Timeout": timeout,
            "timeout": timeout,
            "approve_users": users,
            "NeededApprovers": needed,
            "needed_approvers": needed,
        },
    }
    for kind in _KINDS:
        if kind in approval:
            other = approval[kind]
            timeout = other.get("timeout") or APPROVAL_TIMEOUT_MIN
            found[kind] = {**other, "Timeout": timeout, "timeout": timeout}
    return found
