"""Alembic's environment: runs in the transaction that `datagen.db.migrate` has opened."""

from __future__ import annotations

from alembic import context

from datagen.db.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    # SQLite alters a table by copying it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
