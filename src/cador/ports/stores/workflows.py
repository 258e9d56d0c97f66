"""Definitions of workflows, and the counters of their tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol


@dataclass(frozen=True, slots=True)
class WorkflowRow:
    """A stored workflow. ``definition``: the JSON text of the document as sent, credentials sealed."""

    key: str
    project: str
    display_name: str
    type: str
    concurrency_limit: int
    disabled: bool
    definition: str
    revision: int
    created_by: str
    create_at: float
    updated_by: str
    update_at: float
    id: int = 0


IMPLICIT: Final = ("testing", "scanning")
"""Types of workflows that belong to a test or scan; no list shows them."""


class WorkflowStore(Protocol):
    def find(self, key: str, *, lock: bool = False) -> WorkflowRow | None:
        """*lock*: hold the row until the end of the transaction (after the admission row, before a task)."""

    def list_workflows(
        self, project: str, keys: Sequence[str] | None = None, *, implicit: bool = False
    ) -> list[WorkflowRow]:
        """Of one project, ``definition`` left empty; custom before product, newest update first, then key. *implicit*:
        also those that run tests and scans by themselves (types in :data:`IMPLICIT`)."""

    def add(self, row: WorkflowRow) -> int:
        """Raises: AlreadyExists: the key is taken, whatever the project."""

    def replace(self, row: WorkflowRow) -> None:
        """Write all but key and creation; ``revision`` grows by one. Raises: NotFound."""

    def delete(self, key: str) -> None:
        """The counter of its tasks survives: numbers are never used twice."""

    def display_name_taken(self, project: str, display_name: str, but: str) -> bool: ...

    def next_number(self, key: str) -> int:
        """Count up and return; call with the workflow locked."""
