"""First answers to requests that may come twice."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_replays"
down_revision = "2026_11_26_jobs"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "replays",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", sa.JSON(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["owners.id"], name=op.f("fk_replays_owner_id_owners")
        ),
        sa.PrimaryKeyConstraint("owner_id", "key", name=op.f("pk_replays")),
    )
    op.create_index(op.f("ix_replays_created_at"), "replays", ["created_at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_replays_created_at"), "replays")
    op.drop_table("replays")
