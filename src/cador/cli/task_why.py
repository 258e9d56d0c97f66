"""``cador task why``: what a task and its jobs wait for."""

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Any

from cyclopts import Parameter

from cador.cli.client import connect
from cador.cli.options import Json, Project, Task
from cador.cli.output import Failure, plain, result, result_json
from cador.cli.task_names import find_task
from cador.cli.task_view import span


def why(
    task: Task,
    job: Annotated[str, Parameter(help="Name of one job task; without it all that wait.")] = "",
    /,
    *,
    project: Project = "",
    json: Json = False,
) -> int:
    """What a task waits for, and each of its jobs: whom, until when, and when it may start.

    $ cador task why release/latest
    $ cador task why release/12 deploy
    """
    client = connect()
    workflow, number = find_task(client, task, project)
    told = client.tasks.why(workflow, number)
    if job:
        told = {**told, "jobs": [_named(told["jobs"], job, f"{workflow}/{number}")]}
    if json:
        result_json(told)
        return 0
    for line in job_lines(told["jobs"][0]) if job else lines(told, time.time()):
        result(plain(line))
    return 0


def _named(jobs: list[dict[str, Any]], name: str, task: str) -> dict[str, Any]:
    found = next((job for job in jobs if job["name"] == name), None)
    if found is None:
        names = [str(job["name"]) for job in jobs]
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"
        raise Failure(f"{task} has no job {name}; {hint}")
    return found


def lines(told: Mapping[str, Any], now: float) -> Iterator[str]:
    """The whole answer in words. *now*: Unix seconds."""
    place = f", number {told['position']} in the queue" if told.get("position") else ""
    yield f"{told['workflow']}/{told['number']}  {_words(told['status_detail'])}{place}"
    if not told["reasons"]:
        yield "  it waits for nothing"
    for reason in told["reasons"]:
        yield from (f"  {line}" for line in reason_lines(reason))
    if told.get("position"):
        yield f"  {_start(told.get('expected_start'), now)}"
    stage = ""
    waiting = [job for job in told["jobs"] if job["reasons"] and job["reasons"][0]["reason"] != "finished"]
    for job in waiting:
        if job["stage"] != stage:
            stage = job["stage"]
            yield f"stage {stage}"
        first, *more = job_lines(job)
        yield f"  {first}"
        yield from (f"  {line}" for line in more)


def job_lines(job: Mapping[str, Any]) -> Iterator[str]:
    """Of one job: its name with the first reason, then the others."""
    texts = [line for reason in job["reasons"] for line in reason_lines(reason)] or ["it runs"]
    yield f"{job['name']}: {texts[0]}"
    yield from (f"  {text}" for text in texts[1:])


def reason_lines(reason: Mapping[str, Any]) -> Iterator[str]:
    """One reason: the sentence, and whom or what it names beyond that."""
    word = "until" if reason["reason"] == "approval" else "at"
    until = f", {word} {_local(reason['until'])}" if reason.get("until") else ""
    yield f"{reason['text']}{until}"
    tasks = [f"{task['workflow']}/{task['number']}" for task in reason.get("blocking", ())]
    if reason.get("hidden"):
        tasks.append(f"{reason['hidden']} that you may not see")
    if tasks:
        yield f"  in its way: {', '.join(tasks)}"
    if reason["reason"] == "stage_limit":
        yield f"  running: {', '.join(reason.get('waits_for', ()))}"


def _start(expected: Mapping[str, Any] | None, now: float) -> str:
    if expected is None:
        return "nobody can tell when it starts"
    at = datetime.fromisoformat(expected["at"]).timestamp()
    away = span({"start_time": now, "end_time": at}, now) if at > now + 0.5 else ""
    roughly = "" if expected["sure"] == "good" else ", roughly"
    samples = expected["samples"]
    ground = f", by the last {samples} that passed" if samples else ""
    moment = f"in {away}, at {_local(expected['at'])}" if away else "any moment"
    return f"it may start {moment}{roughly}{ground}"


def _local(text: str) -> str:
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _words(status: str) -> str:
    return status.replace("_", " ")
