"""Which data folder holds the log and the artifacts of an attempt, and which server is on it now."""

from typing import Final

from sqlalchemy import Connection, and_, bindparam, select, update

from cador.ports.homes import Holding
from cador.storage.tables import job_attempt, job_task, replica, workflow_task

_a, _j, _r, _t = job_attempt.c, job_task.c, replica.c, workflow_task.c
HOLD: Final = (
    update(job_attempt)
    .where(_a.job_id == bindparam("of"), _a.attempt == bindparam("number"))
    .values(home=bindparam("home"))
)
OF_TASK: Final = (
    select(_j.name, _a.attempt, _a.home, _r.address, _a.end_at)
    .select_from(workflow_task)
    .join(job_task, _j.task_id == _t.id)
    .join(job_attempt, _a.job_id == _j.id)
    .join(replica, and_(_r.home == _a.home, _a.home != ""), isouter=True)
    .where(_t.workflow_key == bindparam("workflow"), _t.number == bindparam("number"))
    # a server that was started again may have a row of its former life: the newest counts
    .order_by(_j.position, _a.attempt.desc(), _r.started_at.desc())
)
ONE: Final = OF_TASK.where(_j.name == bindparam("job"), _a.attempt == bindparam("attempt")).limit(1)
ADDRESSES: Final = (
    select(_r.home, _r.address).where(_r.home != "", _r.address != "").order_by(_r.started_at)
)  # fmt: skip


class Homes:
    """Implements ``ports.homes.HomeStore``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def hold(self, job_id: int, attempt: int, home: str) -> None:
        self._connection.execute(HOLD, {"of": job_id, "number": attempt, "home": home})

    def find(self, workflow: str, number: int, job: str, attempt: int) -> Holding | None:
        wanted = {"workflow": workflow, "number": number, "job": job, "attempt": attempt}
        row = self._connection.execute(ONE, wanted).one_or_none()
        return Holding(row.name, row.attempt, row.home, row.address or "", row.end_at is not None) if row else None

    def of_task(self, workflow: str, number: int) -> list[Holding]:
        found: dict[tuple[str, int], Holding] = {}
        for row in self._connection.execute(OF_TASK, {"workflow": workflow, "number": number}):
            holding = Holding(row.name, row.attempt, row.home, row.address or "", row.end_at is not None)
            found.setdefault((row.name, row.attempt), holding)
        return list(found.values())

    def addresses(self) -> dict[str, str]:
        return {row.home: row.address for row in self._connection.execute(ADDRESSES)}
