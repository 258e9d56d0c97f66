"""``hear``: the only way a status changes. One transaction: lock, advance, write rows, event and commands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from cador.domain.commands import Admit, Command, Start, Tell, Timer
from cador.domain.events import Admitted, Event, RetryRequested
from cador.domain.sharing import QueueLimits
from cador.domain.task import Slot, TaskStatus, WorkflowTask
from cador.domain.task_machine import advance
from cador.engine.admission import let_in_all
from cador.ports.admission import Gate
from cador.ports.stores import CommandRow, Tx

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


MOST_AT_ONCE: Final = 32
"""Tasks that one transaction lets in; a quarter of a millisecond each."""


class Fenced(Exception):
    """A command is not this process's any more: its effect is another's. The transaction must be given up."""


class NotHere(Exception):
    """What a command is about lives on another machine."""


@dataclass(frozen=True, slots=True)
class Claim:
    """How much of what a transaction causes its process takes on at once: ``starts`` executions, all the rest.

    ``fan_out``: makes of a piece of news what is to be delivered to whom; None: nobody outside hears anything.
    """

    me: str
    limits: QueueLimits
    """Of the settings, where the admission row says nothing."""
    starts: int = 0
    fan_out: Callable[[Tx, int, Tell], list[Command]] | None = None
    load: Callable[[Tx, int, int], Any] | None = None
    """Reads what a start needs (task id, job id): a claimed start is begun without asking the database again."""
    renew: Callable[[Tx, WorkflowTask, WorkflowTask], None] | None = None
    """Names what a retry makes anew, at the moment at which its jobs are put back to their beginning."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R_co]):
    """What a transaction did: its value, commands to carry out now, tasks that changed, when the next timer is due, and
    whether starts were left for later."""

    value: R_co
    rows: tuple[CommandRow, ...] = ()
    tasks: tuple[int, ...] = ()
    soonest: float | None = None
    short: bool = False
    admitted: tuple[tuple[int, float | None], ...] = ()
    """Tasks that became running, with the seconds since they were accepted; None for those that were retried."""
    ended: tuple[tuple[str, float], ...] = ()
    """Status of each task that ended, with the seconds it took."""
    loaded: Mapping[int, Any] = field(default_factory=dict)
    """What the claimed starts need, by id of their command."""


def _again(before: WorkflowTask, after: WorkflowTask, event: Event) -> bool:
    """Whether *event* put jobs back to their beginning: a new round began, or jobs of a running task begin anew."""
    if after.retry_num != before.retry_num:
        return True
    return isinstance(event, RetryRequested) and after.status is TaskStatus.RUNNING


class Ear:
    """Hears events within one transaction. Made anew each time the transaction function runs."""

    def __init__(self, tx: Tx, claim: Claim) -> None:
        self._tx, self._claim = tx, claim
        self._starts = claim.starts
        self._rows: list[CommandRow] = []
        self._tasks: list[int] = []
        self._soonest: float | None = None
        self._short = False
        self._wish = 0
        self._let_in_now = 0
        self._admitted: list[tuple[int, float | None]] = []
        self._ended: list[tuple[str, float]] = []

    def settle(self, row: CommandRow | None) -> None:
        """Delete the command that this transaction is the effect of. Raises: Fenced."""
        if row is not None and not self._tx.commands.delete(row.id, self._claim.me):
            raise Fenced(row.key)

    def carry(self, row: CommandRow) -> None:
        """This process carries out *row*, too, which it claimed in this transaction."""
        self._rows.append(row)

    def hear(
        self,
        task_id: int,
        event: Event,
        also: Callable[[Tx, WorkflowTask, WorkflowTask], None] | None = None,
        *,
        locked: WorkflowTask | None = None,
    ) -> WorkflowTask:
        """Lock the task, advance it, write everything. *also* writes what belongs to the same transaction. *locked*:
        the task, if the caller has locked it.

        Raises: NotFound, and what ``advance`` raises.
        """
        task = locked or self._tx.tasks.lock(task_id)
        moved, commands = advance(task, event)
        if moved != task or also is not None:  # what is written beside it asks for a new stamp, too
            self._tx.tasks.save(task, moved)
        if also is not None:
            also(self._tx, task, moved)
        if self._claim.renew is not None and _again(task, moved, event):
            self._claim.renew(self._tx, task, moved)
        self._tx.tasks.append_event(task_id, event)
        self.command(task_id, commands)
        self._tasks.append(task_id)
        if task.start_at is None and moved.start_at is not None:
            self._admitted.append((task_id, None if moved.retry_num else moved.start_at - moved.create_at))
        if moved.final and not task.final:
            self._ended.append((moved.status.value, (moved.end_at or 0.0) - (moved.start_at or moved.end_at or 0.0)))
        return moved

    def command(self, task_id: int, commands: tuple[Command, ...]) -> None:
        """Store *commands*, taking on as many as the claim allows."""
        wanted: list[Command] = []
        for one in commands:
            if not isinstance(one, Tell):
                wanted.append(one)
            elif self._claim.fan_out is not None:
                wanted += self._claim.fan_out(self._tx, task_id, one)
        if any(isinstance(c, Admit) for c in wanted):
            self._wish = task_id
            wanted = [c for c in wanted if not isinstance(c, Admit)]
        if not wanted:
            return
        rows = self._tx.commands.add(task_id, wanted, self._tx.now, me=self._claim.me, claim=self._starts)
        starts = sum(isinstance(command, Start) for command in wanted)
        taken = sum(row.kind == "start" for row in rows)
        self._starts -= taken
        self._short = self._short or taken < starts
        self._rows += rows
        for command in wanted:
            if isinstance(command, Timer) and (self._soonest is None or command.due_at < self._soonest):
                self._soonest = command.due_at

    def admit(self, gate: Gate | None = None) -> None:
        """One pass over all who wait: let in what fits. *gate*: the admission row, which is held; None: hold it.

        After so many that tables and event loop would be held for long the rest is left to an ``admit``.
        """
        gate = gate or self._tx.admission.lock()
        most = MOST_AT_ONCE - self._let_in_now
        if gate is not None and let_in_all(self._tx.admission, gate, self._claim.limits, self._let_in, most=most):
            self._admit_later(self._tasks[-1])

    def _admit_later(self, task_id: int) -> None:
        self._rows += self._tx.commands.add(task_id, (Admit(),), self._tx.now, me=self._claim.me)

    def _let_in(self, task_id: int) -> bool:
        task = self._tx.tasks.lock(task_id)
        waits = task.status is TaskStatus.WAITING or (
            task.status is TaskStatus.RUNNING and task.slot is Slot.WANTED
        )  # fmt: skip
        if waits:
            # Not the time at which this transaction began: since then somebody else may have ended and made room.
            self.hear(task_id, Admitted(self._tx.later), locked=task)
            self._let_in_now += 1
        return waits

    def _grant(self) -> None:
        """Let tasks in within this transaction if nobody else is doing so, else leave the wish for later.

        The lock is only tried: nobody who holds a task ever waits for it, so the order admission, workflow, task
        cannot be turned into a circle.
        """
        while self._wish:
            task_id, self._wish = self._wish, 0
            gate = self._tx.admission.lock(wait=False)
            if gate is None or self._let_in_now >= MOST_AT_ONCE:
                self._admit_later(task_id)
                return
            self.admit(gate)

    def outcome(self, value: R) -> Outcome[R]:
        """What the transaction did. Call it last: wishes to be admitted are granted here."""
        self._grant()
        loaded = {}
        if self._claim.load is not None:
            for row in self._rows:
                if row.kind == "start":
                    loaded[row.id] = self._claim.load(self._tx, row.task_id, int(row.payload["job_id"]))
        return Outcome(
            value,
            tuple(self._rows),
            tuple(dict.fromkeys(self._tasks)),
            self._soonest,
            self._short,
            tuple(self._admitted),
            tuple(self._ended),
            loaded,
        )
