"""The limit of an account's storage on the share."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("quotas", sa.Column("storage", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("quotas", "storage")
