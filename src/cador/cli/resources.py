"""``cador project|service|env|build|testing|scan|codehost|registry|cluster|database``: look at them, and delete them.

They are created and changed with ``cador apply``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Final

from cyclopts import App, Parameter

from cador.cli.client import Client, connect, segment
from cador.cli.options import Json, Project, Yes, group
from cador.cli.output import USAGE, Failure, result_json, say, table
from cador.cli.task_names import projects
from cador.cli.workflows import confirm


@dataclass(frozen=True, slots=True)
class Kind:
    """Where one kind of resource is found. ``{name}``, ``{id}`` and ``{project}`` are filled into paths and queries.

    ``rows``: key of the list in the reply, empty when the reply is the list. ``name``: field that names one.
    ``id``: field of its id where routes take that.
    """

    word: str
    text: str
    columns: tuple[str, ...]
    list: str
    show: str
    delete: str
    rows: str = ""
    name: str = "name"
    id: str = ""
    of_project: bool = True
    paged: bool = False
    show_query: Mapping[str, str] | None = None
    delete_query: Mapping[str, str] | None = None


_PROJECT_QUERY: Final = {"projectKey": "{project}"}
KINDS: Final = (
    Kind(
        "project",
        "Projects.",
        ("project_key", "project_name", "deploy_type", "description"),
        "/openapi/projects/project",
        "/openapi/projects/project/detail",
        "/openapi/projects/project",
        rows="projects",
        name="project_key",
        of_project=False,
        paged=True,
        show_query={"projectKey": "{name}"},
        delete_query={"projectKey": "{name}", "isDelete": "false"},
    ),
    Kind(
        "service",
        "Services and their modules.",
        ("service_name", "type", "source"),
        "/openapi/service/yaml/services",
        "/openapi/service/yaml/{name}",
        "/openapi/service/yaml/{name}",
        name="service_name",
        show_query=_PROJECT_QUERY,
        delete_query=_PROJECT_QUERY,
    ),
    Kind(
        "env",
        "Environments.",
        ("env_key", "namespace", "status", "update_by"),
        "/openapi/environments",
        "/openapi/environments/{name}",
        "/openapi/environments/{name}",
        name="env_key",
        show_query=_PROJECT_QUERY,
        delete_query=_PROJECT_QUERY,
    ),
    Kind(
        "build",
        "Build configurations.",
        ("name", "source", "update_by"),
        "/openapi/build",
        "/openapi/build/{name}/detail",
        "/openapi/build",
        rows="builds",
        paged=True,
        show_query=_PROJECT_QUERY,
        delete_query={"projectKey": "{project}", "name": "{name}"},
    ),
    Kind(
        "testing",
        "Test configurations.",
        ("name", "update_by"),
        "/openapi/quality/testing",
        "/openapi/quality/testing/{name}",
        "/openapi/quality/testing/{name}",
        rows="testings",
        paged=True,
        show_query=_PROJECT_QUERY,
        delete_query=_PROJECT_QUERY,
    ),
    Kind(
        "scan",
        "Code scans.",
        ("name", "scanner_type", "update_by"),
        "/openapi/quality/codescan",
        "/openapi/quality/codescan/{name}",
        "/openapi/quality/codescan/{name}",
        rows="scans",
        paged=True,
        show_query=_PROJECT_QUERY,
        delete_query=_PROJECT_QUERY,
    ),
    Kind(
        "codehost",
        "Git servers.",
        ("id", "name", "type", "address"),
        "/openapi/system/codehost",
        "/openapi/system/codehost/{id}",
        "/openapi/system/codehost/{id}",
        id="id",
        of_project=False,
    ),
    Kind(
        "registry",
        "Image registries.",
        ("registry_id", "address", "namespace", "provider", "is_default"),
        "/openapi/system/registry",
        "/openapi/system/registry/{id}",
        "/openapi/system/registry/{id}",
        name="address",
        id="registry_id",
        of_project=False,
    ),
    Kind(
        "cluster",
        "Clusters that jobs and services run on.",
        ("cluster_id", "name", "executor", "status"),
        "/openapi/system/cluster",
        "/openapi/system/cluster/{id}",
        "/openapi/system/cluster/{id}",
        id="cluster_id",
        of_project=False,
    ),
    Kind(
        "database",
        "Databases of sql jobs.",
        ("id", "name", "type", "host", "port"),
        "/openapi/system/dbinstance",
        "/openapi/system/dbinstance/{id}",
        "/openapi/system/dbinstance/{id}",
        id="id",
        of_project=False,
    ),
)


def _project(client: Client, kind: Kind, given: str) -> str:
    """The project to look into: the given one, or the only one there is."""
    if given or not kind.of_project:
        return given
    known = projects(client)
    if len(known) == 1:
        return known[0]
    raise Failure(f"which project? Add --project, one of: {', '.join(known) or 'there is none yet'}", USAGE)


def _rows(client: Client, kind: Kind, project: str) -> list[dict[str, Any]]:
    query: dict[str, Any] = {"projectKey": project} if kind.of_project else {}
    if not kind.paged:
        reply = client.get(kind.list, **query)
        return list(reply[kind.rows] if kind.rows else reply)
    found: list[dict[str, Any]] = []
    page = 1
    while True:
        reply = client.get(kind.list, **query, pageNum=page, pageSize=200)
        found += reply[kind.rows]
        if len(found) >= reply["total"] or not reply[kind.rows]:
            return found
        page += 1


def _one(client: Client, kind: Kind, name: str, project: str) -> dict[str, Any]:
    """The listed resource of that name or id. Raises: Failure with the nearest name."""
    rows = _rows(client, kind, project)
    for row in rows:
        if name in (str(row[kind.name]), str(row.get(kind.id or kind.name))):
            return row
    near = get_close_matches(name, [str(row[kind.name]) for row in rows], n=1)
    hint = f"did you mean {near[0]}?" if near else f"cador {kind.word} list shows those there are"
    raise Failure(f"there is no {kind.word} {name}; {hint}")


def _fill(text: str, name: str, ident: str, project: str) -> str:
    return text.format(name=name, id=ident, project=project)


def _target(
    kind: Kind, path: str, query: Mapping[str, str] | None, row: Mapping[str, Any], project: str
) -> tuple[str, Any]:
    name, ident = str(row[kind.name]), str(row.get(kind.id or kind.name))
    filled = {key: _fill(value, name, ident, project) for key, value in (query or {}).items()}
    return _fill(path, segment(name), segment(ident), project), filled


def _app(kind: Kind) -> App:
    app = group(kind.word, f"{kind.text}\n\n  $ cador {kind.word} list\n\nCreated and changed with cador apply.")
    name_help = Annotated[str, Parameter(help=f"Name of the {kind.word}" + (" or its id." if kind.id else "."))]

    @app.command(name="list")
    def list_(*, project: Project = "", json: Json = False) -> int:
        client = connect()
        rows = _rows(client, kind, _project(client, kind, project))
        if json:
            result_json(rows)
        else:
            table(kind.columns, ([row.get(column, "") for column in kind.columns] for row in rows))
        return 0

    @app.command
    def show(name: name_help, /, *, project: Project = "", json: Json = False) -> int:
        client = connect()
        project = _project(client, kind, project)
        path, query = _target(kind, kind.show, kind.show_query, _one(client, kind, name, project), project)
        detail = client.call("GET", path, query)
        if json:
            result_json(detail)
        else:
            from cador.operations.declarative.pipeline import dump_all

            print(dump_all([detail]), end="")
        return 0

    @app.command
    def delete(name: name_help, /, *, project: Project = "", yes: Yes = False) -> int:
        client = connect()
        project = _project(client, kind, project)
        row = _one(client, kind, name, project)
        confirm(f"Delete {kind.word} {row[kind.name]}?", yes)
        path, query = _target(kind, kind.delete, kind.delete_query, row, project)
        client.call("DELETE", path, query)
        say(f"{kind.word} {row[kind.name]} is deleted")
        return 0

    for command, text in ((list_, "All of them."), (show, "One of them as YAML."), (delete, "Delete one.")):
        verb = command.__name__.rstrip("_")
        example = f"$ cador {kind.word} {verb}" + ("" if verb == "list" else " NAME")
        app[verb].help = f"{text}\n\n{example}"
    return app


project, service, env, build, testing, scan, codehost, registry, cluster, database = map(_app, KINDS)
