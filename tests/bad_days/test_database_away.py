"""PostgreSQL goes away while jobs run: the API says so, the jobs go on, and nothing is lost or done twice."""

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psycopg
import pytest

from support.databases import PostgresServer
from support.server_process import DEADLINE_S, ServerProcess, shell_job, wait

pytestmark = [pytest.mark.real, pytest.mark.postgres]

FIRSTS = [f"a{number}" for number in range(4)]
ALL = (*FIRSTS, "b")


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
    first = (
        f"echo {{0}} >>{scratch}/ran; n=0; "
        f"while [ ! -e {scratch}/go ] && [ $n -lt 3000 ]; do echo line $((n+=1)); sleep 0.1; done; "
        f"echo last line; echo {{0}} >>{scratch}/ended"
    )
    jobs = [shell_job(name, first.format(name)) for name in FIRSTS]
    last = shell_job("b", f"echo b >>{scratch}/ran")
    server.define(
        "run", {"name": "one", "parallel": True, "jobs": jobs}, {"name": "two", "parallel": False, "jobs": [last]}
    )


def words(path: Path) -> list[str]:
    return sorted(path.read_text().split()) if path.exists() else []


def answer(server: ServerProcess, path: str) -> httpx2.Response:
    assert server.client is not None
    return server.client.get(path)


def test_a_stopped_postgresql_is_waited_for(folder: Path, postgres: PostgresServer) -> None:
    scratch = folder / "scratch"
    with ServerProcess(folder, database=postgres.create()) as server:
        define(server, scratch)
        number = server.ask_start("run", *ALL).json()["task_id"]
        wait(lambda: words(scratch / "ran") == FIRSTS)
        server.until(
            "run", number, lambda d: all(job["status"] == "running" for job in d["stages"][0]["jobs"])
        )  # fmt: skip
        postgres.stop()

        detail = f"/openapi/workflows/custom/task?workflowKey=run&taskId={number}"
        wait(lambda: answer(server, detail).status_code == 503)
        refused = answer(server, detail)
        assert int(refused.headers["retry-after"]) > 0
        assert "PostgreSQL" in refused.text
        assert server.ask_start("run", *ALL).status_code == 503
        assert answer(server, "/healthz").status_code == 200
        unready = answer(server, "/readyz")
        assert unready.status_code == 503
        assert "PostgreSQL" in unready.json()["checks"]["database"]
        assert answer(server, "/metrics").status_code == 200
        # The jobs end while there is nothing to write that into.
        (scratch / "go").touch()
        wait(lambda: words(scratch / "ended") == FIRSTS)

        postgres.start()
        ended = server.ended("run", number)
        assert ended["status"] == "passed", ended
        assert words(scratch / "ran") == [*ALL], "each ran once"
        for name in FIRSTS:
            text = server.call("GET", f"/openapi/logs/log/v4/workflow/run/{number}/{name}")
            lines = re.findall(r"   line (\d+)\n", text)
            assert lines == [str(n) for n in range(1, len(lines) + 1)]
            assert text.count("   last line\n") == 1
        again = server.ask_start("run", *ALL).json()["task_id"]
        assert again == number + 1, "what was refused left nothing behind"
        assert server.ended("run", again)["status"] == "passed"
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
        number = server.ask_start("run", *ALL).json()["task_id"]
        wait(lambda: len(words(scratch / "ran")) == len(FIRSTS))
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
        ended = server.ended("run", number)
        assert ended["status"] == "passed", ended
        assert words(scratch / "ran") == [*ALL], "each ran once"
