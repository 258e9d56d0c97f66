"""A whole server, and the commands that are one."""

import asyncio
import contextlib
import gc
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from cador import __version__
from cador.api.app import create_app
from cador.api.health import Check, database_check
from cador.api.internal import Internal
from cador.api.metrics import Metrics
from cador.api.routing import Limits as HttpLimits
from cador.bootstrap.http import Http
from cador.bootstrap.machine import (
    data_folder,
    home_of,
    job_user,
    jobs_root_of,
    known_token,
    listening,
    listening_inside,
    locked,
    raise_descriptor_limit,
    remove,
    url_of,
    write_private,
)
from cador.bootstrap.parts import (
    engine_limits,
    engine_turns,
    identities_of,
    installation_of,
    outgoing_of,
    peers_of,
    retention_of,
    same_key,
    shared_store_of,
)
from cador.bootstrap.server_log import configure_log
from cador.domain.errors import CadorError
from cador.engine.engine import Engine
from cador.engine.preparing import Catalogues, Preparer
from cador.executors.process import ProcessExecutor
from cador.executors.server import ServerExecutor
from cador.integrations.git_files import read_repository
from cador.integrations.git_refs import resolve_commits
from cador.integrations.probes import RealProbes
from cador.integrations.sonar import Sonar
from cador.integrations.sql import run_sql
from cador.integrations.tapd import Tapd
from cador.jobs.types import load_types
from cador.operations.callbacks import KIND as CALLBACK
from cador.operations.callbacks import CallbackCourier
from cador.operations.context import Context, Options
from cador.operations.first_start import bootstrap_data, stored_settings
from cador.operations.sessions import Sessions
from cador.ports.clock import SystemClock
from cador.ports.executor import Keep
from cador.ports.executor import Limits as JobLimits
from cador.ports.wire import Key
from cador.settings import Settings
from cador.storage.artifacts import collect
from cador.storage.database import kind_of, open_database
from cador.storage.database import migrate as migrate_tables
from cador.storage.disk import Disks
from cador.storage.sealing import AesSealer
from cador.storage.server_files import ServerFiles, server_files

log = structlog.get_logger(__name__)

DRAIN_S: Final = 5.0
"""How long jobs that the server itself carries out, and that may not be done twice, have at shutdown to come to their
end; after that they are broken off and fail with the reason."""
SWITCH_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers. ``token``: the administrator's, as far as it is known (a file of the data folder)."""

    url: str
    token: str


def serve(settings: Settings) -> int:
    """Run a server until SIGTERM or SIGINT. Returns the exit status; errors of a user's making are one line."""
    status = 0
    try:
        asyncio.run(_serve(settings))
    except* (CadorError, OSError) as group:  # what several parts ran into at once, too
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        print(f"cador: {error}", file=sys.stderr)  # noqa: T201 - the last word of a command
        status = 1
    except* KeyboardInterrupt:
        status = 130
    return status


def migrate(settings: Settings) -> int:
    """Bring the tables up to date without serving. Returns the exit status."""
    try:
        data = data_folder(settings.data)
        with locked(data):
            migrate_tables(settings.database or f"sqlite:///{data / 'cador.db'}")
    except CadorError as error:
        print(f"cador: {error}", file=sys.stderr)  # noqa: T201 - the last word of a command
        return 1
    return 0


async def _serve(settings: Settings) -> None:
    async with server(settings, signals=True) as running:
        log.info("serving", url=running.url, version=__version__, data=str(settings.data))
        await running.closed.wait()


@dataclass(frozen=True, slots=True)
class Serving(Running):
    closed: asyncio.Event


@contextlib.asynccontextmanager
async def server(settings: Settings, *, signals: bool = False) -> AsyncIterator[Serving]:
    """A whole server for the length of the block: it answers when the block begins, and leaves its jobs running when
    the block ends.

    Raises: CannotStart and other errors that say in one line what is wrong.
    """
    configure_log(settings)
    # A database thread gives the interpreter up at every statement and would wait 5 ms each time to get it back from a
    # busy event loop: ten statements, 50 ms.
    sys.setswitchinterval(SWITCH_S)
    soft_before = raise_descriptor_limit()
    async with contextlib.AsyncExitStack() as stack:
        data = data_folder(settings.data)
        stack.enter_context(locked(data))
        clock = SystemClock()
        sealer = AesSealer.from_base64(settings.key) if settings.key else AesSealer.from_file(data / "key")
        listener = stack.enter_context(listening(settings.listen, settings.address, "--listen"))
        url = url_of(listener)
        objects = shared_store_of(settings.store)
        database = await open_database(settings.database or f"sqlite:///{data / 'cador.db'}")
        stack.push_async_callback(database.close)
        installation = await database.write(installation_of)
        await database.write(same_key, sealer)
        process = settings.executors.process
        jobs_root = jobs_root_of(settings, data, installation)
        disks = Disks({"data folder": data, "jobs": jobs_root})
        executor = ProcessExecutor(
            root=jobs_root,
            installation=installation,
            user=job_user(settings),
            stop_grace_s=process.stop_grace_s,
            child_nofile=soft_before,
        )
        await executor.open()
        stack.push_async_callback(executor.close)
        several = kind_of(settings.database or "sqlite://") != "sqlite"
        key = Key(sealer.derive("between servers"))
        files = server_files(
            data,
            clock=clock.now,
            max_log_bytes=settings.log.max_bytes_per_job,
            db=database,
            home=home_of(data) if several else "",
            key=key,
            objects=objects,
        )
        await asyncio.to_thread(files.disk_blobs.remove_partial, clock.now())  # of writes that a crash cut off
        inner = stack.enter_context(listening_inside(settings)) if several else None
        outgoing = outgoing_of(settings)
        stack.push_async_callback(outgoing.aclose)
        tapd = Tapd(outgoing)
        actions = {"sql": run_sql, "tapd": tapd.run, "sonar": Sonar(outgoing).run}
        # Servers of one machine may have the folder of their jobs in common, but not what they do themselves.
        own = ServerExecutor(actions, place=":".join(filter(None, (executor.place, files.home))), clock=clock.now)
        stack.push_async_callback(own.close)
        types = load_types()
        catalogues = Catalogues()
        metrics = Metrics()

        def collected(
            workspace: Path, keeps: Sequence[Keep], prefix: str, max_bytes: int
        ) -> tuple[tuple[str, ...], bool]:
            found = collect(workspace, keeps, prefix, max_bytes, blobs=files.own_blobs)
            return found.problems, found.failed

        engine = Engine(
            peers=peers_of(
                settings, database, executor, settings.cluster.address or (url_of(inner) if inner else ""), files.home
            ),
            installation=installation,
            db=database,
            clock=clock,
            logs=files.own_logs,
            blobs=files.own_blobs,
            executors={executor.name: executor, own.name: own},
            actions=actions,
            preparer=Preparer(
                types=types,
                sealer=sealer,
                catalogues=catalogues,
                collect=collected,
                default_executor=executor.name,
                host_limits=JobLimits(process.cpu_limit_milli, process.memory_limit_bytes, process.pids_limit),
            ),
            limits=lambda: engine_limits(settings.engine),
            stop_grace_s=process.stop_grace_s,
            meter=metrics,
            home=files.home,
            retention=lambda: retention_of(settings),
            couriers={CALLBACK: CallbackCourier(outgoing, sealer)},
        )
        options = Options(
            base_url=(settings.base_url or url).rstrip("/"),
            language=settings.language,
            strict_inputs=settings.strict_inputs,
            max_jobs_per_stage=settings.engine.max_jobs_per_stage,
            resolve_commits_s=settings.engine.resolve_commits_s,
        )
        ctx = Context(
            db=database,
            clock=clock,
            sealer=sealer,
            logs=files.logs,
            blobs=files.blobs,
            types=types,
            engine=engine,
            catalogues=catalogues,
            resolve_commits=resolve_commits,
            read_repository=read_repository,
            options=lambda: options,
            outgoing=outgoing,
            identities=identities_of(settings.auth.oidc, outgoing),
            refuse_starts=disks.full,
            probes=RealProbes(tapd, outgoing),
        )
        token_file = data / "admin-token"
        made = await bootstrap_data(
            ctx,
            admin_token=settings.admin_token or None,
            admin_password=settings.admin_password or None,
            keep=lambda token: write_private(token_file, token + "\n"),
        )
        stored = await stored_settings(ctx)
        options = replace(
            options,
            base_url=(settings.base_url or stored.get("base_url") or url).rstrip("/"),
            language=stored.get("language", settings.language),
        )
        if made is not None:
            print(f"cador: the administrator's token is in {token_file}", file=sys.stderr)  # noqa: T201
        checks = [database_check(ctx), Check("engine", engine_turns(engine, clock)), Check("disk", disks.ask)]
        if files.uploads is not None:
            checks.append(Check("store", files.store_problem, needed=False))
            metrics.watch_store(files.uploads.figures)
        sessions = Sessions(ctx, session_s=settings.auth.session_hours * 3600.0)
        app = create_app(
            ctx,
            sessions=sessions,
            metrics=metrics,
            checks=checks,
            limits=HttpLimits(settings.max_body_bytes),
            access_log=settings.log.level == "debug",
        )
        http = Http(app, listener, signals=signals)
        between = None
        if inner is not None:
            shown = Internal(key=key, home=files.home, clock=clock.now, logs=files.disk_logs, blobs=files.disk_blobs)
            between = Http(shown, inner, signals=False)
        log.info("executor", name=executor.name, place=executor.place, containment=executor.containment_note())
        async with engine.running(), _answering(http, between, own, sessions, disks, files):
            note = data / "server.json"
            stack.callback(remove, note)
            write_private(note, json.dumps({"url": url, "pid": os.getpid(), "version": __version__}) + "\n")
            # What is there now stays: the collector need not look at it again, which would stop everything for 30 ms.
            gc.collect()
            gc.freeze()
            gc.enable()
            yield Serving(url, known_token(data, settings), http.closed)


@contextlib.asynccontextmanager
async def _answering(
    http: Http, between: Http | None, own: ServerExecutor, sessions: Sessions, disks: Disks, files: ServerFiles
) -> AsyncIterator[None]:
    """Answer for the length of the block, users and the other servers of the database; then come to an end within
    seconds. Told twice to stop, at once."""
    fronts = [front for front in (http, between) if front is not None]
    with http.told_by_signals():
        async with asyncio.TaskGroup() as group:
            serving = [group.create_task(front.run_until_told(), name="http") for front in fronts]
            watching = group.create_task(disks.watch(), name="disks")
            copying = group.create_task(files.keep(), name="files")
            for front in fronts:
                await front.answers.wait()
            try:
                yield
            finally:
                for front in fronts:
                    front.should_exit = True
                draining = group.create_task(own.drain(DRAIN_S), name="draining")
                hurried = group.create_task(_hurried(http, fronts), name="hurried")
                await asyncio.wait(serving)
                await asyncio.wait([draining, hurried], return_when=asyncio.FIRST_COMPLETED)
                hurried.cancel()
                if not draining.done():
                    draining.cancel()
                    await own.drain(0.0)
                with contextlib.suppress(CadorError):  # a database that is away keeps nobody from stopping
                    await sessions.write_uses()
                watching.cancel()
                await files.flush()
                copying.cancel()


async def _hurried(http: Http, fronts: Sequence[Http]) -> None:
    """Somebody said so twice."""
    await http.hurried.wait()
    for front in fronts:
        front.force_exit = True
