"""What all requests that start a task have in common: the key against repetition, and the answer."""

import re
from typing import Any, Final

from cador.api.errors import bad_request
from cador.api.routing import Call
from cador.operations.task_values import Started

LONGEST_IDEMPOTENCY_KEY: Final = 255
_VISIBLE: Final = re.compile(r"[!-~]*")


def idempotency_key(call: Call) -> str:
    """Header ``Idempotency-Key``; empty without one. Raises: Refusal: too long, or more than one visible word."""
    key = call.headers.get("idempotency-key", "").strip()
    if len(key) > LONGEST_IDEMPOTENCY_KEY:
        raise bad_request(f"Idempotency-Key is longer than {LONGEST_IDEMPOTENCY_KEY} characters")
    if not _VISIBLE.fullmatch(key):
        raise bad_request("Idempotency-Key consists of visible ASCII characters without blanks")
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
