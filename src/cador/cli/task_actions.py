"""``cador task retry``, ``execute`` and ``attempts``: what a person does to a task that exists."""

import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Any

from cyclopts import Parameter

from cador.cli.client import Client, connect, segment
from cador.cli.options import Json, Project, Task
from cador.cli.output import FAILED, USAGE, Failure, plain, result, result_json, say, table
from cador.cli.task_names import find_task, task_detail

_Names = list[str] | None
Follow = Annotated[bool, Parameter(name=["--follow", "-f"], negative="", help="Follow it until the end.")]


def retry(
    task: Task,
    /,
    *,
    job: Annotated[_Names, Parameter(name=["--job", "-j"], negative="", help="Of what failed only this job.")] = None,
    from_: Annotated[str, Parameter(name="--from", help="This job and all that follows it, passed or not.")] = "",
    set_: Annotated[
        _Names,
        Parameter(
            name="--set",
            negative="",
            help="NAME=VALUE of a workflow parameter (of a repository: its branch), JOB.KEY=VALUE of a job's variable.",
        ),
    ] = None,
    follow_: Follow = False,
    project: Project = "",
) -> int:
    """Run the jobs of a task again that did not pass, or what is chosen of it, also with other values.

    Single jobs that failed (--job, more than once if need be) begin anew at once while others still run.

    $ cador task retry release/12 -f

    $ cador task retry release/12 --from build --set VERSION=1.4.1 --set build.DEBUG=1
    """
    if job and from_:
        raise Failure("--job and --from exclude each other", USAGE)
    client = connect()
    workflow, number = find_task(client, task, project)
    if job or from_ or set_:
        edits = _edits(client.tasks.inspect(workflow, number), set_) if set_ else {}
        client.tasks.retry_some(workflow, number, jobs=job or (), from_job=from_, **edits)
    else:
        project = project or task_detail(client, workflow, number)["project_key"]
        client.tasks.retry(workflow, number, project)
    return _followed(client, workflow, number, "runs again", follow=follow_)


def execute(
    task: Task,
    stage: Annotated[str, Parameter(help="The stage; by default the one that the task waits before.")] = "",
    /,
    *,
    job: Annotated[
        _Names, Parameter(name=["--job", "-j"], negative="", help="Of the stage only this job, skip the others.")
    ] = None,
    set_: Annotated[
        _Names, Parameter(name="--set", negative="", help="JOB.KEY=VALUE of a variable of one of its jobs.")
    ] = None,
    follow_: Follow = False,
    project: Project = "",
) -> int:
    """Let the manual stage begin that a task waits before.

    $ cador task execute release/12 production

    $ cador task execute release/12 --job deploy-eu --set deploy-eu.REPLICAS=3
    """
    client = connect()
    workflow, number = find_task(client, task, project)
    project = project or task_detail(client, workflow, number)["project_key"]
    if not stage:
        stage = client.tasks.manual_stage(workflow, number, project)
        if not stage:
            raise Failure(f"{workflow}/{number} waits before no manual stage", FAILED)
    body: dict[str, Any] = {"stage_name": stage}
    if job:
        body["jobs"] = job
    if set_:
        found = _edits(client.tasks.inspect(workflow, number), set_)
        if found["parameters"]:
            raise Failure(f"--set {next(iter(found['parameters']))}: a stage takes JOB.KEY=VALUE alone", USAGE)
        body["inputs"] = found["inputs"]
    execute_stage(client, workflow, number, project, body)
    return _followed(client, workflow, number, f"goes on in stage {stage}", follow=follow_)


def execute_stage(client: Client, workflow: str, number: int, project: str, body: Mapping[str, Any]) -> None:
    """Execute a manual stage through the documented route. Raises: Refused."""
    client.tasks.run_stage(workflow, number, project, body)


def _followed(client: Client, workflow: str, number: int, what: str, *, follow: bool) -> int:
    if not follow:
        say(f"{workflow}/{number} {what}")
        return 0
    from cador.cli.follow import follow as until_it_ends

    return 0 if until_it_ends(client, workflow, number)["status"] == "passed" else FAILED


def _edits(detail: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """``parameters`` and ``inputs`` of a request from *settings*; *detail*: the task, as the own route tells it.

    Raises: Failure (usage): what is set is no parameter of the task and no variable of its jobs.
    """
    params = [param["name"] for param in detail["params"]]
    jobs: dict[str, list[Mapping[str, Any]]] = {}
    for stage in detail["stages"]:
        for job in stage["jobs"]:
            jobs.setdefault(job["job"], []).append(job)
    parameters: dict[str, str] = {}
    variables: dict[str, dict[str, str]] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        job, dot, key = name.partition(".")
        if not equals or not name:
            raise Failure(f"--set {text!r} is not of the form NAME=VALUE or JOB.KEY=VALUE", USAGE)
        if name in params:
            parameters[name] = value
        elif dot and key and job in jobs:
            variables.setdefault(job, {})[key] = value
        else:
            near = get_close_matches(job if dot else name, [*params, *jobs], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Failure(f"the task has no {f'job {job}' if dot else f'parameter {name}'}{hint}", USAGE)
    inputs = [
        {"job_name": name, "job_type": jobs[name][0]["type"], "parameters": _input(jobs[name], values)}
        for name, values in variables.items()
    ]
    return {"parameters": parameters, "inputs": inputs}


def _input(tasks: Sequence[Mapping[str, Any]], values: Mapping[str, str]) -> dict[str, Any]:
    """``parameters`` of the input of one job, whose job tasks *tasks* are: where its type keeps variables."""
    variables = [{"key": key, "value": value} for key, value in values.items()]
    specs = [task["spec"] for task in tasks]
    services = [
        {"service_name": spec["service_name"], "service_module": spec["service_module"], "inputs": variables}
        for spec in specs
        if spec.get("service_name")
    ]
    match tasks[0]["type"]:
        case "freestyle" if services:
            return {"services": services}
        case "freestyle" | "plugin":
            return {"kv": variables}
        case "zadig-test" if not services:
            return {"testing_list": [{"testing_name": spec["test_name"], "inputs": variables} for spec in specs]}
        case "zadig-build" | "zadig-test":
            return {"service_list": services}
        case kind:
            raise Failure(f"--set does not reach jobs of type {kind}; use the API", USAGE)


def attempts(
    task: Task,
    job: Annotated[str, Parameter(help="One job; without it all that began.")] = "",
    /,
    *,
    log: Annotated[int, Parameter(help="Print the log of this attempt of the job instead.")] = 0,
    project: Project = "",
    json: Json = False,
) -> int:
    """The attempts of jobs side by side: how each went, how long it took, and what was changed before it.

    $ cador task attempts release/12

    $ cador task attempts release/12 api-api-build --log 1
    """
    if log and not job:
        raise Failure("--log needs a job", USAGE)
    client = connect()
    workflow, number = find_task(client, task, project)
    if log:
        own = f"/api/v1/tasks/{segment(workflow)}/{number}"
        with client.download(f"{own}/jobs/{segment(job)}/log?attempt={log}", accept="text/plain") as response:
            sys.stdout.flush()
            shutil.copyfileobj(response, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        return 0
    names = [job] if job else list(_begun(client.tasks.inspect(workflow, number)))
    found = [client.tasks.attempts(workflow, number, name) for name in names]
    if json:
        result_json(found[0] if job else found)
        return 0
    rows = [(one["job"], *_row(attempt)) for one in found for attempt in one["attempts"]]
    table(("job", "attempt", "status", "started", "took", "steps", "changed", "error"), rows)
    if not rows:
        result("nothing has begun")
    return 0


def _begun(detail: Mapping[str, Any]) -> Iterator[str]:
    for stage in detail["stages"]:
        yield from (job["name"] for job in stage["jobs"] if job["attempts"])


def _row(attempt: Mapping[str, Any]) -> tuple[object, ...]:
    changed = ", ".join(
        f"{one['name']}: {one['before'] or '(configured)'} -> {one['after']}" for one in attempt["changes"]
    )
    steps = ", ".join(f"{step['name']} {step['status'] or 'not run'}" for step in attempt["steps"])
    took = "" if attempt["took_s"] is None else f"{attempt['took_s']:.1f} s"
    return (
        attempt["attempt"], attempt["status"], _moment(attempt["started_at"]), took, plain(steps), plain(changed),
        plain(attempt["error"]),
    )  # fmt: skip


def _moment(text: str | None) -> str:
    """A time of the server as local time."""
    if not text:
        return ""
    at = datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
