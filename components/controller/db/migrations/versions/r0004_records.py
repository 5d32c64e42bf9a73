"""Limits of an account, void tokens, one-off tasks, usage by day, and further columns of events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _id() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    # With defaults of the server, because a controller of the previous release writes rows without these columns.
    op.add_column(
        "users", sa.Column("token_epoch", sa.BigInteger(), nullable=False, server_default=sa.text("0"))
    )
    op.add_column("users", sa.Column("token_kept", sa.String(length=64), nullable=True))
    for name, length in (("app", 255), ("origin", 64), ("outcome", 512)):
        op.add_column("events", sa.Column(name, sa.String(length=length), nullable=False, server_default=""))
    op.create_index("ix_events_who", "events", ["who"])
    op.create_table(
        "quotas",
        sa.Column("user_id", _id(), nullable=False),
        *(sa.Column(n, sa.Integer(), nullable=True) for n in ("memory", "apps", "app_uris", "services")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id"),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("app_id", _id(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("memory", sa.Integer(), nullable=False),
        sa.Column("timeout", sa.Float(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("exit_status", sa.Integer(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("tail", sa.Text(), nullable=False),
        sa.Column("dea", sa.String(length=64), nullable=False),
        sa.Column("log_uri", sa.String(length=1024), nullable=False),
        sa.Column("credentials", sa.JSON(), nullable=False),
        sa.Column("by", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["app_id"], ["apps.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    for column in ("app_id", "state", "ended_at"):
        op.create_index(f"ix_tasks_{column}", "tasks", [column])
    op.create_table(
        "usage_days",
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("app_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("email", sa.String(length=255), nullable=False),
        sa.Column("app", sa.String(length=255), nullable=False),
        sa.Column("reserved_mb_seconds", sa.Float(), nullable=False),
        sa.Column("used_mb_seconds", sa.Float(), nullable=False),
        sa.Column("cpu_seconds", sa.Float(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("restarts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "app_id"),
    )
    op.create_index("ix_usage_days_user_id", "usage_days", ["user_id"])


def downgrade() -> None:
    for table in ("usage_days", "tasks", "quotas"):
        op.drop_table(table)
    op.drop_index("ix_events_who", "events")
    with op.batch_alter_table("events") as events:
        for name in ("app", "origin", "outcome"):
            events.drop_column(name)
    with op.batch_alter_table("users") as users:
        users.drop_column("token_kept")
        users.drop_column("token_epoch")
