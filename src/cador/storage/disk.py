"""The disks of a server: when they count as full, and a little room held back for that day.

When a job fills the disk, the room it took comes back only after its end is written down and its folder is removed, and
both need room themselves. A file that is nothing but ballast is made smaller then, a slice at a time: what filled the
disk has seen it full for a moment before and most likely died of it.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

SPARE_BYTES: Final = 64 << 20
"""With less room than this no task is accepted."""
RESERVE_BYTES: Final = 16 << 20
SLICES: Final = 4
FULL_BYTES: Final = 1 << 20
"""With less room than this, writing is as good as impossible."""
LOOK_S: Final = 0.5
LOOKS: Final = 2
"""How often in a row a disk must be found full before a slice is given up."""


def free_bytes(folder: Path) -> int:
    """Room that this process may use on the disk of *folder*. Raises: OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class Ballast:
    """The file that holds room on one disk."""

    def __init__(self, path: Path, free: Callable[[Path], int] = free_bytes) -> None:
        self._path, self._free = path, free
        self._looks = 0
        self.held = path.stat().st_size if path.exists() else 0

    def look(self) -> None:
        """Take room, or give up a slice of it, as the disk is. Call every :data:`LOOK_S` seconds. Raises: OSError."""
        free = self._free(self._path.parent)
        self._looks = self._looks + 1 if free < FULL_BYTES else 0
        if self._looks >= LOOKS and self.held:
            self._looks = 0
            self._resize(max(0, self.held - RESERVE_BYTES // SLICES))
            log.warning("disk_full", folder=str(self._path.parent), reserve_left=self.held)
        elif self.held < RESERVE_BYTES and free >= SPARE_BYTES + RESERVE_BYTES:
            self._resize(RESERVE_BYTES)

    def _resize(self, size: int) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if size > self.held:
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.ftruncate(descriptor, size)
            self.held = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)


class Disks:
    """The folders a server writes to, by what to call them; several may be on one disk."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)
        self._ballasts: dict[int, Ballast] = {}
        for folder in self._folders.values():
            self._ballasts.setdefault(folder.stat().st_dev, Ballast(folder / ".reserve"))

    def full(self) -> str:
        """Why no task can be accepted now; empty when there is room."""
        for name, folder in self._folders.items():
            free = free_bytes(folder)
            if free < SPARE_BYTES:
                return f"the disk of the {name} is full ({free >> 20} MiB free): make room, then start again"
        return ""

    async def ask(self) -> str | None:
        """As :meth:`full`, for the readiness check."""
        return await asyncio.to_thread(self.full) or None

    async def watch(self) -> None:
        """Hold room and give it up, until cancelled."""
        while True:
            for ballast in self._ballasts.values():
                with contextlib.suppress(OSError):  # what cannot be held now is tried again
                    await asyncio.to_thread(ballast.look)
            await asyncio.sleep(LOOK_S)
