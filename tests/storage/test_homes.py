"""Who holds what an attempt left, on both databases."""

from dataclasses import replace

import pytest

from cador.domain.task import JobStatus
from cador.ports.homes import Holding
from cador.ports.peers import Replica
from cador.ports.stores import Tx
from cador.storage.database import OpenDatabase
from support.rows import start

pytestmark = pytest.mark.anyio


def begin(tx: Tx, task_id: int, attempt: int) -> int:
    """Attempt *attempt* of the first job begins; its id."""
    task = tx.tasks.lock(task_id)
    first = replace(task.jobs[0], status=JobStatus.PREPARE, attempt=attempt, start_at=1.0, end_at=None)
    tx.tasks.save(task, replace(task, jobs=(first, *task.jobs[1:])))
    return first.id


async def test_the_newest_server_on_the_folder_is_asked(database: OpenDatabase) -> None:
    def play(tx: Tx) -> None:
        task_id = start(tx)
        job_id = begin(tx, task_id, 1)
        assert tx.homes.find("w", 1, "a", 1) == Holding("a", 1, "", "", ended=False)
        tx.homes.hold(job_id, 1, "one")
        assert tx.homes.find("w", 1, "a", 1) == Holding("a", 1, "one", "", ended=False)
        tx.replicas.add(Replica("r1", "p", "http://old:1", 1.0, 1.0, "one"))
        tx.replicas.add(Replica("r2", "p", "http://new:1", 2.0, 2.0, "one"))
        tx.replicas.add(Replica("r3", "p", "", 3.0, 3.0, ""))
        found = tx.homes.find("w", 1, "a", 1)
        assert found == Holding("a", 1, "one", "http://new:1", ended=False)
        assert tx.homes.addresses() == {"one": "http://new:1"}
        for nothing in (("w", 1, "a", 2), ("w", 1, "b", 1), ("w", 2, "a", 1), ("x", 1, "a", 1)):
            assert tx.homes.find(*nothing) is None
        begin(tx, task_id, 2)
        tx.homes.hold(job_id, 2, "two")
        assert [(one.attempt, one.home, one.address) for one in tx.homes.of_task("w", 1)] == [
            (2, "two", ""),
            (1, "one", "http://new:1"),
        ]

    await database.write(play)
