"""Cgroups: limits of jobs (:class:`Controllers`), and what holds their processes (:class:`Cgroup2`,
:class:`Freezer`)."""

import contextlib
import errno
import os
import re
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cador.executors.placement import KILL_S, Placement
from cador.executors.spawner_process import Act
from cador.ports.executor import Limits


def cgroup_mounts() -> tuple[Path | None, dict[str, Path]]:
    """Where cgroup v2 and the v1 controllers are mounted. Source: /proc/self/mountinfo."""
    unified: Path | None = None
    controllers: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        where = Path(before.split(" ")[4])
        if kind == "cgroup2" and unified is None:
            unified = where
        elif kind == "cgroup":
            for name in options.split(","):
                if name in ("freezer", "memory", "pids", "cpu"):
                    controllers[name] = where
    return unified, controllers


def own_cgroup(controller: str) -> str:
    """Path of this process's cgroup, ``/`` at the root. ``""`` is cgroup v2. Source: /proc/self/cgroup."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path
    return "/"


def _base(mount: Path, controller: str, installation: str) -> Path:
    """As root a folder of its own at the top, so that a stop of the server's service leaves jobs alone; else below the
    server's own cgroup, which a user's session may divide."""
    own = "" if os.geteuid() == 0 else own_cgroup(controller).lstrip("/")
    return mount / own / f"cador-{re.sub('[^A-Za-z0-9_-]', '-', installation)}"


class Controllers:
    """Limits: memory, processes, cores. In the job's own cgroup v2 where that has the controllers, else in v1."""

    def __init__(self, installation: str, unified: Path | None, v1: dict[str, Path]) -> None:
        self._v1 = {
            name: _base(mount, name, installation)
            for name, mount in v1.items()
            if name != "freezer" and _writable(_base(mount, name, installation))
        }
        self._unified = unified
        self.divide()
        active = _words(unified / "cgroup.subtree_control") if unified is not None else set()
        self.names = tuple(name for name in ("memory", "pids", "cpu") if name in active or name in self._v1)
        self._active = active

    def divide(self) -> None:
        """Have the controllers of cgroup v2, as far as they can be had, in the cgroups of jobs."""
        if self._unified is None:
            return
        for folder in (self._unified.parent, self._unified):
            for name in ("memory", "pids", "cpu"):
                with contextlib.suppress(OSError):
                    (folder / "cgroup.subtree_control").write_text(f"+{name}")

    def apply(self, key: str, limits: Limits, cgroup: Path | None) -> tuple[str, ...]:
        """Set *limits* for the job; returns the ``cgroup.procs`` files its first process must enter."""
        procs = []
        wanted = {"memory": limits.memory_bytes, "pids": limits.pids, "cpu": limits.cpu_milli}
        for name, value in wanted.items():
            if value <= 0:
                continue
            if cgroup is not None and name in self._active:
                self._set_v2(cgroup, name, value)
            elif name in self._v1:
                folder = self._v1[name] / key
                folder.mkdir(parents=True, exist_ok=True)
                self._set_v1(folder, name, value)
                procs.append(str(folder / "cgroup.procs"))
        return tuple(procs)

    def _set_v2(self, cgroup: Path, name: str, value: int) -> None:
        if name == "memory":
            (cgroup / "memory.max").write_text(str(value))
            with contextlib.suppress(OSError):
                (cgroup / "memory.swap.max").write_text("0")
        elif name == "pids":
            (cgroup / "pids.max").write_text(str(value))
        else:
            (cgroup / "cpu.max").write_text(f"{value * 100} 100000")

    def _set_v1(self, folder: Path, name: str, value: int) -> None:
        if name == "memory":
            (folder / "memory.limit_in_bytes").write_text(str(value))
            with contextlib.suppress(OSError):  # only where the kernel counts swap
                (folder / "memory.memsw.limit_in_bytes").write_text(str(value))
        elif name == "pids":
            (folder / "pids.max").write_text(str(value))
        else:
            (folder / "cpu.cfs_period_us").write_text("100000")
            (folder / "cpu.cfs_quota_us").write_text(str(max(value * 100, 1000)))

    def left(self, key: str) -> bool:
        return any(os.path.lexists(f"{folder}/{key}") for folder in self._v1.values())

    def close(self) -> None:
        for folder in self._v1.values():
            _rmdir_empty(folder)

    def forget(self, key: str, cgroup: Path | None) -> str:
        """Remove the v1 folders of an ended job; says when the memory limit killed a process of it."""
        places = [folder / key / "memory.oom_control" for name, folder in self._v1.items() if name == "memory"]
        if cgroup is not None:
            places.append(cgroup / "memory.events")
        killed = any(_field(place, "oom_kill") > 0 for place in places)
        for folder in self._v1.values():
            _rmdir(folder / key)
        return "the memory limit of the job was reached and a process of it was killed" if killed else ""


class Cgroup2:
    """One cgroup v2 per job. ``cgroup.kill`` needs Linux 5.14; before that: freeze, kill each, thaw."""

    name = "cgroup2"

    def __init__(self, installation: str, mount: Path, v1: dict[str, Path]) -> None:
        self._base = _base(mount, "", installation)
        self._base.mkdir(exist_ok=True)
        self._controllers = Controllers(installation, self._base, v1)
        self._kills = False
        """Whether a cgroup can be ended at once (Linux 5.14)."""
        limits = ", ".join(self._controllers.names) or "none"
        self.note = (
            f"a cgroup v2 per job below {self._base}; limits: {limits}. "
            "Not caught: a job that runs as root and moves a process out of its cgroup."
        )

    def place(self, key: str, limits: Limits) -> Placement:
        folder = self._base / key
        try:
            folder.mkdir(exist_ok=True)
        except FileNotFoundError:  # while no job ran, somebody tidied up what looked forgotten
            folder.mkdir(parents=True, exist_ok=True)
            self._controllers.divide()
        return Placement(cgroup=str(folder), procs=self._controllers.apply(key, limits, folder))

    def look(self, key: str) -> None:
        """Find out at the cgroup of *key* what this kernel offers."""
        self._kills = (self._base / key / "cgroup.kill").exists()

    def born(self, key: str) -> tuple[list[Act], Placement] | None:
        folder = f"{self._base}/{key}"
        return [("held", folder)], Placement(cgroup=folder)

    def gone(self, key: str, within_s: float) -> list[Act] | None:
        return [("let go", f"{self._base}/{key}", within_s)] if self._kills else None

    def pids(self, key: str, driver: int | None) -> set[int]:
        return {pid for folder in _below(self._base / key) for pid in _procs(folder)}

    def kill(self, key: str, driver: int | None, spare: int | None = None) -> None:
        folder = self._base / key
        if not folder.exists():
            return
        deadline = time.monotonic() + KILL_S
        if spare is None and (folder / "cgroup.kill").exists():
            if _field(folder / "cgroup.events", "populated") == 0:
                return
            with _unless_gone():
                (folder / "cgroup.kill").write_text("1")
            _wait_event(folder / "cgroup.events", "populated", 0, deadline)
            return
        freeze = folder / "cgroup.freeze"
        while self.pids(key, driver) - {spare} and time.monotonic() < deadline:
            with _unless_gone():
                freeze.write_text("1")
                try:
                    _wait_event(folder / "cgroup.events", "frozen", 1, min(deadline, time.monotonic() + 1))
                    signal_all(self.pids(key, driver) - {spare}, signal.SIGKILL)
                finally:
                    freeze.write_text("0")
            settle(lambda: not self.pids(key, driver) - {spare}, min(deadline, time.monotonic() + 0.5))

    def forget(self, key: str, *, limited: bool = True) -> str:
        reason = self._controllers.forget(key, self._base / key) if limited else ""
        _remove(self._base / key)
        return reason

    def left(self, key: str) -> bool:
        return os.path.lexists(f"{self._base}/{key}") or self._controllers.left(key)

    def keys(self) -> set[str]:
        return _folders(self._base)

    def close(self) -> None:
        _rmdir_empty(self._base)
        self._controllers.close()


class Freezer:
    """One cgroup v1 per job in the freezer hierarchy: nothing forks while it is killed."""

    name = "freezer"

    def __init__(self, installation: str, v1: dict[str, Path]) -> None:
        self._base = _base(v1["freezer"], "freezer", installation)
        self._base.mkdir(exist_ok=True)
        self._controllers = Controllers(installation, None, v1)
        limits = ", ".join(self._controllers.names) or "none"
        self.note = (
            f"a cgroup v1 per job below {self._base}; limits: {limits}. "
            "Not caught: a job that runs as root and moves a process out of its cgroup."
        )

    def place(self, key: str, limits: Limits) -> Placement:
        folder = self._base / key
        folder.mkdir(parents=True, exist_ok=True)
        return Placement(procs=(str(folder / "cgroup.procs"), *self._controllers.apply(key, limits, None)))

    def born(self, key: str) -> tuple[list[Act], Placement] | None:
        folder = f"{self._base}/{key}"
        return [("held", folder)], Placement(procs=(f"{folder}/cgroup.procs",))

    def gone(self, key: str, within_s: float) -> list[Act] | None:
        return None  # it takes freezing

    def pids(self, key: str, driver: int | None) -> set[int]:
        return {pid for folder in _below(self._base / key) for pid in _procs(folder)}

    def kill(self, key: str, driver: int | None, spare: int | None = None) -> None:
        folder = self._base / key
        state = folder / "freezer.state"
        deadline = time.monotonic() + KILL_S
        while self.pids(key, driver) - {spare} and time.monotonic() < deadline:
            with _unless_gone():
                state.write_text("FROZEN")
                try:
                    settle(lambda: state.read_text() == "FROZEN\n", min(deadline, time.monotonic() + 1))
                    signal_all(self.pids(key, driver) - {spare}, signal.SIGKILL)
                finally:
                    state.write_text("THAWED")
            settle(lambda: not self.pids(key, driver) - {spare}, min(deadline, time.monotonic() + 0.5))

    def forget(self, key: str, *, limited: bool = True) -> str:
        reason = self._controllers.forget(key, None) if limited else ""
        _remove(self._base / key)
        return reason

    def left(self, key: str) -> bool:
        return os.path.lexists(f"{self._base}/{key}") or self._controllers.left(key)

    def keys(self) -> set[str]:
        return _folders(self._base)

    def close(self) -> None:
        _rmdir_empty(self._base)
        self._controllers.close()


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def settle(done: Callable[[], bool], deadline: float) -> None:
    """Wait, a millisecond at a time, for what no descriptor tells."""
    while not done() and time.monotonic() < deadline:
        time.sleep(0.001)


def _writable(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        return os.access(folder, os.W_OK)
    return False


def _words(path: Path) -> set[str]:
    with contextlib.suppress(OSError):
        return set(path.read_text().split())
    return set()


def _folders(base: Path) -> set[str]:
    with contextlib.suppress(FileNotFoundError):  # it goes with the last job of the last server
        return {entry.name for entry in os.scandir(base) if entry.is_dir() and not entry.name.startswith("probe.")}
    return set()


def _below(folder: Path) -> Iterator[Path]:
    """*folder* and all cgroups in it, outer ones first; nothing when it is not there."""
    for path, _, _ in os.walk(folder):
        yield Path(path)


def _procs(folder: Path) -> set[int]:
    with contextlib.suppress(OSError):
        return {int(line) for line in (folder / "cgroup.procs").read_text().split()} - {0}
    return set()


def _remove(folder: Path) -> None:
    """Remove a cgroup, and those a job made in it."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError:
        for inner in reversed(list(_below(folder))):
            _rmdir(inner)


def _rmdir(folder: Path) -> None:
    """Remove an emptied cgroup. The last process may still be on its way out; what stays is swept later."""
    deadline = time.monotonic() + 0.5
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)


def _rmdir_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _field(path: Path, name: str) -> int:
    """Value of *name* in a file of ``name value`` lines; 0 when it is not there."""
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    return 0


def _wait_event(path: Path, name: str, value: int, deadline: float) -> None:
    """Wait until *name* in a cgroup's events file is *value*; the kernel tells of changes."""
    with _unless_gone(), path.open() as events:
        watch = select.poll()
        watch.register(events, select.POLLPRI)
        while True:
            events.seek(0)
            if f"{name} {value}\n" in events.read():
                return
            left = deadline - time.monotonic()
            if left <= 0:
                return
            watch.poll(min(left, 0.1) * 1000)


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    """A cgroup removed under our hands has nothing left in it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
