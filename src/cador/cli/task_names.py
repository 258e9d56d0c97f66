"""Tasks as people write them: ``WORKFLOW/N``, or ``WORKFLOW/latest``."""

from difflib import get_close_matches
from typing import Any

from cador.cli.client import Client, Refused
from cador.cli.output import FAILED, USAGE, Failure


def split_task(text: str) -> tuple[str, str]:
    """``release/12`` -> ``("release", "12")``. Raises: Failure."""
    workflow, slash, number = text.strip().rpartition("/")
    if not slash or not workflow or not (number == "latest" or (number.isascii() and number.isdigit() and int(number))):
        raise Failure(f"{text!r} is no task; write WORKFLOW/NUMBER or WORKFLOW/latest, e.g. release/12", USAGE)
    return workflow, number


def find_task(client: Client, text: str, project: str = "") -> tuple[str, int]:
    """Workflow key and number of the task *text* names; ``latest`` is looked up. Raises: Failure."""
    workflow, number = split_task(text)
    if number != "latest":
        return workflow, int(number)
    project = project or project_of(client, workflow)
    tasks = client.tasks.list(workflow, project, size=1)["workflow_tasks"]
    if not tasks:
        raise Failure(f"workflow {workflow} has no task yet; start one with cador run {workflow}")
    return workflow, int(tasks[0]["task_id"])


def projects(client: Client) -> list[str]:
    """Keys of all projects the caller sees."""
    return [one["project_key"] for one in client.projects.list()]


def project_or_only(client: Client, given: str) -> str:
    """The given project, or the only one there is. Raises: Failure."""
    if given:
        return given
    known = projects(client)
    if len(known) == 1:
        return known[0]
    raise Failure(f"which project? Add --project, one of: {', '.join(known) or 'there is none yet'}", USAGE)


def project_of(client: Client, workflow: str) -> str:
    """The project a workflow is in: keys of workflows are unique over the server. Raises: Failure."""
    known: list[str] = []
    for project in projects(client):
        for one in client.workflows.list(project):
            if one["workflow_key"] == workflow:
                return project
            known.append(one["workflow_key"])
    near = get_close_matches(workflow, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "cador workflow list shows those there are"
    raise Failure(f"there is no workflow {workflow} that you may see; {hint}", FAILED)


def task_detail(client: Client, workflow: str, number: int) -> dict[str, Any]:
    """The task as the API tells it. Raises: Failure with the task's name when there is none."""
    try:
        return dict(client.tasks.get(workflow, number))
    except Refused as refused:
        if isinstance(refused.body, dict) and refused.body.get("description") == "mongo: no documents in result":
            raise Failure(f"there is no task {workflow}/{number}") from refused
        raise
