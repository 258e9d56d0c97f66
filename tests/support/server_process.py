"""A server in a process of its own, to be killed and started again on the same data folder; what tests ask of one."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

from cador.executors.process import ProcessExecutor


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
        _end_jobs(folder / "jobs")
        shutil.rmtree(folder, ignore_errors=True)


def _end_jobs(root: Path) -> None:
    """End what servers that were killed or stopped left running below *root*: nobody will follow it any more."""
    entries = [entry.name for entry in root.iterdir()] if root.is_dir() else []
    installations = {found[1] for name in entries if (found := re.fullmatch(r"([0-9a-f]{12})\.[0-9.]+", name))}

    async def end() -> None:
        for installation in sorted(installations):
            executor = ProcessExecutor(root=root, installation=installation)
            await executor.open()
            try:
                for key in await executor.existing():
                    await executor.remove(key, key)
            finally:
                await executor.close()

    if installations:
        with ThreadPoolExecutor(1) as thread:  # the test may be on a loop
            thread.submit(asyncio.run, end()).result()


TOKEN = "test-token-0123456789abcdef"
DEADLINE_S = 60.0
STOP_S = 15.0
FINAL = frozenset({"passed", "failed", "timeout", "cancelled"})
"""Statuses of tasks that have ended."""


def wait(reached: Callable[[], object], within_s: float = DEADLINE_S) -> None:
    """Until *reached*; fails the test after *within_s*."""
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def shell_job(name: str, script: str) -> dict[str, Any]:
    steps = [{"name": "run", "type": "shell", "spec": {"script": script}}]
    return {"name": name, "type": "freestyle", "spec": {"properties": {"timeout": 10}, "steps": steps}}


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
        try:
            self._await(note)
        except BaseException:
            self.process.kill()  # nobody else would: what has not begun is not ended either
            self.process.wait()
            raise
        self.url = json.loads(note.read_text())["url"]
        self.client = httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30, trust_env=False
        )

    def _await(self, note: Path) -> None:
        assert self.process is not None
        deadline = time.monotonic() + DEADLINE_S
        while not note.exists():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)

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
                self.process.wait(STOP_S)
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

    def define(self, key: str, *stages: Mapping[str, Any], **fields: Any) -> None:
        """A workflow of the project ``shop``."""
        base = {"name": key, "display_name": key, "project": "shop", "concurrency_limit": -1}
        self.call("POST", "/api/aslan/workflow/v4", {**base, "stages": stages, **fields})

    def define_shop(self, **scripts: str) -> None:
        """The project ``shop`` with workflows of one job ``a`` each, by the names of their scripts."""
        self.project("shop")
        for key, script in scripts.items():
            self.define(key, {"name": "build", "parallel": False, "jobs": [shell_job("a", script)]})

    def ask_start(self, workflow: str, *jobs: str) -> httpx2.Response:
        """Start *jobs*, by default ``a``; whatever comes of it."""
        assert self.client is not None
        inputs = [{"job_name": name, "job_type": "freestyle", "parameters": {}} for name in jobs or ("a",)]
        body = {"workflow_key": workflow, "project_key": "shop", "inputs": inputs}
        return self.client.post("/openapi/workflows/custom/task", json=body)

    def start_task(self, workflow: str, *jobs: str) -> int:
        reply = self.ask_start(workflow, *jobs)
        assert reply.status_code == 200, reply.text
        number: int = reply.json()["task_id"]
        return number

    def job_log(self, workflow: str, number: int, job: str = "a") -> str:
        text: str = self.call("GET", f"/openapi/logs/log/v4/workflow/{workflow}/{number}/{job}")
        return text

    def ended(self, workflow: str, number: int, within_s: float = DEADLINE_S) -> dict[str, Any]:
        """The task's detail once it has ended."""
        return self.until(workflow, number, lambda detail: detail["status"] in FINAL, within_s)

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
