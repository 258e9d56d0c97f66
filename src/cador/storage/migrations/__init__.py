"""Migrations of the tables, run by every start. Written so that the previous release works beside them."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, inspect, text

from cador.storage.errors import DatabaseTooNew
from cador.storage.tables import REVISION

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
    # Alembic is loaded only when there is something to do: most starts find the tables as they should be.
    from alembic import command
    from alembic.script import ScriptDirectory

    config = config_for(connection)
    if revision is not None and revision not in {
        s.revision for s in ScriptDirectory.from_config(config).walk_revisions()
    }:
        raise DatabaseTooNew(revision)
    command.upgrade(config, "head")


def config_for(connection: Connection) -> "Config":
    """Alembic's settings, without a file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
