"""What a server needs of its machine: the data folder and its lock, addresses, folders and accounts of jobs."""

import contextlib
import fcntl
import json
import os
import pwd
import re
import resource
import socket
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from cador.domain.errors import CadorError
from cador.settings import Settings, split_address
from cador.storage.folders import UNFINISHED


class CannotStart(CadorError):
    """The server cannot start here; one line that says why and what to do."""


def data_folder(path: Path) -> Path:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("logs", "blobs", "cache"):
            (path / name).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise CannotStart(
            f"the data folder {path} cannot be used ({error.strerror}): choose another one with --data"
        ) from None
    return path.resolve()


@contextlib.contextmanager
def locked(data: Path) -> Iterator[None]:
    """One server per data folder: the lock goes with the process, however it ends."""
    try:
        descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(
            f"the data folder {data} cannot be written to ({error.strerror}): let this account own it, or choose "
            "another one with --data"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"the data folder {data} is in use by another server{_who(data)}: stop it, or choose another folder "
                "with --data"
            ) from None
        except OSError as error:
            raise CannotStart(
                f"the data folder {data} is on a file system without locks ({error.strerror}): choose another one with "
                "--data"
            ) from None
        if (data / UNFINISHED).exists():
            raise CannotStart(
                f"a restore into {data} was broken off: empty the folder, and the database, and restore again"
            )
        yield
    finally:
        os.close(descriptor)


def _who(data: Path) -> str:
    try:
        known = json.loads((data / "server.json").read_text())
        return f" ({known['url']}, process {known['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def home_of(data: Path) -> str:
    """The name of a data folder among those of other servers; it stays when the server is started again."""
    path = data / "home"
    with contextlib.suppress(FileNotFoundError):
        known = path.read_text().strip()
        if re.fullmatch(r"[A-Za-z0-9-]{1,80}", known):
            return known
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname().partition(".")[0])[:60]
    write_private(path, f"{host}-{uuid.uuid4().hex[:8]}\n")
    return path.read_text().strip()


@contextlib.contextmanager
def listening_inside(settings: Settings) -> Iterator[socket.socket]:
    """For the other servers of the database."""
    with listening(
        settings.cluster.listen, split_address("cluster.listen", settings.cluster.listen), "cluster.listen"
    ) as inner:
        host = inner.getsockname()[0]
        if host in ("0.0.0.0", "::") and not settings.cluster.address:  # noqa: S104 - compared, not bound
            raise CannotStart(
                "cluster.address: tell under which URL the other servers reach this one, like http://ci-2:8701"
            )
        yield inner


@contextlib.contextmanager
def listening(listen: str, address: tuple[str, int], setting: str) -> Iterator[socket.socket]:
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it replies wait 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, UnicodeError) as error:  # a name that is none is told as a mistake in its letters
            raise CannotStart(
                f"cannot listen on {listen} ({getattr(error, 'strerror', error)}): stop what uses it, or choose "
                f"another address with {setting}"
            ) from None
        yield listener
    finally:
        listener.close()


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def jobs_root_of(settings: Settings, data: Path, installation: str) -> Path:
    """Where running jobs live. As root they are another user's, who cannot look into the data folder."""
    if settings.executors.process.root:
        root = Path(settings.executors.process.root)
    elif os.geteuid() == 0:
        root = Path("/var/lib/cador/jobs") / installation
    else:
        root = data / "jobs"
    try:
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStart(
            f"the folder of running jobs {root} cannot be made ({error.strerror}): set executors.process.root"
        ) from None
    if os.geteuid() == 0:
        for folder in (root, *root.resolve().parents):
            if not folder.stat().st_mode & stat.S_IXOTH:
                raise CannotStart(
                    f"the account of the jobs cannot enter {folder}: set executors.process.root to a folder it reaches"
                )
    return root


def job_user(settings: Settings) -> str | None:
    """As root, jobs run as somebody else; else as the server itself."""
    if os.geteuid() != 0:
        return None
    name = settings.executors.process.user or "nobody"
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise CannotStart(f"executors.process.user: there is no account {name!r} on this machine") from None
    return name


def raise_descriptor_limit() -> tuple[int, int]:
    """Thousands of connections and jobs need descriptors; jobs get the old limit back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard


def write_private(path: Path, text: str) -> None:
    """Put a file for this account alone in the place of *path*; durable when this returns."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def known_token(data: Path, settings: Settings) -> str:
    if settings.admin_token:
        return settings.admin_token
    with contextlib.suppress(OSError):
        return (data / "admin-token").read_text().strip()
    return ""
