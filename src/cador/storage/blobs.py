"""Blobs in a folder of this host: ``<root>/<key>``, and ``<root>/.partial/`` for what is being written."""

import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from cador.domain.errors import Invalid, NotFound
from cador.ports.blobs import Blob

_PARTIAL: Final = ".partial"


class LocalBlobs:
    """See :class:`cador.ports.blobs.BlobStore`. Several processes may use one folder. Keys keep their names on disk,
    so a segment is limited to 255 bytes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put_bytes(self, key: str, data: bytes) -> None:
        self.put_stream(key, (data,))

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> int:
        target = self.path(key)
        partial = self._root / _PARTIAL / secrets.token_hex(16)
        try:
            size = _write(partial, chunks)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                partial.replace(target)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise Invalid(f"{key} is in the way of, or below, another artifact", place="key") from error
            except FileNotFoundError:  # the folder was removed by a delete in between
                target.parent.mkdir(parents=True, exist_ok=True)
                partial.replace(target)
        except BaseException:
            with suppress(FileNotFoundError):
                partial.unlink()
            raise
        return size

    def size(self, key: str) -> int:
        with self._opened(key) as file:
            return file.size

    def exists(self, key: str) -> bool:
        path = self.path(key)
        return path.is_file() and not path.is_symlink()

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        return b"".join(self.stream(key, start, length))

    def stream(self, key: str, start: int = 0, length: int | None = None, *, chunk: int = 65_536) -> Iterator[bytes]:
        return _pieces(self._opened(key), start, length, chunk)

    def list(self, prefix: str) -> Iterator[Blob]:
        if not prefix:
            yield from self._below(self._root, "")
            return
        path = self.path(prefix)
        if path.is_file():
            yield _blob(path, prefix)
        else:
            yield from self._below(path, f"{prefix}/")

    def delete(self, prefix: str) -> None:
        path = self.path(prefix)
        with suppress(FileNotFoundError, NotADirectoryError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def remove_partial(self, older_than: float) -> None:
        """Remove what interrupted writes left before *older_than* (Unix seconds)."""
        with suppress(FileNotFoundError):
            for path in (self._root / _PARTIAL).iterdir():
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < older_than:
                        path.unlink()

    def path(self, key: str) -> Path:
        """Where a blob is kept. Raises: Invalid."""
        segments = key.split("/")
        try:
            long = any(len(segment.encode()) > 255 for segment in segments)
        except UnicodeEncodeError:
            raise Invalid("an artifact's name is not UTF-8", place="key") from None
        if long or "\0" in key or segments[0] == _PARTIAL or any(segment in ("", ".", "..") for segment in segments):
            raise Invalid(f"{key!r} is no name for an artifact", place="key")
        return self._root.joinpath(*segments)

    def _opened(self, key: str) -> "_Opened":
        try:
            return _Opened(self.path(key))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise NotFound("artifact", key) from error

    def _below(self, folder: Path, prefix: str) -> Iterator[Blob]:
        try:
            entries = sorted(folder.iterdir(), key=lambda path: f"{path.name}/" if path.is_dir() else path.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for path in entries:
            if path.is_dir():
                if prefix or path.name != _PARTIAL:
                    yield from self._below(path, f"{prefix}{path.name}/")
            else:
                with suppress(FileNotFoundError):
                    yield _blob(path, prefix + path.name)


class _Opened:
    """An open blob; closed by leaving the block, or with the object."""

    def __init__(self, path: Path) -> None:
        self._fd = -1
        self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            raise IsADirectoryError
        self.size = found.st_size

    def __enter__(self) -> "_Opened":
        return self

    def __exit__(self, *_: object) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:  # a stream nobody read to its end
        self.__exit__()

    def pread(self, length: int, at: int) -> bytes:
        return os.pread(self._fd, length, at)


def _pieces(opened: _Opened, start: int, length: int | None, chunk: int) -> Iterator[bytes]:
    with opened as file:
        at = max(0, start)
        end = file.size if length is None else min(file.size, at + max(0, length))
        while at < end:
            data = file.pread(min(chunk, end - at), at)
            if not data:
                return
            yield data
            at += len(data)


def _blob(path: Path, key: str) -> Blob:
    found = path.stat()
    return Blob(key, found.st_size, found.st_mtime)


def _write(path: Path, chunks: Iterable[bytes]) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with path.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
            size += len(chunk)
        file.flush()
        os.fdatasync(file.fileno())
    return size
