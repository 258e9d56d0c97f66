"""Files that a job made or may still change: opened without following links, removed whatever their permissions are."""

import contextlib
import ctypes
import errno
import os
import struct
import subprocess
from pathlib import Path
from typing import Final

_OPENAT2: Final = 437
_NO_LINKS: Final = 0x4 | 0x8  # RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH
NO_FILE: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENOTDIR})
FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_libc = ctypes.PyDLL(
    None, use_errno=True
)  # keeps the interpreter lock: these calls are over sooner than it is handed on


def open_beneath(folder: int, path: str, flags: int) -> int:
    """Open *path* below *folder*; no part of it may be a link or lead out. Source: openat2(2), Linux 5.6.

    Raises: OSError: ELOOP for links.
    """
    how = struct.pack("3Q", flags, 0, _NO_LINKS)
    descriptor = _libc.syscall(_OPENAT2, folder, os.fsencode(path), how, len(how))
    if descriptor >= 0:
        return int(descriptor)
    number = ctypes.get_errno()
    if number != errno.ENOSYS:
        raise OSError(number, os.strerror(number), path)
    *above, name = path.split("/")
    folder = os.dup(folder)
    try:
        for part in above:
            inner = os.open(part, FLAGS | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(name, flags, dir_fd=folder)
    finally:
        os.close(folder)


def remove_tree(path: str | Path) -> None:
    """Remove *path* whatever permissions its folders have, following no link, though somebody changes them meanwhile.

    Another server may be removing the same.

    Raises: OSError for what cannot be removed.
    """
    try:
        folder = os.open(path, FLAGS | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        _empty(folder)
    except RecursionError:  # a tree deeper than Python's stack
        subprocess.run(["rm", "-rf", "--", os.fspath(path)], check=True, stdin=subprocess.DEVNULL)
        return
    finally:
        os.close(folder)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(path)


def _empty(folder: int) -> None:
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        with contextlib.suppress(FileNotFoundError):
            try:
                _remove_entry(folder, name, is_folder=is_folder)
            except PermissionError:  # read-only folders, where we are not root
                os.fchmod(folder, 0o700)
                if is_folder:
                    os.chmod(name, 0o700, dir_fd=folder)
                _remove_entry(folder, name, is_folder=is_folder)


def _remove_entry(folder: int, name: str, *, is_folder: bool) -> None:
    if not is_folder:
        os.unlink(name, dir_fd=folder)
        return
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        inner = os.open(name, FLAGS | os.O_DIRECTORY, dir_fd=folder)
        try:
            _empty(inner)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=folder)


def create(path: str | Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)
    if mode & 0o077:  # the umask of the server must not decide what a job can read
        os.chmod(path, mode)
