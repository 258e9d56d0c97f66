"""A server in a process of its own, to be killed and started again on the same data folder."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that jobs can enter: as root they run as another account, which is kept out of pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="cador-test-"))
    folder.chmod(0o711)
    (folder / "scratch").mkdir()
    (folder / "scratch").chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


TOKEN = "test-token-0123456789abcdef"
DEADLINE_S = 60.0


class ServerProcess:
    """``with ServerProcess(folder) as server``: started, answering; ended at the end, whatever happened."""

    def __init__(self, folder: Path, *, database: str = "", name: str = "data", **environ: str) -> None:
        """*name*: of its data folder; servers of one database have a folder each, and their jobs in common."""
        self.folder = folder
        self.data = folder / name
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CADOR_")},
            "CADOR_ADMIN_TOKEN": TOKEN,
            "CADOR_EXECUTORS__PROCESS__ROOT": str(folder / "jobs"),
            "CADOR_LANGUAGE": "en",
            **({"CADOR_DATABASE": database} if database else {}),
            **environ,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.listen = "127.0.0.1:0"
        self.url = ""
        self.client: httpx2.Client | None = None

    def __enter__(self) -> "ServerProcess":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        note = self.data / "server.json"
        note.unlink(missing_ok=True)
        with (self.folder / f"{self.data.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).with_name("cador")), "serve", "--data", str(self.data), "--listen",
                 self.listen],
                env=self.environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        deadline = time.monotonic() + DEADLINE_S
        while not note.exists():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)
        self.url = json.loads(note.read_text())["url"]
        self.client = httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30, trust_env=False
        )

    def kill(self) -> None:
        """SIGKILL: nothing is tidied up."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._forget()

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._forget()

    def _forget(self) -> None:
        if self.client is not None:
            self.client.close()
            self.client = None

    def log(self) -> str:
        with contextlib.suppress(OSError):
            return (self.folder / f"{self.data.name}.log").read_text()[-4000:]
        return ""

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        assert self.client is not None
        reply = self.client.request(method, path, json=body, params=query)
        assert reply.status_code == 200, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.headers.get("content-type", "").startswith("application/json") else reply.text

    def project(self, key: str) -> None:
        self.call(
            "POST", "/openapi/projects/project", {"project_key": key, "project_name": key, "project_type": "yaml"}
        )

    def task(self, workflow: str, number: int) -> dict[str, Any]:
        return self.call("GET", "/openapi/workflows/custom/task", workflowKey=workflow, taskId=number)

    def until(self, workflow: str, number: int, reached: Any, within_s: float = DEADLINE_S) -> dict[str, Any]:
        deadline = time.monotonic() + within_s
        while True:
            detail = self.task(workflow, number)
            if reached(detail):
                return detail
            assert time.monotonic() < deadline, detail
            time.sleep(0.02)
