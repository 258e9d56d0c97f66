"""How to call routes whose project is found by the operation itself: the table of ``test_access`` needs one call each.

A route of yours is missing here? Add a line: what must be in the path, the query and the body for the operation to
find an object of the project, and nothing that changes anything when the caller is allowed to (an unknown name behind
the permission check, an empty body).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from api.site import definition
from support.world import PROJECT

TASK: Final = "/api/v1/tasks/{workflow}/{number}"
V4: Final = "/api/aslan/workflow/v4"
CUSTOM_TASK: Final = "/openapi/workflows/custom/task"
MANUAL: Final = "/openapi/workflows/custom/{workflowKey}/task/{taskID}/manual-exec"
LEGACY: Final = "/api/directory/workflowTask"
LEGACY_TASK: Final = f"{LEGACY}/id/{{id}}/pipelines/{{pipelineName}}"
SSE: Final = "/openapi/logs/sse/v4/workflow/{workflow_id}/{workflow_task_id}/{workflow_job_task_id}/{tail_lines}"
LOG: Final = "/openapi/logs/log/v4/workflow/{workflow_id}/{workflow_task_id}/{workflow_job_task_id}"
USER: Final = "/openapi/users/{uid}"
ROLES: Final = "/openapi/policy/roles"
BINDINGS: Final = "/openapi/policy/role-bindings"


@dataclass(frozen=True)
class Sample:
    """``path``: values of path parameters. ``as_action``: decides instead of the permission's actions. ``whole``: the
    action is needed in the whole project, a share of one workflow is not enough. ``everybody``: no action decides
    (a list of approvers does), whoever is logged in gets past. ``listed``: behind the permission comes such a list.
    ``unlimited``: tokens with limits do not. ``anywhere``: the action in any project is enough."""

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    as_action: str = ""
    whole: bool = False
    everybody: bool = False
    listed: bool = False
    unlimited: bool = False
    anywhere: bool = False


_OWN: Final = {"namespace": PROJECT}
_W: Final = {"workflowKey": "w", "workflow": "w", "name": "w", "taskID": "1", "number": "1", "job": "say"}
_LEGACY: Final = {"id": "1", "pipelineName": "w"}
_READ: Final = Sample(_W)
_ROLE: Final = Sample({"name": "no-such"}, _OWN, {}, whole=True)
_BINDING: Final = Sample({"uid": "no-such", "gid": "no-such"}, _OWN, {}, whole=True)
_TOKEN: Final = Sample({"uid": "dora", "id": "999"}, unlimited=True)

SAMPLES: Final[Mapping[tuple[str, str], Sample]] = {
    ("GET", CUSTOM_TASK): Sample(query={"taskId": "1", "workflowKey": "w"}),
    ("DELETE", CUSTOM_TASK): Sample(query={"taskId": "1", "workflowKey": "w"}),  # passed: cannot be cancelled
    ("POST", f"{CUSTOM_TASK}/approve"): Sample(
        body={"task_id": 1, "workflow_key": "w", "stage_name": "talk"}, everybody=True
    ),
    ("PUT", "/openapi/workflows/custom/{workflowKey}/task/{taskID}"): Sample(_W, body={"remark": "x"}),
    ("PUT", f"{TASK}/remark"): Sample(_W, body={"remark": "x"}),
    ("GET", SSE): Sample(
        {"workflow_id": "w", "workflow_task_id": "1", "workflow_job_task_id": "say", "tail_lines": "10"}
    ),
    ("GET", LOG): Sample({"workflow_id": "w", "workflow_task_id": "1", "workflow_job_task_id": "say"}),
    ("POST", V4): Sample(body={**definition("new"), "stages": "none"}, whole=True),
    ("POST", f"{V4}/lint"): Sample(body=definition("lint"), whole=True),
    ("PUT", f"{V4}/{{name}}"): Sample({"name": "w"}, {"projectKey": PROJECT}, {**definition("w"), "name": "other"}),
    # deleting for real is tested apart: here nobody who may would be stopped by anything else
    ("DELETE", f"{V4}/{{name}}"): Sample({"name": "w"}),
    ("GET", TASK): _READ,
    ("GET", f"{TASK}/artifacts"): _READ,
    ("GET", f"{TASK}/artifacts/{{path:path}}"): Sample({**_W, "path:path": "no-such"}),
    ("GET", f"{TASK}/jobs/{{job}}/log"): _READ,
    ("GET", f"{TASK}/jobs/{{job}}/attempts"): _READ,
    ("GET", f"{TASK}/events"): _READ,
    ("GET", f"{TASK}/state"): Sample(_W, {"at": "1"}),
    ("GET", f"{TASK}/report"): _READ,
    ("GET", f"{TASK}/why"): _READ,
    ("POST", f"{TASK}/jobs/{{job}}/decision"): Sample(_W, body={"ignore": False}, listed=True),
    ("POST", f"{TASK}/retry"): Sample(_W, body={"jobs": ["no-such"]}),
    ("GET", MANUAL): Sample(_W, {"projectKey": PROJECT}, as_action="get_workflow"),
    ("POST", MANUAL): Sample(_W, {"projectKey": PROJECT}, {"stage_name": "no-such"}, as_action="get_workflow"),
    ("POST", f"{LEGACY_TASK}/restart"): Sample(_LEGACY),
    ("POST", f"{LEGACY_TASK}/cancel"): Sample(_LEGACY),
    ("GET", LEGACY_TASK): Sample(_LEGACY),
    ("POST", f"{LEGACY}/create"): Sample(body={"workflow_name": "w", "project_name": PROJECT, "targets": "none"}),
    ("GET", USER): Sample({"uid": "dora"}),
    ("PUT", USER): Sample({"uid": "dora"}, body={"email": "nonsense"}),
    ("POST", f"{USER}/tokens"): Sample({"uid": "dora"}, body={"scopes": ["nonsense"]}, unlimited=True),
    ("GET", f"{USER}/tokens"): Sample({"uid": "dora"}),
    ("POST", f"{USER}/tokens/{{id}}/rotate"): _TOKEN,
    ("DELETE", f"{USER}/tokens/{{id}}"): _TOKEN,
    ("GET", ROLES): Sample(query=_OWN),
    ("POST", ROLES): _ROLE,
    ("GET", f"{ROLES}/{{name}}"): Sample({"name": "no-such"}, _OWN),
    ("PUT", f"{ROLES}/{{name}}"): _ROLE,
    ("DELETE", f"{ROLES}/{{name}}"): _ROLE,
    ("GET", BINDINGS): _BINDING,
    ("POST", BINDINGS): _BINDING,
    ("POST", f"{BINDINGS}/user/{{uid}}"): _BINDING,
    ("DELETE", f"{BINDINGS}/user/{{uid}}"): _BINDING,
    ("POST", f"{BINDINGS}/group/{{gid}}"): _BINDING,
    ("DELETE", f"{BINDINGS}/group/{{gid}}"): _BINDING,
    ("POST", "/openapi/apply"): Sample(
        query={"dry_run": "true"},
        body=f"apiVersion: cador.dev/v1\nkind: RoleBinding\nmetadata: {{name: ann, project: {PROJECT}}}\n"
        "spec: {roles: [read-only]}\n",
        whole=True,
    ),
    ("GET", "/openapi/export"): Sample(query={"projectKey": PROJECT}, as_action="get_service", whole=True),
    ("POST", "/openapi/ticket/approval"): Sample(
        body={"project_key": PROJECT, "approval_id": "T-1", "status": 1}, whole=True
    ),
    ("PUT", "/openapi/ticket/approval"): Sample(
        body={"project_key": PROJECT, "approval_id": "no-such", "status": 1}, whole=True
    ),
    ("PUT", "/openapi/ticket/approval/{approvalID}"): Sample(
        {"approvalID": "no-such"}, body={"project_key": PROJECT, "status": 1}, whole=True
    ),
    ("GET", "/api/aslan/system/tapd/{id}/projects"): Sample(whole=True, anywhere=True),
    ("GET", "/api/aslan/system/tapd/{id}/projects/{projectID}/iterations"): Sample(whole=True, anywhere=True),
    ("GET", "/api/v1/secrets"): Sample(query={"projectKey": PROJECT}, whole=True),
    ("GET", "/api/v1/secrets/{name}"): Sample({"name": "no-such"}, {"projectKey": PROJECT}, whole=True),
    ("PUT", "/api/v1/secrets/{name}"): Sample({"name": "no-such"}, {"projectKey": PROJECT}, {}, whole=True),
    ("DELETE", "/api/v1/secrets/{name}"): Sample({"name": "no-such"}, {"projectKey": PROJECT}, whole=True),
}

HARMFUL: Final = frozenset(
    {
        ("DELETE", f"{V4}/{{name}}"),
        ("DELETE", "/openapi/projects/project"),
        ("DELETE", "/openapi/users/{uid}"),
        ("POST", "/api/v1/login"),  # needs no token
    }
)
"""What would be done when the caller is allowed to, and must not: only refusals are tried."""
