"""Migrations of the tables, run by every start. Written so that the previous release works beside them."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, insert, inspect, text

from cador.storage.errors import DatabaseTooNew
from cador.storage.tables import FIRST_ROWS, REVISION, metadata

if TYPE_CHECKING:
    from alembic.config import Config

FOLDER: Final = Path(__file__).parent


def revision_of(connection: Connection) -> str | None:
    """The version of the tables that are there; None in an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return revision


def migrate_connection(connection: Connection) -> None:
    """Bring the tables up to date in the caller's transaction, which must keep others from doing the same.

    Raises: DatabaseTooNew.
    """
    revision = revision_of(connection)
    if revision == REVISION:
        return
    if revision is None and not inspect(connection).get_table_names():
        create_tables(connection)
        return
    # Alembic is loaded only when there is something to do: most starts find the tables as they should be.
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(config_for(connection))
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        raise DatabaseTooNew(revision)
    upgrade(connection)


def create_tables(connection: Connection) -> None:
    """Make in an empty database what all migrations together make; a test holds the two against each other.

    A first start is ready half a second sooner: Alembic is neither loaded nor walks through the past.
    """
    metadata.create_all(connection, checkfirst=False)
    for table, row in FIRST_ROWS:
        connection.execute(insert(table).values(row))
    version = Table("alembic_version", MetaData(), Column("version_num", String(32), nullable=False))
    version.append_constraint(PrimaryKeyConstraint("version_num", name="alembic_version_pkc"))
    version.create(connection)
    connection.execute(insert(version).values(version_num=REVISION))


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, in the caller's transaction."""
    from alembic import command

    command.upgrade(config_for(connection), "head")


def config_for(connection: Connection) -> "Config":
    """Alembic's settings, without a file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
