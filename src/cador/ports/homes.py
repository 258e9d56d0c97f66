"""Which server's data folder holds what a job left: its log and its artifacts."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Holding:
    """One attempt of a job task. ``home``: name of the data folder that holds its log, ``""`` when nobody noted it;
    ``address``: internal address of the server on that folder, ``""`` when none is known or it is away; ``ended``: the
    attempt is over."""

    job: str
    attempt: int
    home: str
    address: str
    ended: bool


class HomeStore(Protocol):
    """Written by servers that share a database only."""

    def hold(self, job_id: int, attempt: int, home: str) -> None:
        """From now on *home* holds what that attempt leaves. No error when there is no such attempt."""

    def find(self, workflow: str, number: int, job: str, attempt: int) -> Holding | None:
        """Of one attempt; *job*: name of the job task."""

    def of_task(self, workflow: str, number: int) -> list[Holding]:
        """Of all attempts of a task that began: by job task, newest attempt first."""

    def addresses(self) -> dict[str, str]:
        """Internal addresses of the servers that are there and tell one, by home."""
