"""``cador import zadig``: what a live Zadig holds, as one file for ``cador apply``."""

import os
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from cador.cli.client import Client
from cador.cli.contexts import Place
from cador.cli.import_zadig_mapping import Mapper
from cador.cli.import_zadig_reader import Reader
from cador.cli.import_zadig_values import lines_of
from cador.cli.manifest import Unset
from cador.cli.options import group
from cador.cli.output import FAILED, USAGE, Failure, plain, say
from cador.operations.declarative.documents import Document
from cador.operations.declarative.pipeline import Source, comments, dump_all, prepare, validate

HEADER: Final = "# Imported from Zadig"
VARIABLE: Final = "ZADIG_TOKEN"

app = group(
    "import",
    """Take over what another server holds, as a file for cador apply.

      $ cador import zadig --url https://zadig.example.com""",
)


@app.command
def zadig(
    *,
    url: Annotated[str, Parameter(help="Its address, such as https://zadig.example.com.")],
    token: Annotated[
        str, Parameter(help=f"An API token of it; better in {VARIABLE}: other users see command lines.")
    ] = "",
    project: Annotated[list[str] | None, Parameter(negative="", help="Only this project; again for more.")] = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="The file to write; - is stdout.")] = Path(
        "cador.yaml"
    ),
    force: Annotated[bool, Parameter(negative="", help="Replace a file that no import wrote.")] = False,
) -> int:
    """Read projects, services, builds, tests, scans, workflows and what they use from a Zadig.

    Nothing is changed there. Secrets are not read: the file has ${NAME} for them, and a list. Running it again writes
    the same file, unless something has changed there.

    $ ZADIG_TOKEN=... cador import zadig --url https://zadig.example.com --project shop -o cador.yaml
    """
    token = token or os.environ.get(VARIABLE, "")
    if not token:
        raise Failure(f"a token is needed: --token, or {VARIABLE}", USAGE)
    if str(output) != "-":
        _check_output(output, force)
    reader = Reader(Client(Place(url.rstrip("/"), token, "--url")), say)
    mapper = Mapper()
    chosen = reader.projects(tuple(project or ()))
    mapper.system(reader.system())
    for one in chosen:
        mapper.project(one, reader.project(str(one["project_key"])))
    text = written(url, mapper, reader.missing)
    faults = _faults(text)
    if str(output) == "-":
        print(text, end="")
    else:
        _write(output, text)
        say(f"{output}: {len(mapper.documents)} objects, {len(mapper.secrets)} secrets to set")
    for note in (*mapper.notes, *reader.missing):
        say(plain(f"note: {note}"))
    for fault in faults:
        say(fault)
    return FAILED if faults else 0


def written(url: str, mapper: Mapper, missing: list[str]) -> str:
    """The whole file. The same every time as long as the same is read: in the order of applying."""
    prepared = prepare([Source("", dump_all(mapper.documents))], environment=Unset({}, []))
    order = {document.identity: number for number, document in enumerate(prepared.documents)}
    wires = sorted(mapper.documents, key=lambda wire: order.get(_identity(wire), len(order)))
    parts = url.partition("://")
    lines = [
        f"{HEADER.removeprefix('# ')} at {parts[0]}://{parts[2].rpartition('@')[2].rstrip('/')}",
        "Check it with cador validate, see what it would do with cador diff, then cador apply.",
        *lines_of(mapper.secrets, (*mapper.notes, *missing)),
    ]
    return comments(lines) + "---\n" + dump_all(wires)


def _identity(wire: dict[str, object]) -> tuple[str, str, str]:
    metadata, spec = wire["metadata"], wire["spec"]
    assert isinstance(metadata, dict)  # noqa: S101 - made by the mapper
    kind, name = str(wire["kind"]), str(metadata["name"])
    project = name if kind == "Project" else str(metadata.get("project", ""))
    return Document(kind, name, project, spec if isinstance(spec, dict) else {}).identity


def _faults(text: str) -> list[str]:
    """What ``cador validate`` would say of the file: it is meant to say nothing."""
    checked = validate(prepare([Source("imported", text)], environment=Unset({}, [])))
    return [str(fault) for fault in checked.faults]


def _check_output(path: Path, force: bool) -> None:
    """Raises: Failure: a file is there that somebody wrote."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            ours = file.readline().startswith(HEADER)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", USAGE) from error
    if not ours and not force:
        raise Failure(f"{path} is there, and no import wrote it; name another file, or use --force", USAGE)


def _write(path: Path, text: str) -> None:
    """The whole file or nothing of it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error
