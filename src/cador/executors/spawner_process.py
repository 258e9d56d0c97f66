"""The small process that starts drivers. Run as a program, alone and without site packages; imports no cador.

Why a process of its own: it is small and has one thread, so that it can fork in a fraction of a millisecond however
large the server is; and it gives birth right inside a cgroup (``clone3`` with ``CLONE_INTO_CGROUP``). Moving a running
process into one takes some 10 ms, because the kernel waits for all processors to pass a quiet state. Jobs are its
children, not the server's: it never waits for them, the kernel reaps them, and it ends when the server does.

It makes and removes job folders, too: some thirty system calls of a job, at each of which a thread of the server
would give up the interpreter lock and wait for it again, while other processors have nothing to do. None of it takes
long; what would - a tree of thousands of files, processes that do not die - is refused, and the server does it.

A request is a JSON object after its length in eight bytes: ``do``, a list of acts (see :data:`_ACTS`), and ``spawn``,
what to start after them or null. The answer: how many acts were done, the process id or an error number below zero, and
a text after its length; beside a process id come its pidfd and the reading end of a pipe. What goes wrong in the child
before the driver runs is written to the pipe; not to the job's output, which may be that of another driver that came
first.
"""

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

Act = tuple[Any, ...]
"""Its name and arguments, see :data:`_ACTS`."""

_CLONE3 = 435
_CLONE_PIDFD = 0x1000
_CLONE_NEWPID = 0x20000000
_CLONE_INTO_CGROUP = 0x200000000
_LENGTH = struct.Struct("!Q")
_ANSWER = struct.Struct("!iiI")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _serve(connection: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    libc = ctypes.PyDLL(None, use_errno=True)  # holds the interpreter lock: there is one thread
    os.umask(0)  # acts name the permissions they mean
    while header := _exactly(connection, _LENGTH.size):
        request = json.loads(_exactly(connection, _LENGTH.unpack(header)[0]))
        done = 0
        try:
            for name, *arguments in request["do"]:
                _ACTS[name](*arguments)
                done += 1
            pid, *descriptors = _spawn(libc, request["spawn"]) if request["spawn"] else (0,)
        except OSError as error:
            text = str(error).encode("utf-8", "replace")[:4000]
            connection.sendall(_ANSWER.pack(done, -(error.errno or errno.EIO), len(text)) + text)
        else:
            socket.send_fds(connection, [_ANSWER.pack(done, pid, 0)], descriptors)
            for descriptor in descriptors:
                os.close(descriptor)


def _exactly(connection: socket.socket, size: int) -> bytes:
    """*size* bytes; nothing when the server has gone."""
    parts = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _folder(path: str, mode: int, user: int, group: int) -> None:
    os.mkdir(path, mode)
    if (user, group) != (-1, -1):
        os.chown(path, user, group)


def _file(path: str, mode: int, user: int, group: int, content: str) -> None:
    """*content*: a character for each byte."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        left = memoryview(content.encode("latin-1"))
        while left:
            left = left[os.write(descriptor, left) :]
        if (user, group) != (-1, -1):
            os.fchown(descriptor, user, group)
    finally:
        os.close(descriptor)


def _absent(path: str) -> None:
    if os.path.lexists(path):
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), path)


def _linked(path: str, name: str) -> None:
    """*name* is another name of *path*, or was there before."""
    try:
        os.link(path, name)
    except FileExistsError:
        return


def _held(path: str) -> None:
    """The cgroup *path* is there."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return


def _let_go(path: str, within_s: float) -> None:
    """End what is in the cgroup *path* and remove it. It is as good as empty: a process that has ended is in it for a
    moment longer."""
    if not os.path.exists(path):
        return
    with open(f"{path}/cgroup.events") as events:
        if "populated 0\n" not in events.read():
            with open(f"{path}/cgroup.kill", "w") as kill:
                kill.write("1")
            until = time.monotonic() + within_s
            watch = select.poll()
            watch.register(events, select.POLLPRI)
            while events.seek(0) or "populated 0\n" not in events.read():
                left = until - time.monotonic()
                if left <= 0:
                    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
                watch.poll(left * 1000)
    os.rmdir(path)


def _tree(path: str, most: int) -> None:
    """Remove a folder with at most so many entries, of which this user may remove all; follow no link."""
    try:
        folder = os.open(path, _FOLDER)
    except FileNotFoundError:
        return
    try:
        _emptied(folder, most)
    finally:
        os.close(folder)
    os.rmdir(path)


def _emptied(folder: int, most: int) -> int:
    """How many more entries may be removed."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        most -= 1
        if most < 0:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG), name)
        if not is_folder:
            os.unlink(name, dir_fd=folder)
            continue
        try:
            os.rmdir(name, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            inner = os.open(name, _FOLDER, dir_fd=folder)
            try:
                most = _emptied(inner, most)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=folder)
    return most


_ACTS: dict[str, Callable[..., None]] = {
    "folder": _folder,
    "file": _file,
    "move": os.rename,
    "absent": _absent,
    "linked": _linked,
    "held": _held,
    "let go": _let_go,
    "tree": _tree,
}


def _spawn(libc: ctypes.PyDLL, request: dict[str, Any]) -> tuple[int, int, int]:
    """Process id, pidfd, and what the child has to say before it is the driver."""
    told, tell = os.pipe()
    try:
        return *_child(libc, request, tell), told
    except OSError:
        os.close(told)
        raise
    finally:
        os.close(tell)


def _child(libc: ctypes.PyDLL, request: dict[str, Any], tell: int) -> tuple[int, int]:
    flags, cgroup = _CLONE_PIDFD, -1
    if request["cgroup"]:
        cgroup = os.open(request["cgroup"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        flags |= _CLONE_INTO_CGROUP
    if request["new_pid"]:
        flags |= _CLONE_NEWPID
    try:
        descriptor = ctypes.c_int(-1)
        arguments = struct.pack(
            "11Q", flags, ctypes.addressof(descriptor), 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, max(cgroup, 0)
        )
        pid = libc.syscall(_CLONE3, ctypes.create_string_buffer(arguments, 88), ctypes.c_size_t(88))
        if pid == 0:
            _become(request, None, tell)
        if pid > 0:
            return pid, descriptor.value
    finally:
        if cgroup >= 0:
            os.close(cgroup)
    number = ctypes.get_errno()
    if request["new_pid"]:
        raise OSError(number, "a PID namespace cannot be made: " + os.strerror(number))
    if number not in (errno.ENOSYS, errno.EINVAL, errno.E2BIG, errno.EPERM, errno.EACCES):
        raise OSError(number, os.strerror(number))  # the cgroup has gone: the job is over
    # A kernel before 5.7, or a sandbox that forbids clone3: the slow way, by moving.
    pid = os.fork()
    if pid == 0:
        _become(request, request["cgroup"], tell)
    return pid, os.pidfd_open(pid)


def _become(request: dict[str, Any], enter: str | None, tell: int) -> NoReturn:
    """In the child: turn into the driver, or write to *tell* why not. Never returns."""
    try:
        os.umask(0o022)
        output = os.open(request["output"], os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        empty = os.open("/dev/null", os.O_RDONLY)
        os.dup2(empty, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, tell)
        os.closerange(tell + 1, 1 << 16)  # it goes when the driver begins, as all that Python opens
        os.setsid()
        for path in (*request["procs"], *((f"{enter}/cgroup.procs",) if enter else ())):
            procs = os.open(path, os.O_WRONLY)
            os.write(procs, b"0")
            os.close(procs)
        if request["nofile"]:
            resource.setrlimit(resource.RLIMIT_NOFILE, tuple(request["nofile"]))
        if request["nproc"]:
            resource.setrlimit(resource.RLIMIT_NPROC, (request["nproc"], request["nproc"]))
        os.chdir(request["cwd"])
        if request["owner"]:
            user, group, groups = request["owner"]
            os.setgroups(groups)
            os.setgid(group)
            os.setuid(user)
        for number in (*range(1, 16), signal.SIGCHLD, signal.SIGXFSZ):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        argv, env = request["argv"], request["env"]
        os.execve(argv[0], argv, env)  # noqa: S606
    except BaseException as error:
        os.write(tell, f"the job could not be started: {error}".encode("utf-8", "replace")[:4000])
    finally:
        os._exit(126)


if __name__ == "__main__":
    with contextlib.suppress(ConnectionError):  # the server is gone; what it asked for last is in the job's folder
        _serve(socket.socket(fileno=int(sys.argv[1])))
