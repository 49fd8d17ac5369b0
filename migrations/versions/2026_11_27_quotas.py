"""Quotas of bytes, of jobs at once, and of datasets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_27_quotas"
down_revision = "2026_11_26_replays"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("owners", sa.Column("quota_bytes", sa.BigInteger(), nullable=True))
    op.add_column("owners", sa.Column("quota_jobs", sa.Integer(), nullable=True))
    op.add_column("owners", sa.Column("quota_uploads", sa.Integer(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("owners") as owners:
        for name in ("quota_uploads", "quota_jobs", "quota_bytes"):
            owners.drop_column(name)
