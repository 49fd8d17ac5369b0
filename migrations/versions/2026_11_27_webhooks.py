"""Webhooks, and what was sent to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_27_webhooks"
down_revision = "2026_11_27_quotas"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_ENDING = ("jobs", "exports", "models", "reports")


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("secret", sa.LargeBinary(length=32), nullable=False),
        sa.Column("former_secret", sa.LargeBinary(length=32), nullable=True),
        sa.Column("rotated_at", _TIME, nullable=True),
        sa.Column("looked_at", _TIME, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["owners.id"], name=op.f("fk_webhooks_owner_id_owners")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index(op.f("ix_webhooks_owner_id"), "webhooks", ["owner_id"])
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("event", sa.String(length=40), nullable=False),
        sa.Column("resource_id", sa.Uuid(), nullable=False),
        sa.Column("happened_at", _TIME, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("available_at", _TIME, nullable=False),
        sa.Column("sent_at", _TIME, nullable=True),
        sa.Column("lease_until", _TIME, nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_deliveries_state"),
        ),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name=op.f("fk_deliveries_webhook_id_webhooks")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint(
            "webhook_id",
            "event",
            "resource_id",
            "happened_at",
            name=op.f("uq_deliveries_webhook_id_event_resource_id_happened_at"),
        ),
    )
    op.create_index(
        op.f("ix_deliveries_state_available_at"), "deliveries", ["state", "available_at"]
    )
    for table in _ENDING:
        op.create_index(op.f(f"ix_{table}_ended_at"), table, ["ended_at"])


def downgrade() -> None:
    for table in _ENDING:
        op.drop_index(op.f(f"ix_{table}_ended_at"), table)
    op.drop_table("deliveries")
    op.drop_table("webhooks")
