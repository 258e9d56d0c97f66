"""A backup of a server that works, put back elsewhere: every task in it is whole."""

import json
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.server_process import DEADLINE_S, ServerProcess, open_folder

pytestmark = pytest.mark.real

QUICK = "for n in $(seq 40); do echo line $n; done"
SLOW = "echo once more >>{ran}; for n in $(seq 100); do echo line $n; sleep 0.1; done"


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    with open_folder() as made:
        yield made


def cador(server: ServerProcess, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("cador")), *words]
    ended = subprocess.run(command, env=server.environ, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended


class Load:
    """Starts a quick task as soon as the one before the last one is over, until told to stop."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self.started = 0
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def wait_for(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.started >= number or self.error is not None, DEADLINE_S)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                number = self._server.start_task("quick")
                with self._changed:
                    self.started = number
                    self._changed.notify_all()
                if self.started > 2:
                    self._server.ended("quick", self.started - 2)
        except BaseException as error:
            with self._changed:
                self.error = error
                self._changed.notify_all()


def finished(folder: Path) -> set[int]:
    """Numbers of the quick tasks that had ended when the tables of a restored folder were read."""
    connection = sqlite3.connect(folder / "cador.db")
    rows = connection.execute(
        "SELECT number FROM workflow_task WHERE workflow_key = 'quick' AND end_at IS NOT NULL"
    ).fetchall()
    connection.close()
    return {number for (number,) in rows}


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_every_task_in_a_backup_under_load_is_whole(
    kind: str, folder: Path, elsewhere: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else ""
    ran = folder / "scratch" / "ran"
    file = folder / "backup.tar.zst"
    with ServerProcess(folder, database=url) as server:
        server.define_shop(quick=QUICK, slow=SLOW.format(ran=ran))
        slow = server.start_task("slow")
        server.until("slow", slow, lambda _: ran.exists())
        with Load(server) as load:
            load.wait_for(8)
            before = load.started
            told = cador(server, "backup", str(file), "--with-key", "--data", str(server.data), "--json")
            load.wait_for(load.started + 1)
        made = json.loads(told.stdout)
        verified = json.loads(cador(server, "backup", "verify", str(file), "--json").stdout)
        assert verified["parts"] == made["parts"]
        last = load.started
        server.until("slow", slow, lambda d: len(server.job_log("slow", slow)) > 0)
        server.ended("quick", last)
        original: dict[int, Any] = {n: server.task("quick", n) for n in range(1, last + 1)}
        logs = {n: server.job_log("quick", n) for n in range(1, last + 1)}
        server.ended("slow", slow)
        assert ran.read_text() == "once more\n"

    # Always into SQLite: from PostgreSQL that is a move as well.
    restored = ServerProcess(elsewhere)
    same_place = kind == "postgres"
    if same_place:
        restored.environ["CADOR_EXECUTORS__PROCESS__ROOT"] = server.environ["CADOR_EXECUTORS__PROCESS__ROOT"]
    cador(restored, "restore", str(file), "--data", str(restored.data))
    whole = finished(restored.data)
    kept = made["tasks"] - 1
    assert before <= kept < last, "the backup is of the time it was made"
    assert len(whole) >= before - 2
    with restored:
        for number in range(1, kept + 1):
            detail = restored.ended("quick", number, within_s=120)
            if number in whole:
                assert {**detail, "task_url": ""} == {**original[number], "task_url": ""}
                assert restored.job_log("quick", number) == logs[number]
            elif detail["status"] == "passed":  # it had not begun, or is run again here, under what it had written
                assert re.findall(r"line (\d+)\n", restored.job_log("quick", number))[-40:] == numbers(40)
            else:
                assert_lost(detail)
        assert restored.client is not None
        query = {"workflowKey": "quick", "taskId": kept + 1}
        refused = restored.client.get("/openapi/workflows/custom/task", params=query)
        assert refused.status_code != 200, "a task started after the backup is not in it"
        detail = restored.ended("slow", slow, within_s=120)
        lines = re.findall(r"line (\d+)\n", restored.job_log("slow", slow))
        if same_place:  # nothing of it is there any more: it is run again, under what it had written
            assert detail["status"] == "passed", detail
            assert lines[-100:] == numbers(100)
            lines = lines[:-100]
        else:  # nobody knows what became of it
            assert_lost(detail)
        assert ran.read_text() == "once more\n" * (2 if same_place else 1)
        assert len(lines) <= 100  # what it had written when its log was made durable last, perhaps nothing yet
        assert lines == numbers(len(lines))
        assert restored.start_task("quick") == kept + 1


def numbers(last: int) -> list[str]:
    return [str(number) for number in range(1, last + 1)]


def assert_lost(detail: dict[str, Any]) -> None:
    assert detail["status"] == "failed", detail
    assert "lost executor" in detail["stages"][0]["jobs"][0]["error"], detail
