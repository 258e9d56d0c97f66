"""The tables that migrations build are the tables of ``storage.tables``; starts find or make them."""

import asyncio
import itertools
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, MetaData, Table, inspect, select, text

from cador.domain.errors import Unavailable
from cador.storage import postgres, sqlite
from cador.storage.database import DatabaseTooNew, migrate, open_database
from cador.storage.migrations import config_for, migrate_connection, upgrade
from cador.storage.tables import REVISION, metadata


def connect(url: str) -> Connection:
    if url.startswith("sqlite"):
        return sqlite.engine_for(sqlite.path_of(url)).connect()
    return postgres.connect(postgres.engine_for(url))


def schema(connection: Connection) -> dict[str, Any]:
    """All that matters of the tables, as the database itself tells it, without the order of making."""
    looked = inspect(connection)
    found: dict[str, Any] = {}
    for table in looked.get_table_names():
        columns = {
            column["name"]: (str(column["type"]), column["nullable"]) for column in looked.get_columns(table)
        }  # fmt: skip
        found[table] = {
            "columns": columns,
            "primary key": {**looked.get_pk_constraint(table), "comment": None, "dialect_options": None},
            "comment": looked.get_table_comment(table) if connection.dialect.supports_comments else None,
            "unique": sorted((str(one["name"]), one["column_names"]) for one in looked.get_unique_constraints(table)),
            "foreign keys": sorted(
                (str(one["name"]), one["constrained_columns"], one["referred_table"], str(one["options"]))
                for one in looked.get_foreign_keys(table)
            ),
            "checks": sorted((str(one["name"]), one["sqltext"]) for one in looked.get_check_constraints(table)),
            "indexes": sorted(
                (str(one["name"]), one["column_names"], _words(one.get("dialect_options", {})))
                for one in looked.get_indexes(table)
            ),
        }  # fmt: skip
    return found


def _words(options: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in options.items()}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Gives URLs of empty databases of one kind."""
    if request.param == "sqlite":
        numbers = itertools.count()
        return lambda: f"sqlite:///{tmp_path / f'{next(numbers)}.db'}"
    server = request.getfixturevalue("postgres_server")
    return lambda: str(server.create(template="template0"))


@pytest.fixture
def migrated(empty_url: Callable[[], str]) -> Iterator[Connection]:
    """A database that every migration ran over."""
    with connect(empty_url()) as connection:
        connection.exec_driver_sql("BEGIN")
        upgrade(connection)
        connection.exec_driver_sql("COMMIT")
        yield connection


def test_migrations_build_the_tables_that_the_program_knows(migrated: Connection) -> None:
    assert compare_metadata(MigrationContext.configure(migrated, opts={"compare_type": True}), metadata) == []


def test_a_first_start_makes_what_all_migrations_make(migrated: Connection, empty_url: Callable[[], str]) -> None:
    """Closer than the comparison above, which does not look at conditions of indexes, at checks and at rows."""
    url = empty_url()
    migrate(url)
    with connect(url) as made:
        assert schema(made) == schema(migrated)
        tables = [*metadata.sorted_tables, Table("alembic_version", MetaData(), Column("version_num"))]
        for table in tables:
            assert made.execute(select(table)).all() == migrated.execute(select(table)).all(), table
        if made.dialect.name == "sqlite":
            query = text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
            assert _normal(made.execute(query)) == _normal(migrated.execute(query))


def _normal(rows: Iterable[Any]) -> dict[str, list[str]]:
    """Definitions as sorted parts: constraints may be listed in another order."""
    return {name: sorted(re.split(r",\s*|\s+", sql)) for name, sql in rows}


def test_the_newest_migration_is_the_one_the_program_expects(sqlite_url: str) -> None:
    migrate(sqlite_url)
    with connect(sqlite_url) as connection:
        assert ScriptDirectory.from_config(config_for(connection)).get_current_head() == REVISION


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    migrate(database_url)
    with connect(database_url) as connection:
        before = schema(connection)
    migrate(database_url)
    with connect(database_url) as connection:
        assert schema(connection) == before


def test_a_database_from_the_future_is_refused_and_left_alone(database_url: str) -> None:
    migrate(database_url)
    with connect(database_url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseTooNew, match=r"version 9999.*newer cador") as raised:
        asyncio.run(open_database(database_url))  # type: ignore[arg-type]
    assert (raised.value.revision, "\n" in str(raised.value)) == ("9999", False)
    with connect(database_url) as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"


def test_a_migration_that_fails_leaves_nothing_behind(sqlite_url: str) -> None:
    path = sqlite.path_of(sqlite_url)
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE event (surprise TEXT)")
    raw.close()
    with pytest.raises(Exception, match="event already exists"):
        migrate(sqlite_url)
    with connect(sqlite_url) as connection:
        assert inspect(connection).get_table_names() == ["event"]


@pytest.mark.anyio
async def test_two_servers_that_start_at_once_migrate_once(empty_url: Callable[[], str]) -> None:
    url = empty_url()
    await asyncio.gather(*(asyncio.to_thread(migrate, url) for _ in range(4)))
    opened = await open_database(url)
    assert await opened.read(lambda tx: tx.resources.version()) == 0
    await opened.close()


def test_a_locked_file_is_waited_for_and_then_told(sqlite_url: str) -> None:
    migrate(sqlite_url)
    holder = sqlite3.connect(sqlite.path_of(sqlite_url), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="another process"):
        sqlite.migrate(sqlite_url, busy_s=0.05)
    holder.execute("ROLLBACK")
    holder.close()
    migrate(sqlite_url)


def test_migrations_run_over_a_connection_of_the_caller() -> None:
    with sqlite.engine_for(":memory:").connect() as connection:
        migrate_connection(connection)
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}
