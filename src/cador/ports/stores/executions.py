"""Executions: what runs outside, and who listens to it."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ExecutionRow:
    """A live execution; the row goes when its end was heard."""

    key: str
    task_id: int
    job_id: int
    attempt: int
    recovery: int
    executor: str
    place: str
    ref: str
    owner: str
    created_at: float


class ExecutionStore(Protocol):
    def add(self, row: ExecutionRow) -> None:
        """One that is there already gets the new ref and owner."""

    def get(self, key: str) -> ExecutionRow | None: ...

    def of_job(self, job_id: int) -> list[ExecutionRow]: ...

    def delete(self, key: str) -> None: ...

    def list_executions(self, *, owner: str | None = None, place: str | None = None) -> list[ExecutionRow]: ...

    def adopt(self, key: str, me: str) -> bool:
        """Take over an execution without an owner."""

    def hold(self, key: str, owner: str) -> bool:
        """Whether *owner* (``""``: nobody) owns that execution; if so nobody else gets it until the end of the
        transaction."""

    def release(self, owner: str) -> int: ...

    def release_others(self, me: str) -> int:
        """Every execution that has an owner other than *me* is free again."""

    def release_unknown(self) -> int:
        """Every execution whose owner is no member is free again."""
