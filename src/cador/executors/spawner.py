"""Clients of the small process that starts drivers (``spawner_process.py``, which says why there is one)."""

import asyncio
import contextlib
import errno
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import msgspec

from cador.executors import spawner_process
from cador.executors.running import Driver
from cador.executors.spawner_process import Act

ANSWER_S: Final = 10.0
_LENGTH: Final = struct.Struct("!Q")
_ANSWER: Final = struct.Struct("!iiI")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A driver to be started in a session of its own.

    *env* is the whole environment. *output* is appended to; standard input is empty. *owner*: user, group, other
    groups. *cgroup*: folder to be born in. *procs*: ``cgroup.procs`` files to enter. *nproc*: 0 is no limit.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    output: str
    owner: tuple[int, int, Sequence[int]] | None = None
    cgroup: str | None = None
    procs: Sequence[str] = ()
    new_pid: bool = False
    nofile: tuple[int, int] | None = None
    nproc: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """*done*: acts that were carried out. ``driver``: of a request that wanted one, and to be closed by whoever asked.
    *error*: why the rest was not."""

    done: int
    driver: Driver | None = None
    error: OSError | None = None


def _request(acts: Sequence[Act], wanted: Wanted | None) -> bytes:
    request = {"do": acts, "spawn": wanted}
    try:
        body = msgspec.json.encode(request)
    except UnicodeEncodeError:  # half a character pair, of a value that was never text
        body = json.dumps(request, default=asdict).encode()
    return _LENGTH.pack(len(body)) + body


def _launch() -> tuple["subprocess.Popen[bytes]", socket.socket]:
    ours, theirs = socket.socketpair()
    with contextlib.ExitStack() as on_failure, theirs:
        on_failure.callback(ours.close)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(spawner_process.__file__)), str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )
        on_failure.pop_all()
    return process, ours


def _end(process: "subprocess.Popen[bytes] | None", connection: socket.socket | None) -> None:
    if connection is not None:
        connection.close()
    if process is not None:
        process.kill()
        process.wait()


class _Stream:
    """Answers out of bytes and descriptors; both come in order, and not always together."""

    def __init__(self) -> None:
        self._held = b""
        self._descriptors: deque[int] = deque()

    def feed(self, data: bytes, descriptors: Sequence[int]) -> None:
        self._held += data
        self._descriptors += descriptors

    def next(self) -> Answer | None:
        if len(self._held) < _ANSWER.size:
            return None
        done, number, length = _ANSWER.unpack_from(self._held)
        end = _ANSWER.size + length
        if len(self._held) < end:
            return None
        text, self._held = self._held[_ANSWER.size : end].decode("utf-8", "replace"), self._held[end:]
        if number < 0:
            return Answer(done, error=OSError(-number, text))
        if number == 0:
            return Answer(done)
        if len(self._descriptors) < 2:  # the kernel had no room for them in this process
            self.close()
            return Answer(done, error=OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        return Answer(done, Driver(number, self._descriptors.popleft(), self._descriptors.popleft()))

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.popleft())


class Spawner:
    """Blocking client, for any thread: starts the process when it is first needed, and again when it was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._closed = False

    def spawn(self, wanted: Wanted) -> Driver:
        """The caller closes what is returned.

        Raises: OSError: nothing was started, as far as can be known.
        """
        request = _request((), wanted)
        with self._lock:
            if self._closed:  # a thread that comes late must not bring the process back
                raise OSError("the executor is closed")
            try:
                answer = self._ask(request)
            except OSError:  # it was killed; asking twice is safe, because the second of two drivers ends by itself
                self._drop()
                answer = self._ask(request)
        if answer.driver is None:
            raise answer.error or OSError("the process that starts jobs started none")
        return answer.driver

    def _ask(self, request: bytes) -> Answer:
        if self._socket is None:
            self._process, self._socket = _launch()
            self._socket.settimeout(ANSWER_S)
        self._socket.sendall(request)
        stream = _Stream()
        while (answer := stream.next()) is None:
            data, descriptors, _, _ = socket.recv_fds(self._socket, 8192, 2, socket.MSG_CMSG_CLOEXEC)
            if not data:
                raise OSError("the process that starts jobs has ended")
            stream.feed(data, descriptors)
        return answer

    def _drop(self) -> None:
        process, connection, self._process, self._socket = self._process, self._socket, None, None
        _end(process, connection)

    def close(self) -> None:
        """End the process for good. Jobs run on."""
        with self._lock:
            self._closed = True
            self._drop()


class Hands:
    """Client for the event loop: requests go out at once, one after the other, and are answered in that order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._stream = _Stream()
        self._unsent = bytearray()
        self._asked: deque[asyncio.Future[Answer]] = deque()
        self._closed = False

    async def ask(self, acts: Sequence[Act], wanted: Wanted | None = None) -> Answer:
        """Carry out *acts*, then start the driver that is *wanted*. The first that fails ends it.

        Raises: OSError: the process ended, nobody knows how far it came.
        """
        if self._closed:
            raise OSError("the executor is closed")
        request = _request(acts, wanted)
        if self._socket is None:
            self._process, self._socket = _launch()
            self._socket.setblocking(False)
            self._loop.add_reader(self._socket, self._readable)
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._asked.append(future)
        self._unsent += request
        self._writable()
        return await future

    def _writable(self) -> None:
        connection = self._socket
        if connection is None:
            return
        try:
            del self._unsent[: connection.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._lose()
            return
        if self._unsent:
            self._loop.add_writer(connection, self._writable)
        else:
            self._loop.remove_writer(connection)

    def _readable(self) -> None:
        if self._socket is None:
            return
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, 65_536, 64, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if not data:
            self._lose()
            return
        self._stream.feed(data, descriptors)
        while self._asked and (answer := self._stream.next()) is not None:
            future = self._asked.popleft()
            if not future.done():
                future.set_result(answer)
            elif answer.driver is not None:  # whoever asked does not wait any more
                answer.driver.close()

    def _lose(self) -> None:
        """The process has ended, or was killed: whoever waits hears of it, and the next request starts it again."""
        process, connection, self._process, self._socket = self._process, self._socket, None, None
        if connection is not None:
            self._loop.remove_reader(connection)
            self._loop.remove_writer(connection)
        _end(process, connection)
        self._stream.close()
        self._stream = _Stream()
        self._unsent.clear()
        asked, self._asked = self._asked, deque()
        for future in asked:
            if not future.done():
                future.set_exception(OSError("the process that starts jobs has ended"))

    def close(self) -> None:
        """End the process for good. Jobs run on."""
        self._closed = True
        self._lose()
