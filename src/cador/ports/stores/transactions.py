"""Transactions: plain functions that get a :class:`Tx`, read, decide and write.

A transaction runs on a database thread, may run twice, touches no memory outside, raises to abort, and neither begins,
commits nor awaits. Times are Unix seconds (float) in the database's own clock where they decide (``due_at``).
"""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from cador.ports.admission import AdmissionStore
from cador.ports.commits import CommitStore
from cador.ports.deliveries import DeliveryStore
from cador.ports.homes import HomeStore
from cador.ports.housekeeping import HousekeepingStore
from cador.ports.outlook import OutlookStore
from cador.ports.peers import ReplicaStore
from cador.ports.stores.audit import AuditStore
from cador.ports.stores.commands import CommandStore
from cador.ports.stores.executions import ExecutionStore
from cador.ports.stores.people import PeopleStore
from cador.ports.stores.resources import ResourceStore
from cador.ports.stores.tasks import TaskStore
from cador.ports.stores.workflows import WorkflowStore
from cador.ports.tickets import TicketStore

P = ParamSpec("P")
R = TypeVar("R")
Fn = TypeVar("Fn", bound=Callable[..., Any])


class MetaStore(Protocol):
    """Small facts of the installation: ``installation`` (its id) and such."""

    def get(self, name: str) -> str | None: ...

    def set(self, name: str, value: str) -> None: ...


class Tx(Protocol):
    """The stores of one transaction."""

    @property
    def workflows(self) -> WorkflowStore: ...
    @property
    def tasks(self) -> TaskStore: ...
    @property
    def commands(self) -> CommandStore: ...
    @property
    def executions(self) -> ExecutionStore: ...
    @property
    def replicas(self) -> ReplicaStore: ...
    @property
    def homes(self) -> HomeStore: ...
    @property
    def housekeeping(self) -> HousekeepingStore: ...
    @property
    def admission(self) -> AdmissionStore: ...
    @property
    def resources(self) -> ResourceStore: ...
    @property
    def people(self) -> PeopleStore: ...
    @property
    def outlook(self) -> OutlookStore: ...
    @property
    def tickets(self) -> TicketStore: ...

    @property
    def deliveries(self) -> DeliveryStore: ...
    @property
    def commits(self) -> CommitStore: ...
    @property
    def audit(self) -> AuditStore: ...
    @property
    def meta(self) -> MetaStore: ...

    @property
    def now(self) -> float:
        """The database's clock (injected in tests), one value per transaction."""

    @property
    def later(self) -> float:
        """The same clock at this moment: after a lock was waited for, what others did meanwhile is before it."""

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call *call* on the event loop's thread after the commit; not at all when the transaction aborts."""


def brief(fn: Fn) -> Fn:
    """Mark a transaction that touches a few rows by their keys: an embedded database may run it at once, on the thread
    of its caller. Handing it to another thread and back costs several times what it does, but whatever goes through
    many rows would keep that thread, the event loop's, from everything else."""
    fn.brief = True  # type: ignore[attr-defined]
    return fn


def is_brief(fn: Callable[..., Any]) -> bool:
    return getattr(fn, "brief", False)


class Database(Protocol):
    async def write(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run *fn* as one transaction; returns after its commit. Errors of *fn* abort it and are raised here.

        Raises: Unavailable: the database is away.
        """

    async def read(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run *fn* on one consistent snapshot, read-only."""
