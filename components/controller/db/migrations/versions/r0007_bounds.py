"""Limits of an account beyond memory, who registered themselves, what is counted for all workers, and which there are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_LIMITS = ("instances", "disk", "routes", "builds")


def upgrade() -> None:
    for name in _LIMITS:
        op.add_column("quotas", sa.Column(name, sa.Integer(), nullable=True))
    # Of those there are nobody knows; a controller of the release before adds accounts without it.
    op.add_column("users", sa.Column("registered", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("ix_users_registered", "users", ["registered"])
    # What is counted here may be lost with a crash of the server, and is not worth its waiting for the disk.
    unlogged = ["UNLOGGED"] if op.get_bind().dialect.name == "postgresql" else []
    op.create_table(
        "takings",
        sa.Column("key", sa.String(length=400), nullable=False),
        sa.Column("level", sa.Float(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        prefixes=unlogged,
    )
    op.create_index("ix_takings_at", "takings", ["at"])
    op.create_table(
        "workers",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("seen", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        prefixes=unlogged,
    )


def downgrade() -> None:
    op.drop_table("workers")
    op.drop_table("takings")
    op.drop_index("ix_users_registered", "users")
    op.drop_column("users", "registered")
    for name in _LIMITS:
        op.drop_column("quotas", name)
