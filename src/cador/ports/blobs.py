"""Blobs: artifacts, reports, packages - bytes under a key, written once and read often."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Blob:
    """``key``; ``size`` in bytes; ``stored_at``: Unix seconds."""

    key: str
    size: int
    stored_at: float


class BlobStore(Protocol):
    """Keys are paths like ``shop/7/api-api-build/archive/app.tgz``: segments joined by ``/``, none empty, ``.`` or
    ``..``; without NUL; encodable as UTF-8. A key is either a blob or a folder of blobs.

    Blocking; call it in a thread. A blob appears complete or not at all; putting a key again replaces it, readers of
    the old one read on. A prefix means the blob of that key and all below it as a folder, never half a segment.

    Every method raises ``Invalid`` for a key that breaks these rules, and OSError when the store cannot be used.
    """

    def put_bytes(self, key: str, data: bytes) -> None: ...

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store what *chunks* yield; returns its size. When *chunks* raises, nothing is stored."""

    def size(self, key: str) -> int:
        """Raises: NotFound."""

    def exists(self, key: str) -> bool: ...

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Part of a blob: fewer bytes past its end. Raises: NotFound."""

    def stream(self, key: str, start: int = 0, length: int | None = None, *, chunk: int = 65_536) -> Iterator[bytes]:
        """The same in pieces. Raises: NotFound, when called rather than when read."""

    def list(self, prefix: str) -> Iterator[Blob]:
        """All blobs of a prefix, ordered by key; ``""`` means all there are."""

    def delete(self, prefix: str) -> None:
        """Remove a blob or a folder; nothing there is no error."""
