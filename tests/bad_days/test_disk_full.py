"""The disk of the data folder runs full while jobs run: nothing is half-written, and it goes on when there is room."""

import contextlib
import os
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.server_process import ServerProcess, open_folder, wait

pytestmark = pytest.mark.real

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


def free(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def ready(server: ServerProcess) -> tuple[int, str]:
    assert server.client is not None
    reply = server.client.get("/readyz")
    return reply.status_code, reply.text


def job_error(detail: dict[str, Any]) -> str:
    return detail["stages"][0]["jobs"][0]["error"]


def test_a_job_that_fills_the_disk_fails_and_its_room_comes_back(small_disk: Path) -> None:
    with ServerProcess(small_disk) as server:
        # Writes until the disk is full, and can then not even say how it ended.
        server.define_shop(hungry="echo begun; dd if=/dev/zero of=big bs=1M 2>/dev/null; exit 3", after="echo fine")
        wait(lambda: (server.data / ".reserve").exists())
        number = server.start_task("hungry")
        detail = server.ended("hungry", number)
        assert detail["status"] == "failed"
        assert job_error(detail) == "the disk of the jobs is full"
        text = server.job_log("hungry", number)
        assert "begun\n" in text
        assert "the disk of the jobs is full\n" in text
        wait(lambda: free(small_disk) > DISK_MIB // 2 << 20)
        after = server.start_task("after")
        assert server.ended("after", after)["status"] == "passed"
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
        server.define_shop(ends=until.format(flags / "ends"), stays=until.format(flags / "stays"), after="echo fine"
        )  # fmt: skip
        numbers = {name: server.start_task(name) for name in ("ends", "stays")}
        for name, number in numbers.items():
            server.until(name, number, lambda d, n=name, t=number: "line 3" in server.job_log(n, t))
        # Until nothing of the reserve is left.
        fill(small_disk)
        held = server.data / ".reserve"
        wait(lambda: (fill(small_disk), held.exists() and held.stat().st_size == 0)[1])
        fill(small_disk)
        (flags / "ends").touch()

        reply = server.ask_start("after")
        assert reply.json()["code"] == 6160
        assert "the disk of the data folder is full" in reply.text
        assert server.client is not None
        status, told = ready(server)
        assert status == 503
        assert "disk" in told
        assert server.client.get("/healthz").status_code == 200
        assert [server.task(name, number)["status"] for name, number in numbers.items()] == ["running", "running"]
        assert "line 3" in server.job_log("stays", numbers["stays"])
        query = {"workflowKey": "stays", "taskId": numbers["stays"]}
        refused = server.client.delete("/openapi/workflows/custom/task", params=query)
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["retry-after"]) > 0

        (small_disk / "filler").unlink()
        detail = server.ended("ends", numbers["ends"])
        told = (detail["status"], job_error(detail))
        assert told in {("failed", "the disk of the jobs is full"), ("passed", "")}, "a word may still have found room"
        (flags / "stays").touch()
        detail = server.ended("stays", numbers["stays"])
        assert detail["status"] == "passed", detail
        for name, number in numbers.items():
            text = server.job_log(name, number)
            lines = [int(line) for line in re.findall(r"   line (\d+)\n", text)]
            assert lines == sorted(set(lines)), "no line twice, none torn"
            assert all(re.match(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d]   .", line) for line in text.splitlines())
        text = server.job_log("stays", numbers["stays"])
        assert "last line" in text
        assert text.count("warning: the disk was full for a while") == 1
        after = server.start_task("after")
        assert server.ended("after", after)["status"] == "passed"
        server.stop()
        with contextlib.closing(sqlite3.connect(server.data / "cador.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("SELECT count(*) FROM execution").fetchone() == (0,)
        assert [path for path in (server.data / "logs").rglob("*") if path.suffix == ".tmp"] == []
