"""``kill -9`` of the real server, at any moment of a run: nothing is lost, nothing runs twice, logs are whole."""

import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.server_process import ServerProcess, open_folder

pytestmark = pytest.mark.real


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


FINAL = {"passed", "failed", "timeout", "cancelled"}


def shell(name: str, script: str) -> dict:
    steps = [{"name": "run", "type": "shell", "spec": {"script": script}}]
    return {"name": name, "type": "freestyle", "spec": {"properties": {"timeout": 10}, "steps": steps}}


def define(server: ServerProcess, ran: Path) -> None:
    """Two parallel jobs of 150 lines, an approval, a last job. Every job notes that it ran."""
    script = f'echo "$NAME" >> {ran}\nfor n in $(seq 150); do echo "line $n of $NAME"; sleep 0.01; done\n'
    jobs = [shell(name, f"NAME={name}\n{script}") for name in ("a", "b", "c")]
    server.project("shop")
    user = server.call("GET", "/openapi/users", account="admin")["users"][0]
    approval = {
        "enabled": True,
        "type": "native",
        "native_approval": {
            "approve_users": [{"user_id": user["uid"], "user_name": user["name"]}],
            "needed_approvers": 1,
            "timeout": 60,
        },
    }
    server.call(
        "POST",
        "/api/aslan/workflow/v4",
        {
            "name": "run",
            "display_name": "run",
            "project": "shop",
            "concurrency_limit": -1,
            "stages": [
                {"name": "build", "parallel": True, "jobs": jobs[:2]},
                {"name": "release", "parallel": False, "approval": approval, "jobs": jobs[2:]},
            ],
        },
    )


def start(server: ServerProcess) -> int:
    inputs = [{"job_name": name, "job_type": "freestyle", "parameters": {}} for name in ("a", "b", "c")]
    body = {"workflow_key": "run", "project_key": "shop", "inputs": inputs}
    return server.call("POST", "/openapi/workflows/custom/task", body)["task_id"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_run_survives_kills_at_random_moments(
    seed: int, kind: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else ""
    moments = random.Random(seed)
    ran = folder / "scratch" / "ran"
    with ServerProcess(folder, database=url) as server:
        define(server, ran)
        number = start(server)
        for _ in range(4):
            time.sleep(moments.uniform(0, 0.6))
            server.kill()
            server.start()
        waiting = {"wait_for_approval"}
        server.until("run", number, lambda d: d["stages"][1]["status"] in waiting)
        vote = {"task_id": number, "workflow_key": "run", "stage_name": "release", "approve": True}
        server.call("POST", "/openapi/workflows/custom/task/approve", vote)
        for _ in range(3):
            time.sleep(moments.uniform(0, 0.6))
            server.kill()
            server.start()
        detail = server.until("run", number, lambda d: d["status"] in FINAL)
        assert detail["status"] == "passed", detail
        assert sorted(ran.read_text().split()) == ["a", "b", "c"], "every job ran once"
        for name in "abc":
            log = server.call("GET", f"/openapi/logs/log/v4/workflow/run/{number}/{name}")
            assert re.findall(r"line (\d+) of", log) == [str(n) for n in range(1, 151)], name


def test_a_second_server_on_the_same_folder_is_refused(folder: Path) -> None:
    with ServerProcess(folder) as server:
        other = ServerProcess(folder)
        command = [str(Path(sys.executable).with_name("cador")), "serve", "--data", str(server.data)]
        refused = subprocess.run(
            [*command, "--listen", "127.0.0.1:0"], env=other.environ, capture_output=True, text=True, timeout=60
        )
        assert refused.returncode == 1
        assert len(refused.stderr.strip().splitlines()) == 1
        assert "in use by another server" in refused.stderr
        port = server.url.rpartition(":")[2]
        taken = subprocess.run(
            [*command[:2], "--data", str(folder / "elsewhere"), "--listen", f"127.0.0.1:{port}"],
            env=other.environ, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert taken.returncode == 1
        assert f"cannot listen on 127.0.0.1:{port}" in taken.stderr
        assert "Traceback" not in refused.stderr + taken.stderr


def test_a_graceful_stop_is_quick_and_leaves_jobs_running(folder: Path) -> None:
    ran = folder / "scratch" / "ran"
    with ServerProcess(folder) as server:
        define(server, ran)
        number = start(server)
        server.until("run", number, lambda d: any(j["status"] == "running" for j in d["stages"][0]["jobs"]))
        server.stop()
        server.start()
        server.until("run", number, lambda d: d["stages"][1]["status"] == "wait_for_approval")
        assert sorted(ran.read_text().split()) == ["a", "b"]
