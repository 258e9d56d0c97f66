"""Puts a server together: the one module that names concrete classes and reads settings."""

import asyncio
import contextlib
import fcntl
import gc
import io
import json
import os
import pwd
import re
import resource
import signal
import socket
import stat
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TextIO
from urllib.parse import urlsplit

import structlog
import uvicorn

from cador import __version__
from cador.api.app import create_app
from cador.api.connections import GuardedConnection
from cador.api.health import Check, database_check
from cador.api.internal import Internal
from cador.api.metrics import Metrics
from cador.api.routing import Limits as HttpLimits
from cador.domain.errors import CadorError
from cador.engine.alone import Alone
from cador.engine.engine import Engine, Limits
from cador.engine.housekeeping import Retention
from cador.engine.preparing import Catalogues, Preparer
from cador.executors.process import ProcessExecutor
from cador.executors.server import ServerExecutor
from cador.integrations.addresses import Rules
from cador.integrations.git_files import read_repository
from cador.integrations.git_refs import resolve_commits
from cador.integrations.openid import OpenIdProvider, OpenIdSettings
from cador.integrations.outgoing import HttpOutgoing, OutgoingLimits
from cador.integrations.probes import RealProbes
from cador.integrations.sonar import Sonar
from cador.integrations.sql import run_sql
from cador.integrations.tapd import Tapd
from cador.jobs.types import load_types
from cador.operations.callbacks import KIND as CALLBACK
from cador.operations.callbacks import CallbackCourier
from cador.operations.context import Context, Options
from cador.operations.first_start import bootstrap_data, stored_settings
from cador.operations.oidc import Admission, Identities
from cador.operations.sessions import Sessions
from cador.ports.clock import SystemClock
from cador.ports.executor import Keep
from cador.ports.executor import Limits as JobLimits
from cador.ports.peers import Peers
from cador.ports.stores import Tx
from cador.ports.wire import Key
from cador.settings import EngineSettings, OidcSettings, Settings, split_address
from cador.storage.artifacts import collect
from cador.storage.database import OpenDatabase, kind_of, open_database
from cador.storage.database import migrate as migrate_tables
from cador.storage.disk import Disks
from cador.storage.folders import UNFINISHED
from cador.storage.objects import open_objects
from cador.storage.sealing import AesSealer
from cador.storage.server_files import server_files

log = structlog.get_logger(__name__)

GRACE_S: Final = 3
"""How long open requests have at shutdown; log streams are cut then and resumed by their readers."""
DRAIN_S: Final = 5.0
"""How long jobs that the server itself carries out, and that may not be done twice, have at shutdown to come to their
end; after that they are broken off and fail with the reason."""
STALLED_S: Final = 30.0
SWITCH_S: Final = 0.001


class CannotStart(CadorError):
    """The server cannot start here; one line that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers. ``token``: the administrator's, as far as it is known (a file of the data folder)."""

    url: str
    token: str


def serve(settings: Settings) -> int:
    """Run a server until SIGTERM or SIGINT. Returns the exit status; errors of a user's making are one line."""
    try:
        asyncio.run(_serve(settings))
    except CadorError as error:
        print(f"cador: {error}", file=sys.stderr)  # noqa: T201 - the last word of a command
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def migrate(settings: Settings) -> int:
    """Bring the tables up to date without serving. Returns the exit status."""
    try:
        data = _data_folder(settings.data)
        with _locked(data):
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
    _configure_log(settings)
    # A database thread gives the interpreter up at every statement and would wait 5 ms each time to get it back from a
    # busy event loop: ten statements, 50 ms.
    sys.setswitchinterval(SWITCH_S)
    soft_before = _raise_descriptor_limit()
    async with contextlib.AsyncExitStack() as stack:
        data = _data_folder(settings.data)
        stack.enter_context(_locked(data))
        clock = SystemClock()
        sealer = AesSealer.from_base64(settings.key) if settings.key else AesSealer.from_file(data / "key")
        listener = stack.enter_context(_listener(settings.listen, settings.address, "--listen"))
        url = _url(listener)
        store = settings.store
        objects = (
            open_objects(
                store.url,
                endpoint=store.endpoint,
                region=store.region,
                access_key_id=store.access_key_id,
                secret_access_key=store.secret_access_key,
            )
            if store.url
            else None
        )
        database = await open_database(settings.database or f"sqlite:///{data / 'cador.db'}")
        stack.push_async_callback(database.close)
        installation = await database.write(_installation)
        await database.write(_same_key, sealer)
        process = settings.executors.process
        jobs_root = _jobs_root(settings, data, installation)
        disks = Disks({"data folder": data, "jobs": jobs_root})
        executor = ProcessExecutor(
            root=jobs_root,
            installation=installation,
            user=_job_user(settings),
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
            home=_home(data) if several else "",
            key=key,
            objects=objects,
        )
        await asyncio.to_thread(files.disk_blobs.remove_partial, clock.now())  # of writes that a crash cut off
        inner = stack.enter_context(_inner_listener(settings)) if several else None
        outgoing = _outgoing(settings)
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
            peers=_peers(
                settings, database, executor, settings.cluster.address or (_url(inner) if inner else ""), files.home
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
            limits=lambda: _limits(settings.engine),
            stop_grace_s=process.stop_grace_s,
            meter=metrics,
            home=files.home,
            retention=lambda: _retention(settings),
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
            identities=_identities(settings.auth.oidc, outgoing),
            refuse_starts=disks.full,
            probes=RealProbes(tapd),
        )
        made = await bootstrap_data(
            ctx, admin_token=settings.admin_token or None, admin_password=settings.admin_password or None
        )
        stored = await stored_settings(ctx)
        options = replace(
            options,
            base_url=(settings.base_url or stored.get("base_url") or url).rstrip("/"),
            language=stored.get("language", settings.language),
        )
        if made is not None:
            _write_private(data / "admin-token", made + "\n")
            print(f"cador: the administrator's token is in {data / 'admin-token'}", file=sys.stderr)  # noqa: T201
        checks = [database_check(ctx), Check("engine", _turning(engine, clock)), Check("disk", disks.ask)]
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
        http = _Http(app, signals=signals)
        log.info("executor", name=executor.name, place=executor.place, containment=executor.containment_note())
        async with engine.running(), asyncio.TaskGroup() as group:
            serving = group.create_task(http.serve(sockets=[listener]), name="http")
            watching = group.create_task(disks.watch(), name="disks")
            copying = group.create_task(files.keep(), name="files")
            between = None
            if inner is not None:
                shown = Internal(
                    key=key, home=files.home, clock=clock.now, logs=files.disk_logs, blobs=files.disk_blobs
                )
                between = _Http(shown, signals=False)
                group.create_task(between.serve(sockets=[inner]), name="between servers")
                await between.answers.wait()
            await http.answers.wait()
            _write_private(
                data / "server.json", json.dumps({"url": url, "pid": os.getpid(), "version": __version__}) + "\n"
            )
            # What is there now stays: the collector need not look at it again, which would stop everything for 30 ms.
            gc.collect()
            gc.freeze()
            gc.enable()
            try:
                yield Serving(url, _known_token(data, settings), http.closed)
            finally:
                http.should_exit = True
                await own.drain(DRAIN_S)
                await asyncio.wait([serving])
                with contextlib.suppress(CadorError):  # a database that is away keeps nobody from stopping
                    await sessions.write_uses()
                watching.cancel()
                await files.flush()
                copying.cancel()
                if between is not None:
                    between.should_exit = True
                with contextlib.suppress(OSError):
                    (data / "server.json").unlink()


class _Http(uvicorn.Server):
    """The HTTP server: tells when it answers, and takes signals only when it is a process of its own."""

    def __init__(self, app: object, *, signals: bool) -> None:
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]  # an ASGI application, whatever its class
                http=GuardedConnection,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
                timeout_keep_alive=75,
                backlog=4096,
            )
        )
        self._signals = signals
        self.answers = asyncio.Event()
        self.closed = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().serve(sockets)
        finally:
            self.answers.set()
            self.closed.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM or SIGINT: stop accepting, let requests end. A second SIGINT: at once."""
        if not self._signals:
            yield
            return
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if self.should_exit:
                self.force_exit = True
            self.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


# -- the machine


def _data_folder(path: Path) -> Path:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("logs", "blobs", "cache"):
            (path / name).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise CannotStart(
            f"the data folder {path} cannot be used ({error.strerror}): choose another one with --data"
        ) from None
    return path.resolve()


@contextlib.contextmanager
def _locked(data: Path) -> Iterator[None]:
    """One server per data folder: the lock goes with the process, however it ends."""
    descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"the data folder {data} is in use by another server{_who(data)}: stop it, or choose another folder "
                "with --data"
            ) from None
        if (data / UNFINISHED).exists():
            raise CannotStart(
                f"a restore into {data} was broken off: empty the folder, and the database, and restore again"
            )
        yield
    finally:
        os.close(descriptor)


def _who(data: Path) -> str:
    try:
        known = json.loads((data / "server.json").read_text())
        return f" ({known['url']}, process {known['pid']})"
    except (OSError, ValueError, KeyError):
        return ""


def _home(data: Path) -> str:
    """The name of a data folder among those of other servers; it stays when the server is started again."""
    path = data / "home"
    with contextlib.suppress(FileNotFoundError):
        known = path.read_text().strip()
        if re.fullmatch(r"[A-Za-z0-9-]{1,80}", known):
            return known
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname().partition(".")[0])[:60]
    _write_private(path, f"{host}-{uuid.uuid4().hex[:8]}\n")
    return path.read_text().strip()


def _identities(own: OidcSettings, outgoing: HttpOutgoing) -> Identities | None:
    """The OpenID provider that the settings name. Raises: CannotStart: they do not fit together."""
    if not own.issuer:
        return None
    if urlsplit(own.issuer).scheme not in ("http", "https") or not urlsplit(own.issuer).hostname:
        raise CannotStart("auth.oidc.issuer: the value is not an http or https URL")
    if not own.client_id:
        raise CannotStart("auth.oidc.client_id: tell by which name the provider knows this server")
    if "openid" not in own.scopes:
        raise CannotStart("auth.oidc.scopes: openid must be among them")
    secret = own.client_secret
    if own.client_secret_file:
        try:
            secret = Path(own.client_secret_file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            place = f"auth.oidc.client_secret_file: {own.client_secret_file}"
            raise CannotStart(f"{place} cannot be read: {error}") from None
    roles = []
    for entry in own.default_roles:
        project, slash, role = entry.rpartition("/")
        if not slash or not project or not role:
            raise CannotStart(f"auth.oidc.default_roles: {entry!r} is not a project and a role, like shop/read-only")
        roles.append((project, role))
    provider = OpenIdSettings(issuer=own.issuer, client_id=own.client_id, client_secret=secret, scopes=own.scopes)
    admission = Admission(
        account_claim=own.account_claim,
        groups_claim=own.groups_claim,
        allowed_domains=tuple(domain.lower().lstrip("@") for domain in own.allowed_domains),
        allowed_groups=own.allowed_groups,
        auto_create=own.auto_create,
        link_existing=own.link_existing,
        default_roles=tuple(roles),
    )
    return Identities(OpenIdProvider(provider, outgoing), admission)


def _outgoing(settings: Settings) -> HttpOutgoing:
    """Raises: Invalid: a setting does not fit."""
    own = settings.outgoing
    return HttpOutgoing(
        Rules.parse(own.allow, own.deny),
        OutgoingLimits(timeout_s=own.timeout_s, proxy=own.proxy, ca_file=own.ca_file),
        user_agent=f"cador/{__version__}",
    )


@contextlib.contextmanager
def _inner_listener(settings: Settings) -> Iterator[socket.socket]:
    """For the other servers of the database."""
    with _listener(
        settings.cluster.listen, split_address("cluster.listen", settings.cluster.listen), "cluster.listen"
    ) as inner:
        host = inner.getsockname()[0]
        if host in ("0.0.0.0", "::") and not settings.cluster.address:  # noqa: S104 - compared, not bound
            raise CannotStart(
                "cluster.address: tell under which URL the other servers reach this one, like http://ci-2:8701"
            )
        yield inner


@contextlib.contextmanager
def _listener(listen: str, address: tuple[str, int], setting: str) -> Iterator[socket.socket]:
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it replies wait 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise CannotStart(
                f"cannot listen on {listen} ({error.strerror}): stop what uses it, or choose another address "
                f"with {setting}"
            ) from None
        yield listener
    finally:
        listener.close()


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def _peers(settings: Settings, database: OpenDatabase, executor: ProcessExecutor, address: str, home: str) -> Peers:
    """On PostgreSQL any number of servers work on a database; a file has one."""
    if kind_of(settings.database or "sqlite://") == "sqlite":
        return Alone(database)
    from cador.storage.peers import PostgresPeers

    return PostgresPeers(
        settings.database,
        place=executor.place,
        address=address,
        home=home,
        timeout_s=settings.engine.replica_timeout_s,
    )


def _retention(settings: Settings) -> Retention:
    wished = settings.retention
    return Retention(wished.max_days, wished.max_items_per_workflow, wished.purge_days)


def _limits(engine: EngineSettings) -> Limits:
    return Limits(
        max_running_tasks=engine.max_running_tasks,
        max_jobs=engine.max_jobs,
        max_per_project=engine.max_running_per_project,
        max_per_user=engine.max_running_per_user,
    )


def _same_key(tx: Tx, sealer: AesSealer) -> None:
    """Credentials of this database are sealed with one key. Raises: CannotStart: with another than ours."""
    known = tx.meta.get("key_check")
    if known is None:
        tx.meta.set("key_check", sealer.seal("cador", "key_check"))
        return
    try:
        sealer.open(known)
    except CadorError:
        raise CannotStart(
            "the credentials of this database are sealed with another key: give this server the key of the first one "
            "(its file `key`, or the setting key)"
        ) from None


def _installation(tx: Tx) -> str:
    """The id that all names outside carry; made once."""
    known = tx.meta.get("installation")
    if known is None:
        known = uuid.uuid4().hex[:12]
        tx.meta.set("installation", known)
    return known


def _jobs_root(settings: Settings, data: Path, installation: str) -> Path:
    """Where running jobs live. As root they are another user's, who cannot look into the data folder."""
    if settings.executors.process.root:
        root = Path(settings.executors.process.root)
    elif os.geteuid() == 0:
        root = Path("/var/lib/cador/jobs") / installation
    else:
        root = data / "jobs"
    try:
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStart(
            f"the folder of running jobs {root} cannot be made ({error.strerror}): set executors.process.root"
        ) from None
    if os.geteuid() == 0:
        for folder in (root, *root.resolve().parents):
            if not folder.stat().st_mode & stat.S_IXOTH:
                raise CannotStart(
                    f"the account of the jobs cannot enter {folder}: set executors.process.root to a folder it reaches"
                )
    return root


def _job_user(settings: Settings) -> str | None:
    """As root, jobs run as somebody else; else as the server itself."""
    if os.geteuid() != 0:
        return None
    name = settings.executors.process.user or "nobody"
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise CannotStart(f"executors.process.user: there is no account {name!r} on this machine") from None
    return name


def _raise_descriptor_limit() -> tuple[int, int]:
    """Thousands of connections and jobs need descriptors; jobs get the old limit back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard


def _turning(engine: Engine, clock: SystemClock) -> Callable[[], Awaitable[str | None]]:
    async def ask() -> str | None:
        stalled = clock.now() - engine.turned_at
        return f"the engine has not turned for {stalled:.0f} s" if stalled > STALLED_S else None

    return ask


def _write_private(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    part.replace(path)


def _known_token(data: Path, settings: Settings) -> str:
    if settings.admin_token:
        return settings.admin_token
    with contextlib.suppress(OSError):
        return (data / "admin-token").read_text().strip()
    return ""


class _Unfailing(io.TextIOBase):
    """The server's log: what cannot be written, on a full disk or into a broken pipe, is lost and harms nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def _configure_log(settings: Settings) -> None:
    plain = settings.log.format == "text" or (settings.log.format == "auto" and sys.stderr.isatty())
    levels = {"debug": 10, "info": 20, "warning": 30, "error": 40}
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
            if plain
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(levels[settings.log.level]),
        logger_factory=structlog.PrintLoggerFactory(_Unfailing(sys.stderr)),  # type: ignore[arg-type]  # writes, flushes
        cache_logger_on_first_use=False,
    )
