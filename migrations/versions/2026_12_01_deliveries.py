"""Deliveries are claimed like all work: sent again by hand, they keep counting their attempts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_12_01_deliveries"
down_revision = "2026_11_30_sign_ins"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "deliveries",
        sa.Column("attempt_floor", sa.Integer(), server_default="0", nullable=False),
    )
    # The default is for the rows that are there; the tables name none.
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.alter_column("attempt_floor", server_default=None)
    op.add_column("deliveries", sa.Column("started_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.drop_column("started_at")
        deliveries.drop_column("attempt_floor")
