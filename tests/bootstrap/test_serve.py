"""A server as a command: how it ends, and what it says then."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.server_process import ServerProcess, open_folder

pytestmark = pytest.mark.real


def test_what_goes_wrong_beside_other_parts_is_told_in_one_line() -> None:
    """The note of a server is written when its parts run already: what stops them all at once is one mistake."""
    with open_folder() as folder:
        data = folder / "data"
        (data / "server.json.part").mkdir(parents=True)
        command = [
            str(Path(sys.executable).with_name("cador")),
            "serve",
            "--data",
            str(data),
            "--listen",
            "127.0.0.1:0",
        ]
        env = {**os.environ, "CADOR_LOG__LEVEL": "error", "CADOR_EXECUTORS__PROCESS__ROOT": str(folder / "jobs")}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("cador: ")
        assert "server.json.part" in done.stderr.splitlines()[-1]


def test_a_server_that_is_told_to_stop_takes_its_note_away() -> None:
    with open_folder() as folder:
        server = ServerProcess(folder)
        server.start()
        assert (server.data / "server.json").exists()
        assert server.process is not None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 0
        assert not (server.data / "server.json").exists()
