"""``cador backup`` and ``cador restore``: everything a server keeps, in one file and back."""

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cador import __version__
from cador.cli.options import Json, group
from cador.cli.output import Failure, on_terminal, result, result_json, say

if TYPE_CHECKING:
    from cador.settings import Settings
    from cador.storage.backup import Place
    from cador.storage.backup_archive import Manifest

_Data = Annotated[Path | None, Parameter(help="Data folder; else CADOR_DATA, else $XDG_DATA_HOME/cador.")]
_Config = Annotated[Path | None, Parameter(help="Settings file; else cador.toml in the data folder.")]
_Database = Annotated[str | None, Parameter(help="Database URL; else the SQLite file of the data folder.")]
_File = Annotated[Path, Parameter(help="The backup.")]

app = group(
    "backup",
    """Write everything a server keeps into one file, while it works.

    Tables, logs and artifacts as they were at one moment. `cador restore` puts them back.

      $ cador backup /backups
      $ cador backup verify /backups/cador-2026-01-31T020000Z.tar.zst""",
)


@app.default
def backup(
    target: Annotated[Path, Parameter(help="A new file, or a folder in which one is made.")],
    /,
    *,
    with_key: Annotated[
        bool, Parameter(negative="", help="Put the key of stored credentials in: whoever has the file can read them.")
    ] = False,
    data: _Data = None,
    database: _Database = None,
    config: _Config = None,
    json: Json = False,
) -> int:
    """Write a backup of the server of this data folder, whether it runs or not.

    $ cador backup /backups
    $ cador backup before-upgrade.tar.zst --data /var/lib/cador
    """
    from cador.storage import backup as work

    settings = _settings(data, database, config)
    progress = _Progress("backup")
    with progress, _in_words("the backup was not made"):
        path, manifest = work.backup(_place(settings), target, with_key=with_key, cador=__version__, progress=progress)
    _tell(f"backup {path}", path, manifest, as_json=json)
    if not manifest.has_key:
        say("cador: the key is not in it: keep a copy of the file key of the data folder apart, in a safe place")
    if settings.store.url:
        say("cador: what only the shared store holds is not in it: keep that store safe by its own means")
    for kind, count in manifest.left_out.items():
        say(f"cador: {count} {kind} were deleted on the server while the backup was made and are not in it")
    return 0


@app.command(name="verify")
def verify(file: _File, /, *, json: Json = False) -> int:
    """Read a whole backup and compare it with its own list of contents.

    $ cador backup verify /backups/cador-2026-01-31T020000Z.tar.zst
    """
    from cador.storage import backup as work

    progress = _Progress("verify")
    with progress, _in_words("the backup cannot be read"):
        manifest = work.verify(file, progress)
    _tell("whole and undamaged", file, manifest, as_json=json)
    return 0


def restore(
    file: _File, /, *, data: _Data = None, database: _Database = None, config: _Config = None, json: Json = False
) -> int:
    """Put a backup into an empty data folder (and an empty database), all of it or nothing.

    The backup is checked first. If the key is not in it, put the file `key` into the data folder before. Jobs that were
    running when the backup was made are run again when the server starts, or fail with the reason.

    $ cador restore /backups/cador-2026-01-31T020000Z.tar.zst --data /var/lib/cador
    """
    from cador.storage import backup as work

    place = _place(_settings(data, database, config))
    progress = _Progress("restore")
    with progress, _in_words("nothing was restored"):
        manifest = work.restore(place, file, progress)
    _tell(f"restored into {place.data}", file, manifest, as_json=json)
    if manifest.key_id and not place.key and not (place.data / "key").exists():
        say(f"cador: put the key {manifest.key_id} into {place.data / 'key'} (chmod 600) before the server starts")
    return 0


def _settings(data: Path | None, database: str | None, config: Path | None) -> "Settings":
    from cador.settings import load

    return load({"data": data, "database": database}, config=config)


def _place(settings: "Settings") -> "Place":
    from cador.storage.backup import Place

    folder = settings.data.absolute()
    return Place(folder, settings.database or f"sqlite:///{folder / 'cador.db'}", settings.key)


def _tell(what: str, path: Path, manifest: "Manifest", *, as_json: bool) -> None:
    if as_json:
        result_json({"file": str(path), "bytes": path.stat().st_size, **asdict(manifest)})
        return
    files = {name: manifest.parts.get(name, {}).get("files", 0) for name in ("logs", "blobs")}
    result(
        f"{what}: {manifest.tasks} tasks, {sum(one.rows for one in manifest.tables)} rows, {files['logs']} log files, "
        f"{files['blobs']} artifacts, {_amount(path.stat().st_size)}; made {manifest.made_at} by cador {manifest.cador}"
    )


def _amount(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB" if size >= 1 << 20 else f"{size / 1024:.1f} KiB"


class _Progress:
    """How far it is, on a terminal, in one line that is wiped at the end."""

    def __init__(self, what: str) -> None:
        self._what, self._told_at = what, 0.0
        self._shown = on_terminal(sys.stderr)

    def __enter__(self) -> "_Progress":
        return self

    def __call__(self, part: str, done: int) -> None:
        now = time.monotonic()
        if self._shown and now - self._told_at >= 0.1:
            self._told_at = now
            print(f"\r\x1b[K{self._what}: {part} {_amount(done)}", end="", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._told_at:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _in_words(what: str) -> Iterator[None]:
    """Errors of the machine in one line. Those of cador are told as they are."""
    try:
        yield
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise Failure(f"{what}: {place}{error.strerror or error}") from error
