"""Reading what a driver says about itself: marks of steps, the end, and output as it grows."""

import os
from dataclasses import dataclass
from typing import Final

from cador.executors.driver import number
from cador.executors.job_folder import Folders
from cador.ports.executor import End, StepMark, StepState

CHUNK: Final = 262_144


@dataclass(frozen=True, slots=True)
class Exit:
    """``marks/exit``: the driver's own word. ``at``: Unix seconds."""

    code: int
    failed_step: int | None
    stopped: str
    at: float


class Marks:
    """The marks of one execution; :meth:`news` gives each once."""

    def __init__(self, folders: Folders, key: str, steps: int) -> None:
        self._folders, self._key, self._steps = folders, key, steps
        self._seen: dict[int, StepMark] = {}

    def news(self) -> list[StepMark]:
        """Marks made since the last call, in the order of steps. A step seen late has its start told as well."""
        found = []
        for index in range(self._steps):
            last = self._seen.get(index)
            if last is not None and last.state is not StepState.RUNNING:
                continue
            fresh = [] if last is not None else self._start(index)
            if last is not None or (fresh and fresh[0].state is StepState.RUNNING):
                fresh += self._end(index)
            if not fresh:
                break  # steps are strictly in order: nothing is known of the next one
            self._seen[index] = fresh[-1]
            found += fresh
            if fresh[-1].state is StepState.RUNNING:
                break
        return found

    def _start(self, index: int) -> list[StepMark]:
        if start := self._folders.content(self._key, f"marks/{number(index)}.start", 8):
            return [StepMark(index, StepState.RUNNING, start[1])]
        if skip := self._folders.content(self._key, f"marks/{number(index)}.skip", 8):
            return [StepMark(index, StepState.SKIPPED, skip[1])]
        return []

    def _end(self, index: int) -> list[StepMark]:
        end = self._folders.content(self._key, f"marks/{number(index)}.end", 64)
        if end is None or not end[0].endswith(b"\n"):
            return []
        words = end[0].decode("ascii", "replace").split()
        code = int(words[0]) if words and words[0].isdigit() else 1
        state = StepState.CANCELLED if "cancel" in words else StepState.FAILED if code else StepState.PASSED
        return [StepMark(index, state, end[1], code)]

    def rest(self, end: End) -> list[StepMark]:
        """Marks the driver could not make any more, of the execution that ended with *end*."""
        found = []
        for index in range(self._steps):
            last = self._seen.get(index)
            if last is None:
                found.append(StepMark(index, StepState.SKIPPED, end.at))
            elif last.state is StepState.RUNNING:
                state = StepState.CANCELLED if end.stopped == "cancel" else StepState.FAILED
                found.append(StepMark(index, state, end.at))
        self._seen.update({mark.index: mark for mark in found})
        return found

    def first_failure(self) -> StepMark | None:
        """The first failed step among those seen."""
        failed = (mark for _, mark in sorted(self._seen.items()) if mark.state is StepState.FAILED)
        return next(failed, None)

    def running(self) -> bool:
        """Whether a step has started and not ended."""
        self.news()
        return any(mark.state is StepState.RUNNING for mark in self._seen.values())


def read_exit(folders: Folders, key: str) -> Exit | None:
    """None: the driver died before it could say how the job ended."""
    content = folders.content(key, "marks/exit", 256)
    if content is None or not content[0].endswith(b"\n"):
        return None
    words = content[0].decode("ascii", "replace").split()
    if len(words) != 3 or not words[0].isdigit():
        return None
    failed = int(words[1]) if words[1].isdigit() else None
    return Exit(int(words[0]), failed, "" if words[2] == "-" else words[2], content[1])


def last_sign(folders: Folders, key: str) -> float:
    """When an execution that left no exit was last seen alive: the newest of its output and marks, Unix seconds."""
    times = [folders.folder(key).stat().st_mtime]
    for base in (folders.folder(key), folders.folder(key) / "marks"):
        for entry in os.scandir(base):
            if entry.name == "output" or base.name == "marks":
                times.append(entry.stat(follow_symlinks=False).st_mtime)
    return max(times)


class OutputFile:
    """The raw output of one execution, read forward from an offset."""

    def __init__(self, folders: Folders, key: str, after: int) -> None:
        self._descriptor = folders.open(key, "output")
        self.offset = after

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def read(self, upto: int) -> bytes:
        """Next bytes below offset *upto*, at most ``CHUNK``; empty when there are none."""
        data = os.pread(self._descriptor, max(0, min(CHUNK, upto - self.offset)), self.offset)
        self.offset += len(data)
        return data

    def close(self) -> None:
        os.close(self._descriptor)
