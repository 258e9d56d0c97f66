"""Executors: where the processes of a job run. One contract suite (``tests/contracts``) runs against all of them."""

from collections.abc import AsyncIterator, Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from cador.ports.actions import ActionCall


@dataclass(frozen=True, slots=True)
class FolderStep:
    """One step of a job: a program text that runs in the job's workspace.

    ``name``: shown in marks and log lines. ``interpreter``: argument list the file of *text* is appended to,
    ``("bash",)`` for scripts of users, ``("/bin/sh",)`` for our own glue. ``on_failure``: runs although an earlier
    step failed, and after a time-out. ``tolerate``: a failure is told in the log and changes nothing else.
    ``outputs``: names of shell variables of the script that are written to the results folder when it ends,
    by an exit trap, values verbatim. ``quiet``: no start and end line in the log.
    """

    name: str
    type: str
    text: str
    interpreter: tuple[str, ...] = ("bash",)
    on_failure: bool = False
    tolerate: bool = False
    outputs: tuple[str, ...] = ()
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Keep:
    """Files of the workspace that the server collects into the blob store when the job has ended.

    *path*: file or folder below the workspace (a trailing ``/`` or a folder means all below it); *prefix*: where
    they go, relative to the job task's artifacts. ``required``: nothing there is an error of the job.
    ``on_failure``: also when the job failed or timed out.
    """

    path: str
    prefix: str
    required: bool = False
    on_failure: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Resources of one job; 0 is no limit. ``cpu_milli``: thousandths of a core; ``memory_bytes``; ``pids``."""

    cpu_milli: int = 0
    memory_bytes: int = 0
    pids: int = 0


@dataclass(frozen=True, slots=True)
class JobFolder:
    """A job compiled to what every executor can run: the same folder on a host, in a container, in a pod.

    ``env``: the whole environment of the steps besides what the executor itself sets (``PATH``, ``HOME``,
    ``WORKSPACE``, ``RESULTS_DIR``, ``TMPDIR``). ``secrets``: values that are masked in every line before it is
    stored. ``outputs``: declared names; files ``$RESULTS_DIR/<name>`` are read at the end. ``files``: path below the
    private folder ``$CADOR_JOB_DIR/files`` -> content (credentials, JSON for ``cador step``), mode 0600.
    ``image``: ignored by the process executor. ``report_s``: time that ``on_failure`` steps have after a time-out.
    ``action``: what the executor ``server`` does; there are no steps then, and no other executor gets the folder.
    ``after``: what the server does when the steps have passed, as part of the job; no executor looks at it.
    """

    steps: tuple[FolderStep, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    keep: tuple[Keep, ...] = ()
    image: str = ""
    limits: Limits = Limits()
    report_s: float = 60.0
    action: ActionCall | None = None
    after: ActionCall | None = None


class StepState(StrEnum):
    IDLE = ""
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Output:
    """Raw bytes a job wrote (stdout and stderr merged, in order), starting at *offset* of its output."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StepMark:
    """Step *index* changed its state. ``at``: Unix seconds; ``exit_code``: of an ended step."""

    index: int
    state: StepState
    at: float
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class End:
    """The job is over and nothing of it runs any more.

    ``exit_code``: 0 passed, else the code of the first failed step; None when it is unknown (the executor or the host
    died). ``stopped``: ``cancel`` or ``timeout`` when *stop* ended it, else ``""``. ``at``: Unix seconds of the real
    end, also when it is heard much later. ``reason``: one line for people, for ends that no exit code explains.
    """

    exit_code: int | None
    at: float
    stopped: str = ""
    failed_step: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Harvest:
    """What an ended job leaves: ``outputs``: values by name (leading and trailing newlines trimmed); ``problems``:
    lines for the job's error (an output over its limit, ...); ``workspace``: folder on this host for collecting
    artifacts, None where the executor copied them elsewhere."""

    outputs: Mapping[str, str]
    problems: tuple[str, ...] = ()
    workspace: Path | None = None


class Gone(Exception):
    """Nothing of that key exists here: it never started, or it was removed. A job may be run again only after this."""


class Unreachable(Exception):
    """The place cannot be asked right now: the job is *unknown*, never *gone*."""


class StartRefused(Exception):
    """The job cannot be started here, now or later; ``str()`` is the reason for the user."""


class Executor(Protocol):
    """Runs job folders. All calls may be repeated and may come from another server process than the one that started.

    Jobs run concurrently and share nothing but what ``env`` names. A *key* names one execution for ever: letters,
    digits, ``-`` and ``.``; never used again. Everything is found by key; a *ref* only makes finding quicker.
    """

    name: str
    """Word in settings and rows: ``process``, ``docker``, ``kubernetes``, ``server``, ``scripted``."""

    @property
    def place(self) -> str:
        """Which host and boot (or which cluster) holds the executions made here; others must not adopt them."""

    async def start(self, key: str, job: JobFolder) -> str:
        """Start *job*, or find that it was started before; return its ref.

        Repeated after a crash at any instruction it leaves exactly one run. After ``stop`` or ``remove`` of the key
        it starts nothing and the follower hears an end with ``stopped="cancel"``.

        Raises: StartRefused: it can never start here. OSError and Unreachable: try again.
        """

    def follow(self, key: str, ref: str, after: int) -> AsyncIterator[Output | StepMark | End]:
        """Yield output from raw offset *after*, marks of all steps so far and to come, and at last one End.

        Wakes by events, not by polling. Cancelling the iteration leaves the job alone. Output up to the end comes
        before End, a last line without newline included.

        Raises: Gone, Unreachable.
        """

    async def stop(self, key: str, ref: str, reason: str, grace_s: float) -> None:
        """End the job: ask, wait *grace_s*, kill; no process is left when the follower hears the End.

        *reason* ``cancel``: nothing further runs. ``timeout``: the running step is ended, then the ``on_failure``
        steps run within ``report_s``. Returns when the end is under way; no error when it is over or never started.
        """

    async def harvest(self, key: str, ref: str) -> Harvest:
        """Read what an ended job left. Raises: Gone."""

    def consumed(self, key: str, upto: int) -> None:
        """Output below raw offset *upto* is stored safely; its space may be given back."""

    async def remove(self, key: str, ref: str) -> None:
        """Remove all that is left of an ended job. A tombstone keeps the key from ever starting again."""

    async def sweep(self, unwanted: Set[str]) -> Set[str]:
        """Kill and remove *unwanted* ones; return those that were here.

        They are named one by one: the caller takes them from :meth:`existing`, asks afterwards which of them are
        wanted, and whatever began since then is not among them.
        """

    async def existing(self) -> Set[str]:
        """Keys of all that exists of this installation here, running or ended."""

    async def close(self) -> None:
        """Let go of descriptors and watchers. Jobs run on."""
