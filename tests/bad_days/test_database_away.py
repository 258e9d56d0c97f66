"""PostgreSQL goes away while jobs run: the API says so, the jobs go on, and nothing is lost or done twice."""

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from support.databases import PostgresServer
from support.server_process import DEADLINE_S, ServerProcess, open_folder

pytestmark = [pytest.mark.real, pytest.mark.postgres]

FINAL = {"passed", "failed", "timeout", "cancelled"}
JOBS = 4


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of its own, to be stopped."""
    server = PostgresServer()
    yield server
    with contextlib.suppress(Exception):
        server.start()
    server.close()


def define(server: ServerProcess, scratch: Path) -> None:
    """Two stages: what runs in the first ends when it is told to; each job notes that it ran."""
    server.project("shop")

    def job(name: str, script: str) -> dict[str, Any]:
        steps = [{"name": "run", "type": "shell", "spec": {"script": script}}]
        return {"name": name, "type": "freestyle", "spec": {"properties": {"timeout": 10}, "steps": steps}}

    first = (
        f"echo {{0}} >>{scratch}/ran; n=0; "
        f"while [ ! -e {scratch}/go ] && [ $n -lt 3000 ]; do echo line $((n+=1)); sleep 0.1; done; "
        f"echo last line; echo {{0}} >>{scratch}/ended"
    )
    jobs = [job(f"a{number}", first.format(f"a{number}")) for number in range(JOBS)]
    last = job("b", f"echo b >>{scratch}/ran")
    server.call(
        "POST",
        "/api/aslan/workflow/v4",
        {
            "name": "run", "display_name": "run", "project": "shop", "concurrency_limit": -1,
            "stages": [
                {"name": "one", "parallel": True, "jobs": jobs},
                {"name": "two", "parallel": False, "jobs": [last]},
            ],
        },
    )  # fmt: skip


def ask_start(server: ServerProcess) -> Any:
    assert server.client is not None
    names = [*(f"a{number}" for number in range(JOBS)), "b"]
    inputs = [{"job_name": name, "job_type": "freestyle", "parameters": {}} for name in names]
    body = {"workflow_key": "run", "project_key": "shop", "inputs": inputs}
    return server.client.post("/openapi/workflows/custom/task", json=body)


def words(path: Path) -> list[str]:
    return sorted(path.read_text().split()) if path.exists() else []


def wait(reached: Any, within_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def answer(server: ServerProcess, path: str) -> httpx2.Response:
    assert server.client is not None
    return server.client.get(path)


def test_a_stopped_postgresql_is_waited_for(folder: Path, postgres: PostgresServer) -> None:
    scratch = folder / "scratch"
    firsts = [f"a{number}" for number in range(JOBS)]
    with ServerProcess(folder, database=postgres.create()) as server:
        define(server, scratch)
        number = ask_start(server).json()["task_id"]
        wait(lambda: words(scratch / "ran") == firsts)
        server.until(
            "run", number, lambda d: all(job["status"] == "running" for job in d["stages"][0]["jobs"])
        )  # fmt: skip
        postgres.stop()

        detail = f"/openapi/workflows/custom/task?workflowKey=run&taskId={number}"
        wait(lambda: answer(server, detail).status_code == 503)
        refused = answer(server, detail)
        assert int(refused.headers["retry-after"]) > 0
        assert "PostgreSQL" in refused.text
        assert ask_start(server).status_code == 503
        assert answer(server, "/healthz").status_code == 200
        unready = answer(server, "/readyz")
        assert unready.status_code == 503
        assert "PostgreSQL" in unready.json()["checks"]["database"]
        assert answer(server, "/metrics").status_code == 200
        # The jobs end while there is nothing to write that into.
        (scratch / "go").touch()
        wait(lambda: words(scratch / "ended") == firsts)

        postgres.start()
        ended = server.until("run", number, lambda d: d["status"] in FINAL)
        assert ended["status"] == "passed", ended
        assert words(scratch / "ran") == [*firsts, "b"], "each ran once"
        for name in firsts:
            text = server.call("GET", f"/openapi/logs/log/v4/workflow/run/{number}/{name}")
            lines = re.findall(r"   line (\d+)\n", text)
            assert lines == [str(n) for n in range(1, len(lines) + 1)]
            assert text.count("   last line\n") == 1
        again = ask_start(server).json()["task_id"]
        assert again == number + 1, "what was refused left nothing behind"
        assert server.until("run", again, lambda d: d["status"] in FINAL)["status"] == "passed"
        assert answer(server, "/readyz").status_code == 200


def processes(url: str) -> list[int]:
    """The process ids of a PostgreSQL server, its first process first."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT current_setting('data_directory')").fetchone()
    assert row is not None
    first = int((Path(row[0]) / "postmaster.pid").read_text().split()[0])
    found = [first]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_bytes().rpartition(b") ")[2].split()
                if int(stat[1]) == first:
                    found.append(int(entry.name))
    return found


def tell(pids: list[int], what: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # of a connection that was closed meanwhile
            os.kill(pid, what)


def test_a_frozen_postgresql_is_told_within_its_time(folder: Path, postgres: PostgresServer) -> None:
    """It neither answers nor refuses. Requests do not wait for it for ever, and all goes on when it thaws."""
    scratch = folder / "scratch"
    url = postgres.create()
    with ServerProcess(folder, database=url) as server:
        define(server, scratch)
        number = ask_start(server).json()["task_id"]
        wait(lambda: len(words(scratch / "ran")) == JOBS)
        frozen = processes(url)
        try:
            tell(frozen, signal.SIGSTOP)
            assert answer(server, "/healthz").status_code == 200
            unready = answer(server, "/readyz")
            assert unready.status_code == 503
            with httpx2.Client(base_url=server.url, timeout=DEADLINE_S, trust_env=False) as patient:
                path = f"/openapi/workflows/custom/task?workflowKey=run&taskId={number}"
                reply = patient.get(path, headers=dict(server.client.headers) if server.client else {})
            assert reply.status_code == 503, reply.text
            assert int(reply.headers["retry-after"]) > 0
        finally:
            tell(frozen, signal.SIGCONT)
        (scratch / "go").touch()
        ended = server.until("run", number, lambda d: d["status"] in FINAL)
        assert ended["status"] == "passed", ended
        assert words(scratch / "ran") == [*(f"a{n}" for n in range(JOBS)), "b"], "each ran once"
