"""Routes of a task's past: its events, and how it stood at some moment."""

from datetime import datetime
from typing import Any, Final

from cador.api import own_models
from cador.api.errors import bad_request
from cador.api.own import TASK, approval_document, named_task, time
from cador.api.permissions import by_operation
from cador.api.routing import Call, Routes
from cador.api.statuses import job_status, task_detail_status, task_status
from cador.operations.history import EventView, Past, task_at, task_events

ROUTES: Final = Routes("server")

Doc = dict[str, Any]


@ROUTES.get(f"{TASK}/events", by_operation("get_workflow"), query=("after:int",), reply=own_models.Events)
async def events(call: Call) -> Any:
    """What happened to a task, oldest first. ``next``: ``after`` of the following page; ``over``: nothing follows."""
    key, number = named_task(call)
    after = call.number("after") or 0
    page = await task_events(call.ctx, call.actor, key, number, after)
    return {
        "events": [_event(event) for event in page.events],
        "next": page.events[-1].id if page.events else None,
        "over": page.over,
    }


@ROUTES.get(f"{TASK}/state", by_operation("get_workflow"), query=("at!",), reply=own_models.PastTask)
async def state(call: Call) -> Any:
    """A task as it was ``at`` some moment (RFC 3339, or Unix seconds), from its events.

    ``agrees``: all events together give the task as it is stored now; where not, this view is not to be relied on.
    """
    key, number = named_task(call)
    return _past(await task_at(call.ctx, call.actor, key, number, _instant(call.value("at"))))


def _instant(text: str) -> float:
    """Unix seconds. Raises: Refusal."""
    wrong = "at is a moment: RFC 3339 with its zone (2026-11-21T10:00:00Z), or Unix seconds"
    try:
        if "T" not in text.upper():
            at = float(text)
        else:
            # A plus sign that was not escaped arrives as a space.
            moment = datetime.fromisoformat(text.strip().replace(" ", "+"))
            if moment.tzinfo is None:
                raise bad_request(wrong)
            at = moment.timestamp()
    except (ValueError, OverflowError):
        raise bad_request(wrong) from None
    if not 0 <= at < 1e11:  # also refuses what is no number
        raise bad_request(wrong)
    return at


def _event(event: EventView) -> Doc:
    return {
        "id": event.id,
        "at": time(event.at),
        "kind": event.kind,
        "about": event.about,
        "who": event.who,
        "text": event.text,
        "data": event.data,
    }


def _past(past: Past) -> Doc:
    row, task = past.row, past.task
    by_job = {a.job_id: past.approvals[a.id] for a in task.approvals if a.job_id is not None}
    by_stage = {a.stage: past.approvals[a.id] for a in task.approvals if a.job_id is None}
    rows = {row.id: row for row in past.jobs}
    return {
        "workflow": row.workflow_key,
        "project": row.project,
        "number": row.number,
        "at": time(past.at),
        "agrees": past.agrees,
        "last_event": _event(past.last) if past.last is not None else None,
        "status": task_status(row),
        "status_detail": task_detail_status(row),
        "error": row.error,
        "creator": row.creator,
        "revoker": row.revoker,
        "retries": row.retry_num,
        "created_at": time(row.create_at),
        "started_at": time(row.start_at),
        "ended_at": time(row.end_at),
        "stages": [
            {
                "name": stage.name,
                "parallel": stage.parallel,
                "status": stage.status,
                "error": stage.error,
                "started_at": time(stage.start_at),
                "ended_at": time(stage.end_at),
                "approval": approval_document(by_stage.get(index)),
                "jobs": [
                    {
                        "name": job.name,
                        "display_name": rows[job.id].display_name,
                        "type": rows[job.id].type,
                        "status": job_status(job.status),
                        "error": job.error,
                        "attempt": job.attempt,
                        "retry_count": job.retry_count,
                        "started_at": time(job.start_at),
                        "ended_at": time(job.end_at),
                        "deadline_at": time(job.deadline_at),
                        "approval": approval_document(by_job.get(job.id)),
                    }
                    for job in task.jobs_of(index)
                ],
            }
            for index, stage in enumerate(task.stages)
        ],
    }
