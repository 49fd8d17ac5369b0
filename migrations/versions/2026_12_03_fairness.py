"""Receivers that do not answer are left alone for a while; owners take turns."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_12_03_fairness"
down_revision = "2026_12_02_callers"
branch_labels = None
depends_on = None

_TURNS = ("train_turn_at", "export_turn_at")


def upgrade() -> None:
    op.add_column(
        "webhooks", sa.Column("failures", sa.Integer(), server_default="0", nullable=False)
    )
    op.add_column("webhooks", sa.Column("paused_until", sa.DateTime(timezone=True), nullable=True))
    for name in _TURNS:
        op.add_column("owners", sa.Column(name, sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("owners") as owners:
        for name in _TURNS:
            owners.drop_column(name)
    with op.batch_alter_table("webhooks") as webhooks:
        webhooks.drop_column("paused_until")
        webhooks.drop_column("failures")
