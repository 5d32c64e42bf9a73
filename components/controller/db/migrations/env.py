"""Alembic's environment, which runs the revisions on a given connection (`Database.migrate`)."""

from __future__ import annotations

from alembic import context

# This import adds the other tables, so that the metadata has all.
from components.controller.db.models_records import Task

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Task.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
