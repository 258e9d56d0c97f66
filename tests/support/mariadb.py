"""A MariaDB server for tests: the program installed on this machine, with a folder, a port and an account of its own.

``apt-get install mariadb-server`` brings it; ``.ci/run`` does so. A ``conftest.py`` or a test module takes the fixture
in with ``from support.mariadb import mariadb``.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["MariaDB", "mariadb"]

STARTS_S = 60.0
PASSWORD = "maria-p4ssw0rd-for-tests"
PORTS = 5
"""How many are tried: between its choice and the server's start anybody may take one."""


class Taken(Exception):
    """The port is somebody else's."""


class MariaDB:
    """A running server. The account ``ci`` may do everything, and there is a database ``ci``."""

    def __init__(self) -> None:
        program = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin")
        if program is None or shutil.which("mariadb-install-db") is None:
            pytest.skip("mariadb: no server is installed; apt-get install mariadb-server")
        # Not below pytest's folder: run by root the server is another user, who must be able to get there.
        self._folder = Path(tempfile.mkdtemp(prefix="cador-test-maria-"))
        as_user = []
        if os.geteuid() == 0:
            user = next(name for name in ("mysql", "nobody") if _known(name))
            os.chown(self._folder, pwd.getpwnam(user).pw_uid, -1)
            as_user = [f"--user={user}"]
        data, prepared = self._folder / "data", self._folder / "prepare.sql"
        # Where it puts temporary files: it may not write where the tests do.
        mine = {**os.environ, "TMPDIR": str(self._folder)}
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal",
             "--skip-test-db", *as_user],
            check=True, capture_output=True, timeout=STARTS_S, env=mine,
        )  # fmt: skip
        prepared.write_text(
            f"CREATE DATABASE ci;\nCREATE USER 'ci'@'%' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL PRIVILEGES ON *.* TO 'ci'@'%';\n"
        )
        prepared.chmod(0o644)
        self._command = [
            program, "--no-defaults", f"--datadir={data}", f"--socket={self._folder / 'socket'}",
            "--bind-address=127.0.0.1", f"--init-file={prepared}", "--skip-log-bin",
            "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M", *as_user,
        ]  # fmt: skip
        self._environ = mine
        for left in range(PORTS, 0, -1):
            try:
                self._start()
                return
            except Taken:
                assert left > 1, "no port stays free"

    def _start(self) -> None:
        """Raises: Taken: somebody else has the port by now."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            [*self._command, f"--port={self.port}"],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=self._environ,
        )  # fmt: skip
        try:
            self._await()
        except BaseException:
            self._process.kill()
            self._process.wait()
            self._log.close()
            raise

    def _await(self) -> None:
        deadline = time.monotonic() + STARTS_S
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                    if self._process.poll() is None and connection.recv(1):
                        return
            except OSError:
                pass
            said = (self._folder / "log").read_text(errors="replace")
            if "Address already in use" in said:
                raise Taken
            assert self._process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the action ``sql``, but for the statements."""
        return {
            "name": "maria",
            "type": "mariadb",
            "host": "127.0.0.1",
            "port": self.port,
            "username": "ci",
            "password": PASSWORD,
            "database": "",
        }

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _known(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    server = MariaDB()
    yield server
    server.close()
