"""Declarative files as the command line reads them: several files and folders, an env file, variables."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from cador.cli.files import file_text
from cador.cli.output import FAILED, USAGE, Failure, say
from cador.domain.errors import Invalid
from cador.domain.masking import MASK
from cador.operations.declarative.documents import Document
from cador.operations.declarative.nodes import MAX_BYTES
from cador.operations.declarative.pipeline import Prepared, Source, prepare

_SUFFIXES: Final = (".yaml", ".yml", ".json")
_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::?[-?][^}]*)?\}")
_STAND_IN: Final = re.compile(r"http://(?:Unset|Any)1-([A-Za-z_][A-Za-z0-9_]*)\.invalid")


def read_documents(
    paths: Sequence[Path], variables: Mapping[str, str], *, plain_secrets: bool = False, keep_secrets: bool = False
) -> list[Document]:
    """The long documents of all files, in the order of applying, checked as far as they can be without a server.

    *keep_secrets*: a secret whose variable is not set is sent as ``********``, which the server takes as what it has.
    Warnings go to stderr. Raises: Failure, after everything that is wrong was told on stderr.
    """
    return checked(read(paths, variables, plain_secrets=plain_secrets, unset_secret=MASK if keep_secrets else None))


def read(
    paths: Sequence[Path],
    variables: Mapping[str, str],
    *,
    plain_secrets: bool = False,
    unset_secret: str | None = None,
) -> Prepared:
    """All files as they are, faults included. Raises: Failure: a file cannot be read."""
    return prepare(
        [source for path in paths for source in _sources(path)],
        environment=variables,
        read_file=Folders([Path.cwd(), *(path if path.is_dir() else path.parent for path in paths)]).read,
        plain_secrets=plain_secrets,
        unset_secret=unset_secret,
    )


def checked(prepared: Prepared) -> list[Document]:
    """The documents if nothing is wrong with them. Raises: Failure."""
    for fault in prepared.faults:
        say(str(fault))
    if count := len(prepared.faults):
        raise Failure(f"{count} mistake{'s' * (count > 1)}; nothing was sent", FAILED)
    for warning in prepared.warnings:
        say(f"warning: {warning}")
    if not prepared.documents:
        raise Failure("the files describe nothing", USAGE)
    return list(prepared.documents)


def variables_from(
    env_file: Path | None, given: Sequence[str], environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """What ``${NAME}`` may name: an env file, then the environment, then ``--set``; the later wins."""
    known: dict[str, str] = {}
    if env_file is not None:
        for number, line in enumerate(file_text(env_file).splitlines(), start=1):
            stripped = line.strip().removeprefix("export ")
            if not stripped or stripped.startswith("#"):
                continue
            name, equals, value = (part.strip() for part in stripped.partition("="))
            if not equals or not name.isidentifier():
                raise Failure(f"{env_file}:{number}: not of the form NAME=VALUE", USAGE)
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            known[name] = value
    known |= environ
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise Failure(f"--set {text!r} is not of the form NAME=VALUE", USAGE)
        known[name] = value
    return known


def _sources(path: Path) -> list[Source]:
    if str(path) == "-":
        return [Source("stdin", file_text(path))]
    if not path.is_dir():
        return [Source(str(path), file_text(path))]
    files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
    if not files:
        raise Failure(f"{path}: no file ending in {', '.join(_SUFFIXES)}", USAGE)
    return [Source(str(file), file_text(file)) for file in files]


class Folders:
    """Where the files may lie that a manifest names: below the working folder, or beside the manifest. Whoever applies
    somebody else's manifest does not hand out files from elsewhere with it."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = [folder.resolve() for folder in folders]

    def read(self, beside: str, path: str) -> str:
        """The text of *path*, relative to the file *beside*. Raises: OSError, UnicodeDecodeError, Invalid."""
        place = (Path(beside).parent / path).resolve()
        if not any(place.is_relative_to(folder) for folder in self._folders):
            raise Invalid(f"it lies outside of {' and '.join(dict.fromkeys(map(str, self._folders)))}")
        if not place.is_file():  # a device or a pipe may never end
            raise Invalid("there is no such file" if not place.exists() else "it is no ordinary file")
        if place.stat().st_size > MAX_BYTES:
            raise Invalid(f"it is larger than {MAX_BYTES // 1024 // 1024} MiB")
        return place.read_text(encoding="utf-8")


class Unset(Mapping[str, str]):
    """Variables for reading files without knowing all values: a stand-in for each that is not set.

    A stand-in passes where a text, an address or a good password is wanted. ``keep``: also for those that are set or
    have a default in the file, so that :meth:`written` can put every reference back. ``checking``: it passes for
    numbers and switches, too, because nothing comes of them.
    """

    def __init__(
        self, known: Mapping[str, str], paths: Sequence[Path], *, keep: bool = False, checking: bool = False
    ) -> None:
        self._known, self._keep, self._word = known, keep, "Any" if checking else "Unset"
        self._written = {
            match[1]: match[0]
            for path in paths
            for source in (_sources(path) if path.is_file() or path.is_dir() else [])  # a pipe is read once
            for match in _REFERENCE.finditer(source.text)
        }
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        if not self._keep:
            if name in self._known:
                return self._known[name]
            if ":-" in self._written.get(name, ""):
                raise KeyError(name)
        self.asked.add(name)
        return f"http://{self._word}1-{name}.invalid"

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __bool__(self) -> bool:
        return True  # it has an answer for every name

    def written(self, text: str) -> str:
        """*text* with the references in place of their stand-ins."""
        return _STAND_IN.sub(lambda match: self._written.get(match[1], f"${{{match[1]}}}"), text)

    def left_in(self, text: str) -> list[str]:
        """Names whose stand-ins are in *text*."""
        return sorted({match[1] for match in _STAND_IN.finditer(text)})
