"""How all processes of a job are found and ended, whatever they did to get away. The best means a machine offers first.

========== ===================================================== ==========================================
means      what holds the processes                              what it cannot catch
========== ===================================================== ==========================================
cgroup2    a cgroup v2 per job, entered at birth                 root processes that move out of it
freezer    a cgroup v1 of the freezer hierarchy                  the same; starting costs some 10 ms more
pidns      a PID namespace, whose first process is the driver    nothing below root with ptrace rights
tree       parents, session, and ``CADOR_JOB`` in the            a process that leaves the session, loses its
           environment of processes                              parent and drops the variable
========== ===================================================== ==========================================
"""

import os
import signal
import subprocess
from pathlib import Path
from typing import Final

from cador.executors.cgroups import Cgroup2, Freezer, cgroup_mounts
from cador.executors.placement import KILL_S, Containment
from cador.executors.process_trees import Processes
from cador.ports.executor import Limits

MEANS: Final = ("cgroup2", "freezer", "pidns", "tree")


def available(installation: str, wanted: str) -> dict[str, Containment]:
    """What this machine offers, best first; *wanted*: ``auto``, or one of :data:`MEANS` to have that alone.

    Raises: ValueError: *wanted* is none of them. OSError: it cannot be had here.
    """
    if wanted not in ("auto", *MEANS):
        raise ValueError(f"containment {wanted} is none of: auto, {', '.join(MEANS)}")
    unified, v1 = cgroup_mounts()
    found: dict[str, Containment] = {}
    for name in MEANS if wanted == "auto" else (wanted,):
        try:
            found[name] = _make(name, installation, unified, v1)
        except OSError:
            if wanted != "auto":
                raise
    return found


def _make(name: str, installation: str, unified: Path | None, v1: dict[str, Path]) -> Containment:
    if name == "cgroup2":
        if unified is None:
            raise OSError("cgroup v2 is not mounted")
        holder: Cgroup2 | Freezer = Cgroup2(installation, unified, v1)
    elif name == "freezer":
        if "freezer" not in v1:
            raise OSError("the cgroup v1 freezer is not mounted")
        holder = Freezer(installation, v1)
    else:
        if name == "pidns" and os.geteuid() != 0:
            raise OSError("a PID namespace needs root")
        return Processes(installation, v1, namespace=name == "pidns")
    _prove(holder)
    return holder


def _prove(holder: Cgroup2 | Freezer) -> None:
    """Put a process in and end it there. Raises: OSError: not allowed here."""
    key = f"probe.{os.getpid()}"
    placement = holder.place(key, Limits())
    waiting = subprocess.Popen(["/bin/sh", "-c", "read -r line"], stdin=subprocess.PIPE, env={}, close_fds=True)
    try:
        procs = placement.procs or (f"{placement.cgroup}/cgroup.procs",)
        for path in procs:
            Path(path).write_text(str(waiting.pid))
        if isinstance(holder, Cgroup2):
            holder.look(key)
        holder.kill(key, waiting.pid)
        if waiting.wait(KILL_S) != -signal.SIGKILL:
            raise OSError(f"{holder.name} does not hold a process")
    finally:
        waiting.kill()
        waiting.communicate()
        holder.forget(key)
