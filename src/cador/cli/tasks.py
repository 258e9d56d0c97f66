"""``cador task``: one execution of a workflow."""

import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from cador.cli.client import Client, connect, segment
from cador.cli.follow import follow
from cador.cli.logs import log_lines
from cador.cli.options import Json, Limit, Project, Task, group
from cador.cli.output import FAILED, USAGE, Failure, console, moment, result, result_json, say, table
from cador.cli.task_actions import attempts, execute, retry
from cador.cli.task_history import events, show_at
from cador.cli.task_names import find_task, project_of, task_detail
from cador.cli.task_report import report
from cador.cli.task_view import open_approvals, render, span
from cador.cli.task_why import why

app = group(
    "task",
    """Look at, stop, repeat and approve workflow tasks.

    A task is written WORKFLOW/NUMBER, or WORKFLOW/latest:

      $ cador task show release/12
      $ cador task logs release/latest -f""",
)


@app.command(name="list")
def list_(
    workflow: Annotated[str, Parameter(help="Key of the workflow.")],
    /,
    *,
    project: Project = "",
    limit: Limit = 20,
    json: Json = False,
) -> int:
    """The newest tasks of a workflow.

    $ cador task list release --limit 5
    """
    client = connect()
    project = project or project_of(client, workflow)
    reply = client.tasks.list(workflow, project, size=limit)
    if json:
        result_json(reply)
        return 0
    now = time.time()
    tasks = reply["workflow_tasks"]
    remarked = any(one.get("remark") for one in tasks)
    table(
        ("task", "status", "by", "created", "took", *(("remark",) if remarked else ())),
        (
            (
                f"{one['workflow_key']}/{one['task_id']}",
                one["status"],
                one["task_creator"],
                moment(one["create_time"]),
                span(one, now),
                *((one.get("remark", ""),) if remarked else ()),
            )
            for one in tasks
        ),
    )
    return 0


@app.command
def show(
    task: Task,
    /,
    *,
    watch: Annotated[bool, Parameter(name=["--watch", "-w"], negative="", help="Stay until the task ends.")] = False,
    at: Annotated[
        str, Parameter(allow_leading_hyphen=True, help='As it was then: "2026-11-21 10:00", Unix seconds, or -5m.')
    ] = "",
    project: Project = "",
    json: Json = False,
) -> int:
    """Stages and jobs of a task: status, times, who is waited for.

    $ cador task show release/latest --watch
    $ cador task show release/12 --at -5m
    """
    client = connect()
    workflow, number = find_task(client, task, project)
    if at:
        if watch:
            raise Failure("--at is about the past, --watch about what comes", USAGE)
        show_at(client, workflow, number, at, json=json)
        return 0
    if watch and not json:
        detail = follow(client, workflow, number, logs=False)
        return 0 if detail["status"] == "passed" else FAILED
    detail = task_detail(client, workflow, number)
    if json:
        result_json(detail)
    else:
        render(detail, console(), time.time())
    return 0


@app.command
def logs(
    task: Task,
    /,
    *,
    job: Annotated[str, Parameter(name=["--job", "-j"], help="Name of one job; without it the logs of all.")] = "",
    follow_: Annotated[
        bool, Parameter(name=["--follow", "-f"], negative="", help="Stay until the job or task ends.")
    ] = False,
    tail: Annotated[int, Parameter(name=["--tail", "-n"], help="Begin with so many last lines; needs --job.")] = 0,
    project: Project = "",
) -> int:
    """What the jobs of a task wrote.

    $ cador task logs release/12 --job api-api-build
    """
    client = connect()
    workflow, number = find_task(client, task, project)
    if tail and not job:
        raise Failure("--tail needs --job", USAGE)
    if not job and follow_:
        detail = follow(client, workflow, number)
        return 0 if detail["status"] == "passed" else FAILED
    if job and follow_:
        for line in log_lines(client, workflow, number, job, tail=tail):
            result(line)
        return 0
    names = [job] if job else _jobs_with_logs(task_detail(client, workflow, number))
    for name in names:
        if not job and len(names) > 1:
            say(f"==> {name}")
        _print_log(client, workflow, number, name, tail)
    return 0


def _jobs_with_logs(detail: dict[str, Any]) -> list[str]:
    return [
        job["name"]
        for stage in detail["stages"]
        for job in stage["jobs"]
        if job["type"] != "approval" and job["start_time"]
    ]


def _print_log(client: Client, workflow: str, number: int, job: str, tail: int) -> None:
    path = f"/openapi/logs/log/v4/workflow/{segment(workflow)}/{number}/{segment(job)}"
    with client.download(path) as response:
        sys.stdout.flush()
        if tail > 0:
            from collections import deque

            sys.stdout.buffer.writelines(deque(response, maxlen=tail))
        else:
            shutil.copyfileobj(response, sys.stdout.buffer)
        sys.stdout.buffer.flush()


@app.command
def cancel(task: Task, /, *, project: Project = "") -> int:
    """Stop a task.

    $ cador task cancel release/12
    """
    client = connect()
    workflow, number = find_task(client, task, project)
    client.tasks.cancel(workflow, number)
    found = client.tasks.inspect(workflow, number)
    if found["ended_at"] is None:
        say(f"{workflow}/{number} is being stopped")
    elif found["status"] == "cancelled":
        say(f"{workflow}/{number} is cancelled")
    else:
        say(f"{workflow}/{number} was over already: {found['status_detail']}")
    return 0


@app.command
def remark(
    task: Task,
    text: Annotated[str, Parameter(help="The remark; an empty one takes it away.")],
    /,
    *,
    project: Project = "",
) -> int:
    """Change the word that lists show with a task, whatever its status.

    $ cador task remark release/12 "went out to the pilot shops"
    """
    client = connect()
    workflow, number = find_task(client, task, project)
    client.tasks.remark(workflow, number, text)
    say(f"{workflow}/{number}: remark {'changed' if text else 'removed'}")
    return 0


_Name = Annotated[str, Parameter(help="Stage or job that waits; needed only when several do.")]
_Comment = Annotated[str, Parameter(name=["--comment", "-m"], help="A word to go with it.")]


@app.command
def approve(task: Task, stage: _Name = "", /, *, comment: _Comment = "", project: Project = "") -> int:
    """Vote for a waiting approval.

    $ cador task approve release/12 -m "looks good"
    """
    return _vote(task, stage, comment, project, approved=True)


@app.command
def reject(task: Task, stage: _Name = "", /, *, comment: _Comment = "", project: Project = "") -> int:
    """Vote against a waiting approval; one vote against ends the task.

    $ cador task reject release/12 -m "not on a Friday"
    """
    return _vote(task, stage, comment, project, approved=False)


def _vote(task: str, stage: str, comment: str, project: str, *, approved: bool) -> int:
    client = connect()
    workflow, number = find_task(client, task, project)
    if not stage:
        waiting = [approval.name for approval in open_approvals(task_detail(client, workflow, number))]
        if len(waiting) != 1:
            many = f"several approvals wait ({', '.join(waiting)}); name one"
            raise Failure(many if waiting else f"nothing in {workflow}/{number} waits for an approval", FAILED)
        stage = waiting[0]
    vote(client, workflow, number, stage, comment, approved=approved)
    say(f"{stage} of {workflow}/{number}: {'approved' if approved else 'rejected'}")
    return 0


def vote(client: Client, workflow: str, number: int, stage: str, comment: str, *, approved: bool) -> None:
    """One vote, through the documented route. Raises: Refused."""
    client.tasks.approve(workflow, number, stage, approve=approved, comment=comment)


app.command(retry)
app.command(execute)
app.command(attempts)
app.command(why)
app.command(events)
app.command(report)


@app.command
def artifacts(
    task: Task,
    path: Annotated[str, Parameter(help="One of the listed paths: downloads it.")] = "",
    /,
    *,
    output: Annotated[
        Path | None,
        Parameter(name=["--output", "-o"], allow_leading_hyphen=True, help="File or folder to write to; - is stdout."),
    ] = None,
    project: Project = "",
    json: Json = False,
) -> int:
    """Files that the jobs of a task left: packages, reports.

    $ cador task artifacts release/12
    $ cador task artifacts release/12 api-api-build/archive/api.tar.gz -o dist/
    """
    client = connect()
    workflow, number = find_task(client, task, project)
    base = f"/api/v1/tasks/{segment(workflow)}/{number}/artifacts"
    if path:
        return _download(client, f"{base}/{'/'.join(map(segment, path.split('/')))}", path, output)
    found = client.tasks.artifacts(workflow, number)
    if json:
        result_json({"artifacts": found})
        return 0
    table(("path", "bytes"), ((one["path"], one["size"]) for one in found))
    return 0


def _download(client: Client, route: str, path: str, output: Path | None) -> int:
    name = path.rpartition("/")[2]
    target = output or Path(name)
    if target.is_dir():
        target /= name
    with client.download(route) as response:
        if str(output) == "-":
            sys.stdout.flush()
            shutil.copyfileobj(response, sys.stdout.buffer)
            return 0
        part = target.with_name(target.name + ".part")
        try:
            with part.open("wb") as file:
                shutil.copyfileobj(response, file)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    result(str(target))
    return 0
