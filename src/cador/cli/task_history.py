"""``cador task events`` and ``cador task show --at``: the past of a task."""

import json as json_module
import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from cyclopts import Parameter

from cador.cli.client import Client, connect
from cador.cli.options import Json, Project, Task
from cador.cli.output import USAGE, Failure, console, plain, result, result_json, say
from cador.cli.task_names import find_task
from cador.cli.task_view import render

LOOK_S: Final = 0.5
"""Seconds between two looks at what is new."""
_AGO: Final = re.compile(r"-(\d+(?:\.\d+)?)(s|m|h|d)", re.ASCII)
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def events(
    task: Task,
    /,
    *,
    follow_: Annotated[
        bool, Parameter(name=["--follow", "-f"], negative="", help="Stay until the task ends, and tell what is new.")
    ] = False,
    project: Project = "",
    json: Json = False,
) -> int:
    """What happened to a task, in order. With --json and --follow one event per line.

    $ cador task events release/12
    $ cador task events release/latest -f
    """
    client = connect()
    workflow, number = find_task(client, task, project)
    pages = _pages(client, workflow, number, follow=follow_)
    if json and not follow_:
        result_json({"events": [event for page in pages for event in page]})
        return 0
    if not json:
        result(f"{'TIME':<23}  {'EVENT':<17}  WHAT")
    for page in pages:
        for event in page:
            result(json_module.dumps(event, ensure_ascii=False) if json else line(event))
    return 0


def _pages(client: Client, workflow: str, number: int, *, follow: bool) -> Iterator[list[dict[str, Any]]]:
    after = 0
    while True:
        reply = client.tasks.events(workflow, number, after=after)
        yield reply["events"]
        after = reply["next"] or after
        if not reply["events"]:
            if not follow or reply["over"]:
                return
            time.sleep(LOOK_S)
        elif reply["over"]:
            return


def line(event: Mapping[str, Any]) -> str:
    """One event as a row of a table: local time, its word, and what happened."""
    at = datetime.fromisoformat(event["at"]).astimezone()
    moment = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"
    return plain(f"{moment}  {event['kind']:<17}  {event['text']}").rstrip()


def show_at(client: Client, workflow: str, number: int, at: str, *, json: bool) -> None:
    """The task as it was. Raises: Failure: *at* is no moment."""
    moment = instant(at, time.time())
    past = client.tasks.state(workflow, number, moment)
    if json:
        result_json(past)
        return
    render(as_detail(past), console(), moment)
    last = past["last_event"]
    result(f"as it was {local(moment)}" + (f", after: {plain(last['text'])}" if last else ""))
    if not past["agrees"]:
        say("its events do not give the task as it is stored: do not rely on this")


def instant(text: str, now: float) -> float:
    """Unix seconds of what a person wrote: ``-5m``, Unix seconds, or a date and time, local unless it names its zone.

    Raises: Failure.
    """
    if ago := _AGO.fullmatch(text.strip()):
        return now - float(ago[1]) * _SECONDS[ago[2]]
    try:
        if re.fullmatch(r"\d+(\.\d+)?", text.strip(), re.ASCII):
            return float(text)
        return datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except (ValueError, OverflowError):
        example = 'e.g. "2026-11-21 10:00", 1795258800, or -5m (also s, h, d)'
        raise Failure(f"{text!r} is no moment; write {example}", USAGE) from None


def local(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def as_detail(past: Mapping[str, Any]) -> dict[str, Any]:
    """A state of the past in the shape in which tasks are drawn."""
    return {
        "workflow_key": past["workflow"],
        "task_id": past["number"],
        "status": past["status"],
        "task_creator": past["creator"],
        "error": past["error"],
        **_times(past),
        "stages": [
            {
                "name": stage["name"],
                "status": stage["status"],
                "error": stage["error"],
                **_times(stage),
                "approval": _approval(stage["approval"]),
                "jobs": [
                    {
                        "name": job["name"],
                        "type": job["type"],
                        "status": job["status"],
                        "error": job["error"],
                        **_times(job),
                        "spec": {"native_approval": _approval(job["approval"]) or {}},
                    }
                    for job in stage["jobs"]
                ],
            }
            for stage in past["stages"]
        ],
    }


def _times(thing: Mapping[str, Any]) -> dict[str, float]:
    return {"start_time": _unix(thing["started_at"]), "end_time": _unix(thing["ended_at"])}


def _unix(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _approval(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if told is None:
        return None
    return {
        "description": told["description"],
        "needed_approvers": told["needed"],
        "approve_users": [
            {"user_name": voter["user_name"], "reject_or_approve": voter["vote"]} for voter in told["voters"]
        ],
    }
