"""Runs revisions on the connection that `upgrade` hands over, within its transaction."""

from __future__ import annotations

from alembic import context

from fedstill.service.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
