"""What those who start, stop, follow and adopt executions have in common: the executors, and what of all that runs
somewhere this server reaches."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cador.domain.commands import Start
from cador.engine.preparing import Preparer
from cador.ports.actions import SERVER
from cador.ports.clock import Clock
from cador.ports.executor import Executor
from cador.ports.peers import Replica
from cador.ports.stores import HERE, ExecutionRow

if TYPE_CHECKING:
    from cador.engine.engine import Engine

AGAIN_S: Final = 1.0
"""Pause before something is written again when the database or the place was away."""
LOOK_S: Final = 2.0
"""How often it is looked whether a server of a machine that is missed has come back."""


@dataclass(frozen=True, slots=True)
class Outside:
    engine: "Engine"
    installation: str
    clock: Clock
    executors: Mapping[str, Executor]
    preparer: Preparer
    stop_grace_s: float
    lost_after_s: float
    home: str

    def key(self, job_id: int, attempt: int, recovery: int) -> str:
        """Names one execution for ever; the installation is part of it, so that sweeps never meet strangers."""
        return f"{self.installation}.{job_id}.{attempt}.{recovery}"

    def near(self, place: str) -> bool:
        """Whether what may have begun at *place*, of another server, can be found from here: on the same machine, or
        because no executor here belongs to a machine."""
        return place in ("", HERE) or not self.bound() or same_host(place, self.engine.place)

    def bound(self) -> bool:
        """Whether processes belong to the machine of the server that starts them. Not so what servers do themselves: it
        has not begun before it is followed, and so may be started anywhere until then."""
        here, processes = self.engine.place, (one for one in self.executors.values() if one.name != SERVER)
        return any(same_host(executor.place, here) for executor in processes)

    def reaches(self, row: ExecutionRow) -> bool:
        """Whether this server can attach to an execution of that place."""
        executor = self.executors.get(row.executor)
        return executor is not None and same_host(row.place, executor.place)

    @staticmethod
    def reached_by(row: ExecutionRow, servers: Iterable[Replica]) -> bool:
        """Whether one of *servers* can attach to it. What a server itself does is at its machine and data folder."""
        places = (place for one in servers for place in (one.place, f"{one.place}:{one.home}"))
        return any(same_host(row.place, place) for place in places)


def start_key(task_id: int, job_id: int, attempt: int, recovery: int) -> str:
    """Key of the command that begins an execution."""
    return f"{task_id}/{Start(job_id, attempt, recovery).key}"


def loop_time() -> float:
    """Monotonic seconds, of the event loop."""
    return asyncio.get_running_loop().time()


def same_host(one: str, other: str) -> bool:
    """Whether two places - machine, boot, where on it - are the same but for the boot: after a reboot a machine still
    knows that its processes are gone. Servers of one machine may keep their jobs apart; some places have no third part.
    """
    machine, _, rest = one.partition(":")
    other_machine, _, other_rest = other.partition(":")
    where, other_where = rest.partition(":")[2], other_rest.partition(":")[2]
    if where.startswith("/") != other_where.startswith("/"):  # one of a version that told the path and no mark before
        where, other_where = (one if one.startswith("/") else one.partition(":")[2] for one in (where, other_where))
    return machine == other_machine and (where == other_where or not where or not other_where)
