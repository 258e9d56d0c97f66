"""Routes of tests and code scans, and of their runs by themselves.

Source: API documents, "Tests", "Scans"; creating tests, and changing, listing and deleting either, is ours.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field

from cador.api.catalogue import Operation
from cador.api.described import Described
from cador.api.errors import bad_request
from cador.api.params import PROJECT, integer
from cador.api.permissions import in_query, in_query_or_body
from cador.api.resources.kinds import shown, shown_model
from cador.api.resources.scripts import NO_PROJECT, Line, Script, body_of, register
from cador.api.routing import Call, Routes
from cador.api.statuses import task_status
from cador.domain.errors import Conflict, NotFound
from cador.operations import quality, resources
from cador.operations.models.body import Body
from cador.operations.models.builds import TestBody
from cador.operations.models.scans import ScanBody

TESTS: Final = Routes("builds and tests")
SCANS: Final = Routes("scans")
ROUTES: Final = Routes("runs of tests and scans")
TEST: Final = "/openapi/quality/testing"
SCAN: Final = "/openapi/quality/codescan"
_FLAGS: Final = ("submodules", "hidden")
_NO_TASK: Final = {NotFound: Operation.GET_TASK}


# -- what a project keeps


class TestLine(Line):
    __test__ = False

    description: str


class ScanLine(TestLine):
    scanner_type: str


register(
    TESTS,
    Script(
        "test",
        TEST,
        "a test",
        "testings",
        TestLine,
        lambda test: {"description": test.document["description"]},
        Operation.CREATE_TEST,
        Operation.UPDATE_TEST,
    ),
)
register(
    SCANS,
    Script(
        "scan",
        SCAN,
        "a code scan",
        "scans",
        ScanLine,
        lambda scan: {key: scan.document[key] for key in ("scanner_type", "description")},
        Operation.CREATE_SCAN,
        Operation.UPDATE_SCAN,
    ),
)


class TestInput(Described):
    """A variable as the documents show it; ``value`` of a credential is `********`."""

    __test__ = False

    key: str
    value: str
    type: str
    choice_option: list[str]
    required: bool
    is_credential: bool
    has_value: bool
    description: str


@TESTS.get(
    f"{TEST}/{{name}}",
    in_query("get_test", required=NO_PROJECT),
    faults={NotFound: Operation.GET_TEST},
    query=("projectKey!",),
    reply=shown_model(TestBody, test_name=(str, ""), inputs=(list[TestInput], [])),
)
async def test_detail(call: Call) -> dict[str, Any]:
    """One test: its variables as the documents show them, and the whole configuration."""
    test = await resources.find(call.ctx, "test", call.need(PROJECT), call.path_value("name"))
    found = shown(test)
    return {**found, "test_name": test.name, "inputs": [_input(parameter) for parameter in found["parameters"]]}


def _input(parameter: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("key", "type", "choice_option", "is_credential", "description")
    value = parameter["default_value"]
    return {**{key: parameter[key] for key in keys}, "value": value, "required": False, "has_value": bool(value)}


@TESTS.delete(
    f"{TEST}/{{name}}",
    in_query("delete_test", required=NO_PROJECT),
    faults={NotFound: Operation.DELETE_TEST, Conflict: Operation.DELETE_TEST},
    query=("projectKey!",),
)
async def delete_test(call: Call) -> None:
    """Delete a test that no workflow uses, with its own runs."""
    await quality.delete(call.ctx, call.actor, quality.TEST, call.need(PROJECT), call.path_value("name"))


@SCANS.get(
    f"{SCAN}/{{name}}",
    in_query("get_scan", required=NO_PROJECT),
    faults={NotFound: Operation.BAD_REQUEST},
    query=("projectKey!",),
    reply=shown_model(ScanBody),
)
async def scan_detail(call: Call) -> dict[str, Any]:
    """One code scan."""
    return shown(await resources.find(call.ctx, "scan", call.need(PROJECT), call.path_value("name")))


@SCANS.delete(
    f"{SCAN}/{{name}}",
    in_query("delete_scan", required=NO_PROJECT),
    faults={NotFound: Operation.BAD_REQUEST},
    query=("projectKey!",),
)
async def delete_scan(call: Call) -> None:
    """Delete a code scan that no workflow uses, with its own runs."""
    await quality.delete(call.ctx, call.actor, quality.SCAN, call.need(PROJECT), call.path_value("name"))


# -- runs


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
    f"{TEST}/task",
    in_query_or_body("run_test", required=NO_PROJECT),
    faults={NotFound: Operation.CREATE_TASK},
    query=("projectKey",),
    body=TestRunBody,
    reply=StartedRun,
)
async def run_test(call: Call) -> dict[str, Any]:
    """Run a test by itself."""
    project, body = await body_of(call)
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


class RunShown(Described):
    """``status``: as that of any task. Times: Unix seconds, 0 as long as there is none."""

    task_id: int
    workflow_key: str
    creator: str
    create_time: int
    start_time: int
    end_time: int
    status: str


class TestCase(Described):
    """``time``: seconds; ``failure``, ``error``: what it said, empty where it passed."""

    __test__ = False

    name: str
    time: float
    failure: str
    error: str


class TestReport(Described):
    """``test_cases``: the first thousand."""

    __test__ = False

    test_total: int
    failure_total: int
    success_total: int
    skiped_total: int  # sic
    error_total: int
    time: float
    test_cases: list[TestCase]


class TestRunShown(RunShown):
    """``test_report``: null without a report."""

    __test__ = False

    test_name: str
    test_report: TestReport | None


@ROUTES.get(
    f"{TEST}/{{name}}/task/{{id}}",
    in_query("get_test", required=NO_PROJECT),
    faults=_NO_TASK,
    query=("projectKey!",),
    reply=TestRunShown,
)
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


class RepositoryOfScan(Described):
    """As it was checked out."""

    source: str
    address: str
    repo_owner: str
    repo_namespace: str
    repo_name: str
    remote_name: str
    branch: str
    commit_id: str
    checkout_path: str
    submodules: bool
    hidden: bool


class ScanRunShown(RunShown):
    """``result_link``: page on the SonarQube server; ``sonar_metrics``: what it measured, null without one."""

    scan_name: str
    result_link: str
    sonar_metrics: dict[str, str] | None
    repo_info: list[RepositoryOfScan]


@ROUTES.get(
    f"{SCAN}/{{name}}/task/{{id}}",
    in_query("get_scan", required=NO_PROJECT),
    faults=_NO_TASK,
    query=("projectKey!",),
    reply=ScanRunShown,
)
async def scan_run(call: Call) -> dict[str, Any]:
    """One run of a code scan."""
    run = await _found(call, quality.SCAN)
    return {
        "scan_name": call.path_value("name"),
        **_task(run),
        "result_link": run.spec.get("link_url", ""),
        "sonar_metrics": run.spec.get("sonar_metrics"),
        "repo_info": [
            {**repo, "checkout_path": was.get("checkout_path") or "", **{key: was.get(key) is True for key in _FLAGS}}
            for repo, was in zip(run.spec.get("repos", ()), run.repositories, strict=False)
        ],
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
