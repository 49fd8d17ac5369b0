"""What was left out of a job: classes that its model has not learnt."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_12_01_job_notes"
down_revision = "2026_12_01_deliveries"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("notes", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("notes")
