"""Why a task does not run."""

from typing import Any, Final

from cador.api import own_models
from cador.api.own import TASK, named_task, time
from cador.api.permissions import by_operation
from cador.api.routing import Call, Routes
from cador.api.statuses import job_status, task_detail_status, task_status
from cador.api.task_shapes import forecast_document, wait_document
from cador.operations.why_facts import TaskWhy, task_why

ROUTES: Final = Routes("server")


@ROUTES.get(f"{TASK}/why", by_operation("get_workflow"), reply=own_models.Why)
async def why(call: Call) -> Any:
    """Why a task, and each of its jobs, does not run now; its place in the queue; and when it may start.

    ``reasons`` are empty for what runs; the first is what holds it now. See the documentation for their words.
    """
    key, number = named_task(call)
    return why_document(await task_why(call.ctx, call.actor, key, number))


def why_document(found: TaskWhy) -> dict[str, Any]:
    row, told = found.row, found.why
    return {
        "workflow": row.workflow_key,
        "number": row.number,
        "status": task_status(row),
        "status_detail": task_detail_status(row),
        "reasons": [wait_document(wait, time) for wait in told.waits],
        "position": told.position or None,
        "expected_start": forecast_document(told.start, time),
        "jobs": [
            {
                "name": job.name,
                "stage": job.stage,
                "status": job_status(job.status),
                "reasons": [wait_document(wait, time) for wait in job.waits],
            }
            for job in told.jobs
        ],
    }
