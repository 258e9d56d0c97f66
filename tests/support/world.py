"""A server without HTTP: real stores, real engine, real job types, on a clock and an executor of the test's choice.

``World.virtual`` runs on the virtual loop with the scripted executor and an inline database; ``World.real`` on the
host's clock with real processes. Both keep what survives a kill (tables, logs, blobs, what the executor holds), so
that ``kill`` and ``boot`` are a crash and a restart.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cador.engine.alone import Alone
from cador.engine.engine import Engine
from cador.engine.preparing import Catalogues, Preparer
from cador.engine.room import Limits
from cador.executors.scripted import Script, ScriptedExecutor, ScriptedWorld
from cador.executors.server import ServerExecutor
from cador.integrations.addresses import Rules
from cador.integrations.git_files import read_repository
from cador.integrations.git_refs import GitRefs
from cador.integrations.outgoing import HttpOutgoing
from cador.integrations.probes import RealProbes
from cador.integrations.sql import run_sql
from cador.integrations.tapd import Tapd
from cador.jobs.definition import normalise, parse_workflow
from cador.jobs.rules import check_workflow
from cador.jobs.types import load_types
from cador.operations import tasks
from cador.operations.actor import Actor
from cador.operations.callbacks import KIND as CALLBACK
from cador.operations.callbacks import CallbackCourier
from cador.operations.context import Context, Options
from cador.operations.manual_stages import execute_stage
from cador.operations.retrying import retry_task
from cador.operations.task_values import Ballot, Edits, ExecuteRequest, JobInput, RetryRequest, StartRequest, TaskDetail
from cador.ports.code_hosts import Resolved
from cador.ports.executor import Executor, JobFolder
from cador.ports.executor import Limits as JobLimits
from cador.ports.logs import LogName
from cador.ports.stores import Resource, Tx, User, WorkflowRow
from cador.storage.artifacts import collect
from cador.storage.blobs import LocalBlobs
from cador.storage.database import open_database
from cador.storage.logs import FileLogs
from cador.storage.sealing import AesSealer
from support.databases import new_sqlite
from support.git_server import GitServer
from support.inline_database import InlineDatabase

if TYPE_CHECKING:
    from cador.engine.housekeeping import Retention
    from cador.ports.actions import Action

PROJECT = "shop"
PEOPLE = ("admin", "ann", "ben", "cid", "eve")
DEADLINE_S = 60.0


class Ticking:
    """A clock port from a function."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now


async def _at_home(host: str, port: int) -> list[str]:
    """The one name that tests know: what they call is on this machine."""
    if host != "localhost":
        raise OSError("no test calls other machines")
    return ["127.0.0.1"]


async def _unresolved(repos: Sequence[Any], within_s: float) -> list[Resolved]:
    return [Resolved({}) for _ in repos]


class World:
    def __init__(self, folder: Path, db: Any, clock: Callable[[], float], executor: Executor) -> None:
        self.db, self.clock, self.executor = db, clock, executor
        self.folder = folder
        self.logs = FileLogs(folder / "logs", clock=clock)
        self.blobs = LocalBlobs(folder / "blobs")
        self.sealer = AesSealer(b"k" * 32)
        self.types = load_types()
        self.max_running_tasks = 50
        self.max_jobs = 50
        self.retention: Retention | None = None
        self.resolve: Any = _unresolved
        self.identities: Any = None
        self.outgoing: Any = HttpOutgoing(Rules.parse(["127.0.0.0/8"]), resolve=_at_home)
        self.scripted: ScriptedWorld | None = None
        self.scripts: dict[str, Script] = {}
        tapd = Tapd(self.outgoing)
        self.actions: dict[str, Action] = {"sql": run_sql, "tapd": tapd.run}
        self.probes = RealProbes(tapd, self.outgoing)
        self.installation = f"test{uuid.uuid4().hex[:8]}"
        self._stack: contextlib.AsyncExitStack | None = None
        self.boots = 0

    @classmethod
    async def virtual(cls, folder: Path, url: str = "") -> "World":
        loop = asyncio.get_running_loop()
        clock = loop.clock  # type: ignore[attr-defined]
        held = ScriptedWorld(clock)
        world = cls(folder, InlineDatabase(clock, url=url), clock, ScriptedExecutor(held))
        world.scripted = held
        await world.prepare()
        return world

    @classmethod
    async def real(cls, folder: Path, url: str = "") -> "World":
        import time

        db = await open_database(url or new_sqlite(folder / "cador.db"), pool=4)
        world = cls(folder, db, time.time, ScriptedExecutor(ScriptedWorld(time.time)))
        await world.prepare()
        return world

    async def _processes(self) -> Any:
        from cador.executors.process import ProcessExecutor

        executor = ProcessExecutor(root=self.folder / "jobs", installation=self.installation, stop_grace_s=1.0)
        await executor.open()
        return executor

    async def prepare(self) -> None:
        def fill(tx: Tx) -> None:
            for account in PEOPLE:
                tx.people.add_user(User(account, account, account.title(), admin=account == "admin"))
            project = {"project_key": PROJECT, "project_name": "The shop", "is_public": False, "description": ""}
            project |= {"project_type": "yaml", "deploy_type": "k8s"}
            tx.resources.add(Resource("project", "", PROJECT, project))

        await self.db.write(fill)

    # -- life

    async def boot(self) -> None:
        """Start a server process on what there is."""
        self.boots += 1
        if self.scripted is not None:
            self.executor = ScriptedExecutor(self.scripted, self._script if self.scripts else None)
        else:
            self.executor = await self._processes()
        self.server = ServerExecutor(self.actions, place=self.executor.place, clock=self.clock)
        catalogues, kept = Catalogues(), self.retention
        self.engine = Engine(
            peers=Alone(self.db),
            installation=self.installation,
            db=self.db,
            clock=Ticking(self.clock),
            logs=self.logs,
            blobs=self.blobs,
            executors={self.executor.name: self.executor, self.server.name: self.server},
            preparer=Preparer(
                types=self.types,
                sealer=self.sealer,
                catalogues=catalogues,
                collect=self._collect,
                default_executor=self.executor.name,
                host_limits=JobLimits(),
            ),
            limits=lambda: Limits(self.max_running_tasks, self.max_jobs),
            stop_grace_s=1.0,
            retention=None if kept is None else lambda: kept,
            couriers={CALLBACK: CallbackCourier(self.outgoing, self.sealer)},
            actions=self.actions,
        )
        self.ctx = Context(
            db=self.db,
            clock=Ticking(self.clock),
            sealer=self.sealer,
            logs=self.logs,
            blobs=self.blobs,
            types=self.types,
            engine=self.engine,
            catalogues=catalogues,
            resolve_commits=lambda repos, within_s: self.resolve(repos, within_s),
            read_repository=read_repository,
            outgoing=self.outgoing,
            probes=self.probes,
            identities=self.identities,
            options=lambda: Options(base_url="http://ci.example.com"),
        )
        self._stack = contextlib.AsyncExitStack()
        await self._stack.enter_async_context(self.engine.running())

    def _collect(self, workspace: Path, keeps: Any, prefix: str, max_bytes: int) -> tuple[tuple[str, ...], bool]:
        found = collect(workspace, keeps, prefix, max_bytes, blobs=self.blobs)
        return found.problems, found.failed

    def _script(self, key: str, job: JobFolder) -> Script | None:
        return self.scripts.get(job.env.get("TEST_JOB", ""))

    async def kill(self, *, jobs: bool = False) -> None:
        """The server process is gone; nothing it had in memory is left. *jobs*: nor are the processes of its jobs."""
        if self._stack is not None:
            stack, self._stack = self._stack, None
            await stack.aclose()
            await self.server.close()
            for key in await self.executor.existing() if jobs else ():
                await self.executor.remove(key, key)
            await self.executor.close()

    async def restart(self) -> None:
        await self.kill()
        await self.boot()

    async def close(self) -> None:
        await self.kill(jobs=self.scripted is None)
        await self.outgoing.aclose()
        await self.db.close()

    # -- doing

    def actor(self, account: str = "admin") -> Actor:
        return Actor(account, account.title(), account, admin=account == "admin")

    async def add(self, kind: str, name: str, document: Mapping[str, Any], *, system: bool = False) -> Resource:
        resource = Resource(kind, "" if system else PROJECT, name, document)
        return await self.db.write(lambda tx: tx.resources.add(resource))

    async def reach(self, server: GitServer) -> None:
        """Make *server* the code host ``code``, and ask it for commits when a task starts."""
        document = {"name": "code", "type": "other", "address": server.address, "private_access_token": server.token}
        await self.add("codehost", "code", document, system=True)
        self.resolve = GitRefs()

    async def define(self, document: Mapping[str, Any]) -> None:
        """Store a workflow definition, checked as the API does."""
        doc = normalise({"project": PROJECT, "concurrency_limit": -1, **document})
        workflow = parse_workflow(doc)
        check_workflow(workflow, self.types)
        row = WorkflowRow(
            workflow.key, PROJECT, workflow.display_name, workflow.type, workflow.concurrency_limit,
            workflow.disabled, msgspec.json.encode(doc).decode(), 1, "Admin", self.clock(), "Admin", self.clock(),
        )  # fmt: skip
        await self.db.write(lambda tx: tx.workflows.add(row))

    async def start(self, key: str, *, by: str = "admin", jobs: Sequence[str] | None = None, **request: Any) -> int:
        if "inputs" not in request:
            row = await self.db.read(lambda tx: tx.workflows.find(key))
            workflow = parse_workflow(msgspec.json.decode(row.definition)) if row else None
            names = [job.name for stage in workflow.stages for job in stage.jobs] if workflow else []
            request["inputs"] = tuple(JobInput(name) for name in (names if jobs is None else jobs))
        request["inputs"] = tuple(
            JobInput(**entry) if isinstance(entry, dict) else entry for entry in request["inputs"]
        )
        request["parameters"] = tuple(request.get("parameters", ()))
        started = await tasks.start_task(self.ctx, self.actor(by), StartRequest(key, PROJECT, **request))
        self.warnings = started.warnings
        return started.number

    async def approve(self, key: str, number: int, stage: str, *, by: str, approve: bool = True, comment: str = ""):
        await tasks.approve(self.ctx, self.actor(by), Ballot(key, number, stage, approve, comment))

    async def cancel(self, key: str, number: int, by: str = "admin") -> None:
        await tasks.cancel_task(self.ctx, self.actor(by), key, number)

    async def retry(self, key: str, number: int, by: str = "admin", **request: Any) -> None:
        """*request*: ``jobs``, ``from_job``; ``parameters`` by name, ``kv`` by job and key."""
        parameters = tuple({"name": name, "value": value} for name, value in request.pop("parameters", {}).items())
        edits = Edits(parameters, variables_of(request.pop("kv", {})))
        wish = RetryRequest(tuple(request.pop("jobs", ())), request.pop("from_job", ""), edits)
        assert not request, request
        await retry_task(self.ctx, self.actor(by), key, number, PROJECT, wish)

    async def execute(
        self, key: str, number: int, stage: str, by: str = "admin", *, jobs: Sequence[str] | None = None, **more: Any
    ) -> None:
        """*more*: ``kv`` by job and key."""
        request = ExecuteRequest(stage, None if jobs is None else tuple(jobs), variables_of(more.pop("kv", {})))
        assert not more, more
        await execute_stage(self.ctx, self.actor(by), key, number, PROJECT, request)

    async def decide(self, key: str, number: int, job: str, *, ignore: bool, by: str = "admin") -> None:
        await tasks.decide(self.ctx, self.actor(by), key, number, job, ignore=ignore)

    async def detail(self, key: str, number: int) -> TaskDetail:
        return await tasks.task_detail(self.ctx, self.actor(), key, number)

    async def until(
        self, key: str, number: int, reached: Callable[[TaskDetail], bool], *, within_s: float = DEADLINE_S
    ) -> TaskDetail:
        """Wait for a condition of the task; fails the test after *within_s* of the world's own time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while True:
            detail = await self.detail(key, number)
            if reached(detail):
                return detail
            left = deadline - loop.time()
            assert left > 0, f"{key}:{number} did not get there: {describe(detail)}"
            await self.engine.changed(detail.row.id, min(left, 0.25))

    async def done(self, key: str, number: int, *, within_s: float = DEADLINE_S) -> TaskDetail:
        """Wait until the task has ended and everything of it is down."""
        return await self.until(key, number, lambda d: d.row.end_at is not None, within_s=within_s)

    def has_files(self, key: str, number: int) -> bool:
        """Whether logs or artifacts of the task are there."""
        logs = (self.folder / "logs" / key / str(number)).exists()
        return logs or any(self.blobs.list(f"tasks/{key}/{number}"))

    def log(self, key: str, number: int, job: str, attempt: int = 1) -> str:
        name = LogName(key, number, job, attempt)
        return self.logs.read(name, 0, 1 << 24).data.decode() if self.logs.exists(name) else ""


def variables_of(given: Mapping[str, Mapping[str, str]]) -> tuple[JobInput, ...]:
    """Inputs of freestyle jobs from variables by job and key."""
    return tuple(
        JobInput(job, parameters={"kv": [{"key": key, "value": value} for key, value in variables.items()]})
        for job, variables in given.items()
    )


def describe(detail: TaskDetail) -> dict[str, Any]:
    """A task in a few words, for failures of tests."""
    return {
        "status": detail.row.status,
        "stages": [(stage.name, stage.status) for stage in detail.stages],
        "jobs": {job.row.name: (job.row.status, job.row.error) for stage in detail.stages for job in stage.jobs},
        "error": detail.row.error,
    }
