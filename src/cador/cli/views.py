"""``cador view``: named selections of the workflows of a project."""

from typing import Annotated

from cyclopts import Parameter

from cador.cli.client import Client, connect
from cador.cli.options import Json, Project, Yes, group
from cador.cli.output import USAGE, Failure, moment, result_json, say, table
from cador.cli.task_names import project_or_only
from cador.cli.terminal import confirm
from cador.client import shapes

view = group(
    "view",
    """Views: named selections of the workflows of a project.

      $ cador view create releases --workflow build-deploy --workflow hotfix
      $ cador workflow list --view releases""",
)

_Name = Annotated[str, Parameter(help="Name of the view.")]
_Keys = Annotated[
    list[str] | None, Parameter(name="--workflow", negative="", help="Key of a workflow; again for more.")
]


def _members(client: Client, project: str, enabled: list[str], hidden: list[str]) -> list[shapes.ViewMember]:
    """With their types. One that does not exist (yet) is kept for the day it does."""
    found = client.workflows.list(project)
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
    rows = client.views.list(project_or_only(client, project))
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
    client.views.create(project, name, _members(client, project, workflow or [], []))
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
    client.views.change(project, name, _members(client, project, add or [], remove or []))
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
    client.views.delete(project, name)
    say(f"view {name} is deleted")
    return 0
