"""Workflows and their tasks: definitions, single runs, what they wrote, views, tickets."""

import builtins
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cador.client import shapes
from cador.client.errors import ApiError, TimedOut, Unreachable
from cador.client.methods import Call, Group, Mode, Stream
from cador.client.wire import ATTEMPTS, Pause, Request, Source, Steps, segment

_TASK: Final = "/openapi/workflows/custom/task"
_CUSTOM: Final = "/openapi/workflows/custom"
_PRIVATE: Final = "/api/aslan/workflow/v4"
_OWN: Final = "/api/v1/tasks"
_VIEW: Final = "/openapi/workflows/view"
_TICKET: Final = "/openapi/ticket/approval"
_ENDED: Final = frozenset({"passed", "failed", "timeout", "cancelled"})
POLL_S: Final = 1.0
"""Seconds between two looks at a task that is waited for."""


def _own(workflow: str, number: int) -> str:
    return f"{_OWN}/{segment(workflow)}/{number}"


class Workflows(Group[Mode]):
    """Definitions of workflows."""

    @Call
    def list(self, project: str, *, view: str = "") -> Steps[builtins.list[shapes.WorkflowLine]]:
        """The workflows of a project, or of one of its views."""
        reply = yield Request("GET", "/openapi/workflows", {"projectKey": project, "viewName": view})
        return reply["workflows"]  # type: ignore[no-any-return]

    @Call
    def get(self, workflow: str, project: str) -> Steps[dict[str, Any]]:
        """A definition, credentials masked. Sent back through :meth:`replace` it means the same."""
        reply: dict[str, Any] = yield Request("GET", f"{_CUSTOM}/{segment(workflow)}/detail", {"projectKey": project})
        return reply

    @Call
    def create(self, definition: Mapping[str, Any] | str, *, view: str = "") -> Steps[None]:
        """Create a workflow. *definition*: an object, or YAML. *view*: that it is put into."""
        yield Request("POST", _PRIVATE, {"viewName": view}, definition)

    @Call
    def validate(self, definition: Mapping[str, Any] | str) -> Steps[builtins.list[str]]:
        """The checks of :meth:`create` without storing anything. Returns warnings. Raises: ApiError with the fault."""
        reply = yield Request("POST", f"{_PRIVATE}/lint", body=definition, repeatable=True)
        return reply.get("warnings", [])  # type: ignore[no-any-return]

    @Call
    def replace(self, workflow: str, project: str, definition: Mapping[str, Any] | str) -> Steps[None]:
        """Replace the whole definition. A credential sent as ``********`` keeps its value."""
        path = f"{_PRIVATE}/{segment(workflow)}"
        yield Request("PUT", path, {"projectName": project}, definition, repeatable=True)

    @Call
    def delete(self, workflow: str, project: str) -> Steps[None]:
        """Delete a workflow with its tasks; what runs is cancelled."""
        yield Request("DELETE", _CUSTOM, {"workflowKey": workflow, "projectKey": project})


class Tasks(Group[Mode]):
    """Tasks: single runs of a workflow. *number* counts per workflow."""

    @Call
    def start(
        self,
        /,
        workflow: str,
        project: str,
        *,
        inputs: Sequence[Mapping[str, Any]] = (),
        parameters: Sequence[Mapping[str, Any]] = (),
        remark: str = "",
        strict: bool | None = None,
        idempotency_key: str = "",
        **more: Any,
    ) -> Steps[shapes.Started]:
        """Start a workflow: the jobs named in *inputs* run (``job_name``, ``parameters``).

        It happens once: the request carries *idempotency_key* (one is made up if none is given) and is repeated with it
        when its reply is lost. *parameters*: values of workflow variables (``name``, ``value``). *strict*: names
        nobody knows are an error. *more*: further members of the request, such as ``approval_id``.
        """
        body = {"workflow_key": workflow, "project_key": project, "inputs": [*inputs], "parameters": [*parameters]}
        body |= {"remark": remark} if remark else {}
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        reply: shapes.Started = yield Request(
            "POST", _TASK, {"strict": strict}, {**body, **more}, headers, repeatable=True
        )
        return reply

    @Call
    def start_by_services(
        self, workflow: str, project: str, input: Mapping[str, Any], *, idempotency_key: str = ""
    ) -> Steps[shapes.Started]:
        """Start a product workflow by services. *input*: ``target_env``, ``build``, ``deploy``."""
        body = {"workflow_key": workflow, "project_key": project, "input": input}
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        reply: shapes.Started = yield Request(
            "POST", "/openapi/workflows/product/task", {}, body, headers, repeatable=True
        )
        return reply

    @Call
    def get(self, workflow: str, number: int) -> Steps[shapes.Task]:
        """A task with its stages, jobs, approvals and variables."""
        reply: shapes.Task = yield Request("GET", _TASK, {"workflowKey": workflow, "taskId": number})
        return reply

    @Call
    def list(self, workflow: str, project: str, *, page: int = 1, size: int = 50) -> Steps[shapes.TaskPage]:
        """Tasks of a workflow, newest first. *page* counts from 1; *size*: at most 1000."""
        query = {"projectKey": project, "pageNum": page, "pageSize": size}
        reply: shapes.TaskPage = yield Request("GET", f"{_CUSTOM}/{segment(workflow)}/tasks", query)
        return reply

    @Call
    def of_commit(self, commit: str) -> Steps[builtins.list[dict[str, Any]]]:
        """Tasks that worked on a commit, newest first: a whole id, or what it begins with."""
        reply: builtins.list[dict[str, Any]] = yield Request("GET", "/api/directory/workflowTask", {"commitId": commit})
        return reply

    @Call
    def wait(self, workflow: str, number: int, *, timeout_s: float = 3600.0) -> Steps[shapes.Task]:
        """Wait until a task has ended, however it did. A server that is restarted meanwhile is waited for.

        Raises: TimedOut after *timeout_s* seconds of waiting; ApiError; Unreachable when the server stays away.
        """
        waited, missed = 0.0, 0
        while True:
            try:
                task: shapes.Task = yield Request("GET", _TASK, {"workflowKey": workflow, "taskId": number})
            except (Unreachable, ApiError) as error:
                missed += 1
                if missed > 10 * ATTEMPTS or (isinstance(error, ApiError) and error.status not in (502, 503, 504)):
                    raise
                task = shapes.Task(task_id=number, status="")  # type: ignore[typeddict-item]  # nothing is known
            else:
                missed = 0
            if task["status"] in _ENDED:
                return task
            if waited >= timeout_s:
                raise TimedOut(f"task {workflow}/{number} is {task['status'] or 'out of reach'}", task)
            yield Pause(POLL_S)
            waited += POLL_S

    @Call
    def cancel(self, workflow: str, number: int) -> Steps[None]:
        """Cancel a task, queued or running. Raises: ApiError: it has ended."""
        yield Request("DELETE", _TASK, {"workflowKey": workflow, "taskId": number})

    @Call
    def retry(self, workflow: str, number: int, project: str) -> Steps[None]:
        """Run once more what did not pass, under the same number."""
        yield Request("POST", f"{_CUSTOM}/{segment(workflow)}/task/{number}", {"projectKey": project})

    @Call
    def retry_some(
        self,
        workflow: str,
        number: int,
        *,
        jobs: Sequence[str] = (),
        from_job: str = "",
        parameters: Mapping[str, str] | None = None,
        inputs: Sequence[Mapping[str, Any]] = (),
    ) -> Steps[None]:
        """Run some of a task once more: *jobs* of those that failed, or *from_job* and all that follows; neither: all
        that did not pass. *parameters*, *inputs*: other values from now on."""
        body: dict[str, Any] = {"jobs": [*jobs], "from": from_job}
        body |= {"parameters": parameters or {}, "inputs": [*inputs]} if parameters or inputs else {}
        yield Request("POST", f"{_own(workflow, number)}/retry", body=body)

    @Call
    def approve(
        self, workflow: str, number: int, stage: str, *, approve: bool = True, comment: str = ""
    ) -> Steps[None]:
        """Vote on a stage that waits for approval; *approve* false rejects."""
        body = {"task_id": number, "workflow_key": workflow, "stage_name": stage, "approve": approve}
        yield Request("POST", f"{_TASK}/approve", body={**body, "comment": comment})

    @Call
    def remark(self, workflow: str, number: int, text: str) -> Steps[None]:
        """Change the remark of a task; empty takes it away."""
        yield Request("PUT", f"{_own(workflow, number)}/remark", body={"remark": text}, repeatable=True)

    @Call
    def decide(self, workflow: str, number: int, job: str, *, ignore: bool) -> Steps[None]:
        """Decide about a failed job that waits for it."""
        yield Request("POST", f"{_own(workflow, number)}/jobs/{segment(job)}/decision", body={"ignore": ignore})

    @Call
    def run_stage(self, workflow: str, number: int, project: str, body: Mapping[str, Any] | None = None) -> Steps[None]:
        """Let a stage that waits for somebody to start it run."""
        path = f"{_CUSTOM}/{segment(workflow)}/task/{number}/manual-exec"
        yield Request("POST", path, {"projectKey": project}, body or {})

    @Call
    def manual_stage(self, workflow: str, number: int, project: str) -> Steps[str]:
        """The stage that waits for somebody to start it; empty: none."""
        path = f"{_CUSTOM}/{segment(workflow)}/task/{number}/manual-exec"
        reply = yield Request("GET", path, {"projectKey": project})
        return str(reply["stage_name"])

    @Call
    def inspect(self, workflow: str, number: int) -> Steps[dict[str, Any]]:
        """A task as this server alone tells it: times of RFC 3339, parameters, attempts of each job."""
        reply: dict[str, Any] = yield Request("GET", _own(workflow, number))
        return reply

    @Call
    def attempts(self, workflow: str, number: int, job: str) -> Steps[dict[str, Any]]:
        """The attempts of a job: how each went, and what was changed before it."""
        reply: dict[str, Any] = yield Request("GET", f"{_own(workflow, number)}/jobs/{segment(job)}/attempts")
        return reply

    @Call
    def state(self, workflow: str, number: int, at: float) -> Steps[dict[str, Any]]:
        """A task as it was at a moment (Unix seconds)."""
        reply: dict[str, Any] = yield Request("GET", f"{_own(workflow, number)}/state", {"at": repr(at)})
        return reply

    @Call
    def why(self, workflow: str, number: int) -> Steps[dict[str, Any]]:
        """Why a task is where it is: what it waits for, or why it ended as it did."""
        reply: dict[str, Any] = yield Request("GET", f"{_own(workflow, number)}/why")
        return reply

    @Call
    def events(self, workflow: str, number: int, *, after: int = 0) -> Steps[dict[str, Any]]:
        """What has happened to a task, oldest first; *after*: the last number that is known."""
        reply: dict[str, Any] = yield Request("GET", f"{_own(workflow, number)}/events", {"after": after})
        return reply

    @Call
    def artifacts(self, workflow: str, number: int) -> Steps[builtins.list[shapes.Artifact]]:
        """Files that the jobs of a task left; :meth:`Client.download` fetches one."""
        reply = yield Request("GET", f"{_own(workflow, number)}/artifacts")
        return reply["artifacts"]  # type: ignore[no-any-return]


class Logs(Group[Mode]):
    """What jobs wrote."""

    @Stream
    def follow(self, workflow: str, number: int, job: str, *, tail: int | None = None, last_id: str = "") -> Source:
        """Lines of a job as they are written, until it ends; after an interruption it goes on where it was.

        Events: ``message`` (a line), ``start`` (an attempt begins), ``end`` (``data`` has the status). *tail*: begin
        with so many of the last lines. *last_id*: of an event; begin behind it.
        """
        source = Source(Request("GET", f"{_own(workflow, number)}/jobs/{segment(job)}/log", {"tail": tail}))
        source.last_id = last_id
        return source

    @Call
    def read(self, workflow: str, number: int, job: str) -> Steps[str]:
        """The whole log; of a running job what there is so far."""
        path = f"{_own(workflow, number)}/jobs/{segment(job)}/log"
        reply: str = yield Request("GET", path, headers={"Accept": "text/plain"}, text=True)
        return reply


class Views(Group[Mode]):
    """Named selections of a project's workflows."""

    @Call
    def list(self, project: str) -> Steps[builtins.list[shapes.View]]:
        """All views of a project."""
        reply: builtins.list[shapes.View] = yield Request("GET", _VIEW, {"projectKey": project})
        return reply

    @Call
    def create(self, project: str, name: str, workflows: Sequence[shapes.ViewMember]) -> Steps[None]:
        """Create a view."""
        yield Request("POST", _VIEW, body={"project_key": project, "name": name, "workflow_list": [*workflows]})

    @Call
    def change(self, project: str, name: str, workflows: Sequence[Mapping[str, Any]]) -> Steps[None]:
        """Put workflows in or take them out (``enabled``); what is not listed stays."""
        path = f"{_VIEW}/{segment(name)}"
        yield Request("PUT", path, {"projectKey": project}, {"workflow_list": [*workflows]}, repeatable=True)

    @Call
    def delete(self, project: str, name: str) -> Steps[None]:
        """Delete a view; its workflows stay."""
        yield Request("DELETE", f"{_VIEW}/{segment(name)}", {"projectKey": project})


class Tickets(Group[Mode]):
    """Approvals given in another system, that let one task in."""

    @Call
    def create(self, ticket: Mapping[str, Any]) -> Steps[None]:
        """Create a ticket: ``project_key``, ``approval_id``, ``status``, ``users`` ..."""
        yield Request("POST", _TICKET, body=ticket)

    @Call
    def list(self, project: str, *, page: int = 1, size: int = 50) -> Steps[builtins.list[shapes.Ticket]]:
        """Tickets of a project, newest first."""
        reply: builtins.list[shapes.Ticket] = yield Request(
            "GET", _TICKET, {"projectKey": project, "pageNum": page, "pageSize": size}
        )
        return reply

    @Call
    def replace(self, approval_id: str, ticket: Mapping[str, Any]) -> Steps[None]:
        """Change what a ticket allows; ``status`` 0 puts it out of effect."""
        yield Request("PUT", f"{_TICKET}/{segment(approval_id)}", body=ticket, repeatable=True)

    @Call
    def delete(self, project: str, approval_id: str) -> Steps[None]:
        """Delete a ticket."""
        yield Request("DELETE", f"{_TICKET}/{segment(approval_id)}", {"projectKey": project})
