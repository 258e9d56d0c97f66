"""``cador workflow``: definitions."""

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from cador.cli.client import Client, connect
from cador.cli.files import file_text
from cador.cli.options import Json, Project, Yes, group
from cador.cli.output import moment, plain, result, result_json, say, table
from cador.cli.task_names import project_of, projects
from cador.cli.terminal import confirm

app = group(
    "workflow",
    """Workflow definitions.

      $ cador workflow list
      $ cador workflow show release""",
)

_Key = Annotated[str, Parameter(help="Key of the workflow.")]
_File = Annotated[
    Path, Parameter(name=["--file", "-f"], allow_leading_hyphen=True, help="Definition as JSON or YAML; - is stdin.")
]


@app.command(name="list")
def list_(*, project: Project = "", view: str = "", json: Json = False) -> int:
    """Workflows of one project, or of all.

    $ cador workflow list --project shop
    """
    client = connect()
    rows: list[dict[str, Any]] = []
    for key in [project] if project else projects(client):
        rows += [{"project_key": key, **one} for one in client.workflows.list(key, view=view)]
    if json:
        result_json(rows)
        return 0
    table(
        ("project", "workflow", "name", "changed", "by"),
        (
            (
                one["project_key"],
                one["workflow_key"],
                one["workflow_name"],
                moment(one["update_time"]),
                one["update_by"],
            )
            for one in rows
        ),
    )
    return 0


@app.command
def show(workflow: _Key, /, *, project: Project = "", json: Json = False) -> int:
    """The stages and jobs of a workflow.

    $ cador workflow show release
    """
    detail = definition(connect(), workflow, project)
    if json:
        result_json(detail)
        return 0
    for line in drawing(detail):
        result(plain(line))
    return 0


def definition(client: Client, workflow: str, project: str = "") -> dict[str, Any]:
    """The definition as the API tells it."""
    return client.workflows.get(workflow, project or project_of(client, workflow))


def drawing(detail: dict[str, Any]) -> list[str]:
    """A workflow as a tree of lines."""
    limit = detail["concurrency_limit"]
    tasks = {-1: "any number of tasks", 0: "not executable", 1: "1 task"}.get(limit, f"{limit} tasks")
    lines = [f"{detail['project_key']}/{detail['workflow_key']}  {detail['workflow_name']}  ({tasks} at once)"]
    if detail.get("description"):
        lines.append(detail["description"])
    if detail.get("params"):
        told = (
            f"{one['name']}={'********' if one.get('is_credential') else one.get('value', '')}"
            for one in detail["params"]
        )
        lines.append("parameters: " + ", ".join(told))
    utf = (sys.stdout.encoding or "").lower().startswith("utf")
    branch, last, bar = ("├─ ", "└─ ", "│  ") if utf else ("|- ", "`- ", "|  ")
    stages = detail["stages"]
    for index, stage in enumerate(stages):
        final = index == len(stages) - 1
        traits = ["jobs in parallel"] if stage["parallel"] else []
        approval = stage.get("approval") or {}
        if approval.get("enabled"):
            native = approval.get("native_approval") or {}
            names = ", ".join(user.get("user_name", "") for user in native.get("approve_users") or [])
            traits.append(f"after approval by {native.get('needed_approvers', 1)} of {names}")
        lines.append((last if final else branch) + stage["name"] + (f"  ({'; '.join(traits)})" if traits else ""))
        for number, job in enumerate(stage["jobs"]):
            inner = last if number == len(stage["jobs"]) - 1 else branch
            policy = f"  ({job['run_policy']})" if job.get("run_policy") else ""
            lines.append(("   " if final else bar) + inner + f"{job['name']}  {job['type']}{policy}")
    return lines


@app.command
def create(*, file: _File) -> int:
    """Create a workflow from the document's JSON or YAML.

    $ cador workflow create -f release.yaml
    """
    connect().workflows.create(file_text(file))
    say("created")
    return 0


@app.command
def update(workflow: _Key, /, *, file: _File, project: Project = "") -> int:
    """Replace the definition of a workflow; what `show --json` prints can be sent back.

    $ cador workflow update release -f release.yaml
    """
    client = connect()
    project = project or project_of(client, workflow)
    client.workflows.replace(workflow, project, file_text(file))
    say(f"{workflow} is changed; tasks that run keep the old definition")
    return 0


@app.command
def delete(workflow: _Key, /, *, project: Project = "", yes: Yes = False) -> int:
    """Delete a workflow with its tasks; running ones are stopped.

    $ cador workflow delete release
    """
    client = connect()
    project = project or project_of(client, workflow)
    confirm(f"Delete workflow {workflow} of project {project}, its tasks and their logs?", yes)
    client.workflows.delete(workflow, project)
    say(f"{workflow} is deleted")
    return 0
