"""What a means of containment does for the process executor; see ``containment.py`` for the means there are.

All calls block, briefly; they are made on a thread.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from cador.executors.spawner_process import Act
from cador.ports.executor import Limits

KILL_S: Final = 5.0
"""Longest wait for killed processes to be gone; what is left then sits in the kernel (a dead network disk)."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What the spawner does before a driver's first instruction: be born in *cgroup* (a cgroup v2 folder), write
    itself into each of *procs*, be the first process of a new PID namespace, have at most *nproc* processes."""

    cgroup: str | None = None
    procs: tuple[str, ...] = ()
    new_pid: bool = False
    nproc: int = 0


class Containment(Protocol):
    """One means. A *driver* is the process id of the job's first process, None when it is known to be gone."""

    name: str
    note: str

    def place(self, key: str, limits: Limits) -> Placement: ...

    def born(self, key: str) -> tuple[list[Act], Placement] | None:
        """As :meth:`place` without limits, as acts of the process that starts drivers; None where it cannot do that."""

    def gone(self, key: str, within_s: float) -> list[Act] | None:
        """As :meth:`kill` and :meth:`forget` of a job without limits whose driver has ended, likewise."""

    def pids(self, key: str, driver: int | None) -> set[int]:
        """Every living process of the job, the driver included."""

    def kill(self, key: str, driver: int | None, spare: int | None = None) -> None:
        """End all processes but *spare* with SIGKILL; return when they are gone, or after ``KILL_S``."""

    def forget(self, key: str, *, limited: bool = True) -> str:
        """Remove what holds an ended job; returns a line for people when a limit killed something, else ``""``.

        *limited* False: the job had no limits, so that there is less to look for.
        """

    def left(self, key: str) -> bool:
        """Whether something is there that held the job, or would hold it; a look at folders, not at processes."""

    def keys(self) -> set[str]:
        """Jobs that may have processes here."""

    def close(self) -> None:
        """Remove what would hold jobs, unless it holds one; whoever starts the next one makes it anew."""
