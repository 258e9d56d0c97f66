"""What follows the end of an execution: nothing of it runs, nothing holds it, nothing of it lies about."""

from typing import Final

from cador.executors.files import remove_tree
from cador.executors.machine import Machine
from cador.executors.running import Run
from cador.ports.executor import Limits

_LET_GO_S: Final = 0.01
"""How long the process that starts drivers waits for what it ends; what takes longer is done by a thread."""
_FEW: Final = 200
"""Files and folders of a job that it removes; more take a thread."""
_MOVED: Final = 2
"""Acts of a removal after which the key is gone."""


class Clearing:
    def __init__(self, machine: Machine) -> None:
        self._machine, self._folders, self._hands = machine, machine.folders, machine.hands

    async def clear(self, run: Run) -> None:
        """End what a dead driver left running, free what held it, forget its secrets. Raises: OSError."""
        if not await self._clear_quickly(run):
            run.reason = await self._machine.blocking(self._clear, run)

    async def remove(self, key: str, run: Run | None) -> None:
        """Remove all of *key*, whatever it is at. Raises: OSError."""
        if not await self._remove_quickly(key, run):
            await self._machine.blocking(self._remove, key, run)

    def existing(self) -> set[str]:
        """Keys of all that is here. Blocking."""
        keys = self._folders.keys()
        for holder in self._machine.holders.values():
            keys |= holder.keys()
        return keys

    async def _clear_quickly(self, run: Run) -> bool:
        """As :meth:`_clear`, where that is little: no thread for it. False: it is more, or nothing is known of it."""
        gone = run.holder.gone(run.key, _LET_GO_S) if run.record.limits == Limits() else None
        if gone is None:
            return False
        try:
            answer = await self._hands.ask([*gone, *self._folders.forgetting(run.key, _FEW)])
        except OSError:
            return False
        run.cleared = answer.error is None
        return run.cleared

    def _clear(self, run: Run) -> str:
        run.holder.kill(run.key, None if run.holder.name != "tree" else run.pid)
        reason = run.holder.forget(run.key, limited=run.record.limits != Limits())
        self._folders.forget_secrets(run.key)
        run.cleared = True
        return reason

    async def _remove_quickly(self, key: str, run: Run | None) -> bool:
        """As :meth:`_remove`, where that is little: no thread for it. False: it is more, or nothing is known of it."""
        if run is None or not run.cleared or run.holder.left(key):
            return False
        away = self._folders.away(key)
        try:
            answer = await self._hands.ask(self._folders.removal(key, away, _FEW))
        except OSError:
            return False
        if answer.done == _MOVED:  # all but what takes long
            await self._machine.blocking(remove_tree, away)
            return True
        return answer.error is None

    def _remove(self, key: str, run: Run | None) -> None:
        self._folders.bury_removed(key)
        if run is None or not run.cleared or run.holder.left(key):
            self._end_all(key)
        self._folders.remove(key)

    def _end_all(self, key: str) -> None:
        """End whatever runs of *key*, by any means it may have been started under."""
        record, started = self._folders.record(key), self._folders.started(key)
        holders = [self._machine.holder_of(record)] if record else list(self._machine.holders.values())
        for holder in holders:
            driver = self._machine.living(key, record, started) if record and started else None
            try:
                holder.kill(key, driver.pid if driver is not None else None)
            finally:
                if driver is not None:
                    driver.close()
            holder.forget(key)
