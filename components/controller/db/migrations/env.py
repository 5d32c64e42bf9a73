"""Alembic's environment: runs the revisions on the connection it is given (`Database.migrate`)."""

from __future__ import annotations

from alembic import context

# Imports the other tables: the metadata is that of all.
from components.controller.db.models_records import Task

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Task.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
