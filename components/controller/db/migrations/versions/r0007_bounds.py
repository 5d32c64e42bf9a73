"""Limits of an account beyond memory, self-registered accounts, counts of all workers, and the workers."""

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
    # Unknown for existing accounts; a controller of the previous release adds accounts without it.
    op.add_column("users", sa.Column("registered", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("ix_users_registered", "users", ["registered"])
    # These counts may be lost in a crash of the server, and are not worth a wait for the disk.
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
