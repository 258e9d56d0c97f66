"""``cador project|service|env|build|testing|scan|codehost|registry|cluster|database``: look at them, and delete them.

They are created and changed with ``cador apply``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Final

from cyclopts import App, Parameter

from cador.cli.client import Client, connect
from cador.cli.options import Json, Project, Yes, group
from cador.cli.output import Failure, result_json, say, table
from cador.cli.task_names import project_or_only
from cador.cli.terminal import confirm


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of resource. ``of``: the client's calls for it. ``name``: field that names one; ``id``: field of its id,
    where calls take that. ``sets``: there are those of the production set beside the others."""

    word: str
    text: str
    columns: tuple[str, ...]
    of: Callable[[Client], Any]
    name: str = "name"
    id: str = ""
    of_project: bool = True
    sets: bool = False


KINDS: Final = (
    Kind(
        "project",
        "Projects.",
        ("project_key", "project_name", "deploy_type", "description"),
        lambda client: client.projects,
        name="project_key",
        of_project=False,
    ),
    Kind(
        "service",
        "Services and their modules.",
        ("service_name", "type", "source"),
        lambda client: client.services,
        name="service_name",
        sets=True,
    ),
    Kind(
        "env",
        "Environments.",
        ("env_key", "namespace", "status", "update_by"),
        lambda client: client.environments,
        name="env_key",
        sets=True,
    ),
    Kind("build", "Build configurations.", ("name", "source", "update_by"), lambda client: client.builds),
    Kind("testing", "Test configurations.", ("name", "update_by"), lambda client: client.tests),
    Kind("scan", "Code scans.", ("name", "scanner_type", "update_by"), lambda client: client.scans),
    Kind(
        "codehost",
        "Git servers.",
        ("id", "name", "type", "address"),
        lambda client: client.codehosts,
        id="id",
        of_project=False,
    ),
    Kind(
        "registry",
        "Image registries.",
        ("registry_id", "name", "address", "namespace", "provider", "is_default"),
        lambda client: client.registries,
        id="registry_id",
        of_project=False,
    ),
    Kind(
        "cluster",
        "Clusters that jobs and services run on.",
        ("cluster_id", "name", "executor", "status"),
        lambda client: client.clusters,
        id="cluster_id",
        of_project=False,
    ),
    Kind(
        "database",
        "Databases of sql jobs.",
        ("id", "name", "type", "host", "port"),
        lambda client: client.databases,
        id="id",
        of_project=False,
    ),
)


@dataclass(frozen=True, slots=True)
class _Shelf:
    """Those of one kind that a command is about."""

    kind: Kind
    calls: Any
    place: tuple[str, ...]
    which: dict[str, bool]

    def all(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.calls.list(*self.place, **self.which)
        return found

    def one(self, name: str) -> dict[str, Any]:
        """The one of that name or id. Raises: Failure with the nearest name."""
        kind, rows = self.kind, self.all()
        for row in rows:
            if name in (str(row[kind.name]), str(row.get(kind.id or kind.name))):
                return row
        near = get_close_matches(name, [str(row[kind.name]) for row in rows], n=1)
        hint = f"did you mean {near[0]}?" if near else f"cador {kind.word} list shows those there are"
        raise Failure(f"there is no {kind.word} {name}; {hint}")

    def detail(self, row: dict[str, Any]) -> Any:
        return self.calls.get(*self.place, row[self.kind.id or self.kind.name], **self.which)

    def delete(self, row: dict[str, Any]) -> None:
        self.calls.delete(*self.place, row[self.kind.id or self.kind.name], **self.which)


def _shelf(kind: Kind, project: str, production: bool) -> _Shelf:
    client = connect()
    place = (project_or_only(client, project),) if kind.of_project else ()
    return _Shelf(kind, kind.of(client), place, {"production": production} if kind.sets else {})


def _app(kind: Kind) -> App:
    app = group(kind.word, f"{kind.text}\n\n  $ cador {kind.word} list\n\nCreated and changed with cador apply.")
    name_help = Annotated[str, Parameter(help=f"Name of the {kind.word}" + (" or its id." if kind.id else "."))]
    where: Any = Project if kind.of_project else Annotated[str, Parameter(parse=False)]
    of_set: Any = Annotated[bool, Parameter(parse=kind.sets, negative="", help="Of the production set.")]

    @app.command(name="list")
    def list_(*, project: where = "", production: of_set = False, json: Json = False) -> int:
        rows = _shelf(kind, project, production).all()
        if json:
            result_json(rows)
        else:
            table(kind.columns, ([row.get(column, "") for column in kind.columns] for row in rows))
        return 0

    @app.command
    def show(
        name: name_help,
        /,
        *,
        project: where = "",
        production: of_set = False,
        json: Json = False,
    ) -> int:
        shelf = _shelf(kind, project, production)
        detail = shelf.detail(shelf.one(name))
        if json:
            result_json(detail)
        else:
            from cador.operations.declarative.pipeline import dump_all

            print(dump_all([detail]), end="")
        return 0

    @app.command
    def delete(
        name: name_help,
        /,
        *,
        project: where = "",
        production: of_set = False,
        yes: Yes = False,
    ) -> int:
        shelf = _shelf(kind, project, production)
        row = shelf.one(name)
        confirm(f"Delete {kind.word} {row[kind.name]}?", yes)
        shelf.delete(row)
        say(f"{kind.word} {row[kind.name]} is deleted")
        return 0

    for command, text in ((list_, "All of them."), (show, "One of them as YAML."), (delete, "Delete one.")):
        verb = command.__name__.rstrip("_")
        example = f"$ cador {kind.word} {verb}" + ("" if verb == "list" else " NAME")
        app[verb].help = f"{text}\n\n{example}"
    return app


project, service, env, build, testing, scan, codehost, registry, cluster, database = map(_app, KINDS)
