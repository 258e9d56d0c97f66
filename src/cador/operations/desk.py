"""What one transaction works with that applies documents, and how objects of a kind are kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cador.engine.hearing import Ear
from cador.engine.housekeeping import Burial
from cador.jobs.base import JobType
from cador.operations.catalog_names import known_names
from cador.operations.declarative.documents import Document
from cador.operations.declarative.names import Names
from cador.operations.resources import Hand
from cador.ports.stores import Tx

Doc = Mapping[str, Any]


@dataclass(slots=True)
class Desk:
    """What one transaction of applying works with. ``password_hashes``: of new passwords, by account. ``warnings``:
    what went well and should be known. ``burials``: of removed workflows, to be finished after the transaction."""

    tx: Tx
    hand: Hand
    types: Mapping[str, JobType]
    ear: Ear
    at: float
    password_hashes: Mapping[str, str]
    warnings: list[str] = field(default_factory=list)
    burials: list[Burial] = field(default_factory=list)
    _names: dict[tuple[str, str], Names] = field(default_factory=dict)

    def names(self, document: Document) -> Names:
        """What *document* may refer to. Looked up once for all of its kind in its project: documents come kind by kind,
        and none names one of its own kind or of a later one."""
        about = (document.kind, document.project)
        if about not in self._names:
            self._names[about] = known_names(self.tx, document.project)
        return self._names[about]


@dataclass(frozen=True, slots=True)
class Keeper:
    """How objects of one kind are kept. ``read``: what is stored, in the shape of the body, secrets masked, or None;
    ``write``: False when it says what is stored already; ``remove`` is asked for what is there. Raise: any
    ``CadorError``."""

    read: Callable[[Tx, Document], dict[str, Any] | None]
    write: Callable[[Desk, Document, Doc], bool]
    remove: Callable[[Desk, Document], None]
