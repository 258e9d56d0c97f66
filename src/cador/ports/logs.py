"""Logs of jobs: append-only text per job task and attempt, readable while it grows."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from cador.domain.errors import Unavailable


@dataclass(frozen=True, slots=True)
class LogName:
    """Which log: workflow key, number of the task in it, name of the job task, number of the attempt (from 1)."""

    workflow: str
    task: int
    job: str
    attempt: int


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Whole lines, UTF-8, each ended by LF. ``start`` and ``end`` are byte offsets of the stored log."""

    start: int
    end: int
    data: bytes
    last: bool
    """True when the log is complete and this reaches its end."""


@dataclass(frozen=True, slots=True)
class LogState:
    """``size``: bytes of whole lines so far; ``complete``: nothing will be added; ``written``: by somebody now.
    ``away``: where the rest is when that does not answer now."""

    size: int
    complete: bool
    written: bool
    away: str = ""


class LogAway(Unavailable):
    """The log is in the data folder of a server that does not answer, and nowhere else."""

    def __init__(self, name: LogName, home: str) -> None:
        where = f"on {home}, which is away" if home else "on a server that is away"
        super().__init__(f"the log of attempt {name.attempt} is {where}")
        self.name, self.home = name, home


class LogRestAway(Unavailable):
    """The beginning of the log is here, the rest in the data folder of a server that does not answer."""

    def __init__(self, name: LogName, home: str) -> None:
        super().__init__(f"the rest of the log of attempt {name.attempt} is on {home}, which is away")


class LogWriter(Protocol):
    """The one writer of a log. Not safe for concurrent use; calls are quick and never block for long."""

    @property
    def raw_offset(self) -> int:
        """Offset in the executor's output that the stored log covers; follow from here."""

    def feed(self, data: bytes, raw_end: int) -> None:
        """Append raw output that ends at *raw_end*: split into lines, mask, stamp, store. An open line waits."""

    def line(self, text: str) -> None:
        """Append a line of the server's own, after flushing an open line. Masked and stamped like the others."""

    def sync(self) -> int:
        """Make everything so far durable; returns the raw offset that is now safe."""

    def close(self) -> None:
        """Flush an open last line, make durable, mark complete, seal. Readers hear the end."""

    def leave(self) -> None:
        """Let go without completing (shutdown): another server process goes on with :meth:`LogStore.open`."""


class LogStore(Protocol):
    """All logs of the server."""

    def open(self, name: LogName, secrets: tuple[str, ...] = (), run: int = 0) -> LogWriter:
        """Create the log, or reopen one left unfinished: cut back to the last index pair, so that replaying the
        executor's output from ``raw_offset`` neither loses nor repeats a line. *run*: how often the attempt was begun
        anew because its execution was lost; the log goes on with the output of a new one from offset 0."""

    def fetch(self, name: LogName) -> bool:
        """Before a log is opened that another server may have written: get what it left. Blocks. False: the store does
        not answer; what it has is missing in a log that is opened all the same."""

    def state(self, name: LogName) -> LogState | None:
        """How far the log is; None when there is none. Raises, like all that reads: LogAway."""

    def size(self, name: LogName) -> int:
        """Bytes stored so far; 0 when there is no such log."""

    def exists(self, name: LogName) -> bool: ...

    def complete(self, name: LogName) -> bool: ...

    def tail_offset(self, name: LogName, lines: int) -> int:
        """Offset where the last *lines* lines begin (0: from the beginning when fewer). *lines* <= 0: offset 0."""

    def read(self, name: LogName, start: int, limit: int) -> LogChunk:
        """At most about *limit* bytes of whole lines from *start*; a line longer than *limit* comes whole."""

    def follow(self, name: LogName, start: int, *, chunk: int = 65_536) -> AsyncIterator[LogChunk]:
        """Chunks from *start* until the log is complete. Holds an offset, never a queue: a slow reader gets larger
        chunks. Waits for the log to appear. Cancelling frees everything."""

    def delete(self, workflow: str, task: int) -> None:
        """Remove all logs of one task."""
