"""Configuration objects of every kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Resource:
    """A configuration object. ``id``: integer, used as id of code hosts on the wire; ``uid``: 24 hex digits, the id of
    all other kinds. ``project``: ``""`` for kinds of the system. ``document``: JSON object as sent, credentials sealed.
    """

    kind: str
    project: str
    name: str
    document: Mapping[str, Any]
    id: int = 0
    uid: str = ""
    revision: int = 1
    created_by: str = ""
    create_at: float = 0.0
    updated_by: str = ""
    update_at: float = 0.0


class ResourceStore(Protocol):
    """Who writes what depends on what was read calls :meth:`hold` before reading. Order of locks: the admission row,
    then this one, then workflows, then tasks."""

    def hold(self) -> None:
        """Others who change any resource wait until this transaction has ended."""

    def find(self, kind: str, project: str, name: str, *, lock: bool = False) -> Resource | None:
        """*lock*: :meth:`hold` first."""

    def by_id(self, kind: str, ident: str) -> Resource | None:
        """By uid or, when it is a number, by id."""

    def list_kind(self, kind: str, project: str | None = None) -> list[Resource]:
        """By name. *project* None: of all projects."""

    def of_project(self, project: str) -> list[Resource]:
        """All kinds of this project and all of the system, for a catalogue."""

    def add(self, resource: Resource) -> Resource:
        """Returns it with id and uid. Raises: AlreadyExists."""

    def replace(self, resource: Resource) -> None:
        """By kind, project, name; revision grows by one. Raises: NotFound."""

    def delete(self, kind: str, project: str, name: str) -> None:
        """Raises: NotFound."""

    def version(self) -> int:
        """Grows with every change of any resource: what caches are checked against."""
