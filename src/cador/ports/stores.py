"""Stores and transactions. A transaction is a plain function: it gets a :class:`Tx`, reads, decides and writes.

It runs on a database thread, may run twice, touches no memory outside, raises to abort, and neither begins, commits nor
awaits. Times are Unix seconds (float) in the database's own clock where they decide (``due_at``).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from cador.domain.commands import Command
from cador.domain.events import Event
from cador.domain.task import WorkflowTask
from cador.ports.admission import AdmissionStore
from cador.ports.admission import Blocker as Blocker
from cador.ports.admission import QueueFacts as QueueFacts
from cador.ports.commits import CommitStore
from cador.ports.deliveries import DeliveryStore, Receiver
from cador.ports.homes import HomeStore
from cador.ports.housekeeping import HousekeepingStore
from cador.ports.outlook import OutlookStore
from cador.ports.peers import Replica
from cador.ports.tickets import TicketStore

P = ParamSpec("P")
R = TypeVar("R")
Fn = TypeVar("Fn", bound=Callable[..., Any])


# -- workflows


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


# -- tasks


@dataclass(frozen=True, slots=True)
class NewApproval:
    """``job``: index in the task's list of new jobs, None for a stage approval."""

    stage: int
    job: int | None
    needed: int
    approvers: tuple[tuple[str, str], ...]
    """Pairs of user id and display name."""
    timeout_s: float
    description: str = ""
    type: str = "native"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job task to be stored. ``plan``: JSON object of its job type, references of later knowledge unrendered."""

    stage: int
    name: str
    job: str
    key: str
    display_name: str
    type: str
    kind: str
    timeout_s: float
    plan: Mapping[str, Any]
    policy: str = "stop"
    maximum_retry: int = 0
    repeatable: bool = True
    approval_users: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    conditional: bool = False
    """Of an approval: its plan has an execute policy."""


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be stored, with all it consists of. ``snapshot``: JSON object kept compressed, never read by lists."""

    workflow_key: str
    project: str
    number: int
    display_name: str
    type: str
    creator: str
    creator_id: str
    creator_account: str
    trigger: str
    create_at: float
    parallel_limit: int
    stages: tuple[tuple[str, bool], ...]
    """Pairs of name and parallel."""
    jobs: tuple[NewJob, ...]
    approvals: tuple[NewApproval, ...]
    snapshot: Mapping[str, Any]
    remark: str = ""
    idempotency_key: str = ""
    """With ``creator_id`` unique; empty: none."""
    auto_cancel: str = ""
    """A newer task of the workflow with the same word cancels this one; empty: none does."""
    timeout_s: float = 0.0
    """Of the whole task; 0: none."""
    manual: Mapping[int, str] = field(default_factory=dict)
    """JSON text of the manual execution of stages, by index."""
    commits: tuple[str, ...] = ()
    """Ids of the commits its jobs work on, as far as they are known."""
    receivers: tuple[Receiver, ...] = ()
    """Who outside hears of it."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """What lists show of a task; ``status`` is the engine's own word."""

    id: int
    workflow_key: str
    project: str
    number: int
    display_name: str
    type: str
    status: str
    slot: str
    error: str
    creator: str
    creator_id: str
    creator_account: str
    trigger: str
    revoker: str
    create_at: float
    start_at: float | None
    end_at: float | None
    retry_num: int
    remark: str = ""
    edits: int = 0
    """How often its snapshot was changed: what is remembered of a snapshot is good for one number."""
    waiting_for: str = ""
    """``approval``: an approval is open and nothing else runs; ``slot``: wants a slot again; else ``""``."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """Everything stored of a job task. ``plan``, ``outputs`` and ``result`` are JSON objects; ``result`` holds what the
    execution found (commits checked out, reports, images, steps, warnings)."""

    id: int
    task_id: int
    position: int
    stage: int
    name: str
    job: str
    key: str
    display_name: str
    type: str
    kind: str
    status: str
    error: str
    attempt: int
    recovery: int
    retry_count: int
    stopping: str
    start_at: float | None
    end_at: float | None
    deadline_at: float | None
    timeout_s: float
    policy: str
    maximum_retry: int
    repeatable: bool
    plan: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    approval_users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptRow:
    job_id: int
    attempt: int
    status: str
    error: str
    start_at: float | None
    end_at: float | None
    steps: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class EventRow:
    id: int
    task_id: int
    at: float
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """``before``: keyset, only tasks with a smaller ``(create_at, id)``; ``offset`` only for page numbers."""

    workflow_key: str = ""
    project: str = ""
    projects: tuple[str, ...] | None = None
    """Only of these projects; None: all."""
    statuses: tuple[str, ...] = ()
    creator: str = ""
    before: tuple[float, int] | None = None
    offset: int = 0
    limit: int = 50


class TaskStore(Protocol):
    """Tasks with their stages, job tasks, approvals, votes and events."""

    def add(self, task: NewTask) -> int:
        """Store a new waiting task; returns its id. Also writes the event ``Created``.

        Raises: AlreadyExists("idempotency key", ...): this creator has used that key (see :meth:`by_idempotency_key`).
        """

    def by_idempotency_key(self, creator_id: str, key: str) -> TaskRow | None: ...

    def find_id(self, workflow_key: str, number: int) -> int | None:
        """Deleted tasks are not found."""

    def lock(self, task_id: int) -> WorkflowTask:
        """Load the light parts and hold the task until the end of the transaction. Raises: NotFound."""

    def load(self, task_id: int) -> WorkflowTask:
        """The same without holding. Raises: NotFound."""

    def save(self, before: WorkflowTask, after: WorkflowTask) -> None:
        """Write the rows that differ: task, stages, jobs (and their present attempt), approvals, votes."""

    def append_event(self, task_id: int, event: Event) -> None: ...

    def row(self, task_id: int) -> TaskRow: ...

    def list_tasks(self, where: TaskFilter) -> list[TaskRow]: ...

    def count(self, workflow_key: str) -> int:
        """All tasks of a workflow that are not deleted, from a counter."""

    def jobs(self, task_id: int, *, plans: bool = True) -> list[JobRow]:
        """In order of fan-out. *plans* False: ``plan`` stays empty (results and outputs are there)."""

    def find_job(self, task_id: int, name: str) -> JobRow | None:
        """By name, else key, else display name."""

    def job_by_id(self, job_id: int) -> JobRow | None: ...

    def attempts(self, task_id: int) -> list[AttemptRow]: ...

    def events(self, task_id: int, after: int = 0, limit: int = 1000) -> list[EventRow]: ...

    def snapshot(self, task_id: int) -> Mapping[str, Any]: ...

    def set_snapshot(self, task_id: int, snapshot: Mapping[str, Any]) -> None:
        """Also counts up ``edits`` of the task."""

    def approval_texts(self, task_id: int) -> Mapping[int, tuple[str, str]]:
        """Description and type by approval id."""

    def set_plan(self, job_id: int, plan: Mapping[str, Any]) -> None: ...

    def set_outputs(self, job_id: int, outputs: Mapping[str, str]) -> None: ...

    def merge_result(self, job_id: int, result: Mapping[str, Any]) -> None:
        """Set the given top-level keys of ``result``."""

    def set_steps(self, job_id: int, attempt: int, steps: Sequence[Mapping[str, Any]]) -> None: ...

    def worded(self, workflow_key: str, word: str) -> list[int]:
        """Ids of unfinished tasks of the workflow with that ``auto_cancel`` word, oldest first."""

    def set_remark(self, task_id: int, remark: str) -> None:
        """Change this field alone, whatever happens to the task meanwhile. Raises: NotFound."""

    def queue_figures(self, now: float) -> Mapping[str, float]:
        """For metrics: waiting, running, waiting_for_approval, oldest_waiting_s."""


# -- commands and executions


HERE: Final = "here"
"""The place of the one server of an embedded database."""


@dataclass(frozen=True, slots=True)
class CommandRow:
    """``kind``: name of the command's class in lower snake case; ``payload``: its fields. ``place``: of a ``start``
    that came back from a server: the place of that server, because it may have begun there; ``HERE`` when there is but
    one server; empty: nothing was begun."""

    id: int
    key: str
    kind: str
    task_id: int
    payload: Mapping[str, Any]
    due_at: float
    owner: str
    tries: int
    place: str = ""


class CommandStore(Protocol):
    def add(
        self, task_id: int, commands: Iterable[Command], now: float, *, me: str = "", claim: int = 0
    ) -> list[CommandRow]:
        """Store *commands*; ``Forget`` deletes by key. Keys are stored as ``<task id>/<key>`` and are unique: one that
        is there already is left alone. ``Admit`` gets a row (and a key) of its own each time, due at once.

        At most *claim* of the new ``Start`` rows, and every other row due at once, get the owner *me* and are returned:
        the caller carries them out after the commit. Timers and what is beyond *claim* stay unowned.
        """

    def claim(self, me: str, now: float, limit: int, *, starts: int) -> list[CommandRow]:
        """Take due rows without an owner, oldest first, at most *starts* of kind ``start``, skipping locked ones."""

    def hurry(self, now: float) -> None:
        """The clock was set back: make due what is due at once and seems to be so only later. Timers stay."""

    def delete(self, command_id: int, me: str) -> bool:
        """False: not mine any more (fenced); the caller must abort its transaction."""

    def delete_admits(self) -> int:
        """Delete every ``admit`` row, whoever owns it (call with the admission lock held)."""

    def postpone(self, command_id: int, me: str, due_at: float, place: str = "") -> bool:
        """Give a row back for later: ``tries`` + 1, no owner; *place*: of a start that may have begun."""

    def release(self, owner: str) -> int:
        """A server process is gone: its rows are free again. Call it before the row of that member is removed: starts
        keep its place."""

    def release_others(self, me: str) -> int:
        """Every row that has an owner other than *me* is free again (the one process that may run now is *me*); starts
        may have begun ``HERE``."""

    def release_unknown(self) -> int:
        """Every row whose owner is no member is free again: a claim that was committed after its owner's end, so that
        nothing was begun."""

    def owned(self, me: str) -> set[int]:
        """Ids of all rows that *me* owns."""

    def owns(self, command_id: int, me: str) -> bool:
        """Whether the row is *me*'s, and *me* a member: what a server claimed that was declared dead without knowing
        is not, until everybody may have it."""

    def give_back(self, me: str, ids: Collection[int]) -> None:
        """Those of *ids* that *me* owns are free again."""

    def take_unowned(self, key: str) -> bool:
        """Delete the start of that stored key if nobody owns it and it cannot have begun; False: it is not there,
        somebody carries it out, or somebody may have begun it."""

    def find(self, key: str) -> CommandRow | None:
        """By stored key."""

    def claim_one(self, key: str, me: str) -> CommandRow | None:
        """Take the row of that stored key, due or not; None: it is not there, or somebody owns it."""

    def pending_starts(self) -> list[tuple[int, int, int]]:
        """Job id, attempt and recovery of every ``start`` row, owned or not."""

    def next_due(self, *, starts: bool = True) -> float | None:
        """When the next unowned row is due; *starts* False: rows of kind ``start`` do not count."""


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


class ReplicaStore(Protocol):
    def add(self, row: Replica) -> None: ...

    def list_replicas(self) -> list[Replica]:
        """Oldest first."""

    def beat(self, me: str, now: float) -> bool:
        """Say that *me* lives; False: others have declared it dead."""

    def condemn(self, gone: str) -> bool:
        """What *gone* says of itself does not count from now on. False: it is no member."""

    def remove(self, gone: str) -> bool:
        """False: somebody else removed it before."""


# -- resources, people


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
    def find(self, kind: str, project: str, name: str, *, lock: bool = False) -> Resource | None:
        """*lock*: others who want to change it wait; for who writes what depends on what is read."""

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


@dataclass(frozen=True, slots=True)
class User:
    """``uid``: UUID text. ``admin``: system administrator. ``password_hash``: empty = cannot log in by password."""

    uid: str
    account: str
    name: str
    email: str = ""
    phone: str = ""
    identity_type: str = "system"
    admin: bool = False
    password_hash: str = ""
    create_at: float = 0.0
    last_login_at: float | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """``hash``: SHA-256 hex of the token text. ``scopes``, ``projects``: empty = all the user may do, everywhere.
    ``kind``: ``api``, or ``session`` of somebody who logged in."""

    id: int
    uid: str
    name: str
    hash: str
    prefix: str
    create_at: float
    expires_at: float | None = None
    last_used_at: float | None = None
    scopes: tuple[str, ...] = ()
    kind: str = "api"
    projects: tuple[str, ...] = ()


class PeopleStore(Protocol):
    def user(self, uid: str) -> User | None: ...

    def by_account(self, account: str) -> User | None: ...

    def users(self, *, account: str = "", name: str = "", offset: int = 0, limit: int = 50) -> tuple[list[User], int]:
        """Page and total; *account* exact, *name* contained."""

    def add_user(self, user: User) -> None:
        """Raises: AlreadyExists."""

    def replace_user(self, user: User) -> None: ...

    def delete_user(self, uid: str) -> None: ...

    def add_token(self, token: Token) -> int: ...

    def by_token_hash(self, digest: str) -> tuple[Token, User] | None: ...

    def caller(self, digest: str) -> tuple[Token, User, int] | None:
        """The same with the version of the configuration (``ResourceStore.version``), in one query."""

    def tokens(self, uid: str) -> list[Token]: ...

    def all_tokens(self, *, prefix: str = "", before: int | None = None, limit: int = 50) -> list[tuple[Token, User]]:
        """Of all users, newest first. *prefix*: what is shown of them begins so; *before*: keyset, smaller ids."""

    def delete_token(self, uid: str, token_id: int) -> bool: ...

    def replace_token(self, token: Token) -> None:
        """Give the row of that id another text, beginning and end."""

    def delete_sessions(self, uid: str, *, but: int = 0, ended: float | None = None) -> None:
        """End what *uid* logged in with, except the token *but*; *ended*: only those that were over then."""

    def touch_tokens(self, used: Mapping[int, float]) -> None:
        """Write down when tokens were used last, by id; an older time changes nothing."""

    def roles(self, uid: str) -> Mapping[str, tuple[str, ...]]:
        """Role names by project."""

    def bindings(self, project: str) -> Mapping[str, tuple[str, ...]]:
        """Role names by user id."""

    def set_roles(self, uid: str, project: str, roles: Sequence[str]) -> None:
        """Replaces all of that user in that project."""

    def failures(self, names: Sequence[str], since: float) -> Mapping[str, tuple[int, float]]:
        """Failed logins by name and when they began; those that began before *since* do not count."""

    def fail(self, names: Sequence[str], now: float, since: float) -> None:
        """Count one more failed login for each of *names*, and forget what began before *since*."""

    def forgive(self, names: Sequence[str], *, all_of: Sequence[str] = ()) -> None:
        """Take one failed login back for each of *names*, and all of those of *all_of*."""

    def has_come_from(self, uid: str, address: str, since: float) -> bool:
        """Whether *uid* has logged in from *address* after *since*."""

    def came_from(self, uid: str, address: str, now: float, since: float) -> None:
        """Remember it, and forget what is older than *since*."""


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """``last_id``, ``last_hash``: where the next look begins. ``broken``: what is wrong, empty: nothing so far.
    ``broken_id``: of the entry where it shows. ``done``: the newest entry was reached."""

    last_id: int
    last_hash: str
    seen: int
    broken: str = ""
    broken_id: int = 0
    done: bool = False


class AuditStore(Protocol):
    def add(
        self, *, at: float, actor: str, action: str, project: str, target: str, detail: Mapping[str, Any]
    ) -> None: ...

    def list_entries(
        self,
        *,
        before: int | None = None,
        limit: int = 50,
        skip: int = 0,
        actor: str = "",
        project: str = "",
        action: str = "",
    ) -> list[Mapping[str, Any]]:
        """Newest first; filters are exact. *skip*: how many to leave out, for numbered pages near the top.
        Keys: id, at, actor, action, project, target, detail (an object), hash."""

    def count(self, most: int, *, actor: str = "", project: str = "", action: str = "") -> int:
        """How many entries fit; counted up to *most*."""

    def verify(self, after: int, previous: str, limit: int) -> AuditCheck:
        """Look at the *limit* entries after the id *after*, the last of which had the hash *previous*."""


class MetaStore(Protocol):
    """Small facts of the installation: ``installation`` (its id) and such."""

    def get(self, name: str) -> str | None: ...

    def set(self, name: str, value: str) -> None: ...


# -- transactions


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
