"""Alembic's environment: runs the revisions on the connection of `Database.migrate`."""

from __future__ import annotations

from alembic import context

from orchestrator.db.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
