"""A whole server inside one command, on a temporary folder and a free port: for the demo and for local runs."""

import asyncio
import os
import secrets
import signal
import stat
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from cador.cli.client import Client
from cador.cli.contexts import Place
from cador.cli.output import INTERRUPTED, Failure
from cador.settings import ExecutorSettings, LogSettings, ProcessSettings, Settings

Drive = Callable[[Client, Path, threading.Event], int]


def with_server(drive: Drive) -> int:
    """Run *drive* beside a server of its own and return what it returns.

    *drive* gets a client, a folder that is removed afterwards, and an event that is set when it is to come to its end
    (Ctrl-C, SIGTERM); it runs on a thread.

    Raises: Failure: jobs could not enter the folder.
    """
    with tempfile.TemporaryDirectory(prefix="cador-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "jobs").mkdir()
        (folder / "data").mkdir(0o700)
        token = secrets.token_urlsafe(32)
        with open(os.open(folder / "data" / "admin-token", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(token + "\n")
        if os.geteuid() == 0:
            # The jobs' own account must be able to reach its folder, and nothing else in here.
            if closed := next((up for up in folder.resolve().parents if not up.stat().st_mode & stat.S_IXOTH), None):
                raise Failure(
                    f"the account of the jobs cannot enter {closed}: set TMPDIR to one that others can, as /var/tmp"
                )
            folder.chmod(0o711)
            (folder / "jobs").chmod(0o711)
        try:
            return asyncio.run(_serve(folder, token, drive))
        except (KeyboardInterrupt, asyncio.CancelledError):
            return INTERRUPTED


async def _serve(folder: Path, token: str, drive: Drive) -> int:
    from cador import bootstrap

    settings = Settings(
        data=folder / "data",
        listen="127.0.0.1:0",
        language="en",
        admin_token=token,
        log=LogSettings(level="error"),
        executors=ExecutorSettings(process=ProcessSettings(root=str(folder / "jobs"))),
    )
    stop = threading.Event()
    loop = asyncio.get_running_loop()
    own = asyncio.current_task()
    async with bootstrap.server(settings) as running:
        client = Client(Place(running.url, running.token, "this command"))
        if own is not None:
            loop.add_signal_handler(signal.SIGTERM, own.cancel)
        driving = loop.run_in_executor(None, drive, client, folder, stop)
        try:
            await asyncio.wait([driving])
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            stop.set()
            await asyncio.wait([driving])
    # Outside of the server's own tasks, so that an error of the drive arrives as itself.
    return driving.result()
