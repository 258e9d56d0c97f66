"""Collecting artifacts: files a job left in its workspace are copied into the blob store.

The workspace is hostile. Whoever owns it may still change it, so nothing is looked up twice: every folder and file on
the way is opened by the descriptor of the one above, without following links, and what was opened is what is checked
and copied. Nothing but regular files is taken; a file with several hard links only when it belongs to the owner of the
workspace, as the job may have linked one it could not read.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cador.domain.errors import Invalid
from cador.ports.blobs import BlobStore
from cador.ports.executor import Keep

MAX_FILES: Final = 20_000
_DEEPEST: Final = 64
_CHUNK: Final = 1 << 20
_PROBLEMS_TOLD: Final = 20
_NO_WORKSPACE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES})
"""What a job may have done to its workspace where it runs as the server does: asking again changes nothing."""
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# a pipe or a terminal put in place of a file must not block or take over
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Collected:
    """``keys``: key and size of each blob stored, in order. ``problems``: lines for the job's log. ``failed``: a
    required path was missing or a limit was reached, which fails the job."""

    keys: tuple[tuple[str, int], ...]
    problems: tuple[str, ...]
    failed: bool


def collect(
    workspace: Path,
    keeps: Iterable[Keep],
    prefix: str,
    max_bytes: int,
    *,
    blobs: BlobStore,
    max_files: int = MAX_FILES,
) -> Collected:
    """Copy what *keeps* name below *workspace* to ``<prefix>/<keep.prefix>/<name>``: a file under its own name, a
    folder with all below it under the names relative to it. *max_bytes* and *max_files*: of all together.

    Blocking. Raises: OSError of the blob store, or of a machine that can open no folder now.
    """
    collection = _Collection(blobs, max_bytes, max_files)
    try:
        root = os.open(workspace, _FOLDER_FLAGS)
    except OSError as error:
        if error.errno not in _NO_WORKSPACE:
            raise
        problem = f"the workspace of the job is not there any more: {_reason(error)}"
        return Collected((), (problem,), any(keep.required for keep in keeps))
    try:
        collection.owner = os.fstat(root).st_uid
        for keep in keeps:
            collection.keep(root, keep, prefix)
    except _LimitReached as reached:
        collection.tell(str(reached))
        collection.failed = True
    except _StoreFailed as failure:
        raise failure.error from None
    finally:
        os.close(root)
    problems = collection.problems[:_PROBLEMS_TOLD]
    if len(collection.problems) > _PROBLEMS_TOLD:
        problems.append(f"... and {len(collection.problems) - _PROBLEMS_TOLD} more")
    return Collected(tuple(collection.keys), tuple(problems), collection.failed)


class _LimitReached(Exception):
    pass


class _Refused(Exception):
    """Why one file is not taken."""


class _StoreFailed(Exception):
    """The blob store cannot be used: no problem of the job's."""

    def __init__(self, error: OSError) -> None:
        self.error = error


@dataclass
class _Collection:
    blobs: BlobStore
    room: int
    files_left: int
    owner: int = -1
    keys: list[tuple[str, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    failed: bool = False

    def __post_init__(self) -> None:
        self._limits = f"artifacts are larger than {self.room} bytes", f"more than {self.files_left} artifacts"

    def tell(self, problem: str) -> None:
        self.problems.append(problem)

    def keep(self, root: int, keep: Keep, prefix: str) -> None:
        segments = [segment for segment in keep.path.split("/") if segment not in ("", ".")]
        below = "/".join(part for part in (prefix.strip("/"), keep.prefix.strip("/")) if part)
        before, told = len(self.keys), len(self.problems)
        if keep.path.startswith("/") or ".." in segments:
            self.tell(f"{_shown(keep.path)}: not inside the workspace")
        else:
            with ExitStack() as opened:
                try:
                    self._keep_path(root, segments, below, opened, folder=keep.path.endswith("/"))
                except FileNotFoundError:
                    if keep.required:
                        self.tell(f"{_shown(keep.path)}: no such file or folder")
                except (_Refused, OSError) as error:
                    self.tell(f"{_shown(keep.path)}: {_reason(error)}")
        if keep.required and len(self.keys) == before:
            self.failed = True
            if len(self.problems) == told:
                self.tell(f"{_shown(keep.path)}: the folder is empty")

    def _keep_path(self, at: int, segments: list[str], below: str, opened: ExitStack, *, folder: bool) -> None:
        for segment in segments[:-1]:
            at = _open(segment, _FOLDER_FLAGS, at)
            opened.callback(os.close, at)
        if not segments:
            self._folder(at, below, "", 0)
            return
        name = segments[-1]
        mode = os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            at = _open(name, _FOLDER_FLAGS, at)
            opened.callback(os.close, at)
            self._folder(at, below, "", 0)
        elif folder:
            raise _Refused("not a folder")
        else:
            self._file(at, name, mode, below, name)

    def _folder(self, folder: int, below: str, inside: str, depth: int) -> None:
        for name in self._names(folder):
            relative = inside + name
            try:
                mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
                if not stat.S_ISDIR(mode):
                    self._file(folder, name, mode, below, relative)
                    continue
                if depth >= _DEEPEST:
                    raise _Refused("too deep")
                inner = _open(name, _FOLDER_FLAGS, folder)
            except (_Refused, OSError) as error:
                self.tell(f"{_shown(relative)}: {_reason(error)}")
                continue
            try:
                self._folder(inner, below, f"{relative}/", depth + 1)
            finally:
                os.close(inner)

    def _names(self, folder: int) -> list[str]:
        names: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                names.append(entry.name)
                if len(names) > self.files_left + len(self.problems) + 1_000:
                    raise _LimitReached(self._limits[1])
        return sorted(names)

    def _file(self, folder: int, name: str, mode: int, below: str, relative: str) -> None:
        """Raises: _Refused, OSError: this file is not taken. _LimitReached, _StoreFailed."""
        if not stat.S_ISREG(mode):  # not even opened: opening a device may do something
            raise _Refused("links are not taken" if stat.S_ISLNK(mode) else "not a regular file")
        file = _open(name, _FILE_FLAGS, folder)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise _Refused("not a regular file")
            if found.st_nlink > 1 and found.st_uid != self.owner:
                raise _Refused("a hard link to a file of somebody else")
            if self.files_left == 0:
                raise _LimitReached(self._limits[1])
            key = f"{below}/{relative}" if below else relative
            try:
                size = self.blobs.put_stream(key, self._chunks(file))
            except Invalid as error:
                raise _Refused(str(error)) from error
            except OSError as error:  # of the store, not of the workspace: the caller's to answer
                raise _StoreFailed(error) from error
        finally:
            os.close(file)
        self.room -= size
        self.files_left -= 1
        self.keys.append((key, size))

    def _chunks(self, file: int) -> Iterator[bytes]:
        left = self.room
        while chunk := os.read(file, _CHUNK):
            left -= len(chunk)
            if left < 0:
                raise _LimitReached(self._limits[0])
            yield chunk


def _open(name: str, flags: int, folder: int) -> int:
    return os.open(name, flags, dir_fd=folder)


def _shown(name: str) -> str:
    """A file name as one line of UTF-8, whatever is in it."""
    return name.encode("utf-8", "backslashreplace").decode() if name.isprintable() else ascii(name)[1:-1]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return "links are not taken" if error.errno in (errno.ELOOP, errno.ENOTDIR) else error.strerror or str(error)
    return str(error)
