"""What all requests that start a task have in common: the key against repetition, and the answer."""

from typing import Any, Final

from cador.api.errors import bad_request
from cador.api.routing import Call
from cador.operations.task_values import Started

LONGEST_IDEMPOTENCY_KEY: Final = 255


def idempotency_key(call: Call) -> str:
    """Header ``Idempotency-Key``; empty without one. Raises: Refusal: too long."""
    key = call.headers.get("idempotency-key", "").strip()
    if len(key) > LONGEST_IDEMPOTENCY_KEY:
        raise bad_request(f"Idempotency-Key is longer than {LONGEST_IDEMPOTENCY_KEY} characters")
    return key


def started_document(started: Started) -> dict[str, Any]:
    """The two ``_name`` values are the keys; ``warnings`` only where there are some."""
    reply: dict[str, Any] = {
        "project_name": started.project_key,
        "workflow_name": started.workflow_key,
        "project_key": started.project_key,
        "workflow_key": started.workflow_key,
        "task_id": started.number,
    }
    if started.warnings:
        reply["warnings"] = list(started.warnings)
    return reply
