"""That the stored events of a task, heard again, give its stored rows."""

from cador.domain.replaying import Told, beginning, replay
from cador.domain.task import WorkflowTask
from cador.ports.stores import Database, Tx


async def check_replay(db: Database, key: str, number: int) -> None:
    """Fails the test if the history of this task and its rows disagree."""

    def read(tx: Tx) -> tuple[WorkflowTask, list[Told]]:
        task_id = tx.tasks.find_id(key, number)
        assert task_id is not None
        rows = tx.tasks.events(task_id, limit=100_000)
        return tx.tasks.load(task_id), [Told(row.id, row.at, row.kind, row.data) for row in rows]

    task, history = await db.read(read)
    assert history[0].kind == "created"
    found = replay(task, history, float("inf"))
    assert found.task == task
    assert found.agrees
    assert replay(task, history, history[0].at - 1.0).task == beginning(task)
