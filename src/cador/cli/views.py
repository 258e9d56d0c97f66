"""``cador view``: named selections of the workflows of a project."""

from typing import Annotated, Any

from cyclopts import Parameter

from cador.cli.client import Client, connect, segment
from cador.cli.options import Json, Project, Yes, group
from cador.cli.output import USAGE, Failure, result_json, say, table
from cador.cli.task_names import projects
from cador.cli.tasks import moment
from cador.cli.workflows import confirm

view = group(
    "view",
    """Views: named selections of the workflows of a project.

      $ cador view create releases --workflow build-deploy --workflow hotfix
      $ cador workflow list --view releases""",
)

_PATH = "/openapi/workflows/view"
_Name = Annotated[str, Parameter(help="Name of the view.")]
_Keys = Annotated[
    list[str] | None, Parameter(name="--workflow", negative="", help="Key of a workflow; again for more.")
]


def project_or_only(client: Client, given: str) -> str:
    """The given project, or the only one there is. Raises: Failure."""
    if given:
        return given
    known = projects(client)
    if len(known) == 1:
        return known[0]
    raise Failure(f"which project? Add --project, one of: {', '.join(known) or 'there is none yet'}", USAGE)


def _members(client: Client, project: str, enabled: list[str], hidden: list[str]) -> list[dict[str, Any]]:
    """With their types. One that does not exist (yet) is kept for the day it does."""
    found = client.get("/openapi/workflows", projectKey=project)["workflows"]
    types = {one["workflow_key"]: one["type"] for one in found}
    for key in enabled:
        if key not in types:
            say(f"workflow {key} does not exist yet; it is shown once it does")
    return [
        {"workflow_key": key, "workflow_type": types.get(key, "custom"), "enabled": shown}
        for keys, shown in ((enabled, True), (hidden, False))
        for key in dict.fromkeys(keys)
    ]


@view.command(name="list")
def list_(*, project: Project = "", json: Json = False) -> int:
    """Views of a project with the workflows they show.

    $ cador view list --project shop
    """
    client = connect()
    rows = client.get(_PATH, projectKey=project_or_only(client, project))
    if json:
        result_json(rows)
        return 0
    shown = (
        (
            one["name"],
            " ".join(each["workflow_key"] for each in one["workflows"]),
            moment(one["update_time"]),
            one["update_by"],
        )
        for one in rows
    )
    table(("name", "workflows", "changed", "by"), shown)
    return 0


@view.command
def create(name: _Name, /, *, workflow: _Keys = None, project: Project = "") -> int:
    """Create a view.

    $ cador view create releases --workflow build-deploy --workflow hotfix
    """
    client = connect()
    project = project_or_only(client, project)
    members = _members(client, project, workflow or [], [])
    client.call("POST", _PATH, None, {"project_key": project, "name": name, "workflow_list": members})
    say(f"view {name} is created")
    return 0


@view.command
def edit(
    name: _Name,
    /,
    *,
    add: Annotated[list[str] | None, Parameter(negative="", help="Key of a workflow to show; again for more.")] = None,
    remove: Annotated[list[str] | None, Parameter(negative="", help="Key of one to hide; again for more.")] = None,
    project: Project = "",
) -> int:
    """Show and hide workflows in a view; the others stay as they are.

    $ cador view edit releases --add hotfix --remove build-deploy
    """
    if not add and not remove:
        raise Failure("nothing to change: name workflows with --add or --remove", USAGE)
    client = connect()
    project = project_or_only(client, project)
    body = {"workflow_list": _members(client, project, add or [], remove or [])}
    client.call("PUT", f"{_PATH}/{segment(name)}", {"projectKey": project}, body)
    say(f"view {name} is changed")
    return 0


@view.command
def delete(name: _Name, /, *, project: Project = "", yes: Yes = False) -> int:
    """Delete a view; its workflows stay.

    $ cador view delete releases
    """
    client = connect()
    project = project_or_only(client, project)
    confirm(f"Delete view {name} of project {project}?", yes)
    client.call("DELETE", f"{_PATH}/{segment(name)}", {"projectKey": project})
    say(f"view {name} is deleted")
    return 0
