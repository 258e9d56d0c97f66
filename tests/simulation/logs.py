"""Logs of a simulated installation: in memory, by the rules of ``ports/logs.py``.

Each writer has a copy of its own, as each server has a data folder of its own. What was synced outlives its process,
the rest does not. Stored text carries no stamps: what is looked at is that no line is lost or told twice.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from cador.ports.logs import LogChunk, LogName
from simulation.loop import Process


@dataclass(slots=True)
class _Stored:
    data: bytes = b""
    raw: int = 0
    run: int = 0
    complete: bool = False
    writer: "MemoryWriter | None" = None


class LogHost:
    """What is durable of all logs."""

    def __init__(self) -> None:
        self.stored: dict[LogName, _Stored] = {}

    def of(self, process: Process) -> "MemoryLogs":
        return MemoryLogs(self)


class MemoryLogs:
    """Implements ``ports.logs.LogStore`` for one process."""

    def __init__(self, host: LogHost) -> None:
        self._host = host

    def open(self, name: LogName, secrets: tuple[str, ...] = (), run: int = 0) -> "MemoryWriter":
        stored = self._host.stored.setdefault(name, _Stored())
        return MemoryWriter(stored, run)

    def fetch(self, name: LogName) -> bool:
        """All of it is here."""
        return True

    def size(self, name: LogName) -> int:
        stored = self._host.stored.get(name)
        return len(stored.data) if stored is not None else 0

    def exists(self, name: LogName) -> bool:
        return name in self._host.stored

    def complete(self, name: LogName) -> bool:
        stored = self._host.stored.get(name)
        return stored is not None and stored.complete

    def tail_offset(self, name: LogName, lines: int) -> int:
        stored = self._host.stored.get(name)
        if stored is None or lines <= 0:
            return 0
        whole = stored.data.splitlines(keepends=True)
        return sum(map(len, whole[: max(0, len(whole) - lines)]))

    def read(self, name: LogName, start: int, limit: int) -> LogChunk:
        stored = self._host.stored.get(name)
        if stored is None:
            return LogChunk(start, start, b"", last=False)
        data = stored.data[start : start + limit]
        end = start + len(data)
        return LogChunk(start, end, data, last=stored.complete and end >= len(stored.data))

    async def follow(self, name: LogName, start: int, *, chunk: int = 65_536) -> AsyncIterator[LogChunk]:
        while not (found := self.read(name, start, chunk)).last:  # whoever follows is no part of this simulation
            yield found
            start = found.end
        yield found

    def delete(self, workflow: str, task: int) -> None:
        for name in [name for name in self._host.stored if (name.workflow, name.task) == (workflow, task)]:
            del self._host.stored[name]


class MemoryWriter:
    """Implements ``ports.logs.LogWriter``."""

    def __init__(self, stored: _Stored, run: int) -> None:
        self._stored, self._run = stored, run
        self._data, self._raw = stored.data, stored.raw if run <= stored.run else 0
        self._closed = stored.complete
        stored.writer = self

    @property
    def raw_offset(self) -> int:
        return self._raw

    def feed(self, data: bytes, raw_end: int) -> None:
        known = self._raw - (raw_end - len(data))
        if self._closed or known >= len(data):
            return
        self._data += data[max(0, known) :]
        self._raw = raw_end

    def line(self, text: str) -> None:
        if not self._closed:
            self._data += text.encode() + b"\n"

    def sync(self) -> int:
        """What a writer that was overtaken still has is not what readers get."""
        if not self._closed and self._stored.writer is self and not self._stored.complete:
            self._stored.data, self._stored.raw, self._stored.run = self._data, self._raw, self._run
        return self._raw

    def close(self) -> None:
        """The log as a whole is put where readers find it, by whoever came to its end."""
        if not self._closed:
            self._closed = True
            self._stored.data, self._stored.raw, self._stored.complete = self._data, self._raw, True

    def leave(self) -> None:
        self.sync()
        self._closed = True
