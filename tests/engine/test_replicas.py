"""Several servers on one PostgreSQL database: one is killed, frozen, restarted; the database goes away. What was begun
goes on elsewhere, once."""

import base64
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from support.databases import PostgresServer
from support.server_process import TOKEN, ServerProcess, open_folder

pytestmark = [pytest.mark.real, pytest.mark.postgres]

KEY = base64.b64encode(b"k" * 32).decode()
FINAL = {"passed", "failed", "timeout", "cancelled"}
DEADLINE_S = 60.0


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


class Cluster:
    def __init__(self, folder: Path, url: str, **environ: str) -> None:
        self.folder, self.url = folder, url
        self.ran = folder / "scratch" / "ran"
        common = {"CADOR_KEY": KEY, "CADOR_ENGINE__MAX_RUNNING_TASKS": "30", "CADOR_ENGINE__MAX_JOBS": "20"}
        self.servers = [
            ServerProcess(folder, database=url, name=name, **common, **environ) for name in ("one", "two", "three")
        ]

    def __enter__(self) -> "Cluster":
        try:
            for server in self.servers:
                server.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for server in self.servers:
            with contextlib.suppress(ProcessLookupError):
                if server.process is not None and server.process.poll() is None:
                    server.thaw()
            server.stop()

    def define(self, seconds: float = 1.0) -> None:
        """A workflow of two parallel jobs and one after them; each notes that it ran and prints fifty lines."""
        pause = seconds / 50
        script = f'echo "$CADOR_JOB" >> {self.ran}\nfor n in $(seq 50); do echo "line $n"; sleep {pause:.3f}; done\n'
        self.servers[0].project("shop")
        jobs = [
            {
                "name": name,
                "type": "freestyle",
                "spec": {
                    "properties": {"timeout": 10},
                    "steps": [
                        {"name": "run", "type": "shell", "spec": {"script": f"CADOR_JOB={name}:$TASK_ID\n{script}"}}
                    ],
                },
            }
            for name in ("a", "b", "c")
        ]
        self.servers[0].call(
            "POST",
            "/api/aslan/workflow/v4",
            {
                "name": "run",
                "display_name": "run",
                "project": "shop",
                "concurrency_limit": -1,
                "stages": [
                    {"name": "first", "parallel": True, "jobs": jobs[:2]},
                    {"name": "then", "parallel": False, "jobs": jobs[2:]},
                ],
            },
        )

    def start(self, server: ServerProcess) -> int:
        inputs = [{"job_name": name, "job_type": "freestyle", "parameters": {}} for name in ("a", "b", "c")]
        body = {"workflow_key": "run", "project_key": "shop", "inputs": inputs}
        return server.call("POST", "/openapi/workflows/custom/task", body)["task_id"]

    def all_passed(self, server: ServerProcess, numbers: list[int]) -> None:
        for number in numbers:
            detail = server.until("run", number, lambda d: d["status"] in FINAL)
            assert detail["status"] == "passed", detail
        ran = Counter(self.ran.read_text().split())
        assert set(ran.values()) == {1}, {job: times for job, times in ran.items() if times > 1}

    def owners(self) -> set[str]:
        with psycopg.connect(self.url) as connection:
            rows = connection.execute(
                "SELECT owner FROM execution UNION SELECT owner FROM command WHERE owner <> ''"
            ).fetchall()
        return {row[0] for row in rows}

    def members(self) -> set[str]:
        with psycopg.connect(self.url) as connection:
            return {row[0] for row in connection.execute("SELECT id FROM replica").fetchall()}

    def until(self, reached: Callable[[], Any]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not reached():
            assert time.monotonic() < deadline, [server.log() for server in self.servers]
            time.sleep(0.02)


def test_what_a_killed_server_ran_goes_on_elsewhere(folder: Path, postgres_url: str) -> None:
    with Cluster(folder, postgres_url) as cluster:
        cluster.define()
        one, two, three = cluster.servers
        numbers = [cluster.start(server) for server in cluster.servers for _ in range(4)]
        cluster.until(lambda: len(cluster.owners() - {""}) == 3)
        known = cluster.members()
        one.kill()
        killed_at = time.monotonic()
        cluster.until(lambda: len(cluster.members()) == 2)
        print(f"taken over after {time.monotonic() - killed_at:.2f} s")
        cluster.all_passed(two, numbers)
        assert cluster.members() < known
        cluster.all_passed(three, numbers)


def test_a_frozen_server_is_replaced_and_comes_back_as_another(folder: Path, postgres_url: str) -> None:
    with Cluster(folder, postgres_url, CADOR_ENGINE__REPLICA_TIMEOUT_S="2") as cluster:
        cluster.define()
        one, two, _ = cluster.servers
        numbers = [cluster.start(server) for server in cluster.servers for _ in range(4)]
        cluster.until(lambda: len(cluster.owners() - {""}) == 3)
        before = cluster.members()
        one.freeze()
        cluster.until(lambda: len(cluster.members()) == 2)
        cluster.all_passed(two, numbers)
        one.thaw()
        cluster.until(lambda: len(cluster.members()) == 3)
        assert len(cluster.members() - before) == 1  # under a new id
        cluster.all_passed(one, [*numbers, cluster.start(one)])


def test_a_stop_reaches_a_job_that_another_server_follows(folder: Path, postgres_url: str) -> None:
    with Cluster(folder, postgres_url) as cluster:
        cluster.define(seconds=30)
        one, two, _ = cluster.servers
        number = cluster.start(one)
        cluster.until(lambda: cluster.ran.exists())
        two.call("DELETE", "/openapi/workflows/custom/task", workflowKey="run", taskId=number)
        detail = two.until("run", number, lambda d: d["end_time"] != 0)
        assert detail["status"] == "cancelled"


def test_the_database_is_restarted_under_load(folder: Path) -> None:
    server = PostgresServer()
    try:
        with Cluster(folder, server.create()) as cluster:
            cluster.define()
            numbers = [cluster.start(one) for one in cluster.servers for _ in range(4)]
            cluster.until(lambda: cluster.ran.exists())
            server.stop()
            with pytest.raises(AssertionError, match="503"):
                cluster.start(cluster.servers[0])
            server.start()
            cluster.all_passed(cluster.servers[1], numbers)
            cluster.until(lambda: len(cluster.members()) == 3)
    finally:
        server.close()


def test_a_rolling_restart_fails_no_request_of_the_others(folder: Path, postgres_url: str) -> None:
    """Each server is ended and started in turn; a client that asks only those that are up never sees an error."""
    with Cluster(folder, postgres_url) as cluster:
        cluster.define(seconds=0.5)
        up = set(range(3))
        lock = threading.Lock()
        failures: list[str] = []
        started: list[int] = []
        done = threading.Event()

        def load() -> None:
            turn = 0
            with httpx2.Client(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30, trust_env=False) as client:
                while not done.is_set():
                    turn += 1
                    with lock:
                        server = cluster.servers[sorted(up)[turn % len(up)]]
                        if len(started) < 40 and turn % 5 == 0:
                            inputs = [
                                {"job_name": n, "job_type": "freestyle", "parameters": {}} for n in ("a", "b", "c")
                            ]
                            reply = client.post(
                                f"{server.url}/openapi/workflows/custom/task",
                                json={"workflow_key": "run", "project_key": "shop", "inputs": inputs},
                            )
                            if reply.status_code == 200:
                                started.append(json.loads(reply.text)["task_id"])
                        else:
                            path = "/openapi/workflows/custom/run/tasks?projectKey=shop"
                            reply = client.get(server.url + path)
                        if reply.status_code != 200:
                            failures.append(f"{reply.status_code} {reply.text[:200]}")

        client = threading.Thread(target=load)
        client.start()
        try:
            for index in range(3):
                with lock:
                    up.discard(index)
                cluster.servers[index].stop()
                cluster.servers[index].start()
                with lock:
                    up.add(index)
        finally:
            done.set()
            client.join()
        assert failures == []
        assert started
        cluster.all_passed(cluster.servers[0], started)
