"""Job folders on disk: where everything of one execution is, and how it is written and taken away.

    <root>/<key>/
        run, steps/     the driver and the steps' texts; the first line of ``run``, a comment of the shell, is what the
                        server must know after a restart (no secrets)
        files/          the job's private files, 0600; only of a job that has some
        output          everything the job prints, in order
        marks/          started, step marks, exit: written by the driver
        outputs/        RESULTS_DIR     workspace/  WORKSPACE     home/  HOME     tmp/  TMPDIR
        stop, gate, reporting     written by the server when it stops the job

When jobs run as a user of their own, that user owns what he must write to and can replace nothing else, ``run`` least
of all; the server follows no link below a job folder, whoever made it.

A folder appears under its key complete, by one rename, so that a server that dies while writing leaves nothing to
find. Nothing is synced to disk: what a killed server wrote stays in the page cache, and a power failure ends the jobs
as well; a folder of an earlier boot is therefore written anew when its job never started.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cador.executors.driver import driver, number, prelude, script
from cador.executors.files import FLAGS, NO_FILE, create, open_beneath, remove_tree
from cador.executors.spawner_process import Act
from cador.ports.executor import JobFolder, Limits, StartRefused

KEY: Final = re.compile(r"[A-Za-z0-9-][A-Za-z0-9.-]{0,199}\Z")
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOMBSTONE_S: Final = 24 * 3600.0
_STONE_S: Final = 3600.0
_HALF_WRITTEN_S: Final = 600.0
_VARIABLE_BYTES: Final = 131_072
_ENVIRONMENT_BYTES: Final = (2 << 20) - 65_536
_RECORD: Final = "#record "


@dataclass(frozen=True, slots=True)
class Owner:
    """The user jobs run as."""

    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """First line of ``run``. ``boot``: of the host that wrote it; ``means``: how the job's processes are contained."""

    boot: str
    means: str
    steps: int
    outputs: tuple[str, ...]
    report_s: float
    limits: Limits


@dataclass(frozen=True, slots=True)
class Started:
    """First act of a driver: its process id and start time (clock ticks since boot) on the boot named."""

    pid: int
    born: int
    boot: str


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop that was asked for. ``at``: Unix seconds."""

    reason: str
    grace_s: float
    at: float


class Folders:
    """The folders below one *root*, a folder of this installation alone. Blocking calls; none follows links."""

    def __init__(self, root: Path, installation: str, boot: str, owner: Owner | None) -> None:
        self.root, self._installation, self._boot, self._owner = root, installation, boot, owner
        self._place = str(root)
        self._descriptor = -1
        self._stone, self._stone_at = "", 0.0
        self._stone_lock = threading.Lock()

    def prepare(self) -> None:
        """Make the root and take away what killed servers left half-written or half-removed."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o711 if self._owner else 0o700)
        for name in (".new", ".removed", ".tombstones"):
            (self.root / name).mkdir(mode=0o700, exist_ok=True)
        self.tidy()

    def tidy(self) -> None:
        """Remove leftovers and tombstones past their time."""
        now = time.time()
        for name, age_s in ((".new", _HALF_WRITTEN_S), (".removed", 0.0)):
            for entry in os.scandir(self.root / name):
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime + age_s <= now:
                        remove_tree(Path(entry.path))
        for entry in os.scandir(self.root / ".tombstones"):
            with contextlib.suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_mtime + TOMBSTONE_S + _STONE_S <= now:
                    os.unlink(entry.path)

    def _root_descriptor(self) -> int:
        if self._descriptor < 0:
            self._descriptor = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def keys(self) -> set[str]:
        return {entry.name for entry in os.scandir(self.root) if not entry.name.startswith(".")}

    def folder(self, key: str) -> Path:
        return self.root / key

    def place(self, key: str) -> str:
        """The same as text: paths that are computed for every job are not worth objects."""
        return f"{self._place}/{key}"

    def exists(self, key: str) -> bool:
        return os.path.isdir(f"{self._place}/{key}")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other servers out of what is done under this as well."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    # --- writing ------------------------------------------------------------------------------------------------

    def new(self, key: str) -> str:
        """Where the folder of *key* is made; it appears under its key by a rename."""
        return f"{self._place}/.new/{key}.{secrets.token_hex(4)}"

    def write(self, key: str, job: JobFolder, means: str) -> None:
        """Write the folder of *job*, or leave the one that is there."""
        new = self.new(key)
        try:
            self._fill(new, job, means)
            os.rename(new, f"{self._place}/{key}")
        except (OSError, StartRefused) as error:
            remove_tree(new)
            if not isinstance(error, OSError) or error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise

    def _fill(self, new: str, job: JobFolder, means: str) -> None:
        for name, path, mode, user, group, *content in self.acts(new, job, means):
            if name == "folder":
                os.mkdir(path, mode)
                os.chmod(path, mode)  # the umask of the server must not decide what a job can reach
            else:
                create(path, content[0].encode("latin-1"), mode)
            if (user, group) != (-1, -1):
                os.chown(path, user, group)

    def acts(self, new: str, job: JobFolder, means: str) -> list[Act]:
        """What makes the folder of *job* at *new*: ``folder`` and ``file``, with path, permissions, owner (-1: the
        server's), and the content of files as text of a character per byte.

        Raises: StartRefused: a private file has no usable path.
        """
        user, group = (self._owner.uid, self._owner.gid) if self._owner else (-1, -1)
        passage = 0o710 if self._owner else 0o700
        acts: list[Act] = [
            ("folder", new, passage, -1, group),
            ("file", f"{new}/output", 0o600, -1, -1, ""),
            ("file", f"{new}/run", 0o440 if self._owner else 0o400, -1, group, _bytes(self._run(job, means))),
            ("folder", f"{new}/steps", passage, -1, group),
        ]
        for index, step in enumerate(job.steps):
            place = f"{new}/steps/{number(index)}"
            acts.append(("file", place, 0o400, user, group, _bytes(script(step))))
            if before := prelude(step):
                acts.append(("file", f"{place}.pre", 0o400, user, group, _bytes(before)))
        names = ["marks", "outputs", "workspace", "home", "tmp", *(["files"] if job.files else [])]
        names += dict.fromkeys(above for path in job.files for above in _folders_above(path))
        acts += [("folder", f"{new}/{name}", 0o700, user, group) for name in names]
        for path, content in job.files.items():
            acts.append(("file", f"{new}/files/{path}", 0o600, user, group, content.decode("latin-1")))
        return acts

    def _run(self, job: JobFolder, means: str) -> str:
        record = {
            "boot": self._boot,
            "means": means,
            "steps": len(job.steps),
            "outputs": list(job.outputs),
            "report_s": job.report_s,
            "limits": [job.limits.cpu_milli, job.limits.memory_bytes, job.limits.pids],
        }
        return f"{_RECORD}{json.dumps(record)}\n{driver(job)}"

    def new_record(self, job: JobFolder, means: str) -> Record:
        """What :meth:`record` reads from a folder that was written now."""
        return Record(self._boot, means, len(job.steps), job.outputs, job.report_s, job.limits)

    def environment(self, key: str, job: JobFolder) -> dict[str, str]:
        """The whole environment of the driver of *job*. A ``PATH`` of the job comes before ours.

        Raises: StartRefused: no process can have it. Source: execve(2), limits on size of arguments and environment.
        """
        folder = self.place(key)
        for name, value in job.env.items():
            if not name or "=" in name or "\0" in name:
                raise StartRefused(f"{name!r} is no name of a variable")
            if "\0" in value:
                raise StartRefused(f"the variable {name} has a NUL in it")
            if len(os.fsencode(name)) + len(os.fsencode(value)) + 2 > _VARIABLE_BYTES:
                raise StartRefused(f"the variable {name} is longer than 128 KiB")
        if sum(len(os.fsencode(name + value)) + 10 for name, value in job.env.items()) > _ENVIRONMENT_BYTES:
            raise StartRefused("the variables of the job are longer than 2 MiB together")
        own = job.env.get("PATH", "").split(":") if job.env.get("PATH") else []
        return {
            **job.env,
            "PATH": ":".join(own + [part for part in PATH.split(":") if part not in own]),
            "HOME": f"{folder}/home",
            "WORKSPACE": f"{folder}/workspace",
            "RESULTS_DIR": f"{folder}/outputs",
            "TMPDIR": f"{folder}/tmp",  # noqa: S108 - of this job alone
            "CADOR_JOB": f"{self._installation}/{key}",
            "CADOR_JOB_DIR": folder,
        }

    # --- reading ------------------------------------------------------------------------------------------------

    def record(self, key: str) -> Record | None:
        """None: no folder, or one that a power failure left unreadable."""
        content = self.content(key, "run", 1 << 20)
        if content is None:
            return None
        line, end, _ = content[0].partition(b"\n")
        try:
            if not end or not line.startswith(_RECORD.encode()):
                return None
            data = json.loads(line[len(_RECORD) :])
            return Record(
                boot=data["boot"],
                means=data["means"],
                steps=data["steps"],
                outputs=tuple(data["outputs"]),
                report_s=data["report_s"],
                limits=Limits(*data["limits"]),
            )
        except (ValueError, KeyError, TypeError):
            return None

    def started(self, key: str) -> Started | None:
        """None: nothing, or the driver died between creating the file and filling it; see :meth:`has_started`."""
        content = self.content(key, "marks/started", 256)
        if content is None:
            return None
        words = content[0].decode("ascii", "replace").split()
        if len(words) != 3 or not (words[0].isdigit() and words[1].isdigit()):
            return None
        return Started(int(words[0]), int(words[1]), words[2])

    def has_started(self, key: str) -> bool:
        return os.path.lexists(f"{self._place}/{key}/marks/started")

    def stop(self, key: str) -> Stop | None:
        content = self.content(key, "stop", 256)
        if content is None:
            return None
        words = content[0].decode("ascii", "replace").split()
        return Stop(words[0], float(words[1]), content[1]) if len(words) == 2 else None

    def content(self, key: str, path: str, limit: int) -> tuple[bytes, float] | None:
        """At most *limit* bytes of a regular file below the folder and its modification time; None: no such file."""
        try:
            descriptor = open_beneath(self._root_descriptor(), f"{key}/{path}", FLAGS)
        except OSError as error:
            if error.errno in NO_FILE:
                return None
            raise
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return None
            return os.read(descriptor, limit), status.st_mtime
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def opened(self, key: str, path: str, flags: int = 0) -> Iterator[int]:
        """Descriptor of the regular file *path* below the folder, no part of which may be a link.

        Raises: FileNotFoundError: also for links, devices and FIFOs.
        """
        descriptor = self.open(key, path, flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def open(self, key: str, path: str, flags: int = 0) -> int:
        """As :meth:`opened`; the caller closes."""
        try:
            descriptor = open_beneath(self._root_descriptor(), f"{key}/{path}", FLAGS | flags)
        except OSError as error:
            if error.errno in NO_FILE:
                raise FileNotFoundError(error.errno, "not a regular file", path) from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "not a regular file", path)
        return descriptor

    # --- stopping and removing ----------------------------------------------------------------------------------

    def write_stop(self, key: str, stop: Stop) -> None:
        """Tell the driver. The file appears complete; the gate is there before it. Raises: FileNotFoundError."""
        folder = self.folder(key)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(folder / "gate")
            os.chmod(folder / "gate", 0o644)
        new = folder / f".stop.{secrets.token_hex(4)}"
        create(new, f"{stop.reason} {stop.grace_s}\n".encode(), 0o644)
        os.rename(new, folder / "stop")

    def tombstone(self, key: str) -> str:
        """``""`` none; ``stopped``: a stop came before the start; ``removed``; ``refused``: a start came after it."""
        try:
            with open(f"{self._place}/.tombstones/{key}") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def bury_removed(self, key: str) -> None:
        """Keep *key* from ever starting again; a tombstone that is there stays.

        The tombstones of an hour are names of one file: every job gets one, and new files are what a file system is
        slowest at. They go together, up to an hour later than one of their own would.
        """
        for _ in range(3):
            try:
                os.link(self._common_stone(), self.root / ".tombstones" / key)
                return
            except FileExistsError:
                return
            except OSError as error:  # taken away by a sweep, or it has all the names a file can have
                if error.errno not in (errno.ENOENT, errno.EMLINK):
                    break
                self._stone = ""
        self.bury(key, "removed")  # a file system without links

    def _common_stone(self) -> str:
        with self._stone_lock:
            if not self._stone or time.time() - self._stone_at > _STONE_S:
                stone = self.root / ".tombstones" / f".removed.{secrets.token_hex(8)}"
                create(stone, b"removed", 0o600)
                self._stone, self._stone_at = str(stone), time.time()
            return self._stone

    def bury(self, key: str, word: str) -> None:
        """As :meth:`bury_removed`, with a *word* that replaces another."""
        new = self.root / ".tombstones" / f".{key}.{secrets.token_hex(4)}"
        create(new, word.encode(), 0o600)
        os.rename(new, self.root / ".tombstones" / key)

    def away(self, key: str) -> str:
        """Where the folder of *key* is moved to be removed."""
        return f"{self._place}/.removed/{key}.{secrets.token_hex(4)}"

    def remove(self, key: str) -> None:
        """The key is gone at once, its folder when this returns."""
        away = self.away(key)
        try:
            os.rename(f"{self._place}/{key}", away)
        except FileNotFoundError:
            return
        remove_tree(away)

    def removal(self, key: str, away: str, most: int) -> list[Act]:
        """The same for the process that starts drivers, and the tombstone of :meth:`bury_removed` before it."""
        return [
            ("linked", self._common_stone(), f"{self._place}/.tombstones/{key}"),
            ("move", f"{self._place}/{key}", away),
            ("tree", away, most),
        ]

    def forgetting(self, key: str, most: int) -> list[Act]:
        """As :meth:`forget_secrets`, for the process that starts drivers."""
        return [("tree", f"{self._place}/{key}/{name}", most) for name in ("files", "steps")]

    def tombstone_path(self, key: str) -> str:
        return f"{self._place}/.tombstones/{key}"

    def forget_secrets(self, key: str) -> None:
        """Remove the private files and the steps' texts; an ended job needs neither."""
        if os.path.lexists(f"{self._place}/{key}/files"):
            remove_tree(f"{self._place}/{key}/files")
        remove_tree(f"{self._place}/{key}/steps")


def _bytes(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _folders_above(path: str) -> Iterator[str]:
    """Folders to be made for the private file *path*, outer ones first. Raises: StartRefused."""
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts):
        raise StartRefused(f"a file of the job has no usable path: {path!r}")
    for depth in range(1, len(parts)):
        yield "/".join(("files", *parts[:depth]))
