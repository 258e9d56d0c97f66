"""What the server does for a job when its processes have ended and passed: an action (``cador.ports.actions``) that is
part of the same execution. The job counts as running meanwhile: a cancel and its deadline break the action off.

A server that dies in it leaves the execution as it was, ended and not told: the next one comes to the same end and does
the action again. So such actions only ask.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import structlog

from cador.domain.errors import CadorError, Unavailable
from cador.domain.masking import Masker
from cador.engine.hearing import Fenced
from cador.engine.preparing import After
from cador.ports.actions import Action, ActionCall, ActionFailed
from cador.ports.clock import Clock
from cador.ports.stores import ExecutionRow, Tx

if TYPE_CHECKING:
    from cador.engine.engine import Engine

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
"""How often it is asked at least whether the job is to stop."""
OUTPUTS: Final = "outputs"
"""Argument of the action: what the job wrote, by name."""


class Afterwards:
    def __init__(self, engine: "Engine", actions: Mapping[str, Action], clock: Clock) -> None:
        self._engine, self._actions, self._clock = engine, actions, clock

    async def carry_out(
        self,
        row: ExecutionRow,
        call: ActionCall,
        outputs: Mapping[str, str],
        masker: Masker,
        line: Callable[[str], None],
    ) -> After:
        """*line*: writes to the log of the job. Raises: Fenced: the execution is another server's by now."""
        action = self._actions.get(call.name)
        if action is None:
            return After(self._clock.now(), error=f"this server knows no action {call.name}")
        run = _Run(row.key, line, masker)
        arguments = {**call.arguments, OUTPUTS: dict(outputs)}
        async with asyncio.TaskGroup() as group:
            doing = group.create_task(_do(call.name, action, run, arguments))
            watching = group.create_task(self._stopping(row))
            await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
            done, asked = doing.done(), watching.done()
            doing.cancel()
            watching.cancel()
        if not self._engine.holds(row.owner):
            raise Fenced(row.key)
        if done:
            return After(self._clock.now(), error=doing.result(), outputs=run.left)
        return After(self._clock.now(), stopped=watching.result() if asked else "", outputs=run.left)

    async def _stopping(self, row: ExecutionRow) -> str:
        """Returns why the job is to stop, as soon as it is; ``""`` when it is ours no longer."""
        while self._engine.holds(row.owner):
            try:
                reason = await self._engine.db.read(_asked, row)
            except Unavailable:
                reason = ""
            if reason:
                return reason
            await self._engine.changed(row.task_id, LOOK_S)
        return ""


def _asked(tx: Tx, row: ExecutionRow) -> str:
    if tx.executions.get(row.key) is None:
        return "cancel"  # its end was told, only that was not heard here: nobody waits for an answer
    job = tx.tasks.job_by_id(row.job_id)
    if job is None:
        return "cancel"  # the task is no more
    return job.stopping if (job.attempt, job.recovery) == (row.attempt, row.recovery) else "cancel"


async def _do(name: str, action: Action, run: "_Run", arguments: Mapping[str, object]) -> str:
    """Returns why it failed, ``""`` when it did not."""
    try:
        await action(run, arguments)
    except (ActionFailed, CadorError, OSError) as error:
        return run.mask(str(error))
    except Exception as error:
        # The edge of one action: a mistake of ours ends this job, with the reason, and nothing else.
        told = run.mask(f"{type(error).__name__}: {error}")
        log.error("action_broke_off", key=run.key, action=name, error=told)
        return f"the action {name} broke off: {told}"
    return ""


class _Run:
    """See :class:`cador.ports.actions.ActionRun`."""

    def __init__(self, key: str, line: Callable[[str], None], masker: Masker) -> None:
        self.key = key
        self.left: dict[str, str] = {}
        self._line, self._masker = line, masker

    def line(self, text: str) -> None:
        self._line(self._masker.mask_text(text))

    def leave(self, name: str, value: str) -> None:
        self.left[name] = value

    def mask(self, text: str) -> str:
        return self._masker.mask_text(text)
