"""A whole server ends while a statement runs on a real database."""

import asyncio
import base64
import signal
import time
from collections.abc import Callable
from typing import Any

import asyncmy
import pytest

from support.mariadb import MariaDB, mariadb  # noqa: F401 - a fixture
from support.object_store import until
from support.server_process import ServerProcess, open_folder

pytestmark = [pytest.mark.real, pytest.mark.anyio]
KEY = "statements"


def running(server: ServerProcess, database: MariaDB, sql: str) -> int:
    """Start a task with *sql* and wait until its first statement runs; returns its number."""
    where = {key: database.arguments[key] for key in ("type", "host", "port", "username", "password")}
    server.project("shop")
    server.call("POST", "/openapi/system/dbinstance", {"name": "maria", **where})
    [kept] = server.call("GET", "/openapi/system/dbinstance")
    spec = {"id": kept["id"], "type": "mariadb", "sql": sql, "source": "fixed"}
    stages = [{"name": "one", "jobs": [{"name": "job", "type": "sql", "spec": spec}]}]
    definition = {"name": KEY, "display_name": KEY, "project": "shop", "concurrency_limit": -1, "stages": stages}
    server.call("POST", "/api/aslan/workflow/v4", definition)
    return start(server)


def start(server: ServerProcess) -> int:
    inputs = [{"job_name": "job", "job_type": "sql", "parameters": {}}]
    body = {"workflow_key": KEY, "project_key": "shop", "inputs": inputs}
    number: int = server.call("POST", "/openapi/workflows/custom/task", body)["task_id"]
    path = f"/openapi/logs/log/v4/workflow/{KEY}/{number}/job"
    server.until(KEY, number, lambda detail: "statement 1 of" in server.call("GET", path))
    return number


def job(detail: dict[str, Any]) -> dict[str, Any]:
    [one] = detail["stages"][0]["jobs"]
    found: dict[str, Any] = one
    return found


async def statements(database: MariaDB, like: str) -> int:
    """How many such statements the database is at."""
    where = {"host": "127.0.0.1", "port": database.port, "user": "ci", "password": database.arguments["password"]}
    async with asyncmy.connect(**where) as connection, connection.cursor() as cursor:
        return int(
            await cursor.execute(
                "select id from information_schema.processlist where info like %s and id != connection_id()", (like,)
            )
        )


async def test_terminated_it_lets_a_short_statement_end(mariadb: MariaDB) -> None:  # noqa: F811 - the fixture
    with open_folder() as folder, ServerProcess(folder) as server:
        number = running(server, mariadb, "select sleep(2);")
        server.stop()
        server.start()
        ended = server.task(KEY, number)
        assert ended["status"] == "passed", ended
        assert job(ended)["spec"]["results"][0]["status"] == "success"


async def test_terminated_it_stops_a_long_statement_and_says_why(mariadb: MariaDB) -> None:  # noqa: F811 - the fixture
    with open_folder() as folder, ServerProcess(folder) as server:
        number = running(server, mariadb, "select sleep(301); select 2;")
        before = time.monotonic()
        server.stop()
        assert time.monotonic() - before < 14, "it was not killed"
        assert await statements(mariadb, "select sleep(301)%") == 0
        server.start()
        ended = server.task(KEY, number)
        assert (ended["status"], job(ended)["error"]) == ("failed", "the server was stopped before the job ended")
        assert [one["status"] for one in job(ended)["spec"]["results"]] == ["failed", "not_exec"]


async def test_told_twice_it_waits_for_no_statement(mariadb: MariaDB) -> None:  # noqa: F811 - the fixture
    with open_folder() as folder, ServerProcess(folder) as server:
        number = running(server, mariadb, "select sleep(4);")
        assert server.process is not None
        server.process.send_signal(signal.SIGINT)
        log = folder / f"{server.data.name}.log"
        await until(lambda: "waiting_for_actions" in log.read_text())
        server.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(server.process.wait, 30) == 0
        server.stop()
        server.start()
        ended = server.task(KEY, number)
        assert (ended["status"], job(ended)["error"]) == ("failed", "the server was stopped before the job ended")


@pytest.mark.postgres
async def test_any_server_may_be_asked_to_cancel(mariadb: MariaDB, postgres_url: str) -> None:  # noqa: F811 - the fixture
    """Servers of one machine with their jobs in common: only the one that is at a statement can stop it."""
    key = {"CADOR_KEY": base64.b64encode(b"k" * 32).decode()}
    with open_folder() as folder:
        one, two = (ServerProcess(folder, database=postgres_url, name=name, **key) for name in ("one", "two"))
        with one, two:
            numbers = [running(one, mariadb, "select sleep(303);")]
            numbers.append(start(one))
            for number, server in zip(numbers, (two, one), strict=True):
                server.call("DELETE", "/openapi/workflows/custom/task", workflowKey=KEY, taskId=number)
            for number in numbers:
                ended = two.until(KEY, number, _over, within_s=30.0)
                assert (ended["status"], job(ended)["status"]) == ("cancelled", "cancelled"), ended
            assert await statements(mariadb, "select sleep(303)%") == 0


async def test_killed_it_does_not_repeat_statements(mariadb: MariaDB) -> None:  # noqa: F811 - the fixture
    with open_folder() as folder, ServerProcess(folder) as server:
        number = running(server, mariadb, "select sleep(302);")
        server.kill()
        server.start()
        ended = server.until(KEY, number, _over)
        assert (ended["status"], job(ended)["error"]) == ("failed", "interrupted by server restart")
        log = server.call("GET", f"/openapi/logs/log/v4/workflow/{KEY}/{number}/job")
        assert log.count("statement 1 of 1") == 1


_over: Callable[[dict[str, Any]], bool] = lambda detail: bool(detail["end_time"])  # noqa: E731 - a word for it
