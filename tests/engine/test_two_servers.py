"""Two servers, 200 tasks: each is executed once, and no limit is exceeded at any instant of the history."""

import base64
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from support.server_process import ServerProcess, open_folder

pytestmark = [pytest.mark.real, pytest.mark.postgres]

KEY = base64.b64encode(b"k" * 32).decode()
GLOBAL, NARROW, TASKS = 6, 3, 200
DEADLINE_S = 240.0


def define(server: ServerProcess, key: str, limit: int, ran: str) -> None:
    script = f'echo "{key}:$TASK_ID" >> {ran}\nsleep 0.05\n'
    step = {"name": "run", "type": "shell", "spec": {"script": script}}
    job = {"name": "a", "type": "freestyle", "spec": {"properties": {"timeout": 10}, "steps": [step]}}
    stages = [{"name": "one", "parallel": False, "jobs": [job]}]
    body = {"name": key, "project": "shop", "concurrency_limit": limit, "stages": stages}
    server.call("POST", "/api/aslan/workflow/v4", body)


def test_each_task_runs_once_and_limits_hold(postgres_url: str) -> None:
    limits = {"CADOR_KEY": KEY, "CADOR_ENGINE__MAX_RUNNING_TASKS": str(GLOBAL), "CADOR_ENGINE__MAX_JOBS": "4"}
    with open_folder() as folder:
        notes = folder / "scratch" / "ran"
        one, two = (ServerProcess(folder, database=postgres_url, name=name, **limits) for name in ("one", "two"))
        with one, two:
            one.project("shop")
            define(one, "narrow", NARROW, str(notes))
            define(one, "wide", -1, str(notes))

            def start(number: int) -> None:
                key = ("narrow", "wide")[number // 2 % 2]
                body = {"workflow_key": key, "project_key": "shop", "inputs": [{"job_name": "a", "parameters": {}}]}
                (one, two)[number % 2].call("POST", "/openapi/workflows/custom/task", body)

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(start, range(TASKS)))
            with psycopg.connect(postgres_url, autocommit=True) as database:
                living = "SELECT count(*) FROM workflow_task WHERE end_at IS NULL"
                deadline = time.monotonic() + DEADLINE_S
                while database.execute(living).fetchone() != (0,):
                    assert time.monotonic() < deadline, (one.log(), two.log())
                    time.sleep(0.1)
                statuses = database.execute("SELECT status, count(*) FROM workflow_task GROUP BY status").fetchall()
                history = database.execute(
                    "SELECT e.kind, t.workflow_key FROM event e JOIN workflow_task t ON t.id = e.task_id"
                    " WHERE e.kind IN ('admitted', 'job_ended') ORDER BY e.id"
                ).fetchall()
        ran = notes.read_text().split()
    assert statuses == [("passed", TASKS)]
    assert len(ran) == TASKS
    assert set(Counter(ran).values()) == {1}
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for kind, key in history:
        for of in (key, "all"):
            running[of] += 1 if kind == "admitted" else -1
            most[of] = max(most[of], running[of])
    assert len(history) == 2 * TASKS
    assert most["narrow"] == NARROW
    assert most["all"] == GLOBAL
