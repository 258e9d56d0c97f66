"""What keeps a server from starting is told in one line that says what and what to do, with exit status 1."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from support.server_process import ServerProcess, open_folder

pytestmark = pytest.mark.real


def refusal(server: ServerProcess, *words: str, data: Path | None = None) -> str:
    """The one line with which a server of these settings refuses to start."""
    command = [str(Path(sys.executable).with_name("cador")), "serve", "--data", str(data or server.data)]
    ended = subprocess.run(
        [*command, *(words or ("--listen", "127.0.0.1:0"))], env=server.environ, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("cador: ")
    return lines[0]


@pytest.fixture(scope="module")
def ran_once() -> Iterator[Path]:
    """The data folder of a server that ran and was stopped."""
    with open_folder() as made:
        server = ServerProcess(made)
        server.start()
        server.stop()
        yield server.data


@pytest.fixture
def used(folder: Path, ran_once: Path) -> ServerProcess:
    server = ServerProcess(folder)
    shutil.copytree(ran_once, server.data)
    return server


def test_the_address_is_taken(folder: Path) -> None:
    with ServerProcess(folder) as server:
        address = server.url.removeprefix("http://")
        told = refusal(server, "--listen", address, data=folder / "elsewhere")
        assert f"cannot listen on {address} (Address already in use)" in told
        assert "choose another address with --listen" in told


def test_the_data_folder_is_in_use(folder: Path) -> None:
    with ServerProcess(folder) as server:
        assert server.process is not None
        told = refusal(server)
        assert f"in use by another server ({server.url}, process {server.process.pid}): stop it" in told
        server.call("GET", "/api/v1/version")


def test_the_data_folder_cannot_be_made(folder: Path) -> None:
    (folder / "file").write_text("")
    told = refusal(ServerProcess(folder), data=folder / "file" / "data")
    assert "cannot be used (Not a directory): choose another one with --data" in told


def test_the_tables_are_newer_than_the_program(used: ServerProcess) -> None:
    with sqlite3.connect(used.data / "cador.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    told = refusal(used)
    assert "the database is at version 9999, which this cador does not know: start the newer cador" in told


@pytest.mark.postgres
def test_the_tables_of_postgresql_are_newer_than_the_program(folder: Path, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "the database is at version 9999" in refusal(ServerProcess(folder, database=postgres_url))


def test_postgresql_cannot_be_reached(folder: Path) -> None:
    server = ServerProcess(folder, database=f"postgresql:///cador?host={folder}")
    assert "PostgreSQL cannot be reached" in refusal(server)


def test_the_database_is_damaged(used: ServerProcess) -> None:
    (used.data / "cador.db").write_bytes(b"this was a database once" * 1_000)
    assert "the file is no database" in refusal(used)


KEYS: dict[str, tuple[Callable[[Path], object], str]] = {
    "open to others": (lambda key: key.chmod(0o644), "others may read the key file"),
    "cut": (lambda key: key.write_bytes(b"short"), "is not 32 bytes long: put it back from a backup"),
    "another": (lambda key: key.write_bytes(b"x" * 32), "sealed with another key"),
    "lost": (lambda key: key.unlink(), "sealed with another key"),
    "a folder": (lambda key: (key.unlink(), key.mkdir(mode=0o700)), "cannot read the key file"),
}


@pytest.mark.parametrize("how", KEYS)
def test_the_key_cannot_be_used(how: str, used: ServerProcess) -> None:
    key = used.data / "key"
    good = key.read_bytes()
    spoil, words = KEYS[how]
    spoil(key)
    assert words in refusal(used)
    if how == "lost":
        key.write_bytes(good)  # what the message says to do helps
        used.start()
        used.stop()


def test_a_restore_was_broken_off(used: ServerProcess) -> None:
    (used.data / ".restoring").mkdir()
    assert "was broken off: empty the folder" in refusal(used)


def test_a_setting_does_not_fit(used: ServerProcess) -> None:
    used.environ["CADOR_ENGINE__MAX_JOBS"] = "many"
    assert "engine.max_jobs: 'many' is not a whole number" in refusal(used)


def test_the_folder_of_jobs_cannot_be_made(folder: Path) -> None:
    server = ServerProcess(folder)
    (folder / "file").write_text("")
    server.environ["CADOR_EXECUTORS__PROCESS__ROOT"] = str(folder / "file" / "jobs")
    assert "set executors.process.root" in refusal(server)
