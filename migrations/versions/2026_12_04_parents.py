"""Models that are trained from earlier ones; how far images are from real ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_12_04_parents"
down_revision = "2026_12_03_fairness"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("parent_id", sa.Uuid(), nullable=True))
    op.add_column("models", sa.Column("parent_digest", sa.String(length=64), nullable=True))
    op.add_column("jobs", sa.Column("strength", sa.Float(), nullable=True))
    op.create_index(op.f("ix_models_parent_id"), "models", ["parent_id"])


def downgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("strength")
    op.drop_index(op.f("ix_models_parent_id"), "models")
    with op.batch_alter_table("models") as models:
        models.drop_column("parent_digest")
        models.drop_column("parent_id")
