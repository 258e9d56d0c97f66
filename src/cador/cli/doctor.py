"""``cador doctor``: is this machine fit, and what to do where it is not."""

import json as json_
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from cador.cli.options import Json
from cador.cli.output import FAILED, Failure, result, result_json
from cador.settings import Settings, SettingsError, load

LEAST_FREE: Final = 1024**3
"""Bytes of free disk below which jobs will soon fail."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``state``: ``ok``, ``note`` (works, worth knowing) or ``bad`` (will not work). ``remedy``: what to do."""

    what: str
    state: str
    told: str
    remedy: str = ""


def doctor(
    *,
    data: Annotated[Path | None, Parameter(help="Data folder; else CADOR_DATA, else $XDG_DATA_HOME/cador.")] = None,
    config: Annotated[Path | None, Parameter(help="Settings file; else cador.toml in the data folder.")] = None,
    json: Json = False,
) -> int:
    """Check settings, data folder, database, git, tools, disk and clock, and say what to do.

    Exit status 1 when something will not work.

    $ cador doctor
    """
    try:
        settings = load({"data": data}, config=config)
        findings = [Finding("settings", "ok", "read and valid")]
    except SettingsError as error:
        findings = [Finding("settings", "bad", str(error), "correct it; docs/settings.md lists all settings")]
        settings = Settings(data=data) if data else Settings()
    for check in (_python, _system, _data, _disk, _server, _git, _shell, _user, _docker):
        findings += check(settings)
    if json:
        result_json([asdict(finding) for finding in findings])
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            result(f"{finding.state:<4}  {finding.what:<{width}}  {finding.told}")
            if finding.remedy:
                result(f"      {'':<{width}}  -> {finding.remedy}")
    return FAILED if any(finding.state == "bad" for finding in findings) else 0


def _python(settings: Settings) -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _system(settings: Settings) -> Iterator[Finding]:
    if sys.platform == "linux":
        yield Finding("system", "ok", f"Linux {platform.release()}, {platform.machine()}")
    else:
        yield Finding("system", "bad", f"{platform.system()} is not supported", "run cador on Linux")


def _data(settings: Settings) -> Iterator[Finding]:
    folder = settings.data
    if not folder.exists():
        parent = next(path for path in folder.absolute().parents if path.exists())
        if os.access(parent, os.W_OK):
            yield Finding("data folder", "ok", f"{folder} is made at the first start")
        else:
            yield Finding("data folder", "bad", f"{folder} cannot be made", f"allow writing to {parent}, or use --data")
        return
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("data folder", "bad", f"{folder} cannot be written", "use --data, or change its owner")
        return
    mode = folder.stat().st_mode & 0o777
    open_to_others = mode & 0o077
    yield Finding(
        "data folder",
        "bad" if open_to_others else "ok",
        f"{folder}, mode {mode:04o}",
        f"chmod 700 {folder}" if open_to_others else "",
    )
    for name in ("key", "admin-token", "server.json"):
        path = folder / name
        if path.is_file() and path.stat().st_mode & 0o077:
            yield Finding(name, "bad", f"{path} can be read by others", f"chmod 600 {path}")


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = next(path for path in (settings.data, *settings.data.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    told = f"{free / 1024**3:.1f} GiB free"
    bad = free < LEAST_FREE
    yield Finding("disk", "bad" if bad else "ok", told, "make room: jobs and logs need it" if bad else "")


def _server(settings: Settings) -> Iterator[Finding]:
    from cador.cli.client import Client
    from cador.cli.contexts import Place

    try:
        told = json_.loads((settings.data / "server.json").read_text(encoding="utf-8"))
        url = str(told["url"])
    except FileNotFoundError:
        yield Finding("server", "note", "none has run on this data folder", "cador serve")
        return
    except (ValueError, KeyError, OSError) as error:
        yield Finding("server", "bad", f"server.json: {error}", "restart the server")
        return
    try:
        ready: Any = Client(Place(url, "", "server.json")).get("/readyz")
    except Failure as failure:
        yield Finding("server", "note", failure.message, "cador serve, if it should run")
        return
    yield Finding("server", "ok", f"{url} is ready" if ready else url)
    yield from _clock(url)


def _clock(url: str) -> Iterator[Finding]:
    from email.utils import parsedate_to_datetime
    from http.client import HTTPConnection
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme != "http":
        return
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        date = connection.getresponse().headers.get("Date")
    except OSError:
        return
    finally:
        connection.close()
    if date:
        off = abs(parsedate_to_datetime(date).timestamp() - time.time())
        state = "ok" if off < 5 else "bad"
        yield Finding("clock", state, f"{off:.0f} s off the server", "" if state == "ok" else "set the clock (NTP)")


def _git(settings: Settings) -> Iterator[Finding]:
    yield _tool(
        "git", ["git", "--version"], bad=True, why="jobs check out repositories with it", remedy="apt-get install git"
    )


def _shell(settings: Settings) -> Iterator[Finding]:
    yield _tool(
        "bash",
        ["bash", "-c", "echo bash $BASH_VERSION"],
        bad=True,
        why="scripts run under it",
        remedy="apt-get install bash",
    )


def _user(settings: Settings) -> Iterator[Finding]:
    import pwd

    if os.geteuid() != 0:
        yield Finding(
            "jobs", "note", "run as your own user: whoever may change a workflow can do what this account can",
            "run the server as root to have jobs run as another user, or use a machine of its own",
        )  # fmt: skip
        return
    name = settings.executors.process.user or "nobody"
    try:
        uid = pwd.getpwnam(name).pw_uid
    except KeyError:
        yield Finding("jobs", "bad", f"there is no account {name}", "set executors.process.user")
        return
    yield Finding("jobs", "ok", f"run as {name} (uid {uid})")


def _docker(settings: Settings) -> Iterator[Finding]:
    yield _tool(
        "docker", ["docker", "version", "--format", "docker {{.Server.Version}}"], bad=False,
        why="image builds need it", remedy="install Docker where workflows build images",
    )  # fmt: skip


def _tool(name: str, command: list[str], *, bad: bool, why: str, remedy: str) -> Finding:
    state = "bad" if bad else "note"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        return Finding(name, state, f"not installed: {why}", remedy)
    except subprocess.TimeoutExpired:
        return Finding(name, state, "does not answer", remedy)
    if done.returncode:
        told = (done.stderr.strip() or done.stdout.strip()).partition("\n")[0]
        return Finding(name, state, f"does not work: {told}", remedy)
    return Finding(name, "ok", f"{done.stdout.strip()}: {shutil.which(command[0])}")
