"""What users say of a job, when it goes, and how often it has changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_jobs"
down_revision = "2026_11_26_exports"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("jobs", sa.Column("priority", sa.String(length=16), nullable=True))
    op.add_column("jobs", sa.Column("metadata", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("retention_days", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("removed_at", _TIME, nullable=True))
    op.add_column(
        "jobs", sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False)
    )


def downgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        for name in ("revision", "removed_at", "retention_days", "metadata", "priority"):
            jobs.drop_column(name)
