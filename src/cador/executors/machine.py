"""The machine that jobs run on: who it is, whom jobs run as, what holds their processes, and which of them live."""

import contextlib
import errno
import grp
import os
import pwd
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cador.executors.job_folder import Folders, Owner, Record, Started
from cador.executors.placement import Containment
from cador.executors.running import Driver
from cador.executors.spawner import Hands


@dataclass(frozen=True, slots=True)
class Machine:
    """What starting, following and clearing up share. *holders*: means of containment by name, best first. *blocking*
    runs a function on a thread."""

    folders: Folders
    boot: str
    holders: Mapping[str, Containment]
    hands: Hands
    blocking: Callable[..., Awaitable[Any]]

    @property
    def holder(self) -> Containment:
        """What jobs that start now are held by."""
        return next(iter(self.holders.values()))

    def holder_of(self, record: Record) -> Containment:
        """The means a job was started under, which may be another than today's."""
        return self.holders.get(record.means, self.holder)

    def living(self, key: str, record: Record, started: Started | None) -> Driver | None:
        """The driver of *key*, None when it is dead. *started* None: one that may be it."""
        if record.boot != self.boot:
            return None
        if started is None:
            # It died, or is between two instructions: whoever has the job's mark in its environment and is the
            # leader of the session is the driver.
            for pid in self.holder_of(record).pids(key, None):
                with contextlib.suppress(ProcessLookupError):
                    if os.getsid(pid) == pid:
                        return Driver(pid, os.pidfd_open(pid))
            return None
        if started.boot != self.boot:
            return None
        try:
            driver = Driver(started.pid, os.pidfd_open(started.pid))
        except OSError as error:
            if error.errno in (errno.ESRCH, errno.EINVAL, errno.ENOENT):  # gone, or the number of a thread by now
                return None
            raise
        if _born(started.pid) != started.born:
            driver.close()
            return None
        return driver


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identity(root: Path) -> tuple[str, str]:
    """Of the machine, and of the root: containers of one image have the same machine id and the same path, and do
    not see each other's jobs."""
    machine = ""
    with contextlib.suppress(OSError):
        machine = Path("/etc/machine-id").read_text().strip()
    return machine or _made_once(root / ".machine-id", 16), _made_once(root / ".mark", 4)


def owner_of(user: str | None) -> Owner | None:
    """Raises: LookupError: no such user. PermissionError: only root can run jobs as somebody else."""
    if user is None:
        return None
    entry = pwd.getpwnam(user)
    if entry.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise PermissionError(f"only root can run jobs as {user}")
    groups = {entry.pw_gid, *(group.gr_gid for group in grp.getgrall() if user in group.gr_mem)}
    return Owner(entry.pw_uid, entry.pw_gid, tuple(sorted(groups)))


def _made_once(path: Path, length: int) -> str:
    """*length* random bytes in hex, which the first server that asks writes; nobody ever reads half of them."""
    if not path.exists():
        new = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
        new.write_text(os.urandom(length).hex())
        try:
            os.link(new, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    return path.read_text().strip()


def _born(pid: int) -> int | None:
    """Start time of a process, clock ticks since boot. Source: proc(5), /proc/pid/stat, field 22."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[19])
    except (OSError, IndexError):
        return None
