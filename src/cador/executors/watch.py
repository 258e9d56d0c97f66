"""Hearing of changes without asking again and again: one inotify instance, and a descriptor per process to its end."""

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable
from typing import Final

IN_MODIFY: Final = 0x2
IN_CLOSE_WRITE: Final = 0x8
IN_Q_OVERFLOW: Final = 0x4000
IN_IGNORED: Final = 0x8000
IN_DONT_FOLLOW: Final = 0x2000000
_EVENT: Final = struct.Struct("iIII")
_PUNCH_HOLE: Final = 0x2 | 0x1  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class FileWatch:
    """One inotify instance of the running event loop. Callbacks are called on the loop and say only *look again*."""

    def __init__(self) -> None:
        self._descriptor = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._callbacks: dict[int, list[Callable[[], None]]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._read)

    def add(self, path: str, mask: int, callback: Callable[[], None]) -> int:
        """Call *callback* when something of *mask* happens at *path*; returns what :meth:`forget` takes.

        Raises: OSError: no such file, or the machine's limit of watches is reached (fs.inotify.max_user_watches).
        """
        watch = _checked(
            _libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask | IN_DONT_FOLLOW), os.fspath(path)
        )
        self._callbacks.setdefault(watch, []).append(callback)
        return watch

    def forget(self, watch: int, callback: Callable[[], None]) -> None:
        """Call *callback* no more. The kernel keeps the watch until the file goes: asking it to drop one waits for all
        processors, and the files watched here do not stay long."""
        callbacks = self._callbacks.get(watch, [])
        if callback in callbacks:
            callbacks.remove(callback)

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._callbacks.clear()

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65_536)
        except BlockingIOError:
            return
        called: set[int] = set()
        gone: set[int] = set()
        position = 0
        while position < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size + length
            if mask & IN_Q_OVERFLOW:  # something was lost: everybody looks
                called.update(self._callbacks)
            else:
                called.add(watch)
                if mask & IN_IGNORED:  # the file is gone, and the watch with it; numbers are not used again
                    gone.add(watch)
        for watch in called:
            for callback in tuple(self._callbacks.get(watch, ())):
                callback()
        for watch in gone:
            self._callbacks.pop(watch, None)


def punch(descriptor: int, start: int, end: int) -> bool:
    """Give the space of bytes *start* to *end* of a file back, keeping its size; False where that is not possible."""
    return end <= start or _libc.fallocate(descriptor, _PUNCH_HOLE, start, end - start) == 0


def _checked(result: int, path: str = "") -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result
