"""Webhooks that jobs name, and that are told of no others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_28_webhooks"
down_revision = "2026_11_28_owners"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("webhook_id", sa.Uuid(), nullable=True))
    op.create_index(op.f("ix_jobs_webhook_id"), "jobs", ["webhook_id"])
    op.add_column(
        "webhooks", sa.Column("named", sa.Boolean(), server_default=sa.false(), nullable=False)
    )


def downgrade() -> None:
    with op.batch_alter_table("webhooks") as webhooks:
        webhooks.drop_column("named")
    op.drop_index(op.f("ix_jobs_webhook_id"), "jobs")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("webhook_id")
