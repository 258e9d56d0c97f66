"""From a stored job task to what an executor runs, and from its end to what it means. Reads in one transaction, decides
on values; secrets are opened here and live no longer than the execution is followed."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from cador.domain import events as ev
from cador.domain.errors import CadorError, Invalid
from cador.domain.masking import Masker
from cador.domain.task import JOB_FINAL, JobStatus, TaskStatus, WorkflowTask
from cador.domain.variables import JobFacts, Lookup, bounded, job_variables, may_run, render, render_text
from cador.domain.workflow import ExecutePolicy
from cador.jobs.base import Catalogue, CodeHostAccess, Conclusion, JobType, Run
from cador.jobs.server import seen_by
from cador.ports.actions import SERVER
from cador.ports.blobs import BlobStore
from cador.ports.executor import End, Executor, Harvest, JobFolder, Keep, Limits
from cador.ports.logs import LogName
from cador.ports.sealing import Sealer
from cador.ports.stores import ExecutionRow, JobRow, TaskRow, Tx, brief

FACTS: Final = "cador."
"""Outputs whose names begin so are for the server: they are judged by the job type and never published."""
_SNAPSHOTS: Final = 256


class Collect(Protocol):
    """Copies what a job leaves into the blob store; blocking, called in a thread."""

    def __call__(
        self, workspace: Path, keeps: Sequence[Keep], prefix: str, max_bytes: int
    ) -> tuple[tuple[str, ...], bool]:
        """Returns problems, one line each, and whether they fail the job. Links and devices are refused; nothing
        outside *workspace* is read."""


class Catalogues:
    """The catalogue of each project at the newest version, read again only when any resource changed."""

    def __init__(self) -> None:
        self._known: dict[str, Catalogue] = {}

    def load(self, tx: Tx, project: str) -> Catalogue:
        version = tx.resources.version()
        known = self._known.get(project)
        if known is None or known.version != version:
            found = [one for one in tx.resources.of_project(project) if one.kind != "codehost" or seen_by(one, project)]
            known = self._known[project] = Catalogue(project, found, version)
        return known


@dataclass(frozen=True, slots=True)
class Loaded:
    job: JobRow
    task: TaskRow
    snapshot: Mapping[str, Any]
    earlier: tuple[JobFacts, ...]
    catalogue: Catalogue

    def awaits(self, attempt: int, recovery: int) -> bool:
        """Whether the job still waits for this very start."""
        job = self.job
        return job.status == JobStatus.PREPARE and (job.attempt, job.recovery) == (attempt, recovery)


@dataclass(frozen=True, slots=True)
class Prepared:
    """``spec``: the rendered plan of the job type, secrets in clear: never stored, never logged."""

    type: JobType
    spec: Mapping[str, Any]
    folder: JobFolder
    log_name: LogName
    executor: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class After:
    """What became of an action that a job asks for when its processes have passed. *at*: Unix seconds of its end;
    *stopped*: ``cancel`` or ``timeout`` when it was broken off; *error*: why it failed; *outputs*: what it left."""

    at: float = 0.0
    stopped: str = ""
    error: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)


Afterwards = Callable[[Mapping[str, str]], Awaitable[After]]
"""Does what a job asks the server for when its processes have passed; gets what they wrote."""


@dataclass(frozen=True, slots=True)
class Concluded:
    """*at*: when the job ended."""

    at: float
    result: ev.Result
    error: str
    outputs: Mapping[str, str]
    facts: Mapping[str, Any]
    lines: tuple[str, ...]


class Preparer:
    """Stateless but for two memos: catalogues by version, and snapshots by task and number of edits."""

    def __init__(
        self,
        *,
        types: Mapping[str, JobType],
        sealer: Sealer,
        catalogues: Catalogues,
        collect: Collect,
        default_executor: str,
        host_limits: Limits | None = None,
    ) -> None:
        """*host_limits*: what jobs may use of a host they share with others (processes), in place of the resource
        levels of their definitions, which are meant for containers."""
        self._host_limits = host_limits
        self._types = types
        self._sealer = sealer
        self._catalogues = catalogues
        self._collect = collect
        self._default_executor = default_executor
        self._snapshots: dict[tuple[int, int], Mapping[str, Any]] = {}

    @brief
    def load(self, tx: Tx, task_id: int, job_id: int) -> Loaded | None:
        """Everything the start of one job task needs, on one snapshot of the database. None: there is no such job."""
        job = tx.tasks.job_by_id(job_id)
        if job is None:
            return None
        task = tx.tasks.row(task_id)
        # Only looked up here: what this transaction reads may be its own, and be taken back with it.
        snapshot = self._snapshots.get((task_id, task.edits))
        if snapshot is None:
            snapshot = tx.tasks.snapshot(task_id)
        earlier: tuple[JobFacts, ...] = ()
        if job.plan.get("late"):
            earlier = tuple(
                JobFacts(row.key, row.job, row.status if row.end_at is not None else "", row.start_at, row.outputs)
                for row in tx.tasks.jobs(task_id, plans=False)
            )
        return Loaded(job, task, snapshot, earlier, self._catalogues.load(tx, task.project))

    def prepare(self, loaded: Loaded, *, begun: bool = False) -> Prepared | None:
        """Render and compile what is committed. None: the execute policy says that the job does not run; it is not
        asked about a job that has *begun*.

        Raises: Invalid: the job cannot run, with the reason for the user: no secret is in it.
        """
        self._remember(loaded)
        opener = _Opener(self._sealer)
        try:
            return self._prepare(loaded, opener, begun=begun)
        except CadorError as error:
            raise Invalid(Masker(opener.secrets()).mask_text(str(error))) from None

    def _remember(self, loaded: Loaded) -> None:
        key = loaded.task.id, loaded.task.edits
        if key not in self._snapshots and len(self._snapshots) >= _SNAPSHOTS:
            self._snapshots.clear()
        self._snapshots[key] = loaded.snapshot

    def _prepare(self, loaded: Loaded, opener: "_Opener", *, begun: bool) -> Prepared | None:
        job, task, snapshot = loaded.job, loaded.task, loaded.snapshot
        lookup = _lookup(loaded, opener)
        if not begun and not _allows(loaded, lookup):
            return None
        spec, unresolved = render(job.plan["spec"], lookup, final=True)
        job_type = self._types.get(job.type)
        if job_type is None:
            raise Invalid("job type not supported")
        run = Run(
            workflow=task.workflow_key,
            project=task.project,
            number=task.number,
            job_task=job.name,
            task_url=str(snapshot.get("task_url", "")),
            params={
                name: opener.open(value) if self._sealer.is_sealed(value) else render_text(value, lookup, final=True)
                for name, value in snapshot.get("env", {}).items()
            },
            open=opener.open,
            codehost=lambda ident: _access(loaded.catalogue, ident, opener),
            secrets=opener.secrets,
            resource=lambda kind, ident: loaded.catalogue.by_id(kind, ident) or loaded.catalogue.find(kind, ident),
        )
        for value in snapshot.get("secret_variables", {}).values():
            opener.open(value)
        folder = job_type.compile(spec, run)
        if self._host_limits is not None:
            folder = replace(folder, limits=self._host_limits)
        return Prepared(
            job_type,
            spec,
            folder,
            LogName(task.workflow_key, task.number, job.name, job.attempt),
            SERVER if folder.action is not None else self._default_executor,
            tuple(str(reference) for reference in unresolved),
        )

    def allows(self, loaded: Loaded) -> bool:
        """What the execute policy of a job says that is not prepared: of an approval."""
        return _allows(loaded, _lookup(loaded, _Opener(self._sealer)))

    def renew(self, tx: Tx, before: WorkflowTask, after: WorkflowTask) -> None:
        """Name what a retry makes anew after the time of the retry (image tags)."""
        ended = {job.id for job in before.jobs if job.status in JOB_FINAL}
        again = {
            job.id
            for job in after.jobs
            if job.status not in JOB_FINAL and (after.status is TaskStatus.WAITING or job.id in ended)
        }
        local_time = datetime.fromtimestamp(tx.now).astimezone().strftime("%Y%m%d%H%M%S")
        for job in tx.tasks.jobs(after.id):
            job_type = self._types.get(job.type)
            if job.id in again and job_type is not None:
                spec = job_type.renew(job.plan["spec"], local_time)
                if spec != job.plan["spec"]:
                    tx.tasks.set_plan(job.id, {**job.plan, "spec": spec})

    async def conclude(
        self,
        executor: Executor,
        row: ExecutionRow,
        prepared: Prepared,
        end: End,
        blobs: BlobStore,
        max_artifact_bytes: int,
        *,
        afterwards: Afterwards | None = None,
        adopted: bool = False,
        need: Callable[[], None] = lambda: None,
    ) -> Concluded:
        """Collect what the job left, do what it asks of the server, and say what its end means. *need*: raises when the
        execution is another server's by now, whose artifacts must not be touched."""
        harvest = await executor.harvest(row.key, row.ref)
        passed = end.exit_code == 0 and not end.stopped
        after = After()
        if passed and prepared.folder.after is not None and afterwards is not None:
            after = await afterwards(harvest.outputs)
            end = replace(end, at=max(end.at, after.at), stopped=after.stopped)
            harvest = replace(harvest, outputs={**harvest.outputs, **after.outputs})
            passed = not after.stopped and not after.error
        name = prepared.log_name
        prefix = f"tasks/{name.workflow}/{name.task}/{name.job}"
        keeps = tuple(keep for keep in prepared.folder.keep if passed or keep.on_failure)
        problems = [*filter(None, [after.error]), *harvest.problems]
        failed = bool(problems)
        if keeps:  # what an attempt before this one left is none of it, also when nothing takes its place
            need()
            await asyncio.to_thread(blobs.delete, prefix)
        if keeps and harvest.workspace is not None and end.stopped != "cancel":
            told, missing = await asyncio.to_thread(self._collect, harvest.workspace, keeps, prefix, max_artifact_bytes)
            problems += told
            failed = failed or missing
        collected = _Collected(blobs, prefix)
        if keeps:
            conclusion = await asyncio.to_thread(
                prepared.type.conclude, prepared.spec, harvest.outputs, passed, collected
            )
        else:
            conclusion = prepared.type.conclude(prepared.spec, harvest.outputs, passed, collected)
        for path, content in conclusion.files.items():
            try:
                await asyncio.to_thread(blobs.put_bytes, f"{prefix}/{path}", content)
            except Invalid as error:  # the job left something else under that name
                problems.append(str(error))
                failed = True
        return _verdict(end, prepared, harvest, conclusion, problems, failed=failed, adopted=adopted)


def _verdict(
    end: End,
    prepared: Prepared,
    harvest: Harvest,
    conclusion: Conclusion,
    problems: Sequence[str],
    *,
    failed: bool,
    adopted: bool,
) -> Concluded:
    outputs = {name: value for name, value in harvest.outputs.items() if not name.startswith(FACTS)}
    lines = [*problems, *conclusion.lines]
    error = ""
    if end.stopped:
        result = ev.Result.CANCELLED if end.stopped == "cancel" else ev.Result.TIMEOUT
    elif end.exit_code is None:
        # Watched all the time it is known to have been killed; found so after a restart nobody knows.
        result = ev.Result.LOST if adopted else ev.Result.FAILED
        error = "" if adopted else end.reason or "the job's process was killed"
    elif end.exit_code != 0:
        result, error = ev.Result.FAILED, conclusion.error or _exit_text(end, prepared.folder)
    elif failed or conclusion.error:
        result, error = ev.Result.FAILED, conclusion.error or problems[0]
    else:
        result = ev.Result.PASSED
    if error and error not in lines:
        lines.append(error)
    withheld = conclusion.only_if_passed and result is not ev.Result.PASSED
    published = {} if withheld else {**outputs, **conclusion.outputs}
    return Concluded(end.at, result, error, published, conclusion.result, tuple(lines))


def _exit_text(end: End, folder: JobFolder) -> str:
    text = end.reason or f"exit status {end.exit_code}"
    if end.failed_step is not None and 0 <= end.failed_step < len(folder.steps) and len(folder.steps) > 1:
        return f"step {folder.steps[end.failed_step].name}: {text}"
    return text


def _lookup(loaded: Loaded, opener: "_Opener") -> Lookup:
    """Values of references at the start of a job: what earlier jobs made, and credentials."""
    table = job_variables(loaded.earlier)
    secret = loaded.snapshot.get("secret_variables", {})
    return bounded(lambda path: opener.open(secret[path]) if path in secret else table.get(path))


def _allows(loaded: Loaded, lookup: Lookup) -> bool:
    if loaded.job.plan.get("run_policy") == "skip":
        return False  # left out by who executed its stage
    policy = _policy(loaded.job.plan.get("policy"))
    return may_run(policy, lambda text: render_text(text, lookup, final=True))


def _policy(doc: Mapping[str, Any] | None) -> ExecutePolicy:
    if not doc:
        return ExecutePolicy()
    rules = tuple((str(rule[0]), str(rule[1]), str(rule[2])) for rule in doc["rules"])
    return ExecutePolicy(doc["type"], doc["match_rule"], rules)


class _Opener:
    """Opens sealed texts and remembers what it opened."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._opened: dict[str, None] = {}

    def open(self, text: str) -> str:
        if not self._sealer.is_sealed(text):
            return text
        value = self._sealer.open(text)
        self._opened[value] = None
        return value

    def secrets(self) -> tuple[str, ...]:
        return tuple(value for value in self._opened if value)


def _access(catalogue: Catalogue, ident: int, opener: _Opener) -> CodeHostAccess | None:
    return code_host_access(catalogue, ident, opener.open)


def code_host_access(catalogue: Catalogue, ident: int, open_: Callable[[str], str]) -> CodeHostAccess | None:
    """A code host of *catalogue* with its credentials opened."""
    resource = catalogue.by_id("codehost", ident)
    if resource is None:
        return None
    doc = resource.document

    def secret(*names: str) -> str:
        return next((open_(str(doc[name])) for name in names if doc.get(name)), "")

    return CodeHostAccess(
        id=resource.id,
        type=str(doc.get("type", "other")),
        address=str(doc.get("address", "")),
        token=secret("access_token", "private_access_token"),
        username=str(doc.get("username", "")),
        password=secret("password"),
        ssh_key=secret("ssh_key"),
        auth_type=str(doc.get("auth_type", "")),
        disable_ssl=bool(doc.get("disable_ssl", False)),
        known_hosts=str(doc.get("known_hosts", "")),
    )


@dataclass(frozen=True, slots=True)
class _Collected:
    """The artifacts of one job task as its type sees them."""

    blobs: BlobStore
    prefix: str

    def names(self, prefix: str) -> list[str]:
        skip = len(self.prefix) + 1
        return [blob.key[skip:] for blob in self.blobs.list(f"{self.prefix}/{prefix}".rstrip("/"))]

    def open(self, name: str, most: int) -> bytes:
        return self.blobs.read(f"{self.prefix}/{name}", 0, most)
