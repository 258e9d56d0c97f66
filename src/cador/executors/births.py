"""How an execution begins: its folder, what holds it, its driver.

A start makes the folder and then looks for a tombstone; who stops what has no folder leaves a tombstone and then looks
for the folder. So one of the two meets the other.
"""

import errno
from typing import Final

from cador.executors.driver import shell
from cador.executors.files import remove_tree
from cador.executors.job_folder import Owner, Record
from cador.executors.machine import Machine
from cador.executors.placement import Containment, Placement
from cador.executors.running import Driver
from cador.executors.spawner import Spawner, Wanted
from cador.ports.executor import JobFolder, Limits, StartRefused

MOST_PROCESSES: Final = 8192
"""Processes of all jobs together that run as another account than the server."""


class Births:
    """*owner*: whom jobs run as, None: as the server does. *nofile*: soft and hard RLIMIT_NOFILE of jobs."""

    def __init__(self, machine: Machine, owner: Owner | None, nofile: tuple[int, int] | None) -> None:
        self._machine, self._owner, self._nofile = machine, owner, nofile
        self._folders, self._hands = machine.folders, machine.hands
        self._spawner = Spawner()

    def close(self) -> None:
        """End the process that starts drivers for good. Blocking."""
        self._spawner.close()

    async def fresh(self, key: str, job: JobFolder) -> tuple[Record, Driver] | None:
        """As :meth:`anew` for a key nobody has seen, which costs no thread: the process that starts drivers makes the
        folder, too. None: not begun, or not as far as is known, and :meth:`anew` must look what there is."""
        if self._folders.exists(key) or self._folders.tombstone(key):
            return None
        environment = self._folders.environment(key, job)
        new = self._folders.new(key)
        acts = self._folders.acts(new, job, self._machine.holder.name)
        if job.limits == Limits():
            born = self._machine.holder.born(key)
            if born is None:
                return None
            held, placement = born
        else:
            held, placement = [], await self._machine.blocking(self._place, self._machine.holder, key, job.limits)
        wanted = self._wanted_driver(key, job, environment, placement)
        acts += [("move", new, self._folders.place(key)), *held, ("absent", self._folders.tombstone_path(key))]
        try:
            answer = await self._hands.ask(acts, wanted)
        except OSError:
            return None
        if answer.driver is not None:
            return self._folders.new_record(job, self._machine.holder.name), answer.driver
        await self._machine.blocking(remove_tree, new)
        return None

    @staticmethod
    def _place(holder: Containment, key: str, limits: Limits) -> Placement:
        """Raises: StartRefused: this machine cannot set the limits."""
        try:
            return holder.place(key, limits)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ERANGE):
                raise StartRefused(f"the limits of the job cannot be set here: {limits}") from error
            raise

    def explain(self, key: str, driver: Driver) -> None:
        """A driver did not begin: because a stop or a removal came first, or because it could not. Raises: OSError."""
        if self._folders.tombstone(key) or self._folders.stop(key) or not self._folders.exists(key):
            return
        content = self._folders.content(key, "output", 2000)  # where a shell complains of what it reads
        told = content[0].decode("utf-8", "replace").strip() if content else ""
        raise OSError(driver.reason() or told or "the first process of the job ended before it began")

    def anew(self, key: str, job: JobFolder) -> tuple[Record, Driver] | None:
        """Blocking. Returns the record and a fresh driver; None: there is nothing to start."""
        if self._refused(key):
            return None
        environment = self._folders.environment(key, job)  # may refuse: before anything is made
        if not self._folders.exists(key):
            self._write(key, job)
        elif self._folders.has_started(key):
            return None
        record = self._folders.record(key)
        if record is None or record.boot != self._machine.boot:  # never started, and maybe torn by a power failure
            with self._folders.alone():  # so that nobody takes away the folder another server has just renewed
                record = self._folders.record(key)
                if record is None or record.boot != self._machine.boot:
                    self._folders.remove(key)
                    self._write(key, job)
                    record = self._folders.record(key)
        if record is None or self._refused(key):
            return None
        try:
            return record, self._spawn(key, job, record, environment)
        except OSError:
            if self._folders.has_started(key):  # by another server, which may even have cleared up already
                return None
            raise

    def _refused(self, key: str) -> bool:
        if not self._folders.tombstone(key):
            return False
        self._folders.bury(key, "refused")
        return True

    def _write(self, key: str, job: JobFolder) -> None:
        self._folders.write(key, job, self._machine.holder.name)

    def _spawn(self, key: str, job: JobFolder, record: Record, environment: dict[str, str]) -> Driver:
        placement = self._place(self._machine.holder_of(record), key, job.limits)
        return self._spawner.spawn(self._wanted_driver(key, job, environment, placement))

    def _wanted_driver(self, key: str, job: JobFolder, environment: dict[str, str], placement: Placement) -> Wanted:
        folder = self._folders.place(key)
        return Wanted(
            [shell(job.env), f"{folder}/run"],
            environment,
            cwd=f"{folder}/workspace",
            output=f"{folder}/output",
            owner=(self._owner.uid, self._owner.gid, self._owner.groups) if self._owner else None,
            cgroup=placement.cgroup,
            procs=placement.procs,
            new_pid=placement.new_pid,
            nofile=self._nofile,
            # Costs nothing and keeps a fork bomb of the job's account from taking the host down.
            nproc=placement.nproc or (MOST_PROCESSES if self._owner else 0),
        )
