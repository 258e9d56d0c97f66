"""What Schemathesis sends and looks at here, loaded by it as a module of hooks.

Made-up names lead nowhere, so half of the requests get those of what is there: everything is called ``hello``, in the
project ``shop``. An answer 500 with the documents' "no documents in result" is documented; one that says ``unexpected
failure`` is a failure of the server.
"""

import os
import zlib
from collections.abc import Mapping
from typing import Any, Final

import schemathesis

PLANTED: Final = tuple(filter(None, os.environ.get("CADOR_FUZZ_PLANTED", "").split(",")))
PROJECT: Final = "shop"
NAME: Final = "hello"
THERE: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("projectKey", "projectName", "project_key", "project_name", "project", "namespace"), PROJECT),
    **dict.fromkeys(("number", "taskID", "taskId", "task_id", "workflow_task_id", "id"), 1),
    **dict.fromkeys(("job", "workflow_job_task_id", "job_name"), "say"),
    **dict.fromkeys(
        (
            "name", "env", "env_key", "env_name", "workflow", "workflowKey", "workflow_key", "workflow_name",
            "workflow_id", "pipelineName", "service", "service_name", "service_module", "viewName", "approvalID",
            "approval_id", "template_name", "uid", "gid",
        ),
        NAME,
    ),
}  # fmt: skip
"""By the name of a parameter or of a member of a body."""
IDS: Final = dict(pair.split("=") for pair in os.environ.get("CADOR_FUZZ_IDS", "").split(",") if pair)
"""By the beginning of a path: what ``id`` is there."""


def _destroys(ctx: Any) -> bool:
    """What is there has to stay there; tasks are cancelled."""
    operation = ctx.operation
    return operation is not None and operation.method.lower() == "delete" and "/task" not in operation.path


def _id_of(ctx: Any) -> Any:
    path = ctx.operation.path if ctx.operation is not None else ""
    return next((ident for place, ident in IDS.items() if path.startswith(place)), THERE["id"])


def _put_in(ctx: Any, values: Any) -> Any:
    """*values* with some names of what is there: the same for the same values, as shrinking and replaying need it."""
    if not isinstance(values, dict) or _destroys(ctx):
        return values
    found = {}
    for key, value in values.items():
        chance = zlib.crc32(repr((key, value)).encode("utf-8", "replace"))
        if key in THERE and not isinstance(value, dict | list) and chance % 2:
            found[key] = _id_of(ctx) if key == "id" else THERE[key]
        else:
            found[key] = _put_in(ctx, value)
    return found


@schemathesis.hook
def map_path_parameters(ctx: Any, path_parameters: Any) -> Any:
    return _put_in(ctx, path_parameters)


@schemathesis.hook
def map_query(ctx: Any, query: Any) -> Any:
    return _put_in(ctx, query)


@schemathesis.hook
def map_body(ctx: Any, body: Any) -> Any:
    return _put_in(ctx, body)


@schemathesis.check
def no_unexpected_failure(ctx: Any, response: Any, case: Any) -> None:
    assert b"unexpected failure" not in response.content, "the server met something it did not expect"
    assert b"Traceback (most recent call last)" not in response.content, "a stack trace"


@schemathesis.check
def no_secret_is_shown(ctx: Any, response: Any, case: Any) -> None:
    for secret in PLANTED:
        assert secret.encode() not in response.content, "a planted secret"
        assert secret not in str(response.headers), "a planted secret in a header"
