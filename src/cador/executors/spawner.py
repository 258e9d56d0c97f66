"""Client of the small process that starts drivers (``spawner_process.py``, which says why there is one)."""

import contextlib
import errno
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cador.executors import spawner_process
from cador.executors.running import Driver

ANSWER_S: Final = 10.0
_LENGTH: Final = struct.Struct("!Q")


class Spawner:
    """Client: starts the process when it is first needed, and again when it was killed. Calls block; any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._closed = False

    def spawn(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: str,
        output: str,
        owner: tuple[int, int, Sequence[int]] | None = None,
        cgroup: str | None = None,
        procs: Sequence[str] = (),
        new_pid: bool = False,
        nofile: tuple[int, int] | None = None,
        nproc: int = 0,
    ) -> Driver:
        """Start *argv* in a session of its own; the caller closes what is returned.

        *env* is the whole environment. *output* is appended to; standard input is empty. *owner*: user, group, other
        groups. *cgroup*: folder to be born in. *procs*: ``cgroup.procs`` files to enter.

        Raises: OSError: nothing was started, as far as can be known.
        """
        body = json.dumps(
            {
                "argv": list(argv),
                "env": dict(env),
                "cwd": cwd,
                "output": output,
                "owner": owner,
                "cgroup": cgroup,
                "procs": list(procs),
                "new_pid": new_pid,
                "nofile": nofile,
                "nproc": nproc,
            }
        ).encode()
        with self._lock:
            if self._closed:  # a thread that comes late must not bring the process back
                raise OSError("the executor is closed")
            try:
                answer, descriptors = self._ask(body)
            except OSError:  # it was killed; asking twice is safe, because the second of two drivers ends by itself
                self._drop()
                answer, descriptors = self._ask(body)
        if answer.startswith(b"!"):
            raise OSError(answer[1:].decode("utf-8", "replace"))
        if len(descriptors) != 2:
            for descriptor in descriptors:
                os.close(descriptor)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return Driver(int(answer), *descriptors)

    def _ask(self, body: bytes) -> tuple[bytes, list[int]]:
        connection = self._connected()
        connection.sendall(_LENGTH.pack(len(body)) + body)
        answer, descriptors, _, _ = socket.recv_fds(connection, 4096, 2, socket.MSG_CMSG_CLOEXEC)
        if not answer:
            raise OSError("the process that starts jobs has ended")
        return answer, descriptors

    def _connected(self) -> socket.socket:
        if self._socket is None:
            ours, theirs = socket.socketpair()
            with contextlib.ExitStack() as on_failure, theirs:
                on_failure.callback(ours.close)
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(Path(spawner_process.__file__)), str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={},
                    cwd="/",
                    start_new_session=True,
                )
                on_failure.pop_all()
            ours.settimeout(ANSWER_S)
            self._socket = ours
        return self._socket

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End the process for good. Jobs run on."""
        with self._lock:
            self._closed = True
            self._drop()
