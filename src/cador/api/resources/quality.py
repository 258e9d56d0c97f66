"""Routes that run tests and scans by themselves. Source: API documents, "Tests", "Scans"."""

from typing import Any, Final

from pydantic import Field

from cador.api.catalogue import Operation
from cador.api.errors import bad_request
from cador.api.params import PROJECT, integer, text_of
from cador.api.permissions import in_query, in_query_or_body
from cador.api.resources.scans import NO_PROJECT, SCAN
from cador.api.routing import Call, Routes
from cador.api.statuses import task_status
from cador.domain.errors import NotFound
from cador.operations import quality
from cador.operations.models.body import Body

ROUTES: Final = Routes("runs of tests and scans")
TESTING: Final = "/openapi/quality/testing"
_NO_TASK: Final = {NotFound: Operation.GET_TASK}


class RepositoryOfRun(Body):
    codehost_name: str = ""
    repo_namespace: str = ""
    repo_name: str = ""
    branch: str = ""
    prs: list[int] = Field(default_factory=list)
    enable_commit: bool = False
    commit_id: str = ""


class InputOfRun(Body):
    key: str = ""
    value: str = ""


class TestRunBody(Body):
    __test__ = False

    project_key: str = ""
    test_name: str = ""
    repo_info: list[RepositoryOfRun] = Field(default_factory=list)
    inputs: list[InputOfRun] = Field(default_factory=list)


class ScanRunBody(Body):
    scan_repos: list[RepositoryOfRun] = Field(default_factory=list)
    scan_kvs: list[InputOfRun] = Field(default_factory=list)


class StartedRun(Body):
    """``workflow_key``: of the workflow the task is of, for its log and its cancel."""

    task_id: int = 0
    workflow_key: str = ""


@ROUTES.post(
    f"{TESTING}/task",
    in_query_or_body("run_test", required=NO_PROJECT),
    faults={NotFound: Operation.CREATE_TASK},
    query=("projectKey",),
    body=TestRunBody,
    reply=StartedRun,
)
async def run_test(call: Call) -> dict[str, Any]:
    """Run a test by itself."""
    body = await call.object()
    project = call.text(PROJECT) or text_of(PROJECT, {}, body)
    name = body.get("test_name")
    if not isinstance(name, str) or not name:
        raise bad_request("test name cannot be empty")
    repos = quality.check_repositories(body.get("repo_info"), "repo_info")
    inputs = quality.check_inputs(body.get("inputs"), "inputs")
    return await _started(call, quality.TEST, project, name, repos, inputs)


@ROUTES.post(
    f"{SCAN}/{{name}}/task",
    in_query("run_scan", required=NO_PROJECT),
    faults={NotFound: Operation.CREATE_TASK},
    query=("projectKey!",),
    body=ScanRunBody,
    reply=StartedRun,
)
async def run_scan(call: Call) -> dict[str, Any]:
    """Run a code scan by itself."""
    body = await call.object()
    name = call.path_value("name")
    if not name:
        raise bad_request("scan name cannot be empty")
    entries = body.get("scan_repos")
    if isinstance(entries, list) and any(
        isinstance(entry, dict) and not entry.get("branch") and entry.get("enable_commit") is not True
        for entry in entries
    ):
        raise bad_request("branch cannot be empty")
    repos = quality.check_repositories(entries, "scan_repos")
    inputs = quality.check_inputs(body.get("scan_kvs"), "scan_kvs")
    return await _started(call, quality.SCAN, call.need(PROJECT), name, repos, inputs)


async def _started(
    call: Call, of: quality.Quality, project: str, name: str, repos: list[dict[str, Any]], inputs: list[dict[str, Any]]
) -> dict[str, Any]:
    key, number = await quality.run(call.ctx, call.actor, of, project, name, repos, inputs)
    return {"task_id": number, "workflow_key": key}


@ROUTES.get(
    f"{TESTING}/{{name}}/task/{{id}}", in_query("get_test", required=NO_PROJECT), faults=_NO_TASK,
    query=("projectKey!",),
    example={"test_name": "unit", "task_id": 1, "status": "passed", "test_report": {"test_total": 2}},
)  # fmt: skip
async def test_run(call: Call) -> dict[str, Any]:
    """One run of a test, with its report."""
    run = await _found(call, quality.TEST)
    facts = run.job.result.get("junit") if run.job is not None else None
    report = None
    if isinstance(facts, dict):
        report = {
            "test_total": facts["tests"],
            "failure_total": facts["failures"],
            "success_total": facts["successes"],
            "skiped_total": facts["skips"],  # sic
            "error_total": facts["errors"],
            "time": facts["time"],
            "test_cases": await quality.cases_of(call.ctx, run),
        }
    return {"test_name": call.path_value("name"), **_task(run), "test_report": report}


@ROUTES.get(
    f"{SCAN}/{{name}}/task/{{id}}", in_query("get_scan", required=NO_PROJECT), faults=_NO_TASK,
    query=("projectKey!",),
    example={"scan_name": "lint", "task_id": 1, "status": "passed", "result_link": "", "repo_info": []},
)  # fmt: skip
async def scan_run(call: Call) -> dict[str, Any]:
    """One run of a code scan."""
    run = await _found(call, quality.SCAN)
    return {
        "scan_name": call.path_value("name"),
        **_task(run),
        "result_link": run.spec.get("link_url", ""),
        "sonar_metrics": run.spec.get("sonar_metrics"),
        "repo_info": list(run.spec.get("repos", ())),
    }


async def _found(call: Call, of: quality.Quality) -> quality.Run:
    number = integer(call.path_value("id"))
    if number is None:
        raise bad_request("id must be an integer")
    return await quality.find(call.ctx, of, call.need(PROJECT), call.path_value("name"), number)


def _task(run: quality.Run) -> dict[str, Any]:
    task = run.task
    return {
        "task_id": task.number,
        "workflow_key": task.workflow_key,
        "creator": task.creator,
        "create_time": int(task.create_at),
        "start_time": int(task.start_at or 0),
        "end_time": int(task.end_at or 0),
        "status": task_status(task),
    }
