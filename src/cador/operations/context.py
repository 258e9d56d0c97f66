"""What operations work with. Built once by ``bootstrap``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cador.jobs.base import JobType
from cador.ports.blobs import BlobStore
from cador.ports.clock import Clock
from cador.ports.logs import LogStore
from cador.ports.sealing import Sealer
from cador.ports.stores import Database


class Waker(Protocol):
    """The engine, as far as operations know it."""

    @property
    def me(self) -> str:
        """Owner name of this server process."""

    def room(self) -> int:
        """How many more executions this process would start now."""

    def wake(self) -> None:
        """There may be commands to carry out. Callable from any thread."""

    async def changed(self, task_id: int, timeout_s: float) -> bool:
        """Wait until something about the task was committed; False after *timeout_s* (seconds) of silence.

        A change between a read and this call may be missed: read again after False, too.
        """


@dataclass(frozen=True, slots=True)
class Options:
    """Values from the settings. ``language``: ``zh`` or ``en``; ``base_url``: without trailing slash."""

    base_url: str = "http://127.0.0.1:8700"
    language: str = "zh"
    strict_inputs: bool = False
    max_running_tasks: int = 2
    max_jobs_per_stage: int = 5
    resolve_commits_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Context:
    db: Database
    clock: Clock
    sealer: Sealer
    logs: LogStore
    blobs: BlobStore
    types: Mapping[str, JobType]
    engine: Waker
    options: Callable[[], Options]
