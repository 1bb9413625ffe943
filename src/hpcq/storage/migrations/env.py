"""Run by Alembic for every migration, with the connection that `hpcq.storage.migrate` made."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
