"""Servers as processes of their own, and the harm that is done to them."""

import base64
import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

from cador.cli.output import Failure

UP_S: Final = 60.0
"""How long a server may take until it answers."""
DOWN_S: Final = 20.0
TIMEOUT_S: Final = 3.0
"""After which a frozen server is taken for dead by its peers, in a self-test."""


class Server:
    """One server on a data folder of its own. ``url`` is empty while it does not answer."""

    def __init__(self, folder: Path, name: str, environ: dict[str, str]) -> None:
        self.name = name
        self._data = folder / name
        self._log = folder / f"{name}.log"
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def spawn(self) -> None:
        """Start it; does not wait until it answers."""
        (self._data / "server.json").unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cador", "serve", "--data", str(self._data), "--listen", "127.0.0.1:0"],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def poll(self) -> bool:
        """Whether it answers by now. Raises: Failure: it ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise Failure(f"server {self.name} ended by itself: {self._last_words()}")
        with contextlib.suppress(OSError, ValueError, KeyError):
            self.url = str(json.loads((self._data / "server.json").read_text())["url"])
        return bool(self.url)

    def wait(self) -> None:
        """Until it answers. Raises: Failure."""
        limit = time.monotonic() + UP_S
        while not self.poll():
            if time.monotonic() > limit:
                raise Failure(f"server {self.name} did not answer within {UP_S:.0f} s: {self._last_words()}")
            time.sleep(0.01)

    def end(self, number: signal.Signals) -> None:
        """Send *number*, and wait until the process is gone."""
        self.url = ""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            self._process.wait(DOWN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])
        return ""


class Cluster:
    """All servers of one database. ``with Cluster(...)``: up; gone at the end, whatever happened."""

    def __init__(self, folder: Path, database: str, count: int, limits: tuple[int, int]) -> None:
        """*limits*: tasks and jobs that run at once."""
        self.token = secrets.token_urlsafe(32)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CADOR_")}
        environ |= {
            "CADOR_ADMIN_TOKEN": self.token,
            "CADOR_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "CADOR_EXECUTORS__PROCESS__ROOT": str(folder / "jobs"),
            "CADOR_LANGUAGE": "en",
            "CADOR_LOG__LEVEL": "info",
            "CADOR_LOG__FORMAT": "json",
            "CADOR_ENGINE__MAX_RUNNING_TASKS": str(limits[0]),
            "CADOR_ENGINE__MAX_JOBS": str(limits[1]),
            "CADOR_ENGINE__REPLICA_TIMEOUT_S": str(TIMEOUT_S),
        }
        if database:
            environ["CADOR_DATABASE"] = database
        self.servers = [Server(folder, f"server-{number}", environ) for number in range(1, count + 1)]

    def __enter__(self) -> "Cluster":
        try:
            for server in self.servers:
                server.spawn()
                server.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for server in self.servers:
            server.send(signal.SIGCONT)
            server.end(signal.SIGTERM)

    def urls(self) -> list[str]:
        return [server.url for server in self.servers if server.url]


class Harm:
    """What is done to the servers, by chance from *seed*, until told to stop. Counts what it did."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self._cluster, self._chance = cluster, chance
        self.kills = self.freezes = self.restarts = 0
        self.slowest_s = 0.0
        """The longest a server took until it answered again."""
        self.failure: Failure | None = None

    def go_on(self, stop: threading.Event, most_kills: int) -> None:
        """Runs on a thread of its own; leaves all servers up."""
        chance = self._chance
        try:
            while not stop.is_set() and (not most_kills or self.kills < most_kills):
                stop.wait(chance.random() * chance.choice((0.1, 0.6, 2.0)) / len(self._cluster.servers))
                server = chance.choice(self._cluster.servers)
                dice = chance.random()
                if dice < 0.82:
                    server.end(signal.SIGKILL)
                    self.kills += 1
                    self._start(server)
                elif dice < 0.9:
                    server.end(signal.SIGTERM)
                    self.restarts += 1
                    self._start(server)
                else:
                    self._freeze(server, stop)
            for server in self._cluster.servers:
                server.wait()
        except Failure as failure:
            self.failure = failure
            stop.set()

    def _start(self, server: Server) -> None:
        """Start it again. Now and then it is killed while it starts, too."""
        chance = self._chance
        while chance.random() < 0.25:
            server.spawn()
            time.sleep(chance.uniform(0.05, 2.0))
            server.end(signal.SIGKILL)
            self.kills += 1
        began = time.monotonic()
        server.spawn()
        server.wait()
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def _freeze(self, server: Server, stop: threading.Event) -> None:
        several = len(self._cluster.servers) > 1
        server.send(signal.SIGSTOP)
        try:
            stop.wait(self._chance.uniform(0.05, 1.8 * TIMEOUT_S if several else 1.5))
        finally:
            server.send(signal.SIGCONT)
        self.freezes += 1
