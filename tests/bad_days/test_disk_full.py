"""The disk of the data folder runs full while jobs run: nothing is half-written, and it goes on when there is room."""

import contextlib
import os
import re
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.server_process import DEADLINE_S, ServerProcess, open_folder

pytestmark = pytest.mark.real

FINAL = {"passed", "failed", "timeout", "cancelled"}
DISK_MIB = 160


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder on a disk of its own."""
    with open_folder() as folder:
        place = folder / "disk"
        place.mkdir()
        mounted = os.geteuid() == 0 and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=711", "tmpfs", str(place)],
            capture_output=True, check=False,
        ).returncode  # fmt: skip
        if not mounted:
            pytest.skip("mount: a small disk cannot be mounted; run as root where mounting is allowed")
        try:
            (place / "scratch").mkdir()
            (place / "scratch").chmod(0o777)
            yield place
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def define(server: ServerProcess, **scripts: str) -> None:
    server.project("shop")
    for name, script in scripts.items():
        steps = [{"name": "run", "type": "shell", "spec": {"script": script}}]
        job = {"name": "a", "type": "freestyle", "spec": {"properties": {"timeout": 10}, "steps": steps}}
        server.call(
            "POST",
            "/api/aslan/workflow/v4",
            {
                "name": name, "display_name": name, "project": "shop", "concurrency_limit": -1,
                "stages": [{"name": "build", "parallel": False, "jobs": [job]}],
            },
        )  # fmt: skip


def ask_start(server: ServerProcess, workflow: str) -> Any:
    assert server.client is not None
    inputs = [{"job_name": "a", "job_type": "freestyle", "parameters": {}}]
    body = {"workflow_key": workflow, "project_key": "shop", "inputs": inputs}
    return server.client.post("/openapi/workflows/custom/task", json=body)


def start(server: ServerProcess, workflow: str) -> int:
    reply = ask_start(server, workflow)
    assert reply.status_code == 200, reply.text
    return reply.json()["task_id"]


def log(server: ServerProcess, workflow: str, number: int) -> str:
    return server.call("GET", f"/openapi/logs/log/v4/workflow/{workflow}/{number}/a")


def free(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def wait(reached: Any, within_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ready(server: ServerProcess) -> tuple[int, str]:
    assert server.client is not None
    reply = server.client.get("/readyz")
    return reply.status_code, reply.text


def job_error(detail: dict[str, Any]) -> str:
    return detail["stages"][0]["jobs"][0]["error"]


def test_a_job_that_fills_the_disk_fails_and_its_room_comes_back(small_disk: Path) -> None:
    with ServerProcess(small_disk) as server:
        # Writes until the disk is full, and can then not even say how it ended.
        define(server, hungry="echo begun; dd if=/dev/zero of=big bs=1M 2>/dev/null; exit 3", after="echo fine")
        wait(lambda: (server.data / ".reserve").exists())
        number = start(server, "hungry")
        detail = server.until("hungry", number, lambda d: d["status"] in FINAL)
        assert detail["status"] == "failed"
        assert job_error(detail) == "the disk of the jobs is full"
        text = log(server, "hungry", number)
        assert "begun\n" in text
        assert "the disk of the jobs is full\n" in text
        wait(lambda: free(small_disk) > DISK_MIB // 2 << 20)
        after = start(server, "after")
        assert server.until("after", after, lambda d: d["status"] in FINAL)["status"] == "passed"
        wait(lambda: (server.data / ".reserve").stat().st_size == 16 << 20)
        assert ready(server)[0] == 200


def fill(place: Path) -> None:
    """Take all room there is."""
    with open(place / "filler", "ab", buffering=0) as filler, contextlib.suppress(OSError):
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while True:
                    filler.write(b"x" * size)


def test_a_disk_that_others_fill_stops_what_is_new_and_loses_nothing(small_disk: Path) -> None:
    with open_folder() as elsewhere, ServerProcess(small_disk) as server:
        # One is told to end while the disk is full, one goes on beyond that.
        flags = elsewhere / "scratch"
        until = (
            "n=0; while [ ! -e {} ] && [ $n -lt 3000 ]; do echo line $((n+=1)) || :; sleep 0.1; done 2>/dev/null; "
            "echo last line"
        )
        define(
            server, ends=until.format(flags / "ends"), stays=until.format(flags / "stays"), after="echo fine"
        )  # fmt: skip
        numbers = {name: start(server, name) for name in ("ends", "stays")}
        for name, number in numbers.items():
            server.until(name, number, lambda d, n=name, t=number: "line 3" in log(server, n, t))
        # Until nothing of the reserve is left.
        fill(small_disk)
        held = server.data / ".reserve"
        wait(lambda: (fill(small_disk), held.exists() and held.stat().st_size == 0)[1])
        fill(small_disk)
        (flags / "ends").touch()

        reply = ask_start(server, "after")
        assert reply.json()["code"] == 6160
        assert "the disk of the data folder is full" in reply.text
        assert server.client is not None
        status, told = ready(server)
        assert status == 503
        assert "disk" in told
        assert server.client.get("/healthz").status_code == 200
        assert [server.task(name, number)["status"] for name, number in numbers.items()] == ["running", "running"]
        assert "line 3" in log(server, "stays", numbers["stays"])
        query = {"workflowKey": "stays", "taskId": numbers["stays"]}
        refused = server.client.delete("/openapi/workflows/custom/task", params=query)
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["retry-after"]) > 0

        (small_disk / "filler").unlink()
        detail = server.until("ends", numbers["ends"], lambda d: d["status"] in FINAL)
        told = (detail["status"], job_error(detail))
        assert told in {("failed", "the disk of the jobs is full"), ("passed", "")}, "a word may still have found room"
        (flags / "stays").touch()
        detail = server.until("stays", numbers["stays"], lambda d: d["status"] in FINAL)
        assert detail["status"] == "passed", detail
        for name, number in numbers.items():
            text = log(server, name, number)
            lines = [int(line) for line in re.findall(r"   line (\d+)\n", text)]
            assert lines == sorted(set(lines)), "no line twice, none torn"
            assert all(re.match(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d]   .", line) for line in text.splitlines())
        text = log(server, "stays", numbers["stays"])
        assert "last line" in text
        assert text.count("warning: the disk was full for a while") == 1
        after = start(server, "after")
        assert server.until("after", after, lambda d: d["status"] in FINAL)["status"] == "passed"
        server.stop()
        with contextlib.closing(sqlite3.connect(server.data / "cador.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("SELECT count(*) FROM execution").fetchone() == (0,)
        assert [path for path in (server.data / "logs").rglob("*") if path.suffix == ".tmp"] == []
