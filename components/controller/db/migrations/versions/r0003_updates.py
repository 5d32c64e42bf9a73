"""Revisions of applications, and their rolling updates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _id() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("apps", sa.Column("revision", sa.Integer(), nullable=True))
    op.create_table(
        "app_revisions",
        sa.Column("app_id", _id(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("droplet", sa.String(length=40), nullable=False),
        sa.Column("package", sa.String(length=40), nullable=True),
        sa.Column("built_from", sa.String(length=40), nullable=True),
        sa.Column("framework", sa.String(length=64), nullable=False),
        sa.Column("runtime", sa.String(length=64), nullable=False),
        sa.Column("command", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("run_count", sa.Integer(), nullable=False),
        sa.Column("by", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["app_id"], ["apps.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("app_id", "number"),
    )
    with op.batch_alter_table("app_revisions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_app_revisions_droplet"), ["droplet"], unique=False)
        batch_op.create_index(batch_op.f("ix_app_revisions_package"), ["package"], unique=False)

    op.create_table(
        "app_updates",
        sa.Column("app_id", _id(), nullable=False),
        sa.Column("serial", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("from_version", sa.String(length=64), nullable=False),
        sa.Column("to_version", sa.String(length=64), nullable=False),
        sa.Column("from_revision", sa.Integer(), nullable=True),
        sa.Column("to_revision", sa.Integer(), nullable=True),
        sa.Column("from_run_count", sa.Integer(), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("replaced", sa.Integer(), nullable=False),
        sa.Column("asked", sa.JSON(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("by", sa.String(length=255), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("alive_until", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["app_id"], ["apps.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("app_id"),
    )
    with op.batch_alter_table("app_updates", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_app_updates_state"), ["state"], unique=False)


def downgrade() -> None:
    op.drop_table("app_updates")
    op.drop_table("app_revisions")
    with op.batch_alter_table("apps", schema=None) as batch_op:
        batch_op.drop_column("revision")
