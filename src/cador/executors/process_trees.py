"""The processes of a job without cgroups: by a PID namespace, or by what ``/proc`` tells of all processes."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from cador.executors.cgroups import Controllers, signal_all
from cador.executors.placement import KILL_S, Placement
from cador.executors.spawner_process import Act
from cador.ports.executor import Limits


class Processes:
    """Without cgroups: a PID namespace (*namespace*) or, in the worst case, what ``/proc`` tells."""

    def __init__(self, installation: str, v1: dict[str, Path], *, namespace: bool) -> None:
        self._namespace, self._installation = namespace, installation
        self._controllers = Controllers(installation, None, v1)
        self.name = "pidns" if namespace else "tree"
        limits = ", ".join(self._controllers.names) or "none (the number of processes as far as the user's limit goes)"
        if namespace:
            self.note = f"a PID namespace per job; limits: {limits}. Numbers in /proc differ from those jobs see."
        else:
            self.note = (
                f"parents, session and environment of processes; limits: {limits}. Not caught: a process that leaves "
                "its session, loses its parent and drops the variable CADOR_JOB."
            )

    def place(self, key: str, limits: Limits) -> Placement:
        procs = self._controllers.apply(key, limits, None)
        nproc = 0
        if limits.pids and "pids" not in self._controllers.names:
            # The kernel counts per user, not per job: what the user runs already is added.
            nproc = limits.pids + sum(1 for _ in _same_user())
        return Placement(procs=procs, new_pid=self._namespace, nproc=nproc)

    def born(self, key: str) -> tuple[list[Act], Placement] | None:
        return [], Placement(new_pid=self._namespace)

    def gone(self, key: str, within_s: float) -> list[Act] | None:
        return None  # it takes a look at all processes

    def pids(self, key: str, driver: int | None) -> set[int]:
        marker = f"\0CADOR_JOB={self._installation}/{key}\0".encode()
        namespace = _link(driver, "ns/pid") if driver is not None and self._namespace else ""
        parents: dict[int, int] = {}
        found = set() if driver is None or _state(driver) is None else {driver}
        for pid in _all_pids():
            state = _state(pid)
            if state is None:
                continue
            parents[pid], session = state
            if (driver is not None and session == driver) or (namespace and _link(pid, "ns/pid") == namespace):
                found.add(pid)
            else:
                with contextlib.suppress(OSError):
                    environment = Path(f"/proc/{pid}/environ").read_bytes()
                    if marker in b"\0" + environment:
                        found.add(pid)
        children: dict[int, list[int]] = {}
        for pid, parent in parents.items():
            children.setdefault(parent, []).append(pid)
        queue = list(found)
        while queue:
            for child in children.get(queue.pop(), ()):
                if child not in found:
                    found.add(child)
                    queue.append(child)
        return found

    def kill(self, key: str, driver: int | None, spare: int | None = None) -> None:
        deadline = time.monotonic() + KILL_S
        if self._namespace and spare is None and driver is not None:
            signal_all({driver}, signal.SIGKILL)  # the kernel ends the rest of its namespace
        while (left := self.pids(key, driver) - {spare}) and time.monotonic() < deadline:
            signal_all(left, signal.SIGSTOP)  # so that the next look finds no new child of these
            signal_all(left | (self.pids(key, driver) - {spare}), signal.SIGKILL)
            time.sleep(0.002)

    def forget(self, key: str, *, limited: bool = True) -> str:
        return self._controllers.forget(key, None) if limited else ""

    def left(self, key: str) -> bool:
        return self._controllers.left(key)

    def keys(self) -> set[str]:
        return set()

    def close(self) -> None:
        self._controllers.close()


def _all_pids() -> Iterator[int]:
    own = os.getpid()
    return (int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != own)


def _state(pid: int) -> tuple[int, int] | None:
    """Parent and session of a living process. Source: proc(5), /proc/pid/stat."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
        if words and words[0] not in (b"Z", b"X"):
            return int(words[1]), int(words[3])
    return None


def _link(pid: int, name: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/{name}")
    return ""


def _same_user() -> Iterator[int]:
    user = os.geteuid()
    for pid in _all_pids():
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid == user:
                yield pid
