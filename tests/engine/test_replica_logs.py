"""Logs and artifacts of a job are read from every server: while it runs, after its server was killed, and when the one
that holds them is away."""

import base64
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from support.databases import PostgresServer
from support.object_store import S3Server, s3_server
from support.server_process import TOKEN, ServerProcess, open_folder

__all__ = ["s3_server"]

pytestmark = [pytest.mark.real, pytest.mark.postgres]

KEY = base64.b64encode(b"k" * 32).decode()
DEADLINE_S = 60.0
STAMP = 24
LINES = 500
OWN = "/api/v1/tasks/run/1/jobs/talk/log"
WHOLE = "/openapi/logs/log/v4/workflow/run/1/talk"
SSE = "/openapi/logs/sse/v4/workflow/run/1/talk/100000"


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


@pytest.fixture(params=["none", "folder", "s3"])
def store(request: pytest.FixtureRequest, folder: Path) -> dict[str, str]:
    """Settings of a shared store."""
    if request.param == "none":
        return {}
    if request.param == "folder":
        (folder / "shared").mkdir()
        return {"CADOR_STORE__URL": (folder / "shared").as_uri()}
    server: S3Server = request.getfixturevalue("s3_server")
    return {
        "CADOR_STORE__URL": server.bucket(f"bucket-{time.monotonic_ns()}"),
        "CADOR_STORE__ENDPOINT": server.endpoint,
        "CADOR_STORE__ACCESS_KEY_ID": "key",
        "CADOR_STORE__SECRET_ACCESS_KEY": "secret",
    }


def define(server: ServerProcess, go_on: Path) -> None:
    """A job that prints lines, half of them quickly, some slowly until *go_on* is there, then the rest."""
    script = (
        f'n=0; say() {{ n=$((n+1)); echo "line $n of the job"; }}\n'
        f"while [ $n -lt {LINES // 2} ]; do say; done\n"
        f"while [ $n -lt {LINES - 50} ]; do say; sleep 0.02; done\n"
        f"while [ ! -e {go_on} ]; do sleep 0.05; done\n"
        f"while [ $n -lt {LINES} ]; do say; done\n"
        "head -c 300000 /dev/zero | tr '\\0' x > made.txt\n"
    )
    steps = [
        {"name": "run", "type": "shell", "spec": {"script": script}},
        {"name": "keep", "type": "archive", "spec": {"upload_detail": [{"file_path": "made.txt", "dest_path": "/"}]}},
    ]
    job = {"name": "talk", "type": "freestyle", "spec": {"properties": {"timeout": 10}, "steps": steps}}
    server.project("shop")
    server.call(
        "POST",
        "/api/aslan/workflow/v4",
        {
            "name": "run", "display_name": "run", "project": "shop", "concurrency_limit": -1,
            "stages": [{"name": "only", "parallel": True, "jobs": [job]}],
        },
    )  # fmt: skip


class Viewer:
    """Follows a stream in a thread; ``lines``: text of the job's lines, without their stamps; ``ids``: of events."""

    def __init__(self, server: ServerProcess, path: str, **headers: str) -> None:
        self.lines: list[str] = []
        self.ids: list[int] = []
        self.ended = False
        self.error = ""
        self._url = server.url + path
        self._headers = {"Authorization": f"Bearer {TOKEN}", "Accept-Language": "en", **headers}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            with (
                httpx2.Client(timeout=DEADLINE_S, trust_env=False, headers=self._headers) as client,
                client.stream("GET", self._url) as reply,
            ):
                name = "message"
                for line in reply.iter_lines():
                    if line.startswith("event:"):
                        name = line[6:].strip()
                        self.ended = self.ended or name == "end"
                    elif line.startswith("id:"):
                        self.ids.append(int(line[3:]))
                    elif line.startswith("data:") and name == "message":
                        self.lines.append(line[5:].removeprefix(" ")[STAMP:])
                    elif not line:
                        name = "message"
        except httpx2.HTTPError as error:
            self.error = repr(error)

    def done(self) -> bool:
        return not self._thread.is_alive()


def until(reached: Callable[[], Any], servers: list[ServerProcess]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not reached():
        assert time.monotonic() < deadline, "\n".join(server.log() for server in servers)
        time.sleep(0.02)


def said(text: str) -> list[str]:
    return [line[STAMP:] for line in text.splitlines() if "of the job" in line]


def home_of_the_log(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT home FROM job_attempt").fetchone()
    return row[0] if row else ""


def by_home(servers: list[ServerProcess], home: str) -> ServerProcess:
    return next(server for server in servers if (server.data / "home").read_text().strip() == home)


ALL = [f"line {number} of the job" for number in range(1, LINES + 1)]


def test_a_log_is_read_from_every_server_whoever_dies(
    folder: Path, postgres_server: PostgresServer, store: dict[str, str]
) -> None:
    url = postgres_server.create()
    go_on = folder / "scratch" / "go-on"
    servers = [
        ServerProcess(folder, database=url, name=name, CADOR_KEY=KEY, **store) for name in ("one", "two", "three")
    ]
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.enter_context(server)
        define(servers[0], go_on)
        inputs = [{"job_name": "talk", "job_type": "freestyle", "parameters": {}}]
        body = {"workflow_key": "run", "project_key": "shop", "inputs": inputs}
        assert servers[1].call("POST", "/openapi/workflows/custom/task", body)["task_id"] == 1
        until(lambda: home_of_the_log(url), servers)
        first = by_home(servers, home_of_the_log(url))
        others = [server for server in servers if server is not first]
        viewers = [Viewer(server, f"{OWN}?tail=100000") for server in others] + [Viewer(others[0], SSE)]
        until(lambda: all(len(viewer.lines) > LINES // 2 + 20 for viewer in viewers), servers)
        # a reader that comes while it runs, and one that goes on from an offset
        assert said(others[1].call("GET", WHOLE))[: LINES // 2] == ALL[: LINES // 2]
        first.kill()
        until(lambda: home_of_the_log(url) != (first.data / "home").read_text().strip(), others)
        resumed = Viewer(others[1], OWN, **{"Last-Event-ID": str(viewers[0].ids[-1])})
        before = len(viewers[0].lines)
        until(lambda: all(len(viewer.lines) >= LINES - 50 for viewer in viewers), others)
        go_on.touch()
        until(lambda: all(viewer.done() for viewer in [*viewers, resumed]), others)
        for viewer in viewers:
            assert not viewer.error
            assert [line for line in viewer.lines if "of the job" in line] == ALL
        assert before < LINES
        later = [line for line in resumed.lines if "of the job" in line]
        assert later == ALL[LINES - len(later) :]
        assert 50 <= len(later) < LINES
        for server in others:
            server.until("run", 1, lambda detail: detail["status"] == "passed")
            assert said(server.call("GET", WHOLE)) == ALL
            kept = server.call("GET", "/api/v1/tasks/run/1/artifacts/talk/archive/made.txt")
            assert kept == "x" * 300_000
        second = by_home(servers, home_of_the_log(url))
        last = next(server for server in others if server is not second)
        if store:  # all of it gets there by itself
            until(lambda: "cador_store_pending 0.0" in second.call("GET", "/metrics"), others)
        second.kill()
        assert last.client is not None
        reply = last.client.get(WHOLE)
        artifact = last.client.get("/api/v1/tasks/run/1/artifacts/talk/archive/made.txt")
        assert reply.status_code == 200
        end = Viewer(last, f"{OWN}?tail=100000")
        until(end.done, [last])
        assert end.ended
        if store:
            assert said(reply.text) == ALL
            assert artifact.text == "x" * 300_000
            assert [line for line in end.lines if "of the job" in line] == ALL
        else:
            told = f"is on {(second.data / 'home').read_text().strip()}, which is away"
            assert told in reply.text
            assert end.lines
            assert told in end.lines[-1]
            assert artifact.status_code == 503
            assert told in artifact.text
        first.start()  # it has a part of its own, and reads the rest elsewhere
        if store:
            assert said(first.call("GET", WHOLE)) == ALL
        second.start()
        until(lambda: said(first.call("GET", WHOLE)) == ALL, servers)
        assert first.call("GET", "/api/v1/tasks/run/1/artifacts/talk/archive/made.txt") == "x" * 300_000
