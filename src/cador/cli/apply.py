"""``cador apply``, ``diff``, ``validate``, ``convert``, ``export``, ``delete``: everything as YAML files."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from cador.cli.client import Client, connect
from cador.cli.manifest import Unset, checked, read, read_documents, variables_from
from cador.cli.options import Json, Project, Yes
from cador.cli.output import FAILED, USAGE, Failure, plain, result, result_json, say
from cador.cli.terminal import confirm
from cador.client.shapes import ApplyResult
from cador.operations.declarative.documents import Document
from cador.operations.declarative.pipeline import to_wire, to_yaml
from cador.operations.declarative.pipeline import validate as cross_checked

_Files = Annotated[
    list[Path],
    Parameter(
        name=["--file", "-f"],
        negative="",
        allow_leading_hyphen=True,
        help="File or folder; again for more; - is stdin.",
    ),
]
_Set = Annotated[list[str] | None, Parameter(name="--set", negative="", help="NAME=VALUE for ${NAME} in the files.")]
_EnvFile = Annotated[Path | None, Parameter(help="File of NAME=VALUE lines for ${NAME}; the environment wins.")]
_Plain = Annotated[bool, Parameter(negative="", help="Allow secrets that stand in the files.")]
_Keep = Annotated[
    bool,
    Parameter(
        name="--keep-secrets", negative="", help="A secret whose variable is not set stays as the server has it."
    ),
]


_SetName = Annotated[
    str, Parameter(name="--set-name", help="Name of this set of files; --prune looks only at objects of the same set.")
]
_Prune = Annotated[
    bool, Parameter(negative="", help="Delete what an earlier apply of this set made and the files no longer name.")
]


def apply(
    *,
    file: _Files,
    dry_run: Annotated[bool, Parameter(negative="", help="Only tell what would be done.")] = False,
    prune: _Prune = False,
    set_: _Set = None,
    env_file: _EnvFile = None,
    set_name: _SetName = "",
    allow_plain_secrets: _Plain = False,
    keep_secrets: _Keep = False,
    json: Json = False,
) -> int:
    """Create or update everything the files describe, all or nothing.

    $ cador apply -f cador.yaml --set GIT_TOKEN="$(cat token)"
    """
    variables = variables_from(env_file, set_ or [])
    documents = read_documents(file, variables, plain_secrets=allow_plain_secrets, keep_secrets=keep_secrets)
    return _tell(send(connect(), documents, dry_run=dry_run, prune=prune, set=set_name), json)


def diff(
    *,
    file: _Files,
    prune: _Prune = False,
    set_: _Set = None,
    env_file: _EnvFile = None,
    set_name: _SetName = "",
    allow_plain_secrets: _Plain = False,
    keep_secrets: _Keep = False,
    json: Json = False,
) -> int:
    """Show what apply would change. Exit status 1 when it would change anything.

    $ cador diff -f cador.yaml
    """
    variables = variables_from(env_file, set_ or [])
    documents = read_documents(file, variables, plain_secrets=allow_plain_secrets, keep_secrets=keep_secrets)
    reply = send(connect(), documents, dry_run=True, prune=prune, set=set_name, diff=True)
    changes = [one for one in reply["results"] if one["action"] != "unchanged"]
    _tell({"results": changes, "warnings": reply["warnings"]}, json)
    return FAILED if changes else 0


def send(client: Client, documents: list[Document], **order: Any) -> ApplyResult:
    """Apply documents; *order*: as the client's ``configuration.apply`` takes it. Raises: Refused."""
    return client.configuration.apply(to_wire(documents), **order)


def _tell(reply: ApplyResult, json: bool) -> int:
    """Print what became of each object. Returns the exit status."""
    if json:
        result_json(reply)
    failed = False
    for one in reply["results"]:
        name = f"{one['kind'].lower()}/{one['name']}"
        failed |= one["action"] in ("error", "kept")
        if json:
            continue
        if one["action"] == "error":
            say(plain(f"{name}: {one['error']}"))
            continue
        result(plain(f"{name} {one['action']}" + (f": {one['error']}" if one["error"] else "")))
        if one.get("diff"):
            result(one["diff"].rstrip("\n"))
    for warning in reply["warnings"]:
        say(plain(f"warning: {warning}"))
    return FAILED if failed else 0


def validate(*, file: _Files, set_: _Set = None, env_file: _EnvFile = None, json: Json = False) -> int:
    """Check files without a server: their form, and references between them.

    Variables that are not set are named, and something stands in for them.

    $ cador validate -f cador.yaml
    """
    variables = Unset(variables_from(env_file, set_ or []), file, checking=True)
    prepared = cross_checked(read(file, variables))
    if json:
        objects = [{"kind": one.kind, "name": one.name, "project": one.project} for one in prepared.documents]
        faults, warnings = [str(fault) for fault in prepared.faults], list(prepared.warnings)
        result_json({"objects": objects, "errors": faults, "warnings": warnings, "not_set": sorted(variables.asked)})
        return FAILED if faults else 0
    documents = checked(prepared)
    if variables.asked:
        say(f"note: not set: {', '.join(sorted(variables.asked))}")
    kinds = Counter(document.kind for document in documents)
    result("valid: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    return 0


def convert(*, file: _Files, json: Json = False) -> int:
    """Print the long form, one document per object; ${NAME} stays as it stands.

    $ cador convert -f cador.yaml
    """
    variables = Unset({}, file, keep=True)
    documents = read_documents(file, variables, plain_secrets=True)
    if json:
        result_json([document.wire() for document in documents])
    else:
        print(variables.written(to_yaml(documents)), end="")
    return 0


def export(
    *,
    project: Project = "",
    with_ids: Annotated[bool, Parameter(negative="", help="Show the server's ids as comments.")] = False,
) -> int:
    """Print a project, or without one the system, as YAML that apply takes; secrets are ${NAME}.

    $ cador export --project shop > cador.yaml
    """
    text = connect().configuration.export(project, with_ids=with_ids)
    print(text, end="" if text.endswith("\n") else "\n")
    return 0


def delete(*, file: _Files, set_: _Set = None, env_file: _EnvFile = None, yes: Yes = False, json: Json = False) -> int:
    """Delete what the files describe: workflows with their tasks, then what they use.

    Variables that are not set matter only where they are part of a name.

    $ cador delete -f cador.yaml
    """
    variables = Unset(variables_from(env_file, set_ or []), file)
    documents = read_documents(file, variables, plain_secrets=True)
    if unset := variables.left_in("\n".join(f"{one.project} {one.name}" for one in documents)):
        raise Failure(f"variable {unset[0]} is not set, and what is to be deleted is named by it", USAGE)
    confirm(f"Delete {', '.join(f'{one.kind.lower()}/{one.name}' for one in reversed(documents))}?", yes)
    return _tell(connect().configuration.delete(to_wire(documents)), json)
