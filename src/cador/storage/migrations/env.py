"""Run by Alembic: migrate over the connection that was handed in, in its transaction."""

from alembic import context

from cador.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
