"""Artifacts in the shared store: ``blobs/<key>``, copied there after they were stored here."""

import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import unquote

from cador.domain.errors import Invalid, NotFound
from cador.ports.blobs import Blob
from cador.storage.blobs import LocalBlobs
from cador.storage.objects import Objects
from cador.storage.uploads import NOTHING, Uploads

_ROOT: Final = "blobs"
_ESCAPED: Final = re.compile(r"[%\\\x00-\x1f\x7f]")
_TASK_SEGMENTS: Final = 3


def object_key(key: str) -> str:
    """Keys as the stores take them: what they forbid or change is written ``%XX``."""
    return f"{_ROOT}/" + _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", key)


def group_of(key: str) -> str:
    """Orders about one task (``tasks/<workflow>/<number>``) are carried out in order."""
    return object_key("/".join(key.split("/")[:_TASK_SEGMENTS]))


def _about(key: str) -> tuple[str, int, str, int]:
    """Which job task a key (``tasks/<workflow>/<number>/<job task>/...``) belongs to."""
    parts = key.split("/")
    if len(parts) <= _TASK_SEGMENTS or parts[0] != "tasks" or not parts[2].isdecimal():
        return NOTHING
    return parts[1], int(parts[2]), parts[3], 0


class StoredBlobs:
    """Reads blobs in the shared store. Blocks; raises StoreAway. See :class:`cador.ports.blobs.BlobStore`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def size(self, key: str) -> int:
        """Raises: NotFound."""
        try:
            return self._objects.size(object_key(key))
        except FileNotFoundError:
            raise NotFound("artifact", key) from None

    def read(self, key: str, start: int, length: int) -> bytes:
        """*length* bytes, fewer at the end. Raises: NotFound."""
        end = min(self.size(key), start + length)
        try:
            return self._objects.get_range(object_key(key), start, end - start)
        except FileNotFoundError:
            raise NotFound("artifact", key) from None

    def list(self, prefix: str) -> list[Blob]:
        """All blobs of a prefix, ordered by key."""
        asked = object_key(prefix) if prefix else _ROOT
        found = [Blob(unquote(one.key[len(_ROOT) + 1 :]), one.size, one.stored_at) for one in self._objects.list(asked)]
        if not found and prefix:
            try:
                return [Blob(prefix, self._objects.size(asked), 0.0)]
            except FileNotFoundError:
                return []
        return sorted(found, key=lambda blob: blob.key)


class SharedBlobs:
    """The blobs of this server, copied to the shared store: for the engine. Implements
    ``ports.blobs.BlobStore``; reads what is here."""

    def __init__(self, local: LocalBlobs, uploads: Uploads) -> None:
        self._local, self._uploads = local, uploads

    def put_bytes(self, key: str, data: bytes) -> None:
        self.put_stream(key, (data,))

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> int:
        size = self._local.put_stream(key, chunks)
        self._uploads.put(group_of(key), object_key(key), self._local.path(key), about=_about(key))
        return size

    def delete(self, prefix: str) -> None:
        if not prefix:
            raise Invalid("nothing is named to be deleted", place="key")
        self._local.delete(prefix)
        self._uploads.delete(group_of(prefix), object_key(prefix), about=_about(prefix))

    def size(self, key: str) -> int:
        return self._local.size(key)

    def exists(self, key: str) -> bool:
        return self._local.exists(key)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        return self._local.read(key, start, length)

    def stream(self, key: str, start: int = 0, length: int | None = None, *, chunk: int = 65_536) -> Iterator[bytes]:
        return self._local.stream(key, start, length, chunk=chunk)

    def list(self, prefix: str) -> Iterator[Blob]:
        return self._local.list(prefix)
