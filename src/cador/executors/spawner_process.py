"""The small process that starts drivers. Run as a program, alone and without site packages; imports no cador.

Why a process of its own: it is small and has one thread, so that it can fork in a fraction of a millisecond however
large the server is; and it gives birth right inside a cgroup (``clone3`` with ``CLONE_INTO_CGROUP``). Moving a running
process into one takes some 10 ms, because the kernel waits for all processors to pass a quiet state. Jobs are its
children, not the server's: it never waits for them, the kernel reaps them, and it ends when the server does.

A request is a JSON object after its length in eight bytes. The answer: the process id, with a pidfd and the reading
end of a pipe beside it, or ``!`` and the reason. What goes wrong in the child before the driver runs is written to the
pipe; not to the job's output, which may be that of another driver that came first.
"""

import ctypes
import errno
import json
import os
import resource
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

_CLONE3 = 435
_CLONE_PIDFD = 0x1000
_CLONE_NEWPID = 0x20000000
_CLONE_INTO_CGROUP = 0x200000000
_LENGTH = struct.Struct("!Q")


def _serve(connection: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    libc = ctypes.PyDLL(None, use_errno=True)  # holds the interpreter lock: there is one thread
    while header := _exactly(connection, _LENGTH.size):
        request = json.loads(_exactly(connection, _LENGTH.unpack(header)[0]))
        try:
            pid, descriptor, told = _spawn(libc, request)
        except OSError as error:
            connection.sendall(b"!" + str(error).encode("utf-8", "replace")[:4000])
        else:
            socket.send_fds(connection, [str(pid).encode()], [descriptor, told])
            os.close(descriptor)
            os.close(told)


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
    _serve(socket.socket(fileno=int(sys.argv[1])))
