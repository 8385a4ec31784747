"""Entry point of alembic; the connection is given by :func:`offchain.store.schema.upgrade`."""

from alembic import context

from offchain.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
